//! Profiles of the operator's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{directory, said, tcptune};

fn with(home: &Path, args: &[&str]) -> Command {
    let mut command = tcptune(args);
    command.env("HOME", home);
    command
}

#[test]
fn they_are_found_and_win_over_built_in_ones() {
    let home = directory();
    let own = home.path().join(".config/tcptune");
    fs::create_dir_all(&own).expect("made");
    fs::write(own.join("mine.conf"), "# For tests\nkeepidle = 5 # early\nrole=server : off\n").expect("written");
    fs::write(own.join("server.conf"), "nodelay = on\n").expect("written");
    let listed = said(&mut with(home.path(), &["profile", "list"]));
    assert!(listed.ok().lines().any(|line| line.starts_with("mine ") && line.contains("For tests")), "{listed:?}");
    let env = said(&mut with(home.path(), &["env", "--profile", "mine", "--rule", "port=1 : keepidle=6"]));
    // Of the rules, those that stand as flags are looked at first.
    assert!(
        env.ok().ends_with("export TCPTUNE_KEEPIDLE=5\nexport TCPTUNE_RULES='port=1 : keepidle=6; role=server : off'")
    );
    let env = said(&mut with(home.path(), &["env", "--profile", "server"]));
    assert!(env.ok().ends_with("libtcptune.so\nexport TCPTUNE_NODELAY=on"), "{env:?}");
    let elsewhere = said(with(home.path(), &["env", "--profile", "mine"]).env("XDG_CONFIG_HOME", "/nosuch"));
    assert!(elsewhere.refused(2).contains("no profile \"mine\""), "{elsewhere:?}");
}

#[test]
fn a_wrong_one_is_refused() {
    let home = directory();
    let own = home.path().join("tcptune");
    fs::create_dir_all(&own).expect("made");
    fs::write(own.join("wrong.conf"), "keepidle = 5\nkeepidel = 6\n").expect("written");
    for args in [&["run", "--profile", "wrong", "true"][..], &["profile", "show", "wrong"]] {
        let said = said(with(home.path(), args).env("XDG_CONFIG_HOME", home.path()));
        assert!(
            said.refused(2).contains("wrong.conf:2:1: keepidel = 6: no such setting; did you mean keepidle?"),
            "{said:?}"
        );
    }
    let path = said(&mut with(home.path(), &["run", "--profile", "./wrong.conf", "true"]));
    assert!(path.refused(2).contains("a file is named with --config"), "{path:?}");
}
