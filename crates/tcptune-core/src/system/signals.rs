//! Signal masks and handlers, as the kernel has them: signal n is bit n - 1 of a set.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_int, c_ulong, timespec};

use crate::system::call::call;

/// Highest signal number (`_NSIG` of x86 and ARM Linux).
pub const LAST: c_int = 64;

/// What the kernel takes for the size of a set.
const SIZE: usize = size_of::<u64>();

/// The set of one signal.
#[must_use]
pub const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
}

/// The calling thread's mask.
#[must_use]
pub fn mask() -> u64 {
    let mut mask = 0u64;
    // SAFETY: a null set changes nothing; the mask goes to a live set of the size given.
    let _ = unsafe { call!(rt_sigprocmask, libc::SIG_BLOCK, ptr::null::<u64>(), &raw mut mask, SIZE) };
    mask
}

/// Makes a set the calling thread's mask, and gives the one before.
#[inline(never)] // for the stack: a connect has little
pub fn set_mask(set: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: live sets of the size given.
    let _ = unsafe { call!(rt_sigprocmask, libc::SIG_SETMASK, &raw const set, &raw mut before, SIZE) };
    before
}

/// Holds the signals of a set back as well, and gives the mask before.
pub fn block(set: u64) -> u64 {
    let mut before = 0u64;
    // SAFETY: live sets of the size given.
    let _ = unsafe { call!(rt_sigprocmask, libc::SIG_BLOCK, &raw const set, &raw mut before, SIZE) };
    before
}

/// The signals that wait to be delivered.
#[must_use]
#[inline(never)] // for the stack, as above
pub fn pending() -> u64 {
    let mut pending = 0u64;
    // SAFETY: a live set of the size given.
    let _ = unsafe { call!(rt_sigpending, &raw mut pending, SIZE) };
    pending
}

/// Takes a signal of a set that waits to be delivered away, if there is one.
pub fn discard(set: u64) {
    let now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live set of the size given, and a live time; nothing is asked about the signal.
    let _ = unsafe { call!(rt_sigtimedwait, &raw const set, ptr::null::<u8>(), &raw const now, SIZE) };
}

/// The kernel's `struct sigaction` of x86 and ARM, which is not libc's.
#[repr(C)]
struct Action {
    handler: usize,
    flags: c_ulong,
    restorer: usize,
    mask: [u8; SIZE],
}

/// Whether the handler of a signal restarts calls; `None` if there is no handler.
#[must_use]
pub fn restarts(signal: c_int) -> Option<bool> {
    let mut action = MaybeUninit::<Action>::uninit();
    // SAFETY: a null action changes nothing; the old one goes to a live local.
    unsafe { call!(rt_sigaction, signal, ptr::null::<Action>(), action.as_mut_ptr(), SIZE) }.ok()?;
    // SAFETY: the call succeeded, so the action is initialised.
    let action = unsafe { action.assume_init() };
    let restart = c_ulong::from(libc::SA_RESTART.unsigned_abs());
    (!matches!(action.handler, libc::SIG_DFL | libc::SIG_IGN)).then_some(action.flags & restart != 0)
}
