//! Waits that a silent peer ends, and what the program is told of it. Without such a setting each costs one load.
//!
//! `call` is the real function. While a nonblocking connect goes on, [`parts`] may cut each wait made here into shorter
//! ones.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, epoll_event, nfds_t, pollfd, sigset_t, timespec, timeval};
use tcptune_core::sockets::silence::select::{Sets, can_be_read};
use tcptune_core::sockets::silence::{FOREVER, Silence};
use tcptune_core::system::memory;

use super::time::{in_timeval, milliseconds, of_milliseconds, of_timespec, of_timeval, with_timespec};
use super::{Failure, parts};
use crate::tuning::{TUNING, Tuning};

#[inline]
fn watching() -> Option<&'static Silence> {
    TUNING.get()?.silence.as_ref()
}

/// poll(2).
#[inline]
pub fn poll(fds: *const pollfd, count: nfds_t, timeout: c_int, mut call: impl FnMut(c_int) -> c_int) -> c_int {
    let mut part = |time| parts::poll(fds, count, time, &mut call);
    match watching() {
        // SAFETY: the call is of these entries.
        Some(silence) => unsafe {
            silence.poll(fds, count, of_milliseconds(timeout), &mut |time| part(milliseconds(time)))
        },
        None => part(timeout),
    }
}

/// ppoll(2).
#[inline]
pub fn ppoll(
    fds: *const pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    mut call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    let mut part = |time| parts::ppoll(fds, count, time, mask, &mut call);
    match watching().and_then(|watching| Some((watching, of_timespec(timeout)?))) {
        Some((silence, time)) => parts::held_back(mask, &mut || {
            // SAFETY: the call is of these entries.
            unsafe { silence.poll(fds, count, time, &mut |time| with_timespec(time, &mut part)) }
        }),
        None => part(timeout),
    }
}

/// select(2), which writes back what is left of the time.
#[inline]
pub fn select(count: c_int, sets: Sets, timeout: *mut timeval, mut call: impl FnMut(*mut timeval) -> c_int) -> c_int {
    let mut part = |time| parts::select(count, sets, time, &mut call);
    let time = (timeout.cast_const().cast(), size_of::<timeval>());
    let watching = watching().filter(|_| can_be_read(count, sets, time));
    let Some((silence, limit)) = watching.and_then(|watching| Some((watching, of_timeval(timeout)?))) else {
        return part(timeout);
    };
    // SAFETY: the call is of these sets, which can be read.
    let (result, waited) = unsafe {
        silence.select(count, sets, limit, &mut |time| {
            let mut time = (time != FOREVER).then(|| in_timeval(time));
            part(time.as_mut().map_or(ptr::null_mut(), ptr::from_mut))
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
    mask: *const sigset_t,
    mut call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    let mut part = |time| parts::pselect(count, sets, time, mask, &mut call);
    let time = (timeout.cast(), size_of::<timespec>());
    let watching = watching().filter(|_| can_be_read(count, sets, time));
    match watching.and_then(|watching| Some((watching, of_timespec(timeout)?))) {
        Some((silence, time)) => parts::held_back(mask, &mut || {
            // SAFETY: the call is of these sets, which can be read.
            unsafe { silence.select(count, sets, time, &mut |time| with_timespec(time, &mut part)) }.0
        }),
        None => part(timeout),
    }
}

/// epoll_wait(2) and epoll_pwait(2).
#[inline]
pub fn epoll(timeout: c_int, mask: *const sigset_t, mut call: impl FnMut(c_int) -> c_int) -> c_int {
    let mut part = |time| parts::epoll(time, mask, &mut call);
    match watching() {
        Some(silence) => {
            parts::held_back(mask, &mut || silence.epoll(of_milliseconds(timeout), |time| part(milliseconds(time))))
        }
        None => part(timeout),
    }
}

/// epoll_pwait2(2).
#[inline]
pub fn epoll_pwait2(
    timeout: *const timespec,
    mask: *const sigset_t,
    mut call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    let mut part = |time| parts::with_mask(time, mask, &mut call);
    match watching().and_then(|watching| Some((watching, of_timespec(timeout)?))) {
        Some((silence, time)) => {
            parts::held_back(mask, &mut || silence.epoll(time, |time| with_timespec(time, &mut part)))
        }
        None => part(timeout),
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

/// After a call that receives, with these flags.
#[inline]
pub fn received<T: Failure + PartialEq>(fd: c_int, flags: c_int, result: T) -> T {
    if let Some(tuning) = timing_out() {
        if result == T::FAILURE {
            tuning.failed(fd, true, flags & libc::MSG_DONTWAIT == 0);
        } else if let Some(silence) = &tuning.silence {
            silence.received(fd);
        }
    }
    result
}

/// After a call that sends.
#[inline]
pub fn sent<T: Failure + PartialEq>(fd: c_int, flags: c_int, result: T) -> T {
    if result == T::FAILURE
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

/// Whether the time of a select(2) can be written to: a program may keep it in read-only memory, and the kernel ignores
/// that it cannot write there. The pages of the sets can be written to, since the kernel has just done so.
fn can_be_written(time: *mut timeval, sets: Sets) -> bool {
    let page = |at: usize| at / 4096;
    let (first, last) = (time.addr(), time.addr() + size_of::<timeval>() - 1);
    page(first) == page(last) && sets.iter().any(|set| !set.is_null() && page(set.addr()) == page(first))
        || memory::is_writable(time.cast(), size_of::<timeval>())
}
