//! Where settings come from: /etc/tcptune.conf, the file of `TCPTUNE_CONFIG`, variables; and for which programs.

use std::ffi::{CString, OsStr};
use std::fs::{self, Permissions};
use std::io::Read;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, OwnedFd};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::{PermissionsExt, chown, symlink};
use std::os::unix::net::UnixStream;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::harness::mounts::{
    NOBODY, become_nobody, is_root, mount, on_a_thread, open_directory, with_own_mounts, write,
};
use crate::harness::{Ended, LATE, Program, eventually, library, outside, probe, python};
use crate::rules::{CLIENT, kernels_idle, server};
use crate::transparent::calls;

/// The directory that is /etc while `steps` run, and one beside it, in a file system that is gone afterwards.
pub fn with_own_etc(test: &str, steps: impl FnOnce(&Path, &Path) + Send + 'static) {
    let (library, probe) = (library(), probe("secure")); // built before /etc changes
    assert!(library.is_file() && probe.is_file());
    with_own_mounts(test, move || {
        let directory = tempfile::tempdir().expect("temporary directory");
        mount("tmpfs", directory.path(), "tmpfs", 0, "size=32m,mode=755");
        let etc = directory.path().join("etc");
        fs::create_dir(&etc).expect("made");
        mount(etc.to_str().expect("UTF-8"), Path::new("/etc"), "", libc::MS_BIND, "");
        steps(&etc.join("tcptune.conf"), directory.path());
        // SAFETY: a C string.
        unsafe {
            libc::umount2(c"/etc".as_ptr(), libc::MNT_DETACH);
            let path = CString::new(directory.path().as_os_str().as_bytes()).expect("no NUL");
            libc::umount2(path.as_ptr(), libc::MNT_DETACH);
        }
    });
}

/// A new socket under the library and these variables alone: messages go to standard error.
fn run(variables: &[(&str, &str)]) -> Ended {
    let program = Program::probe("secure").env("LD_PRELOAD", library());
    variables.iter().fold(program, |p, (name, value)| p.env(format!("TCPTUNE_{name}"), value)).run()
}

fn idle(variables: &[(&str, &str)]) -> i64 {
    let ended = run(variables);
    ended.succeeded();
    assert_eq!(ended.stderr, "", "{variables:?}: {ended:#?}");
    ended.number("idle")
}

/// One line that says `what`, and the program runs as if the source were not there; or, with STRICT, not at all.
fn assert_refused(variables: &[(&str, &str)], what: &str, idle: i64) {
    let ended = run(variables);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (Some(0), 1), "{what}: {ended:#?}");
    assert!(
        ended.stderr.contains(&format!("warn: {what}")) && ended.stderr.contains("; ignored"),
        "{what}: {ended:#?}"
    );
    assert_eq!(ended.number("idle"), idle, "{what}: {ended:#?}");
    let strict = run(&[variables, &[("STRICT", "1")]].concat());
    assert_eq!((strict.code(), &*strict.stdout), (Some(78), ""), "{what}: {strict:#?}");
    assert!(strict.stderr.contains(what), "{what}: {strict:#?}");
}

fn mkfifo(path: &Path) {
    let path = CString::new(path.as_os_str().as_bytes()).expect("no NUL");
    // SAFETY: a C string.
    assert_eq!(unsafe { libc::mkfifo(path.as_ptr(), 0o644) }, 0);
}

#[test]
fn the_systems_file_holds_without_any_variable() {
    with_own_etc("the_systems_file_holds_without_any_variable", |file, _| {
        let off = kernels_idle();
        assert_eq!(idle(&[]), off, "there is no file");
        write(file, b"# for all programs\nkeepidle = 33\r\n", 0o644);
        assert_eq!(idle(&[]), 33);
        assert_eq!(idle(&[("DISABLE", "1")]), off);
        write(file, b"program=secure : keepidle=34 ; program=* : off", 0o400);
        assert_eq!(idle(&[]), 34);
        write(file, b"", 0o644);
        assert_eq!(idle(&[]), off);
        write(file, b"keepidle = 33\nstrict = on\n", 0o644);
        assert_eq!(run(&[("KEEPCNT", "x")]).code(), Some(78), "STRICT of the file counts");
        assert_eq!(run(&[("KEEPCNT", "x"), ("STRICT", "off")]).code(), Some(0));
    });
}

#[test]
fn the_systems_file_must_be_roots_alone() {
    with_own_etc("the_systems_file_must_be_roots_alone", |file, directory| {
        let off = kernels_idle();
        let refused = |problem: &str| assert_refused(&[], &format!("/etc/tcptune.conf: {problem}"), off);
        let must = "must belong to root, and be writable by nobody else";
        for mode in [0o664, 0o646, 0o666, 0o620, 0o602] {
            write(file, b"keepidle = 33\n", mode);
            refused(must);
        }
        for mode in [0o644, 0o600, 0o755] {
            write(file, b"keepidle = 33\n", mode);
            assert_eq!(idle(&[]), 33, "{mode:o}");
        }
        chown(file, Some(NOBODY), None).expect("root");
        refused(must);
        fs::remove_file(file).expect("removed");

        // What counts of a link is where it leads.
        let target = directory.join("target");
        symlink(&target, file).expect("a link");
        assert_eq!(idle(&[]), off, "a link to nowhere");
        write(&target, b"keepidle = 33\n", 0o644);
        assert_eq!(idle(&[]), 33);
        write(&target, b"keepidle = 33\n", 0o664);
        refused(must);
        write(&target, b"keepidle = 33\n", 0o644);
        chown(&target, Some(NOBODY), None).expect("root");
        refused(must);
        fs::remove_file(&target).expect("removed");
        symlink("/dev/zero", &target).expect("a link");
        refused("is not a regular file");
        fs::remove_file(file).expect("removed");

        mkfifo(file);
        refused("is not a regular file");
        fs::remove_file(file).expect("removed");
        fs::create_dir(file).expect("made");
        refused("is not a regular file");
    });
}

#[test]
fn the_last_source_wins() {
    with_own_etc("the_last_source_wins", |file, directory| {
        let off = kernels_idle();
        let config = directory.join("config");
        let path = config.to_str().expect("UTF-8");
        let set = |system: &str, user: &str, variable: &str| {
            write(file, system.as_bytes(), 0o644);
            write(&config, user.as_bytes(), 0o644);
            vec![("CONFIG", path), ("KEEPIDLE", variable)]
                .into_iter()
                .map(|(n, v)| (n, v.to_owned()))
                .collect::<Vec<_>>()
        };
        let of = |variables: &[(&str, String)]| {
            let variables: Vec<_> = variables.iter().map(|(n, v)| (*n, v.as_str())).collect();
            idle(&variables)
        };
        let line = |value: &str| if value.is_empty() { String::new() } else { format!("keepidle = {value}") };
        for (system, user, variable, expected) in [
            ("", "", "", off),
            ("11", "", "", 11),
            ("11", "22", "", 22),
            ("11", "22", "33", 33),
            ("11", "", "33", 33),
            ("", "22", "33", 33),
            ("", "22", "", 22),
            // `default` takes away what came before, and nothing that comes later.
            ("11", "default", "", off),
            ("11", "default", "33", 33),
            ("11", "22", "default", off),
            ("default", "22", "", 22),
            ("11", "", "DEFAULT", off),
        ] {
            let found = of(&set(&line(system), &line(user), variable));
            assert_eq!(found, expected, "{system:?} in the system's file, {user:?} in the user's, {variable:?}");
        }
        // One option by two names.
        assert_eq!(of(&set("keepalive_time = 11", "keepidle = 22", "")), 22);
        assert_eq!(of(&set("keepidle = 11", "keepalive_time = default", "")), off);
        // A rule lies over the globals of all sources, whichever it is from.
        assert_eq!(of(&set("program=secure : keepidle=11", "keepidle = 22", "33")), 11);
        assert_eq!(of(&set("program=secure : keepcnt=2", "keepidle = 22", "")), 22);
        assert_eq!(of(&set("program=secure : off", "keepidle = 22", "33")), off);
        assert_eq!(of(&set("program=secure : keepidle=default", "keepidle = 22", "33")), off);
    });
}

#[test]
fn rules_of_the_last_source_are_looked_at_first() {
    let script = format!("{CLIENT}\n");
    with_own_etc("rules_of_the_last_source_are_looked_at_first", move |file, directory| {
        let (_server, port) = server();
        let config = directory.join("config");
        write(file, b"\n  dst=127.0.0.1,127.0.0.2,127.0.0.3 : keepidle=11", 0o644);
        write(&config, b"# mine\ndst=127.0.0.1,127.0.0.2 : keepidle=22\n", 0o644);
        let settings = [
            ("CONFIG", config.to_str().expect("UTF-8")),
            ("RULES", "dst=127.0.0.9 : off ; dst=127.0.0.1 : keepidle=33"),
            ("KEEPIDLE", "100"),
            ("LOG", "debug"),
        ];
        let peers = [1, 2, 3, 4].map(|n| format!("127.0.0.{n}:{port}"));
        let ended = Program::python(&script).args(&peers).tuned(&settings).run();
        ended.succeeded();
        let user = format!("{}:2:1", config.display());
        let places =
            ["the rule at TCPTUNE_RULES:1:23", &format!("the rule at {user}"), "the rule at /etc/tcptune.conf:2:3"];
        for ((peer, idle), place) in peers.iter().zip([33, 22, 11, 100]).zip(places.iter().chain(&["no rule matches"]))
        {
            assert_eq!(ended.number(peer), idle, "{peer}: {ended:#?}");
            assert!(ended.log.contains(&format!("connects to {peer}: {place}\n")), "{peer}: {place}: {}", ended.log);
        }
    });
}

/// The file of `TCPTUNE_CONFIG`, as `make` makes it, is refused as a whole.
fn config_refused(make: impl FnOnce(&Path), problem: &str) {
    let (directory, _) = open_directory();
    let path = directory.path().join("config");
    make(&path);
    let path = path.to_str().expect("UTF-8");
    let shown: String = path.chars().rev().take(20).collect::<Vec<_>>().into_iter().rev().collect();
    let ended = run(&[("CONFIG", path), ("KEEPIDLE", "44")]);
    assert_eq!((ended.code(), ended.stderr.lines().count()), (Some(0), 1), "{problem}: {ended:#?}");
    assert_eq!(ended.number("idle"), 44, "the other sources hold: {ended:#?}");
    assert!(ended.stderr.contains(&format!("{shown}: {problem}; ignored")), "{problem}: {ended:#?}");
    let strict = run(&[("CONFIG", path), ("STRICT", "1")]);
    assert_eq!((strict.code(), &*strict.stdout), (Some(78), ""), "{strict:#?}");
}

#[test]
fn a_config_file_that_is_none_is_one_line() {
    config_refused(|_| (), "no such file");
    config_refused(mkfifo, "is not a regular file");
    config_refused(|path| fs::create_dir(path).expect("made"), "is not a regular file");
    config_refused(|path| symlink("/dev/zero", path).expect("a link"), "is not a regular file");
    config_refused(|path| symlink(path, path).expect("a link"), "cannot be read (ELOOP)");
    let huge = |path: &Path| fs::File::create(path).expect("made").set_len((16 << 20) + 1).expect("sparse");
    config_refused(huge, "is larger than 16 MiB");
    let (directory, library) = open_directory(); // who builds in a private directory can still read it
    let path = directory.path().join("config");
    write(&path, b"keepidle = 5\n", 0o000);
    on_a_thread(move || {
        if is_root() {
            become_nobody();
        }
        let settings = [("CONFIG", path.to_str().expect("UTF-8")), ("KEEPIDLE", "44")];
        let program = Program::new("cat").args(["/dev/null"]).tuned_by(library, &settings).run();
        program.succeeded();
        assert!(program.log.contains("cannot be read (EACCES); ignored"), "{program:#?}");
        assert!(program.log.contains("in force: KEEPALIVE=on KEEPIDLE=44s"), "{program:#?}");
    });
}

#[test]
fn a_file_that_is_no_text_or_no_configuration_ends_the_list_of_mistakes() {
    let (directory, _) = open_directory();
    let path = directory.path().join("config");
    let run = |bytes: &[u8]| {
        fs::write(&path, bytes).expect("written");
        run(&[("CONFIG", path.to_str().expect("UTF-8"))])
    };
    let ended = run(b"keepcnt = 3\n# caf\xe9 is fine in a comment\nkeepidle = 3\xe9\nlog_\xff = x\nkeepidle = 55\n");
    assert_eq!((ended.number("idle"), ended.stderr.lines().count()), (55, 2), "{ended:#?}");
    assert!(ended.stderr.contains("config:3:1: keepidle = 3\u{fffd}: not accepted"), "{ended:#?}");
    assert!(ended.stderr.contains("config:4:1: log_\u{fffd} = x: no such setting"), "{ended:#?}");

    let ended =
        run(&b"keepidle = 5\n".iter().chain(&b"a\n".repeat(8 << 20)[..(16 << 20) - 13]).copied().collect::<Vec<_>>());
    let lines: Vec<_> = ended.stderr.lines().collect();
    assert_eq!((ended.number("idle"), lines.len()), (5, 101), "{ended:#?}");
    assert!(lines[100].contains("config:102:1: a: 100 mistakes before this; nothing from here on counts"), "{lines:?}");
    assert!(ended.elapsed < LATE, "{:?}", ended.elapsed);
}

#[test]
fn mistakes_name_the_place_and_what_was_expected() {
    with_own_etc("mistakes_name_the_place_and_what_was_expected", |file, directory| {
        let config = directory.join("config");
        let cases = [
            ("keepidel = 5", 1, "keepidel = 5: no such setting; did you mean keepidle?"),
            ("  keepidle = never", 3, "keepidle = never: not accepted; accepted: 1s to 32767s"),
            ("keepcnt = 2 ; dst=10.0.0.300 : off", 15, "dst=10.0.0.300: expected an address, or a network"),
            ("dst=db.example : off", 1, "dst=db.example: a host name is resolved before connect"),
            ("dst=::1 : keepidle=5 strict=on", 22, "strict=on: holds for the whole process, not in a rule"),
            ("dst=::1 : mptcp=on", 11, "mptcp=on: not beside dst, src, port or role"),
            ("dst=::1 role=server : off", 1, "dst=::1: no socket has both dst and role=server"),
            ("port=80-79 : off", 1, "port=80-79: expected ports from 0 to 65535"),
            ("dst=::1", 1, "dst=::1: a rule needs \" : \""),
            ("config = /other", 1, "config = /other: only as a variable"),
            ("keepidle = 5 ; keepidle = 6", 16, "keepidle = 6: KEEPIDLE is set twice; this one does not count"),
            ("keepidle", 1, "keepidle: expected NAME = VALUE, or a rule"),
        ];
        for (line, column, message) in cases {
            let text = format!("\n# a comment\n{line}\n");
            write(file, text.as_bytes(), 0o644);
            let refused = |variables: &[(&str, &str)], source: &str| {
                let ended = run(variables);
                let expected = format!("warn: {source}:3:{column}: {message}");
                assert!(ended.stderr.contains(&expected), "{expected}: {ended:#?}");
                assert_eq!((ended.code(), ended.stderr.lines().count()), (Some(0), 1), "{line}: {ended:#?}");
                let strict = run(&[variables, &[("STRICT", "1")]].concat());
                assert_eq!((strict.code(), &*strict.stdout), (Some(78), ""), "{line}: {strict:#?}");
                assert!(strict.stderr.contains("the program is not started"), "{strict:#?}");
            };
            refused(&[], "/etc/tcptune.conf");
            write(file, b"", 0o644);
            write(&config, text.as_bytes(), 0o644);
            let path = config.to_str().expect("UTF-8");
            refused(&[("CONFIG", path)], path);
            if message.contains("dst=") || message.contains("port=") {
                refused(&[("RULES", &text.replace("keepcnt = 2", "uid=0 : off"))], "TCPTUNE_RULES");
            }
        }
        // One mistake of the globals is one line, however many rules there are.
        write(file, b"dst=::1 : nodelay=on\ndst=::2 : nodelay=on", 0o644);
        let far = [("USER_TIMEOUT", "auto"), ("KEEPIDLE", "32767"), ("KEEPINTVL", "32767"), ("KEEPCNT", "127")];
        let ended = run(&far);
        assert_eq!(ended.stderr.matches("warn: TCPTUNE_USER_TIMEOUT=auto").count(), 1, "{ended:#?}");
    });
}

#[test]
fn empty_and_default_rules_and_config_are_as_if_unset() {
    for value in ["", " ", "default", "Default", " default "] {
        for name in ["RULES", "CONFIG", "ONLY_PROGRAMS", "SKIP_PROGRAMS"] {
            assert_eq!(idle(&[(name, value), ("KEEPIDLE", "44"), ("STRICT", "1")]), 44, "{name}={value:?}");
        }
    }
}

#[test]
fn in_secure_execution_only_the_systems_file_counts() {
    with_own_etc("in_secure_execution_only_the_systems_file_counts", |file, directory| {
        let path = |name: &str| directory.join(name);
        let (copy, config, log) = (path("libtcptune.so"), path("config"), path("open/log"));
        write(&copy, &fs::read(library()).expect("read"), 0o755);
        write(&file.with_file_name("ld.so.preload"), copy.as_os_str().as_bytes(), 0o644);
        write(&config, b"keepidle = 22\nkeepcnt = x\n", 0o644);
        write(&path("setuid"), &fs::read(probe("secure")).expect("read"), 0o4755);
        fs::create_dir(path("open")).expect("made");
        fs::set_permissions(path("open"), Permissions::from_mode(0o777)).expect("its owner");
        let off = kernels_idle();
        for (text, expected) in [("keepidle = 11\n", 11), ("program=setuid : keepidle=12\n", 12), ("", off)] {
            write(file, text.as_bytes(), 0o644);
            let (program, config, log_file) = (path("setuid"), config.clone(), log.clone());
            let ended = on_a_thread(move || {
                become_nobody();
                let variables = [
                    ("KEEPIDLE", OsStr::new("33")),
                    ("CONFIG", config.as_os_str()),
                    ("RULES", OsStr::new("program=* : off")),
                    ("SKIP_PROGRAMS", OsStr::new("*")),
                    ("STRICT", OsStr::new("1")),
                    ("LOG", OsStr::new("trace")),
                    ("LOG_FILE", log_file.as_os_str()),
                ];
                let program = Program::new(program);
                variables.iter().fold(program, |p, (name, value)| p.env(format!("TCPTUNE_{name}"), value)).run()
            });
            assert_eq!((ended.code(), &*ended.stderr), (Some(0), ""), "{text}: {ended:#?}");
            assert_eq!(["secure", "mapped", "idle"].map(|n| ended.number(n)), [1, 1, expected], "{text}: {ended:#?}");
            assert!(!log.exists(), "{text}: a log file was made");
        }
        // Its mistakes are told there, too, and STRICT of the file holds.
        write(file, b"keepidle = x\nstrict = on\n", 0o644);
        let program = path("setuid");
        let ended = on_a_thread(move || {
            become_nobody();
            Program::new(program).env("TCPTUNE_STRICT", "off").run()
        });
        assert_eq!((ended.code(), &*ended.stdout), (Some(78), ""), "{ended:#?}");
        assert!(ended.stderr.contains("/etc/tcptune.conf:1:1: keepidle = x: not accepted"), "{ended:#?}");

        // A socket as standard error belongs to a peer; JOURNAL_STREAM, which says otherwise, is of the environment.
        write(file, b"keepidle = x\n", 0o644);
        write(&path("plain"), &fs::read(probe("secure")).expect("read"), 0o755);
        for (name, told) in [("plain", true), ("setuid", false)] {
            let program = path(name);
            let text = on_a_thread(move || {
                become_nobody();
                let (mut ours, its) = UnixStream::pair().expect("a pair");
                let mut stat = std::mem::MaybeUninit::<libc::stat>::uninit();
                // SAFETY: a live descriptor, and room that fstat fills.
                let stat = unsafe {
                    assert_eq!(libc::fstat(its.as_raw_fd(), stat.as_mut_ptr()), 0);
                    stat.assume_init()
                };
                let mut command = Command::new(program);
                command.env("JOURNAL_STREAM", format!("{}:{}", stat.st_dev, stat.st_ino));
                command.stdout(Stdio::null()).stderr(OwnedFd::from(its));
                assert!(command.status().expect("it starts").success());
                drop(command); // and with it the other end
                let mut text = String::new();
                ours.read_to_string(&mut text).expect("what was written");
                text
            });
            assert_eq!(text.contains("keepidle = x: not accepted"), told, "{name}: {text}");
        }
    });
}

/// Copies of the probe by these names, and a script that runs them in turn.
fn wrapper(names: &[&str]) -> (tempfile::TempDir, PathBuf) {
    let (directory, _) = open_directory();
    let script = directory.path().join("wrapper");
    let run = names.iter().map(|name| {
        fs::copy(probe("secure"), directory.path().join(name)).expect("copied");
        format!("./{name} | sed -n 's/^idle/{name}/p'")
    });
    let first = "#!/bin/sh\ncd \"${0%/*}\"".to_owned();
    let text = std::iter::once(first).chain(run).collect::<Vec<_>>().join("\n");
    write(&script, text.as_bytes(), 0o755);
    (directory, script)
}

#[test]
fn a_shell_wrapper_tunes_only_the_programs_that_are_named() {
    let (_directory, script) = wrapper(&["legacy-app", "legacy-tool", "other"]);
    let off = kernels_idle();
    for (settings, expected) in [
        (&[] as &[_], [33, 33, 33]),
        (&[("ONLY_PROGRAMS", "legacy-app")], [33, off, off]),
        (&[("ONLY_PROGRAMS", "legacy-*")], [33, 33, off]),
        (&[("ONLY_PROGRAMS", "sed, other ,legacy-app")], [33, off, 33]),
        (&[("ONLY_PROGRAMS", "nothing")], [off, off, off]),
        (&[("SKIP_PROGRAMS", "legacy-app")], [off, 33, 33]),
        (&[("SKIP_PROGRAMS", "*-tool,sh,wrapper")], [33, off, 33]),
        (&[("ONLY_PROGRAMS", "legacy-*"), ("SKIP_PROGRAMS", "*tool")], [33, off, off]),
    ] {
        for source in [&[("KEEPIDLE", "33")] as &[_], &[("RULES", "program=* : keepidle=33")]] {
            let ended = Program::new(&script).tuned(&[source, settings].concat()).run();
            ended.succeeded();
            let found = ["legacy-app", "legacy-tool", "other"].map(|name| ended.number(name));
            assert_eq!(found, expected, "{settings:?} with {source:?}: {ended:#?}");
        }
    }
    // A mistake is no concern of programs that are left alone, and STRICT does not keep them from starting.
    let settings = [("ONLY_PROGRAMS", "other"), ("KEEPIDLE", "33"), ("KEEPCNT", "x"), ("STRICT", "1")];
    let ended = Program::new(&script).tuned(&settings).run();
    assert!(ended.stdout.contains(&format!("legacy-app={off}")) && !ended.stdout.contains("other"), "{ended:#?}");
}

#[test]
fn a_wrapper_of_curl_and_python_tunes_one_of_them() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a server");
    let addr = server.local_addr().expect("its address");
    let connect = format!("import socket; s = socket.create_connection(('127.0.0.1', {})); s.recv(1)", addr.port());
    let script = format!(
        "curl -s --noproxy '*' --no-keepalive http://{addr}/ & echo curl=$!; {:?} -I -c \"{connect}\" & echo python=$!; wait",
        python()
    );
    let off = kernels_idle();
    for (only, expected) in [("curl", [33, off]), ("python*", [off, 33]), ("sh", [off, off])] {
        let settings = [("KEEPIDLE", "33"), ("ONLY_PROGRAMS", only)];
        let running = Program::new("sh").args(["-c", &script]).tuned(&settings).start();
        let _connections = [server.accept().expect("one connects"), server.accept().expect("the other connects")];
        running.printed("python=");
        let found = ["curl=", "python="].map(|name| {
            let text = running.stdout();
            let pid =
                text.lines().find_map(|line| line.strip_prefix(name)).expect("printed").parse().expect("a number");
            let mut socket = None;
            eventually("the connection is among the program's descriptors", || {
                socket = outside::socket_to(pid, addr);
                socket.is_some()
            });
            i64::from(outside::option(&socket.expect("just seen"), libc::IPPROTO_TCP, libc::TCP_KEEPIDLE))
        });
        assert_eq!(found, expected, "{only}");
        running.kill();
    }
}

#[test]
fn a_program_that_is_not_named_costs_no_system_call() {
    let plain = calls("tcp", None);
    for scope in [("ONLY_PROGRAMS", "curl"), ("SKIP_PROGRAMS", "sock*"), ("RULES", "program=sockets : off")] {
        let settings = [("KEEPIDLE", "60"), ("CONNECT_TIMEOUT", "3"), scope];
        assert_eq!(plain, calls("tcp", Some(&settings)), "{scope:?}");
    }
    let named = [("KEEPIDLE", "60"), ("CONNECT_TIMEOUT", "3"), ("ONLY_PROGRAMS", "sockets")];
    assert!(calls("tcp", Some(&named)).len() > plain.len());
}
