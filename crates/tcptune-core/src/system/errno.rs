//! `errno`, which a successful call must leave as it was (errno(3)).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::c_int;

/// The calling thread's `errno`.
#[must_use]
pub fn get() -> c_int {
    // SAFETY: __errno_location returns the calling thread's errno, valid as long as the thread.
    unsafe { *libc::__errno_location() }
}

/// Sets the calling thread's `errno`.
pub fn set(value: c_int) {
    // SAFETY: as in `get`.
    unsafe { *libc::__errno_location() = value }
}

/// Runs `work`, which may fail calls of its own, and leaves `errno` as it was.
pub fn preserved<T>(work: impl FnOnce() -> T) -> T {
    let before = get();
    let result = work();
    set(before);
    result
}

/// Displays an errno by name where a refused call, or a connect, is likely to give it. strerror(3) may allocate.
#[derive(Clone, Copy, Debug)]
pub struct Named(pub c_int);

impl std::fmt::Display for Named {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.write_str(match self.0 {
            libc::EPERM => "EPERM",
            libc::ENOENT => "ENOENT",
            libc::EBADF => "EBADF",
            libc::ENOMEM => "ENOMEM",
            libc::EACCES => "EACCES",
            libc::EADDRNOTAVAIL => "EADDRNOTAVAIL",
            libc::EADDRINUSE => "EADDRINUSE",
            libc::EAFNOSUPPORT => "EAFNOSUPPORT",
            libc::EALREADY => "EALREADY",
            libc::EBUSY => "EBUSY",
            libc::ECONNREFUSED => "ECONNREFUSED",
            libc::EDOM => "EDOM",
            libc::EHOSTUNREACH => "EHOSTUNREACH",
            libc::EINPROGRESS => "EINPROGRESS",
            libc::EINTR => "EINTR",
            libc::EINVAL => "EINVAL",
            libc::EISCONN => "EISCONN",
            libc::ENETUNREACH => "ENETUNREACH",
            libc::ENODEV => "ENODEV",
            libc::ENOTDIR => "ENOTDIR",
            libc::EISDIR => "EISDIR",
            libc::ENFILE => "ENFILE",
            libc::EMFILE => "EMFILE",
            libc::ENOSPC => "ENOSPC",
            libc::EROFS => "EROFS",
            libc::ENXIO => "ENXIO",
            libc::ELOOP => "ELOOP",
            libc::ENOSYS => "ENOSYS",
            libc::ENOPROTOOPT => "ENOPROTOOPT",
            libc::ETIMEDOUT => "ETIMEDOUT",
            libc::EOPNOTSUPP => "EOPNOTSUPP",
            other => return write!(f, "errno {other}"),
        })
    }
}
