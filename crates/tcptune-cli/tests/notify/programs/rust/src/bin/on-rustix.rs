//! A client and a server on rustix: every call of theirs goes straight to the kernel.

use std::net::Ipv4Addr;
use std::os::fd::OwnedFd;
use std::time::Instant;

use past_libc::{ended, keepalive, peer, set_own};
use rustix::event::{PollFd, PollFlags, poll};
use rustix::io::Errno;
use rustix::net::{
    AddressFamily, SocketFlags, SocketType, accept, bind, connect, getsockname, listen, socket_with, sockopt,
};

fn socket(flags: SocketFlags) -> OwnedFd {
    socket_with(AddressFamily::INET, SocketType::STREAM, flags, None).expect("socket")
}

fn main() {
    let start = Instant::now();
    match std::env::args().nth(1).as_deref() {
        Some("blocking") => {
            let socket = socket(SocketFlags::empty());
            let error = connect(&socket, &peer()).err().map(Errno::raw_os_error);
            println!("{} {}", ended(error, start), keepalive(&socket));
        }
        Some("nonblocking") => {
            let socket = socket(SocketFlags::NONBLOCK);
            let begun = connect(&socket, &peer());
            assert!(matches!(begun, Ok(()) | Err(Errno::INPROGRESS)), "{begun:?}");
            poll(&mut [PollFd::new(&socket, PollFlags::OUT)], None).expect("poll");
            let error = sockopt::socket_error(&socket).expect("SO_ERROR").err().map(Errno::raw_os_error);
            println!("{} {}", ended(error, start), keepalive(&socket));
        }
        // What was accepted, and the client, which sets its own before and after connect.
        Some("server") => {
            let listener = socket(SocketFlags::empty());
            bind(&listener, &std::net::SocketAddr::from((Ipv4Addr::LOCALHOST, 0))).expect("bind");
            listen(&listener, 5).expect("listen");
            let own: std::net::SocketAddr = getsockname(&listener).expect("its address").try_into().expect("of IP");
            let client = socket(SocketFlags::empty());
            set_own(&client);
            connect(&client, &own).expect("connect");
            let accepted = accept(&listener).expect("accept");
            set_own(&client);
            println!("{} {}", keepalive(&accepted), keepalive(&client));
        }
        other => panic!("{other:?}"),
    }
}
