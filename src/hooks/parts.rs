//! Waits in parts: each ends where something of an attempt is due, and goes on. `call` is the real function, with the time
//! of a part. While no attempt goes on, each costs one load.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, c_ulong, fd_set, nfds_t, pollfd, sigset_t, timespec, timeval};
use tcptune_core::system::{memory, signals};

use super::attempting;
use super::time::{FOREVER, in_timeval, milliseconds, of_milliseconds, of_timespec, of_timeval, with_timespec};
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

/// The sets of a select(2): to read, to write, of exceptions.
pub type Sets = [*mut fd_set; 3];

/// select(2), which writes back what is left of the time.
#[inline]
pub fn select(count: c_int, sets: Sets, timeout: *mut timeval, mut call: impl FnMut(*mut timeval) -> c_int) -> c_int {
    match attempting() {
        Some(tuning) => select_in_parts(tuning, count, sets, timeout, &mut call),
        None => call(timeout),
    }
}

fn select_in_parts(
    tuning: &Tuning,
    count: c_int,
    sets: Sets,
    timeout: *mut timeval,
    call: &mut dyn FnMut(*mut timeval) -> c_int,
) -> c_int {
    let (Some(limit), Some(asked)) = (of_timeval(timeout), Asked::of(count, sets)) else { return call(timeout) };
    let mut left = limit;
    let result = tuning.wait(limit, &mut |time| {
        asked.ask();
        let mut part = in_timeval(time);
        let result = call(if time == FOREVER { ptr::null_mut() } else { &raw mut part });
        let spent = time - of_timeval(&raw const part).unwrap_or(0).min(time);
        left = if left == FOREVER { left } else { left.saturating_sub(spent) };
        result
    });
    if !timeout.is_null() && memory::is_writable(timeout.cast(), size_of::<timeval>()) {
        // SAFETY: it can be written to; without a time limit there is none.
        unsafe { timeout.write_unaligned(in_timeval(left)) };
    }
    asked.settle(result);
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
    match attempting() {
        Some(tuning) => pselect_in_parts(tuning, count, sets, timeout, mask, &mut call),
        None => call(timeout),
    }
}

fn pselect_in_parts(
    tuning: &Tuning,
    count: c_int,
    sets: Sets,
    timeout: *const timespec,
    mask: *const sigset_t,
    call: &mut dyn FnMut(*const timespec) -> c_int,
) -> c_int {
    let (Some(limit), Some(asked)) = (of_timespec(timeout), Asked::of(count, sets)) else { return call(timeout) };
    let result = masked(tuning, limit, mask, &mut |time| {
        asked.ask();
        call(time)
    });
    asked.settle(result);
    result
}

/// Bits of a word of an `fd_set`, which the kernel takes for longs.
const BITS: usize = c_ulong::BITS as usize;
const WORDS: usize = libc::FD_SETSIZE / BITS;

/// What a program has asked select(2) for: the kernel writes its answer over it.
struct Asked {
    sets: Sets,
    words: usize,
    copies: [[c_ulong; WORDS]; 3],
}

impl Asked {
    /// `None` where the sets cannot be read, or are larger than an `fd_set`: that is the kernel's affair.
    #[inline(never)]
    fn of(count: c_int, sets: Sets) -> Option<Self> {
        let words = usize::try_from(count).ok()?.div_ceil(BITS);
        if words > WORDS
            || !memory::are_readable(&sets.map(|set| (set.cast_const().cast(), words * size_of::<c_ulong>())))
        {
            return None;
        }
        let mut copies = [[0; WORDS]; 3];
        for (set, copy) in sets.iter().zip(&mut copies).filter(|(set, _)| !set.is_null()) {
            // SAFETY: so many words can be read.
            unsafe { ptr::copy_nonoverlapping(set.cast(), copy.as_mut_ptr(), words) };
        }
        Some(Self { sets, words, copies })
    }

    /// Asks for the same again.
    fn ask(&self) {
        for (set, copy) in self.sets.iter().zip(&self.copies).filter(|(set, _)| !set.is_null()) {
            // SAFETY: the kernel has written there, or will: the program's own sets.
            unsafe { ptr::copy_nonoverlapping(copy.as_ptr(), set.cast(), self.words) };
        }
    }

    /// Settles what is reported.
    fn settle(&self, result: c_int) {
        let Some(tuning) = attempting().filter(|_| result > 0) else { return };
        for set in self.sets.iter().filter(|set| !set.is_null()) {
            for word in 0..self.words {
                // SAFETY: the kernel has written so many words there.
                let mut bits = unsafe { set.cast::<c_ulong>().add(word).read_unaligned() };
                while bits != 0 {
                    let fd = c_int::try_from(word * BITS).unwrap_or(-1) + bits.trailing_zeros().cast_signed();
                    tuning.attempts.settle(&tuning.real, fd);
                    bits &= bits - 1;
                }
            }
        }
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
