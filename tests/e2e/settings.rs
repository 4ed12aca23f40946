//! Bad input, and what is reported of good input.

use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::symlink;
use std::process::Command;

use crate::harness::{Ended, Program, library};

const IDLE: &str = "
import socket
s = socket.socket()
print('idle=%d' % s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
print('count=%d' % s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT))
";

/// Messages go to standard error here, as without the harness.
fn to_stderr(program: Program, settings: &[(&str, &str)]) -> Ended {
    program.tuned(&[&[("LOG_FILE", ""), ("LOG", "info")], settings].concat()).start().wait_unproven()
}

#[test]
fn a_wrong_value_is_named_and_the_others_hold() {
    let ended = to_stderr(Program::python(IDLE), &[("KEEPIDLE", "1 minute"), ("KEEPCNT", "2"), ("SYNCNT", "300")]);
    assert_eq!(ended.number("count"), 2);
    assert_ne!(ended.number("idle"), 60);
    let warnings: Vec<_> = ended.stderr.lines().filter(|l| l.contains(": warn: ")).collect();
    assert_eq!(warnings.len(), 2, "{ended:#?}");
    for (variable, value, accepted) in
        [("TCPTUNE_KEEPIDLE", "1 minute", "1s to 32767s"), ("TCPTUNE_SYNCNT", "300", "1 to 127")]
    {
        let line = warnings.iter().find(|l| l.contains(variable)).unwrap_or_else(|| panic!("{ended:#?}"));
        assert!(line.starts_with("tcptune["), "{line}");
        assert!(line.contains(value) && line.contains(accepted) && line.ends_with("ignored"), "{line}");
    }
}

#[test]
fn a_typo_suggests_the_right_name() {
    let ended = to_stderr(Program::python(IDLE), &[("KEEPIDEL", "5"), ("KEEPCNT", "2")]);
    assert!(ended.stderr.contains("TCPTUNE_KEEPIDEL=5: no such setting; did you mean TCPTUNE_KEEPIDLE?"), "{ended:#?}");
    assert_eq!(ended.number("count"), 2);
}

#[test]
fn strict_exits_78_before_main() {
    let script = "print('main')";
    for wrong in [("KEEPIDLE", "x"), ("KEEPIDEL", "5"), ("LOG", "loud"), ("CONNECT_TIMEOUT", "-1")] {
        let ended = to_stderr(Program::python(script), &[wrong, ("STRICT", "1")]);
        assert_eq!(ended.code(), Some(78), "{ended:#?}");
        assert_eq!(ended.stdout, "");
        assert!(ended.stderr.contains(&format!("TCPTUNE_{}={}", wrong.0, wrong.1)), "{ended:#?}");
        assert_eq!(to_stderr(Program::python(script), &[wrong]).code(), Some(0), "not strict");
    }
    let right = to_stderr(Program::python(script), &[("STRICT", "1"), ("KEEPIDLE", "5")]);
    assert_eq!((right.code(), &*right.stdout), (Some(0), "main\n"));
}

#[test]
fn what_is_not_utf8_is_harmless_elsewhere_and_named_in_a_setting() {
    let broken = OsStr::from_bytes(b"\xff\xfe=\x80");
    let ended = Program::python(IDLE)
        .env(OsStr::from_bytes(b"\xff\xfe"), broken)
        .env("LATIN", OsStr::from_bytes(b"caf\xe9"))
        .tuned(&[("KEEPIDLE", OsStr::new("33")), ("KEEPCNT", broken)])
        .run();
    assert_eq!(ended.number("idle"), 33);
    assert!(ended.log.contains("TCPTUNE_KEEPCNT="), "{ended:#?}");
}

#[test]
fn empty_and_default_are_as_if_unset() {
    let plain = Program::python(IDLE).run().number("idle");
    let tuned = Program::python(IDLE).tuned(&[("KEEPIDLE", ""), ("KEEPCNT", "default")]).run();
    assert_eq!(tuned.number("idle"), plain);
    assert!(!tuned.log.contains("warn"), "{}", tuned.log);
}

#[test]
fn disable_leaves_every_socket_alone() {
    let plain = Program::python(IDLE).run().number("idle");
    let tuned = Program::python(IDLE).tuned(&[("KEEPIDLE", "33"), ("DISABLE", "yes")]).run();
    assert_eq!(tuned.number("idle"), plain);
}

#[test]
fn levels_of_the_log() {
    let settings = |level| [("KEEPIDLE", "33"), ("CONNECT_TIMEOUT", "3.5"), ("SYNCNT", "x"), ("LOG", level)];
    let run = |level| {
        let connect = format!("{IDLE}\ns.connect_ex(('127.0.0.1', 1))");
        Program::python(&connect).tuned(&[&settings(level)[..], &[("LOG_FILE", "")]].concat()).start().wait_unproven()
    };
    let lines = |level| run(level).stderr;
    assert_eq!(lines("off"), "");
    assert!(lines("warn").lines().all(|l| l.contains(": warn: ")) && lines("warn").contains("SYNCNT"));
    let info = lines("info");
    assert!(info.contains("info: in force: KEEPALIVE=on KEEPIDLE=33s CONNECT_TIMEOUT=3500ms PRECEDENCE=env"), "{info}");
    assert!(!info.contains("debug"), "{info}");
    let debug = lines("debug");
    assert!(debug.contains("KEEPIDLE=33s, the kernel says 33s"), "{debug}");
    assert!(debug.contains("connect timeout 3.500 s by poll (kernel alone: "), "{debug}");
}

#[test]
fn the_log_file_is_appended_to_and_never_followed() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let path = |name: &str| directory.path().join(name);
    let log = |target: &str| {
        let file = path(target);
        Program::python("print('main')")
            .tuned(&[("KEEPIDLE", "x"), ("LOG_FILE", file.to_str().expect("UTF-8"))])
            .start()
            .wait_unproven()
    };
    fs::write(path("file"), "before\n").expect("written");
    assert_eq!(log("file").stderr, "");
    let text = fs::read_to_string(path("file")).expect("the file");
    assert!(text.starts_with("before\n") && text.contains("TCPTUNE_KEEPIDLE=x"), "{text}");

    symlink(path("file"), path("link")).expect("a link");
    fs::create_dir(path("directory")).expect("a directory");
    let mkfifo = Command::new("mkfifo").arg(path("fifo")).status().expect("mkfifo");
    assert!(mkfifo.success());
    for target in ["link", "directory", "fifo", "missing/file"] {
        let ended = log(target);
        assert_eq!(ended.stdout, "main\n", "{target}: the program runs on");
        assert_eq!(ended.stderr.lines().count(), 1, "{target}: one warning: {ended:#?}");
        assert!(ended.stderr.contains("TCPTUNE_LOG_FILE="), "{target}: {ended:#?}");
    }
    assert_eq!(fs::read_to_string(path("file")).expect("the file"), text);
}

#[test]
fn standard_error_is_written_to_only_while_it_is_what_it_was() {
    // A daemon closes 2; the next descriptor takes the number.
    let directory = tempfile::tempdir().expect("temporary directory");
    let victim = directory.path().join("victim");
    let script = format!(
        "
import os, socket
os.close(2)
assert os.open({victim:?}, os.O_RDWR | os.O_CREAT) == 2
s = socket.socket()
s.connect_ex(('127.0.0.1', 1))
"
    );
    let settings = [("KEEPIDLE", "33"), ("LOG", "debug"), ("LOG_FILE", "")];
    let ended = Program::python(&script).tuned(&settings).start().wait_unproven();
    assert!(ended.stderr.contains("in force") && !ended.stderr.contains("KEEPIDLE=33s, the kernel"), "{ended:#?}");
    assert_eq!(fs::read_to_string(victim).expect("the file"), "");
}

#[test]
fn a_missing_library_is_noticed_by_this_harness() {
    let without = Program::python("print('main')").env("LD_PRELOAD", "/nonexistent/libtcptune.so").run();
    assert!(without.stderr.contains("cannot be preloaded") && without.status.success());
    let caught = std::panic::catch_unwind(|| {
        Program::python("pass").tuned_by("/nonexistent/libtcptune.so".into(), &[("KEEPIDLE", "1")]).run()
    });
    assert!(caught.is_err());
    assert!(library().is_file());
}
