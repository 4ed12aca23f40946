//! connect(2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, sockaddr, socklen_t};
use tcptune_core::options::phase::Stages;
use tcptune_core::say;
use tcptune_core::settings::profile::Profile;
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::sockets::connect::{self, Call, Failed, FastOpen};
use tcptune_core::sockets::decision::{self, Bound, Reason};
use tcptune_core::sockets::descriptor::{Fact, Mark};
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::identity::Identity;
use tcptune_core::sockets::{address, apply};
use tcptune_core::system::{clock, errno, files, messages};

use super::{Tuning, is_tcp};

impl Tuning {
    /// connect(2).
    pub fn connect(&self, fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
        answered(|| self.connected(&self.call(fd, (addr, len))).map(|()| 0))
    }

    /// sendto(2) or sendmsg(2) with `MSG_FASTOPEN`.
    pub fn fast_open(&self, fd: c_int, address: (*const sockaddr, socklen_t), open: &FastOpen<'_>) -> isize {
        let call = Call { by: Some(open), ..self.call(fd, address) };
        answered(|| match (self.connected(&call), open.with_syn()) {
            (Ok(()) | Err(libc::EINPROGRESS), Some(count)) => Ok(count),
            (Ok(()), None) => open.send(), // there was no cookie: it has waited for the connection
            (Err(error), _) => Err(error),
        })
    }

    pub(super) fn call(&self, fd: c_int, (addr, len): (*const sockaddr, socklen_t)) -> Call<'_> {
        Call { real: &self.real, descriptors: &self.descriptors, fd, addr, len, by: None }
    }

    fn connected(&self, call: &Call<'_>) -> Result<(), c_int> {
        let mark = self.seen(call.fd);
        let mark = if is_tcp(mark) { self.before_connect(call.fd, mark) } else { mark };
        if is_tcp(mark) {
            return self.connect_tcp(call, mark);
        }
        if messages::debugging() {
            self.explain(call.fd, Bound::Leave(Reason::NotTcp));
        }
        call.connect()
    }

    /// What is known of a TCP socket that is to connect: asked of the kernel, where anything is going to be changed.
    fn before_connect(&self, fd: c_int, mark: Mark) -> Mark {
        let changes = |profile: &Profile| profile.has_connect_timeout() || has_more(profile) || profile.has_source();
        if self.everywhere.is_none_or(changes) { self.confirmed(fd, mark) } else { mark }
    }

    /// What is needed before the call and after it has frames of its own: while it waits, a connect has little stack.
    fn connect_tcp(&self, call: &Call<'_>, mark: Mark) -> Result<(), c_int> {
        let fd = call.fd;
        let (profile, mark) = self.prepared(call, mark);
        let more = profile.filter(|profile| has_more(profile)).map(|profile| (profile, Identity::of(fd)));
        let start = self.stats.map_or(0, |_| clock::nanoseconds());
        let result = match self.bound(call, mark, profile) {
            Bound::Leave(_) => call.connect(),
            Bound::Poll(ms) => {
                let result = connect::within(call, ms);
                if result.is_err_and(Failed::goes_on) {
                    self.attempts.goes_on(&self.real, fd, ms);
                } else {
                    self.attempts.settle(&self.real, fd); // one from before a signal, or before the socket was made blocking
                }
                result.map_err(Failed::error)
            }
            Bound::Kernel(ms) => self.attempts.connect(call, ms),
        };
        self.count(call, start, result);
        if let Some((profile, identity)) = more
            && !mark.passed().contains(Stages::LISTEN) // on a listener connect(2) fails with EISCONN, which is the answer to the program
            && self.has_begun(call, result)
            && Identity::of(fd) == identity
        {
            self.pass(fd, mark, profile, Stages::CONNECT);
            if mark.family() == Some(Family::Tcp) {
                self.watch_peer(fd, profile);
            }
        }
        result
    }

    /// What holds for the socket; what has to be set before connect(2) is on it then.
    #[inline]
    fn prepared(&self, call: &Call<'_>, mark: Mark) -> (Option<&'static Profile>, Mark) {
        let fd = call.fd;
        let (profile, mark) = match self.decided_by(fd, mark, || self.index_of_peer(call)) {
            (Some(profile), true) => (Some(profile), self.pass(fd, mark, profile, Stages::SOCKET)),
            (profile, _) => (profile, mark),
        };
        if let Some(profile) = profile.filter(|profile| profile.has_source()) {
            self.bind_source(call, mark, profile);
        }
        // A blocking connect ends after SO_SNDTIMEO (socket(7)): the one that we set after an earlier connect of this socket is
        // taken off.
        if let Some(profile) = profile.filter(|_| mark.passed().contains(Stages::CONNECT)) {
            self.take_send_timeout_off(fd, mark, profile);
        }
        (profile, mark)
    }

    /// The index of what holds for a socket that connects.
    #[inline(never)]
    fn index_of_peer(&self, call: &Call<'_>) -> Option<u32> {
        let peer = Endpoint::Client(address::of_program(call.addr, call.len)?);
        Some(self.index(call.fd, &peer))
    }

    #[inline(never)]
    fn take_send_timeout_off(&self, fd: c_int, mark: Mark, profile: &Profile) {
        let planned = profile.planned(libc::SOL_SOCKET, libc::SO_SNDTIMEO, Stages::CONNECT);
        if planned.as_ref().is_some_and(|planned| !apply::is_programs(&self.real, profile, fd, mark, planned)) {
            errno::preserved(|| apply::no_send_timeout(&self.real, fd));
        }
    }

    /// Counts a connect that began at `start`, and says how it ended.
    #[inline(never)]
    fn count(&self, call: &Call<'_>, start: u64, result: Result<(), c_int>) {
        match self.stats {
            Some(stats) => stats.connected(call.fd, start, address::of_program(call.addr, call.len), result),
            None => self.totals.connected(result),
        }
        match result {
            Ok(()) => say!(Trace, "fd {}: connect: done", call.fd),
            Err(error) => say!(Trace, "fd {}: connect: {}", call.fd, errno::Named(error)),
        }
    }

    /// Whether the connection stands or will. After a timeout the program has to call a blocking connect again; after a
    /// signal the attempt goes on, and programs wait for it.
    fn has_begun(&self, call: &Call<'_>, result: Result<(), c_int>) -> bool {
        match result {
            Ok(()) | Err(libc::EISCONN | libc::EINTR) => true,
            Err(libc::EINPROGRESS | libc::EALREADY) => {
                self.flags_of(call).is_some_and(|flags| flags & libc::O_NONBLOCK != 0)
            }
            Err(_) => false,
        }
    }

    /// How a connect is bounded.
    #[inline(never)]
    fn bound(&self, call: &Call<'_>, mark: Mark, profile: Option<&Profile>) -> Bound {
        let bound = decision::bound(profile, mark.family().unwrap_or(Family::Other), || self.flags_of(call));
        if messages::debugging() {
            self.explain(call.fd, bound);
        }
        bound
    }

    /// Binds a socket that is not bound to the address that its connections shall come from.
    #[inline(never)] // for the stack: a connect has little
    fn bind_source(&self, call: &Call<'_>, mark: Mark, profile: &Profile) {
        let (fd, peer) = (call.fd, address::of_program(call.addr, call.len));
        let Some(source) = peer.and_then(|peer| address::source_for(peer, mark.is(Fact::V6), &profile.source())) else {
            return;
        };
        if address::local(fd).is_some_and(|own| own.port() == 0 && own.ip().is_unspecified()) {
            errno::preserved(|| apply::source(&self.real, fd, mark, source));
        }
    }

    /// Whether calls on it wait.
    pub(super) fn blocks(&self, fd: c_int) -> bool {
        self.file_status_flags(fd).is_some_and(|flags| flags & libc::O_NONBLOCK == 0)
    }

    /// The file status flags that count for a call.
    fn flags_of(&self, call: &Call<'_>) -> Option<c_int> {
        if call.by.is_some_and(FastOpen::never_waits) {
            Some(libc::O_NONBLOCK)
        } else {
            self.file_status_flags(call.fd)
        }
    }

    /// The program's file status flags: without the `O_NONBLOCK` of another thread's connect, which is as blocking as
    /// this one.
    fn file_status_flags(&self, fd: c_int) -> Option<c_int> {
        let flags = files::status_flags(fd).map_err(|error| apply::no_timeout(fd, "fcntl", error)).ok()?;
        let lent = if self.descriptors.get(fd).is_starting() { libc::O_NONBLOCK } else { 0 };
        Some(flags & !lent)
    }
}

/// What a libc function returns for this result, with `errno`.
fn answered<T: From<i8>>(result: impl FnOnce() -> Result<T, c_int>) -> T {
    let before = errno::get();
    let result = result();
    errno::set(result.as_ref().err().copied().unwrap_or(before));
    result.unwrap_or(T::from(-1))
}

/// Whether anything is set after connect(2).
fn has_more(profile: &Profile) -> bool {
    profile.has_at(Stages::CONNECT, Stages::NONE)
}
