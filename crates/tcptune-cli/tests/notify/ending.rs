//! The program is the process that was started: its status, signals, terminal and children are its own.

use std::fs::{self, File};
use std::io::{Read, Write};
use std::os::fd::{AsRawFd, FromRawFd};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::Path;
use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::command::{clean, said};
use crate::harness::{Server, eventually, is_root, numbers, output, probe, run, supervisors, users};

const BUSYBOX: &str = "/bin/busybox";

#[test]
fn its_exit_status_and_the_signal_that_ends_it() {
    for user in users() {
        for code in [0, 1, 78, 126, 255] {
            let script = format!("exit {code}");
            let flags = ["--backend", "notify", "--keepidle", "77"];
            assert_eq!(said(&mut run(user, &flags, Path::new(BUSYBOX), &["sh", "-c", &script])).code, Some(code));
        }
        for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGSEGV] {
            let script = format!("kill -{signal} $$");
            let said = said(&mut run(
                user,
                &["--backend", "notify", "--keepidle", "77"],
                Path::new(BUSYBOX),
                &["sh", "-c", &script],
            ));
            assert_eq!((said.code, said.signal), (None, Some(signal)), "as {user}");
        }
    }
}

#[test]
fn it_is_the_same_process_and_has_no_child_that_it_does_not_know_of() {
    let said = output(
        users()[0],
        &["--backend", "notify", "--keepidle", "77"],
        Path::new(BUSYBOX),
        &["sh", "-c", "echo $PPID"],
    );
    assert_eq!(said, std::process::id().to_string());
    let waited =
        output(users()[0], &["--backend", "notify", "--keepidle", "77"], &probe("static-glibc"), &["children"]);
    assert_eq!(waited, format!("-1 {}", libc::ECHILD));
}

#[test]
fn as_process_1_it_has_none_either() {
    if !is_root() {
        println!("skipped: as_process_1_it_has_none_either: only root can make a PID namespace");
        return;
    }
    let server = Server::start();
    let script = format!("echo $$; {0} children; {0} blocking {1}", probe("static-glibc").display(), server.port());
    let inner = run(0, &["--backend", "notify", "--keepidle", "77"], Path::new(BUSYBOX), &["sh", "-c", &script]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(inner.get_program()).args(inner.get_args());
    let said = said(clean(&mut command).current_dir("/"));
    let lines: Vec<_> = said.ok().lines().collect();
    assert_eq!(lines[..2], ["1", &format!("-1 {}", libc::ECHILD)], "{said:?}");
    assert_eq!(numbers(lines[2])[3], 77, "{said:?}");
    // What process 1 itself would wait for.
    let inner = run(0, &["--backend", "notify", "--keepidle", "77"], &probe("static-glibc"), &["children"]);
    let mut command = Command::new("unshare");
    command.args(["--pid", "--fork", "--mount-proc"]).arg(inner.get_program()).args(inner.get_args());
    let waited = crate::command::said(clean(&mut command).current_dir("/"));
    assert_eq!(waited.ok(), format!("-1 {}", libc::ECHILD));
}

#[test]
fn signals_and_descriptors_are_as_they_were_inherited() {
    let script = "grep -E '^Sig(Blk|Ign|Cgt|Pnd)' /proc/self/status; ls /proc/self/fd";
    let plain = said(std::process::Command::new(BUSYBOX).args(["sh", "-c", script])).ok().to_owned();
    assert_eq!(
        output(users()[0], &["--backend", "notify", "--keepidle", "77"], Path::new(BUSYBOX), &["sh", "-c", script]),
        plain
    );
}

#[test]
fn its_output_ends_with_it_though_a_daemon_stays() {
    // The daemon has let go of the pipe; the supervisor must not hold it.
    let script = "sleep 300 </dev/null >/dev/null 2>&1 & echo $!";
    let mut command =
        run(users()[0], &["--backend", "notify", "--keepidle", "78"], Path::new(BUSYBOX), &["sh", "-c", script]);
    let daemon: i32 = said(&mut command).ok().parse().expect("a number");
    assert_eq!(supervisors("78", 0).len(), 2, "they stay as long as the daemon");
    // SAFETY: ends a process that this test has started.
    unsafe { libc::kill(daemon, libc::SIGKILL) };
    eventually("the supervisors end with the last program", || supervisors("78", 0).is_empty());
}

#[test]
fn stop_and_continue_and_a_program_that_is_killed() {
    let server = Server::start();
    let args = ["storm", server.port(), "1000000"];
    let mut child = run(users()[0], &["--backend", "notify", "--keepidle", "79"], &probe("static-glibc"), &args)
        .spawn()
        .expect("it starts");
    let pid = child.id().cast_signed();
    eventually("it runs", || supervisors("79", child.id()).len() == 2);
    for signal in [libc::SIGSTOP, libc::SIGCONT, libc::SIGKILL] {
        // SAFETY: signals a child of this test.
        unsafe { libc::kill(pid, signal) };
        thread::sleep(Duration::from_millis(100));
    }
    assert_eq!(child.wait().expect("wait").signal(), Some(libc::SIGKILL));
    eventually("nobody is left", || supervisors("79", 0).is_empty());
}

#[test]
fn an_interrupt_from_the_terminal_is_the_programs_alone() {
    let (mut master, mut slave) = (0, 0);
    let none = std::ptr::null_mut();
    // SAFETY: two live ints; no name, no attributes.
    let r = unsafe { libc::openpty(&raw mut master, &raw mut slave, none, none.cast(), none.cast()) };
    assert_eq!(r, 0, "a terminal");
    for fd in [master, slave] {
        // Programs of other tests have few descriptors.
        // SAFETY: no pointers.
        unsafe { libc::fcntl(fd, libc::F_SETFD, libc::FD_CLOEXEC) };
    }
    // SAFETY: new descriptors, of nobody else.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    let script = "trap 'echo interrupted' INT; echo ready; sleep 30; echo goes on; sleep 1; echo end";
    let mut command =
        run(users()[0], &["--backend", "notify", "--keepidle", "80"], Path::new(BUSYBOX), &["sh", "-c", script]);
    let terminal = || Stdio::from(slave.try_clone().expect("a duplicate"));
    command.stdin(terminal()).stdout(terminal()).stderr(terminal());
    let fd = slave.as_raw_fd();
    // SAFETY: only calls that are async-signal-safe.
    unsafe {
        command.pre_exec(move || {
            libc::setsid();
            libc::ioctl(fd, libc::TIOCSCTTY, 0);
            libc::signal(libc::SIGINT, libc::SIG_DFL); // tests in the background may have it ignored, and sh keeps that
            Ok(())
        })
    };
    let mut child = command.spawn().expect("it starts");
    drop((command, slave));
    let mut seen = String::new();
    let mut screen = master.try_clone().expect("a duplicate");
    let mut until = |word: &str| {
        let mut room = [0; 512];
        while !seen.contains(word) {
            let n = screen.read(&mut room).unwrap_or(0);
            assert!(n > 0, "no {word} in {seen}");
            seen.push_str(&String::from_utf8_lossy(&room[..n]));
        }
    };
    until("ready");
    // A signal before that meets a child of the shell that is not sleep(1) yet.
    let pid = child.id();
    let children = || fs::read_to_string(format!("/proc/{pid}/task/{pid}/children")).unwrap_or_default();
    let sleeps =
        |child: &str| fs::read_to_string(format!("/proc/{child}/wchan")).is_ok_and(|it| it.contains("nanosleep"));
    eventually("the shell waits for sleep", || children().split_whitespace().any(sleeps));
    master.write_all(&[3]).expect("typed"); // control-C
    until("interrupted");
    until("goes on");
    assert_eq!(supervisors("80", child.id()).len(), 2, "the terminal's signal is not theirs");
    until("end");
    assert_eq!(child.wait().expect("wait").code(), Some(0));
}
