//! scripts/matrix and what it has written: docs/programs.md.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use tempfile::TempDir;

use crate::harness::library;

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

/// The release command, with the library beside it.
fn tcptune() -> PathBuf {
    let build = ["build", "--quiet", "--release", "--package", "tcptune-cli"];
    assert!(Command::new(env!("CARGO")).args(build).current_dir(root()).status().expect("cargo runs").success());
    library().with_file_name("tcptune")
}

/// Runs it with a cache of its own.
fn matrix(arguments: &[&str]) -> Output {
    let cache = TempDir::new().expect("temporary directory");
    let mut command = Command::new(root().join("scripts/matrix"));
    command.args(arguments).env("XDG_CACHE_HOME", cache.path()).output().expect("scripts/matrix runs")
}

/// The cells of each row of the tables in a text.
fn rows(text: &str) -> Vec<Vec<&str>> {
    let lines = text.lines().filter(|line| line.starts_with("| "));
    let cells = lines.map(|line| line.trim_matches('|').split(" | ").map(str::trim).collect::<Vec<_>>());
    cells.filter(|cells| cells[0] != "Program" && cells[0] != "---").collect()
}

/// A script needs tomllib, which came with Python 3.11, and namespaces.
fn cannot_run() -> bool {
    let missing = [["/usr/bin/python3", "-c", "import tomllib"], ["unshare", "--net", "true"]].into_iter().find(
        |[program, rest @ ..]| !Command::new(program).args(rest).output().is_ok_and(|ended| ended.status.success()),
    );
    if let Some(missing) = missing {
        println!("skipped: this machine cannot run {}", missing.join(" "));
    }
    missing.is_some()
}

#[test]
fn programs_are_as_the_matrix_says() {
    if cannot_run() {
        return;
    }
    let (tcptune, programs) =
        (tcptune(), ["curl", "wget", "git", "busybox wget", "psql", "redis-cli", "nginx proxy_pass"]);
    let mut arguments = vec!["--jobs", "14", "--tcptune", tcptune.to_str().expect("UTF-8")];
    arguments.extend(programs);
    let ended = matrix(&arguments);
    assert!(ended.status.success(), "{ended:?}");
    let text = String::from_utf8(ended.stdout).expect("UTF-8");
    let rows = rows(&text);
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), programs, "{text}");
    for row in rows {
        let way = if row[0].starts_with("busybox") { "notify" } else { "preload" };
        assert_eq!((row[2], row[4]), (way, "as set"), "{text}");
        assert!(row[5].starts_with("> 8 s → ") && row[6].starts_with("> 8 s → "), "{text}");
    }
}

/// A command that tunes nothing: the matrix has to notice.
#[test]
fn the_matrix_names_what_does_not_hold() {
    if cannot_run() {
        return;
    }
    let directory = TempDir::new().expect("temporary directory");
    let idle = directory.path().join("tcptune");
    std::os::unix::fs::symlink(library(), directory.path().join("libtcptune.so")).expect("linked");
    let script = format!("#!/bin/sh\n[ \"$1\" = run ] || exec {} \"$@\"\nshift 2\nexec \"$@\"\n", tcptune().display());
    fs::write(&idle, script).expect("a script");
    fs::set_permissions(&idle, fs::Permissions::from_mode(0o755)).expect("executable");
    let ended = matrix(&["--tcptune", idle.to_str().expect("UTF-8"), "curl"]);
    let said = String::from_utf8_lossy(&ended.stderr);
    assert_eq!(ended.status.code(), Some(1), "{said}");
    for fault in ["curl: keepalive: ", "curl: connect: > 8 s → > 8 s", "curl: silence: > 8 s → > 8 s"] {
        assert!(said.contains(fault), "{fault} in {said}");
    }
}

#[test]
fn the_page_is_of_this_table() {
    if cannot_run() {
        return;
    }
    let listed = matrix(&["--list"]);
    let listed = String::from_utf8(listed.stdout).expect("UTF-8");
    let page = fs::read_to_string(root().join("docs/programs.md")).expect("docs/programs.md");
    let rows = rows(&page);
    assert!(rows.len() >= 60, "{} programs", rows.len());
    assert_eq!(rows.iter().map(|row| row[0]).collect::<Vec<_>>(), listed.lines().collect::<Vec<_>>());
    for row in &rows {
        assert!(row.len() == 7 || row.len() == 8, "{row:?}");
        assert!(["preload", "notify", "cgroup"].contains(&row[2]), "{row:?}");
        assert!(row[5].contains('→') && row[6].contains('→'), "{row:?}");
    }
}
