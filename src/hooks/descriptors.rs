//! What gives a descriptor another number, or ends one.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, c_long, c_uint};

use super::{attempting, settled};
use crate::tuning::{TUNING, Tuning};

hooks! {
    required;

    fn close(fd: c_int) -> c_int {
        |_forward| closing(fd, real())
    }

    fn dup(fd: c_int) -> c_int {
        |forward| duplicated(fd, forward())
    }

    fn dup2(fd: c_int, new: c_int) -> c_int {
        |forward| {
            replacing(fd, new);
            duplicated(fd, forward())
        }
    }

    fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int {
        |forward| {
            replacing(fd, new);
            duplicated(fd, forward())
        }
    }
}

hooks! {
    optional;

    // Variadic in libc. A third argument is passed as any other on x86-64, i386 and AArch64; where the program gives none,
    // this is what lies in its place, and the kernel does not look at it.

    fn fcntl(fd: c_int, command: c_int, argument: c_long) -> c_int {
        |forward| controlled(fd, command, forward)
    }

    // glibc 2.28
    fn fcntl64(fd: c_int, command: c_int, argument: c_long) -> c_int {
        |forward| controlled(fd, command, forward)
    }

    // glibc 2.34
    fn close_range(first: c_uint, last: c_uint, flags: c_int) -> c_int {
        |forward| {
            // With CLOEXEC nothing is closed yet, with UNSHARE only in a copy of the table that this thread gets; others are refused.
            if flags == 0 {
                closing_all(first, last);
            }
            forward()
        }
    }

    // glibc 2.34; it returns nothing
    fn closefrom(first: c_int) -> c_int {
        |forward| {
            closing_all(first.max(0).cast_unsigned(), c_uint::MAX);
            forward()
        }
    }
}

type Close = unsafe extern "C" fn(c_int) -> c_int;

/// close(2): `real`, after what is to be done before.
#[inline]
pub fn closing(fd: c_int, real: Close) -> c_int {
    match TUNING.get() {
        Some(tuning) if tuning.attempts.any() || tuning.silence.is_some() => return ending(tuning, fd, real),
        Some(tuning) => tuning.descriptors.forget(fd),
        None => {}
    }
    // SAFETY: the program's own call, with its argument.
    unsafe { real(fd) }
}

/// The same, while attempts go on, or where a timeout may be about to end the connection.
#[cold]
fn ending(tuning: &Tuning, fd: c_int, real: Close) -> c_int {
    if tuning.attempts.any() {
        tuning.attempts.close(&tuning.real, fd);
    }
    tuning.descriptors.forget(fd);
    if let Some(silence) = &tuning.silence
        && silence.is_to_forget(fd, tuning.process)
    {
        silence.forget(fd);
    }
    // SAFETY: as above.
    unsafe { real(fd) }
}

/// fcntl(2).
#[inline]
pub fn controlled(fd: c_int, command: c_int, forward: impl FnOnce() -> c_int) -> c_int {
    let result = settled(fd, forward);
    if matches!(command, libc::F_DUPFD | libc::F_DUPFD_CLOEXEC) { duplicated(fd, result) } else { result }
}

/// Before all descriptors between these two are closed.
#[cold]
fn closing_all(first: c_uint, last: c_uint) {
    let end = |number| c_int::try_from(number).unwrap_or(c_int::MAX);
    if let Some(tuning) = TUNING.get() {
        tuning.closing(end(first), end(last));
    }
}

/// Before dup2(2), which closes `new`.
#[inline]
fn replacing(fd: c_int, new: c_int) {
    if let Some(tuning) = attempting()
        && fd != new
    {
        tuning.replacing(fd, new);
    }
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
