//! Documents that name tests name those that are there.

use std::process::Command;

const GUARANTEES: &str = include_str!("../../docs/guarantees.md");

#[test]
fn each_guarantee_is_held_by_a_test_that_exists() {
    let this = std::env::current_exe().expect("this program");
    let list = Command::new(this).arg("--list").output().expect("a list of tests");
    let tests = String::from_utf8(list.stdout).expect("text");
    let mut checked = 0;
    for row in GUARANTEES.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let column = row.trim_end_matches('|').rsplit('|').next().expect("a last column");
        for name in column.split('`').skip(1).step_by(2).filter(|n| !n.contains([' ', '/'])) {
            let there = tests.lines().any(|test| test.ends_with(": test") && test.contains(name));
            assert!(there, "docs/guarantees.md names {name}, which is no test");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} names found");
}
