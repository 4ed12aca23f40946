//! What glibc's headers call in programs built with `_FORTIFY_SOURCE` (feature_test_macros(7)).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, c_void, nfds_t, pollfd, sigset_t, size_t, sockaddr, socklen_t, ssize_t, timespec};

use super::{settled, waited};

hooks! {
    optional;

    fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int {
        |forward| waited(forward())
    }

    fn __ppoll_chk(
        fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, room: size_t
    ) -> c_int {
        |forward| waited(forward())
    }

    fn __read_chk(fd: c_int, bytes: *mut c_void, count: size_t, room: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn __recv_chk(fd: c_int, bytes: *mut c_void, count: size_t, room: size_t, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn __recvfrom_chk(
        fd: c_int, bytes: *mut c_void, count: size_t, room: size_t, flags: c_int, addr: *mut sockaddr,
        len: *mut socklen_t
    ) -> ssize_t {
        |forward| settled(fd, forward)
    }
}
