//! What is known of the attempt on one descriptor, for threads that do not wait for each other.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU64, Ordering, fence};

use crate::sockets::slots::Zeroes;

/// An attempt by its serial number, and what is true of it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct State(u64);

const FLAGS: u32 = 4;

impl State {
    /// Its connect(2) has not returned.
    pub const STARTING: u64 = 1;
    /// One thread sets its value, and no other does.
    pub const HELD: u64 = 2;
    /// The program has set a value meanwhile.
    pub const CHANGED: u64 = 4;
    /// The socket has several numbers.
    pub const SHARED: u64 = 8;

    const NONE: Self = Self(0);

    pub const fn new(serial: u64) -> Self {
        Self((serial + 1) << FLAGS)
    }

    pub const fn with(self, flag: u64) -> Self {
        Self(self.0 | flag)
    }

    pub const fn without(self, flag: u64) -> Self {
        Self(self.0 & !flag)
    }

    pub const fn is(self, flag: u64) -> bool {
        self.0 & flag != 0
    }

    pub const fn same_attempt(self, other: Self) -> bool {
        self.0 >> FLAGS == other.0 >> FLAGS
    }
}

/// An attempt.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Attempt {
    /// Of its socket.
    pub cookie: u64,
    /// `TCP_USER_TIMEOUT` while it lasts, in milliseconds.
    pub during: u32,
    /// The value that should hold on the connection, once that is known.
    pub after: Option<u32>,
}

/// No value that setsockopt(2) takes.
const UNKNOWN: u32 = u32::MAX;

impl Attempt {
    const fn values(self) -> u64 {
        let after = match self.after {
            Some(after) => after,
            None => UNKNOWN,
        };
        (self.during as u64) << 32 | after as u64
    }
}

/// Zeroes while there is none.
#[derive(Debug, Default)]
pub(super) struct Slot {
    state: AtomicU64,
    /// When it is to be looked at, on the monotonic clock in milliseconds.
    due: AtomicU64,
    cookie: AtomicU64,
    /// During the attempt in the upper half, after it in the lower.
    values: AtomicU64,
}

// SAFETY: zeroes are a slot without an attempt.
unsafe impl Zeroes for Slot {}

impl Slot {
    pub fn state(&self) -> Option<State> {
        Some(State(self.state.load(Ordering::SeqCst))).filter(|state| *state != State::NONE)
    }

    pub fn due(&self) -> u64 {
        self.due.load(Ordering::Acquire)
    }

    /// Sets the time at which it is to be looked at.
    pub fn postpone(&self, due: u64) {
        self.due.fetch_max(due, Ordering::AcqRel);
    }

    /// The attempt. If another thread writes meanwhile it may be a mixture of two, so whoever acts on it checks the state
    /// afterwards.
    #[allow(clippy::cast_possible_truncation, reason = "halves")]
    pub fn attempt(&self) -> Attempt {
        let (cookie, values) = (self.cookie.load(Ordering::Acquire), self.values.load(Ordering::SeqCst));
        let after = Some(values as u32).filter(|after| *after != UNKNOWN);
        Attempt { cookie, during: (values >> 32) as u32, after }
    }

    /// Whether there was one before.
    pub fn put(&self, state: State, due: u64, attempt: Attempt) -> bool {
        let before = self.state.swap(state.0, Ordering::SeqCst);
        fence(Ordering::Release);
        self.cookie.store(attempt.cookie, Ordering::Release);
        self.values.store(attempt.values(), Ordering::SeqCst);
        self.due.store(due, Ordering::Release);
        before != 0
    }

    fn replace(&self, state: State, by: State) -> bool {
        self.state.compare_exchange(state.0, by.0, Ordering::SeqCst, Ordering::SeqCst).is_ok()
    }

    /// What is true of an attempt by now, if it is still that one.
    fn now(&self, of: State) -> Option<State> {
        self.state().filter(|now| now.same_attempt(of))
    }

    /// Replaces the state of an attempt by what `to` makes of it; nothing if `to` gives none, or the attempt is gone. Returns
    /// whether it was replaced.
    fn update(&self, of: State, to: impl Fn(State) -> Option<State>) -> bool {
        while let Some(now) = self.now(of) {
            let Some(new) = to(now) else { return false };
            if self.replace(now, new) {
                return true;
            }
        }
        false
    }

    /// Removes the attempt, whoever holds it. Returns whether there was one.
    pub fn take(&self) -> bool {
        self.state.swap(0, Ordering::SeqCst) != 0
    }

    /// Removes the attempt if it is still this one. Returns whether it was.
    pub fn forget(&self, of: State) -> bool {
        self.update(of, |_| Some(State::NONE))
    }

    /// Its connect(2) has returned.
    pub fn started(&self, of: State) {
        self.update(of, |now| Some(now.without(State::STARTING)));
    }

    /// Notes that the socket has got another number. Returns whether the attempt is still there.
    pub fn share(&self, of: State) -> bool {
        self.update(of, |now| Some(now.with(State::SHARED)))
    }

    /// Whether it is held now, by the caller.
    pub fn hold(&self, of: State) -> bool {
        self.update(of, |now| if now.is(State::HELD) { None } else { Some(now.with(State::HELD)) })
    }

    /// Whether it is held, and still the same.
    pub fn is_held(&self, of: State) -> bool {
        self.now(of).is_some_and(|now| now.is(State::HELD))
    }

    /// Ends the hold; with `over`, removes the attempt. Before that, `follow` runs once for each value that the program has
    /// set while the attempt was held. Returns whether it was still the same attempt.
    pub fn let_go(&self, of: State, over: bool, follow: impl Fn()) -> bool {
        while let Some(now) = self.now(of) {
            if now.is(State::CHANGED) {
                if self.replace(now, now.without(State::CHANGED)) {
                    follow();
                }
            } else if self.replace(now, if over { State::NONE } else { now.without(State::HELD) }) {
                return true;
            }
        }
        false
    }

    /// The value that was found before the attempt, unless the program has set another by now.
    pub fn keep(&self, attempt: Attempt, after: u32) {
        let known = Attempt { after: Some(after), ..attempt };
        let _ = self.values.compare_exchange(attempt.values(), known.values(), Ordering::SeqCst, Ordering::SeqCst);
    }

    /// The value that should hold after the attempt.
    pub fn set_after(&self, value: u32) {
        let with = |values| Some(values & !u64::from(u32::MAX) | u64::from(value));
        let _ = self.values.fetch_update(Ordering::SeqCst, Ordering::SeqCst, with);
    }

    /// Notes that the program has set this value, to be put back after the attempt. Returns whether the attempt is still
    /// there; if so `during`, which sets the attempt's own value again, has run, or the thread that holds the attempt will
    /// do the same.
    pub fn change(&self, of: State, value: u32, during: impl Fn()) -> bool {
        self.set_after(value);
        while let Some(now) = self.now(of) {
            if !now.is(State::HELD) {
                if self.hold(of) {
                    during();
                    return self.let_go(of, false, during);
                }
            } else if self.replace(now, now.with(State::CHANGED)) {
                return true;
            }
        }
        false
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::cell::Cell;

    const ATTEMPT: Attempt = Attempt { cookie: 7, during: 2000, after: None };

    fn slot(state: State) -> Slot {
        let slot = Slot::default();
        assert_eq!(slot.state(), None);
        assert!(!slot.put(state, 99, ATTEMPT));
        slot
    }

    #[test]
    fn keeps_what_was_put() {
        let first = State::new(0).with(State::STARTING);
        let slot = slot(first);
        assert_eq!((slot.state(), slot.due(), slot.attempt()), (Some(first), 99, ATTEMPT));
        slot.keep(ATTEMPT, 0);
        assert_eq!(slot.attempt(), Attempt { after: Some(0), ..ATTEMPT });
        slot.started(first);
        assert!(slot.state().is_some_and(|state| !state.is(State::STARTING)));
        let second = State::new(1);
        assert!(slot.put(second, 100, ATTEMPT), "there was one");
        slot.started(first);
        assert!(!slot.forget(first) && !slot.hold(first), "another by now");
        assert!(slot.forget(second) && !slot.take());
    }

    #[test]
    fn one_thread_holds_it() {
        let state = State::new(5);
        let slot = slot(state);
        assert!(slot.hold(state) && !slot.hold(state));
        assert!(slot.let_go(state, false, || unreachable!()) && slot.hold(state));
        assert!(slot.let_go(state, true, || unreachable!()));
        assert_eq!(slot.state(), None);
    }

    #[test]
    fn a_value_of_the_program_is_not_lost() {
        let state = State::new(5);
        let slot = slot(state);
        let runs = Cell::new(0);
        let run = || runs.set(runs.get() + 1);
        // Before the value that was found is known.
        assert!(slot.hold(state) && slot.change(state, 9000, || unreachable!("who holds it does")));
        slot.keep(ATTEMPT, 0);
        assert_eq!(slot.attempt().after, Some(9000));
        assert!(slot.let_go(state, false, run));
        assert_eq!(runs.get(), 1);
        // Nobody holds it.
        assert!(slot.change(state, 8000, run));
        assert_eq!((runs.get(), slot.attempt().after, slot.state()), (2, Some(8000), Some(state)));
        // Too late.
        assert!(slot.hold(state) && slot.let_go(state, true, run));
        assert!(!slot.change(state, 7000, run));
        assert_eq!(runs.get(), 2);
    }
}
