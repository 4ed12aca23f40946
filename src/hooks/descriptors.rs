//! What gives a descriptor another number, or ends one.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::c_int;

use crate::tuning::{TUNING, Tuning};

hooks! {
    required;

    fn close(fd: c_int) -> c_int {
        |forward| closing(fd, forward)
    }

    fn dup(fd: c_int) -> c_int {
        |forward| duplicated(fd, forward())
    }

    fn dup2(fd: c_int, new: c_int) -> c_int {
        |forward| duplicated(fd, forward())
    }

    fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int {
        |forward| duplicated(fd, forward())
    }
}

/// close(2).
#[inline]
pub fn closing(fd: c_int, forward: impl FnOnce() -> c_int) -> c_int {
    match TUNING.get() {
        None => forward(),
        Some(tuning) if tuning.attempts.any() => ending(tuning, fd, forward),
        Some(tuning) => {
            tuning.descriptors.forget(fd);
            forward()
        }
    }
}

/// The same, while attempts go on.
#[cold]
fn ending(tuning: &Tuning, fd: c_int, forward: impl FnOnce() -> c_int) -> c_int {
    tuning.attempts.close(&tuning.real, fd);
    tuning.descriptors.forget(fd);
    forward()
}

/// After dup(2) and its kin.
pub fn duplicated(old: c_int, new: c_int) -> c_int {
    if new >= 0
        && new != old
        && let Some(tuning) = TUNING.get()
    {
        tuning.duplicated(old, new);
    }
    new
}
