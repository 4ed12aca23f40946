//! What a program with a 64-bit `time_t` calls on a machine of 32 bits: glibc 2.34 and musl 1.2 have names of their own for
//! it, glibc's in `64`, musl's in `time64`. The hooks are those of the other names, with times made narrower on the way in,
//! and wider again on the way out.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{
    c_int, c_long, c_uint, c_ulong, c_void, epoll_event, fd_set, mmsghdr, msghdr, nfds_t, pollfd, sigset_t, size_t,
    socklen_t, ssize_t, timespec, timeval,
};
use tcptune_core::sockets::silence::select::Sets;
use tcptune_core::system::memory;

use super::{calls, descriptors, receiving, select as sets, sending, settled, silent, transfers};

/// `struct timespec` with a `time_t` of 64 bits.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Spec {
    tv_sec: i64,
    tv_nsec: i32,
    padding: i32,
}

/// `struct timeval` with a `time_t` of 64 bits.
#[repr(C)]
#[derive(Clone, Copy)]
pub struct Val {
    tv_sec: i64,
    tv_usec: i64,
}

/// 68 years are the most that 32 bits hold, on either side of now; what the kernel refuses, it refuses then as well.
fn narrow(value: i64) -> i32 {
    i32::try_from(value).unwrap_or(if value < 0 { i32::MIN } else { i32::MAX })
}

/// Makes a wait with a program's time; `real` is what waits, and takes such times.
fn with_spec(
    time: *const Spec,
    wait: impl FnOnce(*const timespec, &mut dyn FnMut(*const timespec) -> c_int) -> c_int,
    real: impl Fn(*const Spec) -> c_int,
) -> c_int {
    if time.is_null() || !memory::is_readable(time.cast(), size_of::<Spec>()) {
        // Without a time, or for the kernel's answer.
        return wait(ptr::null(), &mut |part| match widened(part) {
            Some(part) => real(&raw const part),
            None => real(time),
        });
    }
    // SAFETY: it can be read.
    let asked = unsafe { time.read_unaligned() };
    let spec = timespec { tv_sec: narrow(asked.tv_sec), tv_nsec: asked.tv_nsec };
    wait(&raw const spec, &mut |part| match widened(part) {
        Some(part) => real(&raw const part),
        None => real(ptr::null()),
    })
}

/// A time of ours, which lies on the stack; none is for ever.
fn widened(part: *const timespec) -> Option<Spec> {
    // SAFETY: null, or live.
    let timespec { tv_sec, tv_nsec } = unsafe { part.as_ref() }?;
    Some(Spec { tv_sec: (*tv_sec).into(), tv_nsec: *tv_nsec, padding: 0 })
}

/// select(2), which writes back what is left of the time.
fn select(
    count: c_int,
    given: Sets,
    time: *mut Val,
    call: unsafe extern "C" fn(c_int, *mut fd_set, *mut fd_set, *mut fd_set, *mut Val) -> c_int,
) -> c_int {
    let [read, write, except] = given;
    if !time.is_null() && !memory::is_writable(time.cast(), size_of::<Val>()) {
        // SAFETY: the program's own call, with its arguments.
        return unsafe { call(count, read, write, except, time) };
    }
    let mut part_of = |part: *mut timeval| {
        if part.is_null() {
            // SAFETY: the program's own call, without a time.
            return unsafe { call(count, read, write, except, ptr::null_mut()) };
        }
        // SAFETY: a time of ours.
        let mut wide = unsafe { Val { tv_sec: (*part).tv_sec.into(), tv_usec: (*part).tv_usec.into() } };
        // SAFETY: the program's own call, but for the time.
        let result = unsafe { call(count, read, write, except, &raw mut wide) };
        // SAFETY: as above.
        unsafe { *part = timeval { tv_sec: narrow(wide.tv_sec), tv_usec: narrow(wide.tv_usec) } };
        result
    };
    if time.is_null() {
        return sets::select(count, given, ptr::null_mut(), part_of);
    }
    // SAFETY: it can be read and written to.
    let asked = unsafe { time.read_unaligned() };
    let mut left = timeval { tv_sec: narrow(asked.tv_sec), tv_usec: narrow(asked.tv_usec) };
    let result = sets::select(count, given, &raw mut left, &mut part_of);
    // SAFETY: as above.
    unsafe { time.write_unaligned(Val { tv_sec: left.tv_sec.into(), tv_usec: left.tv_usec.into() }) };
    result
}

fn pselect(
    count: c_int,
    [read, write, except]: Sets,
    time: *const Spec,
    mask: *const sigset_t,
    call: unsafe extern "C" fn(c_int, *mut fd_set, *mut fd_set, *mut fd_set, *const Spec, *const sigset_t) -> c_int,
) -> c_int {
    with_spec(
        time,
        |time, part| sets::pselect(count, [read, write, except], time, mask, part),
        // SAFETY: the program's own call, but for the time.
        |time| unsafe { call(count, read, write, except, time, mask) },
    )
}

fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    time: *const Spec,
    mask: *const sigset_t,
    call: impl Fn(*const Spec) -> c_int,
) -> c_int {
    with_spec(time, |time, part| silent::ppoll(fds, count, time, mask, part), call)
}

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

    fn __sendmmsg64(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int) -> c_int {
        |forward| sending(fd, flags, forward)
    }

    fn __recvmmsg64(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, time: *mut Spec) -> c_int {
        |forward| receiving(fd, flags, forward)
    }

    fn __select64(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *mut Val) -> c_int {
        |_forward| select(count, [read, write, except], time, real())
    }

    fn __pselect64(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *const Spec,
        mask: *const sigset_t
    ) -> c_int {
        |_forward| pselect(count, [read, write, except], time, mask, real())
    }

    fn __ppoll64(fds: *mut pollfd, count: nfds_t, time: *const Spec, mask: *const sigset_t) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| ppoll(fds, count, time, mask, |time| unsafe { real()(fds, count, time, mask) })
    }

    fn __ppoll64_chk(
        fds: *mut pollfd, count: nfds_t, time: *const Spec, mask: *const sigset_t, room: size_t
    ) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| ppoll(fds, count, time, mask, |time| unsafe { real()(fds, count, time, mask, room) })
    }

    fn __epoll_pwait2_time64(
        fd: c_int, events: *mut epoll_event, count: c_int, time: *const Spec, mask: *const sigset_t
    ) -> c_int {
        |_forward| with_spec(
            time,
            |time, part| silent::epoll_pwait2(fd, time, mask, part),
            // SAFETY: the program's own call, but for the time.
            |time| unsafe { real()(fd, events, count, time, mask) }
        )
    }

    fn __fcntl_time64(fd: c_int, command: c_int, argument: c_long) -> c_int {
        |forward| descriptors::controlled(fd, command, forward)
    }

    fn __ioctl_time64(fd: c_int, request: c_ulong, argument: *mut c_void) -> c_int {
        |forward| settled(fd, forward)
    }

    // musl

    fn __recvmmsg_time64(fd: c_int, messages: *mut mmsghdr, count: c_uint, flags: c_int, time: *mut Spec) -> c_int {
        |forward| receiving(fd, flags, forward)
    }

    fn __select_time64(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *mut Val
    ) -> c_int {
        |_forward| select(count, [read, write, except], time, real())
    }

    fn __pselect_time64(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *const Spec,
        mask: *const sigset_t
    ) -> c_int {
        |_forward| pselect(count, [read, write, except], time, mask, real())
    }

    fn __ppoll_time64(fds: *mut pollfd, count: nfds_t, time: *const Spec, mask: *const sigset_t) -> c_int {
        // SAFETY: the program's own call, but for the time.
        |_forward| ppoll(fds, count, time, mask, |time| unsafe { real()(fds, count, time, mask) })
    }
}
