//! The socket calls: made, connected, bound, listened on, accepted, options.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, c_ulong, c_void, sockaddr, socklen_t};
use tcptune_core::sockets::family::Family;

use super::{settled, silent};
use crate::tuning::{TUNING, Tuning};

hooks! {
    required;

    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        |forward| {
            let Some(tuning) = TUNING.get() else { return forward() };
            match Family::of_arguments(domain, kind, protocol) {
                Family::Other => Tuning::other_socket(domain, kind, protocol, tuning),
                Family::Tcp if tuning.mptcp => Tuning::multipath_socket(domain, kind, protocol, tuning),
                Family::Tcp | Family::Mptcp => Tuning::tcp_socket(domain, kind, protocol, tuning),
            }
        }
    }

    fn socketpair(domain: c_int, kind: c_int, protocol: c_int, pair: *mut c_int) -> c_int {
        |forward| {
            let r = forward();
            if let (0, Some(tuning)) = (r, TUNING.get()) {
                // SAFETY: the call has just succeeded.
                let pair = unsafe { pair.cast::<[c_int; 2]>().read_unaligned() };
                for fd in pair {
                    tuning.made_other(fd);
                }
            }
            r
        }
    }

    fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
        |forward| connecting(fd, addr, len, forward)
    }

    fn bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
        |forward| {
            if let Some(tuning) = TUNING.get() {
                tuning.before_bind(fd, addr, len);
            }
            forward()
        }
    }

    fn listen(fd: c_int, backlog: c_int) -> c_int {
        |forward| {
            let Some(tuning) = TUNING.get() else { return forward() };
            tuning.attempts.settle(&tuning.real, fd);
            let backlog = tuning.before_listen(fd, backlog);
            // SAFETY: the program's own call, but for the backlog.
            unsafe { real()(fd, backlog) }
        }
    }

    fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
        |forward| accepting(fd, forward)
    }

    fn accept4(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
        |forward| accepting(fd, forward)
    }

    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int {
        // SAFETY: what the program gave.
        |forward| unsafe { set(fd, level, name, value, forward) }
    }

    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int {
        // SAFETY: what the program gave.
        |forward| unsafe { got(fd, level, name, value, len, forward) }
    }

    fn shutdown(fd: c_int, how: c_int) -> c_int {
        |forward| settled(fd, forward)
    }

    fn getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
        |forward| settled(fd, forward)
    }
}

// It has any number of arguments; on Linux the third is passed the same way, whatever it is.
hooks! {
    optional;

    fn ioctl(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
        |forward| settled(fd, forward)
    }
}

/// connect(2).
#[inline]
pub fn connecting(fd: c_int, addr: *const sockaddr, len: socklen_t, forward: impl FnOnce() -> c_int) -> c_int {
    match TUNING.get() {
        Some(tuning) => tuning.connect(fd, addr, len),
        None => forward(),
    }
}

/// accept(2) and accept4(2).
fn accepting(listener: c_int, forward: impl Fn() -> c_int) -> c_int {
    let Some(tuning) = TUNING.get() else { return forward() };
    let mark = tuning.seen(listener);
    let fd = silent::bounded(listener, true, 0, forward);
    if fd >= 0 {
        tuning.accepted(listener, mark, fd);
    }
    fd
}

/// setsockopt(2).
///
/// # Safety
/// If `forward` succeeds, the value can be read.
pub unsafe fn set(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *const c_void,
    forward: impl FnOnce() -> c_int,
) -> c_int {
    let Some(tuning) = TUNING.get() else { return forward() };
    tuning.seen(fd);
    tuning.attempts.settle(&tuning.real, fd);
    let attempting = tuning.attempts.has(fd);
    let r = forward();
    if r == 0 && (level, name) == (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) {
        // SAFETY: the call has just succeeded: an int could be read.
        tuning.user_timeout_set(fd, unsafe { value.cast::<c_int>().read_unaligned() }, attempting);
    } else if r == 0 {
        tuning.set_by_program(fd, level, name);
    }
    r
}

/// getsockopt(2).
///
/// # Safety
/// If `forward` succeeds, the value has been written to.
pub unsafe fn got(
    fd: c_int,
    level: c_int,
    name: c_int,
    value: *mut c_void,
    len: *mut socklen_t,
    forward: impl FnOnce() -> c_int,
) -> c_int {
    let Some(tuning) = TUNING.get() else { return forward() };
    tuning.seen(fd);
    tuning.attempts.settle(&tuning.real, fd);
    let is_user_timeout = (level, name) == (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
    let own = if is_user_timeout { tuning.attempts.concealed(fd) } else { None };
    let r = forward();
    if r == 0
        && is_user_timeout
        && let Some(own) = own.or_else(|| tuning.attempts.concealed(fd))
    {
        // SAFETY: the call has just succeeded: so many bytes were written there.
        unsafe { ptr::copy_nonoverlapping((&raw const own).cast::<u8>(), value.cast(), (*len as usize).min(4)) };
    }
    if r == 0 && (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR) {
        // SAFETY: the call has just succeeded.
        let of_silence = tuning.silence.is_some() && unsafe { tuning.error_told(fd, value, len) };
        // SAFETY: as above; what it wrote is an int, or less of one.
        let error = unsafe { if *len == 4 && !of_silence { value.cast::<c_int>().read_unaligned() } else { 0 } };
        tuning.told(fd, error);
    }
    r
}
