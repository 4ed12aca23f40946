//! `STATS`: what the line at exit counts, and what not.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::hole::{BlackHole, refusing_port};
use crate::harness::namespace::Namespace;
use crate::harness::{Ended, LATE, Program, assert_on_time};

/// The lines of counts: process id and text.
fn lines(ended: &Ended) -> Vec<(&str, &str)> {
    let of_stats = ended.log.lines().filter_map(|line| line.split_once("]: info: stats: "));
    of_stats.filter_map(|(pid, text)| Some((pid.rsplit('[').next()?, text))).collect()
}

/// The numbers of the only line: sockets seen, tuned, connects, timed out, refused options.
fn counts(ended: &Ended) -> [u32; 5] {
    let [(_, line)] = lines(ended)[..] else { panic!("one line: {ended:#?}") };
    numbers(line)
}

fn numbers(line: &str) -> [u32; 5] {
    ["TCP sockets seen", "tuned", "connects", "timed out", "options refused"].map(|what| {
        let (before, _) = line.split_once(&format!(" {what}")).unwrap_or_else(|| panic!("{what}: {line}"));
        before.rsplit(' ').next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{what}: {line}"))
    })
}

/// The slowest destination of the only line, and how long it took.
fn slowest(ended: &Ended) -> Option<(String, Duration)> {
    let (_, rest) = lines(ended)[0].1.split_once("(slowest: ")?;
    let (peer, rest) = rest.split_once(" after ").expect("a time");
    let seconds = rest.split_once(" s)").expect("seconds").0.parse().expect("a number");
    Some((peer.to_owned(), Duration::from_secs_f64(seconds)))
}

fn assert_slowest(ended: &Ended, hole: &BlackHole, due: u64) {
    let (peer, took) = slowest(ended).unwrap_or_else(|| panic!("a slowest one: {ended:#?}"));
    assert_eq!(peer, hole.authority());
    assert_on_time(took, Duration::from_millis(due), LATE);
}

fn python(script: &str, args: &[String], settings: &[(&str, &str)]) -> Ended {
    let ended = Program::python(script).args(args).tuned(&[&[("STATS", "on")], settings].concat()).run();
    ended.succeeded();
    ended
}

const CONNECTS: &str = "
import socket, sys
hole, live, refusing = (int(port) for port in sys.argv[1:])
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
def connect(port):
    s = socket.socket()
    print('%d=%d' % (port, s.connect_ex(('127.0.0.1', port))))
for port in live, hole, refusing, live, listener.getsockname()[1]: connect(port)
listener.accept()
socket.socket(socket.AF_INET, socket.SOCK_DGRAM).connect(('127.0.0.1', live))
socket.socket(socket.AF_UNIX)
";

#[test]
fn one_line_at_exit_counts_what_a_blocking_program_did() {
    let (hole, live) = (BlackHole::v4(), TcpListener::bind("127.0.0.1:0").expect("a live server"));
    let port = live.local_addr().expect("its address").port().to_string();
    let args = [hole.port(), port, refusing_port().to_string()];
    let ended = python(CONNECTS, &args, &[("CONNECT_TIMEOUT", "0.6")]);
    // A listener, five clients, one accepted.
    assert_eq!(counts(&ended), [7, 7, 5, 1, 0], "{ended:#?}");
    assert_slowest(&ended, &hole, 600);
    // A rule leaves the listener's port alone: what it accepts is not tuned either. None times out.
    let rules = format!("dst=127.0.0.1 port={} : syncnt=2", args[1]);
    let live_only = [args[1].clone(), args[1].clone(), args[2].clone()];
    let ended = python(CONNECTS, &live_only, &[("RULES", &rules)]);
    assert_eq!(counts(&ended), [7, 3, 5, 0, 0], "{ended:#?}");
    assert_eq!(slowest(&ended), None);
    assert!(ended.log.lines().filter(|line| line.contains("stats:")).count() == 1, "{ended:#?}");
}

#[test]
fn without_it_there_is_no_line() {
    for settings in [&[("NODELAY", "on")][..], &[("NODELAY", "on"), ("STATS", "off")]] {
        let ended = Program::python("import socket; socket.socket()").tuned(settings).run();
        ended.succeeded();
        assert_eq!(lines(&ended), [], "{ended:#?}");
        assert_eq!(ended.stderr, "");
    }
    // It is written at any level, and to standard error like other messages.
    let settings = [("NODELAY", "on"), ("STATS", "on"), ("LOG", "off"), ("LOG_FILE", "")];
    let ended = Program::python("import socket; socket.socket()").tuned(&settings).start().wait_unproven();
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
    assert!(ended.stderr.contains("stats: 1 TCP sockets seen, 1 tuned, 0 connects, 0 timed out, 0 options refused"));
}

#[test]
fn timeouts_of_nonblocking_programs_are_counted() {
    let hole = BlackHole::v4();
    let asyncio = "
import asyncio, sys
async def main():
    try: await asyncio.open_connection(sys.argv[1], int(sys.argv[2]))
    except TimeoutError as e: print('errno=%d' % e.errno)
asyncio.run(main())
";
    let to = [hole.ip(), hole.port()];
    let ended = python(asyncio, &to, &[("CONNECT_TIMEOUT", "1.5")]);
    assert_eq!(ended.number("errno"), libc::ETIMEDOUT.into());
    assert_eq!(counts(&ended)[2..], [1, 1, 0], "{ended:#?}");
    assert_slowest(&ended, &hole, 1500);

    let curl = Program::new("curl").args(["-s", &format!("http://{}/", hole.authority())]);
    let ended = curl.tuned(&[("CONNECT_TIMEOUT", "1.2"), ("STATS", "on")]).run();
    assert_eq!((ended.code(), &counts(&ended)[2..]), (Some(28), &[1, 1, 0][..]), "{ended:#?}");
    assert_slowest(&ended, &hole, 1200);

    // Some ask by a second connect; some dissolve the attempt themselves, which is no connect.
    let again = "
import ctypes, select, socket, sys
hole = (sys.argv[1], int(sys.argv[2]))
s = socket.socket(); s.setblocking(False)
first = s.connect_ex(hole)
again = s.connect_ex(hole)
select.select([], [s], [])
print('%d %d %d' % (first, again, s.connect_ex(hole)))
s.connect_ex(hole)
ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16)
";
    let ended = python(again, &to, &[("CONNECT_TIMEOUT", "1.5")]);
    let errors = [libc::EINPROGRESS, libc::EALREADY, libc::ETIMEDOUT].map(|e| e.to_string()).join(" ");
    assert_eq!(ended.stdout.trim(), errors);
    assert_eq!(counts(&ended), [1, 1, 2, 1, 0], "{ended:#?}");
    assert_slowest(&ended, &hole, 1500);
}

#[test]
fn the_slowest_of_several_is_named() {
    let (fast, slow) = (BlackHole::v4(), BlackHole::v6());
    let script = "
import socket, sys
for ip, port in zip(sys.argv[1::2], sys.argv[2::2]):
    socket.socket(socket.AF_INET6 if ':' in ip else socket.AF_INET).connect_ex((ip, int(port)))
";
    let to = [&fast, &slow, &fast].map(|hole| [hole.ip(), hole.port()]).concat();
    let rules = "dst=::1 : connect_timeout=0.9; dst=127.0.0.0/8 : connect_timeout=0.3";
    let ended = python(script, &to, &[("RULES", rules)]);
    assert_eq!(counts(&ended), [3, 3, 3, 3, 0], "{ended:#?}");
    assert_slowest(&ended, &slow, 900);
}

#[test]
fn a_connection_that_dies_later_is_no_connect_timeout() {
    let Some(namespace) = Namespace::or_skip("a_connection_that_dies_later_is_no_connect_timeout") else { return };
    let script = "
import os, select, socket, subprocess, sys
listener = socket.socket(); listener.bind(('127.0.0.1', 7000)); listener.listen()
s = socket.socket()
if sys.argv[1] == 'nonblocking': s.setblocking(False)
s.connect_ex(listener.getsockname())
select.select([], [s], [])
subprocess.run(['nft', '-f', '-'], input=b'add table inet dead; add chain inet dead in { type filter hook input priority 0; policy drop; }', check=True, env={'PATH': os.environ['PATH']})
select.select([s], [], [], 10)
print('errno=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
";
    for how in ["blocking", "nonblocking"] {
        let keepalive = [("KEEPIDLE", "1"), ("KEEPINTVL", "1"), ("KEEPCNT", "1"), ("STATS", "on")];
        for more in [&[][..], &[("CONNECT_TIMEOUT", "1.5")]] {
            let program = Program::python(script).args([how]).inside(&namespace);
            let ended = program.tuned(&[&keepalive[..], more].concat()).run();
            namespace.run("nft", &["flush ruleset"]);
            ended.succeeded();
            assert_eq!(ended.number("errno"), libc::ETIMEDOUT.into(), "keepalive has ended it: {ended:#?}");
            assert_eq!(counts(&ended), [2, 2, 1, 0, 0], "{how}: {ended:#?}");
        }
    }
}

#[test]
fn a_silent_server_is_no_connect_timeout() {
    let script = "
import select, socket
listener = socket.create_server(('127.0.0.1', 0))
s = socket.create_connection(listener.getsockname())
accepted = listener.accept()
select.select([s], [], [], 10)
print('errno=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
";
    let ended = python(script, &[], &[("RECV_TIMEOUT", "0.5")]);
    assert_eq!(ended.number("errno"), libc::ETIMEDOUT.into(), "{ended:#?}");
    assert_eq!(counts(&ended)[2..4], [1, 0], "{ended:#?}");
}

#[test]
fn each_refusal_is_counted() {
    let script = "import socket\nfor _ in range(3): socket.socket()";
    let settings = [("CONGESTION", "no-such"), ("BINDTODEVICE", "no-such"), ("NODELAY", "on")];
    let ended = python(script, &[], &settings);
    assert_eq!(counts(&ended), [3, 3, 0, 0, 6], "{ended:#?}");
    assert_eq!(ended.log.matches(": warn: ").count(), 2, "one warning for each: {ended:#?}");
}

#[test]
fn a_child_counts_from_its_fork_on() {
    let script = "
import os, socket, subprocess, sys
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
def connect(): socket.socket().connect(listener.getsockname())
for _ in range(3): connect()
print('parent=%d' % os.getpid(), flush=True)
if os.fork() == 0:
    print('child=%d' % os.getpid(), flush=True)
    connect()
    sys.exit()
os.wait()
if os.fork() == 0: os._exit(0)
os.wait()
subprocess.run(['/bin/true'])
connect()
";
    let ended = python(script, &[], &[("CONGESTION", "no-such")]);
    let of = |pid: &str| {
        let found: Vec<_> = lines(&ended).into_iter().filter(|(of, _)| *of == pid).collect();
        let [(_, line)] = found[..] else { panic!("one line of {pid}: {ended:#?}") };
        numbers(line)
    };
    assert_eq!(of(ended.value("parent")), [5, 5, 4, 0, 5], "{ended:#?}");
    assert_eq!(of(ended.value("child")), [1, 1, 1, 0, 1], "{ended:#?}");
    // None of the one that exec has begun anew, which has no socket, and of the one that ends without exit(3).
    assert_eq!(lines(&ended).len(), 2, "{ended:#?}");
}
