//! A call on the descriptor: its own attempt may be over, and no byte shall be sent before the value is put back.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, c_void, iovec, msghdr, off_t, off64_t, size_t, sockaddr, socklen_t, ssize_t};

use super::settled;

hooks! {
    required;

    fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn send(fd: c_int, bytes: *const c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn sendto(
        fd: c_int, bytes: *const c_void, count: size_t, flags: c_int, addr: *const sockaddr, len: socklen_t
    ) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn sendfile(fd: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn read(fd: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn recv(fd: c_int, bytes: *mut c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn recvfrom(
        fd: c_int, bytes: *mut c_void, count: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t
    ) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }
}

hooks! {
    optional;

    // not in musl from 1.2.4 on
    fn sendfile64(fd: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }
}
