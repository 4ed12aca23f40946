//! Programs whose descriptors cannot be taken: the supervisor makes their sockets, or says that it cannot.

use std::os::unix::fs::PermissionsExt;
use std::path::Path;
use std::process::Command;

use crate::command::{clean, said};
use crate::harness::{NOBODY, Server, as_user, is_root, numbers, output, probe, run, users};
use crate::hole::BlackHole;

#[test]
fn one_that_protects_itself_is_named_or_tuned() {
    let server = Server::start();
    let flags = ["--backend", "notify", "--keepidle", "77"];
    for user in users() {
        // A file can be opened again; a pipe of such a program is out of reach, too.
        let log = tempfile::NamedTempFile::new().expect("a file");
        std::fs::set_permissions(log.path(), std::fs::Permissions::from_mode(0o666)).expect("chmod");
        let stderr = std::fs::OpenOptions::new().append(true).open(log.path()).expect("opened");
        let mut command = run(user, &flags, &probe("static-glibc"), &["undumpable", server.port()]);
        let output = command.stderr(stderr).output().expect("it starts");
        let idle = numbers(&String::from_utf8_lossy(&output.stdout))[3];
        let stderr = std::fs::read_to_string(log.path()).expect("read");
        // Root may look into everything.
        let looks = user == 0;
        assert_eq!(idle == 77, looks, "{stderr}");
        assert_eq!(stderr.contains("its descriptors cannot be taken"), !looks, "{stderr}");
    }
}

/// Without pidfd_getfd(2), as in a container of Docker without CAP_SYS_PTRACE.
fn forbidden(user: u32, flags: &[&str], args: &[&str]) -> String {
    let mut inner = run(user, flags, &probe("static-glibc"), args);
    let mut command = Command::new(probe("forbidden"));
    command.arg(inner.get_program()).args(inner.get_args()).current_dir("/");
    clean(&mut command);
    as_user(&mut command, user);
    inner.env_clear();
    said(&mut command).ok().to_owned()
}

#[test]
fn where_no_descriptor_can_be_taken_sockets_are_made() {
    let server = Server::start();
    for user in users() {
        let flags = ["--backend", "notify", "--keepidle", "77"];
        let blocking = numbers(&forbidden(user, &flags, &["blocking", server.port()]));
        assert_eq!([blocking[0], blocking[2], blocking[3]], [0, 1, 77], "as {user}");
        assert_eq!(numbers(&forbidden(user, &flags, &["nonblocking", server.port()]))[3], 77, "as {user}");
        let own = forbidden(user, &flags, &["own", server.port()]);
        assert!(own.starts_with("77 0 77 "), "its own values are ignored: {own}");
        let program = [&flags[..], &["--precedence", "program"]].concat();
        let own = forbidden(user, &program, &["own", server.port()]);
        assert!(own.starts_with("5 0 6 "), "its own values stay: {own}");
        assert_eq!(numbers(&forbidden(user, &flags, &["forks", server.port(), "64"])), [0, 0]);
    }
}

/// A kernel without Yama as one with it: what Yama refuses for children is refused here for a program that protects
/// itself.
#[test]
fn where_yama_may_keep_programs_apart_all_sockets_are_watched() {
    if !is_root() {
        println!("skipped: where_yama_may_keep_programs_apart_all_sockets_are_watched: only root can say so in /proc");
        return;
    }
    let server = Server::start();
    for (scope, tuned) in [("1", true), ("0", false)] {
        let inner = run(
            0,
            &["--backend", "notify", "--keepidle", "77"],
            &probe("static-glibc"),
            &["undumpable", server.port()],
        );
        let script = format!(
            "mount -t tmpfs tmpfs /proc/sys/kernel && mkdir /proc/sys/kernel/yama && \
             echo {scope} >/proc/sys/kernel/yama/ptrace_scope && exec setpriv --reuid {NOBODY} --clear-groups \"$@\""
        );
        let mut command = Command::new("unshare");
        command.args(["--mount", "sh", "-c", &script, "sh"]).arg(inner.get_program()).args(inner.get_args());
        let said = said(clean(&mut command).current_dir("/"));
        assert_eq!((numbers(&said.stdout)[3] == 77, said.code), (tuned, Some(0)), "{said:?}");
    }
}

#[test]
fn there_a_connect_timeout_is_a_number_of_retransmissions() {
    let hole = BlackHole::v4();
    let flags = ["--backend", "notify", "--connect-timeout", "2s"];
    let blocking = numbers(&forbidden(users()[0], &flags, &["blocking", &hole.port()]));
    assert_eq!(blocking[0], i64::from(libc::ETIMEDOUT));
    assert!((2000..20_000).contains(&blocking[1]), "never shorter: {blocking:?}");
}

#[test]
fn what_gains_rights_is_refused_to_ordinary_users() {
    if !is_root() {
        println!("skipped: what_gains_rights_is_refused_to_ordinary_users: only root can make such a program");
        return;
    }
    let directory = crate::command::directory();
    let program = crate::command::installed(&probe("static-glibc"), &directory.path().join("setuid"));
    std::fs::set_permissions(&program, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
    let server = Server::start();
    let said =
        said(&mut run(NOBODY, &["--backend", "notify", "--keepidle", "77"], &program, &["blocking", server.port()]));
    assert_eq!(said.code, Some(126), "{said:?}");
    assert!(said.stderr.contains("setuid of user 0"), "{said:?}");
    let by_root = output(0, &["--backend", "notify", "--keepidle", "77"], &program, &["blocking", server.port()]);
    assert_eq!(numbers(&by_root)[3], 77);
}

/// As sudo would be.
#[test]
fn what_would_gain_rights_below_runs_without_them() {
    if !is_root() {
        println!("skipped: what_would_gain_rights_below_runs_without_them: only root can make such a program");
        return;
    }
    let directory = crate::command::directory();
    let id = crate::command::installed(Path::new("/usr/bin/id"), &directory.path().join("id"));
    std::fs::set_permissions(&id, std::fs::Permissions::from_mode(0o4755)).expect("chmod");
    let below = |user, flags: &[&str]| {
        let flags = [&["--backend", "notify", "--keepidle", "77"], flags].concat();
        let script = format!("{} -u; exit 7", id.display());
        said(&mut run(user, &flags, Path::new("/bin/busybox"), &["sh", "-c", &script]))
    };
    let plain = said(as_nobody(Command::new(&id).arg("-u")));
    assert_eq!(plain.ok(), "0", "it gains them without a supervisor");
    let (quiet, told) = (below(NOBODY, &[]), below(NOBODY, &["--log", "info"]));
    assert_eq!((quiet.stdout.trim(), quiet.stderr.as_str(), quiet.code), ("65534", "", Some(7)));
    assert!(told.stderr.contains("no_new_privs is set: setuid programs such as sudo gain nothing"), "{told:?}");
    assert!(!below(0, &["--log", "info"]).stderr.contains("no_new_privs"), "root needs none");
}

fn as_nobody(command: &mut Command) -> &mut Command {
    as_user(command, NOBODY);
    command
}

#[test]
fn io_uring_is_denied_where_that_is_asked_for() {
    let flags = ["--backend", "notify", "--io-uring", "deny"];
    assert_eq!(output(users()[0], &flags, &probe("static-glibc"), &["io_uring"]), libc::ENOSYS.to_string());
}
