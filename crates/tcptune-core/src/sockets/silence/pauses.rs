//! When the program did not wait at all: it was computing, or stopped, and a peer's silence counts only while it waits.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

use crate::system::clock::at_last_tick;

/// Of the last pauses, from when to when each lasted, in milliseconds of the clock.
#[derive(Debug, Default)]
pub struct Pauses {
    /// The shortest that counts.
    least: u64,
    /// When a wait has last begun or ended.
    seen: AtomicU64,
    /// How many threads wait.
    inside: AtomicU32,
    next: AtomicUsize,
    last: [Pause; 16],
}

#[derive(Debug, Default)]
struct Pause {
    from: AtomicU64,
    until: AtomicU64,
}

impl Pauses {
    /// `shortest` is the shortest limit of silence. As many pauses as are remembered can make it up.
    pub(super) fn new(shortest: u64) -> Self {
        Self { least: (shortest / 16).max(20), ..Self::default() }
    }

    /// A wait begins, at this time.
    #[inline]
    pub(super) fn over(&self, now: u64) {
        let seen = self.seen.load(Ordering::Relaxed);
        if seen != now {
            self.seen.store(now, Ordering::Relaxed);
            if now.saturating_sub(seen) >= self.least {
                self.add(seen, now);
            }
        }
    }

    #[cold]
    fn add(&self, from: u64, until: u64) {
        if from == 0 || self.inside.load(Ordering::Relaxed) != 0 {
            return;
        }
        if let Some(pause) = self.last.get(self.next.fetch_add(1, Ordering::Relaxed) % self.last.len()) {
            pause.until.store(0, Ordering::Relaxed);
            pause.from.store(from, Ordering::Relaxed);
            pause.until.store(until, Ordering::Relaxed);
        }
    }

    /// Makes a wait.
    #[inline]
    pub(super) fn inside<T>(&self, wait: impl FnOnce() -> T) -> T {
        self.inside.fetch_add(1, Ordering::Relaxed);
        let result = wait();
        self.seen.store(at_last_tick(), Ordering::Relaxed);
        self.inside.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// How many of the last `silent` milliseconds before `now` the program was not pausing; what lies before the pauses that
    /// are remembered is left out, if all of them lie within.
    pub(super) fn without(&self, silent: u64, now: u64) -> u64 {
        let began = now.saturating_sub(silent);
        let (mut pauses, mut earliest, mut known) = (0, u64::MAX, 0);
        for pause in &self.last {
            let (from, until) = (pause.from.load(Ordering::Relaxed).max(began), pause.until.load(Ordering::Relaxed));
            if until > from {
                pauses += until - from;
                earliest = earliest.min(from);
                known += 1;
            }
        }
        let counted = if known == self.last.len() { now.saturating_sub(earliest) } else { silent };
        counted.saturating_sub(pauses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_pause_counts_for_nothing() {
        let pauses = Pauses::new(1600);
        for time in [1000, 1050, 1149, 1249] {
            pauses.over(time);
        }
        assert_eq!(pauses.without(249, 1249), 149, "one of 100 ms");
        assert_eq!([pauses.without(50, 1249), pauses.without(1000, 2249)], [0, 1000]);
        pauses.inside(|| pauses.over(5000));
        assert_eq!(pauses.without(200, 5000), 200, "another thread waits");
    }

    #[test]
    fn before_the_pauses_that_are_remembered_nothing_counts() {
        let pauses = Pauses::new(1600);
        for time in 1..=20 {
            pauses.over(time * 1000);
            pauses.over(time * 1000 + 50);
        }
        assert_eq!(pauses.without(20_000, 20_050), 16 * 50);
    }
}
