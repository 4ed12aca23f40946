//! Options hold in every program, whoever runs it, and whatever it sets itself.

use std::ffi::OsStr;
use std::fs::{self, Permissions};
use std::os::unix::fs::{PermissionsExt, symlink};
use std::path::Path;
use std::process::Command;

use crate::command::said;
use crate::harness::{STATIC, Server, go, numbers, output, probe, run, users};

const IDLE: &[&str] = &["--backend", "notify", "--keepidle", "77"];

#[test]
fn a_connection_has_its_options() {
    let server = Server::start();
    for user in users() {
        for kind in STATIC.iter().chain(&["dynamic"]) {
            let blocking = numbers(&output(user, IDLE, &probe(kind), &["blocking", server.port()]));
            assert_eq!([blocking[0], blocking[2], blocking[3]], [0, 1, 77], "{kind} as {user}");
            let nonblocking = numbers(&output(user, IDLE, &probe(kind), &["nonblocking", server.port()]));
            assert_eq!([nonblocking[1], nonblocking[3]], [0, 77], "{kind} as {user}");
        }
    }
}

#[test]
fn a_profile_of_the_environment_holds() {
    let server = Server::start();
    let own = tempfile::tempdir().expect("temporary directory");
    std::fs::create_dir_all(own.path().join("tcptune")).expect("made");
    std::fs::write(own.path().join("tcptune/mine.conf"), "# Mine\nkeepidle = 55\n").expect("written");
    for (variables, flags, idle) in [
        (&[("PROFILE", "cloud-nat")][..], &[][..], 120),
        (&[("PROFILE", "cloud-nat"), ("KEEPIDLE", "33")], &[], 33),
        (&[("PROFILE", "cloud-nat")], &["--keepidle", "44"], 44),
        (&[("PROFILE", "cloud-nat")], &["--profile", "server"], 300),
        (&[("PROFILE", "mine")], &[], 55),
    ] {
        let flags = [&["--backend", "notify"], flags].concat();
        let mut run = run(users()[0], &flags, &probe("static-glibc"), &["blocking", server.port()]);
        run.envs(variables.iter().map(|(name, value)| (format!("TCPTUNE_{name}"), value)));
        let said = said(run.env("XDG_CONFIG_HOME", own.path())).ok().to_owned();
        assert_eq!(numbers(&said)[3], idle, "{variables:?} {flags:?}");
    }
}

#[test]
fn without_a_setting_it_has_the_kernels() {
    let server = Server::start();
    let plain = said(Command::new(probe("static-glibc")).args(["blocking", server.port()])).ok().to_owned();
    let under = output(users()[0], &["--backend", "notify"], &probe("static-glibc"), &["blocking", server.port()]);
    assert_eq!(numbers(&plain)[2..], numbers(&under)[2..]);
    assert_ne!(numbers(&plain)[3], 77);
}

#[test]
fn the_environment_wins_over_what_the_program_sets_and_its_mistakes_are_its_own() {
    let server = Server::start();
    for user in users() {
        for kind in STATIC {
            let own = output(user, IDLE, &probe(kind), &["own", server.port()]);
            let (einval, efault, ebadf) = (libc::EINVAL, libc::EFAULT, libc::EBADF);
            assert_eq!(own, format!("77 0 77 {einval} {efault} {einval} {ebadf} 0 0 77"), "{kind} as {user}");
        }
    }
    let program = [IDLE, &["--precedence", "program"]].concat();
    let own = output(users()[0], &program, &probe("static-glibc"), &["own", server.port()]);
    assert!(own.starts_with("5 0 6 "), "its own values stay: {own}");
}

#[test]
fn what_is_accepted_inherits_and_the_backlog_is_another() {
    for user in users() {
        for kind in STATIC {
            let flags = [IDLE, &["--backlog", "9", "--reuseaddr", "on"]].concat();
            assert_eq!(output(user, &flags, &probe(kind), &["server"]), "0 9 1 77 77", "{kind} as {user}");
        }
    }
}

#[test]
fn a_rule_looks_at_where_a_socket_goes() {
    let server = Server::start();
    let user = users()[0];
    let port = format!("port={} : keepidle=88", server.port());
    let flags = ["--backend", "notify", "--rule", &port, "--rule", "role=server : keepidle=33"];
    let blocking = numbers(&output(user, &flags, &probe("static-glibc"), &["blocking", server.port()]));
    assert_eq!(blocking[3], 88);
    let of_server = numbers(&output(user, &flags, &probe("static-glibc"), &["server"]));
    assert_eq!(of_server[3], 33, "of an accepted one, the listener's");
    assert_ne!(of_server[4], 33);
    let own = output(user, &flags, &probe("static-glibc"), &["own", server.port()]);
    assert!(own.starts_with("88 0 88 "), "{own}");
    let names = ["--backend", "notify", "--keepidle", "77", "--only-programs", "static-m*"];
    for (kind, idle) in [("static-musl", true), ("static-glibc", false)] {
        let blocking = numbers(&output(user, &names, &probe(kind), &["blocking", server.port()]));
        assert_eq!(blocking[3] == 77, idle, "{kind}");
    }
}

/// As under the library: by the executable, by the link that it was started by, by a script, with a path and without.
#[test]
fn a_program_has_the_names_that_the_library_knows() {
    let directory = tempfile::Builder::new().permissions(Permissions::from_mode(0o755)).tempdir().expect("a directory");
    let [link, script] = ["linked", "job.py"].map(|name| directory.path().join(name));
    let python = fs::canonicalize("/usr/bin/python3").expect("python");
    symlink(&python, &link).expect("a link");
    let text =
        "import socket, sys\ns = socket.create_connection(('127.0.0.1', int(sys.argv[1])))\nprint(s.getsockopt(6, 4))";
    fs::write(&script, text).expect("written");
    let server = Server::start();
    let path = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    let base = python.file_name().and_then(OsStr::to_str).expect("UTF-8").to_owned();
    for name in ["linked".to_owned(), path(&link), base, path(&python), "job.py".to_owned(), path(&script)] {
        let rule = format!("program={name} : keepidle=77");
        let said =
            output(users()[0], &["--backend", "notify", "--rule", &rule], &link, &[&path(&script), server.port()]);
        assert_eq!(said, "77", "{name}");
    }
}

#[test]
fn a_source_is_bound_to() {
    let listener = std::net::TcpListener::bind("127.0.0.1:0").expect("a loopback port");
    let port = listener.local_addr().expect("its address").port().to_string();
    let flags = ["--backend", "notify", "--source", "127.0.0.9"];
    output(users()[0], &flags, &probe("static-glibc"), &["blocking", &port]);
    assert_eq!(listener.accept().expect("a connection").1.ip().to_string(), "127.0.0.9");
}

#[test]
fn go_has_them_on_both_sides_with_tls_and_without() {
    for user in users() {
        for how in ["plain", "tls"] {
            assert_eq!(output(user, IDLE, &go(), &[how]), "77 77 hello", "{how} as {user}");
        }
    }
}

#[test]
fn a_static_shell_and_what_it_starts() {
    let server = Server::start();
    let script = format!("{} blocking {}", probe("dynamic").display(), server.port());
    for user in users() {
        // A dynamic child, which the library would be preloaded into by an environment that has it.
        let mut command = run(
            user,
            &["--backend", "notify", "--keepidle", "77", "--log", "info"],
            Path::new("/bin/busybox"),
            &["sh", "-c", &script],
        );
        let said = said(command.env("LD_PRELOAD", crate::command::library()));
        assert_eq!((said.code, numbers(&said.stdout)[3]), (Some(0), 77), "{said:?}");
        assert!(said.stderr.contains("sockets are tuned another way"), "the library is quiet: {said:?}");
        let client = output(user, IDLE, Path::new("/bin/busybox"), &["nc", "127.0.0.1", server.port()]);
        assert_eq!(client, "");
    }
}

#[test]
fn other_sockets_get_the_kernels_answers() {
    let server = Server::start();
    for kind in STATIC {
        let plain = said(Command::new(probe(kind)).args(["others", server.port()])).ok().to_owned();
        assert_eq!(output(users()[0], IDLE, &probe(kind), &["others", server.port()]), plain, "{kind}");
    }
}

#[test]
fn each_decision_is_a_line() {
    let server = Server::start();
    let flags = [IDLE, &["--connect-timeout", "3s", "--log", "debug"]].concat();
    let said = said(&mut run(users()[0], &flags, &probe("static-glibc"), &["blocking", server.port()]));
    for line in ["KEEPIDLE=77s, the kernel says 77s", "connect timeout 3.000 s by TCP_USER_TIMEOUT"] {
        assert!(said.stderr.contains(line), "{line}: {said:?}");
    }
    assert!(said.stderr.lines().all(|line| line.starts_with("tcptune[")), "{said:?}");
}
