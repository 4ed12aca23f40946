//! Rules: which of several profiles holds for a socket, by where it connects to or listens.
//!
//! Program and user id are the same for the whole life of a process, so they are settled at start-up. What is left is
//! looked up on the hook path, one rule after the other: no allocation, a nanosecond a rule.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;
use std::net::{IpAddr, SocketAddr};

use ipnet::IpNet;

use crate::settings::matches::{Comparison, Ports, Prefix, Table};

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
        self.dst.is_empty() && self.src.is_empty() && self.ports.is_empty() && self.role.is_none()
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

/// A rule for listeners.
#[derive(Clone, Copy, Debug)]
pub struct Listener {
    /// Its address; any, if there is none.
    pub src: Option<IpNet>,
    /// Its port.
    pub ports: Ports,
    /// Index of the profile that then holds.
    pub profile: u32,
}

/// The rules of the process.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types, reason = "made at start-up")]
pub struct Rules {
    /// Most programs have none.
    tables: Option<Box<Tables>>,
    /// What holds where no rule matches.
    fallback: u32,
}

#[derive(Debug, Default)]
#[allow(clippy::disallowed_types, reason = "made at start-up")]
struct Tables {
    clients_v4: Table<u32, 1>,
    clients_v6: Table<u128, 4>,
    servers: Vec<Listener>,
    /// Whether a client's own address is asked for.
    src: bool,
    /// So many rules there may be.
    room: usize,
}

/// Each of the list; none, once, where it is empty and stands for everything.
#[inline]
fn each<T>(list: &[T]) -> impl Iterator<Item = Option<&T>> {
    (0..list.len().max(1)).map(|at| list.get(at))
}

/// As a prefix of IPv4; one that stands for everything, if it may be any. None if it is of IPv6.
#[inline]
fn v4(net: Option<&IpNet>) -> Option<Prefix<u32>> {
    match net {
        None => Some(Prefix::default()),
        Some(IpNet::V4(net)) => Some(Prefix { network: net.network().to_bits(), mask: net.netmask().to_bits() }),
        Some(IpNet::V6(_)) => None,
    }
}

/// The same of IPv6.
#[inline]
fn v6(net: Option<&IpNet>) -> Option<Prefix<u128>> {
    match net {
        None => Some(Prefix::default()),
        Some(IpNet::V6(net)) => Some(Prefix { network: net.network().to_bits(), mask: net.netmask().to_bits() }),
        Some(IpNet::V4(_)) => None,
    }
}

impl Tables {
    fn push(&mut self, conditions: &Conditions, profile: u32) {
        let Conditions { dst, src, ports, role } = conditions;
        // Most rules look at one IPv4 network, and at a port or none.
        if let ([net @ IpNet::V4(_)], [], [] | [_], None | Some(Role::Client)) = (&dst[..], &src[..], &ports[..], role)
            && let Some(dst) = v4(Some(net))
        {
            let (ports, src) = (ports.first().copied().map_or(Ports::ALL, Ports::new), Prefix::default());
            return self.clients_v4.push(self.room, Comparison { dst, ports, src, profile });
        }
        self.src |= !src.is_empty() && *role != Some(Role::Server);
        for src in each(src) {
            for ports in each(ports) {
                let ports = ports.copied().map_or(Ports::ALL, Ports::new);
                if *role != Some(Role::Client) && dst.is_empty() {
                    if self.servers.is_empty() {
                        self.servers.reserve_exact(self.room);
                    }
                    self.servers.push(Listener { src: src.copied(), ports, profile });
                }
                if *role == Some(Role::Server) {
                    continue;
                }
                for dst in each(dst) {
                    // An IPv4 peer is reached from an IPv4 address.
                    if let (Some(dst), Some(src)) = (v4(dst), v4(src)) {
                        self.clients_v4.push(self.room, Comparison { dst, ports, src, profile });
                    }
                    if let (Some(dst), Some(src)) = (v6(dst), v6(src)) {
                        self.clients_v6.push(self.room, Comparison { dst, ports, src, profile });
                    }
                }
            }
        }
    }

    /// Adds the rules of others behind these.
    fn append(&mut self, mut others: Self) {
        self.clients_v4.append(&others.clients_v4);
        self.clients_v6.append(&others.clients_v6);
        self.servers.append(&mut others.servers);
        self.src |= others.src;
    }

    /// Numbers the profiles from another one on.
    fn shift(&mut self, by: u32) {
        let profiles = self.clients_v4.profiles().chain(self.clients_v6.profiles());
        profiles.chain(self.servers.iter_mut().map(|rule| &mut rule.profile)).for_each(|profile| *profile += by);
    }

    fn is_empty(&self) -> bool {
        self.clients_v4.is_empty() && self.clients_v6.is_empty() && self.servers.is_empty()
    }

    // Several functions, for the stack: a connect has little.

    fn find(&self, endpoint: &Endpoint, local: impl FnOnce() -> Option<IpAddr>) -> Option<u32> {
        match endpoint {
            Endpoint::Client(peer) => self.find_client(peer, if self.src { local() } else { None }),
            Endpoint::Server(own) => self.find_server(own),
        }
    }

    #[inline(never)]
    fn find_client(&self, peer: &SocketAddr, src: Option<IpAddr>) -> Option<u32> {
        // Not bound yet, or of the other family: as unspecified.
        match (peer.ip().to_canonical(), src.map(|src| src.to_canonical())) {
            (IpAddr::V4(v4), src) => {
                let src = if let Some(IpAddr::V4(src)) = src { src.to_bits() } else { 0 };
                self.clients_v4.find(v4.to_bits(), peer.port(), src)
            }
            (IpAddr::V6(v6), src) => {
                let src = if let Some(IpAddr::V6(src)) = src { src.to_bits() } else { 0 };
                self.clients_v6.find(v6.to_bits(), peer.port(), src)
            }
        }
    }

    #[inline(never)]
    fn find_server(&self, own: &SocketAddr) -> Option<u32> {
        let (ip, port) = (own.ip().to_canonical(), own.port());
        let holds = |rule: &&Listener| rule.ports.contains(port) && rule.src.is_none_or(|net| net.contains(&ip));
        self.servers.iter().find(holds).map(|rule| rule.profile)
    }
}

impl Rules {
    /// Adds a rule after those that are there.
    pub fn push(&mut self, conditions: &Conditions, profile: u32) {
        self.tables.get_or_insert_default().push(conditions, profile);
    }

    /// Makes room for so many rules, in each table that has one.
    pub fn reserve(&mut self, rules: usize) {
        self.tables.get_or_insert_default().room = rules;
    }

    /// Adds the rules of another source after those that are there; their first profile is this one.
    pub fn append(&mut self, others: Self, first: u32) {
        let Some(mut others) = others.tables else { return };
        if first != 0 {
            others.shift(first);
        }
        match &mut self.tables {
            Some(tables) => tables.append(*others),
            None => self.tables = Some(others),
        }
    }

    /// Ends the rules: this profile holds where none of them matches.
    pub fn end(&mut self, fallback: u32) {
        self.fallback = fallback;
    }

    /// Whether no rule looks at a socket's addresses: one profile holds for all of them.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.tables.as_ref().is_none_or(|tables| tables.is_empty())
    }

    /// The rules for clients that connect to an IPv4 address, in order.
    pub fn clients_v4(&self) -> impl Iterator<Item = Comparison<u32>> {
        self.tables.iter().flat_map(|tables| tables.clients_v4.comparisons())
    }

    /// The same of IPv6.
    pub fn clients_v6(&self) -> impl Iterator<Item = Comparison<u128>> {
        self.tables.iter().flat_map(|tables| tables.clients_v6.comparisons())
    }

    /// The rules for listeners, in order.
    pub fn servers(&self) -> impl Iterator<Item = Listener> {
        self.tables.iter().flat_map(|tables| tables.servers.iter().copied())
    }

    /// What holds where no rule matches.
    #[must_use]
    pub fn fallback(&self) -> u32 {
        self.fallback
    }

    /// The profile of the first rule that matches. `local` is asked for a client's own address where a rule needs it.
    /// A v4-mapped IPv6 address is the IPv4 address (RFC 4291, section 2.5.5.2).
    pub fn find(&self, endpoint: &Endpoint, local: impl FnOnce() -> Option<IpAddr>) -> u32 {
        self.tables.as_ref().and_then(|tables| tables.find(endpoint, local)).unwrap_or(self.fallback)
    }
}

/// Whether a glob, in which `*` stands for any characters, matches the whole name.
#[must_use]
pub fn glob(pattern: &str, name: &str) -> bool {
    let (mut pattern, mut name) = (pattern.as_bytes(), name.as_bytes());
    let mut star = None; // what follows the last one in the pattern, and what it does not stand for in the name
    loop {
        match (pattern.split_first(), name.split_first()) {
            (Some((b'*', behind)), _) => {
                pattern = behind;
                star = Some((behind, name));
            }
            (Some((wanted, behind)), Some((byte, rest))) if wanted == byte => (pattern, name) = (behind, rest),
            (None, None) => return true,
            _ => {
                let Some((behind, [_, rest @ ..])) = star else { return false };
                star = Some((behind, rest));
                (pattern, name) = (behind, rest);
            }
        }
    }
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
        rules.find(&Endpoint::Client(peer.parse().expect("a peer")), || None)
    }

    fn server(rules: &Rules, own: &str) -> u32 {
        rules.find(&Endpoint::Server(own.parse().expect("an address")), || None)
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
        let peer = &Endpoint::Client("10.0.0.1:80".parse().expect("a peer"));
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
