//! Waits. One that would last until an attempt is due is made in parts.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use super::{select as sets, settled, silent};

hooks! {
    required;

    fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| silent::poll(fds, count, timeout, |time| unsafe { real()(fds, count, time) })
    }

    fn ppoll(fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| silent::ppoll(fds, count, timeout, mask, |time| unsafe { real()(fds, count, time, mask) })
    }

    fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *mut timeval) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| sets::select(count, [read, write, except], time, |time| unsafe {
            real()(count, read, write, except, time)
        })
    }

    fn pselect(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *const timespec,
        mask: *const sigset_t
    ) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| sets::pselect(count, [read, write, except], time, mask, |time| unsafe {
            real()(count, read, write, except, time, mask)
        })
    }

    fn epoll_wait(fd: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| silent::epoll(fd, timeout, std::ptr::null(), |time| unsafe { real()(fd, events, count, time) })
    }

    fn epoll_pwait(
        fd: c_int, events: *mut epoll_event, count: c_int, timeout: c_int, mask: *const sigset_t
    ) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| silent::epoll(fd, timeout, mask, |time| unsafe { real()(fd, events, count, time, mask) })
    }

    fn epoll_ctl(fd: c_int, operation: c_int, watched: c_int, event: *mut epoll_event) -> c_int {
        |forward| silent::asked(fd, operation, watched, event, settled(watched, forward))
    }
}

hooks! {
    optional;

    // glibc 2.35
    fn epoll_pwait2(
        fd: c_int, events: *mut epoll_event, count: c_int, timeout: *const timespec, mask: *const sigset_t
    ) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| silent::epoll_pwait2(fd, timeout, mask, |time| unsafe { real()(fd, events, count, time, mask) })
    }
}
