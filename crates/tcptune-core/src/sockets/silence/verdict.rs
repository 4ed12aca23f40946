//! Whether a connection is silent: what the kernel says of it, and what follows. Pure.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

/// States of `tcpi_state` (`netinet/tcp.h`).
const ESTABLISHED: u8 = 1;
const FIN_WAIT1: u8 = 4;
const FIN_WAIT2: u8 = 5;
const CLOSE_WAIT: u8 = 8;

/// The kernel's times are those of its clock ticks, of which the longest takes so many milliseconds.
const TICK: u64 = 10;

/// What the kernel says of a connection (`TCP_INFO` of tcp(7), `SIOCINQ` and `SIOCOUTQNSD`); times in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Facts {
    /// `tcpi_state`
    pub state: u8,
    /// Whether something is sent again and again without an answer (`tcpi_retransmits`).
    pub retransmits: bool,
    /// Since data was last sent.
    pub sent: u64,
    /// Since data last came, or the connection was made.
    pub received: u64,
    /// Whether there are bytes that the program has not read.
    pub unread: bool,
    /// Whether there are bytes that the peer has not been sent yet, because it does not take them.
    pub unsent: bool,
    /// How many bytes the peer has acknowledged (Linux 4.1).
    pub acknowledged: u64,
    /// How many bytes have come (Linux 4.1).
    pub came: u64,
}

/// For how many milliseconds the peer has been silent while the program waited to receive: at most as long as the program
/// waited, counted from the last data that came. Data that the program has sent begins the count anew, because the peer may
/// be working on it; a retransmission of it does not.
#[must_use]
pub fn silent(facts: &Facts, waited: u64) -> u64 {
    if !matches!(facts.state, ESTABLISHED | FIN_WAIT1 | FIN_WAIT2) || facts.unread || facts.unsent {
        return 0;
    }
    let since_sent = if facts.retransmits { u64::MAX } else { facts.sent };
    waited.min(facts.received).min(since_sent)
}

/// The same of a wait to send: for how many milliseconds the peer has taken nothing. `before` is what it had acknowledged
/// when the wait began.
#[must_use]
pub fn stuck(facts: &Facts, waited: u64, before: u64) -> u64 {
    if matches!(facts.state, ESTABLISHED | CLOSE_WAIT) && facts.acknowledged == before { waited } else { 0 }
}

/// Whether so many milliseconds of silence reach a limit.
#[must_use]
pub fn is_over(silent: u64, limit: u64) -> bool {
    silent + TICK.min(limit / 2) >= limit
}

#[cfg(test)]
mod tests {
    use super::*;

    const QUIET: Facts = Facts {
        state: ESTABLISHED,
        retransmits: false,
        sent: 5000,
        received: 9000,
        unread: false,
        unsent: false,
        acknowledged: 7,
        came: 7,
    };

    #[test]
    fn silence_is_the_shortest_of_what_is_known() {
        assert_eq!(silent(&QUIET, 2000), 2000);
        assert_eq!(silent(&QUIET, 60_000), 5000, "a request was sent 5 s ago");
        assert_eq!(silent(&Facts { received: 10, ..QUIET }, 2000), 10, "a byte came");
        assert_eq!(silent(&Facts { sent: 3, retransmits: true, ..QUIET }, 60_000), 9000, "sent again, unanswered");
        for state in [FIN_WAIT1, FIN_WAIT2] {
            assert_eq!(silent(&Facts { state, ..QUIET }, 2000), 2000);
        }
    }

    #[test]
    fn what_is_not_a_silent_peer_is_left_alone() {
        assert_eq!(silent(&Facts { unread: true, ..QUIET }, 60_000), 0);
        assert_eq!(silent(&Facts { unsent: true, ..QUIET }, 60_000), 0);
        for state in [0, 2, 3, 6, 7, 8, 9, 10, 11, 12] {
            assert_eq!(silent(&Facts { state, ..QUIET }, 60_000), 0, "{state}");
        }
    }

    #[test]
    fn a_peer_that_takes_something_is_not_stuck() {
        let full = Facts { unsent: true, ..QUIET };
        assert_eq!(stuck(&full, 2000, 7), 2000);
        assert_eq!(stuck(&full, 2000, 6), 0);
        assert_eq!(stuck(&Facts { state: CLOSE_WAIT, ..full }, 2000, 7), 2000);
        for state in [2, 3, 4, 5, 7] {
            assert_eq!(stuck(&Facts { state, ..full }, 2000, 7), 0, "{state}");
        }
    }

    #[test]
    fn a_limit_is_reached_to_the_tick() {
        assert!(is_over(2000, 2000) && is_over(1990, 2000) && !is_over(1989, 2000));
        assert!(is_over(1, 1) && !is_over(0, 1) && is_over(3, 5) && !is_over(2, 5));
    }
}
