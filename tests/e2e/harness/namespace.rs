//! A network namespace of the test's own.

use std::fs::File;
use std::net::TcpListener;
use std::os::fd::{AsRawFd, RawFd};
use std::os::unix::process::CommandExt;
use std::process::Command;
use std::{io, thread};

/// Lives as long as this does, or a process inside.
pub struct Namespace(File);

impl Namespace {
    /// A new namespace with loopback up, or why there is none.
    pub fn new() -> Result<Self, String> {
        // Only the new thread leaves for the namespace; the open file keeps it.
        let file = thread::spawn(|| {
            // SAFETY: touches no memory.
            if unsafe { libc::unshare(libc::CLONE_NEWNET) } != 0 {
                return Err(format!("no network namespace: {}", io::Error::last_os_error()));
            }
            File::open("/proc/thread-self/ns/net").map_err(|e| e.to_string())
        });
        let namespace = Self(file.join().expect("the thread ends")?);
        namespace.run("ip", &["link", "set", "lo", "up"]);
        Ok(namespace)
    }

    /// As `new`, or says why the test is skipped.
    pub fn or_skip(test: &str) -> Option<Self> {
        Self::new().map_err(|why| println!("skipped: {test}: {why}")).ok()
    }

    /// Runs a set-up command inside, and gives what it prints.
    pub fn run(&self, program: &str, args: &[&str]) -> String {
        let mut command = Command::new(program);
        command.args(args);
        self.enter_on_exec(&mut command);
        let output = command.output().unwrap_or_else(|e| panic!("{program} starts: {e}"));
        assert!(output.status.success(), "{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr));
        String::from_utf8_lossy(&output.stdout).into_owned()
    }

    /// A listener inside.
    pub fn listener(&self, addr: &str) -> TcpListener {
        let (fd, addr) = (self.0.as_raw_fd(), addr.to_owned());
        let listener = thread::spawn(move || {
            enter(fd).expect("setns");
            TcpListener::bind(addr).expect("an address inside")
        });
        listener.join().expect("the thread ends")
    }

    /// Lets the command begin inside.
    pub fn enter_on_exec(&self, command: &mut Command) {
        let fd = self.0.as_raw_fd();
        // SAFETY: setns(2) is one system call; nothing is allocated between fork and exec.
        unsafe { command.pre_exec(move || enter(fd)) };
    }
}

fn enter(fd: RawFd) -> io::Result<()> {
    // SAFETY: touches no memory.
    if unsafe { libc::setns(fd, libc::CLONE_NEWNET) } == 0 { Ok(()) } else { Err(io::Error::last_os_error()) }
}
