//! Which core function a hooked call leads to, on which descriptor.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod connect;
mod descriptors;
mod explain;
mod listen;
mod timeouts;
mod waits;

use libc::c_int;
use once_cell::race::OnceBox;
use tcptune_core::options::phase::Stages;
use tcptune_core::say;
use tcptune_core::settings::profile::Profile;
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::settings::settled::Settings;
use tcptune_core::sockets::attempt::Attempts;
use tcptune_core::sockets::decision::Reason;
use tcptune_core::sockets::descriptor::{Choices, Descriptors, Fact, Mark};
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::real::Real;
use tcptune_core::sockets::silence::Silence;
use tcptune_core::sockets::silence::interrupted::Interrupted;
use tcptune_core::sockets::stats::{Stats, Totals};
use tcptune_core::sockets::{address, apply};
use tcptune_core::system::{errno, messages};

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
    /// Connections that a silent peer ends, where a setting says so.
    pub silence: Option<Silence>,
    /// Calls that wait for a peer and that a signal handler has ended.
    pub interrupted: Interrupted,
    /// Whether a call may end because of a timeout that the settings have set on its socket.
    pub times_out: bool,
    /// The real socket(2).
    pub real_socket: unsafe extern "C" fn(c_int, c_int, c_int) -> c_int,
    /// The process that started: not its children.
    pub process: usize,
    /// What is counted.
    pub totals: &'static Totals,
    /// What else is counted, if it is.
    pub stats: Option<&'static Stats>,
    /// `tcp_syn_retries` and `tcp_syn_linear_timeouts`, read where they are logged: at level debug.
    pub syn: Option<(u32, u32)>,
}

impl Tuning {
    // The program's arguments come first: they are in the right registers then.

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
            tuning.made_other(fd);
        }
        fd
    }

    /// A descriptor was made that is not TCP.
    #[inline(never)]
    pub fn made_other(&self, fd: c_int) {
        self.descriptors.set(fd, Mark::of(Family::Other));
        self.attempts.forget(fd);
        say!(Debug, "fd {fd}: socket: left alone, {}", Reason::NotTcp);
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
        if let Some(silence) = &tuning.silence {
            silence.forget(fd);
        }
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
            say!(Debug, "socket: this kernel makes no MPTCP socket; TCP");
            return Self::tcp_socket(domain, kind, protocol, tuning);
        }
        fd
    }

    /// A TCP socket is here; this holds for it, if that is known yet.
    #[inline]
    fn count_seen(&self, fd: c_int, profile: Option<&Profile>) {
        self.totals.seen();
        if profile.is_some_and(|profile| !profile.is_empty()) {
            self.totals.tuned();
        }
        if let Some(stats) = self.stats {
            stats.forget(fd);
        }
    }

    /// Applies the options of a stage, and remembers it.
    #[inline] // for the stack: a connect has little
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
    fn choose(&self, fd: c_int, endpoint: &Endpoint) -> Option<&'static Profile> {
        self.everywhere.or_else(|| self.remembered(fd, self.index(fd, endpoint)))
    }

    /// The index of what holds for a socket with this endpoint.
    fn index(&self, fd: c_int, endpoint: &Endpoint) -> u32 {
        let index = self.settings.rules.find(endpoint, || address::local_ip(fd));
        if messages::debugging()
            && let Some(profile) = self.settings.profile(index)
        {
            self.explain_choice(fd, endpoint, profile);
        }
        index
    }

    fn remembered(&self, fd: c_int, index: u32) -> Option<&'static Profile> {
        self.choices.set(fd, index);
        self.settings.profile(index)
    }

    /// What holds for a socket that connects or listens now; its options of socket(2) are on it then.
    #[inline]
    fn settle(&self, fd: c_int, mark: Mark, endpoint: Option<Endpoint>) -> (Option<&'static Profile>, Mark) {
        match self.decided(fd, mark, endpoint.as_ref()) {
            (Some(profile), true) => (Some(profile), self.pass(fd, mark, profile, Stages::SOCKET)),
            (profile, _) => (profile, mark),
        }
    }

    /// What holds, and whether its options of socket(2) are still to be set: by the caller, so that the stack of this is free
    /// then.
    #[inline(never)]
    fn decided(&self, fd: c_int, mark: Mark, endpoint: Option<&Endpoint>) -> (Option<&'static Profile>, bool) {
        self.decided_by(fd, mark, || Some(self.index(fd, endpoint?)))
    }

    /// The same, by the index of what holds for its endpoint, if it has one.
    #[inline]
    fn decided_by(
        &self,
        fd: c_int,
        mark: Mark,
        index: impl FnOnce() -> Option<u32>,
    ) -> (Option<&'static Profile>, bool) {
        let before = self.profile(fd, mark);
        if self.everywhere.is_some() {
            if self.tells_rules() {
                index();
            }
            return (before, false);
        }
        // A connect that goes on or is over has its rule: what the socket is bound to now, the kernel has chosen.
        if before.is_some() && mark.passed().contains(Stages::SOCKET) && !apply::is_closed(&self.real, fd) {
            return (before, false);
        }
        let Some(index) = index() else { return (before, false) };
        let Some(profile) = self.remembered(fd, index) else { return (None, false) };
        let same = before.is_some_and(|before| std::ptr::eq(before, profile));
        let settled = same && mark.passed().contains(Stages::SOCKET);
        if !(mark.passed().contains(Stages::SOCKET) || profile.is_empty()) {
            self.totals.tuned();
        }
        (Some(profile), !settled)
    }

    /// Whether rules are reported though one holds for every socket.
    fn tells_rules(&self) -> bool {
        self.everywhere.is_some_and(|profile| profile.rule.is_some()) && messages::debugging()
    }
}

fn is_tcp(mark: Mark) -> bool {
    matches!(mark.family(), Some(Family::Tcp | Family::Mptcp))
}
