//! Receive and send timeouts of a program that waits in poll(2), select(2) or epoll(7): a connection on which nothing
//! came for as long as the setting says, while the program waited for it, is ended by the kernel ([`kernel`]), and the
//! program is told `ETIMEDOUT`.
//!
//! What is remembered of a descriptor is a hint, as everywhere; before a connection is ended, the kernel says whose it is
//! and how long it has been silent ([`verdict`]).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

pub mod epoll;
pub mod interrupted;
pub mod kernel;
mod pauses;
pub mod poll;
pub mod select;
mod slot;
pub mod verdict;

use std::sync::atomic::{AtomicI32, AtomicUsize, Ordering};

use libc::c_int;

use crate::say;
use crate::settings::profile::Limits;
use crate::sockets::address;
use crate::sockets::slots::Slots;
use crate::system::clock::{at_last_tick, nanoseconds};
use crate::system::files::File;
use crate::system::{errno, messages, process};
use epoll::Deadlines;
use pauses::Pauses;
use slot::Slot;

/// A wait that nothing bounds.
pub const FOREVER: u64 = u64::MAX;

const NANOS: u64 = 1_000_000;

/// What a program waits for on a descriptor.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Wait {
    /// For something to read.
    Receive,
    /// For room to write.
    Send,
    /// The same, asked for by an epoll set.
    SendInSet,
}

/// What is known of the connections whose silence ends them.
#[derive(Debug)]
pub struct Silence {
    slots: Slots<Slot>,
    /// One past the highest descriptor that was ever watched.
    end: AtomicI32,
    /// How many connections have been ended here of which the program has not been told yet.
    untold: AtomicUsize,
    /// The shortest limit that holds for any socket, in milliseconds.
    shortest: u64,
    deadlines: Deadlines,
    /// Of epoll sets; those of more share them.
    pauses: [Pauses; 8],
    sets: AtomicUsize,
}

impl Silence {
    /// For sockets with these limits; `None` where there are none.
    #[must_use]
    pub fn new(limits: impl Iterator<Item = Limits>) -> Option<Self> {
        let shortest = limits.flat_map(|limits| [limits.receive, limits.send, limits.client]).flatten().min()?;
        Some(Self {
            slots: Slots::new(),
            end: AtomicI32::new(0),
            untold: AtomicUsize::new(0),
            shortest: shortest.into(),
            deadlines: Deadlines::default(),
            pauses: Default::default(),
            sets: AtomicUsize::new(0),
        })
    }

    fn slot(&self, fd: c_int) -> Option<&Slot> {
        self.slots.get(fd)
    }

    /// How many nanoseconds the first part of a long wait lasts. What is ready sooner costs no look at the entries.
    fn first_look(&self) -> u64 {
        self.shortest * NANOS / 8
    }

    /// Waits as `call` does, which takes a time in nanoseconds, [`FOREVER`] for no end: in parts, after each of which
    /// `look` is told from when to when it lasted and what it gave, and says how long the next one may last, 0 if a
    /// connection has been ended.
    ///
    /// What a program waits for is looked at after a part: the kernel has read it by then, so that a bad pointer has got
    /// its `EFAULT`, and whatever is ready at once costs no look.
    #[inline]
    fn in_parts(
        &self,
        timeout: u64,
        call: &mut dyn FnMut(u64) -> c_int,
        mut look: impl FnMut((u64, u64), c_int) -> u64,
    ) -> c_int {
        if timeout == 0 {
            return call(0);
        }
        let began = nanoseconds();
        let mut last = began;
        let (mut left, mut bound) = (timeout, self.first_look());
        loop {
            let part = left.min(bound).min(self.until_due());
            let result = call(part);
            if result < 0 && errno::get() != libc::EINTR {
                return result;
            }
            let now = nanoseconds();
            bound = look((last, now), result);
            last = now;
            // What has just been ended is reported at once.
            if result != 0 || part == left && bound != 0 {
                return result;
            }
            if timeout != FOREVER {
                left = timeout.saturating_sub(now.saturating_sub(began));
            }
        }
    }

    /// From now on the silence of this connection ends it. An earlier owner of the number is forgotten.
    pub fn watch(&self, fd: c_int, receive: Option<u32>, send: Option<u32>) {
        let Some(slot) = self.slots.entry(fd) else { return };
        self.told(slot);
        slot.begin(kernel::identity(fd), receive.unwrap_or(0), send.unwrap_or(0));
        self.end.fetch_max(fd + 1, Ordering::Relaxed);
        self.add_deadlines(slot);
    }

    /// Whether there is anything to forget when this process closes `fd`, and not a child of vfork(2), which has its own
    /// table of descriptors, but the memory of its parent: what is recorded is about descriptors of the process that
    /// `started`, and about sets of the one that made them.
    pub fn is_to_forget(&self, fd: c_int, started: usize) -> bool {
        self.used(fd).is_some_and(|slot| {
            let process = process::id();
            process == started || process == slot.set_of()
        })
    }

    fn used(&self, fd: c_int) -> Option<&Slot> {
        self.slot(fd).filter(|slot| slot.is_used())
    }

    /// Forgets `fd`: it is closed, or the number is another socket's now. If another thread is just ending this connection,
    /// this waits until that is done, so that the other thread does not act on a number that is closed.
    #[inline]
    pub fn forget(&self, fd: c_int) {
        if let Some(slot) = self.used(fd) {
            self.forget_slot(fd, slot);
        }
    }

    /// Forgets all between these two.
    pub fn forget_range(&self, first: c_int, last: c_int) {
        (first..=last.min(self.end.load(Ordering::Relaxed))).for_each(|fd| self.forget(fd));
    }

    #[cold]
    fn forget_slot(&self, fd: c_int, slot: &Slot) {
        slot.when_nobody_ends_it();
        if slot.is_one_of_several() && (slot.is_wanted() || slot.is_ended()) {
            self.hand_on(slot);
        }
        if slot.set_of() != 0 && !slot.is_one_of_several() {
            self.forget_set(fd);
        }
        self.told(slot);
        slot.clear();
    }

    /// An epoll set is closed: what it has asked for, it does not wait for any more.
    fn forget_set(&self, set: c_int) {
        for (_, slot) in self.watched() {
            slot.want_nothing(set);
            slot.want_no_room(set);
        }
    }

    /// A closed number may have been the one in an epoll set, which keeps watching the socket as long as it has another
    /// number, or the one by which the connection was ended: another number takes the record over.
    fn hand_on(&self, closed: &Slot) {
        let heir = self.watched().find(|(_, slot)| !std::ptr::eq(*slot, closed) && slot.cookie() == closed.cookie());
        let Some((_, heir)) = heir else { return };
        if closed.is_wanted() {
            heir.want_as(closed);
        }
        if closed.unset_ended() {
            heir.set_ended();
        }
    }

    /// `new` is another number of `old`.
    pub fn duplicate(&self, old: c_int, new: c_int) {
        self.forget(new);
        let Some(from) = self.slot(old).filter(|from| from.cookie() != 0 || from.set_of() != 0) else { return };
        let Some(to) = self.slots.entry(new) else { return };
        if from.set_of() != 0 {
            to.duplicate_set(from);
            return;
        }
        to.duplicate(from);
        self.end.fetch_max(new + 1, Ordering::Relaxed);
    }

    /// The descriptors that are watched.
    fn watched(&self) -> impl Iterator<Item = (c_int, &Slot)> {
        (0..self.end.load(Ordering::Relaxed))
            .filter_map(|fd| Some((fd, self.slot(fd)?)))
            .filter(|(_, slot)| slot.cookie() != 0)
    }

    /// Bytes have come: the count of how long the program has waited begins anew.
    #[inline]
    pub fn received(&self, fd: c_int) {
        if let Some(slot) = self.slot(fd) {
            slot.no_wait(Wait::Receive);
        }
    }

    /// The program has waited on `fd`, from and until these nanoseconds of the clock: how many more it may wait,
    /// [`FOREVER`] if that has no bound. What is over is ended, and it may wait for 0 more.
    #[inline]
    fn waited(&self, fd: c_int, wait: Wait, time: (u64, u64), ready: bool) -> u64 {
        let Some(slot) = self.slot(fd).filter(|slot| slot.cookie() != 0) else {
            let is_set = self.waited_for_set(fd, (time.0 / NANOS, time.1 / NANOS));
            return if is_set { self.first_look() } else { FOREVER }; // what has been waited for a set is noted soon
        };
        let limit = slot.limit(wait);
        if limit == 0 {
            return FOREVER;
        }
        if ready {
            slot.no_wait(wait);
            return FOREVER;
        }
        let (nanos, waited) = (limit * NANOS, slot.add_wait(wait, time));
        if waited < nanos && wait == Wait::Receive {
            return nanos - waited;
        }
        self.look(fd, slot, wait, waited / NANOS, None).map_or(0, |silent| {
            slot.set_wait(wait, silent * NANOS, time.1);
            let most = if wait == Wait::Receive { limit } else { between_looks(limit) };
            limit.saturating_sub(silent).clamp(1, most) * NANOS
        })
    }

    /// For how many milliseconds a connection has been silent, while the program waited for so many, but for the pauses of
    /// the set that asks for it; `None` if that was too long, and it has been ended.
    #[cold]
    fn look(&self, fd: c_int, slot: &Slot, wait: Wait, waited: u64, pauses: Option<&Pauses>) -> Option<u64> {
        let limit = slot.limit(wait);
        let now = at_last_tick();
        let silence = |fd| {
            let silent = measured(fd, slot, wait, waited);
            pauses.map_or(silent, |pauses| pauses.without(silent, now, pauses::least(self.shortest)))
        };
        let silent = silence(fd);
        if !verdict::is_over(silent, limit) {
            return Some(silent);
        }
        let peer = if messages::debugging() { address::peer(fd) } else { None };
        let is_silent_still = |fd| kernel::identity(fd) == slot.cookie() && verdict::is_over(silence(fd), limit);
        let ended = slot.ending(|| match File::duplicate(fd) {
            // The duplicate has a number that no other thread knows, so it stays this socket's.
            Ok(own) => is_silent_still(own.fd()) && self.end(own.fd(), slot),
            Err(_) => false,
        });
        if !ended {
            return Some(0); // the number is another socket's by now, or there is no free descriptor: tried again later
        }
        if let Some(peer) = peer {
            let what = if wait == Wait::Receive { "no byte came" } else { "nothing was taken" };
            say!(
                Debug,
                "fd {fd}: {peer}: {what} for {}.{:03} s; the connection is ended",
                silent / 1000,
                silent % 1000
            );
        }
        None
    }

    /// Whoever asks for an error is told of a timeout from now on.
    fn end(&self, fd: c_int, slot: &Slot) -> bool {
        self.untold.fetch_add(1, Ordering::Relaxed);
        slot.set_ended();
        let ended = kernel::end(fd);
        if !ended {
            self.told(slot);
        }
        ended
    }

    /// Whether an error of this descriptor is that of a connection that was ended here, and nobody has been told of it
    /// yet. `last` if the kernel will not give it again.
    pub fn is_ours(&self, fd: c_int, last: bool) -> bool {
        if self.untold.load(Ordering::Relaxed) == 0 {
            return false;
        }
        let cookie = kernel::identity(fd);
        let is_this = |slot: &&Slot| slot.is_ended() && slot.cookie() == cookie;
        // Where it was ended by another of its numbers, that one is looked for.
        let found = self.slot(fd).filter(is_this).or_else(|| self.watched().map(|(_, slot)| slot).find(is_this));
        if let (Some(slot), true) = (found, last) {
            self.told(slot);
        }
        found.is_some()
    }

    /// Whoever asks this socket for an error is not told of ours any more.
    fn told(&self, slot: &Slot) {
        if slot.unset_ended() {
            self.untold.fetch_sub(1, Ordering::Relaxed);
        }
    }
}

/// How many milliseconds pass between two looks for room, for one limit: nothing tells when the peer has last taken
/// something.
fn between_looks(limit: u64) -> u64 {
    limit.div_ceil(8)
}

/// For how long the kernel says that a connection has been silent, while the program waited for so many milliseconds.
fn measured(fd: c_int, slot: &Slot, wait: Wait, waited: u64) -> u64 {
    let Some(facts) = kernel::facts(fd) else { return 0 };
    match wait {
        Wait::Receive => verdict::silent(&facts, waited),
        Wait::Send | Wait::SendInSet => {
            slot.since_start(wait, facts.acknowledged).map_or(0, |start| verdict::stuck(&facts, waited, start))
        }
    }
}
