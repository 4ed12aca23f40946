//! What is known of a descriptor, so that a call on it needs no system call to find out.
//!
//! A mark is a hint. It is set where a descriptor is made by a hooked call and cleared where one ends by a hooked call;
//! a number that changed hands in another way (fclose(3), a vfork child, `SCM_RIGHTS`) may carry an old one. At worst
//! that leaves a socket untuned: before anything is changed, the kernel is asked what it is.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicU32, AtomicU64, Ordering};

use libc::c_int;

use crate::options::phase::Stages;
use crate::options::table::{OPTIONS, SOCKET_OPTIONS, Target, by_first_name};
use crate::sockets::family::Family;
use crate::sockets::slots::Slots;

/// Descriptors with a number below this are remembered; others are looked up at each call.
pub const LIMIT: usize = 65_536;

const FAMILY: u64 = 0b11;
/// The bits that count the blocking connects that are beginning on it: while there is one, `O_NONBLOCK` was set by us and
/// not by the program.
const STARTING: u64 = 0b1111 << FIRST_STARTING;
const FIRST_STARTING: usize = 4;
const FIRST_STAGE: usize = 8;
const STAGES: u64 = 0b1_1111 << FIRST_STAGE;
const FIRST_ROW: usize = 13;

const _: () = assert!(crate::options::table::SOCKET_OPTIONS <= 64 - FIRST_ROW, "a bit for each socket option");

/// Something that can be true of a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Fact(u64);

impl Fact {
    /// Made by another process or by a call that is not hooked, and tuned when a hook first saw it. Connections that such
    /// a listener had in its queue by then have not inherited the options.
    pub const ADOPTED: Self = Self(1 << 2);
    /// An IPv6 socket.
    pub const V6: Self = Self(1 << 3);
    /// The program has set an option itself.
    pub const SET_BY_PROGRAM: Self = Self(!0 << FIRST_ROW);

    /// The program has set the option of this row itself.
    #[must_use]
    pub const fn set_by_program(row: usize) -> Self {
        Self(if row < SOCKET_OPTIONS { 1 << (FIRST_ROW + row) } else { 0 })
    }

    /// The options of this stage have been applied.
    #[must_use]
    pub const fn passed(stage: Stages) -> Self {
        Self((stage.bits() as u64) << FIRST_STAGE)
    }
}

/// What is known of one descriptor. The default is: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Mark(u64);

impl Mark {
    /// A descriptor of this family; for TCP, one whose options of socket(2) have been applied.
    #[must_use]
    pub const fn of(family: Family) -> Self {
        Self(match family {
            Family::Other => 1,
            Family::Tcp => 2,
            Family::Mptcp => 3,
        })
    }

    /// The same without the family: a close was seen that may have been a vfork child's, so whoever needs the family asks the
    /// kernel.
    #[must_use]
    pub const fn unknown(self) -> Self {
        Self(self.0 & Fact::SET_BY_PROGRAM.0)
    }

    /// With what the program has set on `other`, too.
    #[must_use]
    pub const fn and_set_on(self, other: Self) -> Self {
        Self(self.0 | other.unknown().0)
    }

    /// A socket that a listener with this mark has accepted: it inherits what has been set.
    #[must_use]
    pub const fn accepted(self) -> Self {
        let kept = Self(self.0 & (FAMILY | Fact::V6.0 | Fact::SET_BY_PROGRAM.0));
        kept.with(Fact::passed(Stages::SOCKET))
    }

    /// With this option, which the program has set.
    #[must_use]
    pub fn and_program_set(self, level: c_int, optname: c_int) -> Self {
        let (level, optname) = by_first_name(level, optname);
        OPTIONS.iter().zip(0..SOCKET_OPTIONS).fold(self, |mark, (opt, row)| match opt.target {
            Target::Socket(option) if option.is(level, optname) => mark.with(Fact::set_by_program(row)),
            _ => mark,
        })
    }

    /// The family, if it is known.
    #[must_use]
    pub const fn family(self) -> Option<Family> {
        match self.0 & FAMILY {
            1 => Some(Family::Other),
            2 => Some(Family::Tcp),
            3 => Some(Family::Mptcp),
            _ => None,
        }
    }

    /// Whether a blocking connect begins on it.
    #[must_use]
    pub const fn is_starting(self) -> bool {
        self.0 & STARTING != 0
    }

    /// With this fact.
    #[must_use]
    pub const fn with(self, fact: Fact) -> Self {
        Self(self.0 | fact.0)
    }

    /// The stages whose options have been applied.
    #[must_use]
    pub const fn passed(self) -> Stages {
        #[allow(clippy::cast_possible_truncation, reason = "five bits")]
        Stages::from_bits(((self.0 & STAGES) >> FIRST_STAGE) as u8)
    }

    /// Whether it is true.
    #[must_use]
    pub const fn is(self, fact: Fact) -> bool {
        self.0 & fact.0 != 0
    }
}

/// The marks of all descriptors of the process.
#[derive(Debug)]
pub struct Descriptors(Slots<AtomicU64>);

impl Default for Descriptors {
    /// Nothing known of any.
    fn default() -> Self {
        Self(Slots::new())
    }
}

impl Descriptors {
    /// What is known of `fd`.
    #[must_use]
    pub fn get(&self, fd: c_int) -> Mark {
        Mark(self.0.get(fd).map_or(0, |slot| slot.load(Ordering::Relaxed)))
    }

    /// Changes the mark of `fd`. For the first descriptors, which most programs only have, it is inlined into the hook.
    #[inline]
    fn change(&self, fd: c_int, change: impl FnOnce(&AtomicU64)) {
        match self.0.first(fd) {
            Some(slot) => change(slot),
            None => self.change_other(fd, change),
        }
    }

    #[cold]
    #[inline(never)]
    fn change_other(&self, fd: c_int, change: impl FnOnce(&AtomicU64)) {
        if let Some(slot) = self.0.entry(fd) {
            change(slot);
        }
    }

    /// Remembers `mark`, if there is memory for it.
    pub fn set(&self, fd: c_int, mark: Mark) {
        self.change(fd, |slot| slot.store(mark.0, Ordering::Relaxed));
    }

    /// Adds a fact about `fd`, without losing one that another thread adds at the same time.
    pub fn add(&self, fd: c_int, fact: Fact) {
        self.change(fd, |slot| _ = slot.fetch_or(fact.0, Ordering::Relaxed));
    }

    /// Notes that a blocking connect begins on `fd`. Returns false, and notes nothing, if fifteen others do already.
    pub fn starts(&self, fd: c_int) -> bool {
        let one_more = |mark| (mark & STARTING != STARTING).then_some(mark + (1 << FIRST_STARTING));
        self.0.entry(fd).is_none_or(|slot| slot.fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_more).is_ok())
    }

    /// Whether no other begins on `fd`.
    pub fn starts_alone(&self, fd: c_int) -> bool {
        self.0.get(fd).is_none_or(|slot| slot.load(Ordering::SeqCst) & STARTING <= 1 << FIRST_STARTING)
    }

    /// It has begun.
    pub fn started(&self, fd: c_int) {
        if let Some(slot) = self.0.get(fd) {
            let one_less = |mark| (mark & STARTING != 0).then(|| mark - (1 << FIRST_STARTING));
            let _ = slot.fetch_update(Ordering::SeqCst, Ordering::Relaxed, one_less);
        }
    }

    /// Forgets `fd`. Writes only where there is something to forget, so that closing files dirties no page.
    #[inline]
    pub fn forget(&self, fd: c_int) {
        match self.0.first(fd) {
            Some(slot) => forget(slot),
            None => self.forget_other(fd),
        }
    }

    /// Forgets all between two descriptors, both included.
    pub fn forget_range(&self, from: c_int, to: c_int) {
        self.0.each(from, to, forget);
    }

    #[cold]
    #[inline(never)]
    fn forget_other(&self, fd: c_int) {
        if let Some(slot) = self.0.get(fd) {
            forget(slot);
        }
    }
}

/// As [`Descriptors::forget`].
#[inline]
fn forget(slot: &AtomicU64) {
    let mark = Mark(slot.load(Ordering::Relaxed));
    if mark != mark.unknown() {
        slot.store(mark.unknown().0, Ordering::Relaxed);
    }
}

/// Which profile holds for each descriptor, where rules look at addresses.
#[derive(Debug, Default)]
pub struct Choices(Slots<AtomicU32>);

impl Choices {
    /// The first profile for every descriptor.
    #[must_use]
    pub fn new() -> Self {
        Self(Slots::new())
    }

    /// The profile of `fd`, if anything near it is known.
    #[must_use]
    pub fn get(&self, fd: c_int) -> Option<u32> {
        self.0.get(fd).map(|slot| slot.load(Ordering::Relaxed))
    }

    /// Remembers it, if there is memory for it.
    pub fn set(&self, fd: c_int, profile: u32) {
        if let Some(slot) = self.0.entry(fd) {
            slot.store(profile, Ordering::Relaxed);
        }
    }

    /// The profile of `from` is that of `to`, too.
    pub fn copy(&self, from: c_int, to: c_int) {
        if let Some(profile) = self.get(from)
            && self.get(to) != Some(profile)
        {
            self.set(to, profile);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_mark_keeps_what_was_said() {
        assert_eq!(Mark::default().family(), None);
        for family in [Family::Other, Family::Tcp, Family::Mptcp] {
            let mark = Mark::of(family).with(Fact::V6).with(Fact::set_by_program(7));
            assert_eq!((mark.family(), mark.passed().bits()), (Some(family), 0));
            assert!(mark.is(Fact::V6) && !mark.is(Fact::ADOPTED));
            let both = Stages::BIND.or(Stages::CONNECT);
            let mark = mark.with(Fact::passed(Stages::BIND)).with(Fact::passed(Stages::CONNECT));
            assert_eq!((mark.passed(), mark.family(), mark.unknown().passed().bits()), (both, Some(family), 0));
            assert!(mark.is(Fact::set_by_program(7)) && !mark.is(Fact::set_by_program(6)));
            assert!(!mark.with(Fact::set_by_program(SOCKET_OPTIONS)).is(Fact::set_by_program(SOCKET_OPTIONS)));
        }
    }

    #[test]
    fn connects_that_begin_are_counted() {
        let table = Descriptors::default();
        let mark = Mark::of(Family::Tcp).with(Fact::passed(Stages::SOCKET));
        table.set(7, mark);
        assert!(table.starts(7) && table.starts_alone(7) && table.get(7).is_starting());
        assert!((0..14).all(|_| table.starts(7)));
        assert!(!table.starts(7) && !table.starts_alone(7), "sixteen");
        (0..14).for_each(|_| table.started(7));
        assert!(table.starts_alone(7));
        (0..3).for_each(|_| table.started(7));
        assert_eq!(table.get(7), mark);
    }

    #[test]
    fn negative_numbers_are_unknown() {
        let table = Descriptors::default();
        for fd in [-1, c_int::MIN] {
            table.set(fd, Mark::of(Family::Tcp));
            assert_eq!(table.get(fd), Mark::default(), "{fd}");
            table.forget(fd);
        }
        table.set(1 << 20, Mark::of(Family::Tcp));
        assert_eq!(table.get(1 << 20).family(), Some(Family::Tcp));
        table.add(1 << 20, Fact::ADOPTED);
        assert!(table.get(1 << 20).is(Fact::ADOPTED) && !table.get(1 << 20).is(Fact::V6));
        table.forget(1 << 20);
        assert_eq!(table.get(1 << 20), Mark::default());
    }
}
