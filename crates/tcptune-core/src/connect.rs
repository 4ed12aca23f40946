//! Connect timeout of a blocking socket: nonblocking connect, then poll to a deadline.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem;
use std::time::{Duration, Instant};

use libc::{c_int, c_void, sockaddr, socklen_t};

use crate::real::{CleanupBuffer, Real};
use crate::{errno, signal};

/// A connect(2) as the program asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The real functions.
    pub real: &'a Real,
    /// The program's descriptor.
    pub fd: c_int,
    /// The program's address; only the kernel reads it.
    pub addr: *const sockaddr,
    /// Its length.
    pub len: socklen_t,
}

impl Call<'_> {
    /// The real connect(2) with the program's arguments.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn connect(&self) -> Result<(), c_int> {
        // SAFETY: the kernel checks whatever the program passed, with EBADF and EFAULT.
        let r = unsafe { (self.real.connect)(self.fd, self.addr, self.len) };
        if r == 0 { Ok(()) } else { Err(errno::get()) }
    }
}

/// Connects a blocking socket with these file status flags within `ms` milliseconds: afterwards the flags are as they
/// were, also if the thread is cancelled.
///
/// # Errors
/// The kernel's errno; `ETIMEDOUT` at the deadline, when no SYN is sent any more and the socket can be used again;
/// `EINTR` as connect(2) gives it, with the attempt going on.
pub fn within(call: &Call<'_>, flags: c_int, ms: c_int) -> Result<(), c_int> {
    let mut restore = Flags { fd: call.fd, flags };
    // SAFETY: F_SETFL takes an int and touches no memory.
    if unsafe { libc::fcntl(call.fd, libc::F_SETFL, flags | libc::O_NONBLOCK) } == -1 {
        log::warn!("fd {}: fcntl is refused with {}; connect has no timeout", call.fd, errno::Named(errno::get()));
        return call.connect();
    }
    let Some(cleanup) = call.real.cleanup else {
        let result = attempt(call, ms, &restore);
        restore.put_back();
        return result;
    };
    let mut buffer = CleanupBuffer::new();
    // SAFETY: buffer and argument outlive the pop below; poll, the only cancellation point between, may unwind this
    // frame, which has no destructor, after the routine has run.
    unsafe { (cleanup.push)(&raw mut buffer, put_back, (&raw mut restore).cast()) };
    let result = attempt(call, ms, &restore);
    // SAFETY: pops what was pushed, in the same frame, and runs it.
    unsafe { (cleanup.pop)(&raw mut buffer, 1) };
    result
}

/// File status flags to be put back.
struct Flags {
    fd: c_int,
    flags: c_int,
}

impl Flags {
    fn put_back(&self) {
        // SAFETY: F_SETFL takes an int and touches no memory.
        unsafe { libc::fcntl(self.fd, libc::F_SETFL, self.flags) };
    }
}

/// # Safety
/// `flags` points to a live [`Flags`].
unsafe extern "C" fn put_back(flags: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { &*flags.cast::<Flags>() }.put_back();
}

fn attempt(call: &Call<'_>, ms: c_int, blocking: &Flags) -> Result<(), c_int> {
    let pending = match call.connect() {
        Err(error @ (libc::EINPROGRESS | libc::EALREADY)) => error,
        settled => return settled,
    };
    // connect(2) of a blocking socket already ends at SO_SNDTIMEO, with the attempt going on (socket(7)).
    let own = send_timeout(call);
    let limit = Duration::from_millis(u64::from(ms.unsigned_abs()));
    let own_is_shorter = own.is_some_and(|own| own <= limit);
    let Some(deadline) = Instant::now().checked_add(if own_is_shorter { own.unwrap_or(limit) } else { limit }) else {
        return Err(pending);
    };
    loop {
        match wait(call, deadline) {
            // A second connect, rather than SO_ERROR, so that the socket takes the same state as in a blocking call.
            Wait::Ready => match call.connect() {
                Err(libc::EALREADY | libc::EINPROGRESS) => {}
                Err(libc::EISCONN) => return Ok(()), // another thread has been told of the same attempt
                settled => return settled,
            },
            // With SO_SNDTIMEO no handler restarts connect (signal(7)).
            Wait::Interrupted if own.is_some() || signal::ends_connect() => return Err(libc::EINTR),
            Wait::Interrupted => {}
            Wait::Over if own_is_shorter => return Err(pending),
            Wait::Over => {
                dissolve(call);
                return Err(libc::ETIMEDOUT);
            }
            Wait::Refused(error) => {
                log::warn!("fd {}: poll is refused with {}; connect has no timeout", call.fd, errno::Named(error));
                blocking.put_back();
                return call.connect();
            }
        }
    }
}

enum Wait {
    Ready,
    Over,
    Interrupted,
    Refused(c_int),
}

fn wait(call: &Call<'_>, deadline: Instant) -> Wait {
    let left = deadline.saturating_duration_since(Instant::now());
    let ms = c_int::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX);
    let mut poll = libc::pollfd { fd: call.fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one live pollfd.
    match unsafe { (call.real.poll)(&raw mut poll, 1, ms) } {
        0 => Wait::Over,
        -1 => match errno::get() {
            libc::EINTR => Wait::Interrupted,
            error => Wait::Refused(error),
        },
        _ => Wait::Ready,
    }
}

/// `SO_SNDTIMEO`, if the program has set it.
fn send_timeout(call: &Call<'_>) -> Option<Duration> {
    let mut time = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let mut len = socklen_t::try_from(size_of::<libc::timeval>()).ok()?;
    let value = (&raw mut time).cast();
    // SAFETY: a live timeval and its length.
    let r = unsafe { (call.real.getsockopt)(call.fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, value, &raw mut len) };
    let micros = u64::try_from(time.tv_sec.checked_mul(1_000_000)?.checked_add(time.tv_usec)?).ok()?;
    (r == 0 && micros > 0).then(|| Duration::from_micros(micros))
}

/// Ends the attempt: no SYN is sent any more, and the socket can be connected again (connect(2), `AF_UNSPEC`). The
/// error that this leaves behind is for nobody.
fn dissolve(call: &Call<'_>) {
    // SAFETY: all zeroes is a valid sockaddr, of family AF_UNSPEC (0).
    let unspecified: sockaddr = unsafe { mem::zeroed() };
    let len = socklen_t::try_from(size_of::<sockaddr>()).unwrap_or(0);
    // SAFETY: a live sockaddr and its length.
    unsafe { (call.real.connect)(call.fd, &raw const unspecified, len) };
    let _ = call.real.get_int(call.fd, libc::SOL_SOCKET, libc::SO_ERROR);
}
