//! Waits that a silent peer ends, and what the program is told of it. Without such a setting each costs one load.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, epoll_event, nfds_t, pollfd, ssize_t, time_t, timespec, timeval};
use tcptune_core::sockets::silence::select::{Sets, can_be_read};
use tcptune_core::sockets::silence::{FOREVER, Silence};
use tcptune_core::system::memory;

use crate::tuning::{TUNING, Tuning};

const MILLI: u64 = 1_000_000;
const SECOND: u64 = 1_000_000_000;

#[inline]
fn watching() -> Option<&'static Silence> {
    TUNING.get()?.silence.as_ref()
}

/// poll(2): `call` is the real one.
#[inline]
pub fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int, mut call: impl FnMut(c_int) -> c_int) -> c_int {
    match watching() {
        // SAFETY: the call is of these entries.
        Some(silence) => unsafe {
            silence.poll(fds, count, of_milliseconds(timeout), &mut |time| call(milliseconds(time)))
        },
        None => call(timeout),
    }
}

/// ppoll(2).
#[inline]
pub fn ppoll(
    fds: *mut pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mut call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    match watching().and_then(|watching| Some((watching, of_timespec(timeout)?))) {
        // SAFETY: the call is of these entries.
        Some((silence, time)) => unsafe { silence.poll(fds, count, time, &mut |time| with_timespec(time, &mut call)) },
        None => call(timeout),
    }
}

/// select(2), which writes back what is left of the time.
#[inline]
pub fn select(count: c_int, sets: Sets, timeout: *mut timeval, mut call: impl FnMut(*mut timeval) -> c_int) -> c_int {
    let time = (timeout.cast_const().cast(), size_of::<timeval>());
    let Some(silence) = watching().filter(|_| can_be_read(count, sets, time)) else { return call(timeout) };
    let Some(limit) = of_timeval(timeout) else { return call(timeout) };
    // SAFETY: the call is of these sets, which can be read.
    let (result, waited) = unsafe {
        silence.select(count, sets, limit, &mut |time| {
            let mut time = (time != FOREVER).then(|| in_timeval(time));
            call(time.as_mut().map_or(ptr::null_mut(), ptr::from_mut))
        })
    };
    if !timeout.is_null() && can_be_written(timeout, sets) {
        // SAFETY: it can be written to.
        unsafe { timeout.write_unaligned(in_timeval(limit.saturating_sub(waited))) };
    }
    result
}

/// pselect(2).
#[inline]
pub fn pselect(
    count: c_int,
    sets: Sets,
    timeout: *const timespec,
    mut call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    let time = (timeout.cast(), size_of::<timespec>());
    let watching = watching().filter(|_| can_be_read(count, sets, time));
    match watching.and_then(|watching| Some((watching, of_timespec(timeout)?))) {
        // SAFETY: the call is of these sets, which can be read.
        Some((silence, time)) => unsafe {
            silence.select(count, sets, time, &mut |time| with_timespec(time, &mut call)).0
        },
        None => call(timeout),
    }
}

/// epoll_wait(2) and epoll_pwait(2).
#[inline]
pub fn epoll_wait(timeout: c_int, mut call: impl FnMut(c_int) -> c_int) -> c_int {
    match watching() {
        Some(silence) => silence.epoll(of_milliseconds(timeout), |time| call(milliseconds(time))),
        None => call(timeout),
    }
}

/// epoll_pwait2(2).
#[inline]
pub fn epoll_pwait2(timeout: *const timespec, mut call: impl FnMut(*const timespec) -> c_int) -> c_int {
    match watching().and_then(|watching| Some((watching, of_timespec(timeout)?))) {
        Some((silence, time)) => silence.epoll(time, |time| with_timespec(time, &mut call)),
        None => call(timeout),
    }
}

/// After an epoll_ctl(2).
#[inline]
pub fn asked(operation: c_int, fd: c_int, event: *const epoll_event, result: c_int) -> c_int {
    if let (0, Some(silence)) = (result, watching()) {
        let forgotten = operation == libc::EPOLL_CTL_DEL || event.is_null();
        // SAFETY: the kernel has just read it; the structure has no alignment on x86.
        let events = if forgotten { 0 } else { unsafe { ptr::read_unaligned(event) }.events };
        silence.asked(fd, events);
    }
    result
}

/// After a call that receives: how many bytes came, with these flags.
#[inline]
pub fn received(fd: c_int, flags: c_int, result: ssize_t) -> ssize_t {
    if let Some(tuning) = timing_out() {
        if result < 0 {
            tuning.failed(fd, true, flags & libc::MSG_DONTWAIT == 0);
        } else if let Some(silence) = &tuning.silence {
            silence.received(fd);
        }
    }
    result
}

/// After a call that sends.
#[inline]
pub fn sent(fd: c_int, flags: c_int, result: ssize_t) -> ssize_t {
    if result < 0
        && let Some(tuning) = timing_out()
    {
        tuning.failed(fd, false, flags & libc::MSG_DONTWAIT == 0);
    }
    result
}

#[inline]
fn timing_out() -> Option<&'static Tuning> {
    TUNING.get().filter(|tuning| tuning.times_out)
}

fn of_milliseconds(time: c_int) -> u64 {
    u64::try_from(time).map_or(FOREVER, |time| time * MILLI)
}

/// Rounded up: a wait must not end too early.
fn milliseconds(time: u64) -> c_int {
    if time == FOREVER { -1 } else { c_int::try_from(time.div_ceil(MILLI)).unwrap_or(c_int::MAX) }
}

/// A program's time; `None` where it is none.
fn of_timespec(time: *const timespec) -> Option<u64> {
    if time.is_null() {
        return Some(FOREVER);
    }
    if !memory::are_readable(&[(time.cast(), size_of::<timespec>())]) {
        return None;
    }
    // SAFETY: it can be read.
    let timespec { tv_sec, tv_nsec } = unsafe { time.read_unaligned() };
    sum(tv_sec.into(), tv_nsec.into(), 1)
}

fn of_timeval(time: *const timeval) -> Option<u64> {
    if time.is_null() {
        return Some(FOREVER);
    }
    // SAFETY: the caller knows that it can be read.
    let timeval { tv_sec, tv_usec } = unsafe { time.read_unaligned() };
    sum(tv_sec.into(), tv_usec.into(), 1000)
}

/// What the kernel would refuse is its own affair.
fn sum(seconds: i64, parts: i64, nanos: u64) -> Option<u64> {
    let parts = u64::try_from(parts).ok()?.checked_mul(nanos)?;
    let seconds = u64::try_from(seconds).ok()?.saturating_mul(SECOND);
    Some(seconds.saturating_add(parts).min(FOREVER - 1)).filter(|_| parts < SECOND)
}

/// Whether the time of a select(2) may be written to: a program may have it in constants. The kernel has written to the
/// sets, and to the pages that they are on.
fn can_be_written(time: *mut timeval, sets: Sets) -> bool {
    let page = |at: usize| at / 4096;
    let (first, last) = (time.addr(), time.addr() + size_of::<timeval>() - 1);
    page(first) == page(last) && sets.iter().any(|set| !set.is_null() && page(set.addr()) == page(first))
        || memory::is_writable(time.cast(), size_of::<timeval>())
}

fn in_timeval(time: u64) -> timeval {
    let timespec { tv_sec, tv_nsec } = in_timespec(time);
    timeval { tv_sec, tv_usec: tv_nsec / 1000 }
}

fn in_timespec(time: u64) -> timespec {
    timespec {
        tv_sec: (time / SECOND).try_into().unwrap_or(time_t::MAX),
        tv_nsec: (time % SECOND).try_into().unwrap_or(0),
    }
}

fn with_timespec(time: u64, call: &mut impl FnMut(*const timespec) -> c_int) -> c_int {
    if time == FOREVER { call(ptr::null()) } else { call(&in_timespec(time)) }
}
