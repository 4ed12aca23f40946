//! Counts for `STATS`, and the slowest connect that timed out. Nothing waits for another thread.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;
use std::net::{IpAddr, Ipv6Addr, SocketAddr};
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use libc::c_int;

use crate::apply;
use crate::descriptor::zeroes;

/// A peer and a time, each in words of their own.
#[derive(Debug)]
struct Connect {
    /// Nanoseconds on the monotonic clock; 0: nothing is known.
    time: AtomicU64,
    ip: [AtomicU64; 2],
    port: AtomicU64,
}

impl Connect {
    const fn none() -> Self {
        Self { time: AtomicU64::new(0), ip: [const { AtomicU64::new(0) }; 2], port: AtomicU64::new(0) }
    }

    fn put(&self, time: u64, peer: SocketAddr) {
        let ip = match peer.ip() {
            IpAddr::V4(v4) => v4.to_ipv6_mapped().to_bits(),
            IpAddr::V6(v6) => v6.to_bits(),
        };
        let [high, low] = &self.ip;
        #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
        low.store(ip as u64, Ordering::Relaxed);
        high.store((ip >> 64) as u64, Ordering::Relaxed);
        self.port.store(peer.port().into(), Ordering::Relaxed);
        self.time.store(time, Ordering::Release);
    }

    fn get(&self) -> Option<(u64, SocketAddr)> {
        let time = self.time.load(Ordering::Acquire);
        let [high, low] = &self.ip;
        let ip = u128::from(high.load(Ordering::Relaxed)) << 64 | u128::from(low.load(Ordering::Relaxed));
        let port = u16::try_from(self.port.load(Ordering::Relaxed)).ok()?;
        (time != 0).then(|| (time, SocketAddr::new(Ipv6Addr::from_bits(ip).to_canonical(), port)))
    }
}

/// Records of the slowest connect are written in turn, so that a reader finds one that nobody writes.
const RECORDS: usize = 64;

/// What is counted in one process.
#[derive(Debug)]
pub struct Stats {
    seen: AtomicU64,
    tuned: AtomicU64,
    connects: AtomicU64,
    timed_out: AtomicU64,
    /// When the last connect of each descriptor began.
    #[allow(clippy::disallowed_types, reason = "made at start-up")]
    begun: Box<[Connect]>,
    records: [Connect; RECORDS],
    /// Milliseconds of the slowest, and its record.
    slowest: AtomicU64,
    next: AtomicU64,
}

impl Default for Stats {
    /// Nothing counted yet.
    fn default() -> Self {
        Self {
            seen: AtomicU64::new(0),
            tuned: AtomicU64::new(0),
            connects: AtomicU64::new(0),
            timed_out: AtomicU64::new(0),
            // SAFETY: all zeroes is a valid Connect.
            begun: unsafe { zeroes() },
            records: [const { Connect::none() }; RECORDS],
            slowest: AtomicU64::new(0),
            next: AtomicU64::new(0),
        }
    }
}

/// The monotonic clock, in nanoseconds.
#[must_use]
pub fn now() -> u64 {
    let mut time = libc::timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: a live timespec.
    unsafe { libc::clock_gettime(libc::CLOCK_MONOTONIC, &raw mut time) };
    time.tv_sec.unsigned_abs().wrapping_mul(1_000_000_000).wrapping_add(time.tv_nsec.unsigned_abs())
}

impl Stats {
    /// A TCP socket was seen for the first time.
    pub fn seen(&self) {
        self.seen.fetch_add(1, Ordering::Relaxed);
    }

    /// Something of the settings holds for it.
    pub fn tuned(&self) {
        self.tuned.fetch_add(1, Ordering::Relaxed);
    }

    /// After a connect that began at `start`.
    pub fn connected(&self, fd: c_int, start: u64, peer: Option<SocketAddr>, result: Result<(), c_int>) {
        let goes_on = matches!(result, Err(libc::EALREADY | libc::EISCONN));
        if !goes_on {
            self.connects.fetch_add(1, Ordering::Relaxed);
            if let (Some(slot), Some(peer)) = (self.slot(fd), peer) {
                slot.put(start, peer);
            }
        }
        if result == Err(libc::ETIMEDOUT) {
            self.timed_out(fd);
        }
    }

    /// The last connect of `fd` has timed out.
    pub fn timed_out(&self, fd: c_int) {
        self.timed_out.fetch_add(1, Ordering::Relaxed);
        let Some((start, peer)) = self.slot(fd).and_then(Connect::get) else { return };
        let ms = now().saturating_sub(start) / 1_000_000;
        if ms <= self.slowest.load(Ordering::Relaxed) >> 32 {
            return;
        }
        let record = self.next.fetch_add(1, Ordering::Relaxed) % RECORDS as u64;
        if let Some(slot) = usize::try_from(record).ok().and_then(|record| self.records.get(record)) {
            slot.put(ms.max(1), peer);
            self.slowest.fetch_max(ms << 32 | record, Ordering::AcqRel);
        }
    }

    fn slot(&self, fd: c_int) -> Option<&Connect> {
        self.begun.get(usize::try_from(fd).ok()?)
    }

    fn slowest(&self) -> Option<(u64, SocketAddr)> {
        let record = self.slowest.load(Ordering::Acquire) & 0xffff_ffff;
        self.records.get(usize::try_from(record).ok()?)?.get()
    }
}

impl fmt::Display for Stats {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let [seen, tuned, connects, timed_out] =
            [&self.seen, &self.tuned, &self.connects, &self.timed_out].map(|n| n.load(Ordering::Relaxed));
        write!(f, "{seen} TCP sockets seen, {tuned} tuned, {connects} connects, {timed_out} timed out")?;
        if let Some((ms, peer)) = self.slowest() {
            let time = Duration::from_millis(ms);
            write!(f, " (slowest: {peer} after {}.{:03} s)", time.as_secs(), time.subsec_millis())?;
        }
        write!(f, ", {} options refused", apply::refusals())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_slowest_timeout_is_kept() {
        let stats = Stats::default();
        let peer = |n: u8| Some(SocketAddr::from(([10, 0, 0, n], 80)));
        stats.seen();
        stats.tuned();
        for (n, seconds) in [(1, 3), (2, 9), (3, 5)] {
            let start = now() - seconds * 1_000_000_000;
            stats.connected(7, start, peer(n), Err(libc::EINPROGRESS));
            stats.connected(7, now(), peer(9), Err(libc::EALREADY));
            stats.timed_out(7);
        }
        stats.connected(8, now(), peer(4), Ok(()));
        let line = stats.to_string();
        assert!(
            line.starts_with("1 TCP sockets seen, 1 tuned, 4 connects, 3 timed out (slowest: 10.0.0.2:80 after 9.0")
        );
        assert!(Stats::default().to_string().contains("0 timed out, "));
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
