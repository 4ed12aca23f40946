//! What a socket is: TCP, Multipath TCP, or something that is left alone.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::c_int;

/// What a descriptor is, as far as tcptune cares.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Family {
    /// TCP over IPv4 or IPv6.
    Tcp,
    /// Multipath TCP over IPv4 or IPv6; it refuses some options of TCP.
    Mptcp,
    /// Anything else: left alone.
    Other,
}

impl Family {
    /// What socket(2) makes of these arguments. Protocol 0 of a stream socket is TCP (ip(7)).
    #[must_use]
    pub const fn of_arguments(domain: c_int, r#type: c_int, protocol: c_int) -> Self {
        if matches!(domain, libc::AF_INET | libc::AF_INET6) {
            Self::of_socket(r#type, if protocol == 0 { libc::IPPROTO_TCP } else { protocol })
        } else {
            Self::Other
        }
    }

    /// What a socket with this `SO_TYPE` and `SO_PROTOCOL` is. The type tells TCP from a raw socket that reads TCP.
    #[must_use]
    pub const fn of_socket(r#type: c_int, protocol: c_int) -> Self {
        match (r#type & !(libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK), protocol) {
            (libc::SOCK_STREAM, libc::IPPROTO_TCP) => Self::Tcp,
            (libc::SOCK_STREAM, libc::IPPROTO_MPTCP) => Self::Mptcp,
            _ => Self::Other,
        }
    }
}
