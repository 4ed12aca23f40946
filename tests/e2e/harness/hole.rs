//! A black hole that needs no privilege: a listener with backlog 0 whose queue is full drops every further SYN.

use std::io::ErrorKind;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr, TcpListener, TcpStream};
use std::os::fd::AsRawFd;
use std::time::Duration;

/// Swallows SYNs until it is dropped.
pub struct BlackHole {
    addr: SocketAddr,
    _listener: TcpListener,
    _queued: Vec<TcpStream>,
}

impl BlackHole {
    pub fn v4() -> Self {
        Self::at(Ipv4Addr::LOCALHOST.into())
    }

    pub fn v6() -> Self {
        Self::at(Ipv6Addr::LOCALHOST.into())
    }

    fn at(ip: IpAddr) -> Self {
        let listener = TcpListener::bind((ip, 0)).expect("a loopback port");
        // SAFETY: listen(2) again sets another backlog.
        assert_eq!(unsafe { libc::listen(listener.as_raw_fd(), 0) }, 0);
        let addr = listener.local_addr().expect("its address");
        let mut queued = Vec::new();
        loop {
            match TcpStream::connect_timeout(&addr, Duration::from_millis(250)) {
                Ok(stream) => queued.push(stream),
                Err(e) if e.kind() == ErrorKind::TimedOut => break,
                Err(e) => panic!("filling the queue of a listener: {e}"),
            }
            assert!(queued.len() < 10, "a backlog of 0 does not fill");
        }
        Self { addr, _listener: listener, _queued: queued }
    }

    pub fn ip(&self) -> String {
        self.addr.ip().to_string()
    }

    pub fn port(&self) -> String {
        self.addr.port().to_string()
    }

    /// As in a URL.
    pub fn authority(&self) -> String {
        self.addr.to_string()
    }

    /// How many sockets are in SYN-SENT towards it.
    pub fn attempts(&self) -> usize {
        let table = if self.addr.is_ipv4() { "/proc/net/tcp" } else { "/proc/net/tcp6" };
        let (remote, syn_sent) = (format!(":{:04X}", self.addr.port()), "02");
        std::fs::read_to_string(table)
            .expect("socket table")
            .lines()
            .filter(|line| {
                let columns: Vec<_> = line.split_whitespace().collect();
                columns.len() > 3 && columns[2].ends_with(&remote) && columns[3] == syn_sent
            })
            .count()
    }
}

/// A port on loopback that refuses connections: it was free a moment ago.
pub fn refusing_port() -> u16 {
    TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).expect("a loopback port").local_addr().expect("its address").port()
}
