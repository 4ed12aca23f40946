//! A value for each descriptor, whatever its number: a tree of pages, each mapped when something in it is written first.
//!
//! Nothing waits for another thread and nothing is allocated: a page that two threads map at a time is that of the first,
//! and a signal handler may be one of them. What is mapped stays.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::slice;
use std::sync::atomic::{AtomicPtr, AtomicU32, AtomicU64, AtomicUsize, Ordering};

use libc::c_int;

use crate::system::memory;

/// Bytes that are mapped at a time.
const PAGE: usize = 4096;

/// Pointers in a page of the tree.
const FAN: usize = PAGE / size_of::<usize>();

/// What may lie in fresh pages.
///
/// # Safety
/// All zeroes is a valid value, threads may share it, and [`PAGE`] holds at least one.
pub unsafe trait Zeroes: Sync + Sized + 'static {}

// SAFETY: 0, and null.
unsafe impl Zeroes for AtomicU32 {}
// SAFETY: as above.
unsafe impl Zeroes for AtomicU64 {}
// SAFETY: as above.
unsafe impl Zeroes for AtomicUsize {}
// SAFETY: as above.
unsafe impl<T: 'static> Zeroes for AtomicPtr<T> {}

/// Values of all descriptors. The kernel has none from 2^28 on: an array of so many pointers is the largest it makes.
#[derive(Debug)]
pub struct Slots<T: Zeroes> {
    /// The values of the first descriptors, which is all that most programs have.
    first: &'static [T],
    others: [AtomicPtr<AtomicPtr<AtomicPtr<T>>>; 8],
}

impl<T: Zeroes> Default for Slots<T> {
    /// All zeroes, and no page mapped.
    fn default() -> Self {
        Self { first: &[], others: Default::default() }
    }
}

impl<T: Zeroes> Slots<T> {
    const IN_A_PAGE: usize = PAGE / size_of::<T>();

    /// All zeroes, with the first page mapped if there is memory, so that the first descriptors are found in a few
    /// instructions.
    #[must_use]
    pub fn new() -> Self {
        Self { first: page(&AtomicPtr::default(), true).unwrap_or_default(), ..Self::default() }
    }

    /// The value of `fd`, if it is one of the first: all that a hook looks at itself.
    #[inline]
    pub fn first(&self, fd: c_int) -> Option<&T> {
        self.first.get(usize::try_from(fd).ok()?)
    }

    /// The value of `fd`, if one near it has ever been written: otherwise it is zero.
    #[inline]
    pub fn get(&self, fd: c_int) -> Option<&T> {
        self.first(fd).or_else(|| self.other(fd, false))
    }

    /// The value of `fd`, to write to; `None` where there is no memory.
    #[inline]
    pub fn entry(&self, fd: c_int) -> Option<&T> {
        self.first(fd).or_else(|| self.other(fd, true))
    }

    /// Looks at all values between two descriptors, both included, that are in mapped pages.
    pub fn each(&self, from: c_int, to: c_int, mut look: impl FnMut(&T)) {
        let (from, to) = (usize::try_from(from).unwrap_or(0), usize::try_from(to).unwrap_or(0));
        let mut look_at = |first: usize, page: &[T]| {
            let within = page.iter().zip(first..).skip_while(|(_, at)| *at < from).take_while(|(_, at)| *at <= to);
            within.for_each(|(value, _)| look(value));
        };
        look_at(0, self.first);
        for (upper, i) in self.others.iter().zip(0..).filter_map(|(at, i)| Some((page(at, false)?, i))) {
            for (lower, j) in upper.iter().zip(0..).filter_map(|(at, j)| Some((page(at, false)?, i * FAN + j))) {
                for (values, k) in lower.iter().zip(0..).filter_map(|(at, k)| Some((page(at, false)?, j * FAN + k))) {
                    look_at(k * Self::IN_A_PAGE, values);
                }
            }
        }
    }

    #[cold]
    fn other(&self, fd: c_int, make: bool) -> Option<&T> {
        let index = usize::try_from(fd).ok()?;
        let number = index / Self::IN_A_PAGE;
        let upper = page(self.others.get(number / (FAN * FAN))?, make)?;
        let lower = page(upper.get(number / FAN % FAN)?, make)?;
        page(lower.get(number % FAN)?, make)?.get(index % Self::IN_A_PAGE)
    }
}

/// The page that `at` points to; if there is none, a new one is made, or not.
fn page<T: Zeroes>(at: &AtomicPtr<T>, make: bool) -> Option<&'static [T]> {
    let mut found = at.load(Ordering::Acquire);
    if found.is_null() && make {
        #[allow(clippy::cast_ptr_alignment, reason = "pages are aligned")]
        let new = memory::map(PAGE).cast::<T>();
        if new.is_null() {
            return None;
        }
        found = match at.compare_exchange(found, new, Ordering::AcqRel, Ordering::Acquire) {
            Ok(_) => new,
            Err(other) => {
                // SAFETY: nobody else knows the new page.
                unsafe { memory::unmap(new.cast(), PAGE) };
                other
            }
        };
    }
    // SAFETY: null, or a page that stays, of values that were zero at first (see `Zeroes`).
    (!found.is_null()).then(|| unsafe { slice::from_raw_parts(found, PAGE / size_of::<T>()) })
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::disallowed_types, reason = "not on a hook path")]
mod tests {
    use super::*;
    use std::thread;

    struct Large([AtomicU64; 4]);
    // SAFETY: zeroes.
    unsafe impl Zeroes for Large {}

    fn keeps_all<T: Zeroes>(put: impl Fn(&T, u32), take: impl Fn(&T) -> u32) {
        let slots = Slots::<T>::new();
        let numbers = || (2..28).flat_map(|bits| [(1 << bits) - 1, 1 << bits]).chain([0, (1 << 28) - 1]);
        for fd in numbers() {
            assert_eq!(slots.get(fd).map_or(0, &take), 0, "{fd}");
            put(slots.entry(fd).expect("memory"), fd.cast_unsigned());
        }
        for fd in numbers() {
            assert_eq!(slots.get(fd).map(&take), Some(fd.cast_unsigned()), "{fd}");
        }
        for none in [-1, c_int::MIN] {
            assert!(slots.get(none).is_none() && slots.entry(none).is_none());
        }
    }

    #[test]
    fn each_descriptor_has_a_value_of_its_own() {
        keeps_all::<AtomicU32>(|slot, n| slot.store(n, Ordering::Relaxed), |slot| slot.load(Ordering::Relaxed));
        keeps_all::<AtomicU64>(
            |slot, n| slot.store(n.into(), Ordering::Relaxed),
            |slot| u32::try_from(slot.load(Ordering::Relaxed)).expect("small"),
        );
        keeps_all::<Large>(
            |slot, n| slot.0[3].store(n.into(), Ordering::Relaxed),
            |slot| u32::try_from(slot.0[3].load(Ordering::Relaxed)).expect("small"),
        );
    }

    #[test]
    fn looking_maps_nothing() {
        let slots = Slots::<AtomicU64>::new();
        assert!(slots.get(511).is_some(), "the first page is there from the start");
        assert!(slots.get(512).is_none() && slots.get(1 << 27).is_none());
        slots.entry(1 << 20).expect("memory");
        assert!(slots.get((1 << 20) + 511).is_some() && slots.get((1 << 20) - 1).is_none(), "one page");
    }

    #[test]
    fn a_range_is_what_lies_between() {
        let slots = Slots::<AtomicU64>::new();
        let numbers = [0, 3, 511, 512, 700, 1 << 18, 1 << 20, (1 << 27) + 5];
        for fd in numbers {
            slots.entry(fd).expect("memory").store(u64::from(fd.cast_unsigned()) + 1, Ordering::Relaxed);
        }
        for (from, to) in [(0, c_int::MAX), (3, 700), (4, 511), (512, 512), (701, 1 << 20), (1 << 20, c_int::MAX)] {
            let mut found = Vec::new();
            slots.each(from, to, |value| found.push(value.load(Ordering::Relaxed)));
            found.retain(|value| *value != 0);
            let want = numbers.iter().filter(|fd| (from..=to).contains(fd)).map(|fd| u64::from(fd.cast_unsigned()) + 1);
            assert_eq!(found, want.collect::<Vec<_>>(), "{from} to {to}");
        }
    }

    #[test]
    fn threads_that_make_a_page_at_a_time_share_it() {
        for round in 0..50 {
            let slots = Slots::<AtomicU64>::new();
            let fd = 600 + round * 100_000;
            thread::scope(|s| {
                for _ in 0..4 {
                    s.spawn(|| slots.entry(fd).expect("memory").fetch_add(1, Ordering::Relaxed));
                }
            });
            assert_eq!(slots.get(fd).map(|n| n.load(Ordering::Relaxed)), Some(4));
        }
    }
}
