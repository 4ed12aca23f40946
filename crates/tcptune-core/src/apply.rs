//! Puts settings on a socket.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

use crate::decision::Family;
use crate::descriptor::{Fact, Mark};
use crate::errno;
use crate::option::{OPTIONS, Stages};
use crate::real::Real;
use crate::settings::{Planned, Settings};

/// Applies the options of a stage that the program has not set itself where that counts, and leaves `errno` alone.
pub fn stage(real: &Real, settings: &Settings, fd: c_int, mark: Mark, stage: Stages) {
    errno::preserved(|| {
        for planned in settings.at(stage).filter(|p| !mark.is(Fact::set_by_program(p.row))) {
            one(real, fd, mark.family(), planned);
        }
    });
}

/// Applies one option. A refusal is a warning and never the program's business.
pub fn one(real: &Real, fd: c_int, family: Option<Family>, planned: &Planned) {
    match real.set_int(fd, planned.level, planned.optname, planned.value) {
        Ok(()) if log::log_enabled!(log::Level::Debug) => read_back(real, fd, planned),
        Ok(()) => {}
        Err(error) => refused(fd, family, planned, error),
    }
}

/// Whether the first option of the plan has its value already: an accepted socket inherits all or none.
#[must_use]
pub fn inherited(real: &Real, settings: &Settings, fd: c_int) -> bool {
    errno::preserved(|| {
        let first = settings.at(Stages::SOCKET).next();
        first.is_none_or(|p| real.get_int(fd, p.level, p.optname) == Ok(p.value))
    })
}

/// What the descriptor is, asked of the kernel; `None` if it is no socket.
#[must_use]
pub fn family(real: &Real, fd: c_int) -> Option<Family> {
    errno::preserved(|| {
        let protocol = real.get_int(fd, libc::SOL_SOCKET, libc::SO_PROTOCOL).ok()?;
        if !matches!(protocol, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) {
            return Some(Family::Other);
        }
        Some(Family::of_socket(real.get_int(fd, libc::SOL_SOCKET, libc::SO_TYPE).ok()?, protocol))
    })
}

fn read_back(real: &Real, fd: c_int, planned: &Planned) {
    let Some(option) = planned.option() else { return };
    match real.get_int(fd, planned.level, planned.optname) {
        Ok(value) => {
            log::debug!(
                "fd {fd}: {}={}, the kernel says {}",
                option.name,
                option.kind.show(planned.value),
                option.kind.show(value)
            );
        }
        Err(error) => log::debug!("fd {fd}: {} cannot be read back: {}", option.name, errno::Named(error)),
    }
}

/// Errnos that were warned of; Linux has them up to 133.
struct Warned([AtomicU64; 3]);

impl Warned {
    const fn none() -> Self {
        Self([const { AtomicU64::new(0) }; 3])
    }

    /// Whether this errno has not been warned of yet.
    fn first_time(&self, error: c_int) -> bool {
        let error = usize::try_from(error).unwrap_or(0);
        let bit = 1 << (error % 64);
        self.0.get(error / 64).is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }
}

/// A row each.
static WARNED: [Warned; OPTIONS.len()] = [const { Warned::none() }; OPTIONS.len()];

/// Warns, once for each errno, that a connect goes on without its timeout because the kernel refused `call`.
#[cold]
pub fn no_timeout(fd: c_int, call: &str, error: c_int) {
    static WARNED: Warned = Warned::none();
    // What the program's own mistake gives is the program's to see.
    if !matches!(error, libc::EBADF | libc::ENOTSOCK) && WARNED.first_time(error) {
        let error = errno::Named(error);
        log::warn!("fd {fd}: {call} is refused with {error}; connect has no timeout, and others may have none");
    }
}

fn refused(fd: c_int, family: Option<Family>, planned: &Planned, error: c_int) {
    let Some(option) = planned.option() else { return };
    let (name, value, named) = (option.name, option.kind.show(planned.value), errno::Named(error));
    if family == Some(Family::Mptcp) && matches!(error, libc::ENOPROTOOPT | libc::EOPNOTSUPP) {
        log::debug!("fd {fd}: MPTCP does not take TCPTUNE_{name}");
    } else if first_time(planned.row, error) {
        log::warn!("TCPTUNE_{name}={value}: the kernel refused it with {named}; sockets go on without it");
    }
}

/// Whether this row has not been refused with this errno yet.
fn first_time(row: usize, error: c_int) -> bool {
    WARNED.get(row).is_none_or(|warned| warned.first_time(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_reported_once_for_each_row_and_errno() {
        assert!(first_time(0, libc::EPERM));
        assert!(!first_time(0, libc::EPERM));
        assert!(first_time(0, libc::ENOPROTOOPT));
        assert!(first_time(1, libc::EPERM));
        assert!(!first_time(0, libc::ENOPROTOOPT));
    }
}
