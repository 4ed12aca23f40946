//! What the command has inherited, and hands on to the program as it was: Rust's start-up code ignores `SIGPIPE`, and
//! opens /dev/null where a standard descriptor is closed.

use std::mem::MaybeUninit;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicU8, Ordering};

static SIGPIPE_WAS_IGNORED: AtomicBool = AtomicBool::new(false);
/// A bit for each of the descriptors 0 to 2.
static WERE_CLOSED: AtomicU8 = AtomicU8::new(0);

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = look;

/// Runs before Rust's start-up code.
extern "C" fn look() {
    let mut action = MaybeUninit::<libc::sigaction>::uninit();
    // SAFETY: a null action changes nothing; the old one is written where the call succeeds.
    let ignored = unsafe {
        libc::sigaction(libc::SIGPIPE, ptr::null(), action.as_mut_ptr()) == 0
            && action.assume_init().sa_sigaction == libc::SIG_IGN
    };
    SIGPIPE_WAS_IGNORED.store(ignored, Ordering::Relaxed);
    for fd in 0..=2 {
        // SAFETY: only looks at the descriptor.
        if unsafe { libc::fcntl(fd, libc::F_GETFD) } < 0 {
            WERE_CLOSED.fetch_or(1 << fd, Ordering::Relaxed);
        }
    }
}

/// `SIGPIPE` as it was: what reads the output may end first, and then so does the command.
pub fn restore_sigpipe() {
    if !SIGPIPE_WAS_IGNORED.load(Ordering::Relaxed) {
        // SAFETY: no handler is involved.
        unsafe { libc::signal(libc::SIGPIPE, libc::SIG_DFL) };
    }
}

/// Whether standard output was closed: what is written there is lost.
pub fn has_no_output() -> bool {
    WERE_CLOSED.load(Ordering::Relaxed) & (1 << libc::STDOUT_FILENO) != 0
}

/// Closes the standard descriptors that were closed. Nothing is written after it.
pub fn close_again() {
    for fd in (0..=2).filter(|fd| WERE_CLOSED.load(Ordering::Relaxed) & (1 << fd) != 0) {
        // SAFETY: nothing in this process uses it: it was opened by Rust's start-up code.
        unsafe { libc::close(fd) };
    }
}
