//! What cannot work is said before anything is started.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::Command;

use crate::harness::{TCPTUNE, clean, compiled, directory, installed, library, said, script, tcptune};

const NOBODY: u32 = 65534;

fn is_root() -> bool {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// It is refused with this reason, and started with `--force`.
fn is_refused(program: &Path, reason: &str) {
    let refused = said(tcptune(["run", "--backend", "preload"]).arg(program));
    let message = refused.refused(126);
    assert!(message.contains(reason) && message.contains("not started") && message.contains("--force"), "{message}");
    let forced = said(tcptune(["run", "--backend", "preload", "--force"]).arg(program));
    assert_eq!((forced.code, forced.stdout.as_str()), (Some(0), "started\n"), "{forced:?}");
    assert!(forced.stderr.contains(reason), "{forced:?}");
}

#[test]
fn a_static_program() {
    let directory = directory();
    for (name, options) in [("static", &["-static"][..]), ("static-pie", &["-static-pie"])] {
        is_refused(&compiled(directory.path(), name, options), "static binary");
    }
    let dynamic = compiled(directory.path(), "dynamic", &[]);
    assert_eq!(said(&mut tcptune([&dynamic])).ok(), "started");
    // The loader has no loader of its own either, and preloads.
    assert_eq!(said(tcptune(["/lib64/ld-linux-x86-64.so.2"]).arg(&dynamic)).ok(), "started");
}

#[test]
fn a_script_whose_interpreter_is_static() {
    let directory = directory();
    let program = compiled(directory.path(), "static", &["-static"]);
    let once = script(directory.path(), "once", format!("#!{}\n", program.display()));
    let twice = script(directory.path(), "twice", format!("#!{}\n", once.display()));
    let by_env = script(directory.path(), "by_env", format!("#!/usr/bin/env -S A=b {}\n", program.display()));
    for script in [once, twice, by_env] {
        is_refused(&script, &format!("→ {}: a static binary", program.display()));
    }
}

#[test]
fn a_go_program() {
    let directory = directory();
    // The sections that Go's linker makes, in a program of C.
    let program = compiled(directory.path(), "plain", &[]);
    let note = directory.path().join("note");
    fs::write(&note, "go").expect("written");
    for section in [".note.go.buildid", ".go.buildinfo"] {
        let made = directory.path().join(section);
        let status = Command::new("objcopy")
            .arg(format!("--add-section={section}={}", note.display()))
            .args([&program, &made])
            .status();
        assert!(status.expect("objcopy runs").success());
        is_refused(&made, "a Go program");
    }
}

#[test]
fn a_program_that_go_has_built() {
    let directory = directory();
    let source = directory.path().join("main.go");
    fs::write(&source, "package main\n\nfunc main() { println(\"started\") }\n").expect("written");
    let program = directory.path().join("program");
    let mut go = Command::new("go");
    go.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go")).env("GO111MODULE", "off");
    let status = go.args(["build", "-o"]).arg(&program).arg(&source).status();
    assert!(status.expect("go runs").success());
    let message = said(tcptune(["run", "--backend", "preload"]).arg(program)).refused(126).to_owned();
    assert!(message.contains("a Go program") && !message.contains("static"), "{message}");
}

#[test]
fn another_machine() {
    let directory = directory();
    let program = compiled(directory.path(), "program", &[]);
    let mut image = fs::read(&program).expect("read");
    // e_machine: s390, which is big-endian. So no emulator is registered for such a file (binfmt_misc).
    image[18] = 22;
    let program = script(directory.path(), "other", image);
    let refused = said(&mut tcptune([&program]));
    assert!(refused.refused(126).contains("for s390, 64 bit, and the library is for x86-64, 64 bit"), "{refused:?}");
    // The kernel refuses it, too.
    let forced = said(tcptune(["--force"]).arg(&program));
    assert!(forced.refused(126).contains("Exec format error"), "{forced:?}");
}

#[test]
fn a_loader_that_is_not_there() {
    let directory = directory();
    let program = compiled(directory.path(), "program", &["-Wl,--dynamic-linker=/nosuch/loader"]);
    let refused = said(&mut tcptune([&program]));
    assert!(refused.refused(126).contains("needs the loader /nosuch/loader"), "{refused:?}");
}

#[test]
fn secure_execution() {
    if !is_root() {
        return; // only root can give files away
    }
    let directory = directory();
    let program = compiled(directory.path(), "program", &[]);
    let with_mode = |mode, owner| {
        chown(&program, Some(owner), Some(owner)).expect("chown");
        fs::set_permissions(&program, fs::Permissions::from_mode(mode)).expect("chmod");
    };
    with_mode(0o4755, NOBODY);
    is_refused(&program, "setuid of user 65534");
    with_mode(0o2755, NOBODY);
    is_refused(&program, "setgid of group 65534");
    with_mode(0o2745, NOBODY); // without the group's x it means something else
    assert_eq!(said(&mut tcptune([&program])).ok(), "started");
    with_mode(0o6755, 0);
    assert_eq!(said(&mut tcptune([&program])).ok(), "started", "it gains nothing");

    with_mode(0o755, 0);
    let capability = "import os, sys; os.setxattr(sys.argv[1], 'security.capability', \
                      (0x02000001).to_bytes(4, 'little') + (1 << 10).to_bytes(4, 'little') + bytes(12))";
    assert_eq!(said(clean(&mut Command::new("python3")).args(["-c", capability]).arg(&program)).ok(), "");
    assert_eq!(said(&mut tcptune([&program])).ok(), "started", "root gains nothing");
    let command = installed(Path::new(TCPTUNE), &directory.path().join("tcptune"));
    installed(library(), &directory.path().join("libtcptune.so"));
    let mut as_nobody = Command::new(command);
    let refused = said(clean(&mut as_nobody).current_dir("/").uid(NOBODY).gid(NOBODY).arg(&program));
    assert!(refused.refused(126).contains("file capabilities"), "{refused:?}");
}

#[test]
fn a_program_that_is_not_there_or_not_executable() {
    let directory = directory();
    let file = directory.path().join("file");
    fs::write(&file, "text").expect("written");
    let missing = directory.path().join("missing");
    for (program, code, reason) in [
        (file.to_str().expect("UTF-8"), 126, "is not executable"),
        (directory.path().to_str().expect("UTF-8"), 126, "is a directory"),
        (missing.to_str().expect("UTF-8"), 127, "no such file"),
        ("no-such-program", 127, "no such program in PATH"),
        ("expalin", 127, "did you mean the subcommand explain?"),
        ("", 127, "no such program"),
    ] {
        let said = said(&mut tcptune(["run", program]));
        assert!(said.refused(code).contains(reason), "{said:?}");
    }
    // A later directory of PATH may have one that is.
    let later = directory.path().join("later");
    fs::create_dir(&later).expect("made");
    script(&later, "file", "#!/bin/sh\necho started\n");
    let path = format!("{}:{}:/usr/bin:/bin", directory.path().display(), later.display());
    assert_eq!(said(tcptune(["file"]).env("PATH", path)).ok(), "started");
}

#[test]
fn a_library_that_is_not_there_or_cannot_be_listed() {
    let missing = said(tcptune(["true"]).env("TCPTUNE_LIBRARY", "/nosuch/libtcptune.so"));
    assert_eq!(missing.refused(126), "tcptune: TCPTUNE_LIBRARY=/nosuch/libtcptune.so: no such file");
    let directory = directory();
    let spaced = directory.path().join("a b.so");
    fs::copy(library(), &spaced).expect("copied");
    let refused = said(tcptune(["run", "--library"]).arg(&spaced).arg("true"));
    assert!(refused.refused(126).contains("a space or a colon"), "{refused:?}");
    let alone = installed(Path::new(TCPTUNE), &directory.path().join("bin/tcptune"));
    let nowhere = said(clean(&mut Command::new(&alone)).arg("true"));
    if !Path::new("/usr/lib/x86_64-linux-gnu/libtcptune.so").exists() {
        assert!(nowhere.refused(126).contains("name it with --library"), "{nowhere:?}");
    }
    let beside = installed(library(), &directory.path().join("lib/libtcptune.so"));
    let found = said(clean(&mut Command::new(&alone)).args(["env"]));
    assert_eq!(found.ok(), format!("export LD_PRELOAD={}", beside.display()));
}

#[test]
fn wrong_settings() {
    for (args, message) in [
        (&["--keepidle", "abc"][..], "--keepidle=abc: not accepted; accepted: 1s to 32767s"),
        (&["--nodelay=maybe"], "--nodelay=maybe: not accepted; accepted: on or off"),
        (&["--tos", "ef", "--dscp", "8"], "says the same, and counts"),
        (&["--rule", "dst=x : off"], "--rule:1:1: dst=x: a host name"),
        (
            &["--rule", "dst=::1 : off", "--rule", "port=1 : keepidel=5"],
            "--rule:2:10: keepidel=5: no such setting; did you",
        ),
        (&["--config", "/nosuch"], "/nosuch: no such file"),
        (&["--profile", "nosuch"], "profile nosuch: no such profile; there are cloud-nat, "),
    ] {
        for subcommand in ["run", "env", "explain"] {
            let program = (subcommand == "run").then_some("true");
            let said = said(&mut tcptune([subcommand].iter().chain(args).chain(&program)));
            assert!(said.refused(2).contains(message), "{said:?}");
        }
    }
}
