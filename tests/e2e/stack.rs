//! How much stack the hooks need: a signal handler may have little (sigaltstack(2)). The release library; one that is not
//! optimised needs more.

use std::os::unix::process::ExitStatusExt;

use crate::harness::hole::BlackHole;
use crate::harness::{Ended, Program};

/// What a hook may need beyond the function of libc: below 600 bytes.
const MOST: i64 = 599;
/// A connect alone.
const MOST_OF_A_CONNECT: i64 = 560;

const TIMEOUT: &[(&str, &str)] = &[("KEEPIDLE", "60"), ("CONNECT_TIMEOUT", "0.3"), ("LOG", "warn")];
const ALL: &[(&str, &str)] = &[
    ("KEEPIDLE", "60"),
    ("CONNECT_TIMEOUT", "0.3"),
    ("RECV_TIMEOUT", "0.3"),
    ("SEND_TIMEOUT", "0.3"),
    ("ACCEPT_TIMEOUT", "0.3"),
    ("BACKLOG", "100"),
    ("QUICKACK", "on"),
    ("LINGER", "3"),
    ("SOURCE", "127.0.0.1"),
    ("LOG", "warn"),
];
const RULE: &[(&str, &str)] = &[("RULES", "dst=127.0.0.0/8 : connect_timeout=0.3s keepidle=60"), ("LOG", "warn")];
/// All that rules can say of them, and one that asks for the program's own address.
const RULES: &[(&str, &str)] = &[
    (
        "RULES",
        "dst=127.0.0.0/8 : connect_timeout=0.3s keepidle=60 recv_timeout=0.3s send_timeout=0.3s quickack=on \
         source=127.0.0.1; src=127.0.0.0/8 : backlog=100 accept_timeout=0.3s keepidle=40 recv_timeout=0.3s",
    ),
    ("LOG", "warn"),
];

fn run(mode: &str, hole: &BlackHole, size: Option<i64>, settings: Option<&[(&str, &str)]>) -> Ended {
    let size = size.map(|size| size.to_string());
    let args = [Some(mode.to_owned()), Some(hole.ip()), Some(hole.port()), size];
    Program::probe("stack").args(args.into_iter().flatten()).with(settings).start().wait_unproven()
}

fn used(mode: &str, hole: &BlackHole, settings: Option<&[(&str, &str)]>) -> i64 {
    let ended = run(mode, hole, None, settings);
    ended.succeeded();
    ended.number("used")
}

/// What the handler uses without the library. A connect that waits would do so for minutes: one that does not needs as much.
fn plain(mode: &str, hole: &BlackHole) -> i64 {
    let mode = match mode {
        "connect" | "interruptible" => "nonblocking",
        "fastopen" => "fastopen_now",
        "fastopen_message" => "fastopen_message_now",
        _ => mode,
    };
    let plain = used(mode, hole, None);
    assert!(plain > 500, "the frame of a signal alone is more: {plain}");
    plain
}

const CONNECTS: [&str; 3] = ["connect", "interruptible", "nonblocking"];

/// Measured on x86-64: a connect 416 to 524, with `MSG_FASTOPEN` 488 to 588; of the others recv up to 592, setsockopt 514.
#[test]
fn a_hook_needs_little_stack() {
    let hole = BlackHole::v4();
    let others = "socket bind listen accept setsockopt getsockopt close dup fcntl shutdown send write recv read poll ppoll \
                  epoll_wait select fastopen fastopen_message";
    for mode in CONNECTS.into_iter().chain(others.split_whitespace()) {
        let plain = plain(mode, &hole);
        let most = if CONNECTS.contains(&mode) { MOST_OF_A_CONNECT } else { MOST };
        for settings in [TIMEOUT, ALL, RULE, RULES] {
            let more = used(mode, &hole, Some(settings)) - plain;
            // More than without the library proves that it was at work.
            assert!((1..=most).contains(&more), "{mode}: {more} bytes more than libc's with {settings:?}");
        }
    }
}

/// Where a timeout is logged, that is put together on the handler's stack as well, but for the line itself.
#[test]
fn a_line_of_the_log_needs_some_more() {
    let hole = BlackHole::v4();
    let plain = plain("connect", &hole);
    for file in [false, true] {
        let directory = tempfile::tempdir().expect("a directory");
        let path = directory.path().join("log").to_string_lossy().into_owned();
        let settings = [&TIMEOUT[..2], &[("LOG", "info"), ("LOG_FILE", if file { &path } else { "" })]].concat();
        let more = used("connect", &hole, Some(&settings)) - plain;
        assert!((1..1700).contains(&more), "{more} bytes more than libc's, to a file: {file}");
    }
}

/// The stack is as large as the frame of a signal on this machine, libc's own connect and [`MOST_OF_A_CONNECT`], with a page behind it that
/// cannot be touched; with no room for the library it is too small, which ends the program.
#[test]
fn a_handler_on_a_small_alternate_stack_connects() {
    let hole = BlackHole::v4();
    for mode in CONNECTS {
        let plain = plain(mode, &hole);
        for settings in [TIMEOUT, ALL, RULE, RULES] {
            let ended = run(mode, &hole, Some(plain + MOST_OF_A_CONNECT), Some(settings));
            ended.succeeded();
            let waited = if mode == "nonblocking" { 0..250 } else { 250..20_000 };
            assert!(waited.contains(&ended.number("took")), "{mode}: {ended:#?}");
            let ended = run(mode, &hole, Some(plain + 64), Some(settings));
            assert_eq!(ended.status.signal(), Some(libc::SIGSEGV), "{mode}: {ended:#?}");
        }
    }
}
