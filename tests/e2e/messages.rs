//! What is said of a connect, at which level.

use std::net::TcpListener;

use crate::harness::hole::BlackHole;
use crate::harness::{Ended, Program};

/// Connects each way there is to an address that does not answer, and to one that does.
const CONNECTS: &str = "
import asyncio, errno, socket, sys
hole, live = (sys.argv[1], int(sys.argv[2])), (sys.argv[3], int(sys.argv[4]))
s = socket.socket(); s.connect(live)
blocking = socket.socket()
print('blocking=%d' % blocking.fileno())
assert blocking.connect_ex(hole) == errno.ETIMEDOUT
async def main():
    nonblocking = socket.socket(); nonblocking.setblocking(False)
    print('nonblocking=%d' % nonblocking.fileno())
    try: await asyncio.get_running_loop().sock_connect(nonblocking, hole)
    except TimeoutError: print('errno=110')
asyncio.run(main())
";

fn connects(level: &str) -> (Ended, BlackHole) {
    let (hole, live) = (BlackHole::v4(), TcpListener::bind("127.0.0.1:0").expect("a live server"));
    let live = live.local_addr().expect("its address");
    let args = [hole.ip(), hole.port(), live.ip().to_string(), live.port().to_string()];
    let settings = [("CONNECT_TIMEOUT", "1.2"), ("LOG", level)];
    let ended = Program::python(CONNECTS).args(args).tuned(&settings).start().wait_unproven();
    ended.succeeded();
    assert_eq!((ended.number("errno"), ended.stderr.as_str()), (110, ""), "{ended:#?}");
    (ended, hole)
}

/// Date and time, as in `2026-01-31T23:59:59.123Z`.
fn is_time_stamp(word: &str) -> bool {
    let pattern = "dddd-dd-ddTdd:dd:dd.dddZ";
    word.len() == pattern.len()
        && word.chars().zip(pattern.chars()).all(|(c, p)| if p == 'd' { c.is_ascii_digit() } else { c == p })
}

#[test]
fn an_ended_connect_is_one_line_at_info() {
    let (ended, hole) = connects("info");
    for kind in ["blocking", "nonblocking"] {
        let begin = format!("fd {}: connect to {} timed out after ", ended.value(kind), hole.authority());
        let lines: Vec<_> = ended.log.lines().filter_map(|line| line.split_once(&begin)).collect();
        let [(before, behind)] = lines[..] else { panic!("{kind}: one line of {begin:?}: {ended:#?}") };
        let (date, of_whom) = before.split_once(' ').expect("a time stamp");
        assert!(is_time_stamp(date) && of_whom.starts_with("tcptune[") && of_whom.ends_with("]: info: "), "{before}");
        let seconds: f64 = behind.strip_suffix(" s").and_then(|time| time.parse().ok()).expect("seconds");
        assert!((1.195..10.0).contains(&seconds), "{kind}: {seconds}");
    }
    // That which succeeds is no line, and nothing else is said but what is in force.
    assert_eq!(ended.log.lines().count(), 3, "{ended:#?}");
}

#[test]
fn below_info_a_timeout_is_the_programs_own_to_report() {
    let (ended, _) = connects("warn");
    assert_eq!(ended.log, "", "{ended:#?}");
}

#[test]
fn trace_says_what_each_connect_came_to() {
    let (ended, _) = connects("trace");
    for outcome in [": connect: done", ": connect: ETIMEDOUT", ": connect: EINPROGRESS"] {
        let lines = ended.log.lines().filter(|line| line.contains("]: trace: fd ") && line.ends_with(outcome));
        assert_eq!(lines.count(), 1, "{outcome}: {ended:#?}");
    }
}

#[test]
fn counts_of_a_process_without_tcp_sockets_are_no_line() {
    let script = "import socket; socket.socket(socket.AF_INET, socket.SOCK_DGRAM); socket.socket(socket.AF_UNIX)";
    for program in [Program::new("/bin/true"), Program::python(script)] {
        let ended = program.tuned(&[("KEEPIDLE", "60"), ("STATS", "on")]).run();
        assert_eq!((ended.succeeded(), ended.stderr.as_str()), ("", ""), "{ended:#?}");
        assert!(!ended.log.contains("stats:"), "{ended:#?}");
    }
}
