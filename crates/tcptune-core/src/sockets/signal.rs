//! Signals during a wait: poll(2) is never restarted after a handler, a blocking connect(2) is, if that handler was
//! established with `SA_RESTART` (signal(7)). So before the wait the kernel is asked which handlers there are.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::c_int;

use crate::system::signals::{self, bit};

/// Those that glibc (33) and musl (34, 33) keep for themselves, and send at any time: for seteuid(2) in another thread.
/// Calls go on after their handlers, which may be established while a wait goes on. 32 is not among them: glibc cancels
/// with it, and waits for it in the call that it interrupts.
const OF_LIBC: u64 = bit(33) | bit(34);

/// The signals for which a handler can run in the calling thread: signal n is bit n - 1 of a set.
#[derive(Clone, Copy)]
pub struct Handled {
    /// After these, connect(2) goes on.
    pub restarting: u64,
    /// After these, connect(2) fails with `EINTR`.
    pub interrupting: u64,
    /// The thread's mask.
    pub mask: u64,
}

impl Handled {
    /// Asks the kernel for every handler and for the mask.
    #[must_use]
    #[inline(never)] // for the stack: a connect has little
    pub fn now() -> Self {
        let mut handled = Self { restarting: OF_LIBC, interrupting: 0, mask: signals::mask() };
        for signal in (1..=signals::LAST).filter(|signal| !matches!(signal, 32 | 33)) {
            handled.add(signal, signals::restarts(signal));
        }
        handled
    }

    fn add(&mut self, signal: c_int, restarts: Option<bool>) {
        if self.mask & bit(signal) != 0 {
            return;
        }
        match restarts {
            Some(true) => self.restarting |= bit(signal),
            Some(false) => {
                self.interrupting |= bit(signal);
                self.restarting &= !bit(signal);
            }
            None => {}
        }
    }

    // A wait has little stack: each of these has a frame of its own.

    /// Holds back all for which there is a handler.
    #[inline(never)]
    pub fn hold_back(&self) {
        signals::set_mask(self.mask | self.restarting | self.interrupting);
    }

    /// Lets the handlers run that are held back and after which calls go on.
    #[inline(never)]
    pub fn let_restarting_run(&self) {
        if signals::pending() & self.restarting != 0 {
            signals::set_mask(self.mask | self.interrupting);
            self.hold_back();
        }
    }

    /// Gives the thread its mask back.
    #[inline(never)]
    pub fn give_back(&self) {
        signals::set_mask(self.mask);
    }

    /// Whether only libc's own handlers restart calls.
    #[must_use]
    pub const fn restarts_libcs_alone(&self) -> bool {
        self.restarting & !OF_LIBC == 0
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn libcs_own_signals_never_interrupt() {
        let mut handled = Handled { restarting: OF_LIBC, interrupting: 0, mask: bit(libc::SIGUSR2) };
        handled.add(libc::SIGUSR1, Some(false));
        handled.add(libc::SIGUSR2, Some(false));
        handled.add(libc::SIGHUP, None);
        assert_eq!((handled.interrupting, handled.restarting), (bit(libc::SIGUSR1), OF_LIBC));
        assert!(handled.restarts_libcs_alone());
        handled.add(34, Some(false));
        assert_eq!(handled.restarting, bit(33), "the program's, with glibc");
        handled.add(libc::SIGHUP, Some(true));
        assert!(!handled.restarts_libcs_alone());
    }
}
