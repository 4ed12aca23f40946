//! Rules: which of several profiles holds for a socket, by where it connects to or listens.
//!
//! Program and user id are the same for the whole life of a process, so they are settled at start-up. What is left is
//! looked up on the hook path, in tables of the first rule that may match: no allocation, 8 bytes a rule for IPv4.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};
use std::ops::{BitAnd, BitXor};

use ipnet::IpNet;

/// Which end of a connection a socket is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Role {
    /// It connects.
    Client,
    /// It listens, or has been accepted by one that does.
    Server,
}

/// What must hold of a socket. All of it must.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::disallowed_types, reason = "made at start-up")]
pub struct Conditions {
    /// Peer of a connect: one of these networks.
    pub dst: Vec<IpNet>,
    /// Address the socket is bound to: in one of these networks.
    pub src: Vec<IpNet>,
    /// Port of the peer of a connect, or of a listener: in one of these ranges.
    pub ports: Vec<(u16, u16)>,
    /// Which end it is.
    pub role: Option<Role>,
}

impl Conditions {
    /// Whether they hold of every socket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// A socket that connects or listens.
#[derive(Clone, Copy, Debug)]
pub enum Endpoint {
    /// One that connects to this peer.
    Client(SocketAddr),
    /// One that is bound to this address.
    Server(SocketAddr),
}

impl fmt::Display for Endpoint {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Client(peer) => write!(f, "connects to {peer}"),
            Self::Server(own) => write!(f, "is bound to {own}"),
        }
    }
}

/// A network as address and mask.
#[derive(Clone, Copy, Debug)]
struct Prefix<A> {
    network: A,
    mask: A,
}

impl<A: Copy + BitXor<Output = A> + BitAnd<Output = A> + Default + PartialEq> Prefix<A> {
    #[inline]
    fn contains(self, address: A) -> bool {
        (self.network ^ address) & self.mask == A::default()
    }
}

/// What remains to be looked at once the peer's address matches.
#[derive(Clone, Copy, Debug)]
struct Rest {
    src: Option<IpNet>,
    ports: (u16, u16),
    profile: u32,
}

impl Rest {
    fn holds(&self, port: u16, src: Option<IpAddr>) -> bool {
        let (first, last) = self.ports;
        (first..=last).contains(&port) && self.src.is_none_or(|net| src.is_some_and(|src| net.contains(&src)))
    }
}

/// The rules of one kind of socket, in order.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types, reason = "made at start-up")]
struct Table<A> {
    dst: Vec<Prefix<A>>,
    rest: Vec<Rest>,
}

impl<A: Copy + BitXor<Output = A> + BitAnd<Output = A> + Default + PartialEq> Table<A> {
    fn push(&mut self, dst: Prefix<A>, rest: Rest) {
        self.dst.push(dst);
        self.rest.push(rest);
    }

    fn find(&self, address: A, port: u16, src: Option<IpAddr>) -> Option<u32> {
        let matching = self.dst.iter().zip(&self.rest).filter(|(dst, _)| dst.contains(address));
        matching.map(|(_, rest)| rest).find(|rest| rest.holds(port, src)).map(|rest| rest.profile)
    }
}

/// The rules of the process.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types, reason = "made at start-up")]
pub struct Rules {
    clients_v4: Table<u32>,
    clients_v6: Table<u128>,
    servers: Vec<Rest>,
    /// Whether a client's own address is asked for.
    src: bool,
    /// What holds where no rule matches.
    fallback: u32,
}

const EVERY_PORT: (u16, u16) = (0, u16::MAX);

/// The list, or one that stands for everything where it is empty.
fn or_any<T: Copy>(list: &[T]) -> impl Iterator<Item = Option<T>> + Clone {
    list.iter().copied().map(Some).chain(list.is_empty().then_some(None))
}

impl Rules {
    /// Adds a rule after those that are there.
    pub fn push(&mut self, conditions: &Conditions, profile: u32) {
        for src in or_any(&conditions.src) {
            for ports in or_any(&conditions.ports) {
                let rest = Rest { src, ports: ports.unwrap_or(EVERY_PORT), profile };
                if conditions.role != Some(Role::Client) && conditions.dst.is_empty() {
                    self.servers.push(rest);
                }
                if conditions.role != Some(Role::Server) {
                    self.src |= src.is_some();
                    or_any(&conditions.dst).for_each(|dst| self.push_client(dst, rest));
                }
            }
        }
    }

    fn push_client(&mut self, dst: Option<IpNet>, rest: Rest) {
        // An IPv4 peer is reached from an IPv4 address.
        let v4 = !matches!(dst, Some(IpNet::V6(_))) && !matches!(rest.src, Some(IpNet::V6(_)));
        let v6 = !matches!(dst, Some(IpNet::V4(_))) && !matches!(rest.src, Some(IpNet::V4(_)));
        if v4 {
            let network =
                if let Some(IpNet::V4(net)) = dst { (net.network(), net.netmask()) } else { (0.into(), 0.into()) };
            self.clients_v4.push(Prefix { network: network.0.to_bits(), mask: network.1.to_bits() }, rest);
        }
        if v6 {
            let network =
                if let Some(IpNet::V6(net)) = dst { (net.network(), net.netmask()) } else { (0.into(), 0.into()) };
            self.clients_v6.push(Prefix { network: network.0.to_bits(), mask: network.1.to_bits() }, rest);
        }
    }

    /// Ends the rules: this profile holds where none of them matches.
    pub fn end(&mut self, fallback: u32) {
        self.fallback = fallback;
    }

    /// Whether no rule looks at a socket's addresses: one profile holds for all of them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.clients_v4.rest.is_empty() && self.clients_v6.rest.is_empty() && self.servers.is_empty()
    }

    /// What holds where no rule matches.
    #[must_use]
    pub fn fallback(&self) -> u32 {
        self.fallback
    }

    /// The profile of the first rule that matches. `local` is asked for a client's own address where a rule needs it.
    /// A v4-mapped IPv6 address is the IPv4 address (RFC 4291, section 2.5.5.2).
    pub fn find(&self, endpoint: Endpoint, local: impl FnOnce() -> Option<IpAddr>) -> u32 {
        let found = match endpoint {
            Endpoint::Client(peer) => {
                let src = if self.src { local().map(|src| src.to_canonical()) } else { None };
                match peer.ip().to_canonical() {
                    IpAddr::V4(v4) => self.clients_v4.find(v4.to_bits(), peer.port(), src),
                    IpAddr::V6(v6) => self.clients_v6.find(v6.to_bits(), peer.port(), src),
                }
            }
            Endpoint::Server(own) => {
                let src = Some(own.ip().to_canonical());
                self.servers.iter().find(|rest| rest.holds(own.port(), src)).map(|rest| rest.profile)
            }
        };
        found.unwrap_or(self.fallback)
    }
}

/// Whether a glob, in which `*` stands for any characters, matches the whole name.
#[must_use]
pub fn glob(pattern: &str, name: &str) -> bool {
    let Some((first, rest)) = pattern.split_once('*') else { return pattern == name };
    let Some(mut name) = name.strip_prefix(first) else { return false };
    let mut parts = rest.split('*').peekable();
    while let Some(part) = parts.next() {
        if parts.peek().is_none() {
            return name.ends_with(part);
        }
        let Some(at) = name.find(part) else { return false };
        name = name.get(at + part.len()..).unwrap_or_default();
    }
    true
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::disallowed_types, reason = "not on a hook path")]
mod tests {
    use super::*;

    fn nets(list: &[&str]) -> Vec<IpNet> {
        list.iter().map(|net| net.parse().expect("a network")).collect()
    }

    fn rules(list: &[Conditions]) -> Rules {
        let mut rules = Rules::default();
        for (conditions, profile) in list.iter().zip(1..) {
            rules.push(conditions, profile);
        }
        rules
    }

    fn client(rules: &Rules, peer: &str) -> u32 {
        rules.find(Endpoint::Client(peer.parse().expect("a peer")), || None)
    }

    fn server(rules: &Rules, own: &str) -> u32 {
        rules.find(Endpoint::Server(own.parse().expect("an address")), || None)
    }

    #[test]
    fn networks_of_both_families() {
        let v4 = Conditions { dst: nets(&["10.0.0.0/8", "127.0.0.1/32"]), ..Conditions::default() };
        let v6 = Conditions { dst: nets(&["fe80::/10", "::/0"]), ..Conditions::default() };
        let rules = rules(&[v4, v6]);
        for (peer, profile) in [
            ("10.255.0.1:1", 1),
            ("[::ffff:10.1.2.3]:1", 1),
            ("11.0.0.1:1", 0),
            ("[::ffff:11.0.0.1]:1", 0),
            ("127.0.0.1:1", 1),
            ("127.0.0.2:1", 0),
            ("[fe80::1]:1", 2),
            ("[2001:db8::1]:1", 2),
        ] {
            assert_eq!(client(&rules, peer), profile, "{peer}");
        }
        assert_eq!(server(&rules, "127.0.0.1:1"), 0, "a listener has no peer");
    }

    #[test]
    fn all_must_hold_and_the_first_wins() {
        let rules = rules(&[
            Conditions { dst: nets(&["10.0.0.0/8"]), ports: vec![(80, 80), (5432, 5439)], ..Conditions::default() },
            Conditions { dst: nets(&["10.0.0.0/8"]), ..Conditions::default() },
            Conditions { ports: vec![(80, 80)], role: Some(Role::Client), ..Conditions::default() },
            Conditions { role: Some(Role::Server), src: nets(&["127.0.0.0/8"]), ..Conditions::default() },
        ]);
        for (peer, profile) in [
            ("10.0.0.1:80", 1),
            ("10.0.0.1:5439", 1),
            ("10.0.0.1:5440", 2),
            ("11.0.0.1:80", 3),
            ("[::1]:80", 3),
            ("[::1]:81", 0),
        ] {
            assert_eq!(client(&rules, peer), profile, "{peer}");
        }
        assert_eq!((server(&rules, "127.0.0.1:80"), server(&rules, "0.0.0.0:80")), (4, 0));
    }

    #[test]
    fn the_source_is_asked_for_only_where_a_rule_needs_it() {
        let peer = Endpoint::Client("10.0.0.1:80".parse().expect("a peer"));
        let without = rules(&[Conditions { role: Some(Role::Client), ..Conditions::default() }]);
        assert_eq!(without.find(peer, || unreachable!()), 1);
        let with = rules(&[Conditions { src: nets(&["10.9.0.0/16"]), ..Conditions::default() }]);
        for (own, profile) in [("10.9.0.1", 1), ("::ffff:10.9.0.1", 1), ("10.8.0.1", 0), ("::", 0)] {
            assert_eq!(with.find(peer, || own.parse().ok()), profile, "{own}");
        }
        assert_eq!(with.find(peer, || None), 0);
    }

    #[test]
    fn globs() {
        for (pattern, name) in
            [("curl", "curl"), ("*", ""), ("python*", "python3.11"), ("*d", "sshd"), ("a*b*c", "aXbYbc"), ("**", "x")]
        {
            assert!(glob(pattern, name), "{pattern} {name}");
        }
        for (pattern, name) in
            [("curl", "curl2"), ("python*", "cpython"), ("*d", "sshdx"), ("a*b*c", "acb"), ("a*a", "a"), ("", "x")]
        {
            assert!(!glob(pattern, name), "{pattern} {name}");
        }
    }
}
