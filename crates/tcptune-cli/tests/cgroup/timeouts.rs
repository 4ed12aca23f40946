//! The connect timeout, and what it leaves alone.

use std::time::Duration;

use serde_json::Value as Json;

use crate::group::{Group, client, listener};
use crate::harness::{Ended, Running};
use crate::hole::{BlackHole, refusing_port};
use crate::namespace::Namespace;

/// How much later than the timeout connect may end on a busy machine, in milliseconds; and in one of a few tries.
const LATE: f64 = 1000.0;
const SOON: f64 = 150.0;

fn timed_out(said: &Json, after: f64) -> f64 {
    let ms = said["ms"].as_f64().expect("a time");
    assert_eq!(said["errno"], libc::ETIMEDOUT, "{said}");
    assert!((after..after + LATE).contains(&(ms + 1.0)), "after {after} ms: {said}");
    ms - after
}

fn soon(mut attempt: impl FnMut() -> Json, after: f64) -> Json {
    for _ in 0..5 {
        let said = attempt();
        if timed_out(&said, after) < SOON {
            return said;
        }
    }
    panic!("not within {SOON} ms of {after} ms");
}

#[test]
fn connect_ends_in_time_and_the_user_timeout_is_as_it_was() {
    let Some(group) = Group::or_skip("connect_ends_in_time_and_the_user_timeout_is_as_it_was") else { return };
    let (v4, v6) = (BlackHole::v4(), BlackHole::v6());
    for (timeout, ms) in [("400ms", 400.0), ("1s", 1000.0), ("3s", 3000.0), ("100ms", 100.0), ("1500ms", 1500.0)] {
        group.attach(&["--connect-timeout", timeout]);
        let said = soon(|| group.client(&[&v4.ip(), &v4.port()]), ms);
        assert_eq!(said["user_timeout"], 0, "{said}");
        let said = soon(|| group.client(&[&v6.ip(), &v6.port(), "nonblocking", "timeout=7777"]), ms);
        assert_eq!(said["user_timeout"], 7777, "{said}");
    }
    group.attach(&["--connect-timeout", "400ms"]);
    for (words, user_timeout) in [
        (&["timeout=300"][..], 300),
        (&["during=4321"], 4321),
        (&["timeout=7777", "during=0"], 0),
        (&["timeout=7777", "again"], 7777),
        (&["uring", "timeout=7777"], 7777),
    ] {
        for hole in [&v4, &v6] {
            let said = group.client(&[&[&*hole.ip(), &*hole.port()], words].concat());
            timed_out(&said, 400.0);
            assert_eq!(said["user_timeout"], user_timeout, "{words:?}: {said}");
        }
    }
    // MPTCP asks its first subflow for the user timeout only while it has one.
    timed_out(&group.client(&[&v4.ip(), &v4.port(), "mptcp"]), 400.0);
    let attached = group.attached().expect("attached");
    assert_eq!(attached["pending"], 0, "{attached:#}");
    assert!(attached["counts"]["timed_out"].as_u64() >= Some(12), "{attached:#}");
    assert_eq!(attached["counts"]["failed"], 0, "{attached:#}");
}

/// tcp_syn_retries of the machine: with a user timeout the kernel alone would go on for longer.
#[test]
fn few_retries_of_the_machine_end_it_first() {
    if Group::or_skip("few_retries_of_the_machine_end_it_first").is_none() {
        return;
    }
    let inside = "ip link set lo up && echo 1 >/proc/sys/net/ipv4/tcp_syn_retries && \
        nft 'add table ip dead; add chain ip dead in { type filter hook input priority 0; policy drop; }' && exec \"$@\"";
    let mut command = std::process::Command::new("unshare");
    command.args(["--net", "sh", "-c", inside, "sh", env!("CARGO_BIN_EXE_tcptune"), "run", "--backend", "cgroup"]);
    command.args(["--connect-timeout", "14s", "--"]).arg(client()).args(["127.0.0.1", "9"]);
    let said = Ended::of(&mut command).json();
    assert_eq!(said["errno"], libc::ETIMEDOUT, "{said}");
    assert!(
        said["ms"].as_f64().is_some_and(|ms| (3000.0..6500.0).contains(&ms)),
        "without tuning 3.1 s, bounded by SYNs alone 7.1 s: {said}"
    );
}

#[test]
fn without_an_attachment_the_same_connect_waits() {
    let Some(group) = Group::or_skip("without_an_attachment_the_same_connect_waits") else { return };
    let hole = BlackHole::v4();
    group.attach(&["--connect-timeout", "400ms"]);
    group.detach();
    let mut command = std::process::Command::new(client());
    command.args([hole.ip(), hole.port()]);
    group.enter(&mut command);
    let mut running = Running::start(&mut command);
    std::thread::sleep(Duration::from_secs(1));
    assert!(hole.attempts() > 0, "it waits");
    running.kill();
    running.wait();
}

#[test]
fn a_connection_has_the_user_timeout_of_the_program_or_of_the_settings() {
    let test = "a_connection_has_the_user_timeout_of_the_program_or_of_the_settings";
    let Some(group) = Group::or_skip(test) else { return };
    let (_v4, port) = listener("127.0.0.1");
    let (_v6, port_v6) = listener("::1");
    for (settings, words, user_timeout) in [
        (&["--connect-timeout", "400ms"][..], &[][..], 0),
        (&["--connect-timeout", "400ms"], &["timeout=7777"], 7777),
        (&["--connect-timeout", "400ms"], &["uring", "timeout=7777"], 7777),
        (&["--connect-timeout", "400ms", "--user-timeout", "20s"], &[], 20_000),
        (&["--connect-timeout", "400ms", "--user-timeout", "20s"], &["timeout=7777"], 20_000),
        (&["--connect-timeout", "400ms", "--user-timeout", "20s", "--precedence", "program"], &["timeout=7777"], 7777),
        (&["--connect-timeout", "400ms", "--user-timeout", "20s", "--precedence", "program"], &[], 20_000),
    ] {
        group.attach(settings);
        for (ip, port) in [("127.0.0.1", &port), ("::1", &port_v6), ("::ffff:127.0.0.1", &port)] {
            let said = group.client(&[&[ip, port.as_str()], words].concat());
            assert_eq!(said["errno"], 0, "{settings:?} {words:?} {ip}: {said}");
            assert_eq!(said["user_timeout"], user_timeout, "{settings:?} {words:?} {ip}: {said}");
        }
    }
    let said = group.client(&["127.0.0.1", &port, "mptcp"]);
    assert_eq!((&said["errno"], &said["user_timeout"]), (&0.into(), &20_000.into()), "{said}");
}

#[test]
fn refused_and_unreachable_stay_what_they_are() {
    let test = "refused_and_unreachable_stay_what_they_are";
    let (Some(group), Some(namespace)) = (Group::or_skip(test), Namespace::or_skip(test)) else { return };
    namespace.run("ip", &["route", "add", "unreachable", "10.9.0.1/32"]);
    group.attach(&["--connect-timeout", "400ms"]);
    let refused = refusing_port().to_string();
    for (ip, port, errno) in [("127.0.0.1", &*refused, libc::ECONNREFUSED), ("10.9.0.1", "80", libc::EHOSTUNREACH)] {
        let mut command = std::process::Command::new(client());
        command.args([ip, port, "timeout=7777"]);
        group.enter(&mut command);
        namespace.enter_on_exec(&mut command);
        let said = crate::harness::Ended::of(&mut command).json();
        assert_eq!((&said["errno"], &said["user_timeout"]), (&errno.into(), &7777.into()), "{ip}: {said}");
        assert!(said["ms"].as_f64() < Some(150.0), "{ip}: {said}");
    }
    assert!(group.count("failed") >= 1);
    assert_eq!(group.count("timed_out"), 0);
}

#[test]
fn one_lost_syn_is_made_good_within_a_short_timeout() {
    let test = "one_lost_syn_is_made_good_within_a_short_timeout";
    let (Some(group), Some(namespace)) = (Group::or_skip(test), Namespace::or_skip(test)) else { return };
    namespace.run("nft", &["add table inet loss"]);
    namespace.run("nft", &["add chain inet loss in { type filter hook input priority 0; }"]);
    namespace.run("nft", &["add rule inet loss in tcp dport 5000 counter drop"]);
    group.attach(&["--connect-timeout", "400ms"]);
    let mut command = std::process::Command::new(client());
    command.args(["127.0.0.1", "5000"]);
    group.enter(&mut command);
    namespace.enter_on_exec(&mut command);
    timed_out(&crate::harness::Ended::of(&mut command).json(), 400.0);
    let rules = namespace.run("nft", &["list table inet loss"]);
    assert!(rules.contains("counter packets 2 "), "two SYNs in 400 ms: {rules}");
}

#[test]
fn a_stall_longer_than_the_timeout_does_not_end_a_connection() {
    let test = "a_stall_longer_than_the_timeout_does_not_end_a_connection";
    let (Some(group), Some(namespace)) = (Group::or_skip(test), Namespace::or_skip(test)) else { return };
    group.attach(&["--connect-timeout", "400ms"]);
    let listener = namespace.listener("127.0.0.1:0");
    let port = listener.local_addr().expect("its address").port().to_string();
    let mut command = std::process::Command::new(client());
    command.args(["127.0.0.1", &port, "wait"]);
    group.enter(&mut command);
    namespace.enter_on_exec(&mut command);
    let mut running = Running::start(&mut command);
    let (mut peer, _) = listener.accept().expect("a connection");
    assert_eq!(running.json()["errno"], 0);
    namespace.run("nft", &["add table inet stall"]);
    namespace.run("nft", &["add chain inet stall in { type filter hook input priority 0; }"]);
    namespace.run("nft", &[&format!("add rule inet stall in tcp dport {port} drop")]);
    running.say("send");
    std::thread::sleep(Duration::from_millis(1500));
    namespace.run("nft", &["delete table inet stall"]);
    let mut byte = [0];
    std::io::Read::read_exact(&mut peer, &mut byte).expect("a byte");
    std::io::Write::write_all(&mut peer, b"z").expect("sent");
    assert_eq!(byte, *b"y");
    assert_eq!(running.json(), serde_json::json!({"sent": 1, "got": 1, "byte": "z"}));
}

#[test]
fn detach_waits_until_no_attempt_has_the_timeout() {
    let Some(group) = Group::or_skip("detach_waits_until_no_attempt_has_the_timeout") else { return };
    let hole = BlackHole::v4();
    group.attach(&["--connect-timeout", "1s"]);
    let mut command = std::process::Command::new(client());
    command.args([hole.ip(), hole.port(), "timeout=7777".into()]);
    group.enter(&mut command);
    let mut running = Running::start(&mut command);
    crate::harness::eventually("an attempt is going on", || hole.attempts() > 0);
    group.detach();
    let said = running.json();
    timed_out(&said, 1000.0);
    assert_eq!(said["user_timeout"], 7777, "{said}");
    assert_eq!(group.attached(), None);
}

#[test]
fn an_attempt_goes_on_under_settings_that_take_the_place_of_its_own() {
    let test = "an_attempt_goes_on_under_settings_that_take_the_place_of_its_own";
    let Some(group) = Group::or_skip(test) else { return };
    let hole = BlackHole::v4();
    group.attach(&["--connect-timeout", "1s"]);
    let mut command = std::process::Command::new(client());
    command.args([hole.ip(), hole.port(), "timeout=7777".into()]);
    group.enter(&mut command);
    let mut running = Running::start(&mut command);
    crate::harness::eventually("an attempt is going on", || hole.attempts() > 0);
    group.attach(&["--keepidle", "60"]); // without a connect timeout
    let said = running.json();
    timed_out(&said, 1000.0);
    assert_eq!(said["user_timeout"], 7777, "{said}");
    assert_eq!(group.attached().expect("attached")["pending"], 0);
}

#[test]
fn an_attempt_of_a_program_that_is_killed_is_over() {
    let Some(group) = Group::or_skip("an_attempt_of_a_program_that_is_killed_is_over") else { return };
    let hole = BlackHole::v4();
    group.attach(&["--connect-timeout", "1h"]);
    let mut command = std::process::Command::new(client());
    command.args([hole.ip(), hole.port()]);
    group.enter(&mut command);
    let mut running = Running::start(&mut command);
    let pending = || group.attached().expect("attached")["pending"].clone();
    crate::harness::eventually("an attempt is going on", || pending() == 1);
    running.kill();
    running.wait();
    crate::harness::eventually("none is", || pending() == 0);
    group.detach();
}
