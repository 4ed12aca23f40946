//! Odd words on the command line, and nowhere to write to: each is one line that says what it is.

use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::harness::*;

/// Both forms of an error.
fn refused(args: &[&str], code: i32, words: &str) {
    let plain = Ended::of(Command::new(TCPTUNE).args(args));
    assert_eq!((plain.code, plain.stdout.as_str(), plain.stderr.lines().count()), (Some(code), "", 1), "{plain:?}");
    assert!(plain.stderr.contains(words), "{words}: {plain:?}");
    let json = Ended::of(Command::new(TCPTUNE).arg("--json").args(args));
    assert_eq!((json.code, json.stdout.as_str()), (Some(code), ""), "{json:?}");
    let error: Json = serde_json::from_str(&json.stderr).unwrap_or_else(|error| panic!("{error}: {json:?}"));
    assert_eq!(error["status"], code, "{error}");
}

#[test]
fn words_that_are_no_process() {
    for subcommand in ["inspect", "stats"] {
        refused(&[subcommand, ""], 2, "a process has no empty name");
        refused(&[subcommand, "0"], 2, "0 is the number of no process");
        refused(&[subcommand, "99999999999"], 1, "there is no process 99999999999;");
        refused(&[subcommand, "2147483647"], 1, "there is no process 2147483647;");
        refused(&[subcommand, "no\x1bsuch\n"], 1, "no process is called no\\x1bsuch\\x0a;");
    }
    refused(&["inspect", "1", "--fd", "x"], 2, "accepted: numbers, such as 3,7");
    refused(&["inspect", "1", "--watch", "50ms"], 2, "accepted: 100ms to 24h");
    refused(&["check", "99999999999"], 1, "there is no process 99999999999;");
}

#[test]
fn nothing_at_all() {
    let plain = Ended::of(&mut Command::new(TCPTUNE));
    assert!(plain.code == Some(2) && plain.stdout.is_empty() && plain.stderr.contains("Usage: tcptune"), "{plain:?}");
    let json = Ended::of(Command::new(TCPTUNE).arg("--json"));
    let error: Json = serde_json::from_str(&json.stderr).expect("JSON");
    assert_eq!(error["error"], "a subcommand or a program is missing", "{error}");
}

#[test]
fn output_that_cannot_be_written() {
    for command in ["profile list", "explain", "inspect $$", "check $$", "env --keepidle 60 --json"] {
        for (to, why) in [(">/dev/full", "No space left"), (">&-", "Bad file descriptor")] {
            let mut sh = Command::new("sh");
            let lines = format!("\"$0\" {command} {to}");
            let library = std::path::Path::new(TCPTUNE).with_file_name("libtcptune.so");
            sh.args(["-c", &lines, TCPTUNE]).env("TCPTUNE_LIBRARY", library).stdin(Stdio::null());
            let ended = Ended::of(&mut sh);
            assert!(ended.code == Some(1) && ended.stderr.contains(why), "{command} {to}: {ended:?}");
        }
    }
    // Who stops reading ends it as any other program (SIGPIPE).
    let ended = Ended::of(Command::new("sh").args(["-c", "\"$0\" explain | true", TCPTUNE]));
    assert_eq!((ended.code, ended.stderr.as_str()), (Some(0), ""), "{ended:?}");
}
