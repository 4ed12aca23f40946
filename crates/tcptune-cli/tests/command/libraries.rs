//! What is taken for the library is looked at before anything is promised.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{compiled, directory, installed, library, said, tcptune};

/// `run` does not start anything, and `check` says no, both with this reason.
fn is_none(file: &Path, reason: &str) {
    for args in [["run"].as_slice(), &["env"], &["run", "--force"]] {
        let program = (args[0] == "run").then_some("true");
        let refused = said(tcptune(args.iter().copied()).arg("--library").arg(file).args(program));
        assert!(refused.refused(126).contains(reason), "{args:?}: {refused:?}");
    }
    let check = said(tcptune(["check", "--json", "--library"]).arg(file).arg("/bin/true"));
    let report: serde_json::Value = serde_json::from_str(&check.stdout).expect("JSON");
    assert_eq!((&report["tunable"], check.code), (&false.into(), Some(1)), "{report}");
    assert_eq!(report["reasons"][0]["name"], "no-library", "{report}");
    assert!(report["reasons"][0]["text"].as_str().is_some_and(|text| text.contains(reason)), "{report}");
}

#[test]
fn a_file_that_is_no_library_of_ours() {
    let directory = directory();
    let file = |name: &str| directory.path().join(name);
    let whole = fs::read(library()).expect("the library");
    is_none(Path::new("/etc/passwd"), "is no ELF file");
    is_none(Path::new("/nosuch/libtcptune.so"), "no such file");
    is_none(directory.path(), "is not a regular file");
    is_none(&compiled(directory.path(), "program", &[]), "is not libtcptune.so");
    is_none(&compiled(directory.path(), "other.so", &["-shared", "-fPIC"]), "is not libtcptune.so");
    for (name, length, reason) in
        [("empty", 0, "is empty"), ("short", 100, "truncated"), ("half", whole.len() / 2, "truncated")]
    {
        fs::write(file(name), &whole[..length]).expect("written");
        is_none(&file(name), reason);
    }
    assert!(Command::new("mkfifo").arg(file("fifo")).status().expect("mkfifo runs").success());
    is_none(&file("fifo"), "is not a regular file");
}

#[test]
fn a_library_of_another_version() {
    let directory = directory();
    let mut image = fs::read(library()).expect("the library");
    // Sizes of name and text, and the type.
    let start = [8, 16, 1].map(u32::to_ne_bytes).concat();
    let note = image.windows(20).position(|bytes| bytes.strip_prefix(&*start) == Some(b"tcptune\0")).expect("the note");
    let note = note + start.len();
    image[note + 8..note + 13].copy_from_slice(b"9.8.7");
    let other = directory.path().join("libtcptune.so");
    fs::write(&other, image).expect("written");
    is_none(&other, "is version 9.8.7, and this command is 0.1.0");
}

#[test]
fn a_copy_of_another_name_is_the_library() {
    let directory = directory();
    let copy = installed(library(), &directory.path().join("copy.so"));
    let found = said(tcptune(["env", "--library"]).arg(&copy));
    assert_eq!(found.ok(), format!("export LD_PRELOAD={}", copy.display()));
}
