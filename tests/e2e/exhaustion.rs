//! When the kernel has nothing left to give, or refuses what the library asks for: the program gets its own answer.

use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::unix::process::ExitStatusExt;
use std::time::Duration;

use crate::differential::{ALL, same};
use crate::harness::hole::BlackHole;
use crate::harness::{Ended, LATE, Program, assert_on_time, debug_library, library, probe};

/// Every hook under a limit, as without the library; then with a connect to a hole, which has to end in time.
fn limited(mode: &'static str, least: usize) {
    same(|| Program::probe("every").args([mode]), least);
    let hole = BlackHole::v4();
    for library in [library(), debug_library()] {
        let settings = [ALL, &[("CONNECT_TIMEOUT", "0.3"), ("LOG", "debug")]].concat();
        let program = Program::probe("every").args([mode, &hole.ip(), &hole.port()]);
        let tuned = program.tuned_by(library.clone(), &settings).run();
        tuned.succeeded();
        assert_eq!(tuned.number("timed_out"), 1, "{tuned:#?}");
        if mode == "stack" && library.to_string_lossy().contains("release") {
            // Most of it is printf's. Half of the stack is for the program.
            assert!(tuned.number("stack_used") < 32 * 1024, "{tuned:#?}");
        }
    }
}

#[test]
fn without_a_free_descriptor() {
    limited("descriptors", 15);
}

#[test]
fn on_a_stack_of_64_kib() {
    limited("stack", 50);
}

#[test]
fn without_another_byte_of_memory() {
    limited("memory", 50);
}

#[test]
fn with_little_address_space_from_the_start() {
    let plain = Program::probe("every").args(["plain"]).run();
    let mut in_force = 0;
    // In KiB. libc and the probe take 2500; with the library from 2900 on both are loaded, before that ld.so gives up.
    for limit in (2600..=6000).step_by(100) {
        let limit = format!("--as={}", limit * 1024);
        let tuned = Program::new("prlimit").args([OsStr::new(&limit), probe("every").as_os_str(), OsStr::new("plain")]);
        let tuned = tuned.tuned(ALL).run();
        if tuned.code() != Some(127) {
            assert_eq!(plain.succeeded(), tuned.succeeded(), "{limit}");
            in_force = tuned.log.matches("info: in force").count();
        }
    }
    assert_eq!(in_force, 2, "in prlimit, and in the probe");
}

/// Values so large that start-up asks the kernel for memory, and gets none: the program ends with one line.
#[test]
fn out_of_memory_at_the_start_is_one_line() {
    let values: Vec<_> = (0..10).map(|n| (format!("LARGE_{n}"), "x".repeat(120_000))).collect();
    let mut lines = 0;
    for limit in (3600..=6400).step_by(100) {
        let limit = format!("--as={}", limit * 1024);
        let mut program =
            Program::new("prlimit").args([OsStr::new(&limit), probe("every").as_os_str(), OsStr::new("plain")]);
        for (name, value) in &values {
            program = program.env(format!("TCPTUNE_{name}"), value);
        }
        let ended = program.env("LD_PRELOAD", library()).env("TCPTUNE_LOG", "error").run();
        if ended.status.signal() == Some(libc::SIGABRT) {
            let line = ended.stderr.trim_end();
            assert!(line.ends_with(" bytes") && line.contains("]: error: out of memory, "), "{line}");
            assert!(!line.contains('\n'), "{line}");
            lines += 1;
        }
    }
    assert!(lines > 0, "start-up never ran out of memory");
}

/// The warnings in a log, without the process id.
fn warnings(ended: &Ended) -> Vec<&str> {
    ended.log.lines().filter_map(|line| line.split_once(": warn: ")).map(|(_, text)| text).collect()
}

/// The probe with a system call refused, plain and in every way; gives the tuned runs, or nothing where seccomp(2) is
/// not to be had.
fn refused(call: &str) -> Vec<Ended> {
    let server = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let port = server.local_addr().expect("its address").port().to_string();
    let tuned = same(|| Program::probe("refused").args([call, "127.0.0.1", &port]), 0);
    if tuned[0].stdout.contains("no_filter") {
        println!("skipped: {call} refused: no seccomp filter: {}", tuned[0].value("no_filter"));
        return vec![];
    }
    assert!(tuned[0].stdout.lines().count() > 45, "{tuned:#?}");
    assert_eq!(warnings(&tuned[0]), [""; 0], "nothing is set");
    tuned
}

/// A connect to a black hole, timed with 0.3 s, while a call is refused.
fn to_a_hole(call: &str, settings: &[(&str, &str)]) -> Ended {
    let (hole, server) = (BlackHole::v4(), TcpListener::bind("127.0.0.1:0").expect("a live server"));
    let port = server.local_addr().expect("its address").port().to_string();
    let program = Program::probe("refused").args([call, "127.0.0.1", &port, &hole.port()]);
    let ended = program.tuned(&[&[("CONNECT_TIMEOUT", "0.3")], settings].concat()).run();
    ended.succeeded();
    assert_eq!(ended.number("hole"), libc::ETIMEDOUT.into(), "{ended:#?}");
    ended
}

fn assert_in_time(ended: &Ended) {
    assert_on_time(ended.milliseconds("took"), Duration::from_millis(300), LATE);
}

#[test]
fn setsockopt_refused_is_one_warning_for_each_option() {
    let runs = refused("setsockopt");
    runs.iter().skip(1).for_each(assert_warned_once);
    if !runs.is_empty() {
        assert_in_time(&to_a_hole("setsockopt", &[]));
    }
}

/// As the sandbox of Tor does. The log asks ppoll(2) whether a line would have to wait.
#[test]
fn setsockopt_and_ppoll_refused_is_one_warning_for_each_option() {
    let runs = refused("both");
    runs.iter().skip(1).for_each(assert_warned_once);
    if runs.is_empty() {
        return;
    }
    // To standard error: a file, a pipe, and a pipe whose reader has gone, which must not end the program.
    let settings = [("KEEPIDLE", "60"), ("LOG", "warn"), ("LOG_FILE", "")];
    let server = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let port = server.local_addr().expect("its address").port().to_string();
    let run = |script: &str| {
        let script = script.replace("PROBE", &format!("\"$0\" both 127.0.0.1 {port}"));
        let program = Program::new("sh").args([OsStr::new("-c"), OsStr::new(&script), probe("refused").as_os_str()]);
        let ended = program.tuned(&settings).start().wait_unproven();
        ended.succeeded();
        ended
    };
    for script in ["exec PROBE", "{ PROBE 2>&1 >&3 | cat >&2; } 3>&1"] {
        let expected = "warn: TCPTUNE_KEEPIDLE=60s: the kernel refused it with EPERM; sockets go on without it\n";
        let ended = run(script);
        assert_eq!(ended.stderr.matches(expected).count(), 1, "{script}: {ended:#?}");
    }
    let ended = run("exec 3>&1; { sleep 0.3; PROBE 2>&1 >&3; echo status=$? >&3; } | :");
    assert_eq!(ended.number("status"), 0, "{ended:#?}");
}

/// A warning for each option, and one that nonblocking connects have no timeout.
fn assert_warned_once(tuned: &Ended) {
    let warnings = warnings(tuned);
    for (name, _) in ALL.iter().filter(|(name, _)| !matches!(*name, "CONNECT_TIMEOUT" | "BACKLOG")) {
        let of_it: Vec<_> = warnings.iter().filter(|w| w.starts_with(&format!("TCPTUNE_{name}="))).collect();
        assert_eq!(of_it.len(), 1, "{name}: {warnings:#?}");
        assert!(of_it[0].contains("EPERM"), "{of_it:?}");
    }
    let of_timeout = warnings.iter().filter(|w| w.contains("connect has no timeout")).count();
    assert_eq!(of_timeout, 1, "nonblocking connects have no timeout: {warnings:#?}");
}

#[test]
fn other_calls_refused_are_one_warning() {
    // getsockopt hides TCP_USER_TIMEOUT, so that nonblocking connects have no timeout; the others, blocking ones.
    for call in ["getsockopt", "fcntl", "FIONBIO"] {
        for tuned in refused(call).iter().skip(1) {
            let warnings = warnings(tuned);
            assert_eq!(warnings.len(), 1, "{call}: {warnings:#?}");
            assert!(warnings[0].contains("connect has no timeout") && warnings[0].contains("EPERM"), "{warnings:?}");
        }
    }
    if !refused("getsockopt").is_empty() {
        assert_in_time(&to_a_hole("getsockopt", &[]));
    }
}

#[test]
fn without_poll_the_kernel_ends_the_connect() {
    if refused("poll").is_empty() {
        return;
    }
    let ended = to_a_hole("poll", &[("SYNCNT", "1")]);
    assert!(ended.milliseconds("took") > Duration::from_secs(2), "SYNCNT's own time: {ended:#?}");
    let warnings = warnings(&ended);
    assert_eq!(warnings.len(), 1, "{warnings:#?}");
    assert!(warnings[0].contains("connect has no timeout") && warnings[0].contains("EPERM"), "{warnings:?}");
}

#[test]
fn poll_and_ppoll_refused() {
    for tuned in refused("ppoll").iter().skip(1) {
        assert!(warnings(tuned).is_empty(), "nothing had to wait: {tuned:#?}");
    }
}

#[test]
fn no_more_files_in_the_system() {
    // ENFILE for real would take every process's files, and root is exempt: the answer is what counts here.
    for tuned in refused("new") {
        assert!(tuned.stdout.contains(&format!("=-1 {}", libc::ENFILE)), "{tuned:#?}");
        assert_eq!(warnings(&tuned), [""; 0]);
    }
}
