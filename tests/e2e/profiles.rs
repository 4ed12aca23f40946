//! `TCPTUNE_PROFILE`: one variable in place of several.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::Path;

use crate::harness::mounts::{become_nobody, is_root, on_a_thread, open_directory, write};
use crate::harness::{Ended, Program, library};
use crate::rules::kernels_idle;
use crate::sources::with_own_etc;

/// The idle time of fast-fail.
const FAST: i64 = 5;

/// A new socket in a program with these variables.
fn run(variables: &[(&str, &str)]) -> Ended {
    let program = Program::probe("secure").env("LD_PRELOAD", library());
    let ended = variables.iter().fold(program, |program, (name, value)| program.env(name, value)).run();
    assert_eq!(ended.code(), Some(0), "{ended:#?}");
    ended
}

/// Its idle time, and nothing to complain about.
fn idle(variables: &[(&str, &str)]) -> i64 {
    let ended = run(variables);
    assert_eq!(ended.stderr, "", "{variables:?}: {ended:#?}");
    ended.number("idle")
}

#[test]
fn one_variable_is_enough() {
    let ended = run(&[("TCPTUNE_PROFILE", "fast-fail"), ("TCPTUNE_LOG", "info")]);
    assert_eq!(ended.number("idle"), FAST);
    let said = "KEEPALIVE=on KEEPIDLE=5s KEEPINTVL=1s KEEPCNT=5 USER_TIMEOUT=10000ms CONNECT_TIMEOUT=2000ms";
    assert!(
        ended.stderr.contains("info: in force: ") && said.split(' ').all(|s| ended.stderr.contains(s)),
        "{ended:#?}"
    );
    for unset in ["", "default"] {
        assert_eq!(idle(&[("TCPTUNE_PROFILE", unset)]), kernels_idle(), "{unset:?}");
    }
}

#[test]
fn variables_win_over_it_and_it_wins_over_files() {
    with_own_etc("variables_win_over_it_and_it_wins_over_files", |system, directory| {
        let config = directory.join("config");
        write(&config, b"keepidle = 22\nkeepcnt = 7\n", 0o644);
        write(system, b"keepidle = 11\n", 0o644);
        let profile = ("TCPTUNE_PROFILE", "fast-fail");
        let config = ("TCPTUNE_CONFIG", config.to_str().expect("UTF-8"));
        assert_eq!(idle(&[config]), 22);
        assert_eq!(idle(&[profile]), FAST);
        assert_eq!(idle(&[profile, config]), FAST);
        assert_eq!(idle(&[profile, config, ("TCPTUNE_KEEPIDLE", "33")]), 33);
        assert_eq!(idle(&[profile, ("TCPTUNE_KEEPALIVE_TIME", "33")]), 33, "by another name of the option");
        assert_eq!(idle(&[profile, config, ("TCPTUNE_KEEPIDLE", "default")]), kernels_idle());
        // USER_TIMEOUT=auto of the profile follows the variable: 33 s + 5 × 1 s.
        let ended = run(&[profile, ("TCPTUNE_KEEPIDLE", "33"), ("TCPTUNE_LOG", "info")]);
        assert!(ended.stderr.contains("USER_TIMEOUT=38000ms"), "{ended:#?}");
    });
}

#[test]
fn the_operators_own_are_found_where_the_command_finds_them() {
    with_own_etc("the_operators_own_are_found_where_the_command_finds_them", |_, directory| {
        let put = |directory: &Path, idle: &str| {
            fs::create_dir_all(directory).expect("made");
            write(
                &directory.join("mine.conf"),
                format!("keepidle = {idle}\nprogram=secure : keepcnt=3\n").as_bytes(),
                0o644,
            );
        };
        let home = directory.join("home");
        let (home_variable, xdg_variable) = (home.to_str().expect("UTF-8"), directory.join("xdg"));
        let profile = ("TCPTUNE_PROFILE", "mine");
        let (home_variable, xdg_variable) =
            (("HOME", home_variable), ("XDG_CONFIG_HOME", xdg_variable.to_str().expect("UTF-8")));
        put(Path::new("/etc/tcptune"), "11");
        assert_eq!(idle(&[profile]), 11);
        assert_eq!(idle(&[profile, home_variable]), 11);
        put(&home.join(".config/tcptune"), "12");
        assert_eq!(idle(&[profile, home_variable]), 12);
        assert_eq!(idle(&[profile, home_variable, xdg_variable]), 11);
        put(&directory.join("xdg/tcptune"), "13");
        assert_eq!(idle(&[profile, home_variable, xdg_variable]), 13);
        // A rule of it holds, and a mistake in it is named with its place.
        let wrong = directory.join("xdg/tcptune/wrong.conf");
        write(&wrong, b"keepidle = 14\nkeepidel = 15\nprofile = mine\n", 0o644);
        let ended = run(&[("TCPTUNE_PROFILE", "wrong"), xdg_variable]);
        assert_eq!((ended.number("idle"), ended.stderr.lines().count()), (14, 2), "{ended:#?}");
        assert!(
            ended.stderr.contains("wrong.conf:2:1: keepidel = 15: no such setting; did you mean keepidle?"),
            "{ended:#?}"
        );
        assert!(ended.stderr.contains("wrong.conf:3:1: profile = mine: only as a variable"), "{ended:#?}");
        let ended = run(&[profile, ("TCPTUNE_LOG", "info")]);
        assert!(ended.stderr.contains(", by the rule at /etc/tcptune/mine.conf:2:1"), "{ended:#?}");
    });
}

#[test]
fn an_unknown_name_is_one_line_and_leads_nowhere() {
    let (directory, _) = open_directory();
    write(&directory.path().join("outside.conf"), b"keepidle = 77\n", 0o644);
    fs::create_dir(directory.path().join("tcptune")).expect("made");
    let xdg = ("XDG_CONFIG_HOME", directory.path().to_str().expect("UTF-8"));
    let absolute = format!("{}/outside", directory.path().display());
    for (name, why) in [
        (
            "fastfail",
            "no such profile; did you mean fast-fail? there are cloud-nat, database-client, fast-fail, interactive, server",
        ),
        ("tuesday", "no such profile; there are cloud-nat"),
        ("../outside", "has no /; TCPTUNE_CONFIG takes a path"),
        (&absolute, "has no /; TCPTUNE_CONFIG takes a path"),
        ("..", "no such profile"),
    ] {
        let variables = [("TCPTUNE_PROFILE", name), xdg, ("TCPTUNE_KEEPIDLE", "44")];
        let ended = run(&variables);
        assert_eq!((ended.number("idle"), ended.stderr.lines().count()), (44, 1), "the others hold: {ended:#?}");
        assert!(ended.stderr.contains("warn: TCPTUNE_PROFILE=") && ended.stderr.contains(why), "{ended:#?}");
        let strict = Program::probe("secure").env("LD_PRELOAD", library()).env("TCPTUNE_STRICT", "1");
        let strict = strict.env("TCPTUNE_PROFILE", name).run();
        assert_eq!((strict.code(), &*strict.stdout), (Some(78), ""), "{strict:#?}");
    }
}

/// An image often has the HOME of a user who it is not run as.
#[test]
fn a_home_that_cannot_be_looked_into_has_no_profiles() {
    let (directory, library) = open_directory();
    let home = directory.path().join("home");
    let own = home.join(".config/tcptune");
    fs::create_dir_all(&own).expect("made");
    write(&own.join("server.conf"), b"keepidle = 77\n", 0o644);
    write(&own.join("unreadable.conf"), b"keepidle = 77\n", 0o000);
    let closed = directory.path().join("closed");
    fs::create_dir(&closed).expect("made");
    write(&closed.join("file"), b"", 0o644);
    fs::set_permissions(&closed, Permissions::from_mode(0o000)).expect("its owner");
    let file = closed.join("file");
    on_a_thread(move || {
        if is_root() {
            become_nobody();
        }
        let said = |home: &Path, name: &str| {
            let settings = [("PROFILE", name), ("LOG", "info")];
            let program =
                Program::new("cat").args(["/dev/null"]).env("HOME", home).tuned_by(library.clone(), &settings);
            let ended = program.run();
            ended.succeeded();
            ended.log
        };
        assert!(said(&home, "server").contains("KEEPIDLE=77s"));
        for none in [&closed, &file, Path::new("/dev/null"), Path::new("/nosuch")] {
            let said = said(none, "server");
            assert!(said.contains("KEEPIDLE=300s") && !said.contains("warn"), "{}: {said}", none.display());
        }
        // One that is there is not passed over.
        let said = said(&home, "unreadable");
        assert!(said.contains("unreadable.conf: cannot be read (EACCES); ignored"), "{said}");
    });
}
