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
    /// Beside a socket, where that has to be known: what holds for it.
    Sockets,
    /// The attempts to connect that are going on.
    Attempts,
}

impl Map {
    /// All of them.
    pub const ALL: [Self; 5] = [Self::About, Self::State, Self::Profiles, Self::Sockets, Self::Attempts];

    /// Its name in the kernel.
    pub const fn name(self) -> &'static str {
        match self {
            Self::About => "tcptune_about",
            Self::State => "tcptune_state",
            Self::Profiles => "tcptune_profile",
            Self::Sockets => "tcptune_sockets",
            Self::Attempts => "tcptune_attempt",
        }
    }
}

pub type Program = Code<Map>;
pub type Asm = Assembler<Map>;

/// Offsets in [`Map::Sockets`]. It costs a socket 2 µs, so that most have none: what holds where no rule matches holds
/// for these.
pub mod socket {
    /// Whose profile holds: a generation in the upper half, one more than the profile's index in the lower; 0: as if
    /// there were nothing beside the socket.
    pub const OWNER: i16 = 0;
    /// The slots that the program has set itself before its first connect or listen.
    pub const SET_BY_PROGRAM: i16 = 4;
    /// 1 if the program has set its user timeout while the connect timeout was in its place.
    pub const IS_KEPT: i16 = 8;
    /// That user timeout.
    pub const USER_TIMEOUT: i16 = 12;
    /// In words.
    pub const WORDS: u32 = 4;
}

/// Offsets in an attempt of [`Map::Attempts`]: one array of them all, in which each socket has a few places, by its
/// cookie. Finding one is arithmetic; a hash table's insertion and deletion cost a connect 1 µs.
pub mod attempt {
    /// When it has begun, in nanoseconds of the monotonic clock, as of the last tick: a look at the time itself costs ten
    /// times as much.
    pub const BEGUN: i16 = 0;
    /// The connect timeout in milliseconds; 0: none.
    pub const LIMIT: i16 = 8;
    /// 1 while it stands in the place of the user timeout.
    pub const IS_LENT: i16 = 12;
    /// The user timeout to put back.
    pub const USER_TIMEOUT: i16 = 16;
    /// The first retransmission timeout, in ticks of the kernel; 0: the kernel's own.
    pub const INITIAL: i16 = 20;
    /// Of the socket; 0: the place is free.
    pub const COOKIE: i16 = 24;
    /// Of all of it, as a power of two.
    pub const SHIFT: i32 = 5;
    /// Places in the array, 2 MB.
    pub const ALL: i32 = 1 << 16;
    /// Places of a socket. The first ones of sockets that follow each other lie side by side (cookies are counted), the
    /// others are scattered: with 16,384 attempts at a time, 1 in 65,000 finds none.
    pub const PLACES: usize = 8;
    /// The size of [`super::Map::Attempts`].
    pub const BYTES: usize = ALL.unsigned_abs() as usize * 32;
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
    /// When a trial ends, on the same clock.
    pub const UNTIL: i32 = 0;
    /// Not 0 while it is being detached: nothing new is begun.
    pub const STOPPED: i32 = 8;
    /// The slots that the kernel has refused at least once.
    pub const REFUSED: i32 = 16;
    /// Always 0, which the verifier does not know.
    pub const ZERO: i32 = 24;
    /// The counts, then those of after the trial.
    pub const COUNTS: i32 = 32;
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
    /// Microseconds from connect to connection, of all together.
    Microseconds,
    /// Listeners.
    Listens,
    /// Accepted connections.
    Accepts,
    /// Calls of the program that were left out, so that what is set here stays.
    LeftOut,
    /// Attempts without a timeout, as there were too many.
    Unbounded,
}

impl Count {
    /// How many there are.
    pub const ALL: i32 = 9;
    /// The size of one set.
    pub const BYTES: i32 = 8 * Self::ALL;

    /// Where it is, in a set of counts.
    pub const fn offset(self) -> i32 {
        state::COUNTS + 8 * self as i32
    }
}

/// The size of [`Map::State`].
pub const STATE: usize = (state::COUNTS + 2 * Count::BYTES).unsigned_abs() as usize;
