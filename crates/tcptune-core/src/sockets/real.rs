//! The real libc functions of the calls that the shim hooks.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, c_void, nfds_t, pollfd, sigset_t, sockaddr, socklen_t, timespec};

use crate::options::wire::Payload;

/// Pointers to the functions behind the shim's hooks (or to libc's own, where nothing is hooked).
#[derive(Clone, Copy, Debug)]
pub struct Real {
    /// connect(2)
    pub connect: unsafe extern "C" fn(c_int, *const sockaddr, socklen_t) -> c_int,
    /// setsockopt(2)
    pub setsockopt: unsafe extern "C" fn(c_int, c_int, c_int, *const c_void, socklen_t) -> c_int,
    /// getsockopt(2)
    pub getsockopt: unsafe extern "C" fn(c_int, c_int, c_int, *mut c_void, *mut socklen_t) -> c_int,
    /// poll(2)
    pub poll: unsafe extern "C" fn(*mut pollfd, nfds_t, c_int) -> c_int,
    /// ppoll(2)
    pub ppoll: unsafe extern "C" fn(*mut pollfd, nfds_t, *const timespec, *const sigset_t) -> c_int,
    /// Cancellation clean-up, if the process has it: a glibc before 2.34 does without libpthread.
    pub cleanup: Option<Cleanup>,
}

/// What the macros of `pthread_cleanup_push(3)` call, in glibc and in musl.
#[derive(Clone, Copy, Debug)]
pub struct Cleanup {
    /// `_pthread_cleanup_push`
    pub push: unsafe extern "C" fn(*mut CleanupBuffer, unsafe extern "C" fn(*mut c_void), *mut c_void),
    /// `_pthread_cleanup_pop`
    pub pop: unsafe extern "C" fn(*mut CleanupBuffer, c_int),
}

/// Room for glibc's `struct _pthread_cleanup_buffer` (32 bytes) and musl's `struct __ptcb` (24).
#[derive(Debug)]
#[repr(C)]
pub struct CleanupBuffer([usize; 4]);

impl CleanupBuffer {
    /// A buffer that is not pushed yet.
    #[must_use]
    pub const fn new() -> Self {
        Self([0; 4])
    }
}

impl Default for CleanupBuffer {
    fn default() -> Self {
        Self::new()
    }
}

/// Length of an `int` option.
const INT_LEN: socklen_t = 4;

impl Real {
    /// Sets an `int` option; the error is the errno of setsockopt(2).
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set_int(&self, fd: c_int, level: c_int, name: c_int, value: c_int) -> Result<(), c_int> {
        // SAFETY: the pointer is to a live c_int of the length given; the kernel checks the descriptor.
        let r = unsafe { (self.setsockopt)(fd, level, name, (&raw const value).cast(), INT_LEN) };
        if r == 0 { Ok(()) } else { Err(crate::system::errno::get()) }
    }

    /// Sets an option.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn set(&self, fd: c_int, level: c_int, name: c_int, value: &Payload) -> Result<(), c_int> {
        // SAFETY: so many live bytes; the kernel checks the descriptor.
        let r = unsafe { (self.setsockopt)(fd, level, name, value.as_ptr().cast(), value.socklen()) };
        if r == 0 { Ok(()) } else { Err(crate::system::errno::get()) }
    }

    /// Reads an option.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn get(&self, fd: c_int, level: c_int, name: c_int) -> Result<Payload, c_int> {
        let mut value = Payload::room();
        let mut len = value.socklen();
        // SAFETY: room of this length, and a live length; the kernel checks the descriptor.
        let r = unsafe { (self.getsockopt)(fd, level, name, value.as_mut_ptr().cast(), &raw mut len) };
        if r == 0 { Ok(value) } else { Err(crate::system::errno::get()) }
    }

    /// How often a SYN is repeated at most: `TCP_SYNCNT`, or `tcp_syn_retries` where that is not set.
    #[must_use]
    pub fn syn_retries(&self, fd: c_int) -> Option<u32> {
        self.get_int(fd, libc::IPPROTO_TCP, libc::TCP_SYNCNT).ok()?.try_into().ok()
    }

    /// The state of a TCP connection: `tcpi_state`, the first byte of `TCP_INFO` (tcp(7)).
    #[must_use]
    pub fn tcp_state(&self, fd: c_int) -> Option<u8> {
        let mut state = 0u8;
        let mut len: socklen_t = 1;
        // SAFETY: one live byte, and its length.
        let r =
            unsafe { (self.getsockopt)(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut state).cast(), &raw mut len) };
        (r == 0).then_some(state)
    }

    /// Reads an `int` option.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn get_int(&self, fd: c_int, level: c_int, name: c_int) -> Result<c_int, c_int> {
        let mut value: c_int = 0;
        let mut len = INT_LEN;
        // SAFETY: both pointers are to live locals, and `len` is the length of `value`.
        let r = unsafe { (self.getsockopt)(fd, level, name, (&raw mut value).cast(), &raw mut len) };
        if r == 0 { Ok(value) } else { Err(crate::system::errno::get()) }
    }
}
