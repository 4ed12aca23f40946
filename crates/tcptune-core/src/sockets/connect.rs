//! Connect timeout of a blocking socket: nonblocking connect, then poll to a deadline.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem;
use std::time::Duration;

use libc::{c_int, c_void, sockaddr, socklen_t};

use crate::sockets::apply;
use crate::sockets::descriptor::{Descriptors, Fact};
use crate::sockets::real::{CleanupBuffer, Real};
use crate::sockets::signal::{self, Handled, Signals};
use crate::system::clock::now;
use crate::system::{errno, files, network};

/// A connect(2) as the program asked for it.
#[derive(Clone, Copy, Debug)]
pub struct Call<'a> {
    /// The real functions.
    pub real: &'a Real,
    /// What is known of descriptors.
    pub descriptors: &'a Descriptors,
    /// The program's descriptor.
    pub fd: c_int,
    /// The program's address; only the kernel reads it.
    pub addr: *const sockaddr,
    /// Its length.
    pub len: socklen_t,
}

impl Call<'_> {
    /// connect(2) once more, on an attempt that goes on: the kernel's, since a library behind this one that interposes
    /// connect has seen the program's call.
    fn again(&self) -> Result<(), c_int> {
        network::connect(self.fd, self.addr, self.len)
    }

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
    let mut restore = Restore { fd: call.fd, flags, descriptors: call.descriptors };
    call.descriptors.add(call.fd, WAITING); // before another thread can see the flag
    if let Err(error) = files::set_status_flags(call.fd, flags | libc::O_NONBLOCK) {
        apply::no_timeout(call.fd, "fcntl", error);
        call.descriptors.remove(call.fd, WAITING);
        return call.connect();
    }
    let Some(cleanup) = call.real.cleanup else {
        let result = attempt(call, ms, &restore);
        restore.all();
        return result;
    };
    let mut buffer = CleanupBuffer::new();
    // SAFETY: buffer and argument outlive the pop below; a cancellation point between may unwind this frame, which has
    // no destructor, after the routine has run.
    unsafe { (cleanup.push)(&raw mut buffer, restore_all, (&raw mut restore).cast()) };
    let result = attempt(call, ms, &restore);
    // SAFETY: pops what was pushed, in the same frame, and runs it.
    unsafe { (cleanup.pop)(&raw mut buffer, 1) };
    result
}

/// What is true of a descriptor whose connect begins.
const WAITING: Fact = Fact::WAITED_FOR.and(Fact::STARTING);

/// What is put back after the wait.
struct Restore<'a> {
    fd: c_int,
    flags: c_int,
    descriptors: &'a Descriptors,
}

impl Restore<'_> {
    fn all(&self) {
        let _ = files::set_status_flags(self.fd, self.flags); // fails only where the descriptor is closed by now
        self.descriptors.remove(self.fd, WAITING);
    }
}

/// # Safety
/// `restore` points to a live [`Restore`].
unsafe extern "C" fn restore_all(restore: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { &*restore.cast::<Restore<'_>>() }.all();
}

fn attempt(call: &Call<'_>, ms: c_int, blocking: &Restore<'_>) -> Result<(), c_int> {
    let begun = call.connect();
    call.descriptors.remove(call.fd, Fact::STARTING);
    let pending = match begun {
        Err(error @ (libc::EINPROGRESS | libc::EALREADY)) => error,
        settled => return settled,
    };
    // connect(2) of a blocking socket already ends at SO_SNDTIMEO, with the attempt going on (socket(7)).
    let own = send_timeout(call);
    let limit = Duration::from_millis(u64::from(ms.unsigned_abs()));
    let (limit, own_is_shorter) = match own {
        Some(own) if own <= limit => (own, true),
        _ => (limit, false),
    };
    let deadline = now().saturating_add(limit);
    // On loopback it is connected by now, and nothing has to be known of signals.
    let mut wait = Wait::Ready;
    let mut handled = None;
    loop {
        wait = match wait {
            // A second connect, rather than SO_ERROR, so that the socket takes the same state as in a blocking call.
            Wait::Ready => match call.again() {
                Err(libc::EALREADY | libc::EINPROGRESS) => Wait::Over,
                Err(libc::EISCONN) => return Ok(()), // another thread has been told of the same attempt
                settled => return settled,
            },
            Wait::Failed => return Err(failure(call)),
            Wait::Interrupted => return Err(libc::EINTR),
            Wait::Refused(error) => {
                apply::no_timeout(call.fd, "poll", error);
                blocking.all();
                return call.connect();
            }
            Wait::Over => {
                if !left(deadline).is_zero() {
                    signals_heeded(call, deadline, own.is_some(), handled.get_or_insert_with(signal::handled))
                } else if own_is_shorter {
                    return Err(pending);
                } else {
                    dissolve(call);
                    return Err(libc::ETIMEDOUT);
                }
            }
        };
    }
}

enum Wait {
    Ready,
    /// The attempt is over: refused, or ended by another thread.
    Failed,
    /// Nothing yet, and time to look at the clock.
    Over,
    /// By a handler after which connect(2) would have failed with `EINTR`.
    Interrupted,
    Refused(c_int),
}

fn left(deadline: Duration) -> Duration {
    deadline.saturating_sub(now())
}

/// Waits as a blocking connect(2) does: only a handler without `SA_RESTART` ends it. With `SO_SNDTIMEO` every handler
/// does (signal(7)).
fn signals_heeded(call: &Call<'_>, deadline: Duration, any_interrupts: bool, handled: &Handled) -> Wait {
    if any_interrupts || handled.restarting.is_empty() {
        return poll(call, left(deadline));
    }
    if !handled.interrupting.is_empty() {
        return in_slices(call, deadline, handled);
    }
    match poll(call, left(deadline)) {
        Wait::Interrupted => Wait::Over,
        wait => wait,
    }
}

/// How long a handler with `SA_RESTART` may have to wait for its turn while there are handlers without.
const SLICE: Duration = Duration::from_millis(10);

/// Waits where there are handlers of both kinds. Nothing tells afterwards which one ended ppoll(2), so those that
/// restart are held back in it, and have their turn between two slices; those that interrupt run nowhere else.
fn in_slices(call: &Call<'_>, deadline: Duration, handled: &Handled) -> Wait {
    let restarting_held = handled.mask.and(&handled.restarting);
    let interrupting_held = handled.mask.and(&handled.interrupting);
    let both_held = restarting_held.and(&handled.interrupting);
    both_held.mask();
    let wait = loop {
        if handled.restarting.pending() {
            interrupting_held.mask();
            both_held.mask();
        }
        match ppoll(call, left(deadline).min(SLICE), &restarting_held) {
            Wait::Over if !left(deadline).is_zero() => {}
            wait => break wait,
        }
    };
    handled.mask.mask();
    wait
}

fn poll(call: &Call<'_>, left: Duration) -> Wait {
    let ms = c_int::try_from(left.as_nanos().div_ceil(1_000_000)).unwrap_or(c_int::MAX);
    let mut poll = libc::pollfd { fd: call.fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one live pollfd.
    let r = unsafe { (call.real.poll)(&raw mut poll, 1, ms) };
    outcome(r, poll.revents)
}

fn ppoll(call: &Call<'_>, left: Duration, mask: &Signals) -> Wait {
    let mut poll = libc::pollfd { fd: call.fd, events: libc::POLLOUT, revents: 0 };
    let left = libc::timespec { tv_sec: 0, tv_nsec: left.subsec_nanos().into() };
    // SAFETY: one live pollfd, a live timespec and a live mask.
    let r = unsafe { (call.real.ppoll)(&raw mut poll, 1, &raw const left, mask.as_ptr()) };
    outcome(r, poll.revents)
}

fn outcome(result: c_int, revents: libc::c_short) -> Wait {
    match result {
        0 => Wait::Over,
        -1 => match errno::get() {
            libc::EINTR => Wait::Interrupted,
            error => Wait::Refused(error),
        },
        _ if revents & libc::POLLHUP != 0 => Wait::Failed,
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

/// Why the attempt is over, as a blocking connect(2) tells it. A second connect would begin another attempt where a
/// shutdown(2) or connect(2) of another thread has ended this one.
fn failure(call: &Call<'_>) -> c_int {
    let error = call.real.get_int(call.fd, libc::SOL_SOCKET, libc::SO_ERROR);
    dissolve(call);
    match error {
        Ok(error) if error != 0 => error,
        _ => libc::ECONNABORTED,
    }
}

/// Ends the attempt: no SYN is sent any more, and the socket can be connected again (connect(2), `AF_UNSPEC`). The
/// error that this leaves behind is for nobody.
fn dissolve(call: &Call<'_>) {
    // SAFETY: all zeroes is a valid sockaddr, of family AF_UNSPEC (0).
    let unspecified: sockaddr = unsafe { mem::zeroed() };
    let len = socklen_t::try_from(size_of::<sockaddr>()).unwrap_or(0);
    let _ = network::connect(call.fd, &raw const unspecified, len);
    let _ = call.real.get_int(call.fd, libc::SOL_SOCKET, libc::SO_ERROR);
}
