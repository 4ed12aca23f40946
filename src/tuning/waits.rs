//! Waits of the program: an attempt that is due meanwhile is settled.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, nfds_t, pollfd};
use tcptune_core::sockets::connect;
use tcptune_core::system::{clock, errno};

use super::Tuning;
use crate::hooks::time::{FOREVER, MILLISECOND};

impl Tuning {
    /// Nanoseconds until an attempt is due; what is due by now is settled.
    #[inline]
    fn until_due(&self) -> u64 {
        let Some(due) = self.attempts.next_due() else { return FOREVER };
        let now = clock::at_last_tick();
        let due = if due <= now { self.settle_due(now) } else { due };
        due.saturating_sub(now).saturating_mul(MILLISECOND)
    }

    #[cold]
    fn settle_due(&self, now: u64) -> u64 {
        self.attempts.settle_due(&self.real, now);
        self.attempts.next_due().map_or(FOREVER, |due| due.max(now + 1))
    }

    /// Waits up to `limit` nanoseconds, in parts that end where an attempt is due. Signals are as in one wait: a part that a
    /// handler ends ends it all.
    #[inline(never)]
    pub fn wait(&self, limit: u64, part: &mut dyn FnMut(u64) -> c_int) -> c_int {
        let due = self.until_due();
        if limit <= due {
            return part(limit);
        }
        let result = part(due);
        if result != 0 { result } else { self.wait_on(if limit == FOREVER { FOREVER } else { limit - due }, part) }
    }

    #[cold]
    fn wait_on(&self, limit: u64, part: &mut dyn FnMut(u64) -> c_int) -> c_int {
        let end = clock::nanoseconds().saturating_add(limit);
        loop {
            let due = self.until_due();
            let left = if limit == FOREVER { FOREVER } else { end.saturating_sub(clock::nanoseconds()) };
            let result = part(left.min(due));
            if result != 0 || left <= due {
                return result;
            }
        }
    }

    /// Before a call on `fd`.
    #[inline(never)]
    pub fn settle_one(&self, fd: c_int) {
        self.attempts.settle(&self.real, fd);
    }

    /// Before a call on `fd` that sends or receives. A call that would wait for the attempt to be over waits here first:
    /// the kernel would let it send before the user timeout is put back. Returns whether a signal handler has
    /// interrupted this wait; `errno` is `EINTR` then.
    #[inline(never)]
    pub fn is_interrupted(&self, fd: c_int, flags: c_int) -> bool {
        self.attempts.settle(&self.real, fd)
            && flags & libc::MSG_DONTWAIT == 0
            && self.blocks(fd)
            && self.is_interrupted_while_waiting(fd)
    }

    #[inline(never)] // for the stack of those that need not wait
    fn is_interrupted_while_waiting(&self, fd: c_int) -> bool {
        let call = self.call(fd, (ptr::null(), 0));
        let interrupted = errno::preserved(|| {
            let own = [libc::SO_RCVTIMEO, libc::SO_SNDTIMEO].map(|name| connect::timeout(fd, name));
            let own = own.into_iter().flatten().min();
            loop {
                let limit = self.attempts.time_left(fd).max(1).saturating_mul(MILLISECOND);
                if own.is_some_and(|own| own < limit) {
                    return false; // it ends in time
                }
                if connect::is_interrupted(&call, limit, own.is_some()) {
                    return true;
                }
                if !self.attempts.settle(&self.real, fd) {
                    return false;
                }
            }
        });
        if interrupted {
            errno::set(libc::EINTR);
        }
        interrupted
    }

    /// After a poll(2): settles what it reports.
    #[inline(never)]
    pub fn settle_polled(&self, fds: *const pollfd, count: nfds_t, result: c_int) {
        let reported = usize::try_from(result).unwrap_or(0);
        let count = if reported == 0 { 0 } else { usize::try_from(count).unwrap_or(0) };
        // SAFETY: the kernel has just written to so many.
        let entries = (0..count).map(|index| unsafe { *fds.add(index) });
        for entry in entries.filter(|entry| entry.revents != 0).take(reported) {
            self.attempts.settle(&self.real, entry.fd);
        }
    }
}
