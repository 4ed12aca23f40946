//! The README is short, its links lead somewhere, and its commands work as they are written.

use std::collections::BTreeSet;
use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Program, library, probe};

fn root() -> &'static Path {
    Path::new(env!("CARGO_MANIFEST_DIR"))
}

fn readme() -> String {
    fs::read_to_string(root().join("README.md")).expect("README.md")
}

#[test]
fn the_readme_is_short() {
    let words = readme().split_whitespace().count();
    assert!(words <= 1500, "{words} words");
}

/// The targets of links in a document that are files.
fn links(text: &str) -> BTreeSet<String> {
    let targets = text.split("](").skip(1).filter_map(|rest| rest.split_once(')')).map(|(target, _)| target);
    let sources = ["src=\"", "srcset=\""].iter().flat_map(|attribute| text.split(attribute).skip(1));
    let sources = sources.filter_map(|rest| rest.split_once('"')).map(|(target, _)| target);
    let file = |target: &str| target.split('#').next().unwrap_or_default().to_owned();
    targets.chain(sources).filter(|t| !t.contains("://") && !t.starts_with('#')).map(file).collect()
}

#[test]
fn links_lead_somewhere() {
    let mut checked = 0;
    let documents = fs::read_dir(root().join("docs")).expect("docs").map(|entry| entry.expect("an entry").path());
    let documents = documents.filter(|path| path.extension().is_some_and(|extension| extension == "md"));
    for document in documents.chain(["README.md", "CONTRIBUTING.md", "CHANGELOG.md"].map(|name| root().join(name))) {
        let text = fs::read_to_string(&document).expect("a document");
        for link in links(&text) {
            let target = document.parent().expect("a directory").join(&link);
            assert!(target.exists(), "{} links to {link}, which is not there", document.display());
            checked += 1;
        }
    }
    assert!(checked > 20, "only {checked} links found");
}

/// The commands of the README's shell blocks that begin with this, without their comments.
fn commands(begin: &str) -> Vec<String> {
    let readme = readme();
    let blocks = readme.split("```sh\n").skip(1).filter_map(|rest| rest.split_once("```")).map(|(block, _)| block);
    blocks
        .flat_map(str::lines)
        .filter(|line| line.starts_with(begin))
        .map(|line| line.split("  #").next().unwrap_or_default().trim_end().to_owned())
        .collect()
}

/// `your-program` is one that sleeps, and PID is that of one that runs.
#[test]
fn each_command_of_the_readme_works() {
    let target = library().parent().expect("target/release").to_owned();
    let build = ["build", "--quiet", "--release", "--package", "tcptune-cli"];
    assert!(Command::new(env!("CARGO")).args(build).current_dir(root()).status().expect("cargo runs").success());
    let directory = TempDir::new().expect("temporary directory");
    std::os::unix::fs::symlink(probe("options"), directory.path().join("your-program")).expect("linked");
    let running = Program::new("sleep").args(["60"]).tuned(&[("KEEPIDLE", "60")]).start();
    let path = std::env::var("PATH").unwrap_or_default();
    let path = format!("{}:{}:{path}", directory.path().display(), target.display());
    let commands = commands("tcptune ").into_iter().chain(commands("LD_PRELOAD="));
    let mut checked = 0;
    for command in commands {
        let installed = "/usr/lib/x86_64-linux-gnu/libtcptune.so";
        let typed = command.replace("PID", &running.pid().to_string());
        let typed = typed.replace(installed, &library().display().to_string());
        let output = Command::new("sh").args(["-c", &typed]).env("PATH", &path).output().expect("sh runs");
        let said = String::from_utf8_lossy(&output.stderr);
        // An option of `your-program` is its own affair, and a process without sockets has nothing to apply.
        let fine = output.status.success() || said.contains("no TCP socket");
        assert!(fine, "{command}: {output:?}");
        assert!(!said.contains("cannot be preloaded"), "{command}: {output:?}");
        checked += 1;
    }
    assert!(checked >= 8, "only {checked} commands found");
}

/// What the README's scripts say of themselves; scripts/test itself is what runs this.
#[test]
fn each_script_of_the_readme_is_there() {
    for command in commands("scripts/") {
        let said = Command::new("sh").args(["-c", &format!("{command} --help")]).current_dir(root()).output();
        let said = said.expect("sh runs");
        assert!(said.status.success() && !said.stdout.is_empty(), "{command}: {said:?}");
    }
}

/// The picture is one of a run of scripts/demo as it is now: its text, but for the figures.
#[test]
fn the_picture_is_of_this_demo() {
    let demo = fs::read_to_string(root().join("scripts/demo")).expect("scripts/demo");
    for name in ["docs/demo-light.svg", "docs/demo-dark.svg"] {
        let picture = fs::read_to_string(root().join(name)).expect("a picture").replace("&#160;", " ");
        for text in
            ["A host that never answers: curl to a port that drops every SYN", "Measured on this machine just now"]
        {
            assert!(demo.contains(text) && picture.contains(text), "{name}: scripts/picture draws it anew: {text}");
        }
        for text in ["ended after", "timer:(keepalive,", "bind: Address already in use", "4 of 4 processes"] {
            assert!(picture.contains(text), "{name}: scripts/picture draws it anew: {text}");
        }
    }
}
