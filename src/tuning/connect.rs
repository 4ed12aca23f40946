//! connect(2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::net::SocketAddr;

use libc::c_int;
use tcptune_core::options::names::Addresses;
use tcptune_core::options::phase::Stages;
use tcptune_core::settings::profile::{Precedence, Profile};
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::sockets::connect::{self, Call};
use tcptune_core::sockets::decision::{self, Bound};
use tcptune_core::sockets::descriptor::{Fact, Mark};
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::{address, apply, stats};
use tcptune_core::system::{errno, files};

use super::{Tuning, is_tcp};

impl Tuning {
    /// connect(2).
    pub fn connect(&self, call: &Call<'_>) -> c_int {
        let before = errno::get();
        let fd = call.fd;
        let mark = self.seen(fd);
        let result = if is_tcp(mark) { self.connect_tcp(call, mark) } else { self.bounded(call, mark, None) };
        match result {
            Ok(()) => {
                errno::set(before);
                0
            }
            Err(error) => {
                errno::set(error);
                -1
            }
        }
    }

    fn connect_tcp(&self, call: &Call<'_>, mark: Mark) -> Result<(), c_int> {
        let fd = call.fd;
        let peer = if self.looks_at_peers() { address::of_program(call.addr, call.len) } else { None };
        let (profile, mark) = self.settle(fd, mark, peer.map(Endpoint::Client));
        if let Some(profile) = profile {
            self.bind_source(fd, mark, profile, peer);
            // Ours would end a connect of the same socket that has to wait.
            if mark.passed().contains(Stages::CONNECT)
                && let Some(planned) = profile.planned(libc::SOL_SOCKET, libc::SO_SNDTIMEO, Stages::CONNECT)
                && !(profile.precedence == Precedence::Program && mark.is(Fact::set_by_program(planned.row)))
            {
                errno::preserved(|| apply::no_send_timeout(&self.real, fd));
            }
        }
        let result = match self.stats {
            Some(stats) => {
                let start = stats::now();
                let result = self.bounded(call, mark, profile);
                stats.connected(fd, start, peer, result);
                result
            }
            None => self.bounded(call, mark, profile),
        };
        match result {
            Ok(()) => log::trace!("fd {fd}: connect: done"),
            Err(error) => log::trace!("fd {fd}: connect: {}", errno::Named(error)),
        }
        let has_more = |profile: &&Profile| profile.at(Stages::CONNECT, Stages::NONE).next().is_some();
        if let Some(profile) = profile.filter(has_more)
            && !mark.passed().contains(Stages::LISTEN) // a listener takes EISCONN home
            && self.has_begun(fd, result)
        {
            self.pass(fd, mark, profile, Stages::CONNECT);
        }
        result
    }

    /// Whether anything depends on where connect(2) goes.
    fn looks_at_peers(&self) -> bool {
        self.stats.is_some()
            || self.everywhere.is_none_or(|profile| profile.source != Addresses::default())
            || self.tells_rules()
    }

    /// Whether connect has done what it can. A blocking one that a timeout has ended is to be called again; for one that
    /// a signal has ended, programs wait.
    fn has_begun(&self, fd: c_int, result: Result<(), c_int>) -> bool {
        match result {
            Ok(()) | Err(libc::EISCONN | libc::EINTR) => true,
            Err(libc::EINPROGRESS | libc::EALREADY) => {
                self.file_status_flags(fd).is_some_and(|flags| flags & libc::O_NONBLOCK != 0)
            }
            Err(_) => false,
        }
    }

    fn bounded(&self, call: &Call<'_>, mark: Mark, profile: Option<&Profile>) -> Result<(), c_int> {
        let fd = call.fd;
        let family = mark.family().unwrap_or(Family::Other);
        let bound = decision::bound(profile, family, || self.file_status_flags(fd));
        if log::log_enabled!(log::Level::Debug) {
            self.explain(fd, bound);
        }
        match bound {
            Bound::Leave(_) => call.connect(),
            Bound::Poll(ms) => connect::within(call, ms),
            Bound::Kernel(ms) => self.attempts.connect(call, ms),
        }
    }

    /// Binds a socket that is not bound to the address that its connections shall come from.
    fn bind_source(&self, fd: c_int, mark: Mark, profile: &Profile, peer: Option<SocketAddr>) {
        let Some(source) = peer.and_then(|peer| address::source_for(peer, &profile.source)) else { return };
        if address::local(fd).is_some_and(|own| own.port() == 0 && own.ip().is_unspecified()) {
            errno::preserved(|| apply::source(&self.real, fd, mark, source));
        }
    }

    /// The program's file status flags: without the `O_NONBLOCK` of another thread's connect, which is as blocking as
    /// this one.
    fn file_status_flags(&self, fd: c_int) -> Option<c_int> {
        let flags = files::status_flags(fd).map_err(|error| apply::no_timeout(fd, "fcntl", error)).ok()?;
        let lent = if self.descriptors.get(fd).is(Fact::STARTING) { libc::O_NONBLOCK } else { 0 };
        Some(flags & !lent)
    }
}
