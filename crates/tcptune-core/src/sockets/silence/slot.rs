//! What is known of one descriptor.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicI32, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use libc::c_int;

use super::Wait;
use crate::sockets::slots::Zeroes;
use crate::system::{process, signals};

/// Another thread is about to end the connection.
const ENDING: u32 = 1;
/// The connection has been ended, and nobody has been told.
const ENDED: u32 = 2;
/// Other numbers of the same socket have been there.
const ONE_OF_SEVERAL: u32 = 4;
/// The epoll set that asks for room reports it once.
const ONCE: u32 = 8;

/// How often a close(2) lets other threads run before it goes on although one of them ends the connection: after a
/// fork(2) that thread is not there.
const PATIENCE: usize = 1000;

/// The default is: nothing known.
#[derive(Debug, Default)]
pub struct Slot {
    /// `SO_COOKIE` of the socket; 0 where none is watched.
    cookie: AtomicU64,
    /// Milliseconds; 0 for no limit.
    receive: AtomicU32,
    send: AtomicU32,
    /// Since something came or went.
    waited_to_receive: Waited,
    waited_to_send: Waited,
    start: Start,
    /// Since when an epoll set watches it for input, in milliseconds of the clock; 0 if none does.
    wanted: AtomicU64,
    /// When to look again, for those that an epoll set asks for.
    due: AtomicU64,
    /// Since when an epoll set asks for room to write, or the peer has last taken something; 0 if none does.
    room_wanted: AtomicU64,
    room_start: Start,
    /// What the program had written when a set asked to be told once of room; 0 if none did.
    once_written: Start,
    /// What had come when a set asked to be told once; 0 if none did.
    once_start: Start,
    /// The sets that ask for the two.
    wanted_by: AtomicI32,
    room_wanted_by: AtomicI32,
    /// The process in which this is an epoll set; 0 if it is none.
    set_of: AtomicUsize,
    state: AtomicU32,
    /// Sets that are waited for together have the same.
    group: AtomicU32,
}

/// For how long the program has waited.
#[derive(Debug, Default)]
pub struct Waited {
    nanos: AtomicU64,
    /// When the first of it began: threads that wait at the same time, and a descriptor that is named twice, have not
    /// waited for longer than since then.
    since: AtomicU64,
}

impl Waited {
    #[inline]
    fn get(&self) -> u64 {
        self.nanos.load(Ordering::Relaxed)
    }

    pub fn forget(&self) {
        self.nanos.store(0, Ordering::Relaxed);
    }

    /// So many nanoseconds until then.
    pub fn set(&self, nanos: u64, until: u64) {
        self.since.store(until.saturating_sub(nanos), Ordering::Relaxed);
        self.nanos.store(nanos, Ordering::Relaxed);
    }

    pub fn add(&self, from: u64, until: u64) -> u64 {
        let before = self.get();
        let since = if before == 0 { from } else { self.since.load(Ordering::Relaxed).min(from) };
        let nanos = before.saturating_add(until.saturating_sub(from)).min(until.saturating_sub(since));
        self.since.store(since, Ordering::Relaxed);
        self.nanos.store(nanos, Ordering::Relaxed);
        nanos
    }
}

/// A count of bytes when a wait began, and 1; 0 if that is not known. To send: what the peer had acknowledged.
#[derive(Debug, Default)]
pub struct Start(AtomicU64);

impl Start {
    pub fn forget(&self) {
        self.0.store(0, Ordering::Relaxed);
    }

    fn is_known(&self) -> bool {
        self.0.load(Ordering::Relaxed) != 0
    }

    /// The count of then; `None` if that was not known, or there are more by now: the wait begins anew.
    pub fn since(&self, bytes: u64) -> Option<u64> {
        let now = bytes.wrapping_add(1);
        (self.0.swap(now, Ordering::Relaxed) == now).then_some(bytes)
    }
}

// SAFETY: atomic integers.
unsafe impl Zeroes for Slot {}

impl Slot {
    pub fn cookie(&self) -> u64 {
        self.cookie.load(Ordering::Acquire)
    }

    /// Whether there is anything to forget.
    pub fn is_used(&self) -> bool {
        self.cookie() != 0 || self.is_wanted() || self.set_of() != 0
    }

    /// A connection of its own. What epoll sets ask for, they may have asked before it.
    pub fn begin(&self, cookie: u64, receive: u32, send: u32) {
        self.receive.store(receive, Ordering::Relaxed);
        self.send.store(send, Ordering::Relaxed);
        self.waited_to_receive.forget();
        self.waited_to_send.forget();
        self.start.forget();
        self.room_start.forget();
        self.once_written.forget();
        self.once_start.forget();
        self.due.store(0, Ordering::Relaxed);
        self.cookie.store(cookie, Ordering::Release);
    }

    /// Another number of the socket of `other`.
    pub fn duplicate(&self, other: &Self) {
        self.begin(other.cookie(), other.receive.load(Ordering::Relaxed), other.send.load(Ordering::Relaxed));
        self.state.fetch_or(ONE_OF_SEVERAL, Ordering::Relaxed);
        other.state.fetch_or(ONE_OF_SEVERAL, Ordering::Relaxed);
    }

    /// The process in which this is an epoll set that has asked for something; 0 if it is none.
    pub fn set_of(&self) -> usize {
        self.set_of.load(Ordering::Relaxed)
    }

    /// This is an epoll set of the calling process, and of such a group.
    pub fn is_a_set(&self, group: usize) {
        self.join(group);
        self.set_of.store(process::id(), Ordering::Relaxed);
    }

    pub fn group(&self) -> usize {
        usize::try_from(self.group.load(Ordering::Relaxed)).unwrap_or(0)
    }

    /// This set is waited for when those of that group are.
    pub fn join(&self, group: usize) {
        self.group.store(u32::try_from(group % 256).unwrap_or(0), Ordering::Relaxed);
    }

    /// Another number of the set `other`.
    pub fn duplicate_set(&self, other: &Self) {
        self.join(other.group());
        self.set_of.store(other.set_of(), Ordering::Relaxed);
        self.state.fetch_or(ONE_OF_SEVERAL, Ordering::Relaxed);
        other.state.fetch_or(ONE_OF_SEVERAL, Ordering::Relaxed);
    }

    pub fn is_one_of_several(&self) -> bool {
        self.state.load(Ordering::Relaxed) & ONE_OF_SEVERAL != 0
    }

    /// Nothing is known any more.
    pub fn clear(&self) {
        self.cookie.store(0, Ordering::Release);
        self.wanted.store(0, Ordering::Relaxed);
        self.room_wanted.store(0, Ordering::Relaxed);
        self.set_of.store(0, Ordering::Relaxed);
        self.state.store(0, Ordering::Relaxed);
    }

    /// In milliseconds; 0 for none.
    pub fn limit(&self, wait: Wait) -> u64 {
        match wait {
            Wait::Receive => &self.receive,
            Wait::Send | Wait::SendInSet => &self.send,
        }
        .load(Ordering::Relaxed)
        .into()
    }

    fn of(&self, wait: Wait) -> &Waited {
        match wait {
            Wait::Receive => &self.waited_to_receive,
            Wait::Send | Wait::SendInSet => &self.waited_to_send,
        }
    }

    /// The program does not wait for anything. Writes only where it did, so that another processor keeps its copy.
    #[inline]
    pub fn no_wait(&self, wait: Wait) {
        if self.of(wait).get() != 0 {
            self.of(wait).forget();
            if wait == Wait::Send {
                self.start.forget();
            }
        }
    }

    /// Adds to what the program has waited, from and until these nanoseconds of the clock, and gives it.
    #[inline]
    pub fn add_wait(&self, wait: Wait, (from, until): (u64, u64)) -> u64 {
        self.of(wait).add(from, until)
    }

    /// So many nanoseconds of it count, until then.
    pub fn set_wait(&self, wait: Wait, nanos: u64, until: u64) {
        self.of(wait).set(nanos, until);
    }

    fn start(&self, wait: Wait) -> &Start {
        if wait == Wait::SendInSet { &self.room_start } else { &self.start }
    }

    /// Whether it is known what the peer had acknowledged when the program began to wait for room.
    pub fn knows_start(&self, wait: Wait) -> bool {
        self.start(wait).is_known()
    }

    /// What the peer had acknowledged when this wait began, if it is that still.
    pub fn since_start(&self, wait: Wait, acknowledged: u64) -> Option<u64> {
        self.start(wait).since(acknowledged)
    }

    /// Whether an epoll set asks for something of it.
    pub fn is_wanted(&self) -> bool {
        self.wanted() || self.room_wanted_since().is_some()
    }

    /// Whether an epoll set asks for something to read.
    pub fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) != 0
    }

    /// By which set.
    pub fn wanted_by(&self) -> c_int {
        self.wanted_by.load(Ordering::Relaxed)
    }

    /// Since when, in milliseconds of the clock.
    pub fn wanted_since(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// From now on an epoll set asks for something to read.
    pub fn want(&self, set: c_int, now: u64) {
        self.once_start.forget();
        self.due.store(0, Ordering::Relaxed);
        self.wanted_by.store(set, Ordering::Relaxed);
        self.wanted.store(now, Ordering::Relaxed);
    }

    /// The set is told once, and so many bytes have come so far.
    pub fn want_once(&self, came: u64) {
        self.once_start.since(came);
    }

    /// Whether there is a set that is told once, and nobody knows yet whether it was.
    pub fn is_to_be_told_once(&self) -> bool {
        self.once_start.is_known()
    }

    /// Whether a set that is told once has been told, now that so many bytes have come. From then on it asks for nothing.
    pub fn was_told_once(&self, came: u64) -> bool {
        let told = self.is_to_be_told_once() && self.once_start.since(came).is_none();
        if told {
            self.once_start.forget();
            self.wanted.store(0, Ordering::Relaxed);
        }
        told
    }

    /// Whether a set that asks for room is told once, of that or of bytes ([`Self::want_once`]).
    pub fn is_to_be_told_of_either(&self) -> bool {
        self.is_to_be_told_once() && !self.wanted()
    }

    /// From now on this one does not.
    pub fn want_nothing(&self, set: c_int) {
        if self.wanted() && self.wanted_by.load(Ordering::Relaxed) == set {
            self.once_start.forget();
            self.wanted.store(0, Ordering::Relaxed);
        }
    }

    /// Since when an epoll set asks for room, or the peer has last taken something; `None` if none does.
    pub fn room_wanted_since(&self) -> Option<u64> {
        Some(self.room_wanted.load(Ordering::Relaxed)).filter(|since| *since != 0)
    }

    /// Which set does.
    pub fn room_wanted_by(&self) -> c_int {
        self.room_wanted_by.load(Ordering::Relaxed)
    }

    /// From now on an epoll set asks for room, and reports it once, or as long as there is some.
    pub fn want_room(&self, set: c_int, now: u64, once: bool) {
        self.room_start.forget();
        self.once_written.forget();
        if !self.wanted() {
            self.once_start.forget();
        }
        self.room_wanted_by.store(set, Ordering::Relaxed);
        if once {
            self.state.fetch_or(ONCE, Ordering::Relaxed);
        } else {
            self.state.fetch_and(!ONCE, Ordering::Relaxed);
        }
        self.room_wanted.store(now, Ordering::Relaxed);
    }

    /// Whether a set asks for room until it is told.
    pub fn wants_room_once(&self) -> bool {
        self.room_wanted_since().is_some() && self.state.load(Ordering::Relaxed) & ONCE != 0
    }

    /// The wait for room begins anew.
    pub fn want_room_from(&self, now: u64) {
        self.room_wanted.store(now, Ordering::Relaxed);
    }

    /// The program had written so many bytes when the set asked to be told once of room.
    pub fn want_room_once(&self, written: u64) {
        self.once_written.since(written);
    }

    /// Whether the set that asks for room is told once, and may have been: the peer has taken something. As long as the
    /// program writes nothing there is only more room, so where there is none now, there was none before.
    pub fn may_have_been_told_of_room(&self, written: Option<u64>) -> bool {
        self.wants_room_once() && written.and_then(|written| self.once_written.since(written)).is_none()
    }

    /// From now on this one does not.
    pub fn want_no_room(&self, set: c_int) {
        if self.room_wanted_since().is_some() && self.room_wanted_by.load(Ordering::Relaxed) == set {
            self.room_wanted.store(0, Ordering::Relaxed);
        }
    }

    /// A set asks for what it asks of `other`.
    pub fn want_as(&self, other: &Self) {
        let once = other.wants_room_once();
        self.want(other.wanted_by.load(Ordering::Relaxed), other.wanted_since());
        let set = other.room_wanted_by.load(Ordering::Relaxed);
        self.want_room(set, other.room_wanted.load(Ordering::Relaxed), once);
    }

    pub fn due(&self) -> u64 {
        self.due.load(Ordering::Relaxed)
    }

    pub fn set_due(&self, due: u64) {
        self.due.store(due, Ordering::Relaxed);
    }

    pub fn set_ended(&self) {
        self.state.fetch_or(ENDED, Ordering::Relaxed);
    }

    /// Whether it was.
    pub fn unset_ended(&self) -> bool {
        self.state.load(Ordering::Relaxed) & ENDED != 0 && self.state.fetch_and(!ENDED, Ordering::Relaxed) & ENDED != 0
    }

    pub fn is_ended(&self) -> bool {
        self.state.load(Ordering::Relaxed) & ENDED != 0
    }

    /// Does what ends the connection, if no other thread does. No signal handler runs meanwhile: it might close the
    /// descriptor, and wait for this thread.
    pub fn ending(&self, end: impl FnOnce() -> bool) -> bool {
        let before = signals::block(u64::MAX);
        let first = self.state.fetch_or(ENDING, Ordering::Acquire) & (ENDING | ENDED) == 0;
        let done = first && end();
        if first {
            self.state.fetch_and(!ENDING, Ordering::Release);
        }
        signals::set_mask(before);
        done
    }

    /// Comes back when no thread ends the connection.
    pub fn when_nobody_ends_it(&self) {
        for _ in 0..PATIENCE {
            if self.state.load(Ordering::Acquire) & ENDING == 0 {
                return;
            }
            process::yield_now();
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn waits_add_up_and_those_at_the_same_time_count_once() {
        let waited = Waited::default();
        assert_eq!([waited.add(100, 110), waited.add(200, 210), waited.add(300, 320)], [10, 20, 40]);
        waited.forget();
        assert_eq!([waited.add(100, 110), waited.add(100, 110), waited.add(105, 112)], [10, 10, 12]);
        assert_eq!([waited.add(90, 120), waited.add(90, 121)], [30, 31], "it began before the others");
        waited.set(5, 121);
        assert_eq!([waited.add(121, 123), waited.add(121, 123)], [7, 7]);
    }
}
