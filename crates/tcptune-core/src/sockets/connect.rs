//! Connect timeout of a blocking socket: a connect that does not block, then poll to a deadline.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::cell::Cell;
use std::mem;

use libc::{c_int, c_void, sockaddr, socklen_t};

use crate::sockets::descriptor::Descriptors;
use crate::sockets::identity::Identity;
use crate::sockets::real::{CleanupBuffer, Real};
use crate::sockets::signal::Handled;
use crate::sockets::{apply, attempt};
use crate::system::clock::nanoseconds;
use crate::system::{errno, files, network};

/// A connect(2) as the program asked for it.
#[derive(Clone, Copy)]
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
    /// What connects in place of connect(2).
    pub by: Option<&'a FastOpen<'a>>,
}

/// sendto(2) or sendmsg(2) with `MSG_FASTOPEN`.
pub struct FastOpen<'a> {
    flags: c_int,
    /// The call with these flags: without `MSG_FASTOPEN`, without the address as well.
    send: &'a dyn Fn(c_int) -> isize,
    with_syn: Cell<Option<isize>>,
}

impl<'a> FastOpen<'a> {
    /// The program's flags, and what calls it with flags.
    #[must_use]
    pub const fn new(flags: c_int, send: &'a dyn Fn(c_int) -> isize) -> Self {
        Self { flags, send, with_syn: Cell::new(None) }
    }

    /// Whether it shall not wait, whatever the file status flags.
    #[must_use]
    pub const fn never_waits(&self) -> bool {
        self.flags & libc::MSG_DONTWAIT != 0
    }

    /// How many bytes went with the SYN: to a peer that has given a cookie. Nothing says then that the attempt goes on.
    #[must_use]
    pub const fn with_syn(&self) -> Option<isize> {
        self.with_syn.get()
    }

    /// Sends once it is connected.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn send(&self) -> Result<isize, c_int> {
        self.sent(self.flags & !libc::MSG_FASTOPEN)
    }

    fn sent(&self, flags: c_int) -> Result<isize, c_int> {
        match (self.send)(flags) {
            -1 => Err(errno::get()),
            count => Ok(count),
        }
    }

    fn connect(&self, call: &Call<'_>) -> Result<(), c_int> {
        self.with_syn.set(Some(self.sent(self.flags)?));
        if attempt::goes_on(call.real, call.fd) { Err(libc::EINPROGRESS) } else { Ok(()) }
    }
}

impl Call<'_> {
    /// Calls connect(2) once more, to learn how an attempt ended. It is the bare system call: a library behind this one that
    /// interposes connect has seen the program's one call already.
    fn again(&self) -> Result<(), c_int> {
        network::connect(self.fd, self.addr, self.len)
    }

    /// The real connect(2) with the program's arguments.
    ///
    /// # Errors
    /// The kernel's errno.
    pub fn connect(&self) -> Result<(), c_int> {
        if let Some(open) = self.by {
            return open.connect(self);
        }
        // SAFETY: the kernel checks whatever the program passed, with EBADF and EFAULT.
        let r = unsafe { (self.real.connect)(self.fd, self.addr, self.len) };
        if r == 0 { Ok(()) } else { Err(errno::get()) }
    }
}

/// Connects a blocking TCP socket within `ms` milliseconds. It is nonblocking while connect begins, which takes
/// microseconds; nothing of it is changed while it waits.
///
/// # Errors
/// The kernel's errno; `ETIMEDOUT` at the deadline, when no SYN is sent any more and the socket can be used again;
/// `EINTR` as connect(2) gives it, with the attempt going on.
pub fn within(call: &Call<'_>, ms: c_int) -> Result<(), Failed> {
    match without_blocking(call) {
        Err(pending @ (libc::EINPROGRESS | libc::EALREADY)) => wait(call, ms, pending),
        settled => settled.map_err(Failed),
    }
}

/// Why a connect has failed: an errno, below 0 if the attempt goes on behind it, on the same socket. One number, since a
/// connect has little stack.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Failed(c_int);

impl Failed {
    /// The errno.
    #[must_use]
    pub const fn error(self) -> c_int {
        self.0.wrapping_abs()
    }

    /// Whether the attempt goes on.
    #[must_use]
    pub const fn goes_on(self) -> bool {
        self.0 < 0
    }
}

/// Begins to connect, and looks whether that is all: on loopback it is.
#[inline(never)]
fn without_blocking(call: &Call<'_>) -> Result<(), c_int> {
    let lent = Lent { fd: call.fd, descriptors: call.descriptors };
    if !call.descriptors.starts(call.fd) {
        return call.connect(); // fifteen other threads are in connect on this socket, and those bound it
    }
    if let Err(error) = files::set_nonblocking(call.fd, true) {
        apply::no_timeout(call.fd, "ioctl", error);
        call.descriptors.started(call.fd);
        return call.connect();
    }
    let Some(cleanup) = call.real.cleanup else {
        let result = begin(call);
        lent.give_back();
        return result;
    };
    let mut buffer = CleanupBuffer::new();
    // SAFETY: buffer and argument outlive the pop below; a cancellation point between may unwind this frame, which has
    // no destructor, after the routine has run.
    unsafe { (cleanup.push)(&raw mut buffer, give_back, (&raw const lent).cast_mut().cast()) };
    let result = begin(call);
    // SAFETY: pops what was pushed, in the same frame, and runs it.
    unsafe { (cleanup.pop)(&raw mut buffer, 1) };
    result
}

fn begin(call: &Call<'_>) -> Result<(), c_int> {
    let begun = call.connect();
    if !matches!(begun, Err(libc::EINPROGRESS | libc::EALREADY)) {
        return begun;
    }
    match call.again() {
        Err(libc::EALREADY | libc::EINPROGRESS) => begun,
        settled => but_connected(settled),
    }
}

/// `EISCONN` is success: another thread that waits on the same socket has learnt of its connection first, and a blocking
/// connect(2) would return 0 in both.
fn but_connected(result: Result<(), c_int>) -> Result<(), c_int> {
    if result == Err(libc::EISCONN) { Ok(()) } else { result }
}

/// The `O_NONBLOCK` that the socket has while connect begins: what has to be done to take it off.
struct Lent<'a> {
    fd: c_int,
    descriptors: &'a Descriptors,
}

impl Lent<'_> {
    fn give_back(&self) {
        if self.descriptors.starts_alone(self.fd) {
            let _ = files::set_nonblocking(self.fd, false); // fails only where the descriptor is closed by now
        }
        self.descriptors.started(self.fd);
    }
}

/// # Safety
/// `lent` points to a live [`Lent`].
unsafe extern "C" fn give_back(lent: *mut c_void) {
    // SAFETY: the caller's promise.
    unsafe { &*lent.cast::<Lent<'_>>() }.give_back();
}

/// Waits for an attempt that goes on.
#[inline(never)]
fn wait(call: &Call<'_>, ms: c_int, pending: c_int) -> Result<(), Failed> {
    let socket = socket(call.fd);
    // connect(2) of a blocking socket already ends at SO_SNDTIMEO, with the attempt going on (socket(7)).
    let own = timeout(call.fd, libc::SO_SNDTIMEO);
    let limit = u64::from(ms.unsigned_abs()) * 1_000_000;
    let (limit, at_the_end) = match own {
        Some(own) if own <= limit => (own, pending),
        _ => (limit, libc::ETIMEDOUT),
    };
    let deadline = nanoseconds().saturating_add(limit);
    let handled = own.is_none().then(Handled::now);
    loop {
        let ended = signals_heeded(call, deadline, handled.as_ref(), socket);
        let over = left(deadline) == 0;
        let error = match ended {
            Wait::Interrupted => libc::EINTR,
            // poll(2) reports on whichever socket has the number when it returns.
            _ if self::socket(call.fd) != socket => {
                if over {
                    at_the_end
                } else {
                    libc::EBADF
                }
            }
            // A second connect, rather than SO_ERROR, so that the socket takes the same state as in a blocking call.
            Wait::Ready => return but_connected(call.again()).map_err(Failed),
            Wait::Failed => failure(call),
            Wait::Refused(error) => {
                apply::no_timeout(call.fd, "poll", error);
                return call.connect().map_err(Failed);
            }
            Wait::Over if !over => continue,
            Wait::Over => {
                if at_the_end == libc::ETIMEDOUT {
                    dissolve(call);
                }
                at_the_end
            }
        };
        // A handler may have closed the number, and made another socket on it.
        let goes_on = matches!(error, libc::EINTR | libc::EINPROGRESS | libc::EALREADY)
            && self::socket(call.fd) == socket
            && attempt::goes_on(call.real, call.fd);
        return Err(Failed(if goes_on { -error } else { error }));
    }
}

/// Waits for a connecting socket as a blocking call other than connect does, up to `limit` nanoseconds. Returns whether a
/// signal handler has interrupted it: any handler where the socket has a timeout of its own (signal(7)).
#[must_use]
#[inline(never)] // for the stack: a signal handler may have little
pub fn is_interrupted(call: &Call<'_>, limit: u64, has_timeout: bool) -> bool {
    let socket = socket(call.fd);
    let handled = (!has_timeout).then(Handled::now);
    let deadline = nanoseconds().saturating_add(limit);
    matches!(signals_heeded(call, deadline, handled.as_ref(), socket), Wait::Interrupted)
}

/// Which socket a descriptor is, as a number; 0 if that cannot be told.
fn socket(fd: c_int) -> u64 {
    Identity::of(fd).map_or(0, Identity::number)
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

fn left(deadline: u64) -> u64 {
    deadline.saturating_sub(nanoseconds())
}

/// Waits as a blocking connect(2) does: only a handler without `SA_RESTART` ends it. With `SO_SNDTIMEO` every handler
/// does (signal(7)), and none is looked up.
#[inline] // for the stack: it has no frame of its own
fn signals_heeded(call: &Call<'_>, deadline: u64, handled: Option<&Handled>, socket: u64) -> Wait {
    match handled {
        None => poll(call, left(deadline)),
        Some(handled) if handled.interrupting != 0 => in_slices(call, deadline, handled, socket),
        Some(_) => restarted(call, deadline),
    }
}

#[inline(never)] // for the stack of the others
fn restarted(call: &Call<'_>, deadline: u64) -> Wait {
    match poll(call, left(deadline)) {
        Wait::Interrupted => Wait::Over,
        wait => wait,
    }
}

/// How many nanoseconds a handler with `SA_RESTART` may have to wait for its turn while there are handlers without.
const SLICE: u64 = 10_000_000;

/// The same of libc's own handlers: nothing of the program waits for them but seteuid(2) and its kin.
const SLICE_OF_LIBC: u64 = 50_000_000;

/// Waits where there are handlers of both kinds. Nothing tells afterwards which one ended ppoll(2), so those that
/// restart are held back in it, and have their turn after each slice; those that interrupt run nowhere else.
#[inline(never)]
fn in_slices(call: &Call<'_>, deadline: u64, handled: &Handled, socket: u64) -> Wait {
    let slice = if handled.restarts_libcs_alone() { SLICE_OF_LIBC } else { SLICE };
    handled.hold_back();
    let wait = loop {
        handled.let_restarting_run();
        match ppoll(call, left(deadline).min(slice), handled.mask | handled.restarting) {
            Wait::Over if left(deadline) != 0 && self::socket(call.fd) == socket => {}
            wait => break wait,
        }
    };
    handled.give_back();
    wait
}

#[inline(never)]
fn poll(call: &Call<'_>, left: u64) -> Wait {
    let ms = c_int::try_from(left.div_ceil(1_000_000)).unwrap_or(c_int::MAX);
    let mut poll = libc::pollfd { fd: call.fd, events: libc::POLLOUT, revents: 0 };
    // SAFETY: one live pollfd.
    let r = unsafe { (call.real.poll)(&raw mut poll, 1, ms) };
    outcome(r, poll.revents)
}

#[inline]
fn ppoll(call: &Call<'_>, left: u64, mask: u64) -> Wait {
    let mut poll = libc::pollfd { fd: call.fd, events: libc::POLLOUT, revents: 0 };
    let left = libc::timespec { tv_sec: 0, tv_nsec: left.try_into().unwrap_or(0) }; // less than a second
    // SAFETY: one live pollfd, a live timespec, and of the set what the kernel takes: glibc and musl hand it on unread.
    let r = unsafe { (call.real.ppoll)(&raw mut poll, 1, &raw const left, (&raw const mask).cast()) };
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

/// `SO_SNDTIMEO` or `SO_RCVTIMEO` in nanoseconds, if it is set.
#[must_use]
#[inline(never)]
pub fn timeout(fd: c_int, name: c_int) -> Option<u64> {
    let none = libc::timeval { tv_sec: 0, tv_usec: 0 };
    let time = network::option(fd, name, none).ok()?;
    let micros =
        u64::try_from(i64::from(time.tv_sec).checked_mul(1_000_000)?.checked_add(time.tv_usec.into())?).ok()?;
    (micros > 0).then(|| micros.saturating_mul(1000))
}

/// Why the attempt is over, as a blocking connect(2) tells it. A second connect would begin another attempt where a
/// shutdown(2) or connect(2) of another thread has ended this one.
#[inline(never)]
fn failure(call: &Call<'_>) -> c_int {
    let error = network::option(call.fd, libc::SO_ERROR, 0);
    dissolve(call);
    match error {
        Ok(error) if error != 0 => error,
        _ => libc::ECONNABORTED,
    }
}

/// Ends the attempt: no SYN is sent any more, and the socket can be connected again (connect(2), `AF_UNSPEC`). The
/// error that this leaves behind is for nobody.
#[inline(never)]
fn dissolve(call: &Call<'_>) {
    // SAFETY: all zeroes is a valid sockaddr, of family AF_UNSPEC (0).
    let unspecified: sockaddr = unsafe { mem::zeroed() };
    let len = socklen_t::try_from(size_of::<sockaddr>()).unwrap_or(0);
    let _ = network::connect(call.fd, &raw const unspecified, len);
    let _ = network::option(call.fd, libc::SO_ERROR, 0);
}
