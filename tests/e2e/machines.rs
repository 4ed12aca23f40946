//! What differs between machines. scripts/test-machines runs these, with the others, for i386 and aarch64.

use std::net::TcpListener;

use crate::harness::Program;

/// Code with SSE takes a stack for granted that is aligned to 16 bytes; old compilers for i386 align it to 4. The debug level
/// formats a line in each hook, and the count of `STATS` is printed inside exit(3).
#[test]
fn whatever_the_alignment_of_the_stack() {
    let (_listener, port) = listener();
    let settings = [("KEEPIDLE", "33"), ("CONNECT_TIMEOUT", "5"), ("STATS", "on"), ("LOG", "debug")];
    let ended = Program::probe("alignment").args(["127.0.0.1", &port]).tuned(&settings).run();
    ended.succeeded();
    let shifts = ended.stdout.matches("_connected=").count();
    assert!(shifts == 1 || shifts == 4, "{ended:#?}");
    for shift in (0..shifts).map(|shift| shift * 4) {
        let number = |what| ended.number(&format!("shift_{shift}_{what}"));
        assert_eq!(["connected", "idle", "ready", "written"].map(number), [0, 33, 1, 1], "{ended:#?}");
    }
    assert!(ended.log.contains(&format!("stats: {shifts} ")), "{ended:#?}");
}

/// On 32 bits a program with a 64-bit `time_t` calls other functions, and its options have other numbers.
#[test]
fn whatever_the_size_of_the_programs_time() {
    let (_listener, port) = listener();
    for (precedence, receive, send, idle) in [("env", 500, 700, 33), ("program", 1500, 1500, 100)] {
        let settings =
            [("RECV_TIMEOUT", "0.5"), ("SEND_TIMEOUT", "0.7"), ("KEEPIDLE", "33"), ("PRECEDENCE", precedence)];
        let ended = Program::probe("times").args(["127.0.0.1", &port]).tuned(&settings).run();
        ended.succeeded();
        let read_back = ["receive_ms", "send_ms", "idle"].map(|name| ended.number(name));
        assert_eq!(read_back, [receive, send, idle], "{precedence}: {ended:#?}");
    }
}

/// For connections that nobody accepts.
fn listener() -> (TcpListener, String) {
    let listener = TcpListener::bind(("127.0.0.1", 0)).expect("a loopback port");
    let port = listener.local_addr().expect("its address").port().to_string();
    (listener, port)
}
