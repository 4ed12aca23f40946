//! examples/services/postfix-main.cf, with postfix itself in a root file system that is thrown away.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use tempfile::TempDir;

use super::cluster::repository;
use super::examples;
use crate::harness::library;
use crate::harness::mounts::is_root;

/// postfix and what it runs, unpacked and not installed: no machine gets a mail server of this.
const PACKAGES: [&str; 9] =
    ["postfix", "dash", "coreutils", "diffutils", "findutils", "grep", "hostname", "mawk", "sed"];

fn root() -> PathBuf {
    let home = || std::env::var_os("HOME").map(|home| Path::new(&home).join(".cache"));
    let cache = std::env::var_os("XDG_CACHE_HOME").map(PathBuf::from).or_else(home).expect("a home");
    let root = cache.join("tcptune/roots/postfix");
    fs::create_dir_all(root.parent().expect("a directory")).expect("made");
    let mut unpack = Command::new(repository().join("scripts/debian-root"));
    unpack.arg(&root).args(["bookworm", "amd64"]).args(PACKAGES);
    assert!(unpack.status().expect("it runs").success());
    root
}

/// How long smtp(8) has tried to connect, in seconds, as its log has it.
fn connecting(root: &Path, main: String) -> f64 {
    let directory = TempDir::new().expect("temporary directory");
    fs::create_dir(directory.path().join("all")).expect("made");
    fs::write(directory.path().join("main.cf"), main).expect("written");
    let mut post = Command::new("unshare");
    post.args(["--mount", "--propagation", "private", "--net", "--pid", "--fork", "--kill-child", "sh"]);
    post.arg(repository().join("tests/e2e/deploy/postfix.sh")).args([directory.path(), root, &library()]);
    let output = post.output().expect("unshare runs");
    let said = String::from_utf8_lossy(&output.stdout);
    assert!(output.status.success(), "{output:?}");
    assert!(said.contains("Connection timed out)"), "{said}");
    let delays = said.split("delays=").nth(1).and_then(|rest| rest.split('/').nth(2));
    delays.unwrap_or_else(|| panic!("{said}")).parse().expect("seconds")
}

#[test]
fn postfix_gives_its_daemons_the_variables_that_it_imports() {
    if !is_root() {
        println!("skipped: postfix_gives_its_daemons_the_variables_that_it_imports: only root starts postfix");
        return;
    }
    let example = fs::read_to_string(examples().join("services/postfix-main.cf")).expect("an example");
    let sooner = example.replace("TCPTUNE_CONNECT_TIMEOUT=10s", "TCPTUNE_CONNECT_TIMEOUT=1s");
    assert_ne!(sooner, example);
    let root = root();
    // It has a limit of its own, which is 30 s where nobody says anything else.
    let own = "smtp_connect_timeout = 8s\n";
    let [alone, tuned] = std::thread::scope(|scope| {
        let both = [own.to_owned(), format!("{own}{sooner}")];
        let both = both.map(|main| scope.spawn(|| connecting(&root, main)));
        both.map(|one| one.join().expect("it ends"))
    });
    assert!(alone >= 8.0, "{alone}");
    assert!((1.0..8.0).contains(&tuned), "{tuned}");
}
