//! Connect timeout of a nonblocking socket: `TCP_USER_TIMEOUT` for as long as the attempt lasts.
//!
//! The kernel honours `TCP_USER_TIMEOUT` in SYN-SENT (tcp(7)). Once connected it would end connections that merely
//! stall, so the value that should hold is put back at the first hooked call by which the program can notice that the
//! attempt is over: a wait of the thread that began it, if it reports something, or any call on the descriptor.
//!
//! A wait looks at the attempts of its own thread only. On another thread's descriptor it could meet the next socket of
//! that number, and its poll(2) would hold a file open that the other thread closes.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};

use libc::{c_int, c_void, socklen_t};

use crate::sockets::apply;
use crate::sockets::connect::Call;
use crate::sockets::descriptor::zeroes;
use crate::sockets::real::Real;
use crate::system::errno;

/// States of tcp(7)'s `TCP_INFO` in which the attempt goes on.
const SYN_SENT: u8 = 2;
const SYN_RECV: u8 = 3;

/// How many descriptors one poll(2) of [`Attempts::sweep`] looks at: 512 bytes of stack.
const BATCH: usize = 64;

/// An attempt that is going on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
struct Attempt {
    /// `TCP_USER_TIMEOUT` while it lasts, in milliseconds. A descriptor with another value is not the one it was.
    during: u32,
    /// The value that should hold on the connection.
    after: u32,
}

impl Attempt {
    const fn pack(self) -> u64 {
        (self.during as u64) << 32 | self.after as u64
    }

    /// `None` for the empty slot; `during` is never 0.
    const fn unpack(packed: u64) -> Option<Self> {
        #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
        let after = packed as u32;
        if packed == 0 { None } else { Some(Self { during: (packed >> 32) as u32, after }) }
    }
}

/// What is known of the attempt on one descriptor.
#[derive(Debug)]
struct Slot {
    /// A packed [`Attempt`].
    attempt: AtomicU64,
    /// The thread that began it.
    thread: AtomicUsize,
}

/// Tells the calling thread from all others that run: the address of its errno. Unlike gettid(2), it costs no system
/// call.
fn this_thread() -> usize {
    // SAFETY: __errno_location cannot fail.
    unsafe { libc::__errno_location() }.addr()
}

/// The attempts of all nonblocking sockets of the process. The default has room for none.
#[derive(Debug, Default)]
pub struct Attempts {
    #[allow(clippy::disallowed_types, reason = "made at start-up")]
    slots: Box<[Slot]>,
    pending: AtomicUsize,
    /// One past the highest descriptor that ever had an attempt.
    end: AtomicUsize,
}

impl Attempts {
    /// None yet.
    #[must_use]
    pub fn new() -> Self {
        // SAFETY: all zeroes is a valid Slot.
        Self { slots: unsafe { zeroes() }, ..Self::default() }
    }

    /// Whether any attempt is going on: all that a hook costs while none is.
    #[inline]
    pub fn any(&self) -> bool {
        self.pending.load(Ordering::Relaxed) != 0
    }

    fn slot(&self, fd: c_int) -> Option<&Slot> {
        self.slots.get(usize::try_from(fd).ok()?)
    }

    fn get(&self, fd: c_int) -> Option<Attempt> {
        Attempt::unpack(self.slot(fd)?.attempt.load(Ordering::Acquire))
    }

    fn put(&self, fd: c_int, attempt: Attempt) {
        if let (Some(slot), Ok(index)) = (self.slot(fd), usize::try_from(fd)) {
            self.end.fetch_max(index + 1, Ordering::Relaxed);
            slot.thread.store(this_thread(), Ordering::Relaxed);
            if slot.attempt.swap(attempt.pack(), Ordering::AcqRel) == 0 {
                self.pending.fetch_add(1, Ordering::Relaxed);
            }
        }
    }

    /// Puts another packed value in an attempt's place, unless another attempt is there by now. Whether it was done.
    fn replace(&self, fd: c_int, attempt: Attempt, by: u64) -> bool {
        self.slot(fd).is_some_and(|slot| {
            slot.attempt.compare_exchange(attempt.pack(), by, Ordering::AcqRel, Ordering::Relaxed).is_ok()
        })
    }

    /// Clears the slot, unless another attempt is in it by now.
    fn clear(&self, fd: c_int, attempt: Attempt) {
        if self.replace(fd, attempt, 0) {
            self.pending.fetch_sub(1, Ordering::Relaxed);
        }
    }

    /// Connects a nonblocking socket; the kernel ends the attempt after `ms` milliseconds.
    ///
    /// # Errors
    /// The kernel's errno, which is `EINPROGRESS` while the attempt goes on.
    pub fn connect(&self, call: &Call<'_>, ms: c_int) -> Result<(), c_int> {
        self.settle(call.real, call.fd);
        let (during, fd) = (ms.unsigned_abs(), call.fd);
        if self.any() && self.get(fd).is_some() {
            return call.connect(); // the same attempt goes on, and keeps its deadline
        }
        if self.slot(fd).is_none() && fd >= 0 {
            static WARNED: AtomicBool = AtomicBool::new(false);
            if !WARNED.swap(true, Ordering::Relaxed) {
                let known = self.slots.len();
                log::warn!(
                    "fd {fd}: descriptors from {known} on are not remembered; nonblocking connects have no timeout"
                );
            }
            return call.connect();
        }
        let after = match user_timeout(call.real, fd) {
            Ok(after) if after == 0 || after > during => after,
            Ok(_) => return call.connect(), // the connection's own limit is shorter
            Err(error) => {
                apply::no_timeout(fd, "TCP_USER_TIMEOUT", error);
                return call.connect();
            }
        };
        if let Err(error) = set_user_timeout(call.real, fd, during) {
            apply::no_timeout(fd, "TCP_USER_TIMEOUT", error);
            return call.connect();
        }
        let result = call.connect();
        if result == Err(libc::EINPROGRESS) {
            self.put(fd, Attempt { during, after });
        } else {
            let _ = set_user_timeout(call.real, fd, after);
        }
        result
    }

    /// Puts the value back if the attempt on `fd` is over. Leaves `errno` alone.
    pub fn settle(&self, real: &Real, fd: c_int) {
        if self.any() && self.get(fd).is_some() {
            errno::preserved(|| {
                if !goes_on(real, fd) {
                    self.finish(real, fd);
                }
            });
        }
    }

    /// The descriptors on which the calling thread has begun an attempt.
    fn of_this_thread(&self) -> impl Iterator<Item = c_int> {
        let thread = this_thread();
        (0..self.end.load(Ordering::Relaxed))
            .zip(&self.slots)
            .filter(|(_, slot)| slot.attempt.load(Ordering::Acquire) != 0)
            .take(self.pending.load(Ordering::Relaxed))
            .filter(move |(_, slot)| slot.thread.load(Ordering::Relaxed) == thread)
            .filter_map(|(fd, _)| c_int::try_from(fd).ok())
    }

    /// Puts the value back on every socket whose attempt the calling thread has begun and is over. Leaves `errno` alone.
    pub fn sweep(&self, real: &Real) {
        errno::preserved(|| {
            let mut batch = [libc::pollfd { fd: -1, events: libc::POLLOUT, revents: 0 }; BATCH];
            let mut fds = self.of_this_thread();
            loop {
                let mut filled = 0;
                for (entry, fd) in batch.iter_mut().zip(fds.by_ref()) {
                    *entry = libc::pollfd { fd, events: libc::POLLOUT, revents: 0 };
                    filled += 1;
                }
                if filled == 0 {
                    break;
                }
                // SAFETY: the first `filled` entries of a live array; a timeout of 0 does not wait.
                if unsafe { (real.poll)(batch.as_mut_ptr(), filled as libc::nfds_t, 0) } > 0 {
                    for entry in batch.iter().take(filled).filter(|entry| entry.revents != 0) {
                        self.finish(real, entry.fd);
                    }
                }
            }
        });
    }

    fn finish(&self, real: &Real, fd: c_int) {
        let Some(attempt @ Attempt { during, after }) = self.get(fd) else { return };
        if user_timeout(real, fd) == Ok(during) {
            let _ = set_user_timeout(real, fd, after);
            log::debug!("fd {fd}: the attempt is over; TCP_USER_TIMEOUT is {after}ms again");
        }
        // Only now, so that another thread that finds no attempt finds the value that should hold.
        self.clear(fd, attempt);
    }

    /// Forgets `fd`: its number is another socket's now.
    pub fn forget(&self, fd: c_int) {
        if self.any()
            && let Some(attempt) = self.get(fd)
        {
            self.clear(fd, attempt);
        }
    }

    /// `new` is another number of `old`.
    pub fn duplicate(&self, old: c_int, new: c_int) {
        if self.any()
            && let Some(attempt) = self.get(old)
        {
            self.put(new, attempt);
        }
    }

    /// After a program's own setsockopt(2) of `TCP_USER_TIMEOUT`: if an attempt is going on, that value (or `planned`,
    /// where the environment wins) is put back after it. Whether there was one.
    pub fn set_by_program(&self, real: &Real, fd: c_int, planned: Option<c_int>) -> bool {
        let Some(attempt) = self.get(fd) else { return false };
        errno::preserved(|| {
            let Ok(now) = user_timeout(real, fd) else { return false };
            let after = planned.map_or(now, c_int::unsigned_abs);
            self.replace(fd, attempt, Attempt { after, ..attempt }.pack()); // it stays its thread's
            set_user_timeout(real, fd, attempt.during).is_ok()
        })
    }

    /// What `TCP_USER_TIMEOUT` the program shall read: not that of the attempt.
    ///
    /// # Safety
    /// `value` and `len` are those of a getsockopt(2) of it that has succeeded.
    pub unsafe fn conceal(&self, fd: c_int, value: *mut c_void, len: *const socklen_t) {
        if let Some(attempt) = self.get(fd) {
            // SAFETY: the kernel has just written so many bytes there.
            unsafe {
                let bytes = (*len as usize).min(size_of::<u32>());
                std::ptr::copy_nonoverlapping((&raw const attempt.after).cast::<u8>(), value.cast(), bytes);
            }
        }
    }
}

fn user_timeout(real: &Real, fd: c_int) -> Result<u32, c_int> {
    real.get_int(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT).map(c_int::cast_unsigned)
}

fn set_user_timeout(real: &Real, fd: c_int, ms: u32) -> Result<(), c_int> {
    real.set_int(fd, libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, ms.cast_signed())
}

/// Whether an attempt goes on.
#[must_use]
pub fn goes_on(real: &Real, fd: c_int) -> bool {
    matches!(real.tcp_state(fd), Some(SYN_SENT | SYN_RECV))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn packs_and_unpacks() {
        for attempt in [Attempt { during: 1, after: 0 }, Attempt { during: u32::MAX, after: u32::MAX }] {
            assert_eq!(Attempt::unpack(attempt.pack()), Some(attempt));
        }
        assert_eq!(Attempt::unpack(0), None);
    }

    #[test]
    fn counts_what_is_pending() {
        let table = Attempts::new();
        assert!(!table.any());
        table.put(7, Attempt { during: 1500, after: 0 });
        table.put(7, Attempt { during: 3000, after: 9 });
        assert!(table.any());
        table.duplicate(7, 9);
        assert_eq!(table.get(9), table.get(7));
        assert_eq!(table.get(7), Some(Attempt { during: 3000, after: 9 }));
        table.clear(7, Attempt { during: 1500, after: 0 });
        assert!(table.get(7).is_some(), "another attempt by now");
        assert!(table.of_this_thread().eq([7, 9]));
        std::thread::scope(|s| {
            s.spawn(|| assert_eq!(table.of_this_thread().count(), 0, "another thread's"));
        });
        table.forget(7);
        table.forget(9);
        assert!(!table.any());
        for fd in [-1, c_int::MAX] {
            table.put(fd, Attempt { during: 1, after: 1 });
            table.forget(fd);
            assert!(!table.any());
        }
    }
}
