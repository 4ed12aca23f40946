//! Calls that wait for a peer and that a signal handler has ended. A program makes such a call again, and to the kernel that is
//! a new one, with the whole timeout before it: what the program has waited in all is added up here.
//!
//! Nothing is known of a socket that no handler has interrupted, and what is known of one costs no other call: what came and
//! went meanwhile is the kernel's to say.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU64, Ordering};

use libc::c_int;

use super::slot::{Start, Waited};
use super::verdict::Facts;
use super::{kernel, verdict};
use crate::sockets::slots::{Slots, Zeroes};
use crate::system::clock::TICK;

/// What has been waited on each descriptor.
#[derive(Debug, Default)]
pub struct Interrupted(Slots<Calls>);

#[derive(Debug, Default)]
struct Calls {
    /// Which socket it was.
    socket: AtomicU64,
    receiving: Direction,
    sending: Direction,
}

/// Calls that receive, or that send.
#[derive(Debug, Default)]
struct Direction {
    /// In milliseconds.
    waited: Waited,
    /// How many bytes had come, or had been acknowledged.
    start: Start,
}

// SAFETY: atomic integers.
unsafe impl Zeroes for Calls {}

impl Interrupted {
    /// After a call that has waited from and until these milliseconds of the clock: whether that was, with the calls before it,
    /// as long as this limit, and the peer silent. The next call has a time of its own then.
    pub fn is_over(&self, fd: c_int, receives: bool, time: (u64, u64), limit: u64) -> bool {
        let (Some(facts), Some(calls)) = (kernel::facts(fd), self.0.entry(fd)) else { return false };
        calls.of(kernel::identity(fd), receives).is_over(&facts, receives, time, limit)
    }

    /// The timeout has ended a call: the next one has its own.
    pub fn forget(&self, fd: c_int, receives: bool) {
        if let Some(calls) = self.0.get(fd) {
            calls.direction(receives).waited.forget();
        }
    }
}

impl Calls {
    /// Those on this socket.
    fn of(&self, socket: u64, receives: bool) -> &Direction {
        if self.socket.swap(socket, Ordering::Relaxed) != socket {
            self.receiving.waited.forget();
            self.sending.waited.forget();
        }
        self.direction(receives)
    }

    fn direction(&self, receives: bool) -> &Direction {
        if receives { &self.receiving } else { &self.sending }
    }
}

impl Direction {
    fn is_over(&self, facts: &Facts, receives: bool, (from, until): (u64, u64), limit: u64) -> bool {
        let moved = if receives { facts.came } else { facts.acknowledged };
        if self.start.since(moved).is_none() {
            self.waited.forget();
        }
        let waited = self.waited.add(from, until);
        let silent =
            if receives { verdict::silent(facts, waited) } else { verdict::stuck(facts, waited, facts.acknowledged) };
        // Either moment is that of a tick of the clock: no call ends too early.
        let over = waited >= limit + TICK && verdict::is_over(silent, limit);
        self.waited.set(if over { 0 } else { silent }, until);
        over
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const ESTABLISHED: u8 = 1;
    const QUIET: Facts = Facts {
        state: ESTABLISHED,
        retransmits: false,
        sent: 9000,
        received: 9000,
        unread: false,
        unsent: false,
        acknowledged: 7,
        came: 7,
    };
    const LIMIT: u64 = 2000;

    #[test]
    fn calls_add_up_and_what_is_between_them_counts_for_nothing() {
        for receives in [true, false] {
            let calls = Direction::default();
            let is_over = |from, until| calls.is_over(&QUIET, receives, (from, until), LIMIT);
            assert_eq!([is_over(1000, 1700), is_over(5000, 5700), is_over(5700, 6400)], [false, false, true]);
            assert_eq!([is_over(6400, 7100), is_over(7100, 7800), is_over(7800, 8500)], [false, false, true]);
        }
    }

    #[test]
    fn threads_that_wait_at_the_same_time_wait_once() {
        let calls = Direction::default();
        for until in [1700, 2400, 2990] {
            assert!(!calls.is_over(&QUIET, true, (1001, until), LIMIT));
        }
        assert!(!calls.is_over(&QUIET, true, (2990, 3010), LIMIT), "9 ms, maybe");
        assert!(calls.is_over(&QUIET, true, (3010, 3011), LIMIT));
    }

    #[test]
    fn what_comes_or_is_taken_begins_it_anew() {
        let more = Facts { came: 8, acknowledged: 8, ..QUIET };
        for receives in [true, false] {
            let calls = Direction::default();
            assert!(!calls.is_over(&QUIET, receives, (1000, 2900), LIMIT));
            assert!(!calls.is_over(&more, receives, (3000, 3200), LIMIT), "{receives}");
            assert!(calls.is_over(&more, receives, (3200, 5010), LIMIT), "{receives}");
        }
        let calls = Direction::default();
        assert!(!calls.is_over(&QUIET, true, (1000, 2900), LIMIT));
        assert!(!calls.is_over(&Facts { sent: 100, ..QUIET }, true, (3000, 3200), LIMIT), "a request has been sent");
        assert!(!calls.is_over(&QUIET, true, (3200, 5000), LIMIT), "it counts from there");
        assert!(calls.is_over(&QUIET, true, (5000, 5110), LIMIT));
    }

    #[test]
    fn another_socket_begins_anew() {
        let calls = Calls::default();
        for receives in [true, false] {
            assert!(!calls.of(1, receives).is_over(&QUIET, receives, (1000, 2900), LIMIT));
        }
        for receives in [true, false] {
            assert!(!calls.of(2, receives).is_over(&QUIET, receives, (2900, 4800), LIMIT), "{receives}");
        }
    }
}
