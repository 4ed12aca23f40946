//! select(2) and pselect(2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, fd_set};

use super::poll::nanoseconds;
use super::{FOREVER, Silence, Wait};
use crate::system::{errno, memory};

/// Bits of a word of an `fd_set`, which the kernel takes for longs.
const BITS: usize = 64;

/// The sets of a program: to read, to write, exceptional.
pub type Sets = [*mut fd_set; 3];

/// A copy of one.
type Copied = [u64; libc::FD_SETSIZE / BITS];

/// Whether the sets of so many descriptors, and a time of so many bytes, are there: what cannot be read, or is larger than
/// an `fd_set`, is the kernel's affair.
#[must_use]
pub fn can_be_read(count: c_int, sets: Sets, time: (*const u8, usize)) -> bool {
    let words = usize::try_from(count).unwrap_or(0).div_ceil(BITS);
    let [read, write, except] = sets.map(|set| (set.cast_const().cast::<u8>(), words * 8));
    (1..=libc::FD_SETSIZE / BITS).contains(&words) && memory::are_readable(&[read, write, except, time])
}

impl Silence {
    /// Waits as `call` does, which is given a time in nanoseconds, [`FOREVER`] for no end. The kernel overwrites the sets,
    /// so they are copied before.
    ///
    /// # Safety
    /// `call` is a select(2) of these sets, of so many descriptors, and they [`can_be_read`].
    pub unsafe fn select(&self, count: c_int, sets: Sets, timeout: u64, mut call: impl FnMut(u64) -> c_int) -> c_int {
        let words = usize::try_from(count).unwrap_or(0).div_ceil(BITS);
        if timeout == 0 {
            return call(0);
        }
        let copy = |set: *mut fd_set| {
            let mut copied: Copied = [0; libc::FD_SETSIZE / BITS];
            if !set.is_null() {
                // SAFETY: so many words can be read.
                unsafe { ptr::copy_nonoverlapping(set.cast(), copied.as_mut_ptr(), words) };
            }
            copied
        };
        let wanted = sets.map(copy);
        let began = nanoseconds();
        let mut last = began;
        let (mut left, mut bound) = (timeout, self.first_look());
        loop {
            let result = call(left.min(bound).min(self.until_due()));
            let interrupted = result < 0;
            if interrupted && errno::get() != libc::EINTR {
                return result;
            }
            let now = nanoseconds();
            let nanos = now.saturating_sub(last);
            last = now;
            bound = FOREVER;
            for (wait, (wanted, set)) in [Wait::Receive, Wait::Send].into_iter().zip(wanted.iter().zip(sets)) {
                if set.is_null() {
                    continue;
                }
                // After an error the sets are as they were.
                let ready = if interrupted { [0; libc::FD_SETSIZE / BITS] } else { copy(set) };
                for (word, (wanted, ready)) in wanted.iter().zip(ready).enumerate().take(words) {
                    let mut bits = *wanted;
                    while bits != 0 {
                        let bit = bits.trailing_zeros();
                        bits &= bits - 1;
                        let fd = c_int::try_from(word * BITS).unwrap_or(-1) + bit.cast_signed();
                        bound = bound.min(self.waited(fd, wait, nanos, ready & (1 << bit) != 0));
                    }
                }
            }
            if result != 0 || left == 0 {
                return result;
            }
            if timeout != FOREVER {
                left = timeout.saturating_sub(now.saturating_sub(began));
            }
            for (set, wanted) in sets.into_iter().zip(&wanted).filter(|(set, _)| !set.is_null()) {
                // SAFETY: the kernel has just written so many words there.
                unsafe { ptr::copy_nonoverlapping(wanted.as_ptr(), set.cast(), words) };
            }
        }
    }
}
