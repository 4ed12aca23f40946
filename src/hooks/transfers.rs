//! Calls that send or receive, or may wait on a descriptor: its own attempt may be over, and no byte shall be sent before
//! the value is put back.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{
    FILE, c_char, c_int, c_uint, c_void, iovec, mmsghdr, msghdr, off_t, off64_t, size_t, sockaddr, socklen_t, ssize_t,
    timespec,
};
use tcptune_core::sockets::address;
use tcptune_core::sockets::connect::FastOpen;

use super::{receiving, sending, sending_once, settled, transferring};
use crate::tuning::TUNING;

hooks! {
    required;

    fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
        |forward| sending(fd, 0, forward)
    }

    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |forward| sending(fd, 0, forward)
    }

    fn send(fd: c_int, bytes: *const c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| sending(fd, flags, forward)
    }

    fn sendto(
        fd: c_int, bytes: *const c_void, count: size_t, flags: c_int, addr: *const sockaddr, len: socklen_t
    ) -> ssize_t {
        |forward| if is_opening(flags) && !addr.is_null() {
            open_to(fd, bytes, count, flags, addr, len)
        } else {
            sending(fd, flags, forward)
        }
    }

    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        |_forward| sent(fd, message, flags, real())
    }

    fn sendfile(fd: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
        |forward| sending(fd, 0, forward)
    }

    fn splice(
        from: c_int, from_offset: *mut off64_t, to: c_int, to_offset: *mut off64_t, count: size_t, flags: c_uint
    ) -> ssize_t {
        |forward| transferring(from, 0, || transferring(to, 0, forward))
    }

    fn read(fd: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
        |forward| receiving(fd, 0, forward)
    }

    fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |forward| receiving(fd, 0, forward)
    }

    fn recv(fd: c_int, bytes: *mut c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| receiving(fd, flags, forward)
    }

    fn recvfrom(
        fd: c_int, bytes: *mut c_void, count: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t
    ) -> ssize_t {
        |forward| receiving(fd, flags, forward)
    }

    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        |forward| receiving(fd, flags, forward)
    }

    fn fdopen(fd: c_int, mode: *const c_char) -> *mut FILE {
        |forward| settled(fd, forward)
    }
}

// The types of flags differ between libcs, and not every libc has all of these.
hooks! {
    optional;

    fn vdprintf(fd: c_int, format: *const c_char, arguments: *mut c_void) -> c_int {
        |forward| sending_once(fd, forward)
    }

    fn sendmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        |forward| sending(fd, flags, forward)
    }

    fn recvmmsg(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, timeout: *mut timespec) -> c_int {
        |forward| receiving(fd, flags, forward)
    }

    // not in musl from 1.2.4 on
    fn sendfile64(fd: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
        |forward| sending(fd, 0, forward)
    }

    // glibc 2.26: at offset -1 they are readv and writev.

    fn preadv2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        |forward| receiving(fd, 0, forward)
    }

    fn preadv64v2(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t {
        |forward| receiving(fd, 0, forward)
    }

    fn pwritev2(fd: c_int, parts: *const iovec, count: c_int, offset: off_t, flags: c_int) -> ssize_t {
        |forward| sending(fd, 0, forward)
    }

    fn pwritev64v2(fd: c_int, parts: *const iovec, count: c_int, offset: off64_t, flags: c_int) -> ssize_t {
        |forward| sending(fd, 0, forward)
    }
}

/// Whether a call with these flags connects.
#[inline]
const fn opens(flags: c_int) -> bool {
    flags & libc::MSG_FASTOPEN != 0
}

/// The same, if anything holds for it.
#[inline]
fn is_opening(flags: c_int) -> bool {
    opens(flags) && TUNING.get().is_some()
}

/// sendto(2) that connects. The arguments are the program's, in their places: the frame of this one takes that of the hook.
#[inline(never)]
fn open_to(
    fd: c_int,
    bytes: *const c_void,
    count: size_t,
    flags: c_int,
    addr: *const sockaddr,
    len: socklen_t,
) -> ssize_t {
    open_with(fd, (addr, len), flags, &move |flags| {
        let (addr, len) = if opens(flags) { (addr, len) } else { (ptr::null(), 0) };
        // SAFETY: the program's own call, but for the flag and the address once it is connected.
        unsafe { sendto::real()(fd, bytes, count, flags, addr, len) }
    })
}

/// sendmsg(2).
#[inline]
pub fn sent(fd: c_int, message: *const msghdr, flags: c_int, real: Sendmsg) -> ssize_t {
    if is_opening(flags)
        && let Some((addr, len)) = address::of_message(message)
    {
        return open_with_message(fd, message, flags, addr, len, real);
    }
    // SAFETY: the program's own call, with its arguments.
    sending(fd, flags, || unsafe { real(fd, message, flags) })
}

type Sendmsg = unsafe extern "C" fn(c_int, *const msghdr, c_int) -> ssize_t;

/// sendmsg(2) that connects to this address of the message.
#[inline(never)]
fn open_with_message(
    fd: c_int,
    message: *const msghdr,
    flags: c_int,
    addr: *const sockaddr,
    len: socklen_t,
    real: Sendmsg,
) -> ssize_t {
    open_with(fd, (addr, len), flags, &move |flags| {
        if opens(flags) {
            // SAFETY: the program's own call, with its arguments.
            return unsafe { real(fd, message, flags) };
        }
        // SAFETY: the kernel has read it as well; what is changed is a copy.
        let mut message = unsafe { message.read_unaligned() };
        (message.msg_name, message.msg_namelen) = (ptr::null_mut(), 0);
        // SAFETY: the program's own call, but for the flag and the address.
        unsafe { real(fd, &raw const message, flags) }
    })
}

/// Connects by what `send` does with these flags.
#[inline]
fn open_with(
    fd: c_int,
    address: (*const sockaddr, socklen_t),
    flags: c_int,
    send: &dyn Fn(c_int) -> ssize_t,
) -> ssize_t {
    match TUNING.get() {
        Some(tuning) => tuning.fast_open(fd, address, &FastOpen::new(flags, send)),
        None => send(flags),
    }
}
