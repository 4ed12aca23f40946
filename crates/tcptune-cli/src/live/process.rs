//! The process that is looked at.

use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use procfs::FromBufRead;
use procfs::ProcError;
use procfs::process::{Process, Status};
use rustix::event::{PollFd, PollFlags};
use rustix::fs::Access;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags, PidfdGetfdFlags};

use tcptune_core::system::errno::Named;

use super::denied;
use super::socket::Socket;
use crate::screens::error::Error;

/// linux/sched.h: `exit(2)` has begun.
const PF_EXITING: u32 = 0x4;

/// linux/sched.h: a thread of the kernel.
const PF_KTHREAD: u32 = 0x20_0000;

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
        let no_such = || no_such(&pid.to_string());
        let number = Pid::from_raw(pid).filter(|_| pid > 0).ok_or_else(no_such)?;
        // Linux 5.3. Before 6.9 it takes no thread: EINVAL, and then ENOENT.
        let pidfd = rustix::process::pidfd_open(number, PidfdFlags::empty()).map_err(|error| match error {
            Errno::SRCH => no_such(),
            Errno::INVAL | Errno::NOENT => Error::failed(format!("{pid} is a thread, not a process"))
                .hint(format!("give the process's number: Tgid in /proc/{pid}/status")),
            error => refused("pidfd_open(2)", pid, None, error),
        })?;
        let hidden = || {
            let error = Error::failed(format!("/proc shows no process {pid}, though there is one"));
            error.hint(if rustix::process::geteuid().is_root() {
                "it may be of another PID namespace: mount /proc anew, or use nsenter(1)"
            } else {
                "/proc may be mounted with hidepid (proc(5)): run tcptune as root"
            })
        };
        let proc = Process::new(pid).map_err(|error| match error {
            ProcError::Io(error, _) => {
                refused("opening /proc/PID", pid, None, Errno::from_io_error(&error).unwrap_or(Errno::IO))
            }
            _ => hidden(),
        })?;
        let name = name(pid).map_err(|errno| match errno {
            Errno::NOENT => hidden(),
            errno => refused("reading /proc/PID/comm", pid, None, errno),
        })?;
        if proc.stat().is_ok_and(|stat| stat.flags & PF_KTHREAD != 0) {
            let why = format!("process {pid} ({name}) is a thread of the kernel");
            return Err(Error::failed(why).hint("it has no sockets of its own"));
        }
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

    /// Whether its descriptors can be listed.
    pub fn is_open_to_us(&self) -> bool {
        rustix::fs::access(format!("/proc/{}/fd", self.pid), Access::READ_OK).is_ok()
    }

    /// Its sockets, in the order of their descriptors; none if it has ended.
    pub fn descriptors(&self) -> Result<Vec<Descriptor>, Error> {
        let mut sockets = BTreeMap::<u64, Vec<i32>>::new();
        let (mut links, mut refused) = (0, None);
        let entries = fs::read_dir(format!("/proc/{}/fd", self.pid));
        let look = || {
            for entry in entries? {
                let entry = entry?;
                let fd = entry.file_name().to_str().and_then(|name| name.parse().ok());
                match (fd, fs::read_link(entry.path())) {
                    (Some(fd), Ok(link)) => {
                        links += 1;
                        if let Some(inode) = inode(&link) {
                            sockets.entry(inode).or_default().push(fd);
                        }
                    }
                    // Who may list the directory may not always read the links in it.
                    (_, Err(error)) if error.raw_os_error() == Some(libc::EACCES) => refused = Some(error),
                    // A descriptor that is closed meanwhile is no failure.
                    _ => {}
                }
            }
            refused.take().filter(|_| links == 0).map_or(Ok(()), Err)
        };
        match look() {
            Ok(()) => {}
            Err(_) if self.has_ended() => return Ok(Vec::new()),
            Err(error) => {
                let errno = Errno::from_io_error(&error).unwrap_or(Errno::IO);
                return Err(self.refused("reading /proc/PID/fd", errno));
            }
        }
        let mut sockets: Vec<_> = sockets.into_iter().map(|(inode, fds)| Descriptor { fds, inode }).collect();
        for socket in &mut sockets {
            socket.fds.sort_unstable();
        }
        sockets.sort_by(|a, b| a.fds.cmp(&b.fds));
        Ok(sockets)
    }

    /// None if the socket is not TCP; else whether it is MPTCP, and whether it is of IPv6. sockfs tells by an extended attribute,
    /// so no duplicate is needed; sock_diag would show a subflow in place of an MPTCP socket.
    pub fn kind(&self, descriptor: &Descriptor) -> Option<(bool, bool)> {
        let mut name = [0_u8; 32];
        let path = format!("/proc/{}/fd/{}", self.pid, descriptor.fds.first()?);
        let length = rustix::fs::getxattr(path, c"system.sockprotoname", &mut name).ok()?;
        match name.get(..length)? {
            b"TCP\0" => Some((false, false)),
            b"TCPv6\0" => Some((false, true)),
            b"MPTCP\0" => Some((true, false)),
            b"MPTCPv6\0" => Some((true, true)),
            _ => None,
        }
    }

    /// The error of something that procfs could not read.
    pub fn cannot(&self, call: &str, error: &ProcError) -> Error {
        let errno = match error {
            ProcError::PermissionDenied(_) => Errno::ACCESS,
            ProcError::NotFound(_) => Errno::NOENT,
            ProcError::Io(error, _) => Errno::from_io_error(error).unwrap_or(Errno::IO),
            _ => Errno::IO,
        };
        if self.has_ended() {
            return Error::failed(format!("process {} ({}) ended meanwhile", self.pid, self.name));
        }
        self.refused(call, errno)
    }

    /// The error of a call that was refused.
    pub fn refused(&self, call: &str, errno: Errno) -> Error {
        refused(call, self.pid, Some(&self.proc), errno)
    }

    /// A duplicate of a descriptor of this socket, for a moment; none if it is closed by now, or the process has ended.
    pub fn duplicate(&self, descriptor: &Descriptor) -> Result<Option<Socket>, Error> {
        for fd in &descriptor.fds {
            // The number may be another socket's by now: a duplicate would hold that one open for a moment.
            let link = fs::read_link(format!("/proc/{}/fd/{fd}", self.pid)).ok();
            if link.as_deref().and_then(inode) != Some(descriptor.inode) {
                continue;
            }
            if let Some(socket) = self.duplicate_of(*fd)? {
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
            Err(error) => Err(self.refused("pidfd_getfd(2)", error)),
        }
    }
}

/// The error of a number that is no process's.
pub fn no_such(number: &str) -> Error {
    Error::failed(format!("there is no process {number}")).hint("ps -e lists those there are")
}

/// Whether /proc is there, and shows processes by the numbers that they have for tcptune.
pub fn can_be_seen() -> Result<(), Error> {
    let own = fs::read_link("/proc/self").map_err(|_| {
        Error::failed("/proc is not mounted here, and shows what processes are").hint("mount -t proc proc /proc")
    })?;
    if own != Path::new(&std::process::id().to_string()) {
        let why = "/proc shows the processes of another PID namespace, where numbers mean others";
        return Err(
            Error::failed(why).hint("mount -t proc proc /proc, in a mount namespace of its own (unshare --mount)")
        );
    }
    Ok(())
}

/// What a process calls itself: any bytes (prctl(2), `PR_SET_NAME`), so that this is none of /proc/PID/stat.
pub fn name(pid: i32) -> Result<String, Errno> {
    let bytes = fs::read(format!("/proc/{pid}/comm"));
    let bytes = bytes.map_err(|error| Errno::from_io_error(&error).unwrap_or(Errno::IO))?;
    Ok(String::from_utf8_lossy(bytes.strip_suffix(b"\n").unwrap_or(&bytes)).into_owned())
}

/// /proc/PID/status, whatever bytes the name in it has.
pub fn status(pid: i32) -> Option<Status> {
    let text = fs::read(format!("/proc/{pid}/status")).ok()?;
    Status::from_buf_read(String::from_utf8_lossy(&text).as_bytes()).ok()
}

fn refused(call: &str, pid: i32, process: Option<&Process>, errno: Errno) -> Error {
    match errno {
        Errno::MFILE | Errno::NFILE => {
            let named = Named(errno.raw_os_error());
            Error::failed(format!("process {pid}: {call} is refused with {named}: tcptune may not open more files"))
                .hint("raise the limit with ulimit -n")
        }
        _ => denied::error(call, pid, process, errno),
    }
}

/// Of a link such as `socket:[123]`.
fn inode(link: &Path) -> Option<u64> {
    link.to_str()?.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok()
}
