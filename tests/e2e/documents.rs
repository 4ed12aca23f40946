//! Documents that name tests name those that are there.

use std::fs;
use std::path::Path;
use std::process::Command;

const GUARANTEES: &str = include_str!("../../docs/guarantees.md");

/// The tests of this program, as it lists them.
fn of_the_library() -> Vec<String> {
    let this = std::env::current_exe().expect("this program");
    let list = Command::new(this).arg("--list").output().expect("a list of tests");
    let tests = String::from_utf8(list.stdout).expect("text");
    tests.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The tests of the command, which are other programs: as their sources have them.
fn of_the_command() -> Vec<String> {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/tcptune-cli/tests/live");
    let mut tests = Vec::new();
    for file in fs::read_dir(directory).expect("tests of the command") {
        let path = file.expect("an entry").path();
        let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
        let source = if path.is_file() { fs::read_to_string(&path).expect("a source") } else { String::new() };
        let functions = source.split("#[test]\n").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
        tests.extend(functions.map(|(name, _)| format!("{module}::{name}")));
    }
    tests
}

#[test]
fn each_guarantee_is_held_by_a_test_that_exists() {
    let (library, command) = (of_the_library(), of_the_command());
    assert!(command.len() > 20, "only {} tests of the command found", command.len());
    let mut checked = 0;
    for row in GUARANTEES.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let column = row.trim_end_matches('|').rsplit('|').next().expect("a last column");
        for name in column.split('`').skip(1).step_by(2).filter(|n| !n.contains([' ', '/'])) {
            let there = library.iter().chain(&command).any(|test| test.contains(name));
            assert!(there, "docs/guarantees.md names {name}, which is no test");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} names found");
}
