//! What both programs print.

use std::net::{Ipv4Addr, SocketAddr};
use std::os::fd::AsFd;
use std::time::{Duration, Instant};

use rustix::net::sockopt;

/// The port on loopback that the second argument names.
pub fn peer() -> SocketAddr {
    let port = std::env::args().nth(2).expect("a port");
    (Ipv4Addr::LOCALHOST, port.parse().expect("a number")).into()
}

/// Whether keepalive is on, and its idle time.
pub fn keepalive(socket: impl AsFd) -> String {
    let on = sockopt::socket_keepalive(&socket).expect("SO_KEEPALIVE");
    format!("{} {}", i32::from(on), sockopt::tcp_keepidle(&socket).expect("TCP_KEEPIDLE").as_secs())
}

/// What the program sets itself: an idle time of 5 s.
pub fn set_own(socket: impl AsFd) {
    sockopt::set_tcp_keepidle(socket, Duration::from_secs(5)).expect("TCP_KEEPIDLE");
}

/// The errno, or 0, and milliseconds since then.
pub fn ended(error: Option<i32>, start: Instant) -> String {
    format!("{} {}", error.unwrap_or(0), start.elapsed().as_millis())
}
