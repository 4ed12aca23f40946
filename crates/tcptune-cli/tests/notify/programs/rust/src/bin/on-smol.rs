//! A client and a server on smol. The server's socket is made by the standard library and so by libc, the client's is
//! not.

use std::net::Ipv4Addr;
use std::time::Instant;

use past_libc::{ended, keepalive, peer, set_own};
use smol::net::{TcpListener, TcpStream};

fn main() {
    smol::block_on(async {
        let start = Instant::now();
        match std::env::args().nth(1).as_deref() {
            Some("client") => match TcpStream::connect(peer()).await {
                Ok(stream) => println!("{} {}", ended(None, start), keepalive(&stream)),
                Err(error) => println!("{}", ended(error.raw_os_error(), start)),
            },
            Some("server") => {
                let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).await.expect("a loopback port");
                let client = TcpStream::connect(listener.local_addr().expect("its address")).await.expect("connect");
                let (accepted, _) = listener.accept().await.expect("accept");
                set_own(&client);
                println!("{} {}", keepalive(&accepted), keepalive(&client));
            }
            other => panic!("{other:?}"),
        }
    });
}
