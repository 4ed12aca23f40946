//! The option table: one row per setting. Parser, apply loop, help, README table and round-trip test all read it.
//!
//! A row becomes an entry of two tables with one index: [`OPTIONS`], what the shim needs inside the program, and
//! [`DOCS`], text for people, which the linker drops from the shim. Each pointer in a table is a relocation at exec, so
//! what the shim needs has none: names lie in one text, and lists of words are numbers ([`Choice`]).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;

use libc::c_int;

use crate::options::group::Group;
use crate::options::phase::{Phases, Stages};
use crate::options::value::{Kind, Unit, Word};
use crate::options::ways::Ways;
use crate::options::wire::Wire;
use crate::options::words::{Choice, Expected};

/// What the names of all variables begin with.
pub const PREFIX: &str = "TCPTUNE_";

/// `TCPTUNE_LIBRARY` is no setting: it tells the command `tcptune` where the library is.
pub const LIBRARY: &str = "LIBRARY";

/// What the shim needs of a row.
#[derive(Debug)]
pub struct Opt {
    /// Index of its name in [`NAMED`]; its aliases follow there.
    named: u8,
    /// How the value is written.
    pub kind: Kind,
    /// Smallest and largest value, in the unit in which it is stored.
    pub range: (i64, i64),
    /// First kernel that has it; none for tcptune's own.
    pub since: Since,
    /// What the value is for.
    pub target: Target,
}

impl Opt {
    /// Name without the prefix: `KEEPIDLE` is the variable `TCPTUNE_KEEPIDLE`.
    #[must_use]
    pub fn name(&self) -> &'static str {
        self.names().next().unwrap_or_default()
    }

    /// Its name, then the others that are accepted.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        let named = NAMED.get(usize::from(self.named)..).unwrap_or_default();
        let row = named.first().map(|named| named.row);
        named.iter().take_while(move |named| Some(named.row) == row).map(|named| named.text())
    }
}

/// A kernel version: major, minor and, before 3.0, a third number.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Since(pub u8, pub u8, pub u8);

impl Since {
    /// Not the kernel's affair.
    pub const NONE: Self = Self(0, 0, 0);
}

impl fmt::Display for Since {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self(major, minor, third) = self;
        write!(f, "{major}.{minor}")?;
        if *third == 0 { Ok(()) } else { write!(f, ".{third}") }
    }
}

/// What people read of a row.
#[derive(Debug)]
pub struct Doc {
    /// What it does, one sentence.
    pub help: &'static str,
    /// Where it is defined.
    pub source: &'static str,
    /// By which ways into a program it can be set.
    pub ways: Ways,
    /// What it is about.
    pub group: Group,
}

/// What a setting's value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A socket option.
    Socket(Sockopt),
    /// A behaviour of tcptune itself.
    Own(Own),
}

/// A socket option.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Sockopt {
    /// `SOL_SOCKET`, `IPPROTO_TCP`, … An option of level `IPPROTO_IPV6` is for IPv6 sockets only.
    pub level: c_int,
    /// `SO_KEEPALIVE`, `TCP_KEEPIDLE`, …
    pub optname: c_int,
    /// The option of `IPPROTO_IPV6` that says the same for IPv6 packets: an IPv6 socket may send both kinds, and gets both
    /// options.
    pub v6: Option<c_int>,
    /// The type of its value.
    pub wire: Wire,
    /// The intercepted calls that apply it.
    pub stages: Stages,
    /// The phases of a socket in which setting it still has an effect.
    pub live: Phases,
}

impl Sockopt {
    /// Whether it is this option.
    #[must_use]
    pub const fn is(&self, level: c_int, optname: c_int) -> bool {
        (self.level == level && self.optname == optname)
            || (level == libc::IPPROTO_IPV6 && matches!(self.v6, Some(v6) if v6 == optname))
    }
}

/// Level and name of a socket option.
pub type OptionName = (c_int, c_int);

/// What the kernel knows by a second name, which sets the same field of the socket, and the name of its row.
pub const SECOND_NAMES: [(OptionName, OptionName); 7] = [
    ((libc::SOL_SOCKET, libc::SO_SNDBUFFORCE), (libc::SOL_SOCKET, libc::SO_SNDBUF)),
    ((libc::SOL_SOCKET, libc::SO_RCVBUFFORCE), (libc::SOL_SOCKET, libc::SO_RCVBUF)),
    ((libc::SOL_SOCKET, libc::SO_BINDTOIFINDEX), (libc::SOL_SOCKET, libc::SO_BINDTODEVICE)),
    // With a 64-bit time_t on a machine of 32 bits, these two have numbers of their own (Linux 5.1), on all of ours the same
    // ones (asm-generic/socket.h); libc names them on some.
    ((libc::SOL_SOCKET, 66), (libc::SOL_SOCKET, libc::SO_RCVTIMEO)),
    ((libc::SOL_SOCKET, 67), (libc::SOL_SOCKET, libc::SO_SNDTIMEO)),
    ((libc::IPPROTO_IPV6, libc::IPV6_FREEBIND), (libc::IPPROTO_IP, libc::IP_FREEBIND)),
    ((libc::IPPROTO_IPV6, IPV6_TRANSPARENT), (libc::IPPROTO_IP, libc::IP_TRANSPARENT)),
];

/// An option by the name of its row.
#[must_use]
pub fn by_first_name(level: c_int, optname: c_int) -> OptionName {
    let named = (level, optname);
    SECOND_NAMES.iter().find(|(second, _)| *second == named).map_or(named, |(_, first)| *first)
}

/// The settings that no socket option stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Bound on establishing a connection.
    ConnectTimeout,
    /// Bound on the silence of a client.
    ClientTimeout,
    /// The queue of a listener.
    Backlog,
    /// The address that a connection comes from.
    Source,
    /// Multipath TCP in place of TCP.
    Mptcp,
    /// Which value wins.
    Precedence,
    /// Whom settings hold for.
    Rules,
    /// A file of settings and rules.
    Config,
    /// Settings for a purpose.
    Profile,
    /// The programs that are tuned.
    OnlyPrograms,
    /// The programs that are not.
    SkipPrograms,
    /// The way into programs.
    Backend,
    /// Refuse to start on a bad setting.
    Strict,
    /// A line of counts at exit.
    Stats,
    /// Log level.
    Log,
    /// Log file.
    LogFile,
    /// Leave everything alone.
    Disable,
}

impl Own {
    /// Whether each socket can have a value of its own, so that it may stand in a rule.
    #[must_use]
    pub const fn is_of_a_socket(self) -> bool {
        matches!(
            self,
            Self::ConnectTimeout | Self::ClientTimeout | Self::Backlog | Self::Source | Self::Mptcp | Self::Precedence
        )
    }
}

/// Why a name that looks like a setting is none, if it is such a name.
#[must_use]
pub const fn no_setting(name: &str) -> Option<&'static str> {
    Some(match name.as_bytes() {
        b"RETRIES" => "no socket option; SYNCNT bounds the SYNs of a connect, USER_TIMEOUT the retransmission of data",
        b"RETRIES1" => "no socket option, only the sysctl net.ipv4.tcp_retries1",
        b"RETRIES2" => "no socket option, only the sysctl net.ipv4.tcp_retries2; USER_TIMEOUT bounds the same",
        _ => return None,
    })
}

/// Rows that need the program's own calls: the library and the supervisor see those.
const CALLS: Ways = Ways::PRELOAD.or(Ways::NOTIFY);
/// What bpf_setsockopt refuses (measured on 6.18).
const NOT_CGROUP: Ways = Ways::ALL.but(Ways::CGROUP);

const SECONDS: Kind = duration(Unit::Second, Unit::Second, None);
const SECONDS_OR_OFF: Kind = duration(Unit::Second, Unit::Second, Some(Word::Off));
const OWN_TIMEOUT: Kind = duration(Unit::Second, Unit::Millisecond, None);
const MILLISECONDS: Kind = duration(Unit::Millisecond, Unit::Millisecond, None);
const MILLISECONDS_OR_AUTO: Kind = duration(Unit::Millisecond, Unit::Millisecond, Some(Word::Auto));
const MICROSECONDS: Kind = duration(Unit::Microsecond, Unit::Microsecond, None);
const PROGRAMS: Kind = Kind::Text(Expected::Programs);
const ON_OR_OFF: (i64, i64) = (0, 1);
const ANY: (i64, i64) = (0, 0);
const INT_MAX: i64 = i32::MAX as i64;
const UINT_MAX: i64 = u32::MAX as i64;
const AT_BIND: Stages = Stages::BIND.or(Stages::LISTEN);
const BEGUN: Stages = Stages::CONNECT.or(Stages::ACCEPT);

const fn duration(bare: Unit, stored: Unit, word: Option<Word>) -> Kind {
    Kind::Duration { bare, stored, word }
}

const fn option(level: c_int, optname: c_int, v6: Option<c_int>, wire: Wire, stages: Stages) -> Target {
    Target::Socket(Sockopt { level, optname, v6, wire, stages, live: Phases::of(stages) })
}

/// An option that the kernel looks at twice: on the socket that binds, and on each connection in TIME_WAIT on its port, which
/// has it from the socket that it was.
const fn left_behind(optname: c_int, stages: Stages) -> Target {
    let live = Phases::of(Stages::SOCKET);
    Target::Socket(Sockopt { level: libc::SOL_SOCKET, optname, v6: None, wire: Wire::Int, stages, live })
}

/// An option that only the handshake looks at: set later, it has no effect.
const fn handshake(optname: c_int, live: Phases) -> Target {
    let (level, wire) = (libc::IPPROTO_TCP, Wire::Int);
    Target::Socket(Sockopt { level, optname, v6: None, wire, stages: Stages::SOCKET, live })
}

const fn tcp(optname: c_int, stages: Stages) -> Target {
    option(libc::IPPROTO_TCP, optname, None, Wire::Int, stages)
}

const fn socket(optname: c_int, stages: Stages) -> Target {
    option(libc::SOL_SOCKET, optname, None, Wire::Int, stages)
}

/// An option of `IPPROTO_IP` that IPv6 sockets have as well.
const fn ip(optname: c_int, stages: Stages) -> Target {
    option(libc::IPPROTO_IP, optname, None, Wire::Int, stages)
}

const fn ip_and_ipv6(optname: c_int, v6: c_int) -> Target {
    option(libc::IPPROTO_IP, optname, Some(v6), Wire::Int, Stages::SOCKET)
}

/// linux/in6.h; not in the libc crate for all of Linux.
const IPV6_TRANSPARENT: c_int = 75;
/// linux/tcp.h; not in the libc crate yet.
const TCP_RTO_MAX_MS: c_int = 44;
/// linux/tcp.h; not in the libc crate yet.
const TCP_RTO_MIN_US: c_int = 45;

macro_rules! options {
    ($({
        $name:literal $(or $alias:literal)*, $kind:expr, $range:expr, $target:expr,
        since: $since:expr, source: $source:literal, ways: $ways:expr, group: $group:expr,
        $help:literal
    })*) => {
        /// The name of each row, and its aliases; for the compiler alone.
        const ROWS: &[&[&str]] = &[$(&[$name, $($alias),*]),*];

        /// All of these names, one after the other, for the shim.
        const NAMES: &str = concat!($($name, $($alias,)*)*);

        /// The rows, as the shim needs them.
        pub static OPTIONS: [Opt; ROWS.len()] = [$(Opt {
            named: place($name).0, kind: $kind, range: $range, since: $since, target: $target,
        }),*];

        /// The rows, as people read them; same index as [`OPTIONS`].
        pub static DOCS: [Doc; ROWS.len()] =
            [$(Doc { help: $help, source: $source, ways: $ways, group: $group }),*];
    };
}

options! {
    {
        "KEEPALIVE", Kind::Bool, ON_OR_OFF, socket(libc::SO_KEEPALIVE, Stages::SOCKET),
        since: Since(2, 0, 0), source: "socket(7) SO_KEEPALIVE", ways: Ways::ALL, group: Group::Keepalive,
        "Probe an idle connection. Any of KEEPIDLE, KEEPINTVL, KEEPCNT turns it on, unless this is off."
    }
    {
        "KEEPIDLE" or "KEEPALIVE_TIME", SECONDS, (1, 32_767), tcp(libc::TCP_KEEPIDLE, Stages::SOCKET),
        since: Since(2, 4, 0), source: "tcp(7) TCP_KEEPIDLE", ways: Ways::ALL, group: Group::Keepalive,
        "Idle time before the first keepalive probe."
    }
    {
        "KEEPINTVL" or "KEEPALIVE_INTVL", SECONDS, (1, 32_767), tcp(libc::TCP_KEEPINTVL, Stages::SOCKET),
        since: Since(2, 4, 0), source: "tcp(7) TCP_KEEPINTVL", ways: Ways::ALL, group: Group::Keepalive,
        "Time between two keepalive probes."
    }
    {
        "KEEPCNT" or "KEEPALIVE_PROBES", Kind::Count, (1, 127), tcp(libc::TCP_KEEPCNT, Stages::SOCKET),
        since: Since(2, 4, 0), source: "tcp(7) TCP_KEEPCNT", ways: Ways::ALL, group: Group::Keepalive,
        "Unanswered keepalive probes that end the connection."
    }
    {
        "SYNCNT" or "SYN_RETRIES", Kind::Count, (1, 127), handshake(libc::TCP_SYNCNT, Phases::UNCONNECTED.or(Phases::CONNECTING)),
        since: Since(2, 4, 0), source: "tcp(7) TCP_SYNCNT", ways: Ways::ALL, group: Group::Connecting,
        "SYN retransmissions before a connect gives up; independent of CONNECT_TIMEOUT, whichever ends first."
    }
    {
        "USER_TIMEOUT", MILLISECONDS_OR_AUTO, (1, INT_MAX), tcp(libc::TCP_USER_TIMEOUT, Stages::SOCKET),
        since: Since(2, 6, 37), source: "tcp(7) TCP_USER_TIMEOUT", ways: Ways::ALL, group: Group::Timeouts,
        "How long sent data may stay unacknowledged, or unread by a peer that is alive, before the connection ends; \
         auto: KEEPIDLE + KEEPINTVL × KEEPCNT."
    }
    {
        "LINGER", SECONDS_OR_OFF, (0, 32_767),
        option(libc::SOL_SOCKET, libc::SO_LINGER, None, Wire::Linger, Stages::SOCKET),
        since: Since(2, 0, 0), source: "socket(7) SO_LINGER", ways: NOT_CGROUP, group: Group::Timeouts,
        "How long close waits until unsent data is sent; 0 resets the connection instead, off sends in the background."
    }
    {
        "LINGER2", SECONDS, (1, 120), tcp(libc::TCP_LINGER2, Stages::SOCKET),
        since: Since(2, 4, 0), source: "tcp(7) TCP_LINGER2", ways: NOT_CGROUP, group: Group::Timeouts,
        "How long a closed connection stays in FIN_WAIT2, waiting for the peer to close as well."
    }
    {
        "RTO_MAX", MILLISECONDS, (1000, 120_000), tcp(TCP_RTO_MAX_MS, Stages::SOCKET),
        since: Since(6, 15, 0), source: "linux/tcp.h TCP_RTO_MAX_MS", ways: Ways::ALL, group: Group::Timeouts,
        "Longest time between two retransmissions of data."
    }
    {
        "RTO_MIN", MICROSECONDS, (2000, 200_000), tcp(TCP_RTO_MIN_US, Stages::SOCKET),
        since: Since(6, 15, 0), source: "linux/tcp.h TCP_RTO_MIN_US", ways: NOT_CGROUP, group: Group::Timeouts,
        "Shortest time before data is retransmitted; the kernel refuses less than two of its clock ticks."
    }
    {
        "THIN_LINEAR_TIMEOUTS", Kind::Bool, ON_OR_OFF, tcp(libc::TCP_THIN_LINEAR_TIMEOUTS, Stages::SOCKET),
        since: Since(2, 6, 34), source: "linux/tcp.h TCP_THIN_LINEAR_TIMEOUTS", ways: Ways::ALL, group: Group::Timeouts,
        "Retransmit up to six times without doubling the time in between, while few packets are in flight."
    }
    {
        "FASTOPEN_CONNECT", Kind::Bool, ON_OR_OFF, handshake(libc::TCP_FASTOPEN_CONNECT, Phases::UNCONNECTED),
        since: Since(4, 11, 0), source: "linux/tcp.h TCP_FASTOPEN_CONNECT, RFC 7413", ways: NOT_CGROUP, group: Group::Connecting,
        "Send the first data with the SYN. To a peer that has given a cookie, connect returns at once and the first \
         write connects."
    }
    {
        "RECV_TIMEOUT", OWN_TIMEOUT, (1, INT_MAX),
        option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, None, Wire::Timeval, BEGUN),
        since: Since(2, 4, 0), source: "socket(7) SO_RCVTIMEO", ways: NOT_CGROUP, group: Group::Timeouts,
        "How long a program waits for something to read: a blocking call then fails with ETIMEDOUT, and a connection that it \
         has made and waits for in poll, select or epoll is ended with it. Not for accept."
    }
    {
        "SEND_TIMEOUT", OWN_TIMEOUT, (1, INT_MAX),
        option(libc::SOL_SOCKET, libc::SO_SNDTIMEO, None, Wire::Timeval, BEGUN),
        since: Since(2, 4, 0), source: "socket(7) SO_SNDTIMEO", ways: NOT_CGROUP, group: Group::Timeouts,
        "How long a program waits for room to write: a blocking call then fails with ETIMEDOUT, or has sent a part; a \
         connection that it has made and waits for in poll, select or epoll is ended with it. Not for connect."
    }
    {
        "ACCEPT_TIMEOUT", OWN_TIMEOUT, (1, INT_MAX),
        option(libc::SOL_SOCKET, libc::SO_RCVTIMEO, None, Wire::Timeval, Stages::LISTEN),
        since: Since(2, 4, 0), source: "socket(7) SO_RCVTIMEO", ways: Ways::PRELOAD, group: Group::Timeouts,
        "How long one accept of a blocking listener waits; it then fails with ETIMEDOUT. Accepted sockets do not inherit it."
    }
    {
        "REUSEADDR", Kind::Bool, ON_OR_OFF, left_behind(libc::SO_REUSEADDR, AT_BIND),
        since: Since(2, 0, 0), source: "socket(7) SO_REUSEADDR", ways: Ways::ALL, group: Group::Listening,
        "Let bind take a port whose old connections are in TIME_WAIT: a server restarts at once, if the one before had \
         it, too."
    }
    {
        "REUSEPORT", Kind::Bool, ON_OR_OFF, socket(libc::SO_REUSEPORT, AT_BIND),
        since: Since(3, 9, 0), source: "socket(7) SO_REUSEPORT", ways: Ways::ALL, group: Group::Listening,
        "Let several listeners of one user share a port; all of them must have it on."
    }
    {
        "INCOMING_CPU", Kind::Count, (0, 65_535), socket(libc::SO_INCOMING_CPU, Stages::LISTEN),
        since: Since(4, 4, 0), source: "socket(7) SO_INCOMING_CPU", ways: NOT_CGROUP, group: Group::Listening,
        "Where several listeners share a port: take the connections whose packets arrive on this CPU."
    }
    {
        "FREEBIND", Kind::Bool, ON_OR_OFF, ip(libc::IP_FREEBIND, AT_BIND),
        since: Since(2, 4, 0), source: "ip(7) IP_FREEBIND", ways: NOT_CGROUP, group: Group::Addresses,
        "Let bind take an address that the machine does not have, or not yet."
    }
    {
        "TRANSPARENT", Kind::Bool, ON_OR_OFF, ip(libc::IP_TRANSPARENT, AT_BIND),
        since: Since(2, 6, 24), source: "ip(7) IP_TRANSPARENT", ways: NOT_CGROUP, group: Group::Addresses,
        "Let bind take any address, as transparent proxies do; needs CAP_NET_ADMIN."
    }
    {
        "BIND_ADDRESS_NO_PORT", Kind::Bool, ON_OR_OFF, ip(libc::IP_BIND_ADDRESS_NO_PORT, Stages::BIND),
        since: Since(4, 2, 0), source: "ip(7) IP_BIND_ADDRESS_NO_PORT", ways: NOT_CGROUP, group: Group::Addresses,
        "Let bind with port 0 take no port; connect takes one, which connections to other peers can share."
    }
    {
        "V6ONLY", Kind::Bool, ON_OR_OFF,
        option(libc::IPPROTO_IPV6, libc::IPV6_V6ONLY, None, Wire::Int, AT_BIND),
        since: Since(2, 4, 21), source: "ipv6(7) IPV6_V6ONLY", ways: NOT_CGROUP, group: Group::Listening,
        "Whether an IPv6 listener takes IPv6 connections only, and not those to IPv4 addresses of the machine."
    }
    {
        "DEFER_ACCEPT", SECONDS, (1, 32_767), tcp(libc::TCP_DEFER_ACCEPT, Stages::LISTEN),
        since: Since(2, 4, 0), source: "tcp(7) TCP_DEFER_ACCEPT", ways: NOT_CGROUP, group: Group::Listening,
        "Wake the listener when a connection's first data arrives, or after this time, rounded up to a SYN-ACK retry."
    }
    {
        "FASTOPEN", Kind::Count, (0, 65_535), tcp(libc::TCP_FASTOPEN, Stages::LISTEN),
        since: Since(3, 7, 0), source: "linux/tcp.h TCP_FASTOPEN, RFC 7413", ways: NOT_CGROUP, group: Group::Listening,
        "Accept data that comes with the SYN; the number is how many such connections may wait for the end of their \
         handshake."
    }
    {
        "NODELAY", Kind::Bool, ON_OR_OFF, tcp(libc::TCP_NODELAY, Stages::SOCKET),
        since: Since(2, 0, 0), source: "tcp(7) TCP_NODELAY", ways: Ways::ALL, group: Group::Sending,
        "Send small segments at once instead of collecting them (no Nagle algorithm)."
    }
    {
        "QUICKACK", Kind::Bool, ON_OR_OFF, tcp(libc::TCP_QUICKACK, BEGUN),
        since: Since(2, 4, 4), source: "tcp(7) TCP_QUICKACK", ways: NOT_CGROUP, group: Group::Sending,
        "Acknowledge at once instead of delaying; set when a connection begins, not permanent: the kernel may change it."
    }
    {
        "CORK", Kind::Bool, ON_OR_OFF, tcp(libc::TCP_CORK, Stages::SOCKET),
        since: Since(2, 2, 0), source: "tcp(7) TCP_CORK", ways: NOT_CGROUP, group: Group::Sending,
        "Send full segments only; what is left is sent after 200 ms, or when the program takes it off."
    }
    {
        "SNDBUF", Kind::Size, (1, INT_MAX / 2), socket(libc::SO_SNDBUF, Stages::SOCKET),
        since: Since(2, 0, 0), source: "socket(7) SO_SNDBUF", ways: Ways::ALL, group: Group::Sending,
        "Send buffer; the kernel doubles it, caps it at net.core.wmem_max, and no longer adapts it by itself."
    }
    {
        "RCVBUF", Kind::Size, (1, INT_MAX / 2), socket(libc::SO_RCVBUF, Stages::SOCKET),
        since: Since(2, 0, 0), source: "socket(7) SO_RCVBUF", ways: Ways::ALL, group: Group::Sending,
        "Receive buffer; the kernel doubles it, caps it at net.core.rmem_max, and no longer adapts it by itself."
    }
    {
        "NOTSENT_LOWAT", Kind::Size, (1, UINT_MAX), tcp(libc::TCP_NOTSENT_LOWAT, Stages::SOCKET),
        since: Since(3, 12, 0), source: "linux/tcp.h TCP_NOTSENT_LOWAT", ways: Ways::ALL, group: Group::Sending,
        "How much unsent data the send buffer may hold before the socket is no longer writable: a small value keeps the \
         queue short."
    }
    {
        "MAXSEG", Kind::Size, (88, 32_767), handshake(libc::TCP_MAXSEG, Phases::UNCONNECTED.or(Phases::LISTENING)),
        since: Since(2, 0, 0), source: "tcp(7) TCP_MAXSEG", ways: Ways::ALL, group: Group::Sending,
        "Largest segment to send and to announce; also bounded by the path, and less by the TCP options of each packet."
    }
    {
        "WINDOW_CLAMP", Kind::Size, (1, INT_MAX), tcp(libc::TCP_WINDOW_CLAMP, Stages::SOCKET),
        since: Since(2, 4, 0), source: "tcp(7) TCP_WINDOW_CLAMP", ways: Ways::ALL, group: Group::Sending,
        "Largest window to announce; the kernel raises what is below half of its smallest receive buffer."
    }
    {
        "CONGESTION", Kind::Name, ANY,
        option(libc::IPPROTO_TCP, libc::TCP_CONGESTION, None, Wire::Name, Stages::SOCKET),
        since: Since(2, 6, 13), source: "tcp(7) TCP_CONGESTION", ways: Ways::ALL, group: Group::Sending,
        "Congestion control: one that the kernel offers, such as cubic, reno or bbr."
    }
    {
        "MAX_PACING_RATE", Kind::Size, (1, i64::MAX),
        option(libc::SOL_SOCKET, libc::SO_MAX_PACING_RATE, None, Wire::Rate, Stages::SOCKET),
        since: Since(3, 13, 0), source: "linux/socket.h SO_MAX_PACING_RATE", ways: Ways::ALL, group: Group::Sending,
        "Highest rate of sending, in bytes per second; 4G and more needs Linux 4.20."
    }
    {
        "BUSY_POLL", MICROSECONDS, (1, INT_MAX), socket(libc::SO_BUSY_POLL, Stages::SOCKET),
        since: Since(3, 11, 0), source: "socket(7) SO_BUSY_POLL", ways: NOT_CGROUP, group: Group::Sending,
        "How long a blocking receive polls the network device before it sleeps; more than the system's needs \
         CAP_NET_ADMIN."
    }
    {
        "ZEROCOPY", Kind::Bool, ON_OR_OFF, socket(libc::SO_ZEROCOPY, Stages::SOCKET),
        since: Since(4, 14, 0), source: "linux/socket.h SO_ZEROCOPY", ways: NOT_CGROUP, group: Group::Sending,
        "Let the program's sends with MSG_ZEROCOPY take effect."
    }
    {
        "TOS", Kind::TrafficClass { shift: 0 }, (0, 255), ip_and_ipv6(libc::IP_TOS, libc::IPV6_TCLASS),
        since: Since(2, 0, 0), source: "ip(7) IP_TOS, ipv6(7) IPV6_TCLASS", ways: Ways::ALL, group: Group::Packets,
        "Type of service octet of IPv4, and traffic class of IPv6; the lower two bits are the kernel's."
    }
    {
        "DSCP", Kind::TrafficClass { shift: 2 }, (0, 255), ip_and_ipv6(libc::IP_TOS, libc::IPV6_TCLASS),
        since: Since(2, 0, 0), source: "ip(7) IP_TOS, ipv6(7) IPV6_TCLASS", ways: Ways::ALL, group: Group::Packets,
        "Differentiated services code point: the upper six bits of TOS."
    }
    {
        "TTL", Kind::Count, (1, 255), ip_and_ipv6(libc::IP_TTL, libc::IPV6_UNICAST_HOPS),
        since: Since(2, 0, 0), source: "ip(7) IP_TTL, ipv6(7) IPV6_UNICAST_HOPS", ways: NOT_CGROUP, group: Group::Packets,
        "Time to live of IPv4, and hop limit of IPv6."
    }
    {
        "MTU_DISCOVER", Kind::Choice(Choice::MtuDiscover), (0, 5),
        ip_and_ipv6(libc::IP_MTU_DISCOVER, libc::IPV6_MTU_DISCOVER),
        since: Since(2, 2, 0), source: "ip(7) IP_MTU_DISCOVER, ipv6(7) IPV6_MTU_DISCOVER", ways: NOT_CGROUP, group: Group::Packets,
        "Whether packets may be fragmented (dont), or the path's MTU is looked for (want, do, probe). interface needs \
         Linux 3.15, omit 4.1."
    }
    {
        "PRIORITY", Kind::Count, (0, INT_MAX), socket(libc::SO_PRIORITY, Stages::SOCKET.or(Stages::ACCEPT)),
        since: Since(2, 0, 0), source: "socket(7) SO_PRIORITY", ways: Ways::ALL, group: Group::Packets,
        "Priority in the queue of the network device; more than 6 needs CAP_NET_ADMIN. TOS sets one, too; this wins."
    }
    {
        "MARK", Kind::Bits, (0, UINT_MAX), socket(libc::SO_MARK, Stages::SOCKET),
        since: Since(2, 6, 25), source: "socket(7) SO_MARK", ways: Ways::ALL, group: Group::Packets,
        "Mark of each packet, for routing rules and packet filters; needs CAP_NET_ADMIN or, from 5.17, CAP_NET_RAW."
    }
    {
        "BINDTODEVICE", Kind::Name, ANY,
        option(libc::SOL_SOCKET, libc::SO_BINDTODEVICE, None, Wire::Name, Stages::SOCKET),
        since: Since(2, 2, 0), source: "socket(7) SO_BINDTODEVICE", ways: Ways::ALL, group: Group::Addresses,
        "Network device that all packets leave by and come from; before Linux 5.7 it needs CAP_NET_RAW."
    }
    {
        "CONNECT_TIMEOUT", OWN_TIMEOUT, (1, INT_MAX), Target::Own(Own::ConnectTimeout),
        since: Since::NONE, source: "docs/connect-timeout.md", ways: Ways::ALL.but(Ways::APPLY), group: Group::Connecting,
        "How long establishing a connection may take; connect then fails with ETIMEDOUT. It starts anew for each address \
         of a name. Below 1s, a nonblocking socket waits for about 1s."
    }
    {
        "CLIENT_TIMEOUT", OWN_TIMEOUT, (1, INT_MAX), Target::Own(Own::ClientTimeout),
        since: Since::NONE, source: "docs/silent-server.md", ways: Ways::PRELOAD, group: Group::Timeouts,
        "How long an accepted connection may be silent while the program waits for it in poll, select or epoll; it is then \
         ended with ETIMEDOUT. Idle clients are ended as well, and those whose answer takes the program longer."
    }
    {
        "BACKLOG", Kind::Backlog, (0, INT_MAX), Target::Own(Own::Backlog),
        since: Since::NONE, source: "listen(2)", ways: CALLS, group: Group::Listening,
        "Connections that may wait for accept, in place of the program's number; min: raises a smaller one. \
         The kernel caps it at net.core.somaxconn."
    }
    {
        "SOURCE", Kind::Addresses, ANY, Target::Own(Own::Source),
        since: Since::NONE, source: "bind(2)", ways: CALLS, group: Group::Addresses,
        "Address that connections come from where the program has not bound one itself."
    }
    {
        "MPTCP", Kind::Bool, ON_OR_OFF, Target::Own(Own::Mptcp),
        since: Since(5, 6, 0), source: "RFC 8684", ways: Ways::PRELOAD, group: Group::Connecting,
        "Make Multipath TCP sockets instead of TCP ones; where the kernel or the peer lacks it, they are TCP. Other \
         settings that MPTCP refuses are left out."
    }
    {
        "PRECEDENCE", Kind::Choice(Choice::Precedence), (0, 1), Target::Own(Own::Precedence),
        since: Since::NONE, source: "docs/decisions.md", ways: Ways::ALL.but(Ways::APPLY), group: Group::Library,
        "Which value wins where the program sets an option itself: that of the environment (default) or the program's."
    }
    {
        "RULES", Kind::Text(Expected::Rules), ANY, Target::Own(Own::Rules),
        since: Since::NONE, source: "docs/rules.md", ways: Ways::ALL.but(Ways::APPLY), group: Group::Library,
        "Which sockets settings hold for: the first rule that matches a socket overrides the other settings."
    }
    {
        "PROFILE", Kind::Text(Expected::Profile), ANY, Target::Own(Own::Profile),
        since: Since::NONE, source: "docs/rules.md", ways: Ways::ALL, group: Group::Library,
        "A set of settings for a purpose, by its name; what is set by a variable or a flag of its own wins over it."
    }
    {
        "CONFIG", Kind::Text(Expected::Path), ANY, Target::Own(Own::Config),
        since: Since::NONE, source: "docs/rules.md", ways: Ways::ALL.but(Ways::APPLY), group: Group::Library,
        "File of settings (name = value) and rules, one a line."
    }
    {
        "ONLY_PROGRAMS", PROGRAMS, ANY, Target::Own(Own::OnlyPrograms),
        since: Since::NONE, source: "docs/rules.md", ways: CALLS, group: Group::Library,
        "The programs that are tuned; all others are left alone."
    }
    {
        "SKIP_PROGRAMS", PROGRAMS, ANY, Target::Own(Own::SkipPrograms),
        since: Since::NONE, source: "docs/rules.md", ways: CALLS, group: Group::Library,
        "Programs that are left alone."
    }
    {
        "BACKEND", Kind::Choice(Choice::Backend), (0, 3), Target::Own(Own::Backend),
        since: Since::NONE, source: "docs/reach.md", ways: Ways::ALL.but(Ways::APPLY), group: Group::Library,
        "The way by which `tcptune run` reaches a program, and all that it starts; default auto. If it is notify or \
         cgroup, the library leaves every socket alone."
    }
    {
        "STRICT", Kind::Bool, ON_OR_OFF, Target::Own(Own::Strict),
        since: Since::NONE, source: "sysexits.h EX_CONFIG", ways: Ways::ALL.but(Ways::APPLY), group: Group::Library,
        "Do not start the program if a setting is wrong: exit status 78 before main."
    }
    {
        "STATS", Kind::Bool, ON_OR_OFF, Target::Own(Own::Stats),
        since: Since::NONE, source: "docs/rules.md", ways: Ways::PRELOAD.or(Ways::CGROUP), group: Group::Library,
        "Report one line at exit: sockets seen and tuned, connects, timeouts with the slowest destination, refusals."
    }
    {
        "LOG", Kind::Choice(Choice::Log), (0, 5), Target::Own(Own::Log),
        since: Since::NONE, source: "", ways: CALLS, group: Group::Library,
        "How much to report, to standard error or LOG_FILE; default warn. \
         info: the settings in force; debug: every decision, and the values read back."
    }
    {
        "LOG_FILE", Kind::Text(Expected::Path), ANY, Target::Own(Own::LogFile),
        since: Since::NONE, source: "", ways: CALLS, group: Group::Library,
        "File to append messages to, instead of standard error; made if missing, a symbolic link is refused."
    }
    {
        "DISABLE", Kind::Bool, ON_OR_OFF, Target::Own(Own::Disable),
        since: Since::NONE, source: "", ways: CALLS, group: Group::Library,
        "Leave every socket alone, as if no setting were there."
    }
}

/// A name or an alias: where it lies in [`UPPER_CASE`], and whose it is.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Named {
    start: u16,
    len: u8,
    row: u8,
}

impl Named {
    /// The name.
    #[inline(never)] // for messages
    pub fn text(self) -> &'static str {
        std::str::from_utf8(self.of(&UPPER_CASE)).unwrap_or_default()
    }

    /// Whether that is the name.
    fn is(self, name: &str) -> bool {
        self.of(&UPPER_CASE) == name.as_bytes()
    }

    /// Whether that is the name, in lower case.
    fn is_in_lower_case(self, name: &str) -> bool {
        self.of(&LOWER_CASE) == name.as_bytes()
    }

    fn of(self, names: &'static [u8]) -> &'static [u8] {
        let start = usize::from(self.start);
        names.get(start..start + usize::from(self.len)).unwrap_or_default()
    }

    /// Index of its row in [`OPTIONS`].
    pub fn row(self) -> usize {
        self.row.into()
    }
}

/// [`NAMES`], where the layout of the library can name it: text that is no variable lies somewhere else.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static UPPER_CASE: [u8; NAMES.len()] = {
    let mut all = [0; NAMES.len()];
    all.copy_from_slice(NAMES.as_bytes());
    all
};

/// [`NAMES`] in lower case.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
static LOWER_CASE: [u8; NAMES.len()] = {
    let mut all = [0; NAMES.len()];
    let mut i = 0;
    while i < all.len() {
        all[i] = NAMES.as_bytes()[i].to_ascii_lowercase();
        i += 1;
    }
    all
};

const NAMES_AND_ALIASES: usize = place("").0 as usize;

/// All names and aliases, in the order of the rows.
#[allow(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "evaluated by the compiler")]
pub(crate) static NAMED: [Named; NAMES_AND_ALIASES] = {
    assert!(NAMES.len() <= u16::MAX as usize && ROWS.len() <= u8::MAX as usize);
    let mut all = [Named { start: 0, len: 0, row: 0 }; NAMES_AND_ALIASES];
    let (mut n, mut start, mut row) = (0, 0, 0);
    while row < ROWS.len() {
        let mut i = 0;
        while i < ROWS[row].len() {
            let len = ROWS[row][i].len();
            all[n] = Named { start: start as u16, len: len as u8, row: row as u8 };
            (n, start, i) = (n + 1, start + len, i + 1);
        }
        row += 1;
    }
    all
};

/// The indexes of [`NAMED`], in the order of the names in lower case.
#[allow(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "evaluated by the compiler")]
pub(crate) static IN_LOWER_CASE: [u8; NAMES_AND_ALIASES] = {
    let names = NAMES.as_bytes();
    let mut all = [0; NAMES_AND_ALIASES];
    let mut n = 0;
    while n < all.len() {
        let mut at = n;
        while at > 0 && is_before(names, NAMED[n], NAMED[all[at - 1] as usize]) {
            all[at] = all[at - 1];
            at -= 1;
        }
        all[at] = n as u8;
        n += 1;
    }
    all
};

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn is_before(names: &[u8], a: Named, b: Named) -> bool {
    let mut i = 0;
    while i < a.len as usize && i < b.len as usize {
        let (of_a, of_b) = (names[a.start as usize + i], names[b.start as usize + i]);
        if of_a != of_b {
            return of_a.to_ascii_lowercase() < of_b.to_ascii_lowercase();
        }
        i += 1;
    }
    a.len < b.len
}

/// The index of a name in [`NAMED`], and of its row; one past the end if no row has this name, so that the compiler
/// refuses it.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn place(name: &str) -> (u8, usize) {
    let (mut n, mut row) = (0, 0);
    while row < ROWS.len() {
        let mut i = 0;
        while i < ROWS[row].len() {
            if same(ROWS[row][i].as_bytes(), name.as_bytes()) {
                return (n, row);
            }
            (n, i) = (n + 1, i + 1);
        }
        row += 1;
    }
    (n, row)
}

#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
const fn same(a: &[u8], b: &[u8]) -> bool {
    let mut i = 0;
    while i < a.len() && i < b.len() && a[i] == b[i] {
        i += 1;
    }
    i == a.len() && i == b.len()
}

/// The row of a name, which the compiler looks up.
pub(crate) const fn row(name: &str) -> usize {
    let (_, row) = place(name);
    assert!(row < ROWS.len(), "no row has this name");
    row
}

/// How many rows are socket options; they stand first.
#[allow(clippy::indexing_slicing, reason = "evaluated by the compiler")]
pub const SOCKET_OPTIONS: usize = {
    let mut n = 0;
    while n < OPTIONS.len() && matches!(OPTIONS[n].target, Target::Socket(_)) {
        n += 1;
    }
    n
};

/// The row of a name or an alias.
#[must_use]
pub fn find(name: &str) -> Option<(usize, &'static Opt)> {
    let row = NAMED.get(position(name)?)?.row();
    Some((row, OPTIONS.get(row)?))
}

/// The same, of a name in upper or lower case.
pub(crate) fn find_in_any_case(name: &str) -> Option<(usize, &'static Opt)> {
    // Files have them in lower case.
    let is_it =
        |named: &Named| named.is_in_lower_case(name) || named.of(&UPPER_CASE).eq_ignore_ascii_case(name.as_bytes());
    let row = NAMED.get(hashed(name, is_it)?)?.row();
    Some((row, OPTIONS.get(row)?))
}

/// The index of a name in [`NAMED`].
pub(crate) fn position(name: &str) -> Option<usize> {
    hashed(name, |named| named.is(name))
}

/// The index of a name in [`NAMED`], by its hash: rules have thousands of names.
#[inline]
fn hashed(name: &str, is_it: impl Fn(&Named) -> bool) -> Option<usize> {
    let mut at = hash(name.as_bytes());
    loop {
        let place = usize::from(*BY_HASH.get(at)?);
        let named = NAMED.get(place)?;
        if usize::from(named.len) == name.len() && is_it(named) {
            return Some(place);
        }
        at = (at + 1) % HASHES;
    }
}

/// A power of two that leaves most places empty.
const HASHES: usize = 256;

/// The same of a name in upper and in lower case.
const fn hash(name: &[u8]) -> usize {
    let mut hash = name.len();
    let (mut i, step) = (0, name.len() / 4 + 1);
    #[allow(clippy::indexing_slicing, reason = "below the length")]
    while i < name.len() {
        hash = hash * 37 + (name[i] | 0x20) as usize;
        i += step;
    }
    #[allow(clippy::indexing_slicing, reason = "below the length")]
    if !name.is_empty() {
        hash = hash * 37 + (name[name.len() - 1] | 0x20) as usize;
    }
    hash % HASHES
}

/// The indexes of [`NAMED`] by hash: each in the first place that was empty, from its own on. No name has the number of an
/// empty one.
#[allow(clippy::cast_possible_truncation, clippy::indexing_slicing, reason = "evaluated by the compiler")]
static BY_HASH: [u8; HASHES] = {
    assert!(NAMES_AND_ALIASES < HASHES / 2, "most places are empty");
    let names = NAMES.as_bytes();
    let mut all = [u8::MAX; HASHES];
    let mut n = 0;
    while n < NAMES_AND_ALIASES {
        let (_, name) = names.split_at(NAMED[n].start as usize);
        let (name, _) = name.split_at(NAMED[n].len as usize);
        let mut at = hash(name);
        while all[at] != u8::MAX {
            at = (at + 1) % HASHES;
        }
        all[at] = n as u8;
        n += 1;
    }
    all
};

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_aliases_are_unique() {
        let mut seen = HashSet::new();
        for (row, option) in OPTIONS.iter().enumerate() {
            for name in option.names() {
                assert_eq!(find(name).map(|(found, _)| found), Some(row), "{name}");
                assert!(seen.insert(name), "{name} stands twice");
                let of_a_name = |b: u8| b.is_ascii_uppercase() || b.is_ascii_digit() || b == b'_';
                assert!(name.bytes().all(of_a_name), "{name}: not a variable name");
            }
        }
    }

    #[test]
    fn names_in_lower_case_are_in_order() {
        let names = IN_LOWER_CASE.iter().map(|at| NAMED.get(usize::from(*at)).map(|named| named.text().to_lowercase()));
        assert!(names.clone().is_sorted());
        assert_eq!(names.collect::<HashSet<_>>().len(), NAMED.len());
    }

    #[test]
    fn ranges_are_sane() {
        for option in &OPTIONS {
            let (low, high) = option.range;
            match option.kind {
                Kind::Bool => assert_eq!((low, high), (0, 1), "{}", option.name()),
                Kind::Choice(choice) => {
                    let words = choice.words().count();
                    assert_eq!((low, usize::try_from(high)), (0, Ok(words - 1)), "{}", option.name());
                }
                Kind::Name | Kind::Addresses | Kind::Text(_) => assert_eq!((low, high), (0, 0), "{}", option.name()),
                _ => assert!(0 <= low && low < high, "{}", option.name()),
            }
        }
    }

    #[test]
    fn each_socket_option_stands_once_and_is_applied_somewhere() {
        let mut seen = HashSet::new();
        for option in &OPTIONS {
            if let Target::Socket(Sockopt { level, optname, stages, wire, .. }) = option.target {
                // TOS and DSCP are two ways to write one option; ACCEPT_TIMEOUT is a listener's RECV_TIMEOUT.
                let twin = matches!(option.name(), "DSCP" | "ACCEPT_TIMEOUT");
                assert!(seen.insert((level, optname)) != twin, "{}: its option has another row", option.name());
                assert!(stages != Stages::NONE, "{}: no stage applies it", option.name());
                assert_eq!(wire == Wire::Name, option.kind == Kind::Name, "{}", option.name());
            }
        }
        assert!(OPTIONS[SOCKET_OPTIONS..].iter().all(|o| matches!(o.target, Target::Own(_))), "own ones stand last");
    }

    #[test]
    fn each_row_is_documented() {
        for (option, doc) in OPTIONS.iter().zip(&DOCS) {
            let name = option.name();
            assert!(doc.help.ends_with('.') && doc.help.len() > 20, "{name}: help is a sentence");
            assert!(!doc.help.contains(['|', '\n']), "{name}: help must fit a table cell");
            match option.target {
                Target::Socket(_) => {
                    let sourced = doc.source.contains("(7) ") || doc.source.starts_with("linux/");
                    assert!(option.since != Since::NONE && sourced, "{name}: kernel, and man page section or header");
                }
                Target::Own(own) => assert_eq!(option.since != Since::NONE, own == Own::Mptcp, "{name}: whose kernel?"),
            }
        }
    }

    #[test]
    fn finds_by_name_and_alias() {
        assert_eq!(find("KEEPIDLE").map(|(i, _)| i), find("KEEPALIVE_TIME").map(|(i, _)| i));
        assert_eq!(find_in_any_case("keepalive_Time").map(|(i, _)| i), find("KEEPIDLE").map(|(i, _)| i));
        assert!(find("keepidle").is_none() && find("KEEPIDEL").is_none() && find("").is_none());
    }
}
