//! Counts of every process that is tuned; and for `STATS` whom connects timed out to, and the slowest. Nothing waits for
//! another thread.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libc::c_int;

use crate::say;
use crate::sockets::apply;
use crate::sockets::slots::{Slots, Zeroes};
use crate::system::clock::nanoseconds;
use crate::system::memory;

/// A peer and a time, each in words of their own.
#[derive(Debug)]
struct Connect {
    /// Nanoseconds on the monotonic clock; 0: nothing is known.
    time: AtomicU64,
    ip: [AtomicU64; 2],
    /// With [`PENDING`].
    port: AtomicU64,
}

// SAFETY: four atomic integers.
unsafe impl Zeroes for Connect {}

/// In the word of the port: the program has not been told of the outcome yet.
const PENDING: u64 = 1 << 16;

impl Connect {
    #[cfg(test)]
    const fn none() -> Self {
        Self { time: AtomicU64::new(0), ip: [const { AtomicU64::new(0) }; 2], port: AtomicU64::new(0) }
    }

    fn put(&self, time: u64, peer: SocketAddr) {
        for (word, half) in self.ip.iter().zip(halves(peer)) {
            word.store(half, Ordering::Relaxed);
        }
        self.port.store(peer.port().into(), Ordering::Relaxed);
        self.time.store(time, Ordering::Release);
    }

    /// Says whether the outcome is still to come, and gives what was said before. Writes only where that is another.
    fn set_pending(&self, pending: bool) -> bool {
        let before = self.is_pending();
        match (before, pending) {
            (true, false) => _ = self.port.fetch_and(!PENDING, Ordering::Relaxed),
            (false, true) => _ = self.port.fetch_or(PENDING, Ordering::Relaxed),
            _ => {}
        }
        before
    }

    fn is_pending(&self) -> bool {
        self.port.load(Ordering::Relaxed) & PENDING != 0
    }

    /// Writes only where there is something to forget.
    fn forget(&self) {
        if self.time.load(Ordering::Relaxed) != 0 {
            self.time.store(0, Ordering::Relaxed);
            self.set_pending(false);
        }
    }

    fn get(&self) -> Option<(u64, SocketAddr)> {
        let time = self.time.load(Ordering::Acquire);
        let [high, low] = self.ip.each_ref().map(|half| half.load(Ordering::Relaxed));
        let port = self.port.load(Ordering::Relaxed) & !PENDING;
        if time == 0 { None } else { Some((time, socket_address(high, low, port)?)) }
    }
}

/// Whom connects timed out to.
#[derive(Debug)]
#[repr(C)]
struct Peer {
    /// With [`TAKEN`] as soon as a thread writes to it, and [`READY`] when it has.
    port: AtomicU64,
    ip: [AtomicU64; 2],
    /// How often.
    times: AtomicU64,
    /// Milliseconds of the slowest.
    slowest: AtomicU64,
}

/// In the word of the port.
const TAKEN: u64 = 1 << 17;
/// In the word of the port.
pub const READY: u64 = 1 << 18;

/// How many peers are told apart. A timeout to a further one is counted, but not under its address.
const PEERS: usize = 128;

/// What is counted always.
#[derive(Debug)]
#[repr(C)]
pub struct Totals {
    seen: AtomicU64,
    tuned: AtomicU64,
    connects: AtomicU64,
    timed_out: AtomicU64,
    refused: AtomicU64,
}

/// The counts of `STATS`. In memory of their own, which a forked child finds empty, and which `sockets::block` reads as
/// words.
#[derive(Debug)]
#[repr(C)]
pub struct Counts {
    totals: Totals,
    peers: [Peer; PEERS],
}

/// Words of it, of which so many are counts, and so many each peer.
pub const WORDS: usize = size_of::<Counts>() / size_of::<u64>();
/// Words before the peers.
pub const TOTALS: usize = size_of::<Totals>() / size_of::<u64>();
/// Words of a peer.
pub const PEER: usize = size_of::<Peer>() / size_of::<u64>();

impl Totals {
    /// Nothing counted yet.
    #[must_use]
    pub const fn none() -> Self {
        let [seen, tuned, connects, timed_out, refused] = [const { AtomicU64::new(0) }; TOTALS];
        Self { seen, tuned, connects, timed_out, refused }
    }

    /// From now on refused options are counted here.
    pub fn begin(&'static self) {
        apply::count_refusals(&self.refused);
    }

    /// A TCP socket was seen for the first time.
    #[inline]
    pub fn seen(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// Something of the settings holds for it.
    #[inline]
    pub fn tuned(&self) {
        self.tuned.fetch_add(1, Ordering::Relaxed);
    }

    /// After a connect, of which nothing else is known: one that asks for the outcome of an earlier one counts, too.
    pub fn connected(&self, result: Result<(), c_int>) {
        if !matches!(result, Err(libc::EALREADY | libc::EISCONN)) {
            self.connects.fetch_add(1, Ordering::Relaxed);
        }
        if result == Err(libc::ETIMEDOUT) {
            self.timed_out();
        }
    }

    /// A connect has timed out.
    pub fn timed_out(&self) {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
    }
}

impl Counts {
    const fn none() -> Self {
        Self { totals: Totals::none(), peers: [const { Peer::none() }; PEERS] }
    }

    /// The record of a peer, which may be a new one; none if there is no room.
    fn peer(&self, address: SocketAddr) -> Option<&Peer> {
        let [high, low] = halves(address);
        let port = u64::from(address.port());
        let start = usize::try_from((high ^ low ^ port).wrapping_mul(0x9e37_79b9_7f4a_7c15) >> 32).unwrap_or(0);
        let (before, behind) = self.peers.split_at_checked(start % PEERS)?;
        for peer in behind.iter().chain(before) {
            if peer.address() == Some(address) {
                return Some(peer);
            }
            let taken = peer.port.compare_exchange(0, TAKEN, Ordering::Relaxed, Ordering::Relaxed);
            if taken.is_ok() {
                for (word, half) in peer.ip.iter().zip([high, low]) {
                    word.store(half, Ordering::Relaxed);
                }
                peer.port.store(port | READY, Ordering::Release);
                return Some(peer);
            }
        }
        None
    }

    /// A connect to this peer has timed out after so many milliseconds.
    #[inline(never)] // for the stack: a connect has little
    fn add(&self, peer: SocketAddr, ms: u64) {
        if let Some(of_it) = self.peer(peer) {
            of_it.times.fetch_add(1, Ordering::Relaxed);
            of_it.slowest.fetch_max(ms.max(1), Ordering::Relaxed);
        }
    }

    /// New ones. Before Linux 4.14, or without memory, they are not wiped in a child (madvise(2), `MADV_WIPEONFORK`).
    fn wiped_on_fork() -> &'static Self {
        static OTHERWISE: Counts = Counts::none();
        let page = memory::map(size_of::<Self>());
        if page.is_null() {
            return &OTHERWISE;
        }
        memory::wipe_on_fork(page, size_of::<Self>());
        #[allow(clippy::cast_ptr_alignment, reason = "pages are aligned")]
        // SAFETY: fresh pages of this size, which nothing unmaps; all zeroes is a valid Counts.
        unsafe {
            &*page.cast()
        }
    }
}

impl Peer {
    const fn none() -> Self {
        let [port, times, slowest] = [const { AtomicU64::new(0) }; 3];
        Self { port, ip: [const { AtomicU64::new(0) }; 2], times, slowest }
    }

    fn address(&self) -> Option<SocketAddr> {
        let port = self.port.load(Ordering::Acquire);
        let [high, low] = self.ip.each_ref().map(|half| half.load(Ordering::Relaxed));
        (port & READY != 0).then(|| socket_address(high, low, port & 0xffff)).flatten()
    }
}

/// The address as one of IPv6, in two words.
fn halves(address: SocketAddr) -> [u64; 2] {
    let ip = match address.ip() {
        IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
        IpAddr::V6(v6) => v6.to_bits(),
    };
    #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
    [(ip >> 64) as u64, ip as u64]
}

/// The address of such words.
#[must_use]
pub fn socket_address(high: u64, low: u64, port: u64) -> Option<SocketAddr> {
    let ip = Ipv6Addr::from_bits(u128::from(high) << 64 | u128::from(low)).to_canonical();
    Some(SocketAddr::new(ip, u16::try_from(port).ok()?))
}

/// What is counted in one process.
#[derive(Debug)]
pub struct Stats {
    counts: &'static Counts,
    /// When the last connect of each descriptor began.
    begun: Slots<Connect>,
}

impl Default for Stats {
    /// Nothing counted yet.
    fn default() -> Self {
        Self { counts: Counts::wiped_on_fork(), begun: Slots::new() }
    }
}

impl Stats {
    /// After a connect that began at `start`. One to no peer (`AF_UNSPEC`) is none, and one that asks for the outcome of
    /// an earlier one is the same.
    pub fn connected(&self, fd: c_int, start: u64, peer: Option<SocketAddr>, result: Result<(), c_int>) {
        let pending = peer.is_some() && matches!(result, Err(libc::EINPROGRESS | libc::EALREADY | libc::EINTR));
        let was_pending = self.begun.entry(fd).is_some_and(|slot| slot.set_pending(pending));
        let is_the_same = was_pending && result != Err(libc::EINPROGRESS);
        if let (Some(peer), false) = (peer, is_the_same || matches!(result, Err(libc::EALREADY | libc::EISCONN))) {
            self.totals().connects.fetch_add(1, Ordering::Relaxed);
            if let Some(slot) = self.begun.entry(fd) {
                slot.put(start, peer);
                slot.set_pending(pending);
            }
        }
        if result == Err(libc::ETIMEDOUT) {
            self.timed_out(fd);
        }
    }

    /// The last connect of `fd` has failed with this error.
    pub fn failed(&self, fd: c_int, error: c_int) {
        if let Some(slot) = self.begun.get(fd) {
            slot.set_pending(false);
        }
        if error == libc::ETIMEDOUT {
            self.timed_out(fd);
        }
    }

    /// The number is another socket's now.
    pub fn forget(&self, fd: c_int) {
        if let Some(slot) = self.begun.get(fd) {
            slot.forget();
        }
    }

    /// `new` is another number of the socket `old`.
    pub fn duplicated(&self, old: c_int, new: c_int) {
        self.forget(new);
        if let (Some(from), Some(to)) = (self.begun.get(old), self.begun.entry(new))
            && let Some((start, peer)) = from.get()
        {
            to.put(start, peer);
            to.set_pending(from.is_pending());
        }
    }

    fn timed_out(&self, fd: c_int) {
        self.totals().timed_out();
        let Some((start, peer)) = self.begun.get(fd).and_then(Connect::get) else { return };
        let ms = nanoseconds().saturating_sub(start) / 1_000_000;
        say!(Info, "fd {fd}: connect to {peer} timed out after {}.{:03} s", ms / 1000, ms % 1000);
        self.counts.add(peer, ms);
    }

    fn slowest(&self) -> Option<(u64, SocketAddr)> {
        let peers = self.counts.peers.iter();
        let times = peers.filter_map(|peer| Some((peer.slowest.load(Ordering::Relaxed), peer.address()?)));
        times.max_by_key(|(ms, _)| *ms)
    }

    /// Whether there was no TCP socket.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.totals().seen.load(Ordering::Relaxed) == 0
    }

    /// What is counted without `STATS`, too.
    #[must_use]
    pub fn totals(&self) -> &'static Totals {
        &self.counts.totals
    }

    /// The counts themselves.
    #[must_use]
    pub fn counts(&self) -> &'static Counts {
        self.counts
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let counts = self.totals();
        let [seen, tuned, connects, timed_out] =
            [&counts.seen, &counts.tuned, &counts.connects, &counts.timed_out].map(|n| n.load(Ordering::Relaxed));
        write!(f, "{seen} TCP sockets seen, {tuned} tuned, {connects} connects, {timed_out} timed out")?;
        if let Some((ms, peer)) = self.slowest() {
            let time = Duration::from_millis(ms);
            write!(f, " (slowest: {peer} after {}.{:03} s)", time.as_secs(), time.subsec_millis())?;
        }
        write!(f, ", {} options refused", counts.refused.load(Ordering::Relaxed))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_timeout_is_kept() {
        let stats = Stats::default();
        let peer = |n: u8| Some(SocketAddr::from(([10, 0, 0, n], 80)));
        stats.totals().seen();
        stats.totals().tuned();
        for (n, seconds) in [(1, 3), (2, 9), (3, 5)] {
            let start = nanoseconds() - seconds * 1_000_000_000;
            stats.connected(7, start, peer(n), Err(libc::EINPROGRESS));
            stats.connected(7, nanoseconds(), peer(9), Err(libc::EALREADY));
            stats.duplicated(7, 9);
            stats.failed(9, libc::ETIMEDOUT);
        }
        stats.connected(8, nanoseconds(), peer(4), Ok(()));
        let line = stats.to_string();
        assert!(
            line.starts_with("1 TCP sockets seen, 1 tuned, 4 connects, 3 timed out (slowest: 10.0.0.2:80 after 9.0")
        );
        assert!(Stats::default().to_string().contains("0 timed out, "));
    }

    #[test]
    fn an_attempt_counts_once_however_its_outcome_is_asked_for() {
        let stats = Stats::default();
        let peer = Some(SocketAddr::from(([10, 0, 0, 1], 80)));
        let again = |result| stats.connected(7, nanoseconds(), peer, result);
        let start = nanoseconds() - 2_000_000_000;
        stats.connected(7, start, peer, Err(libc::EINPROGRESS));
        again(Err(libc::EINTR));
        again(Err(libc::ETIMEDOUT));
        assert!(stats.to_string().contains("1 connects, 1 timed out (slowest: 10.0.0.1:80 after 2.0"), "{stats}");
        again(Err(libc::EINPROGRESS));
        stats.connected(7, nanoseconds(), None, Ok(())); // AF_UNSPEC
        again(Err(libc::EINPROGRESS));
        stats.failed(7, libc::ECONNREFUSED);
        again(Ok(()));
        again(Err(libc::EISCONN));
        assert!(stats.to_string().contains("4 connects, 1 timed out"), "{stats}");
        again(Err(libc::EINPROGRESS));
        stats.forget(7);
        again(Ok(()));
        assert!(stats.to_string().contains("6 connects, 1 timed out"), "{stats}");
    }

    #[test]
    fn peers_of_both_families() {
        let connect = Connect::none();
        assert_eq!(connect.get(), None);
        for peer in ["10.1.2.3:80", "[fe80::1]:65535", "[::1]:0"] {
            let peer = peer.parse();
            if let Ok(peer) = peer {
                connect.put(5, peer);
            }
            assert_eq!(connect.get(), peer.ok().map(|peer| (5, peer)));
        }
    }
}
