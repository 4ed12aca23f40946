//! Which socket a descriptor is: its number may be another's by now.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::{c_int, socklen_t};

use crate::sockets::real::Real;
use crate::system::files;

/// What no other open socket has: `SO_COOKIE`, or before Linux 4.12 the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64);

impl Identity {
    /// That of a descriptor; `None` if it is closed, or no socket.
    #[must_use]
    pub fn of(real: &Real, fd: c_int) -> Option<Self> {
        let mut cookie = 0u64;
        let mut len = socklen_t::try_from(size_of::<u64>()).ok()?;
        let value = (&raw mut cookie).cast();
        // SAFETY: a live u64 and its length.
        let r = unsafe { (real.getsockopt)(fd, libc::SOL_SOCKET, libc::SO_COOKIE, value, &raw mut len) };
        if r == 0 {
            return Some(Self(cookie));
        }
        let status = files::status(fd).ok()?;
        (status.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(Self(status.st_ino))
    }
}
