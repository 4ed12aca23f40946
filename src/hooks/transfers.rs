//! Calls that send or receive, or may wait on a descriptor: its own attempt may be over, and no byte shall be sent before
//! the value is put back.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{
    FILE, c_char, c_int, c_uint, c_void, iovec, mmsghdr, msghdr, off_t, off64_t, size_t, sockaddr, socklen_t, ssize_t,
    timespec,
};

use super::{settled, transferring};

hooks! {
    required;

    fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    fn send(fd: c_int, bytes: *const c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| transferring(fd, flags, forward)
    }

    fn sendto(
        fd: c_int, bytes: *const c_void, count: size_t, flags: c_int, addr: *const sockaddr, len: socklen_t
    ) -> ssize_t {
        |forward| transferring(fd, flags, forward)
    }

    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        |forward| transferring(fd, flags, forward)
    }

    fn sendfile(fd: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    fn splice(
        from: c_int, from_offset: *mut off64_t, to: c_int, to_offset: *mut off64_t, count: size_t, flags: c_uint
    ) -> ssize_t {
        |forward| transferring(from, 0, || transferring(to, 0, forward))
    }

    fn read(fd: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    fn recv(fd: c_int, bytes: *mut c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| transferring(fd, flags, forward)
    }

    fn recvfrom(
        fd: c_int, bytes: *mut c_void, count: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t
    ) -> ssize_t {
        |forward| transferring(fd, flags, forward)
    }

    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        |forward| transferring(fd, flags, forward)
    }

    fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
        |forward| settled(fd, forward)
    }
}

// The types of flags differ between libcs, and not every libc has all of these.
hooks! {
    optional;

    fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int {
        |forward| transferring(fd, 0, forward)
    }

    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        |forward| transferring(fd, flags, forward)
    }

    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int {
        |forward| transferring(fd, flags, forward)
    }

    // not in musl from 1.2.4 on
    fn sendfile64(fd: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    // glibc 2.26: at offset -1 they are readv and writev.

    fn preadv2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    fn preadv64v2(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    fn pwritev2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }

    fn pwritev64v2(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t {
        |forward| transferring(fd, 0, forward)
    }
}
