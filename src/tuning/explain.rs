//! What the log says of a decision.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;

use libc::c_int;
use tcptune_core::settings::profile::Profile;
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::sockets::decision::Bound;
use tcptune_core::sockets::{apply, syn};

use super::Tuning;

impl Tuning {
    #[cold]
    pub(super) fn explain(&self, fd: c_int, bound: Bound) {
        log::debug!("fd {fd}: connect: {}", Explained { tuning: self, fd, bound });
    }

    #[cold]
    pub(super) fn explain_choice(&self, fd: c_int, endpoint: &Endpoint, profile: &Profile) {
        match profile.rule {
            Some(rule) => log::debug!("fd {fd}: {endpoint}: the rule at {}", self.settings.at(rule)),
            None => log::debug!("fd {fd}: {endpoint}: no rule matches"),
        }
    }

    #[cold]
    pub(super) fn explain_accepted(&self, listener: c_int, fd: c_int, profile: &Profile) {
        if let Some(rule) = profile.rule {
            log::debug!("fd {fd}: accepted from fd {listener}: the rule at {}", self.settings.at(rule));
        }
        apply::show(&self.real, profile, fd);
    }
}

/// Displays how a connect is bounded, beside what the kernel alone would do.
struct Explained<'a> {
    tuning: &'a Tuning,
    fd: c_int,
    bound: Bound,
}

impl fmt::Display for Explained<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (ms, by) = match self.bound {
            Bound::Leave(reason) => return write!(f, "left alone, {reason}"),
            Bound::Poll(ms) => (ms, "poll"),
            Bound::Kernel(ms) => (ms, "TCP_USER_TIMEOUT"),
        };
        write!(f, "connect timeout {}.{:03} s by {by}", ms / 1000, ms % 1000)?;
        if let Some((retries, linear)) = self.tuning.syn {
            let own = self.tuning.real.get_int(self.fd, libc::IPPROTO_TCP, libc::TCP_SYNCNT).ok();
            let retries = own.and_then(|n| u32::try_from(n).ok()).filter(|n| *n > 0).unwrap_or(retries);
            write!(f, " (kernel alone: {} s)", syn::gives_up_after(retries, linear))?;
        }
        Ok(())
    }
}
