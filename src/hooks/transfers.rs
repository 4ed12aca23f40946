//! A call on the descriptor: its own attempt may be over, and no byte shall be sent before the value is put back.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, c_void, iovec, msghdr, off_t, off64_t, size_t, sockaddr, socklen_t, ssize_t};

use tcptune_core::sockets::address;
use tcptune_core::system::errno;

use super::settled;
use crate::tuning::{TUNING, Tuning};

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
        |forward| {
            let Some(tuning) = opening(flags).filter(|_| !addr.is_null()) else { return settled(fd, forward) };
            tuning.fast_open(fd, (addr, len), flags, &|opens| {
                let (addr, len) = if opens { (addr, len) } else { (ptr::null(), 0) };
                // SAFETY: the program's own call, but for the flag and the address once it is connected.
                sent(unsafe { real()(fd, bytes, count, with(flags, opens), addr, len) })
            })
        }
    }

    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        |forward| {
            let Some(tuning) = opening(flags) else { return settled(fd, forward) };
            let Some(address) = address::of_message(message) else { return settled(fd, forward) };
            tuning.fast_open(fd, address, flags, &|opens| {
                if opens {
                    return sent(forward());
                }
                // SAFETY: the kernel has read it as well; what is changed is a copy.
                let mut message = unsafe { message.read_unaligned() };
                (message.msg_name, message.msg_namelen) = (ptr::null_mut(), 0);
                // SAFETY: the program's own call, but for the flag and the address.
                sent(unsafe { real()(fd, &raw const message, with(flags, opens)) })
            })
        }
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

/// The settings, if a call with these flags connects: TCP Fast Open.
#[inline]
fn opening(flags: c_int) -> Option<&'static Tuning> {
    TUNING.get().filter(|_| flags & libc::MSG_FASTOPEN != 0)
}

fn with(flags: c_int, opens: bool) -> c_int {
    if opens { flags } else { flags & !libc::MSG_FASTOPEN }
}

fn sent(result: ssize_t) -> Result<ssize_t, c_int> {
    if result < 0 { Err(errno::get()) } else { Ok(result) }
}
