//! Secure execution, log files that cannot be written to, and environments that no operator means.

use std::ffi::OsStr;
use std::fs::{self, OpenOptions, Permissions};
use std::io::Write;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use crate::harness::mounts::{become_nobody, is_root, mount, on_a_thread, open_directory, with_own_mounts, write};
use crate::harness::{Ended, LATE, Program, library, probe};

#[test]
fn secure_execution_takes_nothing_from_the_environment() {
    let (library, program) = (library(), probe("secure"));
    with_own_mounts("secure_execution_takes_nothing_from_the_environment", move || {
        let (library, program) = (fs::read(library).expect("read"), fs::read(program).expect("read"));
        // All that this test writes is in a tmpfs, where the bits of setuid and setgid count, and whose etc hides /etc.
        let directory = std::env::temp_dir();
        mount("tmpfs", &directory, "tmpfs", 0, "size=32m,mode=1777");
        let path = |name: &str| directory.join(name);
        let (copy, etc) = (path("libtcptune.so"), path("etc"));
        write(&copy, &library, 0o755);
        fs::create_dir(&etc).expect("made");
        fs::set_permissions(&etc, Permissions::from_mode(0o755)).expect("its owner");
        write(&etc.join("ld.so.preload"), copy.as_os_str().as_bytes(), 0o644);
        for (name, mode) in [("plain", 0o755), ("setuid", 0o4755), ("setgid", 0o2755)] {
            write(&path(name), &program, mode);
        }
        mount(etc.to_str().expect("UTF-8"), Path::new("/etc"), "", libc::MS_BIND, "");
        become_nobody();

        let log = path("log");
        let run = |name: &str, settings: &[(&str, &OsStr)]| {
            let program = Program::new(path(name));
            settings.iter().fold(program, |p, (name, value)| p.env(format!("TCPTUNE_{name}"), value)).run()
        };
        let right = [("KEEPIDLE", OsStr::new("33")), ("LOG", OsStr::new("trace")), ("LOG_FILE", log.as_os_str())];
        let wrong = [("KEEPIDLE", OsStr::new("x")), ("STRICT", OsStr::new("1"))];
        let profile = [("PROFILE", OsStr::new("server"))];
        let facts = |ended: &Ended| ["secure", "mapped", "keepalive", "idle"].map(|name| ended.number(name));

        let untouched = run("plain", &[]).number("idle");
        assert_ne!(untouched, 33);
        for name in ["setuid", "setgid"] {
            for settings in [&right[..], &wrong[..], &[right[2], wrong[0], wrong[1]], &profile] {
                let ended = run(name, settings);
                assert_eq!((ended.code(), &*ended.stderr), (Some(0), ""), "{name}: {ended:#?}");
                assert_eq!(facts(&ended), [1, 1, 0, untouched], "{name}: {ended:#?}");
                assert!(!log.exists(), "{name}: a log file was made");
            }
        }
        // The same without the bits.
        let ended = run("plain", &right);
        assert_eq!(facts(&ended), [0, 1, 1, 33], "{ended:#?}");
        assert!(fs::read_to_string(&log).expect("a log file").contains("KEEPIDLE=33s"));
        assert_eq!(run("plain", &wrong).code(), Some(78));
        assert_eq!(run("plain", &profile).number("idle"), 300);
    });
}

/// Messages to a file that takes none: the program runs on, and only the first message is missed aloud.
fn cannot_log_to(file: &Path, library: PathBuf, error: &str) {
    let file = file.to_str().expect("UTF-8");
    let settings = [("KEEPIDLE", "x"), ("KEEPCNT", "x"), ("LOG_FILE", file)];
    let ended = Program::new("echo").args(["main"]).tuned_by(library, &settings).start().wait_unproven();
    assert_eq!(ended.succeeded(), "main\n", "{file}: the program runs on");
    assert_eq!(ended.stderr.lines().count(), 1, "{file}: one warning: {ended:#?}");
    let warning = format!("TCPTUNE_LOG_FILE={file}: cannot be written to ({error})");
    assert!(ended.stderr.contains(&warning), "{file}: {warning}: {ended:#?}");
}

#[test]
fn a_log_file_without_permission_is_one_warning() {
    let (directory, library) = open_directory();
    let (file, closed) = (directory.path().join("file"), directory.path().join("closed"));
    write(&file, b"before\n", 0o444);
    fs::create_dir(&closed).expect("made");
    fs::set_permissions(&closed, Permissions::from_mode(0o555)).expect("its owner");
    let inside = closed.join("file");
    on_a_thread({
        let (file, inside) = (file.clone(), inside.clone());
        move || {
            if is_root() {
                become_nobody();
            }
            cannot_log_to(&file, library.clone(), "EACCES");
            cannot_log_to(&inside, library, "EACCES");
        }
    });
    assert_eq!(fs::read_to_string(file).expect("the file"), "before\n");
    assert!(!inside.exists());
}

#[test]
fn a_full_device_is_one_warning() {
    cannot_log_to(Path::new("/dev/full"), library(), "ENOSPC");
}

#[test]
fn a_full_file_system_is_one_warning() {
    let (directory, library) = open_directory();
    with_own_mounts("a_full_file_system_is_one_warning", move || {
        let small = directory.path().join("small");
        fs::create_dir(&small).expect("made");
        mount("tmpfs", &small, "tmpfs", 0, "size=4k");
        let mut filler = OpenOptions::new().write(true).create_new(true).open(small.join("filler")).expect("made");
        while filler.write_all(b"x").is_ok() {}
        let file = small.join("file");
        cannot_log_to(&file, library.clone(), "ENOSPC");
        assert_eq!(fs::read(&file).expect("the file could be made").len(), 0);
        // Room for a part of the first line.
        let full = filler.metadata().expect("its size").len();
        filler.set_len(full - 10).expect("cut");
        cannot_log_to(&small.join("filler"), library, "ENOSPC");
        assert_eq!(filler.metadata().expect("its size").len(), full);
    });
}

#[test]
fn a_limit_on_the_size_of_files_does_not_end_the_program() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let file = directory.path().join("log");
    fs::write(&file, [b'\n'; 4096]).expect("written");
    let run = |script: &str, log_file: &str| {
        let settings = [("KEEPIDLE", "x"), ("LOG_FILE", log_file)];
        Program::new("sh").args(["-c", script]).tuned(&settings).start().wait_unproven()
    };
    // A write past the limit raises SIGXFSZ. One block is enough for what the program and the warning write.
    let ended = run("ulimit -f 1; exec echo main", file.to_str().expect("UTF-8"));
    assert_eq!(ended.succeeded(), "main\n", "{ended:#?}");
    assert_eq!(ended.stderr.lines().count(), 1, "one warning: {ended:#?}");
    assert!(ended.stderr.contains("TCPTUNE_LOG_FILE="), "{ended:#?}");
    // Standard error is a file here, too; the shell itself may still write to it.
    let ended = run("ulimit -f 0; exec cat /dev/null", "");
    assert!(ended.status.success() && ended.stderr.contains("TCPTUNE_KEEPIDLE=x"), "{ended:#?}");
}

/// Starts a program with these entries behind `TCPTUNE_KEEPIDLE=33`, which holds; the log is the result.
fn starts_with<E: AsRef<[u8]>>(entries: &[E]) -> String {
    let ended = Program::probe("environment")
        .args([probe("secure")])
        .args(entries.iter().map(|entry| OsStr::from_bytes(entry.as_ref())))
        .tuned(&[("KEEPIDLE", "33")])
        .run();
    ended.succeeded();
    assert_eq!((ended.number("mapped"), ended.number("idle")), (1, 33), "{ended:#?}");
    assert_eq!(ended.stderr, "");
    assert!(ended.elapsed < LATE, "started after {:?}", ended.elapsed);
    ended.log
}

#[test]
fn ten_thousand_variables_do_not_delay_the_start() {
    let entries: Vec<_> = (0..10_000).map(|i| format!("TCPTUNE_VARIABLE_{i:05}=x")).collect();
    let log = starts_with(&entries);
    assert!(log.contains("TCPTUNE_VARIABLE_00000=x: no such setting"), "{log}");
    let entries: Vec<_> = (0..10_000).map(|i| format!("TCPTUNE_KEEPIDLE={i}")).collect();
    let log = starts_with(&entries);
    assert!(!log.contains("warn"), "of one name, the first counts: {log}");
}

#[test]
fn long_values_and_names_are_named_in_short_lines() {
    // execve(2) takes 128 KiB at most in one string.
    let names = ["KEEPCNT", "SYNCNT", "USER_TIMEOUT", "CONNECT_TIMEOUT", "NODELAY", "PRECEDENCE", "DISABLE"];
    let mut entries = names.map(|name| format!("TCPTUNE_{name}={}", "9".repeat(100_000))).to_vec();
    entries.push(format!("TCPTUNE_{}=x", "N".repeat(100_000)));
    let log = starts_with(&entries);
    for name in names {
        assert!(log.contains(&format!("warn: TCPTUNE_{name}=999")), "{name}: {log}");
    }
    assert!(log.contains("warn: TCPTUNE_NNN"), "{log}");
    let mut warnings = log.lines().filter(|line| line.contains("warn: "));
    assert!(warnings.all(|line| line.contains("tcptune[") && line.ends_with("; ignored")), "{log}");
}

#[test]
fn entries_that_are_no_variables_are_harmless() {
    let log = starts_with(&["", "=", "=x", "==", "TCPTUNE", "TCPTUNE_", "TCPTUNE_KEEPIDLE", "TCPTUNE_KEEPCNT"]);
    assert!(!log.contains("warn"), "{log}");
    let log = starts_with(&["TCPTUNE_=", "TCPTUNE_==", "TCPTUNE_=1"]);
    assert!(log.contains("warn: TCPTUNE_=: no such setting"), "{log}");
}

#[test]
fn names_and_values_that_are_not_utf8_are_named() {
    let entries: [&[u8]; 6] = [
        b"\xff=\xff",
        b"TCPTUNE_\xff\xfe=1",
        b"TCPTUNE_KEEPCNT=\x80",
        b"TCPTUNE_SYNCNT=3\xe9",
        b"TCPTUNE_\xe9",
        b"\xfe",
    ];
    let log = starts_with(&entries);
    for named in ["TCPTUNE_\u{fffd}\u{fffd}=1", "TCPTUNE_KEEPCNT=\u{fffd}", "TCPTUNE_SYNCNT=3\u{fffd}"] {
        assert!(log.contains(&format!("warn: {named}: ")), "{named}: {log}");
    }
    assert_eq!(log.matches("warn: ").count(), 3, "{log}");
}
