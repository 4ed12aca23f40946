//! Without permission, the message says which one is missing.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::CommandExt;
use std::path::PathBuf;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::*;

const NOBODY: u32 = 65_534;

/// A copy of tcptune that everybody can run.
fn copy() -> (TempDir, PathBuf) {
    let directory =
        tempfile::Builder::new().permissions(fs::Permissions::from_mode(0o755)).tempdir().expect("a directory");
    let program = directory.path().join("tcptune");
    fs::copy(TCPTUNE, &program).expect("copied");
    (directory, program)
}

fn is_root(test: &str) -> bool {
    // SAFETY: touches no memory.
    let root = unsafe { libc::geteuid() } == 0;
    if !root {
        println!("skipped: {test}: only root can become somebody else");
    }
    root
}

fn as_nobody(command: &mut Command) -> &mut Command {
    command.uid(NOBODY).gid(NOBODY)
}

#[test]
fn somebody_elses_process() {
    if !is_root("somebody_elses_process") {
        return;
    }
    let mut program = Running::start(&mut crate::inspect::sockets(false));
    program.line();
    let (_directory, copy) = copy();
    for args in [&["inspect"][..], &["apply", "--keepidle", "5"]] {
        let ended = Ended::of(as_nobody(Command::new(&copy).args(args).arg(program.pid().to_string())));
        assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (Some(1), "", 1), "{ended:#?}");
        for word in [
            "belongs to user 0",
            "as user 65534",
            "CAP_SYS_PTRACE",
            "PTRACE_MODE_ATTACH_REALCREDS",
            "run tcptune as root",
        ] {
            assert!(ended.stderr.contains(word), "{word}: {ended:#?}");
        }
    }
    // Of several, none that cannot be looked into seems to have no sockets.
    let mut other = Running::start(&mut crate::inspect::sockets(false));
    other.line();
    let both = [program.pid().to_string(), other.pid().to_string()];
    let ended = Ended::of(as_nobody(Command::new(&copy).arg("inspect").args(&both)));
    assert_eq!((ended.code, ended.stdout.as_str(), ended.stderr.lines().count()), (Some(1), "", 2), "{ended:#?}");
}

#[test]
fn ones_own_process_and_one_that_is_not_dumpable() {
    if !is_root("ones_own_process_and_one_that_is_not_dumpable") {
        return;
    }
    let scope = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope").unwrap_or_default();
    if !matches!(scope.trim(), "" | "0") {
        println!(
            "skipped: ones_own_process_and_one_that_is_not_dumpable: kernel.yama.ptrace_scope is {}",
            scope.trim()
        );
        return;
    }
    let (_directory, copy) = copy();
    let script = "
import ctypes, socket, sys
s = socket.create_server(('127.0.0.1', 0)); print('ready', flush=True)
for line in sys.stdin:
    ctypes.CDLL(None).prctl(4, 0); print('ready', flush=True)  # PR_SET_DUMPABLE";
    // Not from a home directory that others cannot read.
    let mut program = Running::start(as_nobody(Command::new("/usr/bin/python3").args(["-I", "-u", "-c", script])));
    program.line();
    let look = || Ended::of(as_nobody(Command::new(&copy).args(["inspect", &program.pid().to_string(), "--json"])));
    assert_eq!(look().json()["sockets"].as_array().map(Vec::len), Some(1));
    let pid = program.pid();
    program.say("");
    program.line();
    let ended = Ended::of(as_nobody(Command::new(&copy).args(["inspect", &pid.to_string()])));
    assert!(ended.code == Some(1) && ended.stderr.contains("it is not dumpable"), "{ended:#?}");
}

/// Lets the command begin with a seccomp filter that refuses `pidfd_getfd`, as container runtimes have one.
fn without_pidfd_getfd(command: &mut Command, errno: i32) -> &mut Command {
    let code = |code: u32| u16::try_from(code).expect("16 bits");
    let number = u32::try_from(libc::SYS_pidfd_getfd).expect("a number");
    let step = |op: u32, jt, jf, k| libc::sock_filter { code: code(op), jt, jf, k };
    let filter = [
        step(libc::BPF_LD | libc::BPF_W | libc::BPF_ABS, 0, 0, 0), // the number of the call
        step(libc::BPF_JMP | libc::BPF_JEQ | libc::BPF_K, 0, 1, number),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ERRNO | errno.unsigned_abs()),
        step(libc::BPF_RET | libc::BPF_K, 0, 0, libc::SECCOMP_RET_ALLOW),
    ];
    let install = move || {
        let mut filter = filter;
        let program = libc::sock_fprog { len: 4, filter: filter.as_mut_ptr() };
        // SAFETY: a live program of so many instructions.
        let r = unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) };
        if r == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
    };
    // SAFETY: one system call; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(install) }
}

#[test]
fn a_container_without_pidfd_getfd() {
    if !is_root("a_container_without_pidfd_getfd") {
        return;
    }
    let mut program = Running::start(&mut crate::inspect::sockets(false));
    program.line();
    for (errno, word) in [
        (libc::ENOSYS, "ENOSYS: the kernel has it, so a seccomp filter"),
        (libc::EPERM, "but a seccomp filter is in force"),
    ] {
        let mut command = Command::new(TCPTUNE);
        command.args(["inspect", &program.pid().to_string()]);
        let ended = Ended::of(without_pidfd_getfd(&mut command, errno));
        assert!(ended.code == Some(1) && ended.stderr.contains(word), "{ended:#?}");
        assert!(ended.stderr.contains("docker run --cap-add"), "{ended:#?}");
    }
}

#[test]
fn half_of_the_capabilities() {
    if !is_root("half_of_the_capabilities") {
        return;
    }
    let mut program = Running::start(&mut crate::inspect::sockets(false));
    program.line();
    let pid = program.pid().to_string();
    let (_directory, copy) = copy();
    let mut command = Command::new("setpriv");
    command.args(["--reuid", "65534", "--regid", "65534", "--clear-groups", "--inh-caps", "+sys_ptrace"]);
    command.args(["--ambient-caps", "+sys_ptrace"]).arg(&copy).args(["inspect", &pid]);
    let ended = Ended::of(&mut command);
    assert!(ended.code == Some(1) && ended.stderr.contains("but not CAP_DAC_READ_SEARCH"), "{ended:#?}");
    // Root of a user namespace of its own has all of them, but not for this process.
    let ended = Ended::of(Command::new("unshare").args(["--user", "--map-root-user", TCPTUNE, "inspect", &pid]));
    if ended.stderr.starts_with("unshare") {
        println!("skipped: the second half of half_of_the_capabilities: {}", ended.stderr);
    } else {
        assert!(ended.code == Some(1) && ended.stderr.contains("in another user namespace"), "{ended:#?}");
    }
}

#[test]
fn another_network_namespace_without_the_right_to_enter_it() {
    const TEST: &str = "another_network_namespace_without_the_right_to_enter_it";
    let Some(namespace) = crate::namespace::Namespace::or_skip(TEST) else { return };
    let mut command = crate::inspect::sockets(false);
    namespace.enter_on_exec(&mut command);
    let mut program = Running::start(&mut command);
    program.line();
    let pid = program.pid().to_string();
    let mut command = Command::new("setpriv");
    command.args(["--bounding-set", "-sys_admin", "--inh-caps", "-sys_admin", TCPTUNE, "inspect", &pid, "--json"]);
    let ended = Ended::of(&mut command);
    assert!(ended.code == Some(0) && ended.stderr.contains("it needs CAP_SYS_ADMIN"), "{ended:#?}");
    let all = ended.any_json();
    let sockets = all["sockets"].as_array().expect("sockets");
    assert!(sockets.iter().any(|socket| socket["options"]["keepalive"] == true), "all but the timers: {all:#}");
    assert!(sockets.iter().all(|socket| socket["timer"].is_null()), "{all:#}");
}

#[test]
fn what_is_no_process() {
    let ended = tcptune("inspect", 0x3fff_ffff, &[]);
    assert!(ended.code == Some(1) && ended.stderr.contains("there is no process"), "{ended:#?}");
    assert_eq!(Ended::of(Command::new(TCPTUNE).args(["inspect", "0"])).code, Some(2));
    // A thread of this test.
    let (send, receive) = std::sync::mpsc::channel();
    let (end, wait) = std::sync::mpsc::channel::<()>();
    let thread = std::thread::spawn(move || {
        // SAFETY: touches no memory.
        send.send(unsafe { libc::gettid() }).expect("received");
        wait.recv().expect_err("the sender is dropped");
    });
    let id = receive.recv().expect("a thread").cast_unsigned();
    let ended = tcptune("inspect", id, &[]);
    assert!(ended.code == Some(1) && ended.stderr.contains("is a thread"), "{ended:#?}");
    drop(end);
    thread.join().expect("it ends");
}
