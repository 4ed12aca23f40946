//! Connect timeout: `TCP_USER_TIMEOUT` for as long as the attempt lasts, whatever kind of socket it is.
//!
//! The kernel honours it in SYN-SENT (tcp(7)), and a connection that is established cannot be hurt by it before as much
//! time has passed again. So a look each half of it is soon enough to put back what should hold. Nothing is kept open
//! in between: a duplicate would keep a socket that the program closes.

use std::cmp::Reverse;
use std::collections::BinaryHeap;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::time::Duration;

use libc::c_int;
use rustix::io::Errno;
use tcptune_core::options::phase::Stages;
use tcptune_core::settings::profile::Profile;
use tcptune_core::sockets::{apply, attempt, syn};
use tcptune_core::system::clock;

use super::found::{self, Found};
use super::shared::{Attempt, Shared, Socket};
use super::threads::Threads;
use crate::system::kernel::KERNEL;

/// When options that connect must not see are tried for the first time, and how long the pauses become.
const SOON: Duration = Duration::from_millis(1);
const LONGEST_PAUSE: Duration = Duration::from_millis(250);

/// Of so many milliseconds, in nanoseconds.
const HALF: u64 = 500_000;
const QUARTER: u64 = HALF / 2;
/// The first look comes no later than this: most attempts are over by then, and there is room for others.
const FIRST: u64 = 500_000_000;

/// A time so far away, or a little later: what is due nearly at the same time is looked at together.
fn rounded(now: u64, away: u64) -> u64 {
    (now + away).next_multiple_of((away / 8).max(1))
}

fn nanoseconds(time: Duration) -> u64 {
    u64::try_from(time.as_nanos()).unwrap_or(u64::MAX)
}

/// When which attempt is to be looked at.
#[derive(Debug, Default)]
pub struct Attempts {
    queue: BinaryHeap<Reverse<(u64, u64)>>,
    /// Cookies of sockets that are no longer at the number where they were.
    lost: Vec<u64>,
    /// When they are searched for.
    search: Option<u64>,
}

/// A connect that begins.
#[derive(Clone, Copy, Debug)]
pub struct Begin {
    pub socket: RawFd,
    pub cookie: u64,
    /// Number of the profile that holds for it.
    pub index: u32,
    /// Its bound, in milliseconds.
    pub bound: Option<c_int>,
    /// Whether options are to be set once it is over.
    pub later: bool,
    pub thread: i32,
    pub fd: c_int,
}

impl Attempts {
    /// Takes over the attempts of a supervisor that was killed.
    pub fn recovered(shared: &Shared) -> Self {
        let queue = shared.pending().map(|socket| Reverse((socket.attempt.due, socket.cookie))).collect();
        Self { queue, ..Self::default() }
    }

    /// When there is something to do next.
    pub fn next(&self) -> Option<u64> {
        let due = self.queue.peek().map(|Reverse((due, _))| *due);
        due.into_iter().chain(self.search).min()
    }

    /// Before the program's connect(2).
    pub fn begin(&mut self, shared: &mut Shared, begin: &Begin) {
        let before = shared.get(begin.cookie).map(|socket| socket.attempt).filter(Attempt::is_some);
        let (during, after) = match begin.bound.map(c_int::cast_unsigned) {
            None => (0, 0),
            Some(during) => match held(begin.socket, before.as_ref()) {
                // With a user timeout of the program's own the kernel counts retries otherwise.
                Ok(0) => (syn::within_retries(during, || KERNEL.syn_retries(begin.socket)), 0),
                Ok(after) if after > during => (during, after),
                Ok(after) => {
                    put_back(begin.socket, before.as_ref());
                    log::debug!("fd {}: its own TCP_USER_TIMEOUT of {after}ms is shorter", begin.fd);
                    (0, 0)
                }
                Err(error) => {
                    apply::no_timeout(begin.fd, "TCP_USER_TIMEOUT", error);
                    (0, 0)
                }
            },
        };
        if during == 0 && !begin.later {
            return;
        }
        let Ok(file) = rustix::fs::fstat(found::borrow(begin.socket)) else { return };
        let Some(socket) = shared.place(begin.cookie) else {
            apply::no_timeout(begin.fd, "a place to remember it", libc::ENOMEM);
            return;
        };
        let pause = if begin.later { nanoseconds(SOON) } else { (u64::from(during) * HALF).min(FIRST) };
        let due = if begin.later { clock::nanoseconds() + pause } else { rounded(clock::nanoseconds(), pause) };
        // Remembered first: a supervisor that is killed in between leaves no timeout that nobody puts back.
        socket.attempt = Attempt {
            during,
            after,
            thread: begin.thread,
            fd: begin.fd,
            inode: file.st_ino,
            due,
            pause,
            later: if begin.later { begin.index + 1 } else { 0 },
        };
        self.queue.push(Reverse((due, begin.cookie)));
        if during != 0
            && let Err(error) =
                KERNEL.set_int(begin.socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, during.cast_signed())
        {
            apply::no_timeout(begin.fd, "TCP_USER_TIMEOUT", error);
        }
    }

    /// Looks at what is due. `profile` gives that of a number, in a thread's program.
    pub fn look(&mut self, shared: &mut Shared, threads: &mut Threads, profile: &mut Lookup<'_>) {
        let now = clock::nanoseconds();
        let mut lost = Vec::new();
        while let Some(Reverse((due, cookie))) = self.queue.peek().copied().filter(|Reverse((due, _))| *due <= now) {
            self.queue.pop();
            // An attempt that is over, or was begun anew, is due at another time than its entry here.
            let socket = shared.get(cookie).copied();
            let Some(socket) = socket.filter(|socket| socket.attempt.is_some() && socket.attempt.due == due) else {
                continue;
            };
            match taken(threads, &socket.attempt, cookie) {
                Some(fd) => self.settle(shared, &socket, &fd, now, profile),
                None => lost.push(socket),
            }
        }
        // Nearly always the program has closed it; it may also have moved it to another number, or passed it to a process.
        let found = found::at_home(&lost);
        self.settle_found(shared, &found, now, profile);
        for socket in lost.iter().filter(|socket| found.iter().all(|found| found.socket.cookie != socket.cookie)) {
            if socket.attempt.during == 0 {
                over(shared, socket.cookie); // it has nothing that has to be put back
                continue;
            }
            self.lost.push(socket.cookie);
            let search = rounded(now, (u64::from(socket.attempt.during) * QUARTER).min(FIRST));
            self.search = Some(self.search.map_or(search, |other| other.min(search)));
        }
        if self.search.is_some_and(|search| search <= now) {
            self.search = None;
            let known = |cookie| shared.get(cookie).copied().filter(|socket| socket.attempt.is_some());
            let lost: Vec<_> = std::mem::take(&mut self.lost).into_iter().filter_map(known).collect();
            for socket in &lost {
                over(shared, socket.cookie);
            }
            self.settle_found(shared, &found::anywhere(&lost), now, profile);
        }
    }

    fn settle_found(&mut self, shared: &mut Shared, found: &[Found], now: u64, profile: &mut Lookup<'_>) {
        for Found { socket, process, number, fd } in found {
            let attempt = Attempt { thread: *process, fd: *number, ..socket.attempt };
            self.settle(shared, &Socket { attempt, ..*socket }, fd, now, profile);
        }
    }

    /// What is to be done where an attempt is over; another look later where it goes on.
    fn settle(&mut self, shared: &mut Shared, socket: &Socket, fd: &OwnedFd, now: u64, profile: &mut Lookup<'_>) {
        let (raw, mut attempt) = (fd.as_raw_fd(), socket.attempt);
        if attempt::goes_on(&KERNEL, raw) {
            let longest = match attempt.during {
                0 => nanoseconds(LONGEST_PAUSE),
                during if attempt.later == 0 => u64::from(during) * HALF,
                during => nanoseconds(LONGEST_PAUSE).min(u64::from(during) * HALF),
            };
            attempt.pause = (attempt.pause * 2).min(longest);
            attempt.due = rounded(now, attempt.pause);
            if let Some(place) = shared.place(socket.cookie) {
                place.attempt = attempt;
                self.queue.push(Reverse((attempt.due, socket.cookie)));
            }
            return;
        }
        put_back(raw, Some(&attempt));
        if let Some(index) = attempt.later.checked_sub(1)
            && !apply::is_closed(&KERNEL, raw)
            && let (Some(profile), Some(mark)) = (profile(attempt.thread, index), apply::mark(&KERNEL, raw))
        {
            apply::stage(&KERNEL, profile, raw, mark.and_set_on(socket.set), Stages::CONNECT);
        }
        over(shared, socket.cookie);
    }
}

/// Gives a profile by its number, in a thread's program.
pub type Lookup<'a> = dyn FnMut(i32, u32) -> Option<&'static Profile> + 'a;

fn over(shared: &mut Shared, cookie: u64) {
    if shared.get(cookie).is_some()
        && let Some(place) = shared.place(cookie)
    {
        place.attempt = Attempt::default();
    }
}

/// The `TCP_USER_TIMEOUT` that should hold: not that of an attempt of ours.
fn held(socket: RawFd, before: Option<&Attempt>) -> Result<u32, c_int> {
    let value = KERNEL.get_int(socket, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT)?.cast_unsigned();
    Ok(before.filter(|attempt| attempt.during == value && value != 0).map_or(value, |attempt| attempt.after))
}

/// Puts back the user timeout that should hold, where ours is still there.
fn put_back(socket: RawFd, attempt: Option<&Attempt>) {
    let Some(attempt) = attempt.filter(|attempt| attempt.during != 0) else { return };
    let (level, name) = (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
    if KERNEL.get_int(socket, level, name).map(c_int::cast_unsigned) == Ok(attempt.during) {
        let _ = KERNEL.set_int(socket, level, name, attempt.after.cast_signed());
        let (fd, after) = (attempt.fd, attempt.after);
        log::debug!("fd {fd}: the attempt is over; TCP_USER_TIMEOUT is {after}ms again");
    }
}

/// A duplicate, if the number is still that of the same socket.
fn taken(threads: &mut Threads, attempt: &Attempt, cookie: u64) -> Option<OwnedFd> {
    let fd: Result<OwnedFd, Errno> = threads.descriptor(attempt.thread, attempt.fd, || true);
    fd.ok().filter(|fd| found::cookie(fd) == Some(cookie))
}
