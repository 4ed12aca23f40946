//! Which socket a descriptor is: its number may be another's by now.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::c_int;

use crate::system::{files, network};

/// What no other open socket has: `SO_COOKIE`, or before Linux 4.12 the inode.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Identity(u64);

impl Identity {
    /// That of a descriptor; `None` if it is closed, or no socket.
    #[must_use]
    #[inline(never)] // for the stack: a connect has little
    pub fn of(fd: c_int) -> Option<Self> {
        network::option(fd, libc::SO_COOKIE, 0u64).map_or_else(|_| Self::by_inode(fd), |cookie| Some(Self(cookie)))
    }

    /// As a number that may be kept.
    #[must_use]
    pub const fn number(self) -> u64 {
        self.0
    }

    #[cold]
    #[inline(never)]
    fn by_inode(fd: c_int) -> Option<Self> {
        let status = files::status(fd).ok()?;
        (status.st_mode & libc::S_IFMT == libc::S_IFSOCK).then_some(Self(status.st_ino))
    }
}
