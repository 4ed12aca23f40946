//! Waits in parts: each ends where something of an attempt is due, and goes on. `call` is the real function, with the time
//! of a part. While no attempt goes on, each costs one load.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, nfds_t, pollfd, sigset_t, timespec};
use tcptune_core::system::{memory, signals};

use super::attempting;
use super::time::{milliseconds, of_milliseconds, of_timespec, with_timespec};
use crate::tuning::Tuning;

/// poll(2), which says what it reports.
#[inline]
pub fn poll(fds: *const pollfd, count: nfds_t, timeout: c_int, mut call: impl FnMut(c_int) -> c_int) -> c_int {
    let Some(tuning) = attempting() else { return call(timeout) };
    let result = tuning.wait(of_milliseconds(timeout), &mut |time| call(milliseconds(time)));
    tuning.settle_polled(fds, count, result);
    result
}

/// ppoll(2).
#[inline]
pub fn ppoll(
    fds: *const pollfd,
    count: nfds_t,
    timeout: *const timespec,
    mask: *const sigset_t,
    call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    let result = with_mask(timeout, mask, call);
    if let Some(tuning) = attempting() {
        tuning.settle_polled(fds, count, result);
    }
    result
}

/// A wait that takes a timespec and a mask of signals: ppoll(2) and epoll_pwait2(2).
#[inline]
pub fn with_mask(
    timeout: *const timespec,
    mask: *const sigset_t,
    mut call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    match attempting().and_then(|tuning| Some((tuning, of_timespec(timeout)?))) {
        Some((tuning, limit)) => masked(tuning, limit, mask, &mut call),
        None => call(timeout),
    }
}

#[inline(never)]
fn masked(tuning: &Tuning, limit: u64, mask: *const sigset_t, call: &mut dyn FnMut(*const timespec) -> c_int) -> c_int {
    held_back(mask, &mut || tuning.wait(limit, &mut |time| with_timespec(time, &mut *call)))
}

/// epoll_wait(2) and epoll_pwait(2).
#[inline]
pub fn epoll(timeout: c_int, mask: *const sigset_t, mut call: impl FnMut(c_int) -> c_int) -> c_int {
    match attempting() {
        Some(tuning) => {
            held_back(mask, &mut || tuning.wait(of_milliseconds(timeout), &mut |time| call(milliseconds(time))))
        }
        None => call(timeout),
    }
}

/// Blocks the signals in `mask` while a wait is made in parts: between two parts they would be delivered, which the one
/// call that the program asked for would not let happen.
pub fn held_back(mask: *const sigset_t, wait: &mut dyn FnMut() -> c_int) -> c_int {
    if mask.is_null() || !memory::is_readable(mask.cast(), size_of::<u64>()) {
        return wait();
    }
    // SAFETY: what the kernel knows of a set can be read.
    let before = signals::block(unsafe { mask.cast::<u64>().read_unaligned() });
    let result = wait();
    signals::set_mask(before);
    result
}
