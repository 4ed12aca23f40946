//! select(2) and pselect(2), in parts that end where something of an attempt is due, or a silent peer is to be looked at:
//! the kernel overwrites the sets, so each part asks anew. `call` is the real function.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::{mem, ptr};

use libc::{c_int, sigset_t, timespec, timeval};
use tcptune_core::sockets::silence::Silence;
use tcptune_core::sockets::silence::select::{Asked, Sets};
use tcptune_core::system::{clock, memory};

use super::attempting;
use super::parts::held_back;
use super::silent::watching;
use super::time::{FOREVER, in_timeval, of_timespec, of_timeval, with_timespec};

/// select(2), which writes back what is left of the time, where libc's does: musl's leaves it as it is.
#[inline]
pub fn select(count: c_int, sets: Sets, timeout: *mut timeval, mut call: impl FnMut(*mut timeval) -> c_int) -> c_int {
    if is_in_parts(count) { select_in_parts(count, sets, timeout, &mut call) } else { call(timeout) }
}

/// pselect(2), which does not.
#[inline]
pub fn pselect(
    count: c_int,
    sets: Sets,
    timeout: *const timespec,
    mask: *const sigset_t,
    mut call: impl FnMut(*const timespec) -> c_int,
) -> c_int {
    if is_in_parts(count) { pselect_in_parts(count, sets, (timeout, mask), &mut call) } else { call(timeout) }
}

#[inline]
fn is_in_parts(count: c_int) -> bool {
    silence(count).is_some() || attempting().is_some()
}

/// Whose silence ends a wait for so many descriptors; none is a sleep.
#[inline]
fn silence(count: c_int) -> Option<&'static Silence> {
    watching().filter(|_| count > 0)
}

#[inline(never)]
fn select_in_parts(
    count: c_int,
    sets: Sets,
    timeout: *mut timeval,
    call: &mut dyn FnMut(*mut timeval) -> c_int,
) -> c_int {
    let asked = Asked::of(count, sets, (timeout.cast_const().cast(), size_of::<timeval>()));
    let (Some(asked), Some(limit)) = (asked, of_timeval(timeout)) else { return call(timeout) };
    let began = clock::nanoseconds();
    let mut written_back = false;
    let result = wait(silence(count), &asked, limit, &mut |time| {
        let before = in_timeval(time);
        let mut part = before;
        let result = call(if time == FOREVER { ptr::null_mut() } else { &raw mut part });
        written_back |= (part.tv_sec, part.tv_usec) != (before.tv_sec, before.tv_usec);
        result
    });
    if written_back && !timeout.is_null() && can_be_written(timeout, sets, result) {
        let waited = clock::nanoseconds().saturating_sub(began);
        // SAFETY: it can be written to.
        unsafe { timeout.write_unaligned(in_timeval(limit.saturating_sub(waited))) };
    }
    result
}

#[inline(never)]
fn pselect_in_parts(
    count: c_int,
    sets: Sets,
    (timeout, mask): (*const timespec, *const sigset_t),
    call: &mut dyn FnMut(*const timespec) -> c_int,
) -> c_int {
    let asked = Asked::of(count, sets, (timeout.cast(), size_of::<timespec>()));
    let (Some(asked), Some(limit)) = (asked, of_timespec(timeout)) else { return call(timeout) };
    let mut call = |time| with_timespec(time, &mut *call);
    // Only a wait needs the signals held back: what is ready comes first.
    if !mask.is_null() || limit == 0 {
        let ready = wait(None, &asked, 0, &mut call);
        if ready != 0 || limit == 0 {
            return ready;
        }
        // SAFETY: the kernel has written to the sets that nothing is ready.
        unsafe { asked.again() };
    }
    held_back(mask, &mut || wait(silence(count), &asked, limit, &mut call))
}

/// Waits for so many nanoseconds, and settles what is reported.
fn wait(silence: Option<&Silence>, asked: &Asked, limit: u64, call: &mut dyn FnMut(u64) -> c_int) -> c_int {
    let mut first = true;
    let mut ask = |time| {
        if !mem::take(&mut first) {
            // SAFETY: the call before has found nothing ready, and written that to the sets.
            unsafe { asked.again() };
        }
        call(time)
    };
    let mut part = |time| match attempting() {
        Some(tuning) => tuning.wait(time, &mut ask),
        None => ask(time),
    };
    let result = match silence {
        // SAFETY: it is a select of what is asked for.
        Some(silence) => unsafe { silence.select(asked, limit, &mut part) },
        None => part(limit),
    };
    if let Some(tuning) = attempting().filter(|_| result > 0) {
        // SAFETY: the kernel has just written to the sets.
        unsafe {
            asked.each_reported(|fd| {
                tuning.attempts.settle(&tuning.real, fd);
            });
        }
    }
    result
}

/// Whether the time of a select(2) can be written to: a program may keep it in read-only memory, and the kernel ignores
/// that it cannot write there. The pages of the sets can be written to, if the kernel has just done so.
fn can_be_written(time: *mut timeval, sets: Sets, result: c_int) -> bool {
    let page = |at: usize| at / 4096;
    let (first, last) = (time.addr(), time.addr() + size_of::<timeval>() - 1);
    let is_beside_a_set = || sets.iter().any(|set| !set.is_null() && page(set.addr()) == page(first));
    result >= 0 && page(first) == page(last) && is_beside_a_set()
        || memory::is_writable(time.cast(), size_of::<timeval>())
}
