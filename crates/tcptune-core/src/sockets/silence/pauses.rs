//! When the program did not wait for an epoll set at all: it computed, or waited for something else. A peer's silence
//! counts only while it waits.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU32, AtomicU64, AtomicUsize, Ordering};

/// Of one epoll set, or of several.
#[derive(Debug, Default)]
pub struct Pauses {
    /// When a wait has last ended, in milliseconds of the clock; before the first one, when the set was first asked.
    seen: AtomicU64,
    /// How many threads wait. One that is cancelled or jumps out of its wait is counted for ever: nothing is a pause then.
    inside: AtomicU32,
    next: AtomicUsize,
    last: [Pause; 16],
}

/// From when to when; nothing if both are the same.
#[derive(Debug, Default)]
struct Pause {
    from: AtomicU64,
    until: AtomicU64,
}

/// The shortest pause that counts, where the shortest limit of silence is so many milliseconds: as many as are remembered can
/// make it up.
pub fn least(shortest: u64) -> u64 {
    (shortest / 16).max(20)
}

impl Pauses {
    /// A set is asked for something for the first time.
    pub fn begin(&self, now: u64) {
        let _ = self.seen.compare_exchange(0, now, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// Makes a wait, between two looks at the clock.
    pub fn inside<T>(&self, least: u64, clock: impl Fn() -> u64, wait: impl FnOnce() -> T) -> T {
        let from = clock();
        if self.inside.fetch_add(1, Ordering::Relaxed) == 0 {
            self.waited(from, from, least);
        }
        let result = wait();
        self.seen.fetch_max(clock(), Ordering::Relaxed);
        self.inside.fetch_sub(1, Ordering::Relaxed);
        result
    }

    /// A thread has waited from then until now. If that began `least` or more after the wait before it, the time between was
    /// a pause; other threads may have taken this wait for one.
    #[cold]
    pub fn waited(&self, from: u64, until: u64, least: u64) {
        for pause in &self.last {
            let (began, ended) = (pause.from.load(Ordering::Relaxed), pause.until.load(Ordering::Relaxed));
            if began < until && ended > from {
                pause.until.fetch_min(from.max(began), Ordering::Relaxed);
            }
        }
        let seen = self.seen.fetch_max(until, Ordering::Relaxed);
        if from.saturating_sub(seen) >= least
            && let Some(pause) = self.last.get(self.next.fetch_add(1, Ordering::Relaxed) % self.last.len())
        {
            pause.until.store(0, Ordering::Relaxed);
            pause.from.store(seen, Ordering::Relaxed);
            pause.until.store(from, Ordering::Relaxed);
        }
    }

    /// During how many of the last `silent` milliseconds before `now` a thread has waited. Where all pauses that are
    /// remembered lie within them, nothing tells of the time before, and it does not count.
    pub fn without(&self, silent: u64, now: u64, least: u64) -> u64 {
        let began = now.saturating_sub(silent);
        let within =
            |from: u64, until: u64| Some((from.max(began), until.min(now))).filter(|(from, until)| from < until);
        let (mut pauses, mut known, mut earliest) = (0, 0, began);
        for pause in &self.last {
            if let Some((from, until)) = within(pause.from.load(Ordering::Relaxed), pause.until.load(Ordering::Relaxed))
            {
                pauses += until - from;
                earliest = if known == 0 { from } else { earliest.min(from) };
                known += 1;
            }
        }
        let seen = self.seen.load(Ordering::Relaxed);
        if self.inside.load(Ordering::Relaxed) == 0
            && let Some((from, until)) = within(seen, now).filter(|(from, until)| until - from >= least)
        {
            pauses += until - from; // it lasts still
        }
        let counted = if known == self.last.len() { now - earliest } else { silent };
        counted.saturating_sub(pauses)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const LEAST: u64 = 100;

    fn waits(all: &[(u64, u64)]) -> Pauses {
        let pauses = Pauses::default();
        pauses.begin(1000);
        for (from, until) in all {
            pauses.waited(*from, *until, LEAST);
        }
        pauses
    }

    #[test]
    fn a_pause_counts_for_nothing() {
        let pauses = waits(&[(1000, 1050), (1149, 1149), (1249, 1300)]);
        assert_eq!(pauses.without(300, 1300, LEAST), 200, "the second pause, of 100 ms");
        assert_eq!([pauses.without(51, 1300, LEAST), pauses.without(101, 1300, LEAST)], [51, 51]);
        assert_eq!(
            [pauses.without(300, 1399, LEAST), pauses.without(300, 1400, LEAST)],
            [200, 100],
            "one that lasts still"
        );
        assert_eq!(waits(&[]).without(300, 1300, LEAST), 0, "nobody has waited yet");
    }

    #[test]
    fn a_wait_of_another_thread_is_no_pause() {
        let pauses = waits(&[(1000, 1000), (2000, 2010)]);
        assert_eq!(pauses.without(1010, 2010, LEAST), 10);
        pauses.waited(1400, 2020, LEAST);
        assert_eq!(pauses.without(1020, 2020, LEAST), 620, "it began at 1400");
        pauses.waited(1000, 2030, LEAST);
        assert_eq!(pauses.without(1030, 2030, LEAST), 1030);
    }

    #[test]
    fn while_a_thread_waits_there_is_no_pause() {
        let pauses = waits(&[(1000, 1000)]);
        let next = AtomicU64::new(1000);
        let clock = || 1000 + next.fetch_add(1000, Ordering::Relaxed);
        pauses.inside(LEAST, clock, || assert_eq!(pauses.without(1500, 2500, LEAST), 500, "since 2000"));
        assert_eq!([pauses.without(2000, 3000, LEAST), pauses.without(2000, 3200, LEAST)], [1000, 1000]);
    }

    #[test]
    fn before_the_pauses_that_are_remembered_nothing_counts() {
        let pauses = waits(
            &[1, 2, 3, 4, 5, 6, 7, 8, 9, 10, 11, 12, 13, 14, 15, 16, 17, 18, 19, 20].map(|s| (s * 1000, s * 1000 + 50)),
        );
        assert_eq!(pauses.without(19_050, 20_050, LEAST), 16 * 50);
    }
}
