//! How long a wait lasts, in nanoseconds, and as the functions of libc take it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, timespec, timeval};
pub use tcptune_core::sockets::silence::FOREVER;
use tcptune_core::system::memory;

const SECOND: u64 = 1_000_000_000;
pub const MILLISECOND: u64 = 1_000_000;

#[inline]
pub fn of_milliseconds(time: c_int) -> u64 {
    u64::try_from(time).map_or(FOREVER, |time| time * MILLISECOND)
}

/// Rounded up: a wait must not end too early.
pub fn milliseconds(time: u64) -> c_int {
    if time == FOREVER { -1 } else { c_int::try_from(time.div_ceil(MILLISECOND)).unwrap_or(c_int::MAX) }
}

/// A program's time; `None` where it cannot be read, or the kernel would refuse it.
#[inline(never)]
pub fn of_timespec(time: *const timespec) -> Option<u64> {
    if time.is_null() {
        return Some(FOREVER);
    }
    // SAFETY: it can be read.
    let timespec { tv_sec, tv_nsec } = unsafe { readable(time)?.read_unaligned() };
    sum(tv_sec.into(), tv_nsec.into())
}

/// The same of select(2).
#[inline(never)]
pub fn of_timeval(time: *const timeval) -> Option<u64> {
    if time.is_null() {
        return Some(FOREVER);
    }
    // SAFETY: it can be read.
    let timeval { tv_sec, tv_usec } = unsafe { readable(time)?.read_unaligned() };
    sum(tv_sec.into(), i64::from(tv_usec).checked_mul(1000)?)
}

fn readable<T>(time: *const T) -> Option<*const T> {
    memory::is_readable(time.cast(), size_of::<T>()).then_some(time)
}

fn sum(seconds: i64, nanoseconds: i64) -> Option<u64> {
    let (seconds, nanoseconds) = (u64::try_from(seconds).ok()?, u64::try_from(nanoseconds).ok()?);
    (nanoseconds < SECOND).then(|| seconds.saturating_mul(SECOND).saturating_add(nanoseconds).min(FOREVER - 1))
}

/// Calls with this time.
pub fn with_timespec<T>(time: u64, call: impl FnOnce(*const timespec) -> T) -> T {
    let spec = timespec { tv_sec: signed(time / SECOND), tv_nsec: signed(time % SECOND) };
    call(if time == FOREVER { std::ptr::null() } else { &raw const spec })
}

pub fn in_timeval(time: u64) -> timeval {
    timeval { tv_sec: signed(time / SECOND), tv_usec: signed(time % SECOND / 1000) }
}

/// As libc's types of times have it; 68 years are the most where they have 32 bits.
fn signed<T: TryFrom<u64> + From<i32>>(value: u64) -> T {
    T::try_from(value).unwrap_or_else(|_| T::from(i32::MAX))
}
