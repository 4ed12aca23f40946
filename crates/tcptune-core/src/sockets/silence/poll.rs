//! poll(2) and ppoll(2).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, c_short, nfds_t, pollfd};

use super::{FOREVER, Silence, Wait};

/// Not the urgent byte, which may never be sent.
const READABLE: c_short = libc::POLLIN | libc::POLLRDNORM;
const WRITABLE: c_short = libc::POLLOUT | libc::POLLWRNORM;
const BROKEN: c_short = libc::POLLERR | libc::POLLHUP | libc::POLLNVAL;

impl Silence {
    /// Waits as `call` does, which takes a time in nanoseconds, [`FOREVER`] for no end.
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
        // SAFETY: the kernel has just read them, and written to them.
        self.in_parts(timeout, call, |time, _| unsafe { self.waited_on_entries(entries, count, time) })
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
