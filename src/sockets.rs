//! Which core function a hooked call leads to, on which descriptor.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;
use std::net::SocketAddr;

use libc::{c_int, sockaddr, socklen_t};
use once_cell::race::OnceBox;
use tcptune_core::options::names::Addresses;
use tcptune_core::options::phase::Stages;
use tcptune_core::options::table::Opt;
use tcptune_core::options::value::Value;
use tcptune_core::settings::profile::{Precedence, Profile};
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::settings::settled::Settings;
use tcptune_core::sockets::attempt::{self, Attempts};
use tcptune_core::sockets::connect::{self, Call};
use tcptune_core::sockets::decision::{self, Bound, Reason};
use tcptune_core::sockets::descriptor::{Choices, Descriptors, Fact, Mark};
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::real::Real;
use tcptune_core::sockets::stats::{self, Stats};
use tcptune_core::sockets::syn;
use tcptune_core::sockets::{address, apply};
use tcptune_core::system::{errno, files};

/// Set once, by start-up, if there is anything to do.
// SAFETY: a section of initialised variables, in a page that start-up writes to anyway.
#[unsafe(link_section = ".data")]
pub static TUNING: OnceBox<Tuning> = OnceBox::new();

/// What the hooks work with.
pub struct Tuning {
    pub settings: &'static Settings,
    /// What holds for every socket, where no rule looks at addresses.
    pub everywhere: Option<&'static Profile>,
    /// Whether MPTCP sockets are made.
    pub mptcp: bool,
    pub real: Real,
    /// What is known of each descriptor.
    pub descriptors: Descriptors,
    /// What holds for each descriptor, where rules look at addresses.
    pub choices: Choices,
    /// Nonblocking connects that are going on.
    pub attempts: Attempts,
    /// The real socket(2).
    pub real_socket: unsafe extern "C" fn(c_int, c_int, c_int) -> c_int,
    /// What is counted, if it is.
    pub stats: Option<&'static Stats>,
    /// `tcp_syn_retries` and `tcp_syn_linear_timeouts`, read where they are logged: at level debug.
    pub syn: Option<(u32, u32)>,
}

impl Tuning {
    // The program's own arguments come first, where they are already.

    /// socket(2) of what is not TCP.
    #[inline]
    pub fn other_socket(domain: c_int, kind: c_int, protocol: c_int, tuning: &Self) -> c_int {
        // SAFETY: the program's own call, with its arguments.
        let fd = unsafe { (tuning.real_socket)(domain, kind, protocol) };
        if fd < 0 {
            return fd;
        }
        tuning.descriptors.set(fd, Mark::of(Family::Other));
        if tuning.attempts.any() || tuning.syn.is_some() {
            return tuning.made_other(fd);
        }
        fd
    }

    /// Where attempts go on, or decisions are logged.
    #[inline(never)]
    fn made_other(&self, fd: c_int) -> c_int {
        self.attempts.forget(fd);
        log::debug!("fd {fd}: socket: left alone, {}", Reason::NotTcp);
        fd
    }

    /// socket(2) of TCP, or MPTCP.
    #[inline(never)]
    pub fn tcp_socket(domain: c_int, kind: c_int, protocol: c_int, tuning: &Self) -> c_int {
        let mark = Mark::of(if protocol == libc::IPPROTO_MPTCP { Family::Mptcp } else { Family::Tcp });
        let mark = if domain == libc::AF_INET6 { mark.with(Fact::V6) } else { mark };
        // SAFETY: the program's own call, but for MPTCP.
        let fd = unsafe { (tuning.real_socket)(domain, kind, protocol) };
        if fd < 0 {
            return fd;
        }
        tuning.attempts.forget(fd);
        tuning.count_seen(fd, tuning.everywhere);
        // Where rules look at addresses, what holds is known when it connects or listens.
        if let Some(profile) = tuning.everywhere {
            tuning.descriptors.set(fd, mark.with(Fact::passed(Stages::SOCKET)));
            apply::on_socket(&tuning.real, profile, fd, mark);
        } else {
            tuning.descriptors.set(fd, mark);
        }
        fd
    }

    /// socket(2) of TCP, as MPTCP where that can be had.
    #[cold]
    pub fn multipath_socket(domain: c_int, kind: c_int, protocol: c_int, tuning: &Self) -> c_int {
        let fd = errno::preserved(|| Self::tcp_socket(domain, kind, libc::IPPROTO_MPTCP, tuning));
        if fd < 0 {
            log::debug!("socket: this kernel makes no MPTCP socket; TCP");
            return Self::tcp_socket(domain, kind, protocol, tuning);
        }
        fd
    }

    /// A TCP socket is here; this holds for it, if that is known yet.
    fn count_seen(&self, fd: c_int, profile: Option<&Profile>) {
        if let Some(stats) = self.stats {
            stats.forget(fd);
            stats.seen();
            if profile.is_some_and(|profile| !profile.is_empty()) {
                stats.tuned();
            }
        }
    }

    /// Applies the options of a stage, and remembers it.
    fn pass(&self, fd: c_int, mark: Mark, profile: &Profile, stage: Stages) -> Mark {
        self.descriptors.add(fd, Fact::passed(stage));
        apply::stage(&self.real, profile, fd, mark, stage);
        mark.with(Fact::passed(stage))
    }

    /// What holds for `fd`, if that is known yet.
    fn profile(&self, fd: c_int, mark: Mark) -> Option<&'static Profile> {
        self.everywhere.or_else(|| {
            let known = mark.passed() != Stages::NONE;
            self.settings.profile(self.choices.get(fd).filter(|_| known)?)
        })
    }

    /// What holds for a socket with this endpoint.
    fn choose(&self, fd: c_int, endpoint: Endpoint) -> Option<&'static Profile> {
        self.everywhere.or_else(|| {
            let index = self.settings.rules.find(endpoint, || address::local(fd).map(|local| local.ip()));
            self.choices.set(fd, index);
            let profile = self.settings.profile(index)?;
            if log::log_enabled!(log::Level::Debug) {
                self.explain_choice(fd, endpoint, profile);
            }
            Some(profile)
        })
    }

    /// What holds for a socket that connects or listens now; its options of socket(2) are on it then.
    fn settle(&self, fd: c_int, mark: Mark, endpoint: Option<Endpoint>) -> (Option<&'static Profile>, Mark) {
        let before = self.profile(fd, mark);
        let Some(endpoint) = endpoint else { return (before, mark) };
        if let Some(profile) = self.everywhere {
            if self.tells_rules() {
                self.explain_choice(fd, endpoint, profile);
            }
            return (before, mark);
        }
        // A connect that goes on or is over has its rule: what the socket is bound to now, the kernel has chosen.
        if before.is_some() && mark.passed().contains(Stages::SOCKET) && !apply::is_closed(&self.real, fd) {
            return (before, mark);
        }
        let Some(profile) = self.choose(fd, endpoint) else { return (None, mark) };
        let same = before.is_some_and(|before| std::ptr::eq(before, profile));
        let settled = same && mark.passed().contains(Stages::SOCKET);
        if let (Some(stats), false) = (self.stats, mark.passed().contains(Stages::SOCKET) || profile.is_empty()) {
            stats.tuned();
        }
        (Some(profile), if settled { mark } else { self.pass(fd, mark, profile, Stages::SOCKET) })
    }

    /// Whether rules are reported though one holds for every socket.
    fn tells_rules(&self) -> bool {
        self.everywhere.is_some_and(|profile| profile.rule.is_some()) && log::log_enabled!(log::Level::Debug)
    }

    /// What is known of `fd`; if nothing is, and it is a socket, it is looked up and tuned now.
    pub fn seen(&self, fd: c_int) -> Mark {
        let mark = self.descriptors.get(fd);
        if mark.family().is_some() { mark } else { self.adopt(fd) }
    }

    #[cold]
    fn adopt(&self, fd: c_int) -> Mark {
        let Some(mark) = apply::mark(&self.real, fd) else { return Mark::default() };
        let mut mark = mark.with(Fact::ADOPTED).and_set_on(self.descriptors.get(fd));
        self.descriptors.set(fd, mark);
        if !is_tcp(mark) {
            return mark;
        }
        log::debug!("fd {fd}: first seen now, not made by socket");
        self.count_seen(fd, self.everywhere);
        if let Some(profile) = self.everywhere {
            mark = self.pass(fd, mark, profile, Stages::SOCKET);
        }
        let (endpoint, stage) = if apply::listens(&self.real, fd) {
            (address::local(fd).map(Endpoint::Server), Stages::LISTEN)
        } else {
            (address::peer(fd).map(Endpoint::Client), Stages::CONNECT)
        };
        if endpoint.is_some() {
            // What is of bind(2) comes too late.
            let (profile, settled) = self.settle(fd, mark.with(Fact::passed(Stages::BIND)), endpoint);
            mark = profile.map_or(settled, |profile| self.pass(fd, settled, profile, stage));
        }
        mark
    }

    /// Before bind(2): to the program's address.
    pub fn before_bind(&self, fd: c_int, addr: *const sockaddr, len: socklen_t) {
        let mark = self.seen(fd);
        if self.may_pass(fd, mark, Stages::BIND) {
            let address = if self.everywhere.is_none() { address::to_bind(addr, len) } else { None };
            let profile = address.and_then(|own| self.choose(fd, Endpoint::Server(own))).or(self.everywhere);
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
        let Some(ours) = profile.backlog.filter(|_| profile.precedence == Precedence::Env) else { return backlog };
        let ours = ours.instead_of(backlog);
        log::debug!("fd {fd}: listen: backlog {ours} in place of {backlog}");
        ours
    }

    /// Whether something may be set before bind(2) or listen(2). The mark may be that of an earlier owner of the
    /// number, and REUSEADDR lets two UDP sockets share a port.
    fn may_pass(&self, fd: c_int, mark: Mark, stage: Stages) -> bool {
        let nothing = self.everywhere.is_some_and(|profile| {
            profile.at(stage, mark.passed()).next().is_none() && (stage != Stages::LISTEN || profile.backlog.is_none())
        });
        !nothing && is_tcp(mark) && apply::mark(&self.real, fd).is_some_and(is_tcp)
    }

    /// The program's file status flags: without the `O_NONBLOCK` of another thread's connect, which is as blocking as
    /// this one.
    fn file_status_flags(&self, fd: c_int) -> Option<c_int> {
        let flags = files::status_flags(fd).map_err(|error| apply::no_timeout(fd, "fcntl", error)).ok()?;
        let mark = self.descriptors.get(fd);
        if flags & libc::O_NONBLOCK == 0 || !mark.is(Fact::WAITED_FOR) {
            return Some(flags);
        }
        if mark.is(Fact::STARTING) || attempt::goes_on(&self.real, fd) {
            return Some(flags & !libc::O_NONBLOCK);
        }
        self.descriptors.remove(fd, Fact::WAITED_FOR); // left over: duplicated or forked meanwhile
        Some(flags)
    }

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
            Bound::Poll { ms, flags } => connect::within(call, flags, ms),
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

    #[cold]
    fn explain(&self, fd: c_int, bound: Bound) {
        log::debug!("fd {fd}: connect: {}", Explained { tuning: self, fd, bound });
    }

    /// After dup(2) and its kin: `new` is another number of the same socket.
    pub fn duplicated(&self, old: c_int, new: c_int) {
        self.descriptors.set(new, self.descriptors.get(old).and_set_on(self.descriptors.get(new)));
        self.choices.copy(old, new);
        self.attempts.duplicate(old, new);
        if let Some(stats) = self.stats {
            stats.duplicated(old, new);
        }
    }

    #[cold]
    fn explain_choice(&self, fd: c_int, endpoint: Endpoint, profile: &Profile) {
        match profile.rule {
            Some(rule) => log::debug!("fd {fd}: {endpoint}: the rule at {}", self.settings.at(rule)),
            None => log::debug!("fd {fd}: {endpoint}: no rule matches"),
        }
    }

    #[cold]
    fn explain_accepted(&self, listener: c_int, fd: c_int, profile: &Profile) {
        if let Some(rule) = profile.rule {
            log::debug!("fd {fd}: accepted from fd {listener}: the rule at {}", self.settings.at(rule));
        }
        apply::show(&self.real, profile, fd);
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
        if on_listener.is(Fact::ADOPTED) && !apply::inherited(&self.real, profile, listener, fd) {
            apply::stage(&self.real, profile, fd, mark, Stages::SOCKET);
        }
        self.pass(fd, mark, profile, Stages::ACCEPT);
        if log::log_enabled!(log::Level::Debug) {
            self.explain_accepted(listener, fd, profile);
        }
    }

    /// After a getsockopt(2) of `SO_ERROR` that gave this error.
    pub fn told(&self, fd: c_int, error: c_int) {
        if let Some(stats) = self.stats
            && error != 0
            && apply::never_connected(&self.real, fd)
        {
            stats.failed(fd, error);
        }
    }

    /// After a program's own successful setsockopt(2).
    pub fn set_by_program(&self, fd: c_int, level: c_int, optname: c_int) {
        let mark = self.descriptors.get(fd);
        let profile = if is_tcp(mark) { self.profile(fd, mark) } else { None };
        let follow_up = profile.and_then(|profile| decision::follow_up(profile, level, optname, mark.passed()));
        if (level, optname) == (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) && self.attempts.any() {
            let planned = match follow_up.map(|planned| &planned.value) {
                Some(Value::Int(ms)) => c_int::try_from(*ms).ok(),
                _ => None,
            };
            if self.attempts.set_by_program(&self.real, fd, planned) {
                return;
            }
        }
        if let Some(planned) = follow_up {
            let name = planned.row().map_or("", Opt::name);
            log::debug!("fd {fd}: the program set {name}; the environment wins");
            errno::preserved(|| apply::one(&self.real, fd, mark, planned));
        } else if is_tcp(mark) && self.everywhere.is_none_or(|profile| profile.precedence == Precedence::Program) {
            // Where rules look at addresses, one of them may still let the program's values win.
            self.descriptors.set(fd, mark.and_program_set(level, optname));
        }
    }
}

fn is_tcp(mark: Mark) -> bool {
    matches!(mark.family(), Some(Family::Tcp | Family::Mptcp))
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
            Bound::Poll { ms, .. } => (ms, "poll"),
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
