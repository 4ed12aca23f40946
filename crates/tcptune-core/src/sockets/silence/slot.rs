//! What is known of one descriptor.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use super::Wait;
use crate::sockets::slots::Zeroes;
use crate::system::{process, signals};

/// Another thread is about to end the connection.
const ENDING: u32 = 1;
/// The connection has been ended, and nobody has been told.
const ENDED: u32 = 2;
/// Other numbers of the same socket have been there.
const ONE_OF_SEVERAL: u32 = 4;

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
    /// For how many nanoseconds the program has waited, since something came or went.
    waited_to_receive: AtomicU64,
    waited_to_send: AtomicU64,
    /// What the peer had acknowledged when the wait to send began, and 1; 0 if that is not known.
    start: AtomicU64,
    /// Since when an epoll set watches it for input, in milliseconds of the clock; 0 if none does.
    wanted: AtomicU64,
    /// When to look again, for those that an epoll set asks for.
    due: AtomicU64,
    state: AtomicU32,
}

// SAFETY: atomic integers.
unsafe impl Zeroes for Slot {}

impl Slot {
    pub fn cookie(&self) -> u64 {
        self.cookie.load(Ordering::Acquire)
    }

    /// Whether there is anything to forget.
    pub fn is_used(&self) -> bool {
        self.cookie() != 0 || self.wanted.load(Ordering::Relaxed) != 0
    }

    /// A connection of its own. What epoll sets ask for, they may have asked before it.
    pub fn begin(&self, cookie: u64, receive: u32, send: u32) {
        self.receive.store(receive, Ordering::Relaxed);
        self.send.store(send, Ordering::Relaxed);
        self.waited_to_receive.store(0, Ordering::Relaxed);
        self.waited_to_send.store(0, Ordering::Relaxed);
        self.start.store(0, Ordering::Relaxed);
        self.due.store(0, Ordering::Relaxed);
        self.cookie.store(cookie, Ordering::Release);
    }

    /// Another number of the socket of `other`.
    pub fn duplicate(&self, other: &Self) {
        self.begin(other.cookie(), other.receive.load(Ordering::Relaxed), other.send.load(Ordering::Relaxed));
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
        self.state.store(0, Ordering::Relaxed);
    }

    /// In milliseconds; 0 for none.
    pub fn limit(&self, wait: Wait) -> u64 {
        match wait {
            Wait::Receive => &self.receive,
            Wait::Send => &self.send,
        }
        .load(Ordering::Relaxed)
        .into()
    }

    fn of(&self, wait: Wait) -> &AtomicU64 {
        match wait {
            Wait::Receive => &self.waited_to_receive,
            Wait::Send => &self.waited_to_send,
        }
    }

    /// The program does not wait for anything. Writes only where it did, so that another processor keeps its copy.
    #[inline]
    pub fn no_wait(&self, wait: Wait) {
        if self.of(wait).load(Ordering::Relaxed) != 0 {
            self.of(wait).store(0, Ordering::Relaxed);
            if wait == Wait::Send {
                self.start.store(0, Ordering::Relaxed);
            }
        }
    }

    /// Adds to what the program has waited, and gives it.
    #[inline]
    pub fn add_wait(&self, wait: Wait, nanos: u64) -> u64 {
        self.of(wait).fetch_add(nanos, Ordering::Relaxed).saturating_add(nanos)
    }

    pub fn set_wait(&self, wait: Wait, nanos: u64) {
        self.of(wait).store(nanos, Ordering::Relaxed);
    }

    /// Whether it is not known what the peer had acknowledged when the program began to wait for room.
    pub fn knows_no_start(&self) -> bool {
        self.start.load(Ordering::Relaxed) == 0
    }

    /// What the peer had acknowledged then; `None` if that was not known, or it has acknowledged more by now: the wait
    /// begins anew.
    pub fn start(&self, acknowledged: u64) -> Option<u64> {
        let now = acknowledged.wrapping_add(1);
        (self.start.swap(now, Ordering::Relaxed) == now).then_some(acknowledged)
    }

    /// Whether an epoll set asks for something to read.
    pub fn wanted(&self) -> bool {
        self.wanted.load(Ordering::Relaxed) != 0
    }

    /// Since when, in milliseconds of the clock.
    pub fn wanted_since(&self) -> u64 {
        self.wanted.load(Ordering::Relaxed)
    }

    /// From now on an epoll set asks for something to read.
    pub fn want(&self, now: u64) {
        self.due.store(0, Ordering::Relaxed);
        self.wanted.store(now, Ordering::Relaxed);
    }

    pub fn want_as(&self, other: &Self) {
        self.want(other.wanted_since());
    }

    /// From now on none does.
    pub fn want_nothing(&self) {
        if self.wanted() {
            self.wanted.store(0, Ordering::Relaxed);
        }
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
