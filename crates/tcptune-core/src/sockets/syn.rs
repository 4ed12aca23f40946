//! When the kernel alone gives up a connect.

/// First retransmission timeout of a SYN, in seconds (RFC 6298, section 2.1).
const FIRST: u64 = 1;
/// Longest retransmission timeout (`TCP_RTO_MAX`).
const LONGEST: u64 = 120;

/// Seconds after the first SYN at which each retransmission timer fires: one a second while
/// `tcp_syn_linear_timeouts` lasts (Linux 6.5), then doubling.
pub fn timers(linear: u32) -> impl Iterator<Item = u64> {
    (0u32..).scan((0, FIRST), move |(at, timeout), n| {
        *at += *timeout;
        if n >= linear {
            *timeout = (*timeout * 2).min(LONGEST);
        }
        Some(*at)
    })
}

/// Seconds until a connect to a host that never answers fails with `ETIMEDOUT`.
///
/// `retries` is `TCP_SYNCNT` or `tcp_syn_retries`, `linear` is `tcp_syn_linear_timeouts` (0 before Linux 6.5). The
/// attempt ends at the first timer at which as many SYNs have been repeated as both allow together, or at which as much
/// time has passed as `retries` doublings take (`tcp_write_timeout` and `tcp_model_timeout` of the kernel).
#[must_use]
pub fn gives_up_after(retries: u32, linear: u32) -> u64 {
    let doublings = (LONGEST / FIRST).ilog2();
    let span = ((2 << retries.min(doublings)) - 1) * FIRST + u64::from(retries.saturating_sub(doublings)) * LONGEST;
    let most = usize::try_from(retries.saturating_add(linear)).unwrap_or(usize::MAX);
    timers(linear).enumerate().find(|(repeated, at)| *at >= span || *repeated >= most).map_or(span, |(_, at)| at)
}

/// `tcp_syn_linear_timeouts` as the kernel has it unless somebody has set it.
const LINEAR: u32 = 4;

/// The user timeout, in milliseconds, that ends an attempt after `ms`, or when `TCP_SYNCNT` alone would, whichever is first.
/// With a user timeout the kernel looks no longer at how much time `retries` doublings take, only at how many SYNs have been
/// repeated: `retries` and all linear ones, which with one retry is 7 s in place of 3 (`tcp_write_timeout`, Linux 6.5).
#[inline]
#[must_use]
pub fn within_retries(ms: u32, retries: impl FnOnce() -> Option<u32>) -> u32 {
    if ms <= 3000 {
        return ms; // one retry takes as long
    }
    let alone = retries().map(|retries| gives_up_after(retries, LINEAR) * 1000);
    alone.and_then(|alone| alone.try_into().ok()).map_or(ms, |alone: u32| alone.min(ms))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn timers_as_measured() {
        assert_eq!(timers(4).take(11).collect::<Vec<_>>(), [1, 2, 3, 4, 5, 7, 11, 19, 35, 67, 131]);
        assert_eq!(timers(0).take(7).collect::<Vec<_>>(), [1, 3, 7, 15, 31, 63, 127]);
        assert_eq!(timers(0).take(9).collect::<Vec<_>>()[7..], [247, 367]);
    }

    #[test]
    fn what_ends_first_ends_the_attempt() {
        let within = |ms, retries| within_retries(ms, || Some(retries));
        assert_eq!(
            [within(20_000, 1), within(20_000, 2), within(20_000, 3), within(60_000, 4)],
            [3000, 7000, 19_000, 35_000]
        );
        assert_eq!([within(5000, 2), within(3000, 1), within(120_000, 6)], [5000, 3000, 120_000]);
        assert_eq!(within(200_000, 6), 131_000);
        assert_eq!(within(u32::MAX, 255), 30_011_000);
        assert_eq!(within_retries(20_000, || None), 20_000);
        assert_eq!(within_retries(2999, || unreachable!("not asked")), 2999);
    }

    #[test]
    fn gives_up_as_measured() {
        // Linux 6.18 with 4 linear timeouts: 3.07, 7.14, 19.4, 35.5, 68.8, 134.3 s.
        for (retries, seconds) in [(1, 3), (2, 7), (3, 19), (4, 35), (5, 67), (6, 131)] {
            assert_eq!(gives_up_after(retries, 4), seconds, "{retries} retries");
        }
        for (retries, seconds) in [(0, 1), (1, 3), (5, 63), (6, 127), (7, 247)] {
            assert_eq!(gives_up_after(retries, 0), seconds, "{retries} retries, none linear");
        }
        let longest = gives_up_after(127, 255); // the largest values the kernel takes
        assert!((14_647..14_647 + LONGEST).contains(&longest), "{longest}");
    }
}
