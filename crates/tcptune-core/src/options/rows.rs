//! Sets of rows of the option table, as bits.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use crate::options::phase::Stages;
use crate::options::table::{OPTIONS, SOCKET_OPTIONS, Target};

/// A set of rows that a socket can have: socket options, and what tcptune itself does with a socket.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Rows(u64);

/// How many rows those are; they stand first.
const OF_SOCKETS: usize = {
    let mut n = SOCKET_OPTIONS;
    while is_of_a_socket(n) {
        n += 1;
    }
    n
};

const _: () = {
    assert!(OF_SOCKETS <= 64, "a bit for each");
    let mut n = OF_SOCKETS;
    while n < OPTIONS.len() {
        assert!(!is_of_a_socket(n), "rows of a socket stand first");
        n += 1;
    }
};

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn is_of_a_socket(row: usize) -> bool {
    match OPTIONS[row].target {
        Target::Socket(_) => true,
        Target::Own(own) => own.is_of_a_socket(),
    }
}

impl Rows {
    /// The options that socket(2) applies.
    pub const ON_SOCKET: Self = Self::at(Stages::SOCKET);
    /// The options that listen(2) applies and bind(2) does not.
    pub const ON_LISTEN_ALONE: Self = Self::at(Stages::LISTEN).without(Self::at(Stages::BIND));

    /// The options that a stage applies.
    #[must_use]
    pub const fn at(stage: Stages) -> Self {
        let (mut rows, mut row) = (Self(0), 0);
        while row < SOCKET_OPTIONS {
            #[allow(clippy::indexing_slicing, reason = "below the length")]
            if matches!(OPTIONS[row].target, Target::Socket(option) if option.stages.contains(stage)) {
                rows = rows.or(Self::of(row));
            }
            row += 1;
        }
        rows
    }

    /// That one.
    #[must_use]
    pub const fn of(row: usize) -> Self {
        Self(if row < OF_SOCKETS { 1 << row } else { 0 })
    }

    /// Those that say the same as this one, which is one of them: TOS and DSCP are two ways to write one option.
    #[must_use]
    pub fn rivals(row: usize) -> Self {
        RIVALS.get(row).copied().unwrap_or(Self::of(row))
    }

    /// Both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Without those.
    #[must_use]
    pub const fn without(self, others: Self) -> Self {
        Self(self.0 & !others.0)
    }

    /// Whether the sets share a row.
    #[must_use]
    pub const fn share(self, other: Self) -> bool {
        self.0 & other.0 != 0
    }

    /// Whether it has this row.
    #[must_use]
    pub const fn has(self, row: usize) -> bool {
        self.share(Self::of(row))
    }

    /// Whether it has none.
    #[must_use]
    pub const fn is_empty(self) -> bool {
        self.0 == 0
    }
}

static RIVALS: [Rows; SOCKET_OPTIONS] = {
    let mut all = [Rows(0); SOCKET_OPTIONS];
    let mut row = 0;
    #[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
    while row < SOCKET_OPTIONS {
        let mut other = 0;
        while other < SOCKET_OPTIONS {
            if say_the_same(row, other) {
                all[row] = all[row].or(Rows::of(other));
            }
            other += 1;
        }
        row += 1;
    }
    all
};

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn say_the_same(a: usize, b: usize) -> bool {
    match (OPTIONS[a].target, OPTIONS[b].target) {
        (Target::Socket(a), Target::Socket(b)) => a.is(b.level, b.optname) && a.stages.contains(b.stages),
        _ => false,
    }
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::disallowed_types, reason = "not on a hook path")]
mod tests {
    use super::*;
    use crate::options::table::find;

    #[test]
    fn rows_of_one_option_are_rivals() {
        let row = |name| find(name).expect(name).0;
        assert!(Rows::rivals(row("TOS")).has(row("DSCP")) && Rows::rivals(row("DSCP")).has(row("TOS")));
        assert!(!Rows::rivals(row("RECV_TIMEOUT")).has(row("ACCEPT_TIMEOUT")), "not of the same socket");
        for row in 0..OF_SOCKETS {
            assert!(Rows::rivals(row).has(row), "{row}");
        }
    }

    #[test]
    fn a_row_of_no_socket_is_in_no_set() {
        assert!(Rows::of(row_of_log()).is_empty() && !Rows::ON_SOCKET.has(row_of_log()));
    }

    fn row_of_log() -> usize {
        find("LOG").expect("a row").0
    }
}
