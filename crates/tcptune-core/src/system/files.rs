//! Files, by system calls: read(2) and close(2) are hooked, other libraries may interpose them, and std's files would be
//! pages more to load at each exec.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ffi::CStr;
use std::mem::MaybeUninit;

#[cfg(target_pointer_width = "64")]
use libc::{SYS_fstat as FSTAT, stat};
#[cfg(target_pointer_width = "32")]
use libc::{SYS_fstat64 as FSTAT, stat64 as stat};
use libc::{c_int, c_long, mode_t};

use crate::system::errno;

/// The kernel's answer to a system call.
///
/// # Errors
/// The kernel's errno.
pub fn answer(result: c_long) -> Result<c_long, c_int> {
    if result == -1 { Err(errno::get()) } else { Ok(result) }
}

/// What fstat(2) says of a descriptor.
#[must_use]
pub fn status(fd: c_int) -> Option<stat> {
    let mut status = MaybeUninit::<stat>::uninit();
    // SAFETY: fstat fills the live local if it succeeds. A glibc before 2.33 has no function of this name.
    unsafe { (libc::syscall(FSTAT, fd, status.as_mut_ptr()) == 0).then(|| status.assume_init()) }
}

/// The file status flags of a descriptor (fcntl(2), `F_GETFL`).
///
/// # Errors
/// The kernel's errno.
pub fn status_flags(fd: c_int) -> Result<c_int, c_int> {
    // SAFETY: F_GETFL takes no argument and touches no memory.
    let flags = answer(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_GETFL) })?;
    c_int::try_from(flags).map_err(|_| libc::EINVAL)
}

/// Sets them.
///
/// # Errors
/// The kernel's errno.
pub fn set_status_flags(fd: c_int, flags: c_int) -> Result<(), c_int> {
    // SAFETY: F_SETFL takes an int and touches no memory.
    answer(unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_SETFL, flags) }).map(drop)
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
        let fd = answer(unsafe { libc::syscall(libc::SYS_openat, libc::AT_FDCWD, path.as_ptr(), flags, mode) })?;
        c_int::try_from(fd).map(Self).map_err(|_| libc::EBADF)
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
        let read = answer(unsafe { libc::syscall(libc::SYS_read, self.0, room.as_mut_ptr(), room.len()) })?;
        Ok(usize::try_from(read).unwrap_or(0))
    }
}

impl Drop for File {
    fn drop(&mut self) {
        // SAFETY: the descriptor was opened by `open`, and nobody else knows it.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// The text of a file of the kernel's (proc(5)) that fits the room, without spaces around it.
pub fn short<'a>(path: &CStr, room: &'a mut [u8]) -> Option<&'a str> {
    let read = File::open(path, libc::O_RDONLY, 0).ok()?.read(room).ok()?;
    std::str::from_utf8(room.get(..read)?).ok().map(str::trim_ascii)
}
