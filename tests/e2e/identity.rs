//! A number is not a socket: what another thread, child or library makes of it is left alone.

use std::time::Duration;

use crate::harness::hole::BlackHole;
use crate::harness::{Ended, LATE, Program, assert_on_time, debug_library, library};

const TIMEOUT: &[(&str, &str)] = &[("CONNECT_TIMEOUT", "0.6")];

fn reused(hole: &BlackHole, owner: &str, settings: &[(&str, &str)]) -> Ended {
    let ended = Program::probe("reused").args([owner, &hole.port()]).tuned(settings).run();
    ended.succeeded();
    assert_eq!((ended.number("intact"), ended.number("flags_kept")), (1, 1), "{owner}, {settings:?}: {ended:#?}");
    ended
}

#[test]
fn the_next_owner_of_a_number_is_left_alone() {
    let hole = BlackHole::v4();
    let all = [TIMEOUT, &[("RECV_TIMEOUT", "5"), ("QUICKACK", "1")]].concat();
    for owner in ["listener", "connection", "accepted", "udp", "tcp", "file", "pipe"] {
        for settings in [TIMEOUT, &all] {
            let ended = reused(&hole, owner, settings);
            // The kernel holds on to the socket that connect began with.
            assert_eq!(ended.number("errno"), libc::ETIMEDOUT.into(), "{owner}: {ended:#?}");
            assert_on_time(ended.milliseconds("took"), Duration::from_millis(600), LATE);
        }
    }
}

#[test]
fn also_where_a_signal_handler_has_made_it() {
    // It ends when the handler has run.
    let ended = reused(&BlackHole::v4(), "handler", &[("CONNECT_TIMEOUT", "10")]);
    assert_eq!(ended.number("errno"), libc::EBADF.into(), "as a connect that the kernel restarts: {ended:#?}");
}

/// A handler without `SA_RESTART`: connect(2) gives `EINTR`, and what has the number then is no attempt.
#[test]
fn a_number_that_a_handler_gives_to_a_listener_keeps_its_options() {
    let hole = BlackHole::v4();
    let script = format!(
        "
import ctypes, os, signal, socket, struct
libc = ctypes.CDLL(None, use_errno=True)
s, other = socket.socket(), socket.create_server(('127.0.0.1', 0))
at = other.getsockname()
if os.environ['WAY'] == 'undone':
    def handle(*_):
        libc.connect(fd, bytes(16), 16)
        libc.listen(fd, 5)
        global at
        at = '127.0.0.1', s.getsockname()[1]
else:
    def handle(*_): os.dup2(other.fileno(), fd)
CALLBACK = ctypes.CFUNCTYPE(None, ctypes.c_int)(handle)
fd = s.fileno()
libc.signal(signal.SIGALRM, CALLBACK)
libc.siginterrupt(signal.SIGALRM, 1)
signal.setitimer(signal.ITIMER_REAL, 0.3)
raw = struct.pack('=H2s4s8x', socket.AF_INET, ({}).to_bytes(2, 'big'), socket.inet_aton('127.0.0.1'))
print('errno=%d' % (libc.connect(fd, raw, 16) and ctypes.get_errno()))
client = socket.create_connection(at)
print('user_timeout=%d' % s.accept()[0].getsockopt(socket.IPPROTO_TCP, 18))
print('listens=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_ACCEPTCONN))
",
        hole.port()
    );
    for way in ["replaced", "undone"] {
        let run = |settings| Program::python(&script).env("WAY", way).with(settings).run();
        let (plain, tuned) = (run(None), run(Some(&[("CONNECT_TIMEOUT", "3")])));
        assert_eq!((plain.number("errno"), plain.number("listens")), (libc::EINTR.into(), 1), "{plain:#?}");
        assert_eq!(plain.stdout, tuned.stdout, "{way}: {tuned:#?}");
    }
}

#[test]
fn what_is_not_tcp_is_left_alone_whatever_its_number_was() {
    let settings: &[_] =
        &[("SNDBUF", "20000"), ("RECV_TIMEOUT", "0.5"), ("CONNECT_TIMEOUT", "0.1"), ("KEEPIDLE", "60")];
    for how in ["syscall", "fclose", "close_range", "vfork", "unshare", "clone"] {
        let run = |settings| Program::probe("stale").args([how]).with(settings).run();
        let (plain, tuned) = (run(None), run(Some(settings)));
        assert_eq!(plain.succeeded(), tuned.succeeded(), "{how}");
        assert_eq!((plain.number("errno"), plain.number("accepted_limit")), (libc::EINTR.into(), 0), "{plain:#?}");
    }
}

#[test]
fn the_programs_values_stay_on_duplicates_by_fcntl() {
    let script = "
import socket
server = socket.create_server(('127.0.0.1', 0))
s = socket.socket()
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
copy = s.dup()
s.close()
copy.connect(server.getsockname())
print('keepidle=%d' % copy.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
";
    for (precedence, keepidle) in [("program", 77), ("env", 60)] {
        let ended = Program::python(script).tuned(&[("KEEPIDLE", "60"), ("PRECEDENCE", precedence)]).run();
        ended.succeeded();
        assert_eq!(ended.number("keepidle"), keepidle, "{precedence}: {ended:#?}");
    }
}

#[test]
fn descriptors_past_the_first_hundred_thousand_are_as_any_other() {
    let hole = BlackHole::v4();
    let script = format!(
        "
import fcntl, resource, socket, time
try: resource.setrlimit(resource.RLIMIT_NOFILE, (1 << 20, 1 << 20))
except ValueError: print('no_permission=1'); raise SystemExit
made = socket.socket()
made.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 77)
for number in 70_000, 300_000, (1 << 20) - 1:
    s = socket.socket(fileno=fcntl.fcntl(made, fcntl.F_DUPFD_CLOEXEC, number))
    assert s.fileno() == number
    start = time.monotonic()
    try: s.connect(('{}', {}))
    except TimeoutError: pass
    print('took_%d=%d' % (number, (time.monotonic() - start) * 1000))
    print('keepidle_%d=%d' % (number, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)))
    s.close()
",
        hole.ip(),
        hole.port()
    );
    for library in [library(), debug_library()] {
        let settings = &[("KEEPIDLE", "60"), ("PRECEDENCE", "program"), ("CONNECT_TIMEOUT", "0.3")];
        let ended = Program::python(&script).tuned_by(library, settings).run();
        ended.succeeded();
        if ended.stdout.contains("no_permission") {
            eprintln!("skipped: the hard limit of descriptors is below 2^20, and may not be raised");
            return;
        }
        for number in [70_000, 300_000, (1 << 20) - 1] {
            assert_on_time(ended.milliseconds(&format!("took_{number}")), Duration::from_millis(300), LATE);
            assert_eq!(ended.number(&format!("keepidle_{number}")), 77, "{ended:#?}");
        }
    }
}

#[test]
fn what_is_not_used_takes_no_memory_even_where_all_is_locked() {
    let script = "
import ctypes, socket
s = socket.socket()
if ctypes.CDLL(None).mlockall(3): print('locked=-1')
else: print('locked=' + next(l for l in open('/proc/self/status') if l.startswith('VmLck')).split()[1])
";
    let locked = |settings: &[(&str, &str)]| {
        let ended = Program::python(script).tuned(settings).run();
        ended.succeeded();
        ended.number("locked")
    };
    let without = locked(&[]);
    if without < 0 {
        eprintln!("skipped: mlockall is refused");
        return;
    }
    let more = locked(&[("KEEPIDLE", "60"), ("STATS", "on")]) - without;
    assert!((0..=100).contains(&more), "{more} KiB more with settings");
}
