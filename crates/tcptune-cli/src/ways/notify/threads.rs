//! The threads that call: their descriptors and their memory.

use std::io;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::{c_int, c_void, iovec};
use procfs::process::Process;
use rustix::io::Errno;
use rustix::process::{Pid, PidfdFlags};
use tcptune_core::system::errno;

/// linux/pidfd.h, Linux 6.9; not in the rustix crate yet.
const PIDFD_THREAD: PidfdFlags = PidfdFlags::from_bits_retain(libc::O_EXCL.cast_unsigned());

/// So many pidfds are kept.
const KEPT: usize = 64;

/// Those that have called last. A pidfd means this thread, and no later one with the same number: it gives `ESRCH` then.
#[derive(Debug, Default)]
pub struct Threads {
    kept: Vec<(i32, OwnedFd)>,
}

impl Threads {
    /// A duplicate of a thread's descriptor. `is_there`: whether the number is still that thread's.
    ///
    /// # Errors
    /// `EBADF` where it has none of this number, `ESRCH` where it has ended, `EPERM` where it may not be looked into.
    pub fn descriptor(&mut self, thread: i32, fd: c_int, is_there: impl Fn() -> bool) -> Result<OwnedFd, Errno> {
        match self.taken(thread, fd, &is_there) {
            // The limit is inherited, and a program may have a low one.
            Err(Errno::MFILE) if !self.kept.is_empty() => {
                self.kept.clear();
                self.taken(thread, fd, &is_there)
            }
            result => result,
        }
    }

    fn taken(&mut self, thread: i32, fd: c_int, is_there: &impl Fn() -> bool) -> Result<OwnedFd, Errno> {
        if let Some(at) = self.kept.iter().position(|(kept, _)| *kept == thread) {
            match duplicate(&self.kept[at].1, fd) {
                Err(Errno::SRCH) => drop(self.kept.remove(at)),
                result => return result,
            }
        }
        let pidfd = open(thread)?;
        if !is_there() {
            return Err(Errno::SRCH);
        }
        let result = duplicate(&pidfd, fd);
        if self.kept.len() == KEPT {
            self.kept.remove(0);
        }
        self.kept.push((thread, pidfd));
        result
    }
}

/// A pidfd of a thread; before Linux 6.9, of its process.
pub fn open(thread: i32) -> Result<OwnedFd, Errno> {
    let number = |n| Pid::from_raw(n).ok_or(Errno::SRCH);
    match rustix::process::pidfd_open(number(thread)?, PIDFD_THREAD) {
        Err(Errno::INVAL) => {}
        result => return result,
    }
    let process = process(thread).ok_or(Errno::SRCH)?;
    rustix::process::pidfd_open(number(process)?, PidfdFlags::empty())
}

/// The process of a thread.
pub fn process(thread: i32) -> Option<i32> {
    Some(Process::new(thread).ok()?.status().ok()?.tgid)
}

/// A duplicate of a descriptor (pidfd_getfd(2), Linux 5.6); close-on-exec, as all such duplicates.
pub fn duplicate(pidfd: &OwnedFd, fd: c_int) -> Result<OwnedFd, Errno> {
    // SAFETY: takes numbers only. rustix takes no number that can be none, which is what a program may pass.
    let taken = unsafe { libc::syscall(libc::SYS_pidfd_getfd, pidfd.as_raw_fd(), fd, 0) };
    match c_int::try_from(taken) {
        // SAFETY: a new descriptor, of nobody else.
        Ok(taken @ 0..) => Ok(unsafe { OwnedFd::from_raw_fd(taken) }),
        _ => Err(Errno::from_raw_os_error(errno::get())),
    }
}

/// Whether the descriptors of a process can be taken. It asks for -1: the kernel checks the permission first, so `EBADF`
/// means yes.
pub fn can_take(pidfd: &OwnedFd) -> bool {
    !matches!(duplicate(pidfd, -1), Err(Errno::PERM | Errno::NOSYS))
}

/// Reads what a thread has in its memory: as much as fits; none where it cannot be read.
pub fn read(thread: i32, address: u64, room: &mut [u8]) -> io::Result<()> {
    let ours = iovec { iov_base: room.as_mut_ptr().cast(), iov_len: room.len() };
    let theirs = iovec { iov_base: address as *mut c_void, iov_len: room.len() };
    // SAFETY: live room of its length; the other address is the kernel's to check.
    let n = unsafe { libc::process_vm_readv(thread, &raw const ours, 1, &raw const theirs, 1, 0) };
    if usize::try_from(n) == Ok(room.len()) { Ok(()) } else { Err(io::Error::last_os_error()) }
}
