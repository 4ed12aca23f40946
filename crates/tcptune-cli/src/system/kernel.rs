//! What the kernel does by itself: its settings below /proc/sys, and the options of a new socket.

use std::fs;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};

use libc::c_int;
use tcptune_core::options::phase::Stages;
use tcptune_core::options::table::{Opt, Sockopt, Target};
use tcptune_core::options::value::{Kind, Value};
use tcptune_core::settings::profile::Planned;
use tcptune_core::settings::source::KeepaliveDefaults;
use tcptune_core::sockets::real::Real;

/// libc's own functions: nothing is interposed here.
pub const KERNEL: Real = Real {
    connect: libc::connect,
    setsockopt: libc::setsockopt,
    getsockopt: libc::getsockopt,
    poll: libc::poll,
    ppoll: libc::ppoll,
    cleanup: None,
};

/// The settings that decide when TCP gives up.
#[derive(Clone, Copy, Debug)]
pub struct Kernel {
    /// `tcp_keepalive_time`, seconds.
    pub keepalive_time: i64,
    /// `tcp_keepalive_intvl`, seconds.
    pub keepalive_intvl: i64,
    /// `tcp_keepalive_probes`.
    pub keepalive_probes: i64,
    /// `tcp_syn_retries`.
    pub syn_retries: i64,
    /// `tcp_syn_linear_timeouts`; 0 before Linux 6.5.
    pub syn_linear_timeouts: i64,
    /// `tcp_retries2`.
    pub retries2: i64,
    /// `tcp_rto_max_ms`; before Linux 6.15 it is fixed.
    pub rto_max_ms: i64,
    /// `tcp_rto_min_us`; before Linux 6.11 it is fixed.
    pub rto_min_us: i64,
}

impl Default for Kernel {
    /// As documented in ip-sysctl.
    fn default() -> Self {
        Self {
            keepalive_time: 7200,
            keepalive_intvl: 75,
            keepalive_probes: 9,
            syn_retries: 6,
            syn_linear_timeouts: 0,
            retries2: 15,
            rto_max_ms: 120_000,
            rto_min_us: 200_000,
        }
    }
}

impl Kernel {
    /// Which of those that every kernel has cannot be read here.
    pub fn unreadable() -> Vec<&'static str> {
        let all =
            ["tcp_keepalive_time", "tcp_keepalive_intvl", "tcp_keepalive_probes", "tcp_syn_retries", "tcp_retries2"];
        all.into_iter().filter(|name| ipv4(name).is_none()).collect()
    }

    /// This machine's, in this network namespace.
    pub fn read() -> Self {
        let default = Self::default();
        let or = |name, default| ipv4(name).unwrap_or(default);
        Self {
            keepalive_time: or("tcp_keepalive_time", default.keepalive_time),
            keepalive_intvl: or("tcp_keepalive_intvl", default.keepalive_intvl),
            keepalive_probes: or("tcp_keepalive_probes", default.keepalive_probes),
            syn_retries: or("tcp_syn_retries", default.syn_retries),
            syn_linear_timeouts: or("tcp_syn_linear_timeouts", default.syn_linear_timeouts),
            retries2: or("tcp_retries2", default.retries2),
            rto_max_ms: or("tcp_rto_max_ms", default.rto_max_ms),
            rto_min_us: or("tcp_rto_min_us", default.rto_min_us),
        }
    }
}

/// A number of `net.ipv4`, such as `tcp_syn_retries`.
fn ipv4(name: &str) -> Option<i64> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?.trim().parse().ok()
}

/// The congestion controls that it has.
pub fn congestion_controls() -> Vec<(String, String)> {
    let names = fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").unwrap_or_default();
    names.split_whitespace().map(|name| (name.to_owned(), String::new())).collect()
}

/// Its network devices.
pub fn devices() -> Vec<(String, String)> {
    let devices = fs::read_dir("/sys/class/net").into_iter().flatten().flatten();
    devices.filter_map(|device| Some((device.file_name().into_string().ok()?, String::new()))).collect()
}

/// The times of keepalive where no setting says.
pub fn keepalive_defaults() -> KeepaliveDefaults {
    let kernel = Kernel::read();
    KeepaliveDefaults { idle: kernel.keepalive_time, interval: kernel.keepalive_intvl, count: kernel.keepalive_probes }
}

/// The setting of the system from which a new socket has the value, where there is one.
pub fn sysctl(opt: &Opt) -> Option<&'static str> {
    Some(match opt.name() {
        "KEEPIDLE" => "tcp_keepalive_time",
        "KEEPINTVL" => "tcp_keepalive_intvl",
        "KEEPCNT" => "tcp_keepalive_probes",
        "SYNCNT" => "tcp_syn_retries",
        "LINGER2" => "tcp_fin_timeout",
        "RTO_MAX" => "tcp_rto_max_ms",
        "RTO_MIN" => "tcp_rto_min_us",
        "CONGESTION" => "tcp_congestion_control",
        "SNDBUF" => "tcp_wmem",
        "RCVBUF" => "tcp_rmem",
        "NOTSENT_LOWAT" => "tcp_notsent_lowat",
        "TTL" => "ip_default_ttl",
        "BUSY_POLL" => "net.core.busy_read",
        _ => return None,
    })
}

/// A TCP socket of nobody, to ask the kernel about options.
pub struct Scratch {
    socket: OwnedFd,
}

impl Scratch {
    /// For the options of this level.
    pub fn of(option: &Sockopt) -> Option<Self> {
        let family = if option.level == libc::IPPROTO_IPV6 { libc::AF_INET6 } else { libc::AF_INET };
        // SAFETY: makes a descriptor, and touches nothing else.
        let fd = unsafe { libc::socket(family, libc::SOCK_STREAM | libc::SOCK_CLOEXEC, 0) };
        // SAFETY: an open descriptor of its own, where the call has succeeded.
        let socket = (fd >= 0).then(|| unsafe { OwnedFd::from_raw_fd(fd) })?;
        Some(Self { socket })
    }

    fn get(&self, option: &Sockopt) -> Option<Value> {
        let payload = KERNEL.get(self.socket.as_raw_fd(), option.level, option.optname).ok()?;
        Some(option.wire.decode(&payload))
    }
}

/// The value that a new socket has; none where the kernel does not know the option.
pub fn new_socket_has(opt: &Opt) -> Option<Value> {
    let Target::Socket(option) = opt.target else { return None };
    Scratch::of(&option)?.get(&option)
}

/// What the kernel makes of a value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outcome {
    AsAsked,
    /// It rounds it, or bounds it.
    Other(Value),
    /// The errno.
    Refused(c_int),
}

/// Tries it on a socket of nobody; none if there cannot be one.
pub fn outcome(planned: &Planned) -> Option<Outcome> {
    let option = &planned.option;
    let scratch = Scratch::of(option)?;
    if let Err(errno) = KERNEL.set(scratch.socket.as_raw_fd(), option.level, option.optname, &planned.payload) {
        return Some(Outcome::Refused(errno));
    }
    let is_of_connections = option.stages.contains(Stages::CONNECT);
    let value = scratch.get(option)?;
    // Some hold only once there is a connection, so that this socket does not tell.
    let as_asked = is_of_connections || value == option.wire.decode(&planned.payload);
    Some(if as_asked { Outcome::AsAsked } else { Outcome::Other(value) })
}

/// A value of a new socket, as people write it: what stands for no limit is none.
pub fn shown(opt: &Opt, value: &Value) -> String {
    let is_none = match (opt.kind, value) {
        (Kind::Duration { word: None, .. } | Kind::Size, Value::Int(n)) => *n <= 0,
        (Kind::Duration { .. }, Value::Int(n)) => *n == 0,
        (Kind::Count, Value::Int(n)) => *n < 0,
        (Kind::Name, Value::Name(name)) => name.is_empty(),
        _ => false,
    };
    if is_none { "none".to_owned() } else { opt.kind.show(value).to_string() }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_new_socket_has_what_the_sysctl_says() {
        let find = |name| tcptune_core::options::table::find(name).expect("a row").1;
        let kernel = Kernel::read();
        for (name, value) in [
            ("KEEPIDLE", kernel.keepalive_time),
            ("KEEPINTVL", kernel.keepalive_intvl),
            ("KEEPCNT", kernel.keepalive_probes),
            ("SYNCNT", kernel.syn_retries),
        ] {
            assert_eq!(new_socket_has(find(name)), Some(Value::Int(value)), "{name}");
            assert!(sysctl(find(name)).is_some(), "{name}");
        }
        assert!(
            tcptune_core::options::table::OPTIONS.iter().filter_map(sysctl).count() > 10,
            "each name is one of the table"
        );
    }
}
