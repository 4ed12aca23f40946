//! Real programs, read from outside.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::{Program, eventually, outside};

const KEEPALIVE: (i32, i32) = (libc::SOL_SOCKET, libc::SO_KEEPALIVE);
const IDLE: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE);
const INTERVAL: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_KEEPINTVL);
const COUNT: (i32, i32) = (libc::IPPROTO_TCP, libc::TCP_KEEPCNT);

/// Keepalive, idle, interval and count of the program's connection to a server that only listens.
fn seen_outside(program: &dyn Fn(u16) -> Program, settings: Option<&[(&str, &str)]>) -> [i32; 4] {
    let server = TcpListener::bind("127.0.0.1:0").expect("a server");
    let addr = server.local_addr().expect("its address");
    let running = program(addr.port()).with(settings).start();
    let (_connection, _) = server.accept().expect("the program connects");
    let mut socket = None;
    eventually("the connection is among the program's descriptors", || {
        socket = outside::socket_to(running.pid(), addr);
        socket.is_some()
    });
    let socket = socket.expect("just seen");
    // curl sets its own options only after socket(), python after connect: wait for what shall hold.
    if settings.is_some() {
        eventually("tuned", || outside::option(&socket, IDLE.0, IDLE.1) == 33);
    } else {
        std::thread::sleep(Duration::from_millis(300));
    }
    let options = [KEEPALIVE, IDLE, INTERVAL, COUNT].map(|(level, name)| outside::option(&socket, level, name));
    running.kill();
    options
}

#[test]
fn keepalive_settings_hold_in_every_program() {
    let programs: [(&str, &dyn Fn(u16) -> Program); 6] = [
        ("curl", &|port| Program::new("curl").args(["-s", "--noproxy", "*", &format!("http://127.0.0.1:{port}/")])),
        ("curl with its own values", &|port| {
            let url = format!("http://127.0.0.1:{port}/");
            Program::new("curl").args(["-s", "--noproxy", "*", "--keepalive-time", "99", &url])
        }),
        ("nc", &|port| Program::new("nc").args(["-d", "127.0.0.1", &port.to_string()])),
        ("bash", &|port| Program::new("bash").args(["-c", &format!("read -t 10 < /dev/tcp/127.0.0.1/{port}")])),
        ("python", &|port| {
            let connect = format!("import socket; s = socket.create_connection(('127.0.0.1', {port})); s.recv(1)");
            Program::python(&connect)
        }),
        ("asyncio", &|port| {
            Program::python(&format!(
                "
import asyncio
async def main():
    reader, writer = await asyncio.open_connection('127.0.0.1', {port})
    await reader.read(1)
asyncio.run(main())"
            ))
        }),
    ];
    let settings = [("KEEPIDLE", "33"), ("KEEPINTVL", "4s"), ("KEEPCNT", "2")];
    for (name, program) in programs {
        let plain = seen_outside(program, None);
        assert_ne!(plain[1], 33, "{name}");
        assert_eq!(seen_outside(program, Some(&settings)), [1, 33, 4, 2], "{name}");
    }
}

#[test]
fn ss_shows_the_keepalive_timer() {
    for (settings, wanted) in [(None, false), (Some(&[("KEEPIDLE", "120")] as &[_]), true)] {
        let server = TcpListener::bind("127.0.0.1:0").expect("a server");
        let port = server.local_addr().expect("its address").port().to_string();
        let running = Program::new("nc").args(["-d", "127.0.0.1", &port]).with(settings).start();
        let _connection = server.accept().expect("nc connects");
        let shows_timer = || {
            let ss =
                Program::new("ss").args(["-tnoH", "state", "established", "dport", "=", &format!(":{port}")]).run();
            let out = ss.succeeded().to_owned();
            assert!(out.contains(&port), "{out}");
            out.contains("timer:(keepalive,")
        };
        if wanted {
            eventually("a keepalive timer", shows_timer);
        } else {
            assert!(!shows_timer());
        }
        running.kill();
    }
}
