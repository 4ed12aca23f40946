//! What settings are about: the parts of the table as people read it.

/// A part of the table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Group {
    /// Dead and idle connections.
    Keepalive,
    /// How a connection begins.
    Connecting,
    /// How long a connection, or a call on it, may wait.
    Timeouts,
    /// Servers.
    Listening,
    /// Addresses and devices.
    Addresses,
    /// Buffers, segments and how they are sent.
    Sending,
    /// What stands in the header of each packet, and what routers and filters look at.
    Packets,
    /// The library itself.
    Library,
}

impl Group {
    /// In the order in which they are shown.
    pub const ALL: [Self; 8] = [
        Self::Keepalive,
        Self::Connecting,
        Self::Timeouts,
        Self::Listening,
        Self::Addresses,
        Self::Sending,
        Self::Packets,
        Self::Library,
    ];

    /// As a heading.
    #[must_use]
    pub const fn title(self) -> &'static str {
        match self {
            Self::Keepalive => "Keepalive",
            Self::Connecting => "Connecting",
            Self::Timeouts => "Timeouts",
            Self::Listening => "Listening",
            Self::Addresses => "Addresses",
            Self::Sending => "Buffers and sending",
            Self::Packets => "Packets",
            Self::Library => "The library itself",
        }
    }
}
