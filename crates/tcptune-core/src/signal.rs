//! Which signals end a wait.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem::MaybeUninit;
use std::ptr;

use libc::c_int;

/// Highest signal number (`_NSIG` of x86 and ARM Linux, less one).
const LAST: c_int = 64;

/// Whether the signal that ended poll(2) with `EINTR` would have ended a blocking connect(2) as well.
///
/// poll(2) is never restarted, connect(2) is where the handler was established with `SA_RESTART` (signal(7)). Nothing
/// tells afterwards which handler ran, so any handler without `SA_RESTART` that this thread does not block counts.
#[must_use]
pub fn ends_connect() -> bool {
    let mut blocked = MaybeUninit::<libc::sigset_t>::uninit();
    // SAFETY: a null set changes nothing; the old mask goes to a live local.
    if unsafe { libc::pthread_sigmask(libc::SIG_BLOCK, ptr::null(), blocked.as_mut_ptr()) } != 0 {
        return true;
    }
    // SAFETY: pthread_sigmask succeeded, so the set is initialised.
    let blocked = unsafe { blocked.assume_init() };
    (1..=LAST).any(|signal| {
        // SAFETY: the set is a live local.
        let is_blocked = unsafe { libc::sigismember(&raw const blocked, signal) } == 1;
        !is_blocked && handler_without_restart(signal)
    })
}

fn handler_without_restart(signal: c_int) -> bool {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null action changes nothing; the old one goes to a live local. libc refuses its own signals (EINVAL).
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return false;
    }
    // SAFETY: sigaction succeeded, so the action is initialised.
    let action = unsafe { action.assume_init() };
    !matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN) && action.sa_flags & libc::SA_RESTART == 0
}
