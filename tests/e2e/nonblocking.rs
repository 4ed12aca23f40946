//! Connect timeout of programs whose sockets do not block: the kernel ends the attempt.

use std::io::Read;
use std::net::TcpListener;
use std::time::Duration;

use crate::harness::hole::{BlackHole, refusing_port};
use crate::harness::{Ended, LATE, Program, Running, assert_on_time};

#[test]
fn curl_says_that_it_timed_out() {
    for hole in [BlackHole::v4(), BlackHole::v6()] {
        let curl = |limit: &str| {
            let url = format!("http://{}/", hole.authority());
            Program::new("curl").args(["--verbose", "--no-progress-meter", "--noproxy", "*", "--max-time", limit, &url])
        };
        let plain = curl("4").run();
        assert_on_time(plain.elapsed, Duration::from_secs(4), LATE);
        for (timeout, due) in [("1.5", 1500), ("3", 3000)] {
            let tuned = curl("15").tuned(&[("CONNECT_TIMEOUT", timeout)]).run();
            assert_on_time(tuned.elapsed, Duration::from_millis(due), LATE);
            assert_eq!(tuned.code(), Some(28), "curl's own status of a timeout: {tuned:#?}");
            assert!(tuned.stderr.contains("failed: Connection timed out"), "the kernel's error: {tuned:#?}");
        }
    }
}

#[test]
fn asyncio_raises_timed_out() {
    let hole = BlackHole::v4();
    let script = format!(
        "
import asyncio, time
async def main():
    start = time.monotonic()
    try: await asyncio.open_connection('{}', {})
    except OSError as e: print('errno=%d' % e.errno); print('message=%s' % e)
    print('took=%d' % ((time.monotonic() - start) * 1000))
asyncio.run(main())
",
        hole.ip(),
        hole.port()
    );
    assert!(Program::python(&script).limit(Duration::from_secs(5)).run().killed, "hangs without tcptune");
    for (timeout, due) in [("1.5", 1500), ("3s", 3000)] {
        let tuned = Program::python(&script).tuned(&[("CONNECT_TIMEOUT", timeout)]).run();
        assert_eq!(tuned.number("errno"), libc::ETIMEDOUT.into(), "{tuned:#?}");
        assert_on_time(tuned.milliseconds("took"), Duration::from_millis(due), LATE);
    }
}

/// A nonblocking client that notices by `way` that it is connected.
fn client(way: &str, port: &str, env: &[(&str, &str)], settings: Option<&[(&str, &str)]>) -> Ended {
    let mut program = Program::probe("nonblock").args([way, "127.0.0.1", port]);
    for (name, value) in env {
        program = program.env(name, value);
    }
    let ended = program.with(settings).run();
    ended.succeeded();
    ended
}

const WAYS: &str = "
    poll ppoll select pselect epoll_wait epoll_pwait getsockopt getpeername connect write writev
    send sendto sendmsg sendfile read readv recv recvfrom recvmsg sendmmsg recvmmsg splice pwritev2 preadv2
    vdprintf dprintf fdopen shutdown setsockopt ioctl fcntl epoll_ctl __write __send __poll __select
";

#[test]
fn the_user_timeout_is_put_back_however_the_program_notices() {
    put_back(WAYS);
}

#[test]
fn the_user_timeout_is_put_back_when_epoll_pwait2_notices() {
    put_back("epoll_pwait2");
}

fn put_back(ways: &str) {
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let port = live.local_addr().expect("its address").port().to_string();
    for way in ways.split_whitespace() {
        let plain = client(way, &port, &[], None);
        assert_eq!((plain.number("during"), plain.number("after")), (0, 0), "{way}");

        let tuned = client(way, &port, &[], Some(&[("CONNECT_TIMEOUT", "2")]));
        assert_eq!(tuned.number("connect"), libc::EINPROGRESS.into(), "{way}: as the program expects");
        assert_eq!(tuned.number("during"), 2000, "{way}: bounds the attempt");
        assert_eq!((tuned.number("noticed"), tuned.number("after")), (1, 0), "{way}: {tuned:#?}");
        assert_eq!((tuned.number("flags"), tuned.number("so_error")), (1, 0), "{way}");

        let own = client(way, &port, &[], Some(&[("CONNECT_TIMEOUT", "2"), ("USER_TIMEOUT", "30s")]));
        assert_eq!((own.number("during"), own.number("after")), (2000, 30_000), "{way}");
    }
}

#[test]
fn the_program_reads_and_sets_its_own_user_timeout_meanwhile() {
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let port = live.local_addr().expect("its address").port().to_string();
    let hole = BlackHole::v4();
    let env = [("OWN_USER_TIMEOUT", "7000"), ("READ_DURING", "1")];
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "2")] as &[_])] {
        let ended = client("poll", &port, &env, settings);
        assert_eq!(ended.number("after"), 7000, "{ended:#?}");
        assert_eq!(ended.number("read_after"), 7000);
        // Towards the black hole the attempt still goes on when the program reads.
        let ended = client("poll", &hole.port(), &env, settings);
        assert_eq!((ended.number("own"), ended.number("read_during")), (0, 7000), "{ended:#?}");
        let due = if settings.is_some() { 2000 } else { 7000 };
        assert_on_time(ended.milliseconds("took"), Duration::from_millis(due), LATE);
    }
    let env_wins = client("poll", &port, &env, Some(&[("CONNECT_TIMEOUT", "2"), ("USER_TIMEOUT", "9000")]));
    assert_eq!(env_wins.number("after"), 9000);
}

#[test]
fn a_shorter_user_timeout_is_left_to_end_the_attempt() {
    let hole = BlackHole::v4();
    let tuned = client("poll", &hole.port(), &[], Some(&[("CONNECT_TIMEOUT", "12"), ("USER_TIMEOUT", "1500")]));
    assert_eq!((tuned.number("during"), tuned.number("after")), (1500, 1500));
    assert_on_time(tuned.milliseconds("took"), Duration::from_millis(1500), LATE);
}

/// With a user timeout the kernel counts otherwise: one retry would be 7 s.
#[test]
fn retries_end_an_attempt_before_a_longer_timeout() {
    let hole = BlackHole::v4();
    let script = format!(
        "
import os, select, socket, time
s = socket.socket()
s.setblocking(False)
own = os.environ.get('OWN')
if own: s.setsockopt(socket.IPPROTO_TCP, socket.TCP_SYNCNT, 1)
if own == 'both': s.setsockopt(socket.IPPROTO_TCP, 18, 15000)
start = time.monotonic()
s.connect_ex(('127.0.0.1', {}))
select.select([], [s], [], 20)
print('took=%d' % ((time.monotonic() - start) * 1000))
print('errno=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
",
        hole.port()
    );
    let timeout = ("CONNECT_TIMEOUT", "20");
    let own = |which: &str| Program::python(&script).env("OWN", which);
    let running = [
        [own("retries").start(), own("retries").tuned(&[timeout]).start()],
        [own("retries").start(), Program::python(&script).tuned(&[timeout, ("SYNCNT", "1")]).start()],
        [own("both").start(), own("both").tuned(&[timeout]).start()],
    ];
    for [plain, ended] in running.map(|pair| pair.map(Running::wait)) {
        assert_eq!((plain.number("errno"), ended.number("errno")), (libc::ETIMEDOUT.into(), libc::ETIMEDOUT.into()));
        let (plain, took) = (plain.milliseconds("took"), ended.milliseconds("took"));
        assert!(plain.abs_diff(took) < Duration::from_secs(2), "{plain:?}, {ended:#?}");
    }
}

#[test]
fn a_refused_connection_keeps_its_errno() {
    let port = refusing_port().to_string();
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "2")] as &[_])] {
        let ended = client("poll", &port, &[], settings);
        assert_eq!((ended.number("after"), ended.number("so_error")), (0, libc::ECONNREFUSED.into()), "{ended:#?}");
    }
}

/// Not even the first data byte is sent under the connect timeout: the server stalls longer than that.
#[test]
fn a_stall_longer_than_the_connect_timeout_does_not_end_the_connection() {
    let server = TcpListener::bind("127.0.0.1:0").expect("a server");
    let port = server.local_addr().expect("its address").port();
    let script = format!(
        "
import select, socket, time
s = socket.socket()
s.setblocking(False)
s.connect_ex(('127.0.0.1', {port}))
time.sleep(0.1)
sent = 0
while True:
    try: sent += s.send(bytes(65536))
    except BlockingIOError: break
time.sleep(3)
s.setblocking(True)
s.sendall(b'end')
print('sent=%d' % (sent + 3))
"
    );
    let running = Program::python(&script).tuned(&[("CONNECT_TIMEOUT", "1")]).start();
    let (mut connection, _) = server.accept().expect("the client connects");
    std::thread::sleep(Duration::from_millis(2500)); // zero window: unacknowledged data for longer than a second
    let mut received = Vec::new();
    connection.read_to_end(&mut received).expect("the connection is not reset");
    let ended = running.wait();
    assert_eq!(usize::try_from(ended.number("sent")), Ok(received.len()), "{ended:#?}");
}

#[test]
fn many_attempts_at_once_all_end_and_are_all_put_back() {
    let hole = BlackHole::v4();
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let script = format!(
        "
import fcntl, resource, select, socket, sys, time
number = int(sys.argv[1])
if number:
    try: resource.setrlimit(resource.RLIMIT_NOFILE, (100_000, 100_000))
    except ValueError: print('no_permission=1'); raise SystemExit
def attempt(port):
    global number
    s = socket.socket()
    if number:
        s = socket.socket(fileno=fcntl.fcntl(s, fcntl.F_DUPFD_CLOEXEC, number)); number += 37
    s.setblocking(False); s.connect_ex(('127.0.0.1', port)); return s
start = time.monotonic()
doomed = [attempt({}) for _ in range(150)]
lucky = [attempt({}) for _ in range(100)]
e = select.epoll()
for s in doomed + lucky: e.register(s.fileno(), select.EPOLLOUT | select.EPOLLONESHOT)
ended = 0
while ended < 250 and time.monotonic() - start < 15: ended += len(e.poll(1))
print('took=%d' % ((time.monotonic() - start) * 1000))
print('doomed=%d' % sum(s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR) == 110 for s in doomed))
print('back=%d' % sum(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_USER_TIMEOUT) == 0 for s in doomed + lucky))
",
        hole.port(),
        live.local_addr().expect("its address").port()
    );
    for number in ["0", "70000"] {
        let tuned = Program::python(&script).args([number]).tuned(&[("CONNECT_TIMEOUT", "1.5")]).run();
        if tuned.stdout.contains("no_permission") {
            println!("skipped: descriptors from {number} on: the hard limit of descriptors may not be raised");
            continue;
        }
        assert_eq!((tuned.number("doomed"), tuned.number("back")), (150, 250), "{tuned:#?}");
        assert_on_time(tuned.milliseconds("took"), Duration::from_millis(1500), LATE);
    }
}
