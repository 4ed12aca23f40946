//! Scripts and executables that could not be started, or not as they are.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{compiled, directory, said, script, tcptune};

/// `check` says no and why, and `run` starts nothing.
fn is_refused(program: &Path, name: &str, reason: &str) {
    let refused = said(&mut tcptune([program]));
    assert!(refused.refused(126).contains(reason), "{refused:?}");
    let check = said(tcptune(["check", "--json"]).arg(program));
    let report: serde_json::Value = serde_json::from_str(&check.stdout).expect("JSON");
    assert_eq!((report["reasons"][0]["name"].as_str(), check.code), (Some(name), Some(1)), "{report}");
    assert!(report["reasons"][0]["text"].as_str().is_some_and(|text| text.contains(reason)), "{report}");
}

#[test]
fn an_interpreter_that_is_not_there() {
    let directory = directory();
    let missing = script(directory.path(), "missing", "#!/nosuch/interpreter -x\n");
    is_refused(&missing, "no-interpreter", "needs the interpreter /nosuch/interpreter, which is not there");
    for (name, line) in [("windows", "#!/bin/sh\r\necho\r\n"), ("option", "#!/bin/sh -e\r\n")] {
        is_refused(&script(directory.path(), name, line), "carriage-return", "carriage return");
    }
}

#[test]
fn an_executable_that_is_empty_or_cut_off() {
    let directory = directory();
    is_refused(&script(directory.path(), "empty", ""), "unfit", "is empty");
    let whole = fs::read(compiled(directory.path(), "whole", &[])).expect("read");
    for (name, length) in [("header", 40), ("half", whole.len() / 2)] {
        is_refused(&script(directory.path(), name, &whole[..length]), "unfit", "truncated");
    }
}

#[test]
fn a_fifo_is_not_waited_for() {
    let directory = directory();
    let fifo = directory.path().join("fifo");
    assert!(Command::new("mkfifo").args(["-m", "755"]).arg(&fifo).status().expect("mkfifo runs").success());
    let refused = said(&mut tcptune([&fifo]));
    assert!(refused.refused(126).contains("is not a regular file"), "{refused:?}");
    let refused = said(tcptune(["check"]).arg(&fifo));
    assert!(refused.refused(126).contains("is not a regular file"), "{refused:?}");
    // Nor is one that a script names.
    let script = script(directory.path(), "script", format!("#!{}\n", fifo.display()));
    is_refused(&script, "unfit", "is not a regular file");
}
