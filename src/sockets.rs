//! Which core function a hooked call leads to, on which descriptor.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;

use libc::c_int;
use once_cell::sync::OnceCell;
use tcptune_core::apply;
use tcptune_core::attempt::{self, Attempts};
use tcptune_core::connect::{self, Call};
use tcptune_core::decision::{self, Bound, Family, Reason};
use tcptune_core::descriptor::{Descriptors, Fact, Mark};
use tcptune_core::errno;
use tcptune_core::option::Stages;
use tcptune_core::real::Real;
use tcptune_core::settings::Settings;
use tcptune_core::syn;

/// Set once, by start-up, if there is anything to do.
pub static TUNING: OnceCell<Tuning> = OnceCell::new();

/// What the hooks work with.
pub struct Tuning {
    pub settings: Settings,
    pub real: Real,
    /// What is known of each descriptor.
    pub descriptors: Descriptors,
    /// Nonblocking connects that are going on.
    pub attempts: Attempts,
    /// `tcp_syn_retries` and `tcp_syn_linear_timeouts`, read where they are logged.
    pub syn: Option<(u32, u32)>,
}

impl Tuning {
    /// After socket(2).
    pub fn made(&self, fd: c_int, family: Family) {
        self.attempts.forget(fd);
        let mark = Mark::of(family);
        self.descriptors.set(fd, mark);
        if family != Family::Other {
            apply::stage(&self.real, &self.settings, fd, mark, Stages::SOCKET);
        } else if log::log_enabled!(log::Level::Debug) {
            left_alone(fd);
        }
    }

    /// What is known of `fd`; if nothing is, and it is a socket, it is looked up and tuned now.
    pub fn seen(&self, fd: c_int) -> Mark {
        let mark = self.descriptors.get(fd);
        if mark.family().is_some() { mark } else { self.adopt(fd) }
    }

    #[cold]
    fn adopt(&self, fd: c_int) -> Mark {
        let Some(family) = apply::family(&self.real, fd) else { return Mark::default() };
        let mark = Mark::of(family).with(Fact::ADOPTED).and_set_on(self.descriptors.get(fd));
        self.descriptors.set(fd, mark);
        if family != Family::Other {
            log::debug!("fd {fd}: first seen now, not made by socket");
            apply::stage(&self.real, &self.settings, fd, mark, Stages::SOCKET);
        }
        mark
    }

    /// Before bind(2) and listen(2).
    pub fn before_bind(&self, fd: c_int, stage: Stages) {
        let mark = self.seen(fd);
        if mark.is(Fact::BOUND) || !is_tcp(mark) || self.settings.at(stage).next().is_none() {
            return;
        }
        // The mark may be that of an earlier owner of the number. REUSEADDR lets two UDP sockets share a port.
        if matches!(apply::family(&self.real, fd), Some(Family::Tcp | Family::Mptcp)) {
            apply::stage(&self.real, &self.settings, fd, mark, stage);
            self.descriptors.set(fd, mark.with(Fact::BOUND));
        }
    }

    /// The program's file status flags: without the `O_NONBLOCK` of another thread's connect, which is as blocking as
    /// this one.
    fn file_status_flags(&self, fd: c_int) -> Option<c_int> {
        // SAFETY: F_GETFL takes no argument and touches no memory.
        let flags = unsafe { libc::fcntl(fd, libc::F_GETFL) };
        if flags == -1 {
            apply::no_timeout(fd, "fcntl", errno::get());
            return None;
        }
        let mark = self.descriptors.get(fd);
        if flags & libc::O_NONBLOCK == 0 || !mark.is(Fact::WAITED_FOR) {
            return Some(flags);
        }
        if mark.is(Fact::STARTING) || attempt::goes_on(&self.real, fd) {
            return Some(flags & !libc::O_NONBLOCK);
        }
        self.descriptors.set(fd, mark.without(Fact::WAITED_FOR)); // left over: duplicated or forked meanwhile
        Some(flags)
    }

    /// connect(2).
    pub fn connect(&self, call: &Call<'_>) -> c_int {
        let before = errno::get();
        let fd = call.fd;
        let mark = self.seen(fd);
        let family = mark.family().unwrap_or(Family::Other);
        let bound = decision::bound(&self.settings, family, || self.file_status_flags(fd));
        if log::log_enabled!(log::Level::Debug) {
            self.explain(fd, bound);
        }
        let result = match bound {
            Bound::Leave(_) => call.connect(),
            Bound::Poll { ms, flags } => connect::within(call, flags, ms),
            Bound::Kernel(ms) => self.attempts.connect(call, ms),
        };
        if is_tcp(mark) && matches!(result, Ok(()) | Err(libc::EINPROGRESS)) {
            apply::stage(&self.real, &self.settings, fd, mark, Stages::CONNECT);
        }
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

    #[cold]
    fn explain(&self, fd: c_int, bound: Bound) {
        log::debug!("fd {fd}: connect: {}", Explained { tuning: self, fd, bound });
    }

    /// After dup(2) and its kin: `new` is another number of the same socket.
    pub fn duplicated(&self, old: c_int, new: c_int) {
        self.descriptors.set(new, self.descriptors.get(old).and_set_on(self.descriptors.get(new)));
        self.attempts.duplicate(old, new);
    }

    /// After accept(2) on a listener with this mark. On Linux an accepted socket inherits its listener's options.
    pub fn accepted(&self, listener: Mark, fd: c_int) {
        let Some(family @ (Family::Tcp | Family::Mptcp)) = listener.family() else { return };
        self.attempts.forget(fd);
        let mark = Mark::of(family);
        self.descriptors.set(fd, mark);
        if listener.is(Fact::ADOPTED) && !apply::inherited(&self.real, &self.settings, fd) {
            apply::stage(&self.real, &self.settings, fd, mark, Stages::SOCKET);
        }
        apply::stage(&self.real, &self.settings, fd, mark, Stages::ACCEPT);
    }

    /// After a program's own successful setsockopt(2).
    pub fn set_by_program(&self, fd: c_int, level: c_int, optname: c_int) {
        let follow_up = decision::follow_up(&self.settings, level, optname);
        if (level, optname) == (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT)
            && self.attempts.any()
            && self.attempts.set_by_program(&self.real, fd, follow_up.map(|p| p.value))
        {
            return;
        }
        let mark = self.descriptors.get(fd);
        match (follow_up, self.settings.planned(level, optname)) {
            (Some(planned), _) if is_tcp(mark) => {
                let name = planned.option().map_or("", |option| option.name);
                log::debug!("fd {fd}: the program set {name}; the environment wins");
                errno::preserved(|| apply::one(&self.real, fd, mark.family(), planned));
            }
            (None, Some(planned)) if is_tcp(mark) => {
                self.descriptors.set(fd, mark.with(Fact::set_by_program(planned.row)));
            }
            _ => {}
        }
    }
}

fn is_tcp(mark: Mark) -> bool {
    matches!(mark.family(), Some(Family::Tcp | Family::Mptcp))
}

/// Kept out of the hook, so that it is as short as its work.
#[cold]
fn left_alone(fd: c_int) {
    log::debug!("fd {fd}: socket: left alone, {}", Reason::NotTcp);
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
