//! What the kernel does by itself: its settings below /proc/sys.

use std::fs;

use tcptune_core::draft::KeepaliveDefaults;

/// A number of `net.ipv4`, such as `tcp_syn_retries`.
pub fn ipv4(name: &str) -> Option<i64> {
    fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?.trim().parse().ok()
}

/// The times of keepalive where no setting says.
pub fn keepalive_defaults() -> KeepaliveDefaults {
    KeepaliveDefaults {
        idle: ipv4("tcp_keepalive_time").unwrap_or(7200),
        interval: ipv4("tcp_keepalive_intvl").unwrap_or(75),
        count: ipv4("tcp_keepalive_probes").unwrap_or(9),
    }
}
