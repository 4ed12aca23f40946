//! A server that accepts and falls silent: what `RECV_TIMEOUT`, `SEND_TIMEOUT` and `CLIENT_TIMEOUT` do in programs that
//! wait before they read.

mod cost;
mod nginx;
mod pools;
mod programs;
mod room;
mod sets;
mod time_left;
mod user_timeout;
mod waits;

use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::thread;
use std::time::Duration;

/// The timeout that the tests set, and how much later is still on time on a busy machine.
const LIMIT: Duration = Duration::from_secs(1);
const SLACK: Duration = crate::harness::LATE;

/// How a server answers.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Answer {
    /// Not at all.
    None,
    /// With the first bytes of an answer in HTTP.
    Half,
    /// With these bytes to the first request.
    Bytes(&'static [u8]),
    /// With these bytes, before there is a request.
    First(&'static [u8]),
    /// With a whole one to each request, on a connection that stays open.
    Whole,
    /// A byte after each so many milliseconds.
    Slowly(u64),
    /// Not at all; it reads so many KiB every tenth of a second.
    Takes(usize),
    /// It does not even read for so many milliseconds; then it answers with the number of bytes that came.
    Late(u64),
}

/// A server on loopback, and its port. Its threads end with their connections, or with the test.
fn serve(answer: Answer) -> u16 {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a server");
    let port = listener.local_addr().expect("its address").port();
    thread::spawn(move || {
        for connection in listener.incoming().map_while(Result::ok) {
            thread::spawn(move || talk(connection, answer));
        }
    });
    port
}

/// Ends when the client does.
fn talk(mut connection: TcpStream, answer: Answer) {
    let mut room = vec![0; 65_536];
    match answer {
        Answer::Late(ms) => {
            thread::sleep(Duration::from_millis(ms));
            let mut bytes = 0;
            while let Ok(read @ 1..) = connection.read(&mut room) {
                bytes += read;
            }
            let _ = write!(connection, "{bytes}");
            return;
        }
        Answer::Takes(kib) => {
            while let Ok(1..) = connection.read(&mut vec![0; kib << 10]) {
                thread::sleep(Duration::from_millis(100));
            }
            return;
        }
        Answer::Slowly(ms) => {
            while connection.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(ms));
            }
            return;
        }
        Answer::First(bytes) => {
            let _ = connection.write_all(bytes);
        }
        Answer::None | Answer::Half | Answer::Bytes(_) | Answer::Whole => {}
    }
    let mut bytes = if let Answer::Bytes(bytes) = answer { bytes } else { &[] };
    while let Ok(1..) = connection.read(&mut room) {
        let length = match answer {
            Answer::Half => 1000,
            Answer::Whole => 4,
            _ if connection.write_all(std::mem::take(&mut bytes)).is_err() => return,
            _ => continue,
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
        if connection.write_all(format!("{head}half").as_bytes()).is_err() {
            return;
        }
    }
}
