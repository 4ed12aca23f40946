//! Documents that name tests name those that are there.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::path::Path;
use std::process::Command;

use crate::differential::ALL;
use crate::harness::hole::BlackHole;
use crate::harness::{Program, library, probe};

const GUARANTEES: &str = include_str!("../../docs/guarantees.md");

/// The tests of this program, as it lists them.
fn of_the_library() -> Vec<String> {
    let this = std::env::current_exe().expect("this program");
    let list = Command::new(this).arg("--list").output().expect("a list of tests");
    let tests = String::from_utf8(list.stdout).expect("text");
    tests.lines().filter_map(|line| line.strip_suffix(": test")).map(str::to_owned).collect()
}

/// The tests of the command and of the core, which are other programs: as their sources have them.
fn of_the_crates() -> Vec<String> {
    let mut tests = Vec::new();
    let mut left = vec![Path::new(env!("CARGO_MANIFEST_DIR")).join("crates")];
    while let Some(path) = left.pop() {
        if path.is_dir() {
            left.extend(fs::read_dir(path).expect("a directory").map(|entry| entry.expect("an entry").path()));
        } else if path.extension().is_some_and(|extension| extension == "rs") {
            let module = path.file_stem().expect("a name").to_string_lossy().into_owned();
            let source = fs::read_to_string(&path).expect("a source");
            let functions =
                source.split("#[test]\n").skip(1).filter_map(|rest| rest.split_once("fn ")?.1.split_once('('));
            tests.extend(functions.map(|(name, _)| format!("{module}::{name}")));
        }
    }
    tests
}

#[test]
fn each_guarantee_is_held_by_a_test_that_exists() {
    let (library, others) = (of_the_library(), of_the_crates());
    assert!(others.len() > 100, "only {} tests of the other crates found", others.len());
    let mut checked = 0;
    for row in GUARANTEES.lines().filter(|line| line.starts_with("| ") && !line.starts_with("| ---")) {
        let column = row.trim_end_matches('|').rsplit('|').next().expect("a last column");
        for name in column.split('`').skip(1).step_by(2).filter(|n| !n.contains([' ', '/'])) {
            let there = library.iter().chain(&others).any(|test| test.contains(name));
            assert!(there, "docs/guarantees.md names {name}, which is no test");
            checked += 1;
        }
    }
    assert!(checked > 40, "only {checked} names found");
}

/// `[`NAME`]` in a page: the test that tries what stands there.
#[test]
fn each_test_that_a_page_names_exists() {
    let (library, others) = (of_the_library(), of_the_crates());
    for (page, least) in [("deploy", 15), ("troubleshooting", 10)] {
        let path = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("docs/{page}.md"));
        let text = fs::read_to_string(path).expect("a page");
        let brackets = text.split("[`").skip(1).filter_map(|rest| rest.split_once("`]"));
        let names: Vec<_> = brackets.flat_map(|(names, _)| names.split("`, `")).collect();
        for name in &names {
            let there = library.iter().chain(&others).any(|test| test.ends_with(&format!("::{name}")));
            assert!(there, "docs/{page}.md names {name}, which is no test");
        }
        assert!(names.len() >= least, "{page}: only {names:?}");
    }
}

/// The system calls that docs/system-calls.md names.
fn documented() -> BTreeSet<String> {
    let text = fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("docs/system-calls.md")).expect("a page");
    let is_name = |word: &&str| word.bytes().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || b == b'_');
    text.split('`').skip(1).step_by(2).filter(is_name).map(str::to_owned).collect()
}

#[test]
fn each_system_call_of_the_source_is_documented() {
    let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("crates/tcptune-core/src/system");
    let mut called = BTreeSet::new();
    for file in fs::read_dir(directory).expect("sources") {
        let file = file.expect("an entry").path();
        if file.ends_with("call.rs") {
            continue; // the macro itself
        }
        let source = fs::read_to_string(file).expect("a source");
        let calls = source.split("call!(").skip(1);
        called.extend(calls.filter_map(|rest| rest.split([',', ')']).next()).map(str::to_owned));
    }
    // As functions of libc.
    called.extend(["setsockopt", "getsockopt", "poll"].map(str::to_owned));
    let mut documented = documented();
    documented.remove("skip_programs");
    assert_eq!(called, documented);
}

/// The system calls of the probe that calls every hook, and connects to a hole.
fn traced(hole: &BlackHole, settings: &[(&str, &str)]) -> BTreeSet<String> {
    let directory = tempfile::tempdir().expect("temporary directory");
    let trace = directory.path().join("trace");
    let mut strace = Program::new("strace").args([OsStr::new("-f"), OsStr::new("-o"), trace.as_os_str()]);
    for (name, value) in settings {
        strace = strace.args(["-E", &format!("{name}={value}")]);
    }
    let ended = strace.args([probe("every").as_os_str(), OsStr::new("plain")]).args([hole.ip(), hole.port()]).run();
    ended.succeeded();
    let trace = fs::read_to_string(trace).expect("a trace");
    let calls = trace.lines().filter_map(|line| line.split_once(' ')?.1.trim_start().split_once('('));
    calls.map(|(call, _)| call.to_owned()).collect()
}

#[test]
fn each_system_call_that_is_made_is_documented() {
    let (hole, log) = (BlackHole::v4(), tempfile::NamedTempFile::new().expect("a file"));
    let (library, log) = (library(), log.path().to_str().expect("UTF-8").to_owned());
    let mut settings: Vec<_> =
        ALL.iter().map(|(name, value)| (format!("TCPTUNE_{name}"), (*value).to_owned())).collect();
    settings.extend([
        ("LD_PRELOAD".to_owned(), library.to_str().expect("UTF-8").to_owned()),
        ("TCPTUNE_CONNECT_TIMEOUT".to_owned(), "0.3".to_owned()),
        ("TCPTUNE_RULES".to_owned(), "dst=127.0.0.0/8 : source=127.0.0.1 ttl=9".to_owned()),
        ("TCPTUNE_STATS".to_owned(), "on".to_owned()),
        ("TCPTUNE_LOG".to_owned(), "debug".to_owned()),
        ("TCPTUNE_LOG_FILE".to_owned(), log.clone()),
    ]);
    let settings: Vec<_> = settings.iter().map(|(name, value)| (&**name, &**value)).collect();
    let (plain, tuned) = (traced(&hole, &[]), traced(&hole, &settings));
    let more: BTreeSet<_> = tuned.difference(&plain).cloned().collect();
    assert!(fs::read_to_string(&log).is_ok_and(|log| log.contains("stats: ")), "the library was at work");
    assert!(more.contains("signalfd4") && more.contains("rt_sigprocmask"), "{more:?}");
    let documented = documented();
    let unknown: Vec<_> = more.difference(&documented).collect();
    assert!(unknown.is_empty(), "{unknown:?} is not in docs/system-calls.md");
}
