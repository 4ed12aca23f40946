//! What is asked of the kernel about a connection, and how the kernel ends it.
//!
//! connect(2) with `AF_UNSPEC` resets the connection and leaves `ECONNRESET` for whoever asks first; the shutdown(2) that
//! follows fails, and still sets the hang-up flag, so that every poll(2) of every thread reports the descriptor as
//! readable. Events that a hook made up would contradict the next poll.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem;

use libc::{c_int, sockaddr};

use super::verdict::Facts;
use crate::sockets::identity::Identity;
use crate::system::network;

/// asm-generic/ioctls.h: `FIONREAD`, what has not been read.
const SIOCINQ: c_int = 0x541B;
/// asm-generic/ioctls.h: `TIOCOUTQ`, what has not been acknowledged.
const SIOCOUTQ: c_int = 0x5411;
/// linux/sockios.h: what has not been sent at all.
const SIOCOUTQNSD: c_int = 0x894B;

/// Who a socket is, for as long as it is there, whatever its number; 0 if that cannot be said.
#[must_use]
pub fn identity(fd: c_int) -> u64 {
    Identity::of(fd).map_or(0, Identity::number)
}

/// The first fields of the kernel's `struct tcp_info` (linux/tcp.h), up to those that are looked at.
#[derive(Clone, Copy)]
#[repr(C)]
struct Info {
    state: u8,
    congestion_state: u8,
    retransmits: u8,
    more: [u8; 5],
    first: [u32; 9],
    last_data_sent: u32,
    last_ack_sent: u32,
    last_data_recv: u32,
    second: [u32; 12],
    rates: [u64; 2],
    bytes_acked: u64,
    bytes_received: u64,
}

const _: () = assert!(mem::offset_of!(Info, last_data_sent) == 44 && mem::offset_of!(Info, bytes_acked) == 120);

/// `TCP_INFO` of tcp(7).
fn info(fd: c_int) -> Option<Info> {
    // SAFETY: all zeroes is a valid Info.
    network::option_of(fd, libc::IPPROTO_TCP, libc::TCP_INFO, unsafe { mem::zeroed() }).ok()
}

/// What the kernel says of a connection; `None` if it is none of TCP.
#[must_use]
pub fn facts(fd: c_int) -> Option<Facts> {
    let info = info(fd)?;
    Some(Facts {
        state: info.state,
        retransmits: info.retransmits != 0,
        sent: info.last_data_sent.into(),
        received: info.last_data_recv.into(),
        // An urgent byte that has not been read yet is not among those that are counted.
        unread: network::queued(fd, SIOCINQ).ok()? > 0 || network::ready(fd, libc::POLLPRI) == Ok(libc::POLLPRI),
        unsent: network::queued(fd, SIOCOUTQNSD).ok()? > 0,
        acknowledged: info.bytes_acked,
        came: info.bytes_received,
    })
}

/// How many bytes the program has written in all, counted from where the kernel counts; `None` if that cannot be said.
#[must_use]
pub fn written(fd: c_int) -> Option<u64> {
    let acknowledged = info(fd)?.bytes_acked;
    let queued = u64::try_from(network::queued(fd, SIOCOUTQ).ok()?).ok()?;
    // An acknowledgement that came in between would be counted once or not at all.
    (info(fd)?.bytes_acked == acknowledged).then_some(acknowledged + queued)
}

/// Ends the connection, for all that know the socket. Whether the kernel has done so: it refuses where threads wait on it
/// (Linux 6.4 to 6.6), and where TLS is in the kernel.
#[must_use]
pub fn end(fd: c_int) -> bool {
    // SAFETY: all zeroes is a valid sockaddr, of family AF_UNSPEC (0).
    let unspecified: sockaddr = unsafe { mem::zeroed() };
    let ended = network::connect_to(fd, &unspecified).is_ok();
    if ended {
        let _ = network::shut_down(fd); // as above
    }
    ended
}
