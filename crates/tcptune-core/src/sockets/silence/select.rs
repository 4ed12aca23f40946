//! select(2) and pselect(2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, fd_set};

use super::poll::nanoseconds;
use super::{FOREVER, Silence, Wait};
use crate::system::{errno, memory};

/// Bits of a word of an `fd_set`, which the kernel takes for longs.
const BITS: usize = usize::BITS as usize;

/// The sets of a program: to read, to write, exceptional.
pub type Sets = [*mut fd_set; 3];

/// Words of an `fd_set`.
const WORDS: usize = libc::FD_SETSIZE / BITS;

/// Whether the sets of so many descriptors, and a time of so many bytes, are there: what cannot be read, or is larger than
/// an `fd_set`, is the kernel's affair.
#[must_use]
pub fn can_be_read(count: c_int, sets: Sets, time: (*const u8, usize)) -> bool {
    let words = usize::try_from(count).unwrap_or(0).div_ceil(BITS);
    let [read, write, except] = sets.map(|set| (set.cast_const().cast::<u8>(), words * size_of::<usize>()));
    (1..=WORDS).contains(&words) && memory::are_readable(&[read, write, except, time])
}

/// A set of a program, and what it was before the kernel has overwritten it.
struct Set {
    at: *mut usize,
    words: usize,
    wanted: [usize; WORDS],
}

impl Set {
    const EMPTY: Self = Self { at: ptr::null_mut(), words: 0, wanted: [0; WORDS] };

    /// Copies a set; word by word, since most have one.
    ///
    /// # Safety
    /// Null, or so many words that can be read.
    unsafe fn copy(&mut self, at: *mut fd_set, words: usize) {
        self.at = at.cast();
        self.words = if at.is_null() { 0 } else { words };
        for (word, to) in self.wanted.iter_mut().enumerate().take(self.words) {
            // SAFETY: the caller's promise.
            *to = unsafe { self.at.add(word).read_unaligned() };
        }
    }

    /// # Safety
    /// The kernel has just written the words.
    unsafe fn put_back(&self) {
        // SAFETY: the caller's promise.
        unsafe { ptr::copy_nonoverlapping(self.wanted.as_ptr(), self.at, self.words) };
    }

    /// What of it is ready, in a word; nothing of a wait that was interrupted, which leaves the sets as they were.
    ///
    /// # Safety
    /// The words can be read.
    unsafe fn ready(&self, word: usize, interrupted: bool) -> usize {
        // SAFETY: the caller's promise.
        if interrupted { 0 } else { unsafe { self.at.add(word).read_unaligned() } }
    }
}

impl Silence {
    /// Waits as `call` does, which is given a time in nanoseconds, [`FOREVER`] for no end. The kernel overwrites the sets,
    /// so they are copied before. Gives how long it waited as well.
    ///
    /// # Safety
    /// `call` is a select(2) of these sets, of so many descriptors, and they [`can_be_read`].
    pub unsafe fn select(
        &self,
        count: c_int,
        sets: Sets,
        timeout: u64,
        call: &mut dyn FnMut(u64) -> c_int,
    ) -> (c_int, u64) {
        if timeout == 0 {
            return (call(0), 0);
        }
        let words = usize::try_from(count).unwrap_or(0).div_ceil(BITS).min(WORDS);
        let mut copies = [Set::EMPTY; 3];
        for (copy, set) in copies.iter_mut().zip(sets) {
            // SAFETY: so many words can be read.
            unsafe { copy.copy(set, words) };
        }
        let began = nanoseconds();
        let mut last = began;
        let (mut left, mut bound) = (timeout, self.first_look());
        loop {
            let result = call(left.min(bound).min(self.until_due()));
            let interrupted = result < 0;
            if interrupted && errno::get() != libc::EINTR {
                return (result, last - began);
            }
            let now = nanoseconds();
            bound = FOREVER;
            for (wait, set) in [Wait::Receive, Wait::Send].into_iter().zip(&copies) {
                // SAFETY: they can be read.
                bound = bound.min(unsafe { self.waited_on_set(set, wait, now.saturating_sub(last), interrupted) });
            }
            last = now;
            let waited = now.saturating_sub(began);
            if result != 0 || left == 0 {
                return (result, waited);
            }
            if timeout != FOREVER {
                left = timeout.saturating_sub(waited);
            }
            for set in &copies {
                // SAFETY: the kernel has just written there that nothing is ready.
                unsafe { set.put_back() };
            }
        }
    }

    /// # Safety
    /// The set can be read.
    #[inline(never)]
    unsafe fn waited_on_set(&self, set: &Set, wait: Wait, nanos: u64, interrupted: bool) -> u64 {
        let mut bound = FOREVER;
        for (word, wanted) in set.wanted.iter().enumerate().take(set.words) {
            let mut wanted = *wanted;
            // SAFETY: the caller's promise.
            let ready = unsafe { set.ready(word, interrupted) };
            while wanted != 0 {
                let bit = wanted.trailing_zeros();
                wanted &= wanted - 1;
                let fd = c_int::try_from(word * BITS).unwrap_or(-1) + bit.cast_signed();
                bound = bound.min(self.waited(fd, wait, nanos, ready & (1 << bit) != 0));
            }
        }
        bound
    }
}
