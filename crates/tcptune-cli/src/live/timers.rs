//! The timer that a socket waits for: sock_diag(7), as ss(8) asks.
//!
//! Of /proc/PID/net/tcp, which has the timers as well, all sockets of the namespace would have to be read for each look;
//! here the kernel is asked for one socket by its addresses and its cookie. It answers about the network namespace in
//! which the netlink socket was made, so one is made in the process's.

use std::ffi::OsStr;
use std::io;
use std::net::IpAddr;
use std::os::fd::AsFd;
use std::time::Duration;

use netlink_packet_core::{NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::{ExtensionFlags, InetRequest, SocketId, StateFlags, Timer as Pending};
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use netlink_sys::{Socket, SocketAddr};
use procfs::process::Process;
use rustix::thread::LinkNameSpaceType;

use super::socket::Facts;

/// linux/inet_diag.h: `INET_DIAG_NOCOOKIE`.
const NO_COOKIE: [u8; 8] = [0xff; 8];

/// What a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// `keepalive`, `retransmit`, `probe` (of a window of zero).
    pub kind: &'static str,
    /// How long still.
    pub left: Duration,
}

/// Answers about one network namespace.
pub struct Timers(Socket);

impl Timers {
    /// Of the namespace of this process; the error is for the operator.
    pub fn of_process(process: &Process) -> Result<Self, String> {
        let (theirs, ours) = (process.namespaces(), Process::myself().and_then(|own| own.namespaces()));
        let identifier = |all: &procfs::process::Namespaces| all.0.get(OsStr::new("net")).map(|ns| ns.identifier);
        let same = match (&theirs, &ours) {
            (Ok(theirs), Ok(ours)) => identifier(theirs) == identifier(ours),
            _ => true,
        };
        let socket = if same { connected() } else { inside(process) };
        socket.map(Self).map_err(|error| {
            let named = tcptune_core::system::errno::Named(error.raw_os_error().unwrap_or(0));
            if same {
                format!("no timers: netlink socket of sock_diag(7): {named}")
            } else {
                format!("no timers: the process is in another network namespace, and setns(2) gives {named}; it needs CAP_SYS_ADMIN")
            }
        })
    }

    /// The timer of a socket; none if none runs, or it is gone.
    pub fn of(&self, facts: &Facts) -> Option<Timer> {
        let (local, peer) = (facts.local?, facts.peer?);
        let family = if local.is_ipv4() { AF_INET } else { AF_INET6 };
        // The first subflow of an MPTCP connection has its addresses, but is a socket of its own.
        let cookie = match facts.cookie {
            Some(cookie) if !facts.mptcp => words(cookie),
            _ => NO_COOKIE,
        };
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::empty(),
            states: StateFlags::all(),
            socket_id: SocketId {
                source_port: local.port(),
                destination_port: peer.port(),
                source_address: local.ip(),
                destination_address: of_family(peer.ip(), local.ip()),
                interface_id: facts.device,
                cookie,
            },
        };
        match self.ask(request).ok()?? {
            Pending::Retransmit(left, _) => Some(Timer { kind: "retransmit", left }),
            Pending::KeepAlive(left) => Some(Timer { kind: "keepalive", left }),
            Pending::Probe(left) => Some(Timer { kind: "probe", left }),
            Pending::TimeWait => None,
        }
    }

    fn ask(&self, request: InetRequest) -> io::Result<Option<Pending>> {
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        self.0.send(&bytes, 0)?;
        let (answer, _) = self.0.recv_from_full()?;
        let answer = NetlinkMessage::<SockDiagMessage>::deserialize(&answer).map_err(io::Error::other)?;
        Ok(match answer.payload {
            NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(response)) => response.header.timer,
            _ => None, // ENOENT or ESTALE: another socket by now
        })
    }
}

/// An address of the same family as `like`; both are of one connection.
fn of_family(address: IpAddr, like: IpAddr) -> IpAddr {
    match (address, like) {
        (IpAddr::V4(v4), IpAddr::V6(_)) => v4.to_ipv6_mapped().into(),
        _ => address,
    }
}

/// linux/inet_diag.h: the lower half first.
fn words(cookie: u64) -> [u8; 8] {
    let mut bytes = [0; 8];
    let halves = [cookie & u64::from(u32::MAX), cookie >> 32];
    for (to, half) in bytes.chunks_exact_mut(4).zip(halves) {
        to.copy_from_slice(&u32::try_from(half).unwrap_or_default().to_ne_bytes());
    }
    bytes
}

fn connected() -> io::Result<Socket> {
    let socket = Socket::new(NETLINK_SOCK_DIAG)?;
    socket.connect(&SocketAddr::new(0, 0))?;
    Ok(socket)
}

/// A netlink socket belongs to the namespace in which it was made, whatever becomes of the thread that made it.
fn inside(process: &Process) -> io::Result<Socket> {
    let namespace = process.open_relative("ns/net").map_err(|_| io::Error::from_raw_os_error(libc::EACCES))?;
    let thread = std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        connected()
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_cookie_is_two_words() {
        let bytes = words(0x1122_3344_5566_7788);
        assert_eq!(u32::from_ne_bytes([bytes[0], bytes[1], bytes[2], bytes[3]]), 0x5566_7788);
        assert_eq!(u32::from_ne_bytes([bytes[4], bytes[5], bytes[6], bytes[7]]), 0x1122_3344);
    }
}
