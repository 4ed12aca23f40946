//! What is asked of the kernel about a connection, and how the kernel ends it.
//!
//! connect(2) with `AF_UNSPEC` resets the connection and leaves `ECONNRESET` for whoever asks first; the shutdown(2) that
//! follows fails, and still sets the hang-up flag, so that every poll(2) of every thread reports the descriptor as
//! readable. Events that a hook made up would contradict the next poll.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem;

use libc::{c_int, sockaddr, socklen_t};

use super::verdict::Facts;
use crate::sockets::real::Real;

/// asm-generic/ioctls.h: `FIONREAD`, what has not been read.
const SIOCINQ: c_int = 0x541B;
/// linux/sockios.h: what has not been sent at all.
const SIOCOUTQNSD: c_int = 0x894B;

/// Who a socket is, for as long as it is there, whatever its number: `SO_COOKIE` (Linux 4.12); 0 if that cannot be said.
#[must_use]
pub fn identity(real: &Real, fd: c_int) -> u64 {
    let mut cookie = 0u64;
    let mut len = length_of(&cookie);
    // SAFETY: a live u64, and its length.
    let r = unsafe { (real.getsockopt)(fd, libc::SOL_SOCKET, libc::SO_COOKIE, (&raw mut cookie).cast(), &raw mut len) };
    if r == 0 { cookie } else { 0 }
}

/// The first fields of the kernel's `struct tcp_info` (linux/tcp.h), up to those that are looked at.
#[repr(C)]
struct Info {
    state: u8,
    congestion_state: u8,
    retransmits: u8,
    more: [u8; 5],
    first: [u32; 9],
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    second: [u32; 12],
    rates: [u64; 2],
    bytes_acked: u64,
}

const _: () = assert!(mem::offset_of!(Info, last_data_sent) == 44 && mem::offset_of!(Info, bytes_acked) == 120);

/// What the kernel says of a connection; `None` if it is none of TCP.
#[must_use]
pub fn facts(real: &Real, fd: c_int) -> Option<Facts> {
    // SAFETY: all zeroes is a valid Info.
    let mut info: Info = unsafe { mem::zeroed() };
    let mut len = length_of(&info);
    // SAFETY: a live Info and its length. An older kernel fills less.
    let r = unsafe { (real.getsockopt)(fd, libc::IPPROTO_TCP, libc::TCP_INFO, (&raw mut info).cast(), &raw mut len) };
    if r != 0 {
        return None;
    }
    Some(Facts {
        state: info.state,
        retransmits: info.retransmits != 0,
        sent: info.last_data_sent.into(),
        received: info.last_data_recv.into(),
        unread: queued(fd, SIOCINQ)?,
        unsent: queued(fd, SIOCOUTQNSD)?,
        acknowledged: info.bytes_acked,
    })
}

/// Whether a queue of the socket holds anything (tcp(7), ioctls).
fn queued(fd: c_int, which: c_int) -> Option<bool> {
    let mut bytes: c_int = 0;
    // SAFETY: a live int.
    let r = unsafe { libc::syscall(libc::SYS_ioctl, fd, which, &raw mut bytes) };
    (r == 0).then_some(bytes > 0)
}

/// Another number of the same socket, which no other thread knows.
pub struct Pinned(c_int);

impl Pinned {
    /// Of `fd`; `None` where no descriptor is to be had.
    #[must_use]
    pub fn new(fd: c_int) -> Option<Self> {
        // SAFETY: touches no memory.
        let new = unsafe { libc::syscall(libc::SYS_fcntl, fd, libc::F_DUPFD_CLOEXEC, 0) };
        c_int::try_from(new).ok().filter(|new| *new >= 0).map(Self)
    }

    /// The number.
    #[must_use]
    pub const fn fd(&self) -> c_int {
        self.0
    }

    /// Ends the connection, for all that know the socket. Whether the kernel has done so: it refuses where threads wait
    /// on it (Linux 6.4 to 6.6), and where TLS is in the kernel.
    #[must_use]
    pub fn end(&self) -> bool {
        // SAFETY: all zeroes is a valid sockaddr, of family AF_UNSPEC (0).
        let unspecified: sockaddr = unsafe { mem::zeroed() };
        // SAFETY: a live address and its length.
        let r = unsafe { libc::syscall(libc::SYS_connect, self.0, &raw const unspecified, size_of::<sockaddr>()) };
        if r == 0 {
            // SAFETY: touches no memory.
            unsafe { libc::syscall(libc::SYS_shutdown, self.0, libc::SHUT_RDWR) };
        }
        r == 0
    }
}

impl Drop for Pinned {
    fn drop(&mut self) {
        // SAFETY: the number is ours.
        unsafe { libc::syscall(libc::SYS_close, self.0) };
    }
}

/// Lets no signal handler run in this thread; gives the mask before.
#[must_use]
pub fn hold_signals() -> u64 {
    set_mask(u64::MAX)
}

/// Makes this the thread's mask again.
pub fn give_signals(before: u64) {
    set_mask(before);
}

fn set_mask(set: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: live sets of the size given.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const set, &raw mut before, size_of::<u64>());
    }
    before
}

/// Gives the processor to another thread.
pub fn let_others_run() {
    // SAFETY: touches no memory.
    unsafe { libc::syscall(libc::SYS_sched_yield) };
}

fn length_of<T>(_: &T) -> socklen_t {
    const { assert!(size_of::<T>() < 1024) };
    #[allow(clippy::cast_possible_truncation, reason = "less than 1024")]
    let length = size_of::<T>() as socklen_t;
    length
}
