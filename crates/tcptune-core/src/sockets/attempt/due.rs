//! When the next of many attempts is due, without looking at all of them.
//!
//! Two levels: each 64 descriptors share a node that holds their earliest time, and a root holds the earliest time of all
//! nodes. A node's time may be too early (that attempt is over by now), never too late. Adding a time costs the same however
//! many there are; finding those that are due takes a look at each node, and at the 64 descriptors of a node whose time has
//! come. Nothing waits for another thread.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicI32, AtomicU64, Ordering};

use libc::c_int;

use crate::sockets::slots::{Slots, Zeroes};

/// Descriptors below a node.
const FAN: c_int = 64;

/// How long, in milliseconds, the thread that looks for due attempts keeps others from doing so. After that another one may
/// look: the first may have ended meanwhile.
const TURN: u64 = 100;

/// The earliest of some times in milliseconds, with a count of those that were added, so that none is added unseen while
/// the earliest is looked for anew. No time: 0.
#[derive(Debug, Default)]
struct Node(AtomicU64);

// SAFETY: zeroes are a node without a time.
unsafe impl Zeroes for Node {}

const COUNT_BITS: u32 = 16;
const COUNT: u64 = (1 << COUNT_BITS) - 1;

impl Node {
    fn time(&self) -> u64 {
        self.0.load(Ordering::Acquire) >> COUNT_BITS
    }

    #[inline(never)]
    fn add(&self, time: u64) {
        let mut seen = self.0.load(Ordering::Relaxed);
        loop {
            let new = earlier(seen >> COUNT_BITS, time) << COUNT_BITS | (seen + 1) & COUNT;
            match self.0.compare_exchange_weak(seen, new, Ordering::AcqRel, Ordering::Relaxed) {
                Ok(_) => return,
                Err(other) => seen = other,
            }
        }
    }

    /// Sets it to the earliest of `times`, which are those below it.
    fn renew<I: Iterator<Item = u64>>(&self, times: impl Fn() -> I) {
        loop {
            let seen = self.0.load(Ordering::Acquire);
            let new = times().fold(0, earlier) << COUNT_BITS | seen & COUNT;
            if self.0.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok() {
                return;
            }
        }
    }

    /// Replaces `time` by `to`, if `time` is what the node holds. Returns whether it did, which is true for one thread only.
    fn postpone(&self, time: u64, to: u64) -> bool {
        let seen = self.0.load(Ordering::Acquire);
        let new = to << COUNT_BITS | seen & COUNT;
        seen >> COUNT_BITS == time && self.0.compare_exchange(seen, new, Ordering::AcqRel, Ordering::Relaxed).is_ok()
    }
}

/// The earlier of two times, of which each may be none.
fn earlier(a: u64, b: u64) -> u64 {
    a.wrapping_sub(1).min(b.wrapping_sub(1)).wrapping_add(1)
}

/// The two levels above the descriptors' own times, which their owner keeps.
#[derive(Debug, Default)]
pub(super) struct Deadlines {
    earliest: Node,
    /// Of [`FAN`] descriptors each.
    blocks: Slots<Node>,
    /// The highest descriptor that ever had one.
    highest: AtomicI32,
}

impl Deadlines {
    pub fn new() -> Self {
        Self { blocks: Slots::new(), ..Self::default() }
    }

    /// The earliest time, or an earlier one of an attempt that is over by now; 0 if there is none.
    #[inline]
    pub fn earliest(&self) -> u64 {
        self.earliest.time()
    }

    /// The highest descriptor that ever had one.
    pub fn highest(&self) -> c_int {
        self.highest.load(Ordering::Relaxed)
    }

    /// Adds the time of `fd`, which its owner has stored already. Returns whether there was memory for it.
    pub fn add(&self, fd: c_int, time: u64) -> bool {
        let Some(block) = self.blocks.entry(fd / FAN) else { return false };
        if self.highest() < fd {
            self.highest.fetch_max(fd, Ordering::Relaxed);
        }
        block.add(time);
        self.earliest.add(time);
        true
    }

    /// Visits each descriptor whose time has come; `time_of` gives the times. A visitor changes the time of the one that
    /// it visits. Another thread that comes meanwhile leaves it to this one.
    pub fn visit_due(&self, now: u64, time_of: impl Fn(c_int) -> u64, visit: impl Fn(c_int)) {
        let earliest = self.earliest();
        if earliest == 0 || earliest > now || !self.earliest.postpone(earliest, now + TURN) {
            return;
        }
        let due = |time: u64| time != 0 && time <= now;
        let of_block = |block| self.blocks.get(block).map_or(0, Node::time);
        let blocks = || 0..=self.highest() / FAN;
        for block in blocks().filter(|block| due(of_block(*block))) {
            below(block).filter(|fd| due(time_of(*fd))).for_each(&visit);
            if let Some(node) = self.blocks.get(block) {
                node.renew(|| below(block).map(&time_of));
            }
        }
        self.earliest.renew(|| blocks().map(of_block));
    }
}

/// The descriptors below a node.
fn below(index: c_int) -> std::ops::Range<c_int> {
    index * FAN..index * FAN + FAN
}

#[cfg(test)]
#[allow(clippy::disallowed_types, clippy::indexing_slicing, reason = "not on a hook path")]
mod tests {
    use super::*;
    use std::cell::RefCell;
    use std::collections::BTreeMap;
    use std::sync::atomic::AtomicBool;
    use std::thread;

    #[test]
    fn none_is_later_than_any() {
        assert_eq!([earlier(0, 0), earlier(0, 5), earlier(5, 0), earlier(7, 5)], [0, 5, 5, 5]);
    }

    #[test]
    fn those_that_are_due_are_visited_and_no_others() {
        let deadlines = Deadlines::new();
        let times = RefCell::new(BTreeMap::new());
        let add = |fd, time| {
            times.borrow_mut().insert(fd, time);
            assert!(deadlines.add(fd, time));
        };
        let visited = |now| {
            let seen = RefCell::new(Vec::new());
            let time_of = |fd| times.borrow().get(&fd).copied().unwrap_or(0);
            deadlines.visit_due(now, time_of, |fd| {
                times.borrow_mut().remove(&fd);
                seen.borrow_mut().push(fd);
            });
            seen.into_inner()
        };
        assert_eq!((deadlines.earliest(), visited(u64::MAX >> COUNT_BITS)), (0, vec![]));
        for (fd, time) in [(3, 1000), (64, 900), (70, 2000), (4096, 1000), (1 << 20, 1500), ((1 << 20) + 1, 3000)] {
            add(fd, time);
        }
        assert_eq!(deadlines.earliest(), 900);
        assert_eq!((visited(899), visited(900), deadlines.earliest()), (vec![], vec![64], 1000));
        times.borrow_mut().remove(&3); // over before its time
        assert_eq!((visited(1000), deadlines.earliest()), (vec![4096], 1500));
        add(5, 1200);
        assert_eq!((visited(1400), deadlines.earliest()), (vec![5], 1500));
        times.borrow_mut().insert(70, 2500); // later than was said
        assert_eq!((visited(2100), deadlines.earliest()), (vec![1 << 20], 2500));
        assert_eq!((visited(2500), visited(9000)), (vec![70], vec![(1 << 20) + 1]));
        assert_eq!(deadlines.earliest(), 0);
    }

    /// Whatever the threads do at a time, a time that stays is never later than what is said.
    #[test]
    fn no_time_is_lost_between_threads() {
        let deadlines = Deadlines::new();
        let times: Vec<AtomicU64> = (0..256).map(|_| AtomicU64::new(0)).collect();
        let time_of =
            |fd: c_int| usize::try_from(fd).ok().and_then(|fd| times.get(fd)).map_or(0, |t| t.load(Ordering::SeqCst));
        let over = AtomicBool::new(false);
        thread::scope(|scope| {
            for thread in 0..2usize {
                let (deadlines, times) = (&deadlines, &times);
                scope.spawn(move || {
                    for round in 0..20_000usize {
                        let fd = round * 37 % 128 + thread * 128;
                        let time = 1000 + round as u64;
                        times[fd].store(time, Ordering::SeqCst);
                        assert!(deadlines.add(c_int::try_from(fd).unwrap_or(0), time));
                        let earliest = deadlines.earliest();
                        let stays = times[fd].load(Ordering::SeqCst) == time; // not visited meanwhile
                        assert!(!stays || (1..=time.max(20_000) + TURN).contains(&earliest), "{earliest} of {time}");
                        if round % 3 != 0 {
                            times[fd].store(0, Ordering::SeqCst);
                        }
                    }
                });
            }
            let sweeper = scope.spawn(|| {
                let mut now = 1000;
                while !over.load(Ordering::Relaxed) {
                    now += 7;
                    deadlines.visit_due(now.min(20_000), time_of, |fd| {
                        times[usize::try_from(fd).unwrap_or(0)].store(0, Ordering::SeqCst);
                    });
                }
            });
            thread::sleep(std::time::Duration::from_millis(200));
            over.store(true, Ordering::Relaxed);
            assert!(sweeper.join().is_ok());
        });
        let left = times.iter().map(|t| t.load(Ordering::SeqCst)).fold(0, earlier);
        deadlines.visit_due(left.saturating_sub(1), time_of, |_| unreachable!("earlier than any"));
        assert!(left == 0 || (1..=left).contains(&deadlines.earliest()), "{left}: {}", deadlines.earliest());
    }
}
