//! Profiles of the operator's own.

use std::fs;
use std::path::Path;
use std::process::Command;

use crate::harness::{clean, directory, library, python, said, tcptune};

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
    assert!(elsewhere.refused(2).contains("profile mine: no such profile; "), "{elsewhere:?}");
}

/// What the library makes of the variable, by itself and under the command.
#[test]
fn the_variable_means_the_same_to_library_and_command() {
    // Where rules look at addresses, options wait for connect.
    const IDLE: &str = "import socket; l = socket.create_server(('127.0.0.1', 0)); \
        c = socket.create_connection(l.getsockname()); print(c.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))";
    let home = directory();
    fs::create_dir_all(home.path().join(".config/tcptune")).expect("made");
    fs::write(home.path().join(".config/tcptune/mine.conf"), "keepidle = 7\ndst=::1 : off\n").expect("written");
    for (name, want, from) in [("fast-fail", "5", "profile fast-fail:"), ("mine", "7", "tcptune/mine.conf:1")] {
        let with = |args: &[&str]| {
            let mut command = with(home.path(), args);
            command.env("TCPTUNE_PROFILE", name);
            said(&mut command)
        };
        let mut alone = Command::new(python());
        clean(&mut alone).env("HOME", home.path()).env("LD_PRELOAD", library()).env("TCPTUNE_PROFILE", name);
        assert_eq!(said(alone.args(["-I", "-c", IDLE])).ok(), want);
        let program = [python(), "-I", "-c", IDLE];
        assert_eq!(with(&[&["run", "--"][..], &program].concat()).ok(), want);
        assert_eq!(with(&[&["run", "--keepidle", "9", "--"][..], &program].concat()).ok(), "9");
        let explained = with(&["explain"]);
        let line = explained.ok().lines().find(|line| line.starts_with("KEEPIDLE ")).expect("a line");
        assert!(line.contains(&format!(" {want}s ")) && line.contains(from), "{line}");
        // A profile that is named as a flag takes its place.
        let env = with(&["env", "--profile", "server"]);
        assert!(env.ok().lines().any(|line| line == "unset TCPTUNE_PROFILE"), "{env:?}");
        assert_eq!(with(&[&["run", "--profile", "server", "--"][..], &program].concat()).ok(), "300");
    }
    let which = said(with(home.path(), &["explain", "--dst", "::1"]).env("TCPTUNE_PROFILE", "mine"));
    assert!(which.ok().contains("dst=::1 : off  wins"), "{which:?}");
}

#[test]
fn an_unknown_one_in_the_environment_is_said_and_the_program_runs() {
    let home = directory();
    let nosuch = |args: &[&str]| said(with(home.path(), args).env("TCPTUNE_PROFILE", "cloudnat"));
    let ran = nosuch(&["run", "--keepidle", "9", "--", "echo", "main"]);
    assert_eq!((ran.code, &*ran.stdout), (Some(0), "main\n"), "{ran:?}");
    let message = "TCPTUNE_PROFILE=cloudnat: no such profile; did you mean cloud-nat? there are cloud-nat, ";
    assert!(ran.stderr.contains(message) && ran.stderr.lines().count() == 1, "{ran:?}");
    let explained = nosuch(&["explain", "--keepidle", "9"]);
    assert!(explained.stderr.contains(message), "{explained:?}");
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
    assert!(path.refused(2).contains("the name of a profile has no /; TCPTUNE_CONFIG takes a path"), "{path:?}");
}
