//! Signals during a wait: poll(2) is never restarted after a handler, a blocking connect(2) is, if that handler was
//! established with `SA_RESTART` (signal(7)). What the kernel tells about handlers in time, before the wait, is here.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem::{self, MaybeUninit};
use std::ptr;

use libc::{c_int, sigset_t};

/// Highest signal number (`_NSIG` of x86 and ARM Linux, less one).
const LAST: c_int = 64;

/// A set of signals.
#[derive(Clone, Copy)]
pub struct Signals {
    set: sigset_t,
    empty: bool,
}

impl Signals {
    /// No signal.
    #[must_use]
    pub fn none() -> Self {
        // SAFETY: on Linux a set is an array of words, and the empty one is all zeroes. sigemptyset(3) of glibc leaves
        // those words alone that the kernel does not know.
        let set = unsafe { mem::zeroed() };
        Self { set, empty: true }
    }

    fn add(&mut self, signal: c_int) {
        // SAFETY: a live set.
        unsafe { libc::sigaddset(&raw mut self.set, signal) };
        self.empty = false;
    }

    fn has(&self, signal: c_int) -> bool {
        // SAFETY: a live set.
        unsafe { libc::sigismember(&raw const self.set, signal) == 1 }
    }

    /// Whether there is none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.empty
    }

    /// Both sets.
    #[must_use]
    pub fn and(mut self, other: &Self) -> Self {
        (1..=LAST).filter(|s| other.has(*s)).for_each(|s| self.add(s));
        self
    }

    /// As poll(2) and its kin take it.
    #[must_use]
    pub fn as_ptr(&self) -> *const sigset_t {
        &raw const self.set
    }

    /// Whether any of them waits to be delivered.
    #[must_use]
    pub fn pending(&self) -> bool {
        let mut pending = Self::none();
        // SAFETY: a live set.
        unsafe { libc::sigpending(&raw mut pending.set) };
        (1..=LAST).any(|s| self.has(s) && pending.has(s))
    }

    /// Makes this the calling thread's mask.
    pub fn mask(&self) {
        // SAFETY: a live set; the old mask is not asked for.
        unsafe { libc::sigprocmask(libc::SIG_SETMASK, self.as_ptr(), ptr::null_mut()) };
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
    let mut mask = Signals::none();
    // SAFETY: a null set changes nothing; the mask goes to a live set.
    unsafe { libc::sigprocmask(libc::SIG_BLOCK, ptr::null(), &raw mut mask.set) };
    let mut handled = Handled { restarting: Signals::none(), interrupting: Signals::none(), mask };
    for signal in (1..=LAST).filter(|s| !mask.has(*s)) {
        match restarts(signal) {
            Some(true) => handled.restarting.add(signal),
            Some(false) => handled.interrupting.add(signal),
            None => {}
        }
    }
    handled
}

/// Whether the handler of a signal restarts calls; `None` if there is no handler.
fn restarts(signal: c_int) -> Option<bool> {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null action changes nothing; the old one goes to a live local. libc refuses its own signals (EINVAL).
    if unsafe { libc::sigaction(signal, ptr::null(), action.as_mut_ptr()) } != 0 {
        return None;
    }
    // SAFETY: sigaction succeeded, so the action is initialised.
    let action = unsafe { action.assume_init() };
    (!matches!(action.sa_sigaction, libc::SIG_DFL | libc::SIG_IGN)).then_some(action.sa_flags & libc::SA_RESTART != 0)
}
