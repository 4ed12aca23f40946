//! Signals during a wait: poll(2) is never restarted after a handler, a blocking connect(2) is, if that handler was
//! established with `SA_RESTART` (signal(7)). What the kernel tells about handlers in time, before the wait, is here.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem::MaybeUninit;
use std::ptr;

use libc::{c_int, sigset_t};

use crate::system::errno;

/// Highest signal number (`_NSIG` of x86 and ARM Linux, less one).
const LAST: c_int = 64;

/// A set of signals, with the layout of libc's. It is the kernel that is asked about sets: each function of libc that is
/// not used is a symbol less to look up at each exec.
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
        let mut pending = 0u64;
        // SAFETY: a live set of the size given.
        unsafe { libc::syscall(libc::SYS_rt_sigpending, &raw mut pending, size_of::<u64>()) };
        self.set & pending != 0
    }

    /// Holds back those of a program's set as well, and gives the thread's mask of before. `None` where that cannot be
    /// read. Leaves `errno` alone.
    #[must_use]
    pub fn block(set: *const sigset_t) -> Option<Self> {
        let mut before = Self::none();
        // SAFETY: the kernel checks the program's pointer; the old mask goes to a live set of the size given.
        let r = errno::preserved(|| unsafe {
            libc::syscall(
                libc::SYS_rt_sigprocmask,
                libc::SIG_BLOCK,
                set.expose_provenance(),
                &raw mut before.set,
                size_of::<u64>(),
            )
        });
        (r == 0 && !set.is_null()).then_some(before)
    }

    /// Makes this the calling thread's mask.
    pub fn mask(&self) {
        let no_set = ptr::null_mut::<u64>();
        // SAFETY: a live set of the size given; the old mask is not asked for.
        unsafe {
            libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_SETMASK, &raw const self.set, no_set, size_of::<u64>());
        }
    }
}

const fn bit(signal: c_int) -> u64 {
    1 << (signal - 1)
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
    let no_set = ptr::null::<u64>();
    // SAFETY: a null set changes nothing; the mask goes to a live set of the size given.
    unsafe {
        libc::syscall(libc::SYS_rt_sigprocmask, libc::SIG_BLOCK, no_set, &raw mut mask.set, size_of::<u64>());
    }
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
