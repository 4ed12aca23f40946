//! bind(2), listen(2) and accept(2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, sockaddr, socklen_t};
use tcptune_core::options::phase::Stages;
use tcptune_core::say;
use tcptune_core::settings::profile::Precedence;
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::sockets::descriptor::{Fact, Mark};
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::{address, apply};
use tcptune_core::system::messages;

use super::{Tuning, is_tcp};

impl Tuning {
    /// Before bind(2): to the program's address.
    pub fn before_bind(&self, fd: c_int, addr: *const sockaddr, len: socklen_t) {
        let mark = self.seen(fd);
        if self.may_pass(fd, mark, Stages::BIND) {
            let address = if self.everywhere.is_none() { address::to_bind(addr, len) } else { None };
            let profile = address.and_then(|own| self.choose(fd, &Endpoint::Server(own))).or(self.everywhere);
            if let Some(profile) = profile {
                self.pass(fd, mark, profile, Stages::BIND);
            }
        }
    }

    /// Before listen(2); gives the backlog.
    pub fn before_listen(&self, fd: c_int, backlog: c_int) -> c_int {
        let mark = self.seen(fd);
        if !self.may_pass(fd, mark, Stages::LISTEN) {
            return backlog;
        }
        let look = self.everywhere.is_none() || self.tells_rules();
        let own = if look { address::local(fd) } else { None };
        let (Some(profile), mark) = self.settle(fd, mark, own.map(Endpoint::Server)) else { return backlog };
        self.pass(fd, mark, profile, Stages::LISTEN);
        let Some(ours) = profile.backlog().filter(|_| profile.precedence() == Precedence::Env) else { return backlog };
        let ours = ours.instead_of(backlog);
        say!(Debug, "fd {fd}: listen: backlog {ours} in place of {backlog}");
        ours
    }

    /// Whether something may be set before bind(2) or listen(2). The kernel is asked, because the mark may be of an earlier
    /// socket with this number: REUSEADDR on a UDP socket would let a second one take its port.
    fn may_pass(&self, fd: c_int, mark: Mark, stage: Stages) -> bool {
        let nothing = self.everywhere.is_some_and(|profile| {
            !profile.has_at(stage, mark.passed()) && (stage != Stages::LISTEN || profile.backlog().is_none())
        });
        !nothing && is_tcp(mark) && apply::mark(&self.real, fd).is_some_and(is_tcp)
    }

    /// After accept(2). On Linux an accepted socket inherits its listener's options.
    pub fn accepted(&self, listener: c_int, on_listener: Mark, fd: c_int) {
        if !is_tcp(on_listener) {
            return;
        }
        let profile = self.profile(listener, on_listener);
        self.attempts.forget(fd);
        let mark = on_listener.accepted();
        self.descriptors.set(fd, mark);
        self.choices.copy(listener, fd);
        self.count_seen(fd, profile);
        let Some(profile) = profile else { return };
        let changes = on_listener.is(Fact::ADOPTED) || profile.has_at(Stages::ACCEPT, Stages::NONE);
        if changes && !is_tcp(self.confirmed(fd, mark)) {
            return;
        }
        if on_listener.is(Fact::ADOPTED) && !apply::inherited(&self.real, profile, listener, fd) {
            apply::stage(&self.real, profile, fd, mark, Stages::SOCKET);
        }
        self.pass(fd, mark, profile, Stages::ACCEPT);
        if let (Some(limit), Some(Family::Tcp)) = (profile.limits().client, mark.family()) {
            self.watch(fd, Some(limit), None);
        } else if let Some(silence) = &self.silence {
            silence.forget(fd);
        }
        if messages::debugging() {
            self.explain_accepted(listener, fd, profile);
        }
    }
}
