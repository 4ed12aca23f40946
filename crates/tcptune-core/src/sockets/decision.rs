//! What to do with a call: pure, and the same in the shim, in tests and in `tcptune`.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;

use libc::c_int;

use crate::options::phase::Stages;
use crate::settings::profile::{Planned, Precedence, Profile};
use crate::sockets::family::Family;

/// Why a call is forwarded as it is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reason {
    /// Not TCP over IPv4 or IPv6.
    NotTcp,
    /// No `CONNECT_TIMEOUT`.
    NoConnectTimeout,
    /// Nonblocking MPTCP: the kernel offers nothing that would end the attempt.
    MptcpNonblocking,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::NotTcp => "not TCP",
            Self::NoConnectTimeout => "no connect timeout",
            Self::MptcpNonblocking => "nonblocking MPTCP has no TCP_USER_TIMEOUT",
        })
    }
}

/// How a connect is bounded.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Bound {
    /// Not at all.
    Leave(Reason),
    /// By poll(2), to a deadline so many milliseconds away: the program expects connect to wait.
    Poll(c_int),
    /// By the kernel, after so many milliseconds: the program expects `EINPROGRESS` at once.
    Kernel(c_int),
}

/// How a connect on a socket with these file status flags is bounded. `flags` is asked only where it matters.
pub fn bound(profile: Option<&Profile>, family: Family, flags: impl FnOnce() -> Option<c_int>) -> Bound {
    if family == Family::Other {
        return Bound::Leave(Reason::NotTcp);
    }
    let Some(ms) = profile.and_then(Profile::connect_timeout) else {
        return Bound::Leave(Reason::NoConnectTimeout);
    };
    match flags() {
        Some(flags) if flags & libc::O_NONBLOCK == 0 => Bound::Poll(ms),
        Some(_) if family == Family::Mptcp => Bound::Leave(Reason::MptcpNonblocking),
        Some(_) => Bound::Kernel(ms),
        None => Bound::Leave(Reason::NotTcp), // no descriptor at all: the kernel has the answer
    }
}

/// The setting that has to follow a program's own successful setsockopt(2) on a socket that has passed these stages, so
/// that the environment wins. What a later stage applies need not follow.
#[must_use]
pub fn follow_up(profile: &Profile, level: c_int, optname: c_int, passed: Stages) -> Option<Planned> {
    match profile.precedence() {
        Precedence::Env => profile.planned(level, optname, passed),
        Precedence::Program => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::value::Value;
    use crate::settings::settle;
    use libc::*;

    fn profile(variables: &[(&str, &str)]) -> Profile {
        settle::parse(variables, || unreachable!()).0.profiles.remove(0)
    }

    #[test]
    fn what_is_tcp() {
        for domain in [AF_INET, AF_INET6] {
            for flags in [0, SOCK_CLOEXEC, SOCK_NONBLOCK, SOCK_CLOEXEC | SOCK_NONBLOCK] {
                for (protocol, family) in [
                    (0, Family::Tcp),
                    (IPPROTO_TCP, Family::Tcp),
                    (IPPROTO_MPTCP, Family::Mptcp),
                    (IPPROTO_SCTP, Family::Other),
                    (IPPROTO_UDP, Family::Other),
                ] {
                    assert_eq!(Family::of_arguments(domain, SOCK_STREAM | flags, protocol), family);
                    assert_eq!(Family::of_arguments(domain, SOCK_DGRAM | flags, protocol), Family::Other);
                    assert_eq!(Family::of_arguments(domain, SOCK_RAW | flags, protocol), Family::Other);
                }
            }
        }
        for domain in [AF_UNIX, AF_NETLINK, AF_PACKET, AF_VSOCK, -1] {
            assert_eq!(Family::of_arguments(domain, SOCK_STREAM, 0), Family::Other);
            assert_eq!(Family::of_arguments(domain, SOCK_STREAM, IPPROTO_TCP), Family::Other);
        }
        assert_eq!(Family::of_arguments(AF_INET, 0x7fff_ffff, 0), Family::Other);
    }

    #[test]
    fn the_file_status_flags_choose_who_bounds_a_connect() {
        let s = profile(&[("CONNECT_TIMEOUT", "3")]);
        let poll = Bound::Poll(3000);
        for family in [Family::Tcp, Family::Mptcp] {
            assert_eq!(bound(Some(&s), family, || Some(O_RDWR | O_APPEND)), poll);
        }
        assert_eq!(bound(Some(&s), Family::Tcp, || Some(O_RDWR | O_NONBLOCK)), Bound::Kernel(3000));
        let leave = Bound::Leave(Reason::MptcpNonblocking);
        assert_eq!(bound(Some(&s), Family::Mptcp, || Some(O_RDWR | O_NONBLOCK)), leave);
        assert!(matches!(bound(Some(&s), Family::Tcp, || None), Bound::Leave(_)));
    }

    #[test]
    fn flags_are_not_asked_for_where_nothing_is_bounded() {
        let s = profile(&[("CONNECT_TIMEOUT", "3")]);
        assert_eq!(bound(Some(&s), Family::Other, || unreachable!()), Bound::Leave(Reason::NotTcp));
        let s = profile(&[("NODELAY", "1")]);
        assert_eq!(bound(Some(&s), Family::Tcp, || unreachable!()), Bound::Leave(Reason::NoConnectTimeout));
    }

    #[test]
    fn only_the_environments_own_options_are_followed_up() {
        let followed =
            |profile: &Profile, level, optname, passed| follow_up(profile, level, optname, passed).map(|p| p.value());
        let env = profile(&[("KEEPIDLE", "5"), ("REUSEADDR", "on"), ("TOS", "16")]);
        let made = Stages::SOCKET;
        assert_eq!(followed(&env, IPPROTO_TCP, TCP_KEEPIDLE, made), Some(Value::Int(5)));
        assert_eq!(followed(&env, SOL_SOCKET, SO_KEEPALIVE, made), Some(Value::Int(1)));
        assert_eq!(followed(&env, IPPROTO_TCP, TCP_KEEPINTVL, made), None);
        assert_eq!(followed(&env, SOL_SOCKET, TCP_KEEPIDLE, made), None);
        assert_eq!(followed(&env, SOL_SOCKET, SO_REUSEADDR, made), None, "bind will");
        assert_eq!(followed(&env, SOL_SOCKET, SO_REUSEADDR, made.or(Stages::BIND)), Some(Value::Int(1)));
        for (level, optname) in [(IPPROTO_IP, IP_TOS), (IPPROTO_IPV6, IPV6_TCLASS)] {
            assert_eq!(followed(&env, level, optname, made), Some(Value::Int(16)));
        }
        let program = profile(&[("KEEPIDLE", "5"), ("PRECEDENCE", "program")]);
        assert_eq!(followed(&program, IPPROTO_TCP, TCP_KEEPIDLE, made), None);
    }
}
