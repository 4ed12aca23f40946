//! Waits that a silent peer ends, and what the program is told of it. Without such a setting each costs one load.
//!
//! `call` is the real function. While a nonblocking connect goes on, [`parts`] may cut each wait made here into shorter
//! ones.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, epoll_event, nfds_t, pollfd, sigset_t, timespec};
use tcptune_core::sockets::silence::Silence;
use tcptune_core::system::clock;

use super::time::{milliseconds, of_milliseconds, of_timespec, with_timespec};
use super::{Failure, parts};
use crate::tuning::{TUNING, Tuning};

/// Whose silence ends waits, if a setting says so.
#[inline]
pub fn watching() -> Option<&'static Silence> {
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
        Some((silence, time)) => {
            let mut call = |time| with_timespec(time, &mut part);
            // Only a wait needs the signals held back: what is ready comes first.
            match if mask.is_null() && time != 0 { 0 } else { call(0) } {
                // SAFETY: the call is of these entries.
                0 if time != 0 => parts::held_back(mask, &mut || unsafe { silence.poll(fds, count, time, &mut call) }),
                ready => ready,
            }
        }
        None => part(timeout),
    }
}

/// epoll_wait(2) and epoll_pwait(2).
#[inline]
pub fn epoll(set: c_int, timeout: c_int, mask: *const sigset_t, mut call: impl FnMut(c_int) -> c_int) -> c_int {
    let mut part = |time| parts::epoll(time, mask, &mut call);
    match watching() {
        Some(silence) => {
            let (time, mut call) = (of_milliseconds(timeout), |time| part(milliseconds(time)));
            match silence.epoll_at_once(time, &mut call) {
                0 if time != 0 => parts::held_back(mask, &mut || silence.epoll(set, time, &mut call)),
                ready => ready,
            }
        }
        None => part(timeout),
    }
}

/// epoll_pwait2(2).
#[inline]
pub fn epoll_pwait2(
    set: c_int,
    timeout: *const timespec,
    mask: *const sigset_t,
    mut call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    let mut part = |time| parts::with_mask(time, mask, &mut call);
    match watching().and_then(|watching| Some((watching, of_timespec(timeout)?))) {
        Some((silence, time)) => {
            let mut call = |time| with_timespec(time, &mut part);
            match silence.epoll_at_once(time, &mut call) {
                0 if time != 0 => parts::held_back(mask, &mut || silence.epoll(set, time, &mut call)),
                ready => ready,
            }
        }
        None => part(timeout),
    }
}

/// After an epoll_ctl(2).
#[inline]
pub fn asked(set: c_int, operation: c_int, fd: c_int, event: *const epoll_event, result: c_int) -> c_int {
    if let (0, Some(silence)) = (result, watching()) {
        let forgotten = operation == libc::EPOLL_CTL_DEL || event.is_null();
        // SAFETY: the kernel has just read it; the structure has no alignment on x86.
        let events = if forgotten { 0 } else { unsafe { ptr::read_unaligned(event) }.events };
        silence.asked(set, fd, events);
    }
    result
}

/// Makes a call that may wait, and tells the program of the timeout that has ended it. Where its socket has a timeout, each
/// signal handler ends it with `EINTR` (signal(7)): where the settings have set the timeout, it goes on after those after
/// which it would go on without.
#[inline]
pub fn bounded<T: Failure + PartialEq>(fd: c_int, receives: bool, flags: c_int, call: impl Fn() -> T) -> T {
    let Some(tuning) = timing_out() else { return call() };
    let began = clock::at_last_tick();
    let mut result = call();
    while result == T::FAILURE && flags & libc::MSG_DONTWAIT == 0 && tuning.goes_on(fd, receives, began) {
        result = call();
    }
    if result == T::FAILURE {
        tuning.failed(fd, receives, (flags & libc::MSG_DONTWAIT == 0).then_some(began));
    }
    result
}

/// The same for a call that sends, and cannot be made again.
#[inline]
pub fn bounded_once(fd: c_int, call: impl FnOnce() -> c_int) -> c_int {
    let Some(tuning) = timing_out() else { return call() };
    let began = clock::at_last_tick();
    let result = call();
    if result == c_int::FAILURE {
        tuning.failed(fd, false, Some(began));
    }
    result
}

/// After a call that has received.
#[inline]
pub fn received<T: Failure + PartialEq>(fd: c_int, result: T) -> T {
    if let (true, Some(silence)) = (result != T::FAILURE, watching()) {
        silence.received(fd);
    }
    result
}

#[inline]
fn timing_out() -> Option<&'static Tuning> {
    TUNING.get().filter(|tuning| tuning.times_out)
}
