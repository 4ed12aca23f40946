//! The process that is looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::os::fd::OwnedFd;
use std::time::Duration;

use procfs::FromBufRead;
use procfs::ProcError;
use procfs::process::{FDTarget, Process, Status};
use rustix::event::{PollFd, PollFlags};
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use super::denied;
use super::socket::Socket;
use crate::screens::error::Error;

/// linux/sched.h: `exit(2)` has begun.
const PF_EXITING: u32 = 0x4;

/// A running process. Its pidfd means this process and no later one with the same number.
pub struct Target {
    pid: i32,
    pidfd: OwnedFd,
    proc: Process,
    name: String,
}

/// A socket of the process, of whatever family.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Descriptor {
    /// The descriptors that share it (dup(2)).
    pub fds: Vec<i32>,
    /// No other socket has the same as long as it is open.
    pub inode: u64,
}

impl fmt::Display for Descriptor {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let fds: Vec<_> = self.fds.iter().map(ToString::to_string).collect();
        f.write_str(&fds.join(","))
    }
}

impl Target {
    /// Finds the process.
    pub fn open(pid: i32) -> Result<Self, Error> {
        let no_such = || Error::failed(format!("there is no process {pid}")).hint("ps -e lists those there are");
        let number = Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(no_such)?;
        // Linux 5.3. Before 6.9 it takes no thread: EINVAL, and then ENOENT.
        let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty()).map_err(|error| match error {
            Errno::SRCH => no_such(),
            Errno::INVAL | Errno::NOENT => Error::failed(format!("{pid} is a thread, not a process"))
                .hint(format!("give the process's number: Tgid in /proc/{pid}/status")),
            error => denied::error("pidfd_open(2)", pid, None, error),
        })?;
        let hidden = || {
            Error::failed(format!("/proc shows no process {pid}, though there is one"))
                .hint("/proc may be mounted with hidepid (proc(5)): run tcptune as root")
        };
        let proc = Process::new(pid).map_err(|_| hidden())?;
        let name = name(pid).ok_or_else(hidden)?;
        let target = Self { pid, pidfd, proc, name };
        if target.has_ended() {
            let why = format!("process {pid} ({}) has ended already", target.name);
            return Err(Error::failed(why).hint("its parent has not waited for it yet"));
        }
        Ok(target)
    }

    /// Its number.
    pub fn pid(&self) -> i32 {
        self.pid
    }

    /// Its name, as ps(1) shows it.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Its files in /proc.
    pub fn proc(&self) -> &Process {
        &self.proc
    }

    /// Whether it has ended, or is about to: it closes its descriptors before it is a zombie.
    pub fn has_ended(&self) -> bool {
        self.ends_within(Duration::ZERO) || self.proc.stat().map_or(true, |stat| stat.flags & PF_EXITING != 0)
    }

    /// Waits for its end; whether it came in this time. A pidfd is readable then (pidfd_open(2)).
    pub fn ends_within(&self, time: Duration) -> bool {
        let timeout = time.try_into().ok();
        let mut fds = [PollFd::new(&self.pidfd, PollFlags::IN)];
        rustix::event::poll(&mut fds, timeout.as_ref()).is_ok_and(|ready| ready > 0)
    }

    /// Its sockets, in the order of their descriptors; none if it has ended.
    pub fn descriptors(&self) -> Result<Vec<Descriptor>, Error> {
        let denied = |error| denied::error("reading /proc/PID/fd", self.pid, Some(&self.proc), error);
        let list = match self.proc.fd() {
            Ok(list) => list,
            Err(_) if self.has_ended() => return Ok(Vec::new()),
            Err(error) => return Err(denied(errno(&error))),
        };
        // One that is closed meanwhile is an error of its own, and none of ours.
        let mut sockets = BTreeMap::<u64, Vec<i32>>::new();
        let mut none = true;
        for entry in list.flatten() {
            none = false;
            if let FDTarget::Socket(inode) = entry.target {
                sockets.entry(inode).or_default().push(entry.fd);
            }
        }
        // Who may list the directory may not always read the links in it, and they are left out then.
        if none && self.proc.fd_count().is_ok_and(|count| count > 0) && !self.has_ended() {
            return Err(denied(Errno::ACCESS));
        }
        let mut sockets: Vec<_> = sockets.into_iter().map(|(inode, fds)| Descriptor { fds, inode }).collect();
        for socket in &mut sockets {
            socket.fds.sort_unstable();
        }
        sockets.sort_by(|a, b| a.fds.cmp(&b.fds));
        Ok(sockets)
    }

    /// A duplicate of a descriptor of this socket, for a moment; none if it is closed by now, or the process has ended.
    pub fn duplicate(&self, descriptor: &Descriptor) -> Result<Option<Socket>, Error> {
        for fd in &descriptor.fds {
            if let Some(socket) = self.duplicate_of(*fd)? {
                // The number may be another socket's by now.
                let inode = rustix::fs::fstat(&socket).map(|stat| stat.st_ino);
                if inode == Ok(descriptor.inode) {
                    return Ok(Some(Socket::new(socket)));
                }
            }
        }
        Ok(None)
    }

    fn duplicate_of(&self, fd: i32) -> Result<Option<OwnedFd>, Error> {
        // Linux 5.6; close-on-exec, as all such duplicates.
        match rustix::process::pidfd_getfd(&self.pidfd, fd, PidfdGetfdFlags::empty()) {
            Ok(fd) => Ok(Some(fd)),
            Err(Errno::BADF | Errno::SRCH) => Ok(None),
            // A process that is about to end has no memory that could be asked who may look into it.
            Err(Errno::PERM) if self.has_ended() => Ok(None),
            Err(error) => Err(denied::error("pidfd_getfd(2)", self.pid, Some(&self.proc), error)),
        }
    }
}

/// What a process calls itself: any bytes (prctl(2), `PR_SET_NAME`), so that this is none of /proc/PID/stat.
pub fn name(pid: i32) -> Option<String> {
    let bytes = std::fs::read(format!("/proc/{pid}/comm")).ok()?;
    Some(String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned())
}

/// /proc/PID/status, whatever bytes the name in it has.
pub fn status(pid: i32) -> Option<Status> {
    let text = std::fs::read(format!("/proc/{pid}/status")).ok()?;
    Status::from_buf_read(String::from_utf8_lossy(&text).as_bytes()).ok()
}

fn errno(error: &ProcError) -> Errno {
    match error {
        ProcError::PermissionDenied(_) => Errno::ACCESS,
        ProcError::NotFound(_) => Errno::NOENT,
        ProcError::Io(error, _) => Errno::from_io_error(error).unwrap_or(Errno::IO),
        _ => Errno::IO,
    }
}
