//! select(2) and pselect(2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, fd_set};

use super::{FOREVER, Silence, Wait};
use crate::system::memory;

/// Bits of a word of an `fd_set`, which the kernel takes for longs.
const BITS: usize = usize::BITS as usize;

/// Words of an `fd_set`.
const WORDS: usize = libc::FD_SETSIZE / BITS;

/// The sets of a program: to read, to write, exceptional.
pub type Sets = [*mut fd_set; 3];

/// What a program has asked for, since the kernel writes its answer over it.
#[derive(Debug)]
pub struct Asked {
    sets: Sets,
    words: usize,
    wanted: [[usize; WORDS]; 3],
}

impl Asked {
    /// `None` where the sets, or a time of so many bytes, cannot be read, or the sets are larger than an `fd_set`: that is
    /// the kernel's affair.
    #[must_use]
    #[inline(never)]
    pub fn of(count: c_int, sets: Sets, time: (*const u8, usize)) -> Option<Self> {
        let words = usize::try_from(count).ok()?.div_ceil(BITS);
        let [read, write, except] = sets.map(|set| (set.cast_const().cast::<u8>(), words * size_of::<usize>()));
        if words > WORDS || !memory::are_readable(&[read, write, except, time]) {
            return None;
        }
        let mut asked = Self { sets, words, wanted: [[0; WORDS]; 3] };
        for (set, wanted) in sets.iter().zip(&mut asked.wanted).filter(|(set, _)| !set.is_null()) {
            // Most sets have one word, for which a loop is shorter than a call.
            for (word, to) in wanted.iter_mut().enumerate().take(words) {
                // SAFETY: so many words can be read.
                *to = unsafe { set.cast::<usize>().add(word).read_unaligned() };
            }
        }
        Some(asked)
    }

    /// Asks for the same again.
    ///
    /// # Safety
    /// The kernel has written to the sets.
    pub unsafe fn again(&self) {
        for (set, wanted) in self.sets.iter().zip(&self.wanted).filter(|(set, _)| !set.is_null()) {
            // SAFETY: the caller's promise.
            unsafe { ptr::copy_nonoverlapping(wanted.as_ptr(), set.cast(), self.words) };
        }
    }

    /// Each descriptor that is reported, once for each of the sets.
    ///
    /// # Safety
    /// The kernel has just written to the sets.
    pub unsafe fn each_reported(&self, mut each: impl FnMut(c_int)) {
        for set in self.sets.iter().filter(|set| !set.is_null()) {
            for word in 0..self.words {
                // SAFETY: the caller's promise.
                each_bit(word, unsafe { set.cast::<usize>().add(word).read_unaligned() }, |fd, _| each(fd));
            }
        }
    }
}

/// The descriptors of the bits of a word, and each bit.
fn each_bit(word: usize, mut bits: usize, mut each: impl FnMut(c_int, usize)) {
    while bits != 0 {
        let first = c_int::try_from(word * BITS).unwrap_or(-1);
        each(first + bits.trailing_zeros().cast_signed(), bits & bits.wrapping_neg());
        bits &= bits - 1;
    }
}

impl Silence {
    /// Waits as `call` does, which is given a time in nanoseconds, [`FOREVER`] for no end.
    ///
    /// # Safety
    /// `call` is a select(2) of what is asked for, each time anew.
    pub unsafe fn select(&self, asked: &Asked, timeout: u64, call: &mut dyn FnMut(u64) -> c_int) -> c_int {
        // SAFETY: the kernel has read them, and written to them unless it was interrupted.
        self.in_parts(timeout, call, |time, result| unsafe { self.waited_on_sets(asked, time, result < 0) })
    }

    /// Nothing is ready where the wait was interrupted: that leaves the sets as they were.
    ///
    /// # Safety
    /// The sets can be read.
    #[inline(never)]
    unsafe fn waited_on_sets(&self, asked: &Asked, time: (u64, u64), interrupted: bool) -> u64 {
        let mut bound = FOREVER;
        for (wait, (set, wanted)) in [Wait::Receive, Wait::Send].into_iter().zip(asked.sets.iter().zip(&asked.wanted)) {
            for (word, wanted) in wanted.iter().enumerate().take(asked.words).filter(|(_, wanted)| **wanted != 0) {
                // SAFETY: the caller's promise; something is wanted, so it is there.
                let ready = if interrupted { 0 } else { unsafe { set.cast::<usize>().add(word).read_unaligned() } };
                each_bit(word, *wanted, |fd, bit| {
                    bound = bound.min(self.waited(fd, wait, time, ready & bit != 0));
                });
            }
        }
        bound
    }
}
