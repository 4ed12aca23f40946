//! The way through seccomp user notification (seccomp_unotify(2)): a filter tells a supervisor of the few system calls
//! that settings are about, whatever makes them: static programs, Go, direct calls. The supervisor takes the descriptor
//! with pidfd_getfd(2), does with it what the library would do, and lets the call go on. The program keeps its process.

mod attempts;
mod calls;
mod filter;
mod found;
mod journal;
mod listener;
mod made;
pub mod policy;
mod shared;
mod start;
mod supervisor;
mod threads;

use std::path::Path;
use std::process;

use tcptune_core::settings::diagnostic::Diagnostic;
use tcptune_core::settings::settled::{Settings, Summary};

use self::filter::Wanted;
use self::policy::Policy;
use self::start::{Reach, Refused};
use crate::screens::error::Error;
use crate::system::variables;

/// Exit status of `STRICT`: `EX_CONFIG` of sysexits.h, as that of the library.
const EX_CONFIG: i32 = 78;

/// Says what is wrong with settings, as the library says it where it is in the program. With `STRICT` this process ends.
pub fn heed(wrong: &[Diagnostic], settings: &Settings) {
    journal::start(settings.log, settings.log_file.as_ref().map(Into::into));
    for diagnostic in wrong.iter().filter(|_| settings.in_scope) {
        let outcome = if settings.strict { "the program is not started" } else { "ignored" };
        log::warn!("{diagnostic}; {outcome}");
    }
    if settings.in_scope && settings.strict && !wrong.is_empty() {
        process::exit(EX_CONFIG);
    }
}

/// Puts this process, and so the program that it becomes, under a supervisor. Without io_uring, programs fall back to calls that
/// the filter sees.
///
/// # Errors
/// The program must not be started then.
pub fn enter(program: &Path, policy: Policy, no_io_uring: bool) -> Result<(), Error> {
    let settings = policy.first();
    log::info!("in force: {}", Summary(settings));
    let mut wanted = if policy.is_by_program() { Wanted::everything() } else { Wanted::of(settings) };
    wanted = match Reach::of(program) {
        _ if wanted.is_empty() => wanted,
        Reach::All => wanted,
        Reach::Some => Wanted { socket: true, ..wanted },
        Reach::None => {
            log::info!(
                "pidfd_getfd(2) is forbidden here: sockets get their options when they are made, and a connect timeout \
                 becomes a number of SYN retransmissions"
            );
            wanted.without_descriptors(settings)
        }
    };
    wanted.no_io_uring = no_io_uring;
    if wanted.is_empty() {
        return Ok(());
    }
    match start::start(policy, &wanted) {
        Ok(()) => Ok(()),
        Err(Refused::Outer) if is_announced() => {
            log::warn!(
                "under the supervisor of an outer tcptune run already: its settings hold here, and none of these"
            );
            Ok(())
        }
        Err(Refused::Outer) => Err(Error::not_executable(
            "notify: another supervisor listens for this process already, and the kernel allows one; not started",
        )),
        Err(Refused::TooOld) => Err(Error::not_executable(
            "notify: needs Linux 5.9, which tells a supervisor the end of its programs; not started",
        )),
        Err(Refused::Failed(what, error)) => {
            Err(Error::not_executable(format!("notify: {what}: {error}; not started")))
        }
    }
}

/// Whether an outer `tcptune run` has said that it goes this way.
fn is_announced() -> bool {
    variables::own().settings().any(|(name, value)| name == "BACKEND" && value == "notify")
}
