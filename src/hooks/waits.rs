//! A wait that reports something: any attempt may be over.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, epoll_event, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};

use super::waited;

hooks! {
    required;

    fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
        |forward| waited(forward())
    }

    fn ppoll(fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        |forward| waited(forward())
    }

    fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *mut timeval) -> c_int {
        |forward| waited(forward())
    }

    fn pselect(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *const timespec,
        mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }

    fn epoll_wait(fd: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int {
        |forward| waited(forward())
    }

    fn epoll_pwait(
        fd: c_int, events: *mut epoll_event, count: c_int, timeout: c_int, mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }
}

hooks! {
    optional;

    // glibc 2.35
    fn epoll_pwait2(
        fd: c_int, events: *mut epoll_event, count: c_int, timeout: *const timespec, mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }
}
