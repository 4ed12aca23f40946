//! Other names that a libc exports for the same calls: what glibc's headers call in programs built with `_FORTIFY_SOURCE`
//! (feature_test_macros(7)), and older names.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{
    FILE, c_char, c_int, c_long, c_uint, c_void, mmsghdr, nfds_t, pollfd, sigset_t, size_t, sockaddr, socklen_t,
    ssize_t, timespec, timeval,
};

use super::{calls, descriptors, receiving, select as sets, sending, sending_once, settled, silent};

hooks! {
    optional;

    fn __connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
        |forward| calls::connecting(fd, addr, len, forward)
    }

    fn __close(fd: c_int) -> c_int {
        |_forward| descriptors::closing(fd, real())
    }

    fn __dup2(fd: c_int, new: c_int) -> c_int {
        |forward| descriptors::duplicated(fd, forward())
    }

    fn __fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
        |forward| descriptors::controlled(fd, command, forward)
    }

    fn __poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| silent::poll(fds, count, timeout, |time| unsafe { real()(fds, count, time) })
    }

    fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int {
        // SAFETY: as above.
        |_forward| silent::poll(fds, count, timeout, |time| unsafe { real()(fds, count, time, room) })
    }

    fn __ppoll_chk(
        fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, room: size_t
    ) -> c_int {
        // SAFETY: as above.
        |_forward| silent::ppoll(fds, count, timeout, mask, |time| unsafe { real()(fds, count, time, mask, room) })
    }

    fn __select(
        count: c_int, read: *mut libc::fd_set, write: *mut libc::fd_set, except: *mut libc::fd_set, time: *mut timeval
    ) -> c_int {
        // SAFETY: as above.
        |_forward| sets::select(count, [read, write, except], time, |time| unsafe {
            real()(count, read, write, except, time)
        })
    }

    fn __write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
        |forward| sending(fd, 0, forward)
    }

    fn __send(fd: c_int, bytes: *const c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| sending(fd, flags, forward)
    }

    fn __sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        |forward| sending(fd, flags, forward)
    }

    fn __read(fd: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
        |forward| receiving(fd, 0, forward)
    }

    fn __read_chk(fd: c_int, bytes: *mut c_void, count: size_t, room: size_t) -> ssize_t {
        |forward| receiving(fd, 0, forward)
    }

    fn __recv_chk(fd: c_int, bytes: *mut c_void, count: size_t, room: size_t, flags: c_int) -> ssize_t {
        |forward| receiving(fd, flags, forward)
    }

    fn __recvfrom_chk(
        fd: c_int, bytes: *mut c_void, count: size_t, room: size_t, flags: c_int, addr: *mut sockaddr,
        len: *mut socklen_t
    ) -> ssize_t {
        |forward| receiving(fd, flags, forward)
    }

    fn __vdprintf_chk(fd: c_int, fortified: c_int, format: *const c_char, arguments: *mut c_void) -> c_int {
        |forward| sending_once(fd, forward)
    }

    fn _IO_fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
        |forward| settled(fd, forward)
    }
}
