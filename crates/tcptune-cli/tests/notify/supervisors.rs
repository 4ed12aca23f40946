//! Load, and supervisors that are killed: no connect fails, and every socket is tuned.

use std::process::Stdio;
use std::thread;
use std::time::{Duration, Instant};

use crate::command::said;
use crate::harness::{STATIC, Server, eventually, numbers, output, probe, run, supervisors, users};

#[test]
fn sixty_four_threads() {
    let server = Server::start();
    for (user, kind) in users().into_iter().zip(STATIC.iter().cycle()) {
        let flags = ["--backend", "notify", "--keepidle", "77", "--connect-timeout", "24s"];
        let counts = output(user, &flags, &probe(kind), &["threads", server.port(), "20"]);
        assert_eq!(numbers(&counts), [0, 0], "{kind} as {user}");
    }
}

/// The supervisor inherits the program's limit.
#[test]
fn few_descriptors() {
    let server = Server::start();
    for kind in STATIC {
        let inner = run(
            users()[0],
            &["--backend", "notify", "--keepidle", "77"],
            &probe(kind),
            &["threads", server.port(), "5"],
        );
        let mut command = std::process::Command::new("prlimit");
        command.arg("--nofile=68:68").arg(inner.get_program()).args(inner.get_args());
        let said = said(crate::command::clean(&mut command).current_dir("/"));
        assert_eq!(numbers(said.ok()), [0, 0], "{kind}");
    }
}

#[test]
fn a_fork_storm() {
    let server = Server::start();
    for (user, kind) in users().into_iter().zip(STATIC.iter().cycle()) {
        let flags = ["--backend", "notify", "--keepidle", "77", "--connect-timeout", "25s"];
        let counts = output(user, &flags, &probe(kind), &["forks", server.port(), "400"]);
        assert_eq!(numbers(&counts), [0, 0], "{kind} as {user}");
    }
}

/// Kills one of the two supervisors again and again while the program connects.
#[test]
fn a_supervisor_that_is_killed_costs_no_connect() {
    const CONNECTS: &str = "20000";
    let server = Server::start();
    let flags =
        ["--backend", "notify", "--keepidle", "77", "--syncnt", "5", "--connect-timeout", "20s", "--log", "warn"];
    // It ends by itself, and is ended after half a minute: what it has done by then counts.
    let mut program = run(users()[0], &flags, &probe("static-glibc"), &["storm", server.port(), CONNECTS]);
    let child = program.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
    let pid = child.id();
    let ended = thread::spawn(move || child.wait_with_output().expect("wait"));
    let (start, mut kills) = (Instant::now(), 0);
    while !ended.is_finished() && start.elapsed() < Duration::from_secs(60) {
        let two = supervisors("20s", pid);
        if let (2, Some(victim)) = (two.len(), two.get(kills % 2)) {
            // SAFETY: kills a supervisor of this test.
            unsafe { libc::kill(*victim, libc::SIGKILL) };
            kills += 1;
        }
        thread::sleep(Duration::from_millis(100));
    }
    let output = ended.join().expect("the thread ends");
    let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
    println!("{kills} kills in {CONNECTS} connects: {stdout}");
    assert!(kills >= 5, "{kills} kills");
    assert_eq!(numbers(&stdout), [0, 0], "none failed, and all are tuned");
    assert!(stderr.contains("the supervisor was killed; another one goes on"), "{stderr}");
    assert!(stderr.contains("another one watches"), "{stderr}");
    eventually("nobody is left", || supervisors("20s", 0).is_empty());
}

#[test]
fn what_a_killed_supervisor_knew_is_not_lost() {
    let server = Server::start();
    let flags = ["--backend", "notify", "--connect-timeout", "3s", "--keepcnt", "8"];
    let args = ["later", server.port(), "2900", "stays"];
    let mut program = run(users()[0], &flags, &probe("static-glibc"), &args);
    let child = program.stdout(Stdio::piped()).spawn().expect("it starts");
    let pid = child.id();
    thread::sleep(Duration::from_millis(700));
    // The one that works is the one that watches the other's parent: kill both in turn, as fast as they come back.
    for at in [0, 1] {
        eventually("two of them", || supervisors("3s", pid).len() == 2);
        // SAFETY: kills a supervisor of this test.
        unsafe { libc::kill(supervisors("3s", pid)[at], libc::SIGKILL) };
        thread::sleep(Duration::from_millis(100));
    }
    let output = child.wait_with_output().expect("wait");
    assert_eq!(numbers(&String::from_utf8_lossy(&output.stdout)), [3000, 0], "put back by another one");
}

#[test]
fn when_both_are_killed_connects_fail_and_say_so() {
    let server = Server::start();
    // It connects when they are killed, however long a busy machine takes for that.
    let script = format!("read killed; {} blocking {}; echo $?", probe("static-glibc").display(), server.port());
    let flags = ["--backend", "notify", "--keepidle", "81"];
    let mut program = run(users()[0], &flags, std::path::Path::new("/bin/busybox"), &["sh", "-c", &script]);
    let mut child = program.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let stdin = child.stdin.take();
    eventually("two of them", || supervisors("81", child.id()).len() == 2);
    for victim in supervisors("81", child.id()) {
        // SAFETY: kills a supervisor of this test; stopped first, so that neither takes over.
        unsafe { libc::kill(victim, libc::SIGSTOP) };
    }
    for victim in supervisors("81", child.id()) {
        // SAFETY: as above.
        unsafe { libc::kill(victim, libc::SIGKILL) };
    }
    drop(stdin); // the end of its input lets it go on
    let output = child.wait_with_output().expect("wait");
    let stdout = String::from_utf8_lossy(&output.stdout).into_owned();
    assert!(stdout.starts_with(&format!("{} ", libc::ENOSYS)), "{stdout}");
}

#[test]
fn an_inner_run_goes_on_under_the_outer_one() {
    let server = Server::start();
    let tcptune = crate::command::TCPTUNE;
    let script =
        format!("{tcptune} run --keepidle 55 -- {} blocking {}", probe("static-glibc").display(), server.port());
    let mut outer = run(
        users()[0],
        &["--backend", "notify", "--keepidle", "77"],
        std::path::Path::new("/bin/busybox"),
        &["sh", "-c", &script],
    );
    let said = said(&mut outer);
    assert_eq!((said.code, numbers(&said.stdout)[3]), (Some(0), 77), "{said:?}");
    let lines: Vec<_> = said.stderr.lines().collect();
    assert!(lines.len() == 1 && lines[0].contains("under the supervisor of an outer tcptune run already"), "{said:?}");
}
