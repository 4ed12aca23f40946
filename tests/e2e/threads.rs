//! Connects of many threads, and of a socket that several threads, descriptors or processes know.

use std::net::TcpListener;
use std::os::fd::AsRawFd;
use std::thread;
use std::time::Duration;

use crate::harness::hole::{BlackHole, refusing_port};
use crate::harness::{Ended, LATE, Program, assert_on_time, debug_library, library, probe};

#[test]
fn many_threads_on_the_same_numbers() {
    let hole = BlackHole::v4();
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    // std's backlog of 128 is full on a machine so busy that nobody accepts for a while.
    // SAFETY: a descriptor that lives.
    assert_eq!(unsafe { libc::listen(live.as_raw_fd(), 4096) }, 0);
    let ports = [hole.port(), live.local_addr().expect("its address").port().to_string(), refusing_port().to_string()];
    thread::spawn(move || live.incoming().for_each(drop)); // as long as the tests run
    for library in [library(), debug_library()] {
        let settings = &[("CONNECT_TIMEOUT", "0.2"), ("NODELAY", "on"), ("KEEPIDLE", "60")];
        let ended = Program::probe("threads").args(&ports).tuned_by(library, settings).run();
        ended.succeeded();
        for name in ["wrong_errno", "wrong_flags", "wrong_ready", "wrong_timeout", "leaked"] {
            assert_eq!(ended.number(name), 0, "{name}: {ended:#?}");
        }
        for kind in ["hole", "live", "refused", "nonblocking"] {
            assert!(ended.number(kind) > 20, "{kind}: {ended:#?}");
        }
        assert!(ended.milliseconds("longest") < LATE, "{ended:#?}"); // 64 threads, two processors
    }
}

fn same_socket(mode: &str, settings: Option<&[(&str, &str)]>) -> Ended {
    let hole = BlackHole::v4();
    Program::probe("same_socket").args([mode, &hole.port()]).with(settings).run()
}

/// The first to be told of the end of an attempt hears why; whoever comes later, that it has ended (as without tcptune).
fn assert_timed_out(ended: &Ended) {
    ended.succeeded();
    assert_eq!(ended.number("first_errno"), libc::ETIMEDOUT.into(), "{ended:#?}");
    let second = i32::try_from(ended.number("second_errno")).expect("an errno");
    assert!([libc::ETIMEDOUT, libc::ECONNABORTED, libc::ECONNRESET].contains(&second), "{ended:#?}");
    assert_eq!(ended.number("flags_kept"), 1, "{ended:#?}");
}

#[test]
fn two_threads_on_one_socket_both_end_in_time() {
    let ended = same_socket("two", Some(&[("CONNECT_TIMEOUT", "0.5")]));
    assert_timed_out(&ended);
    assert_on_time(ended.milliseconds("first_took"), Duration::from_millis(500), LATE);
    assert!(ended.milliseconds("second_took") < Duration::from_millis(500) + LATE, "{ended:#?}");
}

#[test]
fn the_second_thread_is_not_told_of_the_firsts_nonblocking() {
    // strace holds the first thread back where it has just made the socket nonblocking.
    let hole = BlackHole::v4();
    let ended = Program::new("strace")
        .args(["-f", "-qq", "-o", "/dev/null", "-e", "trace=ioctl", "-e", "inject=ioctl:delay_exit=400000:when=1"])
        .args(["-E", "TCPTUNE_CONNECT_TIMEOUT=0.5", "-E", &format!("LD_PRELOAD={}", library().display())])
        .args([probe("same_socket")])
        .args(["two", &hole.port()])
        .run();
    assert!(ended.milliseconds("first_took") >= Duration::from_millis(900), "it was held back: {ended:#?}");
    assert_timed_out(&ended);
}

#[test]
fn two_threads_on_one_socket_both_hear_of_the_connection() {
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "15")] as &[_])] {
        let ended = same_socket("late", settings);
        ended.succeeded();
        for name in ["first_errno", "second_errno"] {
            assert_eq!(ended.number(name), 0, "{name}: {ended:#?}");
        }
        assert!(ended.milliseconds("first_took") > Duration::from_millis(500), "at the second SYN: {ended:#?}");
        assert_eq!(ended.number("flags_kept"), 1, "{ended:#?}");
    }
}

#[test]
fn shutdown_ends_another_threads_connect() {
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "15")] as &[_])] {
        let ended = same_socket("shutdown", settings);
        ended.succeeded();
        assert_eq!(ended.number("first_errno"), libc::ECONNRESET.into(), "{ended:#?}");
        assert_on_time(ended.milliseconds("first_took"), Duration::from_millis(200), LATE);
        assert_eq!(ended.number("flags_kept"), 1, "{ended:#?}");
    }
}

#[test]
fn flags_that_others_set_meanwhile_stay() {
    let ended = same_socket("flags", Some(&[("CONNECT_TIMEOUT", "0.5")]));
    ended.succeeded();
    assert_eq!(ended.number("first_errno"), libc::ETIMEDOUT.into(), "{ended:#?}");
    assert_eq!(ended.number("flags_kept"), 1, "{ended:#?}");
}

#[test]
fn other_descriptors_of_the_socket_are_as_before() {
    let ended = same_socket("shared", Some(&[("CONNECT_TIMEOUT", "0.5")]));
    ended.succeeded();
    assert_eq!((ended.number("first_errno"), ended.number("child_status")), (libc::ETIMEDOUT.into(), 0), "{ended:#?}");
    for side in ["child", "copy"] {
        assert_eq!(ended.number(&format!("{side}_flags_kept")), 1, "{side}: {ended:#?}");
        // Made nonblocking by the program after that connect, and so it is.
        assert_eq!(ended.number(&format!("{side}_errno")), libc::EINPROGRESS.into(), "{side}: {ended:#?}");
        assert_eq!(ended.number(&format!("{side}_stays_nonblocking")), 1, "{side}: {ended:#?}");
    }
}
