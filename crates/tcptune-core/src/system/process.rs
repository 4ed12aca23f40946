//! The process itself.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, uid_t};

use crate::system::call::call;

/// Its number.
#[must_use]
pub fn id() -> usize {
    // SAFETY: touches no memory; it cannot fail.
    unsafe { call!(getpid) }.unwrap_or(0)
}

/// The user whose rights it has.
#[must_use]
pub fn effective_user() -> uid_t {
    // SAFETY: as above.
    unsafe { call!(geteuid) }.ok().and_then(|uid| uid.try_into().ok()).unwrap_or(uid_t::MAX)
}

/// Ends it, with all its threads; nothing of the program is run.
pub fn exit(status: c_int) -> ! {
    loop {
        // SAFETY: touches no memory; it does not come back.
        let _ = unsafe { call!(exit_group, status) };
    }
}

/// Lets another thread have the processor (sched_yield(2)).
pub fn yield_now() {
    // SAFETY: touches no memory; it cannot fail.
    let _ = unsafe { call!(sched_yield) };
}
