//! A socket of the process, behind a duplicate descriptor that is closed as soon as it is dropped.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd};

use libc::{c_int, socklen_t};
use netlink_packet_sock_diag::inet::nlas::TcpInfo;
use tcptune_core::options::phase::Phases;
use tcptune_core::options::table::{self, OPTIONS, Opt, SOCKET_OPTIONS, Sockopt, Target};
use tcptune_core::options::value::{Kind, OFF, Unit, Value};
use tcptune_core::options::wire::{Payload, Wire};
use tcptune_core::settings::source::KeepaliveDefaults;
use tcptune_core::sockets::descriptor::Fact;
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::{address, apply};

use super::diag::Timer;
use super::state::State;
use crate::system::kernel::KERNEL;

/// Room for `struct tcp_info` of kernels to come: they write as much as they have, and the rest stays zero.
const INFO_ROOM: usize = 512;

/// What a socket is, and where it is connected.
#[derive(Clone, Debug)]
pub struct Facts {
    /// Multipath TCP, or TCP.
    pub mptcp: bool,
    /// An IPv6 socket; its peer may have an IPv4 address.
    pub v6: bool,
    /// Its state; of MPTCP, that of its first subflow.
    pub state: State,
    /// The address that it is bound to.
    pub local: Option<SocketAddr>,
    /// Whom it is connected to, or connecting.
    pub peer: Option<SocketAddr>,
    /// What it waits for.
    pub timer: Option<Timer>,
    /// Bytes that the program has not read, and bytes that the peer has not acknowledged; of a listener, connections that
    /// are not accepted yet, and the backlog.
    pub queues: Option<(u32, u32)>,
    /// Figures that the kernel keeps of a connection.
    pub info: Option<TcpInfo>,
}

impl Facts {
    /// The facts of a socket that is neither bound nor connected, which sock_diag does not list. Its kind is (MPTCP, IPv6).
    pub fn unconnected((mptcp, v6): (bool, bool)) -> Self {
        Self { mptcp, v6, state: State::CLOSE, local: None, peer: None, timer: None, queues: None, info: None }
    }

    /// The phase of its life.
    pub fn phase(&self) -> Phases {
        self.state.phase(self.local.is_some_and(|local| local.port() != 0))
    }

    /// Whether it is a listener.
    pub fn listens(&self) -> bool {
        self.state == State::LISTEN
    }

    /// Whether its packets are those of IPv6.
    fn sends_v6(&self) -> bool {
        let address = self.peer.or(self.local.filter(|local| !local.ip().is_unspecified()));
        self.v6 && address.is_none_or(|address| address.is_ipv6())
    }

    /// Level and name of the option for the kind of packets that this socket sends; none if it has no such option.
    fn level_and_name(&self, option: &Sockopt) -> Option<(c_int, c_int)> {
        match option.v6 {
            Some(v6) if self.sends_v6() => Some((libc::IPPROTO_IPV6, v6)),
            _ if option.level == libc::IPPROTO_IPV6 && !self.v6 => None,
            _ => Some((option.level, option.optname)),
        }
    }
}

/// The values of its options.
#[derive(Clone, Debug)]
pub struct Reading {
    /// Row and value of each option that this kernel has for it.
    pub options: Vec<(usize, Value)>,
}

impl Reading {
    /// The value of the row with this name.
    pub fn value(&self, name: &str) -> Option<&Value> {
        self.options.iter().find(|(row, _)| OPTIONS[*row].name() == name).map(|(_, value)| value)
    }

    /// The same, as a number.
    pub fn int(&self, name: &str) -> Option<i64> {
        match self.value(name)? {
            Value::Int(n) => Some(*n),
            _ => None,
        }
    }
}

/// A socket that the process has, too.
pub struct Socket(OwnedFd);

impl Socket {
    /// Takes the duplicate.
    pub fn new(duplicate: OwnedFd) -> Self {
        Self(duplicate)
    }

    fn fd(&self) -> c_int {
        self.0.as_raw_fd()
    }

    fn int(&self, level: c_int, name: c_int) -> Option<c_int> {
        KERNEL.get_int(self.fd(), level, name).ok()
    }

    /// What it is; none if it is no TCP socket. `listed`: as sock_diag has it, which alone knows some of it.
    pub fn facts(&self, listed: Option<&Facts>) -> Option<Facts> {
        let mark = apply::mark(&KERNEL, self.fd())?;
        let mptcp = match mark.family()? {
            Family::Tcp => false,
            Family::Mptcp => true,
            Family::Other => return None,
        };
        let local = address::local(self.fd()).filter(|local| local.port() != 0);
        // getpeername(2) does not tell whom a connect that is going on is for.
        let peer = address::peer(self.fd()).or_else(|| listed?.peer);
        let info = self.info();
        let state = match &info {
            Some(info) => State(info.state),
            // MPTCP before Linux 5.16 has no TCP_INFO.
            None if self.int(libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Some(1) => State::LISTEN,
            None if peer.is_some() => State::ESTABLISHED,
            None => State::CLOSE,
        };
        let (timer, queues) = listed.map_or((None, None), |listed| (listed.timer, listed.queues));
        // Without one, MPTCP has none of its own.
        let info = info.or_else(|| listed?.info.clone());
        Some(Facts { mptcp, v6: mark.is(Fact::V6), state, local, peer, timer, queues, info })
    }

    fn info(&self) -> Option<TcpInfo> {
        let mut room = [0u8; INFO_ROOM];
        let mut len = socklen_t::try_from(INFO_ROOM).ok()?;
        // SAFETY: room of this length, and a live length.
        let r = unsafe {
            libc::getsockopt(self.fd(), libc::IPPROTO_TCP, libc::TCP_INFO, room.as_mut_ptr().cast(), &raw mut len)
        };
        if r == 0 { TcpInfo::parse(&room).ok() } else { None }
    }

    /// The values of its options. None of them has a side effect when it is read: `SO_ERROR`, which the program is
    /// waiting for, is not among them.
    pub fn read(&self, facts: &Facts) -> Reading {
        let rows = OPTIONS.iter().enumerate().take(SOCKET_OPTIONS);
        let options = rows.filter(|(row, opt)| is_told(*row, opt, facts)).filter_map(|(row, opt)| {
            let Target::Socket(option) = opt.target else { return None };
            Some((row, self.get(opt, &option, facts).ok()?))
        });
        Reading { options: options.collect() }
    }

    /// The value of an option.
    pub fn get(&self, opt: &Opt, option: &Sockopt, facts: &Facts) -> Result<Value, c_int> {
        let (level, name) = facts.level_and_name(option).ok_or(libc::ENOPROTOOPT)?;
        let value = option.wire.decode(&KERNEL.get(self.fd(), level, name)?);
        Ok(match value {
            // An unsigned int of the kernel.
            Value::Int(n) if n < 0 && opt.range.1 == i64::from(u32::MAX) && option.wire == Wire::Int => {
                Value::Int(n & i64::from(u32::MAX))
            }
            value => value,
        })
    }

    /// Its keepalive times; none where the kernel does not tell all of them.
    pub fn keepalive(&self, facts: &Facts) -> Option<KeepaliveDefaults> {
        let value = |name| {
            let (_, opt) = table::find(name)?;
            let Target::Socket(option) = opt.target else { return None };
            match self.get(opt, &option, facts) {
                Ok(Value::Int(n)) => Some(n),
                _ => None,
            }
        };
        Some(KeepaliveDefaults { idle: value("KEEPIDLE")?, interval: value("KEEPINTVL")?, count: value("KEEPCNT")? })
    }

    /// Sets an option, of both kinds of packets where an IPv6 socket may send both.
    pub fn set(&self, option: &Sockopt, facts: &Facts, payload: &Payload) -> Result<(), c_int> {
        if facts.level_and_name(option).is_none() {
            return Err(libc::ENOPROTOOPT);
        }
        KERNEL.set(self.fd(), option.level, option.optname, payload)?;
        match option.v6 {
            Some(v6) if facts.v6 => KERNEL.set(self.fd(), libc::IPPROTO_IPV6, v6, payload),
            _ => Ok(()),
        }
    }
}

/// Two rows may be the same socket option: whether this is the one that is meant for such a socket.
fn is_told(row: usize, opt: &Opt, facts: &Facts) -> bool {
    let Target::Socket(option) = opt.target else { return false };
    let same = |other: &Opt| matches!(other.target, Target::Socket(o) if (o.level, o.optname) == (option.level, option.optname));
    let has_twin = OPTIONS.iter().take(SOCKET_OPTIONS).enumerate().any(|(other, opt)| other != row && same(opt));
    match opt.kind {
        Kind::TrafficClass { shift } => shift == 0,
        _ if has_twin => option.live.contains(Phases::LISTENING) == facts.listens(),
        _ => true,
    }
}

/// A value as an operator would write it; `none` for what is below all that can be set: the kernel's "not set".
pub fn shown(opt: &Opt, value: &Value) -> String {
    match (opt.kind, value) {
        (Kind::Duration { word: Some(_), .. }, Value::Int(OFF)) | (Kind::Bool | Kind::Choice(_), _) => {
            opt.kind.show(value).to_string()
        }
        (_, Value::Int(n)) if *n < opt.range.0 => "none".to_owned(),
        (Kind::Duration { stored: Unit::Millisecond, .. }, Value::Int(ms)) if ms % 1000 == 0 => {
            format!("{}s", ms / 1000)
        }
        (_, Value::Name(name)) if name.is_empty() => "none".to_owned(),
        _ => opt.kind.show(value).to_string(),
    }
}
