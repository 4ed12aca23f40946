//! poll(2) and ppoll(2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, c_short, nfds_t, pollfd};

use super::{FOREVER, Silence, Wait};
use crate::system::clock;
use crate::system::errno;

const READABLE: c_short = libc::POLLIN | libc::POLLRDNORM | libc::POLLPRI | libc::POLLRDBAND;
const WRITABLE: c_short = libc::POLLOUT | libc::POLLWRNORM;
const BROKEN: c_short = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;

/// Nanoseconds of the clock.
pub(super) fn nanoseconds() -> u64 {
    u64::try_from(clock::now().as_nanos()).unwrap_or(0)
}

impl Silence {
    /// Waits as `call` does, which takes a time in nanoseconds, [`FOREVER`] for no end.
    ///
    /// The entries are looked at after a part of the wait: the kernel has read them by then, so that a bad pointer has
    /// got its `EFAULT`, and whatever is ready at once costs no look.
    ///
    /// # Safety
    /// `call` is a poll(2) of these entries.
    pub unsafe fn poll(
        &self,
        entries: *const pollfd,
        count: nfds_t,
        timeout: u64,
        call: &mut dyn FnMut(u64) -> c_int,
    ) -> c_int {
        if timeout == 0 {
            return call(0);
        }
        let began = nanoseconds();
        let mut last = began;
        let (mut left, mut bound) = (timeout, self.first_look());
        loop {
            let part = left.min(bound).min(self.until_due());
            let result = call(part);
            if result < 0 && errno::get() != libc::EINTR {
                return result;
            }
            let now = nanoseconds();
            // SAFETY: the kernel has just read them, and written to them.
            bound = unsafe { self.waited_on_entries(entries, count, (last, now)) };
            last = now;
            // What has just been ended is reported at once.
            if result != 0 || part == left && bound != 0 {
                return result;
            }
            if timeout != FOREVER {
                left = timeout.saturating_sub(now.saturating_sub(began));
            }
        }
    }

    /// # Safety
    /// So many entries can be read; none may be null.
    unsafe fn waited_on_entries(&self, entries: *const pollfd, count: nfds_t, time: (u64, u64)) -> u64 {
        let mut bound = FOREVER;
        for index in 0..usize::try_from(count).unwrap_or(0) {
            // SAFETY: the caller's promise.
            let pollfd { fd, events, revents } = unsafe { entries.add(index).read_unaligned() };
            for (wait, wanted) in [(Wait::Receive, READABLE), (Wait::Send, WRITABLE)] {
                if events & wanted != 0 {
                    bound = bound.min(self.waited(fd, wait, time, revents & (wanted | BROKEN) != 0));
                }
            }
        }
        bound
    }
}
