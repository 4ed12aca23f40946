//! What a descriptor is, and what the program does to it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::c_int;
use tcptune_core::options::phase::Stages;
use tcptune_core::options::table::{Opt, by_first_name};
use tcptune_core::options::value::Value;
use tcptune_core::say;
use tcptune_core::settings::profile::{Precedence, Profile};
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::sockets::descriptor::{Fact, Mark};
use tcptune_core::sockets::{address, apply, decision};
use tcptune_core::system::{errno, files, process};

use super::{Tuning, is_tcp};

impl Tuning {
    /// What is known of `fd`; if nothing is, and it is a socket, it is looked up and tuned now.
    pub fn seen(&self, fd: c_int) -> Mark {
        let mark = self.descriptors.get(fd);
        if mark.family().is_some() { mark } else { self.adopt(fd) }
    }

    /// What is known of `fd`, which is to be changed: a mark of TCP may be that of an earlier owner of the number, so
    /// the kernel is asked.
    pub(super) fn confirmed(&self, fd: c_int, mark: Mark) -> Mark {
        if apply::is(fd, mark) {
            return mark;
        }
        self.descriptors.forget(fd);
        self.adopt(fd)
    }

    #[cold]
    fn adopt(&self, fd: c_int) -> Mark {
        let Some(mark) = apply::mark(&self.real, fd) else { return Mark::default() };
        let mut mark = mark.with(Fact::ADOPTED).and_set_on(self.descriptors.get(fd));
        self.descriptors.set(fd, mark);
        if !is_tcp(mark) {
            return mark;
        }
        say!(Debug, "fd {fd}: first seen now, not made by socket");
        self.count_seen(fd, self.everywhere);
        if let Some(profile) = self.everywhere {
            mark = self.pass(fd, mark, profile, Stages::SOCKET);
        }
        // Too late for the options of bind(2): they count as applied.
        let late = mark.with(Fact::passed(Stages::BIND));
        let Some(((profile, is_new), stage)) = self.found(fd, late) else { return mark };
        let Some(profile) = profile else { return late };
        let late = if is_new { self.pass(fd, late, profile, Stages::SOCKET) } else { late };
        self.pass(fd, late, profile, stage)
    }

    /// What holds for a socket that listens or is connected already, whether its options of socket(2) are still to be set, and
    /// the stage that has made it so.
    #[inline(never)] // for the stack: a connect has little
    fn found(&self, fd: c_int, mark: Mark) -> Option<((Option<&'static Profile>, bool), Stages)> {
        let (endpoint, stage) = if apply::listens(&self.real, fd) {
            (Endpoint::Server(address::local(fd)?), Stages::LISTEN)
        } else {
            (Endpoint::Client(address::peer(fd)?), Stages::CONNECT)
        };
        Some((self.decided(fd, mark, Some(&endpoint)), stage))
    }

    /// After dup(2) and its kin: `new` is another number of the same socket.
    #[inline(never)]
    pub fn duplicated(&self, old: c_int, new: c_int) {
        self.descriptors.set(new, self.descriptors.get(old).and_set_on(self.descriptors.get(new)));
        self.choices.copy(old, new);
        self.attempts.duplicate(old, new);
        if let Some(silence) = &self.silence {
            silence.duplicate(old, new);
        }
        if let Some(stats) = self.stats {
            stats.duplicated(old, new);
        }
    }

    /// Before dup2(2), which closes `new` if `old` is a descriptor.
    #[cold]
    pub fn replacing(&self, old: c_int, new: c_int) {
        if self.attempts.has(new) && errno::preserved(|| files::status_flags(old).is_ok()) {
            self.attempts.close(&self.real, new);
        }
    }

    /// Before close_range(2) and closefrom(3). A child calls them, too: that of vfork(2) has its own descriptors, and what
    /// is known of the parent's.
    pub fn closing(&self, first: c_int, last: c_int) {
        if process::id() == self.process {
            self.attempts.close_range(&self.real, first, last);
            self.descriptors.forget_range(first, last);
            if let Some(silence) = &self.silence {
                silence.forget_range(first, last);
            }
        }
    }

    /// After a getsockopt(2) of `SO_ERROR` that gave this error.
    pub fn told(&self, fd: c_int, error: c_int) {
        match self.stats {
            Some(stats) if error != 0 && apply::never_connected(&self.real, fd) => stats.failed(fd, error),
            None if error == libc::ETIMEDOUT && apply::never_connected(&self.real, fd) => self.totals.timed_out(),
            _ => {}
        }
    }

    /// After a program's own successful setsockopt(2) of `TCP_USER_TIMEOUT`; `attempting` if an attempt was known before.
    #[inline(never)] // for the stack of all other calls
    pub fn user_timeout_set(&self, fd: c_int, value: c_int, attempting: bool) {
        let level_and_name = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
        let mark = self.descriptors.get(fd);
        let profile = if is_tcp(mark) { self.profile(fd, mark) } else { None };
        let follow_up =
            profile.and_then(|profile| decision::follow_up(profile, level_and_name.0, level_and_name.1, mark.passed()));
        let holds = match follow_up.map(|planned| planned.value()) {
            Some(Value::Int(ms)) => c_int::try_from(ms).unwrap_or(value),
            _ => value,
        };
        let known = attempting || self.attempts.has(fd);
        if !(known && self.attempts.set_by_program(&self.real, fd, holds.unsigned_abs(), attempting)) {
            self.set_by_program(fd, level_and_name.0, level_and_name.1);
        }
    }

    /// After a program's own successful setsockopt(2).
    pub fn set_by_program(&self, fd: c_int, level: c_int, optname: c_int) {
        self.set_one_by_program(fd, level, optname);
        if (level, optname) == (libc::IPPROTO_IP, libc::IP_TOS) {
            self.set_one_by_program(fd, libc::SOL_SOCKET, libc::SO_PRIORITY); // ip(7): it sets the priority as well
        }
    }

    #[inline] // for the stack
    fn set_one_by_program(&self, fd: c_int, level: c_int, optname: c_int) {
        let mark = self.descriptors.get(fd);
        let profile = if is_tcp(mark) { self.profile(fd, mark) } else { None };
        if profile.is_some_and(|profile| self.is_followed(profile, fd, mark, (level, optname))) {
            return;
        }
        if is_tcp(mark)
            && (is_timeout(level, optname)
                || self.everywhere.is_none_or(|profile| profile.precedence() == Precedence::Program))
        {
            // It is remembered where it may count later: where a rule that is not known yet may let the program's values
            // win, and for timeouts, of which the program's wins if it is shorter.
            self.descriptors.set(fd, mark.and_program_set(level, optname));
        }
    }

    /// Whether the program's setsockopt(2) is to be followed by ours, which is done then.
    #[inline(never)] // for the stack, as elsewhere
    fn is_followed(&self, profile: &Profile, fd: c_int, mark: Mark, (level, optname): (c_int, c_int)) -> bool {
        let planned = decision::follow_up(profile, level, optname, mark.passed());
        let Some(planned) = &planned else { return false };
        if errno::preserved(|| apply::is_shorter(&self.real, fd, planned)) {
            return false;
        }
        // Only TCP has taken an option of its level.
        if level == libc::IPPROTO_TCP || is_tcp(self.confirmed(fd, mark)) {
            say!(Debug, "fd {fd}: the program set {}; the environment wins", planned.row().map_or("", Opt::name));
            errno::preserved(|| apply::one(&self.real, fd, mark, planned));
        }
        true
    }
}

fn is_timeout(level: c_int, optname: c_int) -> bool {
    matches!(by_first_name(level, optname), (libc::SOL_SOCKET, libc::SO_RCVTIMEO | libc::SO_SNDTIMEO))
}
