//! Calls that a timeout of the settings ends, and connections that a silent peer ends: the program is told `ETIMEDOUT`.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;

use libc::{c_int, c_void, pollfd, socklen_t};
use tcptune_core::options::value::Value;
use tcptune_core::say;
use tcptune_core::settings::profile::Profile;
use tcptune_core::sockets::signal::Handled;
use tcptune_core::sockets::{address, apply};
use tcptune_core::system::{clock, errno, files, messages};

use super::{Tuning, is_tcp};

impl Tuning {
    /// From now on the silence of this connection ends it, after so many milliseconds of waiting.
    pub fn watch(&self, fd: c_int, receive: Option<u32>, send: Option<u32>) {
        if let Some(silence) = &self.silence {
            silence.watch(fd, receive, send);
        }
    }

    /// The same, of a connection that the program has made.
    #[inline(never)] // for the stack: a connect has little
    pub fn watch_peer(&self, fd: c_int, profile: &Profile) {
        let limits = profile.limits();
        self.watch(fd, limits.receive, limits.send);
    }

    /// After a call on a connection or a listener that has failed: `receives` if it was to receive something, or accept;
    /// when it began, unless it was told not to wait.
    #[inline]
    pub fn failed(&self, fd: c_int, receives: bool, began: Option<u64>) {
        match errno::get() {
            libc::EAGAIN if began.is_some_and(|began| self.has_timed_out(fd, receives, began)) => {
                errno::set(libc::ETIMEDOUT);
            }
            libc::EINTR if began.is_some_and(|began| self.has_waited_in_all(fd, receives, began)) => {
                errno::set(libc::ETIMEDOUT);
            }
            libc::ECONNRESET if self.is_ended(fd, true) => errno::set(libc::ETIMEDOUT),
            // What a thread is told that waited in the call (Linux 6.7); the error is still there for the next one.
            libc::EPIPE if receives && self.is_ended(fd, false) => errno::set(libc::ETIMEDOUT),
            _ => {}
        }
    }

    /// After a getsockopt(2) of `SO_ERROR`: the error of a connection that has been ended here is `ETIMEDOUT`.
    ///
    /// # Safety
    /// It has succeeded.
    pub unsafe fn error_told(&self, fd: c_int, value: *mut c_void, len: *const socklen_t) -> bool {
        // SAFETY: the kernel has just written so many bytes there.
        unsafe {
            let ended =
                *len == 4 && value.cast::<c_int>().read_unaligned() == libc::ECONNRESET && self.is_ended(fd, true);
            if ended {
                value.cast::<c_int>().write_unaligned(libc::ETIMEDOUT);
            }
            ended
        }
    }

    /// Whether an error is that of a connection that a silent peer has ended here.
    pub fn is_ended(&self, fd: c_int, last: bool) -> bool {
        self.silence.as_ref().is_some_and(|silence| silence.is_ours(fd, last))
    }

    /// Whether a call has ended because of the timeout that the settings have set: not because of one that the program has
    /// set, nor at once, as `RWF_NOWAIT`, an empty queue of errors (`MSG_ERRQUEUE`) and the missing urgent
    /// byte (`MSG_OOB`) make it.
    fn has_timed_out(&self, fd: c_int, receives: bool, began: u64) -> bool {
        let waited = clock::at_last_tick().saturating_sub(began);
        let limit = if waited == 0 { None } else { self.limit(fd, receives) };
        let limit = limit.filter(|&ms| waited + clock::TICK >= u64::from(ms));
        if let Some(ms) = limit {
            self.interrupted.forget(fd, receives);
            tell(fd, receives, ms);
        }
        limit.is_some()
    }

    /// Whether a call that a signal handler has interrupted, and those before it, have waited for as long as the timeout that
    /// the settings have set: a program that makes it again each time would wait for ever.
    #[inline(never)] // for the stack
    fn has_waited_in_all(&self, fd: c_int, receives: bool, began: u64) -> bool {
        let Some(ms) = self.limit(fd, receives) else { return false };
        let time = (began, clock::at_last_tick());
        let over = errno::preserved(|| self.interrupted.is_over(fd, receives, time, ms.into()));
        if over {
            tell(fd, receives, ms);
        }
        over
    }

    /// The milliseconds of the timeout that the settings have set, if the socket blocks, and has that one and not the
    /// program's.
    #[inline(never)] // for the stack
    fn limit(&self, fd: c_int, receives: bool) -> Option<u32> {
        let (mark, optname) = (self.descriptors.get(fd), if receives { libc::SO_RCVTIMEO } else { libc::SO_SNDTIMEO });
        let profile = self.profile(fd, mark).filter(|_| is_tcp(mark))?;
        let planned = profile.planned(libc::SOL_SOCKET, optname, mark.passed());
        let planned = planned.as_ref()?;
        let Value::Int(ms) = planned.value() else { return None };
        errno::preserved(|| {
            let blocking = files::status_flags(fd).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0);
            let ours = blocking
                && apply::mark(&self.real, fd).is_some_and(is_tcp)
                && !apply::is_programs(&self.real, profile, fd, mark, planned)
                && apply::timeout(&self.real, fd, planned).is_some();
            ms.try_into().ok().filter(|_| ours)
        })
    }

    /// The same, and whether the call is to be made again.
    #[cold]
    pub fn goes_on(&self, fd: c_int, receives: bool, began: Option<u64>) -> bool {
        if began.is_some_and(|began| errno::get() == libc::EINTR && self.is_resumed(fd, receives, began)) {
            return true;
        }
        self.failed(fd, receives, began);
        false
    }

    /// After a call that began then and was interrupted: whether only the timeout that the settings have set let a signal
    /// handler end it. First this waits for what is left of the time: `errno` is `EAGAIN` if nothing comes. With a handler that
    /// ends calls, nothing tells whether that one has run.
    #[inline(never)] // for the stack
    fn is_resumed(&self, fd: c_int, receives: bool, began: u64) -> bool {
        while errno::get() == libc::EINTR {
            let Some(limit) = self.limit(fd, receives) else { return false };
            if errno::preserved(|| Handled::now().interrupting != 0) {
                return false;
            }
            let waited = clock::at_last_tick().saturating_sub(began);
            let left = u64::from(limit).saturating_sub(waited).try_into().unwrap_or(c_int::MAX);
            let mut entry = pollfd { fd, events: if receives { libc::POLLIN } else { libc::POLLOUT }, revents: 0 };
            // SAFETY: one live pollfd.
            match unsafe { (self.real.poll)(&raw mut entry, 1, left) } {
                0 => errno::set(libc::EAGAIN),
                1 => return true,
                _ if errno::get() != libc::EINTR => {
                    errno::set(libc::EINTR); // poll(2) is refused: as if it had not been tried
                    return false;
                }
                _ => {}
            }
        }
        false
    }
}

/// Says that a timeout of so many milliseconds has ended a call.
#[cold]
fn tell(fd: c_int, receives: bool, ms: u32) {
    if messages::debugging() {
        errno::preserved(|| {
            let what = if receives { "nothing came" } else { "there was no room to send" };
            say!(Debug, "fd {fd}: {}{what} for {}.{:03} s: ETIMEDOUT", Peer(fd), ms / 1000, ms % 1000);
        });
    }
}

/// Displays whom a socket is connected to.
struct Peer(c_int);

impl fmt::Display for Peer {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match address::peer(self.0) {
            Some(peer) => write!(f, "{peer}: "),
            None => Ok(()),
        }
    }
}
