//! epoll(7). A program says by epoll_ctl(2) once what it wants to know of a descriptor, and the wait does not repeat it. So
//! each descriptor that an epoll set watches for input has a time at which the kernel is asked how long it has been
//! silent, and the earliest of these times bounds every wait.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

use super::poll::nanoseconds;
use super::{FOREVER, NANOS, Silence, Wait};
use crate::system::clock;

#[allow(clippy::cast_sign_loss, reason = "bits")]
const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM | libc::EPOLLRDHUP) as u32;
#[allow(clippy::cast_sign_loss, reason = "bits")]
const WRITABLE: u32 = libc::EPOLLOUT as u32;
#[allow(clippy::cast_sign_loss, reason = "bits")]
const ONESHOT: u32 = libc::EPOLLONESHOT as u32;

/// No descriptor is to be looked at.
const NEVER: u64 = u64::MAX;

/// Milliseconds of the clock, to its tick, for the price of a few instructions.
fn milliseconds() -> u64 {
    clock::at_last_tick()
}

/// When the first descriptor is to be looked at, in milliseconds of the clock.
#[derive(Debug)]
pub struct Deadlines(AtomicU64);

impl Default for Deadlines {
    /// None.
    fn default() -> Self {
        Self(AtomicU64::new(NEVER))
    }
}

impl Deadlines {
    /// One more, after so many milliseconds.
    pub(super) fn add(&self, after: u64) {
        self.0.fetch_min(milliseconds() + after, Ordering::Relaxed);
    }
}

impl Silence {
    /// After a successful epoll_ctl(2): a set asks for these events of `fd`, of no event if it has forgotten it.
    pub fn asked(&self, fd: c_int, events: u32) {
        let Some(slot) = self.slots.entry(fd) else { return };
        // With EPOLLONESHOT and EPOLLOUT the one report is that there is room to write: the program then waits for nothing
        // until it asks again.
        if events & READABLE == 0 || events & (ONESHOT | WRITABLE) == ONESHOT | WRITABLE {
            slot.want_nothing();
            return;
        }
        if !slot.wanted() || events & ONESHOT != 0 {
            slot.want(milliseconds());
            if slot.cookie() != 0 && slot.limit(Wait::Receive) != 0 {
                self.deadlines.add(slot.limit(Wait::Receive));
            }
        }
    }

    /// Waits as `call` does, which takes a time in nanoseconds, [`FOREVER`] for no end.
    ///
    /// What is ready is fetched first by a call that does not wait: a wait that has an end costs the kernel a look at its
    /// clock, which is a quarter of the call.
    #[inline]
    pub fn epoll(&self, timeout: u64, mut call: impl FnMut(u64) -> c_int) -> c_int {
        if timeout != 0 {
            self.until_first();
        }
        match call(0) {
            0 if timeout != 0 => self.epoll_again(timeout, &mut call),
            result => result,
        }
    }

    #[cold]
    fn epoll_again(&self, timeout: u64, call: &mut dyn FnMut(u64) -> c_int) -> c_int {
        let bound = self.until_first();
        if timeout <= bound {
            return call(timeout);
        }
        let began = nanoseconds();
        let (mut left, mut bound) = (timeout, bound);
        loop {
            let result = call(left.min(bound));
            if result != 0 || left == 0 {
                return result;
            }
            if timeout != FOREVER {
                left = timeout.saturating_sub(nanoseconds().saturating_sub(began));
            }
            bound = self.until_first();
        }
    }

    /// Looks at what is due now, and returns how many nanoseconds a wait may last until the next descriptor is due: at most
    /// the shortest limit, so that a descriptor that another thread adds during the wait is looked at in time.
    #[inline]
    fn until_first(&self) -> u64 {
        let (now, mut first) = (milliseconds(), self.deadlines.0.load(Ordering::Relaxed));
        if first <= now {
            first = self.look_at_due(first, now);
        }
        (first - now).min(self.shortest) * NANOS
    }

    /// The same for poll(2) and select(2): among the descriptors that they wait for may be one of epoll.
    #[inline]
    pub(super) fn until_due(&self) -> u64 {
        if self.deadlines.0.load(Ordering::Relaxed) == NEVER { FOREVER } else { self.until_first() }
    }

    /// Looks at each descriptor that is due, and gives the time of the next one.
    #[cold]
    fn look_at_due(&self, first: u64, now: u64) -> u64 {
        let mut next = now + self.shortest;
        if self.deadlines.0.compare_exchange(first, next, Ordering::Relaxed, Ordering::Relaxed).is_err() {
            return next; // another thread looks
        }
        for (fd, slot) in self.watched().filter(|(_, slot)| slot.wanted()) {
            let limit = slot.limit(Wait::Receive);
            if limit == 0 || slot.is_ended() {
                continue;
            }
            if slot.due() <= now {
                let waited = now.saturating_sub(slot.wanted_since());
                let Some(silent) = self.look(fd, slot, Wait::Receive, waited) else { continue };
                slot.set_due(now + limit.saturating_sub(silent).max(1));
            }
            next = next.min(slot.due());
        }
        // Those that are due soon after one another are looked at together.
        let next = next.max(now + self.shortest / 16).max(now + 1);
        self.deadlines.0.fetch_min(next, Ordering::Relaxed).min(next)
    }
}
