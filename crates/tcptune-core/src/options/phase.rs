//! When in a socket's life an option can still be set: what `tcptune apply` may do to live sockets.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;

/// A set of stages: the intercepted calls at which an option is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    /// The empty set.
    pub const NONE: Self = Self(0);
    /// After socket(2), and to a socket that was not made by it when a hook first sees it.
    pub const SOCKET: Self = Self(1);
    /// Before bind(2).
    pub const BIND: Self = Self(2);
    /// Before listen(2).
    pub const LISTEN: Self = Self(4);
    /// After accept(2): only what an accepted socket does not inherit from its listener, or shall not.
    pub const ACCEPT: Self = Self(8);
    /// After connect(2) has succeeded or begun: only what the handshake would undo, or what would end connect.
    pub const CONNECT: Self = Self(16);

    /// Both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// As bits of a mark.
    #[must_use]
    pub const fn bits(self) -> u8 {
        self.0
    }

    /// From bits of a mark.
    #[must_use]
    pub const fn from_bits(bits: u8) -> Self {
        Self(bits)
    }

    /// Whether the sets share a stage.
    #[must_use]
    pub const fn contains(self, stage: Self) -> bool {
        self.0 & stage.0 != 0
    }
}

/// A set of phases of a socket's life.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Phases(u8);

impl Phases {
    /// Before bind(2) and connect(2).
    pub const UNBOUND: Self = Self(1);
    /// Bound, and neither connected nor listening.
    pub const BOUND: Self = Self(2);
    /// Neither connected nor listening.
    pub const UNCONNECTED: Self = Self::UNBOUND.or(Self::BOUND);
    /// From connect(2) until the handshake is over.
    pub const CONNECTING: Self = Self(4);
    /// A connection, until its end.
    pub const CONNECTED: Self = Self(8);
    /// A listener.
    pub const LISTENING: Self = Self(16);

    /// Both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets share a phase.
    #[must_use]
    pub const fn contains(self, phase: Self) -> bool {
        self.0 & phase.0 != 0
    }

    /// The phases in which an option of these stages has an effect: its stage is in the table because it cannot be set
    /// earlier, or would do nothing later.
    #[must_use]
    pub const fn of(stages: Stages) -> Self {
        let mut phases = Self(0);
        if stages.contains(Stages::SOCKET) {
            phases = Self::UNCONNECTED.or(Self::CONNECTING).or(Self::CONNECTED).or(Self::LISTENING);
        } else if stages.contains(Stages::BIND) {
            return Self::UNBOUND;
        }
        if stages.contains(Stages::CONNECT) {
            phases = phases.or(Self::CONNECTING).or(Self::CONNECTED);
        }
        if stages.contains(Stages::LISTEN) {
            phases = phases.or(Self::LISTENING);
        }
        phases
    }
}

impl fmt::Display for Phases {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names = [
            (Self::UNBOUND, "before bind(2)"),
            (Self::UNCONNECTED, "before connect(2)"),
            (Self::UNCONNECTED.or(Self::CONNECTING), "before ESTABLISHED"),
            (Self::CONNECTING.or(Self::CONNECTED), "on a connection"),
        ];
        let connection = Self(self.0 & !Self::LISTENING.0);
        let name = names.iter().find(|(phases, _)| *phases == connection).map(|(_, name)| *name);
        match (name, self.contains(Self::LISTENING)) {
            (Some(name), false) => f.write_str(name),
            (Some(name), true) => write!(f, "{name}, or on a listener"),
            (None, true) if connection.0 == 0 => f.write_str("on a listener"),
            (None, _) => f.write_str("at any time"),
        }
    }
}

#[cfg(test)]
#[allow(clippy::panic, clippy::disallowed_types, reason = "not on a hook path")]
mod tests {
    use crate::options::table::{Target, find};

    #[test]
    fn each_option_says_when_a_live_socket_takes_it() {
        let live = |name| match find(name).map(|(_, opt)| opt.target) {
            Some(Target::Socket(option)) => option.live.to_string(),
            other => panic!("{name}: {other:?}"),
        };
        for (name, want) in [
            ("KEEPIDLE", "at any time"),
            ("PRIORITY", "at any time"),
            ("SYNCNT", "before ESTABLISHED"),
            ("FASTOPEN_CONNECT", "before connect(2)"),
            ("MAXSEG", "before connect(2), or on a listener"),
            ("REUSEADDR", "at any time"),
            ("REUSEPORT", "before bind(2)"),
            ("BIND_ADDRESS_NO_PORT", "before bind(2)"),
            ("SEND_TIMEOUT", "on a connection"),
            ("ACCEPT_TIMEOUT", "on a listener"),
            ("DEFER_ACCEPT", "on a listener"),
        ] {
            assert_eq!(live(name), want, "{name}");
        }
    }
}
