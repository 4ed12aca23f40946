//! The monotonic clock.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;
use std::mem;
use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::time::Duration;

use libc::{c_int, c_void, clockid_t, timespec};

use crate::system::call::call;

/// `__vdso_clock_gettime` of vdso(7), which answers without a system call: the result is 0, or an errno below 0.
pub type Vdso = unsafe extern "C" fn(clockid_t, *mut timespec) -> c_int;

// SAFETY: a section of initialised variables, in a page that start-up writes to anyway.
#[unsafe(link_section = ".data")]
static VDSO: AtomicPtr<c_void> = AtomicPtr::new(ptr::null_mut());

/// From now on the clock is read there.
pub fn use_vdso(function: Vdso) {
    VDSO.store(function as *mut c_void, Ordering::Relaxed);
}

/// Nanoseconds since some moment in the past. Not libc's clock_gettime(2), which libfaketime takes; std's `Instant` would
/// also bring its descriptions of all errors: 5 KB, and 63 relocations at each exec. Not inlined: a connect has little
/// stack.
#[must_use]
#[inline(never)]
pub fn nanoseconds() -> u64 {
    let now = read(libc::CLOCK_MONOTONIC);
    now.as_secs() * 1_000_000_000 + u64::from(now.subsec_nanos())
}

/// A tick lasts so many milliseconds at most (`CONFIG_HZ` is 100 or more).
pub const TICK: u64 = 10;

/// The same in milliseconds, as it was at the last tick: up to [`TICK`] ago, at a third of the price.
#[must_use]
pub fn at_last_tick() -> u64 {
    let now = read(libc::CLOCK_MONOTONIC_COARSE);
    now.as_secs() * 1000 + u64::from(now.subsec_millis())
}

fn read(clock: clockid_t) -> Duration {
    let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: null is None; what else was stored is such a function.
    let vdso = unsafe { mem::transmute::<*mut c_void, Option<Vdso>>(VDSO.load(Ordering::Relaxed)) };
    // SAFETY: a live timespec.
    if vdso.is_none_or(|vdso| unsafe { vdso(clock, &raw mut now) } != 0) {
        // SAFETY: as above; the clock is always there.
        let _ = unsafe { call!(clock_gettime, clock, &raw mut now) };
    }
    Duration::new(u64::try_from(now.tv_sec).unwrap_or(0), u32::try_from(now.tv_nsec).unwrap_or(0))
}

/// Date and time of day, UTC: shown as `2026-01-31T12:00:00.000Z` (RFC 3339).
#[derive(Clone, Copy, Debug)]
pub struct Date {
    seconds: i64,
    milliseconds: i64,
}

impl Date {
    /// By the clock of the kernel.
    #[must_use]
    pub fn now() -> Self {
        let mut now = timespec { tv_sec: 0, tv_nsec: 0 };
        // SAFETY: a live timespec; the clock is always there.
        let _ = unsafe { call!(clock_gettime, libc::CLOCK_REALTIME, &raw mut now) };
        Self { seconds: now.tv_sec.into(), milliseconds: (now.tv_nsec / 1_000_000).into() }
    }
}

impl fmt::Display for Date {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        // Years begin with March here, so that the day that leap years add is the last one.
        let (days, second) = (self.seconds.div_euclid(86_400), self.seconds.rem_euclid(86_400));
        let since = days + 719_468; // days from the 1st of March of the year 0 to 1970
        let (era, of_era) = (since.div_euclid(146_097), since.rem_euclid(146_097));
        let year = (of_era - of_era / 1460 + of_era / 36_524 - of_era / 146_096) / 365;
        let of_year = of_era - (365 * year + year / 4 - year / 100);
        let from_march = (5 * of_year + 2) / 153;
        let day = of_year - (153 * from_march + 2) / 5 + 1;
        let month = if from_march < 10 { from_march + 3 } else { from_march - 9 };
        let year = year + era * 400 + i64::from(month <= 2);
        let (hour, minute, second) = (second / 3600, second / 60 % 60, second % 60);
        write!(f, "{year:04}-{month:02}-{day:02}T{hour:02}:{minute:02}:{second:02}.{:03}Z", self.milliseconds)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn dates() {
        for (seconds, text) in [
            (0, "1970-01-01T00:00:00.007Z"),
            (951_782_400, "2000-02-29T00:00:00.007Z"),
            (1_109_635_199, "2005-02-28T23:59:59.007Z"),
            (4_107_542_400, "2100-03-01T00:00:00.007Z"),
        ] {
            assert_eq!(Date { seconds, milliseconds: 7 }.to_string(), text);
        }
    }
}
