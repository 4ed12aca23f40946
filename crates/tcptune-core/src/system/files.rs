//! Files: read(2) and close(2) are hooked, and std's files would be pages more to load at each exec.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ffi::CStr;
use std::mem::MaybeUninit;

#[cfg(target_pointer_width = "64")]
use libc::stat;
#[cfg(target_pointer_width = "32")]
use libc::stat64 as stat;
use libc::{c_int, mode_t};

use crate::system::call::call;

/// What fstat(2) says of a descriptor.
///
/// # Errors
/// The kernel's errno.
pub fn status(fd: c_int) -> Result<stat, c_int> {
    let mut status = MaybeUninit::<stat>::uninit();
    // SAFETY: fstat fills the live local if it succeeds.
    #[cfg(target_pointer_width = "64")]
    let done = unsafe { call!(fstat, fd, status.as_mut_ptr()) };
    // SAFETY: as above. What has no 64-bit numbers fails for large files.
    #[cfg(target_pointer_width = "32")]
    let done = unsafe { call!(fstat64, fd, status.as_mut_ptr()) };
    // SAFETY: it has succeeded.
    done.map(|_| unsafe { status.assume_init() })
}

/// The file status flags of a descriptor (fcntl(2), `F_GETFL`).
///
/// # Errors
/// The kernel's errno.
pub fn status_flags(fd: c_int) -> Result<c_int, c_int> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = unsafe { call!(fcntl, fd, libc::F_GETFL) }?;
    c_int::try_from(flags).map_err(|_| libc::EINVAL)
}

/// Sets or clears `O_NONBLOCK`, and no other flag, whatever another thread does meanwhile (ioctl(2), `FIONBIO`).
///
/// # Errors
/// The kernel's errno.
pub fn set_nonblocking(fd: c_int, on: bool) -> Result<(), c_int> {
    let on = c_int::from(on);
    // SAFETY: FIONBIO reads an int, which lives.
    unsafe { call!(ioctl, fd, libc::FIONBIO, &raw const on) }.map(drop)
}

/// write(2): how many bytes were written.
///
/// # Errors
/// The kernel's errno.
pub fn write(fd: c_int, bytes: &[u8]) -> Result<usize, c_int> {
    // SAFETY: so many live bytes.
    unsafe { call!(write, fd, bytes.as_ptr(), bytes.len()) }
}

/// Where a symbolic link leads (readlink(2)); none if it does not fit the room.
pub fn link<'a>(path: &CStr, room: &'a mut [u8]) -> Option<&'a [u8]> {
    // SAFETY: a C string, and live room of its length.
    let len = unsafe { call!(readlinkat, libc::AT_FDCWD, path.as_ptr(), room.as_mut_ptr(), room.len()) }.ok()?;
    room.get(..len)
}

/// An open file, closed when it is dropped.
#[derive(Debug)]
pub struct File(c_int);

impl File {
    /// Opens a file; `O_CLOEXEC` and `O_NOCTTY` are added. `mode` is that of a file that is made.
    ///
    /// # Errors
    /// Those of open(2).
    #[inline]
    pub fn open(path: &CStr, flags: c_int, mode: mode_t) -> Result<Self, c_int> {
        let flags = flags | libc::O_CLOEXEC | libc::O_NOCTTY | libc::O_LARGEFILE;
        // SAFETY: the path is a C string.
        let fd = unsafe { call!(openat, libc::AT_FDCWD, path.as_ptr(), flags, mode) }?;
        c_int::try_from(fd).map(Self).map_err(|_| libc::EBADF)
    }

    /// Another descriptor of the file that `fd` is of (fcntl(2), `F_DUPFD_CLOEXEC`).
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn duplicate(fd: c_int) -> Result<Self, c_int> {
        // SAFETY: touches no memory.
        let new = unsafe { call!(fcntl, fd, libc::F_DUPFD_CLOEXEC, 0) }?;
        c_int::try_from(new).map(Self).map_err(|_| libc::EBADF)
    }

    /// Its descriptor.
    #[must_use]
    pub const fn fd(&self) -> c_int {
        self.0
    }

    /// Reads what is next; 0 at the end.
    ///
    /// # Errors
    /// Those of read(2).
    pub fn read(&self, room: &mut [u8]) -> Result<usize, c_int> {
        // SAFETY: live room of its length.
        unsafe { call!(read, self.0, room.as_mut_ptr(), room.len()) }
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the descriptor was opened by `open`, and nobody else knows it.
        let _ = unsafe { call!(close, self.0) };
    }
}

/// The text of a file of the kernel's (proc(5)) that fits the room, without spaces around it.
pub fn short<'a>(path: &CStr, room: &'a mut [u8]) -> Option<&'a str> {
    let read = File::open(path, libc::O_RDONLY, 0).ok()?.read(room).ok()?;
    std::str::from_utf8(room.get(..read)?).ok().map(str::trim_ascii)
}
