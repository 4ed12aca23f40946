//! Signals during a wait: poll(2) is never restarted after a handler, a blocking connect(2) is, if that handler was
//! established with `SA_RESTART` (signal(7)). What the kernel tells about handlers in time, before the wait, is here.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, sigset_t};

use crate::system::signals::{self, bit};

/// A set of signals, with the layout of libc's.
#[derive(Clone, Copy)]
#[repr(C)]
pub struct Signals {
    /// What the kernel knows: signal n is bit n - 1.
    set: u64,
    padding: [u64; 15],
}

const _: () = assert!(size_of::<Signals>() == size_of::<sigset_t>());

impl Signals {
    /// No signal.
    #[must_use]
    pub const fn none() -> Self {
        Self { set: 0, padding: [0; 15] }
    }

    fn add(&mut self, signal: c_int) {
        self.set |= bit(signal);
    }

    fn has(&self, signal: c_int) -> bool {
        self.set & bit(signal) != 0
    }

    /// Whether there is none.
    #[must_use]
    pub const fn is_empty(&self) -> bool {
        self.set == 0
    }

    /// Both sets.
    #[must_use]
    pub const fn and(mut self, other: &Self) -> Self {
        self.set |= other.set;
        self
    }

    /// As poll(2) and its kin take it.
    #[must_use]
    pub const fn as_ptr(&self) -> *const sigset_t {
        ptr::from_ref(self).cast()
    }

    /// Whether any of them waits to be delivered.
    #[must_use]
    pub fn pending(&self) -> bool {
        self.set & signals::pending() != 0
    }

    /// Makes this the calling thread's mask.
    pub fn mask(&self) {
        signals::set_mask(self.set);
    }
}

/// The signals for which a handler can run in the calling thread.
#[derive(Clone, Copy)]
pub struct Handled {
    /// After these, connect(2) goes on.
    pub restarting: Signals,
    /// After these, connect(2) fails with `EINTR`.
    pub interrupting: Signals,
    /// The thread's mask.
    pub mask: Signals,
}

/// Asks the kernel for every handler and for the mask.
#[must_use]
pub fn handled() -> Handled {
    let mask = Signals { set: signals::mask(), ..Signals::none() };
    let mut handled = Handled { restarting: Signals::none(), interrupting: Signals::none(), mask };
    for signal in (1..=signals::LAST).filter(|s| !mask.has(*s)) {
        match signals::restarts(signal) {
            Some(true) => handled.restarting.add(signal),
            Some(false) => handled.interrupting.add(signal),
            None => {}
        }
    }
    handled
}
