//! What a program with a 64-bit `time_t` calls on a machine of 32 bits: glibc 2.34 and musl 1.2 have names of their own for
//! it. Times are passed on as they come, so a silent server does not end these waits.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, c_long, c_void, epoll_event, fd_set, msghdr, nfds_t, pollfd, sigset_t, size_t, socklen_t, ssize_t};

use super::{calls, descriptors, receiving, transfers, waited};

/// `struct timespec` or `struct timeval` with 64 bits.
type Time = c_void;

hooks! {
    optional;

    fn __setsockopt64(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int {
        // SAFETY: what the program gave.
        |forward| unsafe { calls::set(fd, level, name, value, forward) }
    }

    fn __getsockopt64(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int {
        // SAFETY: what the program gave.
        |forward| unsafe { calls::got(fd, level, name, value, len, forward) }
    }

    fn __sendmsg64(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        |_forward| transfers::sent(fd, message, flags, real())
    }

    fn __recvmsg64(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        |forward| receiving(fd, flags, forward)
    }

    fn __select64(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *mut Time) -> c_int {
        |forward| waited(forward())
    }

    fn __pselect64(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *const Time,
        mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }

    fn __ppoll64(fds: *mut pollfd, count: nfds_t, time: *const Time, mask: *const sigset_t) -> c_int {
        |forward| waited(forward())
    }

    fn __ppoll64_chk(
        fds: *mut pollfd, count: nfds_t, time: *const Time, mask: *const sigset_t, room: size_t
    ) -> c_int {
        |forward| waited(forward())
    }

    fn __epoll_pwait2_time64(
        fd: c_int, events: *mut epoll_event, count: c_int, time: *const Time, mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }

    fn __fcntl_time64(fd: c_int, command: c_int, argument: c_long) -> c_int {
        |forward| descriptors::controlled(fd, command, forward)
    }

    // musl

    fn __select_time64(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *mut Time
    ) -> c_int {
        |forward| waited(forward())
    }

    fn __pselect_time64(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *const Time,
        mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }

    fn __ppoll_time64(fds: *mut pollfd, count: nfds_t, time: *const Time, mask: *const sigset_t) -> c_int {
        |forward| waited(forward())
    }
}
