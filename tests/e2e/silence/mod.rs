//! A server that accepts and falls silent: what `RECV_TIMEOUT`, `SEND_TIMEOUT` and `CLIENT_TIMEOUT` do in programs that
//! wait before they read.

mod pools;
mod programs;
mod sets;
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
    /// With the first bytes of an answer.
    Half,
    /// With a whole one to each request, on a connection that stays open.
    Whole,
    /// A byte after each so many milliseconds.
    Slowly(u64),
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
        Answer::Slowly(ms) => {
            while connection.write_all(b"x").is_ok() {
                thread::sleep(Duration::from_millis(ms));
            }
            return;
        }
        Answer::None | Answer::Half | Answer::Whole => {}
    }
    while let Ok(1..) = connection.read(&mut room) {
        let length = match answer {
            Answer::Half => 1000,
            Answer::Whole => 4,
            _ => continue,
        };
        let head = format!("HTTP/1.1 200 OK\r\nContent-Type: text/plain\r\nContent-Length: {length}\r\n\r\n");
        if connection.write_all(format!("{head}half").as_bytes()).is_err() {
            return;
        }
    }
}
