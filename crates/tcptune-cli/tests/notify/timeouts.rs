//! The connect timeout: in time for every kind of program, and it never becomes a user timeout of the connection.

use std::path::Path;
use std::time::Instant;

use crate::command::said;
use crate::harness::{STATIC, Server, go, numbers, output, probe, run, users};
use crate::hole::BlackHole;

const TIMED_OUT: i64 = libc::ETIMEDOUT as i64;

/// Not too early, and not so late that it could be the kernel's own.
pub fn is_in_time(ms: i64, seconds: i64) {
    assert!((seconds * 1000..seconds * 1000 + 3000).contains(&ms), "{ms} ms for {seconds} s");
}

#[test]
fn a_connect_to_a_dead_host_ends_in_time() {
    let hole = BlackHole::v4();
    for (user, kind) in users().into_iter().zip(STATIC.iter().cycle()) {
        for seconds in [1, 3] {
            let timeout = format!("{seconds}s");
            let flags = ["--backend", "notify", "--connect-timeout", &timeout];
            let blocking = numbers(&output(user, &flags, &probe(kind), &["blocking", &hole.port()]));
            assert_eq!((blocking[0], blocking[4]), (TIMED_OUT, TIMED_OUT), "{kind} as {user}: twice on one socket");
            is_in_time(blocking[1], seconds);
            is_in_time(blocking[5], seconds);
            let nonblocking = numbers(&output(user, &flags, &probe(kind), &["nonblocking", &hole.port()]));
            assert_eq!(nonblocking[..2], [1, TIMED_OUT], "{kind} as {user}");
            is_in_time(nonblocking[2], seconds);
        }
    }
    assert_eq!(hole.attempts(), 0, "no SYN is sent any more");
}

#[test]
fn go_and_busybox_give_up_in_time() {
    let hole = BlackHole::v4();
    for user in users() {
        for seconds in [1, 3] {
            let timeout = format!("{seconds}s");
            let flags = ["--backend", "notify", "--connect-timeout", &timeout];
            let dialled = output(user, &flags, &go(), &["dial", &hole.authority()]);
            let (ms, error) = dialled.split_once(' ').expect("two words");
            is_in_time(ms.parse().expect("a number"), seconds);
            assert!(error.contains("connection timed out"), "{dialled}");
            let start = Instant::now();
            let wget = ["wget", "-O", "-", &format!("http://{}/", hole.authority())];
            let said = said(&mut run(user, &flags, Path::new("/bin/busybox"), &wget));
            is_in_time(start.elapsed().as_millis().try_into().expect("a number"), seconds);
            assert!(said.code == Some(1) && said.stderr.contains("Connection timed out"), "{said:?}");
        }
    }
}

#[test]
fn the_user_timeout_is_put_back_wherever_the_socket_has_gone() {
    let server = Server::start();
    for (user, kind) in users().into_iter().zip(STATIC.iter().cycle()) {
        for (where_to, after) in [("stays", 0), ("moved", 0), ("forked", 0), ("set", 12_345)] {
            // After half of the timeout, and before another one has passed.
            let flags = ["--backend", "notify", "--connect-timeout", "2s"];
            let seen = output(user, &flags, &probe(kind), &["later", server.port(), "1900", where_to]);
            assert_eq!(numbers(&seen), [2000, after], "{where_to}: {kind} as {user}");
        }
    }
    let flags = ["--backend", "notify", "--connect-timeout", "2s", "--user-timeout", "60s"];
    let seen = output(users()[0], &flags, &probe("static-glibc"), &["later", server.port(), "1900", "stays"]);
    assert_eq!(numbers(&seen), [2000, 60_000], "that of the settings");
}

#[test]
fn a_signal_ends_a_connect_as_it_does_without() {
    let hole = BlackHole::v4();
    let flags = ["--backend", "notify", "--connect-timeout", "1s"];
    for kind in STATIC {
        let restarting = numbers(&output(users()[0], &flags, &probe(kind), &["interrupted", &hole.port(), "restart"]));
        assert_eq!(restarting[0], TIMED_OUT, "{kind}");
        is_in_time(restarting[1], 1);
        let ending = numbers(&output(users()[0], &flags, &probe(kind), &["interrupted", &hole.port(), "end"]));
        assert!(ending[0] == i64::from(libc::EINTR) && (300..1000).contains(&ending[1]), "{kind}: {ending:?}");
    }
}

#[test]
fn signals_by_the_thousand_change_nothing() {
    let server = Server::start();
    let flags = ["--backend", "notify", "--keepidle", "77", "--connect-timeout", "5s"];
    for (user, kind) in users().into_iter().zip(STATIC.iter().cycle()) {
        let restarting = numbers(&output(user, &flags, &probe(kind), &["signals", server.port(), "1000", "restart"]));
        assert_eq!(restarting, [0, 0, 0, 1], "{kind} as {user}: none failed, all are tuned, and signals came");
        // A handler without SA_RESTART that comes before the supervisor gives EINTR, as for any call that waits.
        let ending = numbers(&output(user, &flags, &probe(kind), &["signals", server.port(), "1000", "end"]));
        println!("{} of 1000 connects were interrupted", ending[2]);
        assert_eq!((ending[0], ending[1], ending[3]), (0, 0, 1), "{kind} as {user}: {ending:?}");
    }
}

#[test]
fn a_refused_connect_keeps_its_errno() {
    let port = crate::hole::refusing_port().to_string();
    let flags = ["--backend", "notify", "--connect-timeout", "3s"];
    let said = said(&mut run(users()[0], &flags, &probe("static-glibc"), &["blocking", &port]));
    assert_eq!(numbers(said.ok())[0], i64::from(libc::ECONNREFUSED));
}
