//! Connect timeout of a nonblocking socket: `TCP_USER_TIMEOUT` for as long as the attempt lasts.
//!
//! The kernel honours `TCP_USER_TIMEOUT` in SYN-SENT (tcp(7)). On a connection the same value T would end what merely
//! stalls, but not before T has passed without an acknowledgement after the handshake. So the value that should hold is
//! put back by start + T: by the first hooked call on the descriptor that finds the attempt over, else by a wait of any
//! thread when that time comes. An attempt that still goes on then is looked at again as long after.
//!
//! An attempt belongs to a socket (`SO_COOKIE`), not to a number: the number only finds the record, and the cookie tells
//! whether the socket that has the number now is the one of the attempt.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

mod due;
mod slot;

use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

use crate::say;
use crate::sockets::apply;
use crate::sockets::connect::Call;
use crate::sockets::real::Real;
use crate::sockets::slots::Slots;
use crate::sockets::syn;
use crate::system::{clock, errno, network, process};
use due::Deadlines;
use slot::{Attempt, Slot, State};

/// States of tcp(7)'s `TCP_INFO`: in the first two an attempt goes on.
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;
const CLOSE: u8 = 7;

/// The attempts of all nonblocking sockets of the process. The default has room for none.
#[derive(Debug, Default)]
pub struct Attempts {
    slots: Slots<Slot>,
    pending: AtomicU64,
    deadlines: Deadlines,
    serial: AtomicU64,
    /// The process that started.
    process: usize,
}

/// How long before start + T the value is put back, in milliseconds: a wait ends late, by a tick or a busy processor, and
/// the clock that is asked is behind.
fn margin(during: u32) -> u64 {
    u64::from(during / 16).clamp(10, 100)
}

/// When an attempt is to be looked at that goes on at `now`.
fn due_after(now: u64, during: u32) -> u64 {
    now + u64::from(during).saturating_sub(margin(during)).max(10)
}

impl Attempts {
    /// None yet, in the process of this number.
    #[must_use]
    pub fn new(process: usize) -> Self {
        Self { slots: Slots::new(), deadlines: Deadlines::new(), process, ..Self::default() }
    }

    /// Whether any attempt is going on: all that a hook costs while none is.
    #[inline]
    pub fn any(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    /// When the next attempt is due, on the monotonic clock in milliseconds, if there is any. It may be over by then.
    #[inline]
    pub fn next_due(&self) -> Option<u64> {
        Some(self.deadlines.earliest()).filter(|time| self.any() && *time != 0)
    }

    /// The slot of `fd`, and what is in it, if anything is.
    #[inline]
    fn found(&self, fd: c_int) -> Option<(&Slot, State)> {
        if !self.any() {
            return None;
        }
        let slot = self.slots.get(fd)?;
        Some((slot, slot.state()?))
    }

    // `inline(never)` where a function needs much stack, so that its callers do not need it as well: a signal handler that
    // connects may run on a small stack.

    /// Connects a nonblocking socket; the kernel ends the attempt after `ms` milliseconds.
    ///
    /// # Errors
    /// The kernel's errno, which is `EINPROGRESS` while the attempt goes on.
    #[inline(never)]
    pub fn connect(&self, call: &Call<'_>, ms: c_int) -> Result<(), c_int> {
        self.bounded(call.real, call.fd, ms, || call.connect())
    }

    /// Runs `begin`, which connects the nonblocking socket `fd`: if that begins an attempt, the kernel ends it after `ms`
    /// milliseconds.
    ///
    /// # Errors
    /// Those of `begin`.
    pub fn bounded<T>(
        &self,
        real: &Real,
        fd: c_int,
        ms: c_int,
        begin: impl FnOnce() -> Result<T, c_int>,
    ) -> Result<T, c_int> {
        if self.settle(real, fd) {
            let result = begin(); // the same attempt goes on, and keeps its deadline, or is given up
            self.settle(real, fd);
            return result;
        }
        let limited = self.begin(real, fd, ms.unsigned_abs());
        let result = begin();
        if let Some((slot, state)) = limited {
            slot.started(state);
            if !matches!(result, Err(libc::EINPROGRESS)) {
                self.settle(real, fd);
            }
        }
        result
    }

    /// After a blocking connect(2) that a signal handler or `SO_SNDTIMEO` has ended: the attempt goes on behind it, and
    /// programs wait for it as for a nonblocking one, in poll(2), or connect again. The kernel counts `ms` from its start on.
    #[cold]
    pub fn goes_on(&self, real: &Real, fd: c_int, ms: c_int) {
        let _ = self.bounded(real, fd, ms, || Err::<(), _>(libc::EINPROGRESS));
    }

    /// Before an attempt on `fd` begins. `None` if it has no timeout of ours.
    #[inline(never)]
    fn begin(&self, real: &Real, fd: c_int, during: u32) -> Option<(&Slot, State)> {
        if fd < 0 {
            return None; // the kernel has the answer
        }
        let during = syn::within_retries(during, || retries(real, fd));
        let due = due_after(clock::at_last_tick(), during);
        let state = State::new(self.serial.fetch_add(1, Ordering::Relaxed)).with(State::STARTING);
        let attempt = Attempt { cookie: cookie(fd), during, after: None };
        let Some(slot) = self.put(fd, state.with(State::HELD), due, attempt) else {
            apply::no_timeout(fd, "mmap", libc::ENOMEM);
            return None;
        };
        let limited = match user_timeout(real, fd) {
            Ok(after) if after == 0 || after > during => {
                slot.keep(attempt, after);
                set_user_timeout(real, fd, during).map(|()| true)
            }
            Ok(_) => Ok(false), // the connection's own limit is shorter
            Err(error) => Err(error),
        };
        if limited == Ok(true) {
            slot.let_go(state, false, || _ = set_user_timeout(real, fd, during));
            return Some((slot, state));
        }
        if let Err(error) = limited {
            apply::no_timeout(fd, "TCP_USER_TIMEOUT", error);
        }
        self.count_out(slot.forget(state));
        None
    }

    /// Remembers an attempt, before any other thread can see it. `None` where there is no memory.
    #[inline(never)]
    fn put(&self, fd: c_int, state: State, due: u64, attempt: Attempt) -> Option<&Slot> {
        let slot = self.slots.entry(fd)?;
        if !slot.put(state, due, attempt) {
            self.pending.fetch_add(1, Ordering::Relaxed);
        }
        if !self.deadlines.add(fd, due) {
            self.count_out(slot.forget(state));
            return None;
        }
        Some(slot)
    }

    /// Counts one attempt less, if one was removed.
    fn count_out(&self, removed: bool) {
        if removed {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Puts the value back if the attempt on `fd` is over. Whether it goes on. Leaves `errno` alone.
    #[inline]
    pub fn settle(&self, real: &Real, fd: c_int) -> bool {
        self.found(fd).is_some_and(|(slot, state)| self.look(real, fd, slot, state))
    }

    #[inline(never)]
    fn look(&self, real: &Real, fd: c_int, slot: &Slot, state: State) -> bool {
        if state.is(State::HELD) {
            return false; // another thread begins it, or ends it
        }
        errno::preserved(|| match real.tcp_state(fd) {
            Some(SYN_SENT | SYN_RECV) => true,
            // Its connect(2) has not come to the kernel yet.
            Some(CLOSE) if state.is(State::STARTING) && clock::at_last_tick() < slot.due() => false,
            Some(_) => {
                self.finish(real, fd, slot, state);
                false
            }
            None => {
                self.count_out(slot.forget(state)); // the number is not of a TCP socket any more
                false
            }
        })
    }

    /// Looks at all attempts that are due at `now`, and puts the value back on those that are over. Leaves `errno` alone.
    #[cold]
    pub fn settle_due(&self, real: &Real, now: u64) {
        let due = |fd| self.found(fd).map_or(0, |(slot, _)| slot.due());
        self.deadlines.visit_due(now, due, |fd| {
            if let Some((slot, state)) = self.found(fd) {
                self.look(real, fd, slot, state);
                slot.postpone(due_after(now, slot.attempt().during));
            }
        });
    }

    /// Puts back the value that should hold: the attempt is over.
    #[inline(never)]
    fn finish(&self, real: &Real, fd: c_int, slot: &Slot, state: State) {
        if !slot.hold(state) {
            return; // another thread does it, or it is another attempt by now
        }
        let attempt = slot.attempt();
        let put_back = || {
            let after = slot.attempt().after.unwrap_or(0);
            let _ = set_user_timeout(real, fd, after);
            say!(Debug, "fd {fd}: the attempt is over; TCP_USER_TIMEOUT is {after}ms again");
        };
        if slot.is_held(state) && is_of(real, fd, attempt) {
            put_back();
        }
        if state.is(State::SHARED) {
            self.others(attempt.cookie, state).for_each(|(slot, state)| self.count_out(slot.forget(state)));
        }
        // Only now, so that another thread that finds no attempt finds the value that should hold.
        let removed = slot.let_go(state, true, put_back);
        self.count_out(removed);
        if !removed {
            restore(real, fd, slot);
        }
    }

    /// The records of the same socket under other numbers. It looks at all attempts, which is for the few sockets that were
    /// duplicated while they connected.
    fn others(&self, cookie: u64, own: State) -> impl Iterator<Item = (&Slot, State)> {
        let all = (0..=self.deadlines.highest()).filter_map(|fd| self.found(fd));
        all.filter(move |(slot, state)| slot.attempt().cookie == cookie && !state.same_attempt(own))
    }

    /// Before `fd` is closed. If an attempt goes on that has no other number here, its value is put back now: a number that
    /// no hook has seen (`SCM_RIGHTS`, pidfd_getfd(2)) or another process may keep the socket, and nobody would later.
    pub fn close(&self, real: &Real, fd: c_int) {
        let others = |slot: &Slot, state: State| self.others(slot.attempt().cookie, state).next().is_some();
        if let Some((slot, state)) = self.found(fd)
            && process::id() == self.process
            && !(state.is(State::HELD) || state.is(State::STARTING))
            && !(state.is(State::SHARED) && others(slot, state))
        {
            // Whether it goes on or is over: that need not be asked.
            errno::preserved(|| self.finish(real, fd, slot, state));
        } else {
            self.settle(real, fd);
        }
        self.closed(fd);
    }

    /// Before all descriptors from `first` to `last` are closed.
    pub fn close_range(&self, real: &Real, first: c_int, last: c_int) {
        if self.any() {
            (first..=last.min(self.deadlines.highest())).for_each(|fd| self.close(real, fd));
        }
    }

    /// Forgets `fd`, unless a child closes it: that of vfork(2) has its own descriptors, and the attempts of the parent. In
    /// one of fork(2) its cookie tells, when it is due or the number is used again, that it is over.
    fn closed(&self, fd: c_int) {
        if self.has(fd) && process::id() == self.process {
            self.forget(fd);
        }
    }

    /// Forgets `fd`: its number is another socket's now.
    pub fn forget(&self, fd: c_int) {
        if let Some((slot, _)) = self.found(fd) {
            self.count_out(slot.take());
        }
    }

    /// `new` is another number of `old`.
    pub fn duplicate(&self, old: c_int, new: c_int) {
        self.closed(new);
        if let Some((slot, state)) = self.found(old)
            && slot.share(state)
        {
            let other = State::new(self.serial.fetch_add(1, Ordering::Relaxed)).with(State::SHARED);
            self.put(new, other, slot.due(), slot.attempt());
        }
    }

    /// How many milliseconds an attempt on `fd` may go on before it is looked at.
    #[must_use]
    pub fn time_left(&self, fd: c_int) -> u64 {
        self.found(fd).map_or(0, |(slot, _)| slot.due().saturating_sub(clock::at_last_tick()))
    }

    /// Whether an attempt on `fd` is known.
    #[inline]
    pub fn has(&self, fd: c_int) -> bool {
        self.found(fd).is_some()
    }

    /// After a program's own setsockopt(2) of `TCP_USER_TIMEOUT`: if an attempt goes on, `value` is put back after it.
    /// Whether nothing has to follow. `before` is whether there was an attempt before that call: where it is over by now,
    /// the thread that has put back the value of before may have done so after the program's.
    pub fn set_by_program(&self, real: &Real, fd: c_int, value: u32, before: bool) -> bool {
        errno::preserved(|| {
            let found = self.found(fd).map(|(slot, state)| (slot, state, slot.attempt()));
            let Some((slot, state, attempt)) = found.filter(|(.., attempt)| attempt.cookie == cookie(fd)) else {
                return before && set_user_timeout(real, fd, value).is_ok();
            };
            if (1..=attempt.during).contains(&value) {
                self.count_out(slot.take()); // the connection's own limit is shorter
                return set_user_timeout(real, fd, value).is_ok();
            }
            if state.is(State::SHARED) {
                self.others(attempt.cookie, state).for_each(|(slot, _)| slot.set_after(value));
            }
            let during = || _ = set_user_timeout(real, fd, attempt.during);
            slot.change(state, value, during) || set_user_timeout(real, fd, value).is_ok()
        })
    }

    /// What `TCP_USER_TIMEOUT` the program shall read of `fd`, if that is not the kernel's.
    pub fn concealed(&self, fd: c_int) -> Option<u32> {
        self.found(fd).and_then(|(slot, _)| slot.attempt().after)
    }
}

/// Repairs a race: the number was given to another socket after it was looked at and before its user timeout was changed.
/// If an attempt of the new socket goes on, its timeout is set again.
#[cold]
fn restore(real: &Real, fd: c_int, slot: &Slot) {
    let Some(state) = slot.state().filter(|state| slot.hold(*state)) else { return };
    let attempt = slot.attempt();
    let again = || {
        if cookie(fd) == attempt.cookie && goes_on(real, fd) {
            let _ = set_user_timeout(real, fd, attempt.during);
        }
    };
    again();
    slot.let_go(state, false, again);
}

fn user_timeout(real: &Real, fd: c_int) -> Result<u32, c_int> {
    real.get_int(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT).map(c_int::cast_unsigned)
}

/// How many retries bound an attempt by the time that they take: with a user timeout of its own the kernel counts otherwise.
#[must_use]
pub fn retries(real: &Real, fd: c_int) -> Option<u32> {
    if user_timeout(real, fd) == Ok(0) { real.syn_retries(fd) } else { None }
}

fn set_user_timeout(real: &Real, fd: c_int, ms: u32) -> Result<(), c_int> {
    real.set_int(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ms.cast_signed())
}

/// What tells a socket from all others (`SO_COOKIE`, Linux 4.12); 0 where the kernel does not say.
fn cookie(fd: c_int) -> u64 {
    network::option(fd, libc::SO_COOKIE, 0).unwrap_or(0)
}

/// Whether `fd` is the socket of an attempt, and its value that of the attempt: not one that the program, or another
/// process, has set since.
fn is_of(real: &Real, fd: c_int, attempt: Attempt) -> bool {
    cookie(fd) == attempt.cookie && user_timeout(real, fd) == Ok(attempt.during)
}

/// Whether an attempt goes on.
#[must_use]
pub fn goes_on(real: &Real, fd: c_int) -> bool {
    matches!(real.tcp_state(fd), Some(SYN_SENT | SYN_RECV))
}
