//! The TCP sockets of a network namespace as the kernel lists them: sock_diag(7), as ss(8) asks.
//!
//! No descriptor is touched for it, so that nothing is held open meanwhile. The kernel answers about the network namespace
//! in which the netlink socket was made, so one is made in the process's.

use std::collections::HashMap;
use std::io;
use std::net::{IpAddr, SocketAddr};
use std::os::fd::AsFd;
use std::path::PathBuf;
use std::time::Duration;

use netlink_packet_core::{NLM_F_DUMP, NLM_F_REQUEST, NetlinkHeader, NetlinkMessage, NetlinkPayload};
use netlink_packet_sock_diag::SockDiagMessage;
use netlink_packet_sock_diag::constants::{AF_INET, AF_INET6, IPPROTO_TCP};
use netlink_packet_sock_diag::inet::nlas::Nla;
use netlink_packet_sock_diag::inet::{
    ExtensionFlags, InetRequest, InetResponse, SocketId, StateFlags, Timer as Pending,
};
use netlink_sys::Socket;
use netlink_sys::protocols::NETLINK_SOCK_DIAG;
use procfs::net::TcpNetEntry;
use procfs::process::Process;
use rustix::thread::LinkNameSpaceType;

use super::process::Target;
use super::socket::Facts;
use super::state::State;
use crate::screens::error::say;

/// include/net/tcp_states.h: sockets that are bound, and neither connected nor listening; Linux 6.8.
const BOUND_INACTIVE: u32 = 1 << 13;

/// What a socket waits for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timer {
    /// `keepalive`, `retransmit`, `probe` (of a window of zero).
    pub kind: &'static str,
    /// How long still.
    pub left: Duration,
}

/// Sockets of one network namespace, by inode.
#[derive(Default)]
pub struct Sockets {
    by_inode: HashMap<u64, Facts>,
}

impl Sockets {
    /// Of the namespace of this process. Where it cannot be entered, what /proc/PID/net/tcp has of it, and why.
    pub fn of_process(process: &Process) -> Result<Self, (Self, String)> {
        let own = std::fs::read_link("/proc/self/ns/net");
        let same = std::fs::read_link(format!("/proc/{}/ns/net", process.pid))
            .map_or(true, |ns| own.is_ok_and(|own| own == ns));
        let socket = if same { Socket::new(NETLINK_SOCK_DIAG) } else { inside(process) };
        socket.and_then(|socket| Self::dump(&socket)).map_err(|error| {
            let named = tcptune_core::system::errno::Named(error.raw_os_error().unwrap_or(0));
            let why = if same {
                format!("no timers: sock_diag(7) gives {named}")
            } else {
                format!("no timers: the process is in another network namespace, and setns(2) gives {named}; it needs CAP_SYS_ADMIN")
            };
            (Self::listed(process), why)
        })
    }

    /// The socket with this inode; none if it is neither bound nor connected, or no TCP socket.
    pub fn get(&self, inode: u64) -> Option<&Facts> {
        self.by_inode.get(&inode)
    }

    fn dump(socket: &Socket) -> io::Result<Self> {
        let mut sockets = Self::default();
        for family in [AF_INET, AF_INET6] {
            sockets.ask(socket, family)?;
        }
        Ok(sockets)
    }

    /// Asks for all of one family.
    fn ask(&mut self, socket: &Socket, family: u8) -> io::Result<()> {
        let request = InetRequest {
            family,
            protocol: IPPROTO_TCP,
            extensions: ExtensionFlags::INFO,
            states: StateFlags::from_bits_retain(StateFlags::all().bits() | BOUND_INACTIVE) - StateFlags::TIME_WAIT,
            socket_id: if family == AF_INET { SocketId::new_v4() } else { SocketId::new_v6() },
        };
        let mut header = NetlinkHeader::default();
        header.flags = NLM_F_REQUEST | NLM_F_DUMP;
        let mut message = NetlinkMessage::new(header, SockDiagMessage::InetRequest(request).into());
        message.finalize();
        let mut bytes = vec![0; message.buffer_len()];
        message.serialize(&mut bytes);
        socket.send(&bytes, 0)?;
        // The kernel fills as much as it is given room for, up to 32 KiB (netlink(7)).
        let mut room = vec![0; 64 << 10];
        loop {
            let length = socket.recv(&mut room.as_mut_slice(), 0)?;
            let mut rest = room.get(..length).unwrap_or_default();
            while !rest.is_empty() {
                let message = NetlinkMessage::<SockDiagMessage>::deserialize(rest).map_err(io::Error::other)?;
                let length = usize::try_from(message.header.length).unwrap_or(0).next_multiple_of(4);
                match message.payload {
                    NetlinkPayload::InnerMessage(SockDiagMessage::InetResponse(found)) => {
                        // The subflows of an MPTCP socket have its inode.
                        self.by_inode.entry(found.header.inode.into()).or_insert_with(|| facts(*found));
                    }
                    NetlinkPayload::Done(_) => return Ok(()),
                    NetlinkPayload::Error(error) => return Err(error.to_io()),
                    _ => {}
                }
                rest = rest.get(length.max(1)..).unwrap_or_default();
            }
        }
    }

    /// What /proc has of the namespace, for whoever may not enter it: no timers, no figures.
    fn listed(process: &Process) -> Self {
        let both = [process.tcp().map(|all| (false, all)), process.tcp6().map(|all| (true, all))];
        let by_inode = both.into_iter().flatten().flat_map(|(v6, all)| {
            all.into_iter().map(move |entry: TcpNetEntry| {
                let is_somewhere = |address: &SocketAddr| address.port() != 0;
                let facts = Facts {
                    mptcp: false,
                    v6,
                    state: State(entry.state.to_u8()),
                    local: Some(entry.local_address).filter(is_somewhere),
                    peer: Some(entry.remote_address).filter(is_somewhere),
                    timer: None,
                    queues: Some((entry.rx_queue, entry.tx_queue)),
                    info: None,
                };
                (entry.inode, facts)
            })
        });
        Self { by_inode: by_inode.collect() }
    }
}

/// The sockets of the namespaces of several processes, each read once.
#[derive(Default)]
pub struct Listed {
    by_namespace: HashMap<Option<PathBuf>, Sockets>,
}

impl Listed {
    /// Those of the namespace of this process. What is missing is said.
    pub fn of(&mut self, target: &Target) -> &Sockets {
        let process = target.proc();
        let namespace = std::fs::read_link(format!("/proc/{}/ns/net", process.pid)).ok();
        self.by_namespace.entry(namespace).or_insert_with(|| {
            Sockets::of_process(process).unwrap_or_else(|(sockets, why)| {
                say(&why);
                sockets
            })
        })
    }
}

fn facts(found: InetResponse) -> Facts {
    let InetResponse { header, nlas } = found;
    let address = |ip: IpAddr, port: u16| (port != 0).then(|| SocketAddr::new(ip.to_canonical(), port));
    let timer = match header.timer {
        Some(Pending::Retransmit(left, _)) => Some(Timer { kind: "retransmit", left }),
        Some(Pending::KeepAlive(left)) => Some(Timer { kind: "keepalive", left }),
        Some(Pending::Probe(left)) => Some(Timer { kind: "probe", left }),
        Some(Pending::TimeWait) | None => None,
    };
    let id = header.socket_id;
    Facts {
        mptcp: false,
        v6: header.family == AF_INET6,
        state: State(header.state),
        local: address(id.source_address, id.source_port),
        peer: address(id.destination_address, id.destination_port),
        timer,
        queues: Some((header.recv_queue, header.send_queue)),
        info: nlas.into_iter().find_map(|nla| match nla {
            Nla::TcpInfo(info) => Some(info),
            _ => None,
        }),
    }
}

/// A netlink socket belongs to the namespace in which it was made, whatever becomes of the thread that made it.
fn inside(process: &Process) -> io::Result<Socket> {
    let namespace = process.open_relative("ns/net").map_err(|_| io::Error::from_raw_os_error(libc::EACCES))?;
    let thread = std::thread::spawn(move || {
        rustix::thread::move_into_link_name_space(namespace.as_fd(), Some(LinkNameSpaceType::Network))?;
        Socket::new(NETLINK_SOCK_DIAG)
    });
    thread.join().unwrap_or_else(|_| Err(io::Error::other("the thread ended")))
}
