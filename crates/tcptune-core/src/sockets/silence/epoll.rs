//! epoll(7). A program says by epoll_ctl(2) once what it wants to know of a descriptor, and the wait does not repeat it. So
//! each descriptor that an epoll set watches for input has a time at which the kernel is asked how long it has been
//! silent, and the earliest of these times bounds every wait. Of one that it watches for room to write, nothing tells since
//! when there is none: the kernel is asked several times.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

use super::pauses::{self, Pauses};
use super::slot::Slot;
use super::{FOREVER, NANOS, Silence, Wait, between_looks, kernel};
use crate::system::clock::{at_last_tick, nanoseconds};
use crate::system::network;

#[allow(clippy::cast_sign_loss, reason = "bits")]
const READABLE: u32 = (libc::EPOLLIN | libc::EPOLLRDNORM) as u32;
#[allow(clippy::cast_sign_loss, reason = "bits")]
const WRITABLE: u32 = libc::EPOLLOUT as u32;
#[allow(clippy::cast_sign_loss, reason = "bits")]
const ONESHOT: u32 = libc::EPOLLONESHOT as u32;

/// No descriptor is to be looked at.
const NEVER: u64 = u64::MAX;

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
        self.0.fetch_min(at_last_tick() + after, Ordering::Relaxed);
    }
}

impl Silence {
    /// After a successful epoll_ctl(2): a set asks for these events of `fd`, of no event if it has forgotten it. One set may ask
    /// for input and another one for room.
    pub fn asked(&self, set: c_int, fd: c_int, events: u32) {
        let Some(slot) = self.slots.entry(fd) else { return };
        if let Some(own) = self.slots.entry(set).filter(|own| own.set_of() == 0) {
            // One that another set watches is waited for when that one is.
            let outer = if own.wanted() { self.slot(own.wanted_by()) } else { None };
            let other = outer.or(Some(slot).filter(|slot| slot.set_of() != 0)).map(Slot::group);
            own.is_a_set(other.unwrap_or_else(|| self.new_group()));
            if let Some(pauses) = self.pauses_of_slot(own) {
                pauses.begin(at_last_tick());
            }
            self.end.fetch_max(set + 1, Ordering::Relaxed);
        }
        if slot.set_of() != 0
            && let Some(outer) = self.slot(set)
        {
            slot.join(outer.group());
        }
        let (once, reads, writes) = (events & ONESHOT != 0, events & READABLE != 0, events & WRITABLE != 0);
        // One that reports once either of two things is reported where there is room: it is silent only while there is none.
        let either = once && reads && writes;
        let mut new = false;
        if !reads || either {
            if slot.set_of() != 0 && slot.wanted_by() == set {
                slot.join(self.new_group()); // from now on it is waited for by itself
            }
            slot.want_nothing(set);
        } else if once {
            new = asked_once_for_bytes(set, fd, slot);
        } else if !slot.wanted() {
            slot.want(set, at_last_tick());
            new = true;
        }
        if !writes {
            slot.want_no_room(set);
        } else if once {
            asked_once_for_room(set, fd, slot, either);
            new = true;
        } else if slot.room_wanted_since().is_none() || slot.wants_room_once() {
            slot.want_room(set, at_last_tick(), false);
            new = true;
        }
        if new && slot.cookie() != 0 {
            self.add_deadlines(slot);
        }
    }

    /// A set asks for something of a connection: it is to be looked at in time.
    pub(super) fn add_deadlines(&self, slot: &Slot) {
        for (wanted, limit) in [
            (slot.wanted(), slot.limit(Wait::Receive)),
            (slot.room_wanted_since().is_some(), between_looks(slot.limit(Wait::SendInSet))),
        ] {
            if wanted && limit != 0 {
                self.deadlines.add(limit);
            }
        }
    }

    /// What is ready is fetched first by a `call` that does not wait: a wait that has an end costs the kernel a look at its
    /// clock, which is a quarter of the call.
    #[inline]
    pub fn epoll_at_once(&self, timeout: u64, call: impl FnOnce(u64) -> c_int) -> c_int {
        if timeout != 0 {
            self.until_first();
        }
        call(0)
    }

    /// Then waits as `call` does, which takes a time in nanoseconds, [`FOREVER`] for no end.
    #[cold]
    pub fn epoll(&self, set: c_int, timeout: u64, call: &mut dyn FnMut(u64) -> c_int) -> c_int {
        let mut call = |time| self.waiting_for(set, || call(time));
        let bound = self.until_first();
        if timeout <= bound {
            return call(timeout);
        }
        let began = nanoseconds();
        let (mut left, mut bound) = (timeout, bound);
        loop {
            let result = call(left.min(bound));
            if result != 0 || left <= bound {
                return result;
            }
            if timeout != FOREVER {
                left = timeout.saturating_sub(nanoseconds().saturating_sub(began));
            }
            bound = self.until_first();
        }
    }

    /// A thread waits for this set. One that has asked for nothing by this number may be any other.
    fn waiting_for(&self, set: c_int, wait: impl FnOnce() -> c_int) -> c_int {
        let (least, from) = (pauses::least(self.shortest), at_last_tick());
        if let Some(pauses) = self.pauses_of(set) {
            return pauses.inside(least, at_last_tick, wait);
        }
        let result = wait();
        self.pauses.iter().for_each(|pauses| pauses.waited(from, at_last_tick(), least));
        result
    }

    /// A thread has waited for a descriptor between these milliseconds of the clock. Whether it is known as a set.
    #[inline]
    pub(super) fn waited_for_set(&self, set: c_int, (from, until): (u64, u64)) -> bool {
        let pauses = self.pauses_of(set);
        if let Some(pauses) = pauses {
            pauses.waited(from, until, pauses::least(self.shortest));
        }
        pauses.is_some()
    }

    fn new_group(&self) -> usize {
        self.sets.fetch_add(1, Ordering::Relaxed)
    }

    fn pauses_of(&self, set: c_int) -> Option<&Pauses> {
        self.slot(set).filter(|set| set.set_of() != 0).and_then(|set| self.pauses_of_slot(set))
    }

    fn pauses_of_slot(&self, set: &Slot) -> Option<&Pauses> {
        self.pauses.get(set.group() % self.pauses.len())
    }

    /// Looks at what is due now, and returns how many nanoseconds a wait may last until the next descriptor is due: at most
    /// the shortest limit, so that a descriptor that another thread adds during the wait is looked at in time.
    #[inline]
    fn until_first(&self) -> u64 {
        let (now, mut first) = (at_last_tick(), self.deadlines.0.load(Ordering::Relaxed));
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
        for (fd, slot) in self.watched().filter(|(_, slot)| slot.is_wanted() && !slot.is_ended()) {
            for due in [self.look_for_bytes(fd, slot, now), self.look_for_room(fd, slot, now)].into_iter().flatten() {
                next = next.min(due);
            }
        }
        // Those that are due soon after one another are looked at together.
        let next = next.max(now + self.shortest / 16).max(now + 1);
        self.deadlines.0.fetch_min(next, Ordering::Relaxed).min(next)
    }

    /// Ends a connection whose peer has been silent for too long. When it is to be looked at again.
    fn look_for_bytes(&self, fd: c_int, slot: &Slot, now: u64) -> Option<u64> {
        let limit = slot.limit(Wait::Receive);
        if limit == 0 || !slot.wanted() {
            return None;
        }
        if slot.due() <= now {
            if slot.is_to_be_told_once() && kernel::facts(fd).is_some_and(|facts| slot.was_told_once(facts.came)) {
                return None;
            }
            let waited = now.saturating_sub(slot.wanted_since());
            let pauses = self.slot(slot.wanted_by()).and_then(|set| self.pauses_of_slot(set));
            let silent = self.look(fd, slot, Wait::Receive, waited, pauses)?;
            slot.set_due(now + limit.saturating_sub(silent).max(1));
        }
        Some(slot.due())
    }

    /// Ends a connection whose peer has taken nothing for too long, while there was no room. When it is to be looked at
    /// again.
    fn look_for_room(&self, fd: c_int, slot: &Slot, now: u64) -> Option<u64> {
        let (limit, since) = (slot.limit(Wait::SendInSet), slot.room_wanted_since()?);
        if limit == 0 {
            return None;
        }
        let step = between_looks(limit);
        let told = |written| {
            let told = slot.may_have_been_told_of_room(written);
            if told {
                slot.want_no_room(slot.room_wanted_by()); // nobody knows when it is asked again
            } else {
                slot.want_room_from(now);
            }
            told
        };
        // Or of bytes, where the set asks for either.
        if slot.is_to_be_told_of_either()
            && kernel::facts(fd).is_none_or(|facts| facts.unread || slot.was_told_once(facts.came))
        {
            slot.want_no_room(slot.room_wanted_by());
            return None;
        }
        if network::ready(fd, libc::POLLOUT) != Ok(0) {
            return (!told(None)).then_some(now + step);
        }
        let began = slot.knows_start(Wait::SendInSet);
        let pauses = self.slot(slot.room_wanted_by()).and_then(|set| self.pauses_of_slot(set));
        let stuck = self.look(fd, slot, Wait::SendInSet, now.saturating_sub(since), pauses)?;
        if stuck == 0 && !began {
            slot.want_room_from(now);
        } else if stuck == 0 && told(kernel::written(fd)) {
            return None;
        }
        Some(now + limit.saturating_sub(stuck).clamp(1, step))
    }
}

/// A set asks for bytes once. Where there are some, that is reported now, and not asked for any more. Whether it asks on.
#[cold]
fn asked_once_for_bytes(set: c_int, fd: c_int, slot: &Slot) -> bool {
    let bounded = slot.cookie() != 0 && slot.limit(Wait::Receive) != 0;
    let facts = Some(fd).filter(|_| bounded).and_then(kernel::facts);
    slot.want(set, at_last_tick());
    match facts {
        Some(facts) if facts.unread => {
            slot.want_nothing(set);
            return false;
        }
        Some(facts) => slot.want_once(facts.came),
        None => {}
    }
    true
}

/// A set asks for room once, or for bytes if they come first. Where there is some, that is reported now, and not asked for
/// any more.
#[cold]
fn asked_once_for_room(set: c_int, fd: c_int, slot: &Slot, or_bytes: bool) {
    let bounded = slot.cookie() != 0 && slot.limit(Wait::SendInSet) != 0;
    let events = if or_bytes { libc::POLLOUT | libc::POLLIN } else { libc::POLLOUT };
    if (bounded && network::ready(fd, events) != Ok(0)) || (or_bytes && !bounded) {
        slot.want_no_room(set);
        return;
    }
    slot.want_room(set, at_last_tick(), true);
    let Some(fd) = Some(fd).filter(|_| bounded) else { return };
    if let Some(facts) = kernel::facts(fd) {
        slot.since_start(Wait::SendInSet, facts.acknowledged);
        if or_bytes {
            slot.want_once(facts.came);
        }
    }
    if let Some(written) = kernel::written(fd) {
        slot.want_room_once(written);
    }
}
