//! The monotonic clock.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

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

/// Since some moment in the past. Not libc's clock_gettime(2), which libfaketime takes; std's `Instant` would also bring
/// its descriptions of all errors: 5 KB, and 63 relocations at each exec.
#[must_use]
pub fn now() -> Duration {
    read(libc::CLOCK_MONOTONIC)
}

/// The same in milliseconds, as it was at the last tick: up to 10 ms ago, at a third of the price.
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
