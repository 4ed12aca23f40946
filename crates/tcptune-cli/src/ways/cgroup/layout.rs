//! What the maps of the programs hold, and where in them. All numbers are in the machine's byte order.

use super::assembler::{Assembler, Code};

/// The maps.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Map {
    /// What people are told of an attachment; no program reads it.
    About,
    /// What changes while it is attached: counts, the end of a trial, whether it is being detached.
    State,
    /// What is set, for each profile.
    Profiles,
    /// Beside each socket: what holds for it, and what is lent for its attempt to connect.
    Sockets,
    /// How many attempts have a connect timeout in place of their user timeout.
    Pending,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::About, Self::State, Self::Profiles, Self::Sockets, Self::Pending];

    /// Its name in the kernel.
    pub const fn name(self) -> &'static str {
        match self {
            Self::About => "tcptune_about",
            Self::State => "tcptune_state",
            Self::Profiles => "tcptune_profile",
            Self::Sockets => "tcptune_sockets",
            Self::Pending => "tcptune_pending",
        }
    }
}

pub type Program = Code<Map>;
pub type Asm = Assembler<Map>;

/// Offsets in [`Map::Sockets`].
pub mod socket {
    /// Whose profile holds: a generation in the upper half, one more than the profile's index in the lower; 0: none.
    pub const OWNER: i16 = 0;
    /// The slots that the program has set itself before its first connect or listen.
    pub const SET_BY_PROGRAM: i16 = 4;
    /// 1 while the user timeout is the connect timeout.
    pub const LENT: i16 = 8;
    /// The user timeout to put back.
    pub const USER_TIMEOUT: i16 = 12;
    /// When the attempt has begun, in nanoseconds since boot; 0: none is going on.
    pub const BEGUN: i16 = 16;
    /// The connect timeout of the attempt in milliseconds; 0: none.
    pub const LIMIT: i16 = 24;
    /// In words.
    pub const WORDS: u32 = 8;
}

/// Offsets in a profile of [`Map::Profiles`].
pub mod profile {
    /// The slots that it sets.
    pub const SETS: i16 = 0;
    /// All ones if the program's own value wins.
    pub const YIELDS: i16 = 4;
    /// Milliseconds; 0: none.
    pub const CONNECT_TIMEOUT: i16 = 8;
    /// The first retransmission timeout of a connect, in ticks of the kernel; 0: the kernel's own.
    pub const INITIAL: i16 = 12;
    /// Where the values of slots begin.
    pub const VALUES: i16 = 16;
}

/// Offsets in [`Map::State`].
pub mod state {
    /// When a trial ends, in nanoseconds since boot.
    pub const UNTIL: i32 = 0;
    /// Not 0 while it is being detached: nothing new is begun.
    pub const STOPPED: i32 = 8;
    /// The slots that the kernel has refused at least once.
    pub const REFUSED: i32 = 16;
    /// The counts, then those of after the trial.
    pub const COUNTS: i32 = 24;
}

/// What is counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Count {
    /// Attempts to connect.
    Connects,
    /// Those that became a connection.
    Established,
    /// Those that took as long as the connect timeout, and failed.
    TimedOut,
    /// Those that failed otherwise.
    Failed,
    /// Nanoseconds from connect to connection, of all together.
    Nanoseconds,
    /// Listeners.
    Listens,
    /// Accepted connections.
    Accepts,
    /// Calls of the program that were left out, so that what is set here stays.
    LeftOut,
}

impl Count {
    /// How many there are.
    pub const ALL: i32 = 8;
    /// The size of one set.
    pub const BYTES: i32 = 8 * Self::ALL;

    /// Where it is, in a set of counts.
    pub const fn offset(self) -> i32 {
        state::COUNTS + 8 * self as i32
    }
}

/// The size of [`Map::State`].
pub const STATE: usize = (state::COUNTS + 2 * Count::BYTES).unsigned_abs() as usize;
