//! The state of a TCP socket.

use tcptune_core::options::phase::Phases;

/// By its number in the kernel (linux/tcp_states.h).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct State(pub u8);

/// In the order of their numbers, from 1 on; netstat(8) writes them so.
const NAMES: [&str; 12] = [
    "ESTABLISHED",
    "SYN_SENT",
    "SYN_RECV",
    "FIN_WAIT1",
    "FIN_WAIT2",
    "TIME_WAIT",
    "CLOSE",
    "CLOSE_WAIT",
    "LAST_ACK",
    "LISTEN",
    "CLOSING",
    "NEW_SYN_RECV",
];

impl State {
    /// A connection on which both sides can send.
    pub const ESTABLISHED: Self = Self(1);
    /// connect(2) has begun.
    pub const SYN_SENT: Self = Self(2);
    const SYN_RECV: Self = Self(3);
    /// Neither connected nor listening.
    pub const CLOSE: Self = Self(7);
    /// A listener.
    pub const LISTEN: Self = Self(10);

    /// Its name.
    pub fn name(self) -> &'static str {
        usize::from(self.0).checked_sub(1).and_then(|i| NAMES.get(i)).unwrap_or(&"?")
    }

    /// The state of this name, in lower case as well.
    pub fn find(name: &str) -> Option<Self> {
        let name = name.to_ascii_uppercase().replace('-', "_");
        let name = if name == "ESTAB" { "ESTABLISHED" } else { &name };
        let at = NAMES.iter().position(|known| *known == name)?;
        u8::try_from(at + 1).ok().map(Self)
    }

    /// All names, for a shell.
    pub fn known() -> Vec<(String, String)> {
        NAMES.map(|name| (name.to_lowercase(), String::new())).into()
    }

    /// All names.
    pub fn names() -> String {
        NAMES.join(", ").to_lowercase()
    }

    /// Whether there is a peer.
    pub fn is_of_a_connection(self) -> bool {
        !matches!(self, Self::CLOSE | Self::LISTEN)
    }

    /// The phase of the socket's life; `bound`: whether it has a port.
    pub fn phase(self, bound: bool) -> Phases {
        match self {
            Self::LISTEN => Phases::LISTENING,
            Self::SYN_SENT | Self::SYN_RECV => Phases::CONNECTING,
            Self::CLOSE if bound => Phases::BOUND,
            Self::CLOSE => Phases::UNBOUND,
            _ => Phases::CONNECTED,
        }
    }
}
