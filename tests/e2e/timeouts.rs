//! `RECV_TIMEOUT`, `SEND_TIMEOUT`, `ACCEPT_TIMEOUT`: which calls of a program they end, and which not.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::time::Duration;

use crate::harness::hole::BlackHole;
use crate::harness::namespace::Namespace;
use crate::harness::{Ended, FILL, LATE, Program, assert_on_time};

const EINPROGRESS: i64 = libc::EINPROGRESS as i64;
const ETIMEDOUT: i64 = libc::ETIMEDOUT as i64;
/// Python without a timeout of its own hands each errno on as it is; only `EINTR` it hides (PEP 475).
const PRELUDE: &str = "
import ctypes, os, socket, struct, sys, threading, time
def call(name, function):
    start = time.monotonic()
    try:
        function()
        error = 0
    except OSError as e: error = e.errno
    print('%s_took=%d\\n%s=%d' % (name, (time.monotonic() - start) * 1000, name, error), flush=True)
def later(function, *arguments): threading.Timer(1, function, arguments).start()
def timeout(s, name, ms=None):
    if ms is not None: s.setsockopt(socket.SOL_SOCKET, name, struct.pack('ll', ms // 1000, ms % 1000 * 1000))
    seconds, micros = struct.unpack('ll', s.getsockopt(socket.SOL_SOCKET, name, 16))
    return seconds * 1000 + micros // 1000
RECEIVE, SEND = 20, 21
assert (socket.SOL_SOCKET, socket.AF_UNSPEC) == (1, 0)
libc = ctypes.CDLL(None)
def connection():
    client = socket.socket()
    client.connect(listener.getsockname())
    return client, listener.accept()[0]
listener = socket.socket()
listener.bind(('127.0.0.1', 0))
listener.listen(9)
";

fn program(script: &str) -> Program {
    Program::python(&format!("{PRELUDE}{FILL}{script}"))
}

fn run(script: &str, settings: &[(&str, &str)]) -> Ended {
    let ended = program(script).tuned(settings).run();
    ended.succeeded();
    ended
}

fn assert_ends(ended: &Ended, name: &str, error: i64, after: u64) {
    assert_eq!(ended.number(name), error, "{name}: {ended:#?}");
    assert_on_time(ended.milliseconds(&format!("{name}_took")), Duration::from_millis(after), LATE);
}

/// One call that would wait for ever in each.
const WAITS: [(&str, &str, &str, u64); 7] = [
    ("recv", "a, b = connection(); call('recv', lambda: a.recv(1))", "RECV_TIMEOUT", 300),
    ("accepted", "a, b = connection(); call('accepted', lambda: b.recv(1))", "RECV_TIMEOUT", 300),
    ("read", "a, b = connection(); call('read', lambda: os.read(a.fileno(), 1))", "RECV_TIMEOUT", 300),
    ("recvmsg", "a, b = connection(); call('recvmsg', lambda: a.recvmsg(1))", "RECV_TIMEOUT", 300),
    ("send", "a, b = connection()\nfill(a)\ncall('send', lambda: a.send(b'x'))", "SEND_TIMEOUT", 500),
    ("write", "a, b = connection()\nfill(b)\ncall('write', lambda: os.write(b.fileno(), b'x'))", "SEND_TIMEOUT", 500),
    ("accept", "call('accept', listener.accept)", "ACCEPT_TIMEOUT", 700),
];

#[test]
fn calls_that_would_wait_end_in_time() {
    let all = [("RECV_TIMEOUT", "0.3"), ("SEND_TIMEOUT", "500ms"), ("ACCEPT_TIMEOUT", "0.7s")];
    for (name, script, setting, after) in WAITS {
        let plain = program(script).limit(Duration::from_millis(1500)).run();
        assert!(plain.killed && !plain.stdout.contains(name), "{name} waits without the library: {plain:#?}");
        let one: Vec<_> = all.into_iter().filter(|(n, _)| *n == setting).collect();
        for settings in [&all[..], &one, &[&all[..], &[("PRECEDENCE", "program")]].concat()] {
            let tuned = run(script, settings);
            assert_ends(&tuned, name, ETIMEDOUT, after);
        }
    }
}

#[test]
fn what_comes_in_time_is_received_and_the_next_call_has_its_own_time() {
    let script = "
a, b = connection()
def slowly():
    for _ in range(4):
        time.sleep(0.4)
        b.send(b'x')
def received():
    threading.Thread(target=slowly).start()
    a.recv(4, socket.MSG_PEEK)
    for _ in range(4): a.recv(1)
call('all', received)
call('none', lambda: a.recv(1))
";
    let tuned = run(script, &[("RECV_TIMEOUT", "1.5")]);
    assert_ends(&tuned, "all", 0, 1600);
    assert_ends(&tuned, "none", ETIMEDOUT, 1500);
}

/// Their `EAGAIN` says that there is nothing, not that nothing came in time: a program that sends with MSG_ZEROCOPY reads its
/// queue of errors until it is empty.
#[test]
fn a_call_that_never_waits_has_its_own_answer() {
    let script = "
OOB, DONTWAIT, ERRQUEUE, NOWAIT, EAGAIN = 1, 0x40, 0x2000, 8, 11
class Message(ctypes.Structure): _fields_ = [('bytes', ctypes.c_char * 56), ('length', ctypes.c_uint)]
libc = ctypes.CDLL(None, use_errno=True)
a, b = connection()
byte = ctypes.create_string_buffer(1)
part = (ctypes.c_void_p * 2)(ctypes.addressof(byte), 1)
def failed(result): return ctypes.get_errno() if result == -1 else result
for flags in OOB, DONTWAIT, ERRQUEUE:
    message = Message()
    for name, function, arguments in (
        ('recv', libc.recv, (byte, 1, flags)),
        ('recvfrom', libc.recvfrom, (byte, 1, flags, None, None)),
        ('recvmsg', libc.recvmsg, (ctypes.byref(message), flags)),
        ('recvmmsg', libc.recvmmsg, (ctypes.byref(message), 1, flags, None)),
    ): print(name, flags, failed(function(a.fileno(), *arguments)))
print('preadv2', failed(libc.preadv2(a.fileno(), part, 1, ctypes.c_long(-1), NOWAIT)))
fill(a)
print('send', failed(libc.send(a.fileno(), byte, 1, DONTWAIT)))
print('pwritev2', failed(libc.pwritev2(a.fileno(), part, 1, ctypes.c_long(-1), NOWAIT)))
print('over=1')
";
    let plain = program(script).run();
    plain.succeeded();
    assert!(plain.stdout.contains(&format!("recv 8192 {}", libc::EAGAIN)), "{plain:#?}");
    for time in ["5ms", "20s"] {
        let tuned = run(script, &[("RECV_TIMEOUT", time), ("SEND_TIMEOUT", time)]);
        assert_eq!(tuned.stdout, plain.stdout, "{time}");
    }
}

/// Where a socket has a timeout, the kernel ends a call after every handler, and after stop and continue (signal(7)).
#[test]
fn handlers_that_restart_calls_end_none() {
    let script = "
import signal
libc = ctypes.CDLL(None, use_errno=True)
def raw(name, function, *arguments):
    def checked():
        if function(*arguments) < 0: raise OSError(ctypes.get_errno(), name)
    call(name, checked)
client, server = connection()
full, reader = connection()
fill(full)
signal.signal(signal.SIGINT, signal.SIG_DFL) # python's handler ends calls
signal.signal(signal.SIGALRM, lambda *_: None)
signal.siginterrupt(signal.SIGALRM, False)
signal.setitimer(signal.ITIMER_REAL, 0.05, 0.05)
byte = ctypes.create_string_buffer(1)
receive = libc.recv, client.fileno(), byte, 1, 0
later(server.send, b'x')
raw('comes', *receive)
raw('receives', *receive)
raw('reads', libc.read, client.fileno(), byte, 1)
raw('sends', libc.send, full.fileno(), byte, 1, 0)
raw('accepts', libc.accept, listener.fileno(), None, None)
signal.siginterrupt(signal.SIGALRM, True)
raw('interrupted', *receive)
signal.setitimer(signal.ITIMER_REAL, 0)
signal.siginterrupt(signal.SIGALRM, False)
if os.fork() == 0:
    for number in signal.SIGSTOP, signal.SIGCONT:
        time.sleep(0.2)
        os.kill(os.getppid(), number)
    os._exit(0)
raw('stopped', *receive)
";
    let ended = run(script, &[("RECV_TIMEOUT", "2"), ("SEND_TIMEOUT", "2"), ("ACCEPT_TIMEOUT", "2")]);
    assert_ends(&ended, "comes", 0, 1000);
    for name in ["receives", "reads", "sends", "accepts", "stopped"] {
        assert_ends(&ended, name, ETIMEDOUT, 2000);
    }
    assert_eq!(ended.number("interrupted"), i64::from(libc::EINTR), "{ended:#?}");
}

/// Python makes a call again that its own handler has interrupted (PEP 475), as long as it takes.
#[test]
fn a_call_that_is_made_again_after_each_signal_ends_in_time() {
    let script = "
import signal
client, server = connection()
full, reader = connection()
fill(full)
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.25, 0.25)
call('receives', lambda: client.recv(1))
call('again', lambda: client.recv(1))
call('accepted', lambda: server.recv(1))
call('sends', lambda: full.send(b'x'))
other, peer = connection()
os.dup2(other.fileno(), full.fileno())
call('another', lambda: full.recv(1))
def send_once(*_):
    signal.signal(signal.SIGALRM, lambda *_: None)
    server.send(b'x')
signal.signal(signal.SIGALRM, send_once)
client.recv(1)
call('behind', lambda: client.recv(1))
";
    assert!(program(script).limit(Duration::from_secs(5)).run().killed, "without tcptune nothing ends it");
    let ended = run(script, &[("RECV_TIMEOUT", "1"), ("SEND_TIMEOUT", "1")]);
    for name in ["receives", "again", "accepted", "sends", "another", "behind"] {
        assert_ends(&ended, name, ETIMEDOUT, 1000);
    }
}

#[test]
fn accepted_sockets_do_not_inherit_the_accept_timeout() {
    let script = "
a, b = connection()
later(a.send, b'x')
call('recv', lambda: b.recv(1))
later(lambda: socket.create_connection(listener.getsockname()))
call('accept', listener.accept)
";
    let tuned = run(script, &[("ACCEPT_TIMEOUT", "0.3")]);
    assert_eq!(tuned.number("recv"), 0, "{tuned:#?}");
    assert_ends(&tuned, "accept", ETIMEDOUT, 300);

    let tuned = run(script, &[("RECV_TIMEOUT", "0.3")]);
    assert_ends(&tuned, "recv", ETIMEDOUT, 300);
    assert_eq!(tuned.number("accept"), 0, "RECV_TIMEOUT is not for a listener: {tuned:#?}");
    assert!(tuned.milliseconds("accept_took") > Duration::from_millis(600), "{tuned:#?}");

    let tuned = run(script, &[("RECV_TIMEOUT", "2"), ("ACCEPT_TIMEOUT", "0.3")]);
    assert_eq!(tuned.number("recv"), 0, "{tuned:#?}");
    assert_ends(&tuned, "accept", ETIMEDOUT, 300);
}

#[test]
fn which_value_wins_where_the_program_sets_its_own() {
    let script = "
first, _ = connection()
print('listens=%d' % timeout(listener, RECEIVE, 4000))
a, b = connection()
print('inherited=%d' % timeout(b, RECEIVE))
print('longer=%d' % timeout(a, RECEIVE, 9000))
print('shorter=%d' % timeout(b, RECEIVE, 100))
print('send=%d' % timeout(a, SEND, 9000))
a.connect_ex(listener.getsockname())
print('send_again=%d' % timeout(a, SEND))
early = socket.socket()
timeout(early, RECEIVE, 5000), timeout(early, SEND, 6000)
early.connect(listener.getsockname())
print('early=%d' % timeout(early, RECEIVE))
print('early_send=%d' % timeout(early, SEND))
";
    let names = ["listens", "inherited", "longer", "shorter", "send", "send_again", "early", "early_send"];
    let values = |settings: Option<&[(&str, &str)]>| {
        let ended = program(script).with(settings).run();
        ended.succeeded();
        names.map(|name| ended.number(name))
    };
    let programs = [4000, 4000, 9000, 100, 9000, 9000, 5000, 6000];
    assert_eq!(values(None), programs);
    let all = [("RECV_TIMEOUT", "1"), ("SEND_TIMEOUT", "2"), ("ACCEPT_TIMEOUT", "3")];
    let program_wins = |settings: &[(&'static str, &'static str)]| [settings, &[("PRECEDENCE", "program")]].concat();
    assert_eq!(values(Some(&program_wins(&all))), programs);
    // A shorter one is the program's in any case.
    assert_eq!(values(Some(&all)), [3000, 1000, 1000, 100, 2000, 2000, 1000, 2000]);
    // What is not set stays the program's.
    assert_eq!(values(Some(&all[..1])), [4000, 1000, 1000, 100, 9000, 9000, 1000, 6000]);
    assert_eq!(values(Some(&all[1..2])), [4000, 4000, 9000, 100, 2000, 2000, 5000, 2000]);
    // A listener has one value for itself and for what it accepts.
    assert_eq!(values(Some(&all[2..])), [3000, 0, 9000, 100, 9000, 9000, 5000, 6000]);
    assert_eq!(values(Some(&program_wins(&all[2..]))), programs);
}

#[test]
fn a_send_timeout_never_ends_a_connect() {
    // Each in its own thread, since the kernel's own end of it takes its time.
    let script = "
def each(way):
    s = socket.socket()
    if way == 'again': call('again_first', lambda: s.connect(hole))
    if way in ('unspecified', 'replaced'):
        s.connect(listener.getsockname())
        assert libc.connect(s.fileno(), bytes(16), 16) == 0
    if way == 'replaced': s.connect(listener.getsockname()), libc.connect(s.fileno(), bytes(16), 16)
    if way == 'nonblocking':
        s.setblocking(False)
        call('nonblocking_first', lambda: s.connect(hole))
        s.setblocking(True)
    call(way, lambda: s.connect(hole))
    s.close()
    sockets = [socket.socket()]
    sockets[0].connect(listener.getsockname())
hole = (sys.argv[1], int(sys.argv[2]))
threads = [threading.Thread(target=each, args=(way,)) for way in ('first', 'again', 'unspecified', 'replaced', 'nonblocking')]
for thread in threads: thread.start()
for thread in threads: thread.join()
";
    let hole = BlackHole::v4();
    let run = |settings: &[(&str, &str)]| {
        let ended = program(script).args([hole.ip(), hole.port()]).tuned(settings).run();
        ended.succeeded();
        ended
    };
    let kernel = run(&[("SEND_TIMEOUT", "0.3"), ("SYNCNT", "1")]);
    let ours = run(&[("SEND_TIMEOUT", "0.3"), ("CONNECT_TIMEOUT", "1")]);
    for name in ["first", "again_first", "again", "unspecified", "replaced", "nonblocking"] {
        assert_eq!(kernel.number(name), ETIMEDOUT, "{name}: {kernel:#?}");
        assert!(kernel.milliseconds(&format!("{name}_took")) > Duration::from_secs(2), "{name}: {kernel:#?}");
        // An attempt that has begun without blocking is ended by the kernel, whoever waits for it.
        assert_ends(&ours, name, ETIMEDOUT, 1000);
    }
    for ended in [&kernel, &ours] {
        assert_ends(ended, "nonblocking_first", EINPROGRESS, 0);
    }
}

#[test]
fn a_send_timeout_holds_after_every_way_to_connect() {
    let script = "
def full(name, s):
    fill(s)
    call(name, lambda: s.send(b'x'))
def poll(s):
    import select
    select.select([], [s], [])
hole, live = (sys.argv[1], int(sys.argv[2])), listener.getsockname()
s = socket.socket(); s.connect_ex(hole); s.connect(live)
full('after_a_timeout', s)
s = socket.socket(); s.connect(live); libc.connect(s.fileno(), bytes(16), 16); s.connect(live)
full('after_unspecified', s)
s = socket.socket(); s.connect(live); s.connect_ex(live)
full('after_isconn', s)
s = socket.socket(); s.setblocking(False); s.connect_ex(live); poll(s); s.setblocking(True)
full('after_nonblocking', s)
s = socket.socket(); timeout(s, SEND, 100); s.connect_ex(hole); libc.connect(s.fileno(), bytes(16), 16); s.connect(live)
full('after_own', s)
";
    let hole = BlackHole::v4();
    let settings = [("SEND_TIMEOUT", "0.4"), ("CONNECT_TIMEOUT", "0.2")];
    let tuned = program(script).args([hole.ip(), hole.port()]).tuned(&settings).run();
    tuned.succeeded();
    for way in ["a_timeout", "unspecified", "isconn", "nonblocking"] {
        assert_ends(&tuned, &format!("after_{way}"), ETIMEDOUT, 400);
    }
    assert_ends(&tuned, "after_own", libc::EAGAIN.into(), 100);
}

#[test]
fn after_an_interrupted_connect_they_hold_as_well() {
    let Some(namespace) = Namespace::or_skip("after_an_interrupted_connect_they_hold_as_well") else { return };
    // The first SYN is lost, so that a signal finds connect waiting; python then waits by poll, and for SO_ERROR.
    namespace.run("nft", &["add table inet late"]);
    namespace.run("nft", &["add chain inet late in { type filter hook input priority 0; }"]);
    let script = "
import signal
handled = []
signal.signal(signal.SIGALRM, lambda *_: handled.append(1))
signal.setitimer(signal.ITIMER_REAL, 0.3)
s = socket.socket()
call('connect', lambda: s.connect(listener.getsockname()))
assert handled
call('recv', lambda: s.recv(1))
fill(s)
call('send', lambda: s.send(b'x'))
";
    let settings = [("RECV_TIMEOUT", "0.3"), ("SEND_TIMEOUT", "0.5")];
    for more in [&[][..], &[("CONNECT_TIMEOUT", "5")]] {
        namespace.run("nft", &["flush chain inet late in"]);
        namespace.run("nft", &["add rule inet late in tcp flags syn limit rate 1/hour burst 1 packets drop"]);
        let tuned = program(script).inside(&namespace).tuned(&[&settings, more].concat()).run();
        tuned.succeeded();
        assert_eq!(tuned.number("connect"), 0, "{tuned:#?}");
        assert!(tuned.milliseconds("connect_took") > Duration::from_millis(600), "{tuned:#?}");
        assert_ends(&tuned, "recv", ETIMEDOUT, 300);
        assert_ends(&tuned, "send", ETIMEDOUT, 500);
    }
}

/// A connection, whose second end a program gets as standard input.
fn on_standard_input() -> (TcpStream, OwnedFd) {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a listener");
    let client = TcpStream::connect(listener.local_addr().expect("its address")).expect("a connection");
    (client, listener.accept().expect("its other end").0.into())
}

#[test]
fn a_connection_as_standard_input_has_the_receive_timeout() {
    let (_client, plain) = on_standard_input();
    let plain = Program::new("cat").stdin(plain).limit(Duration::from_secs(1)).run();
    assert!(plain.killed, "{plain:#?}");

    let (_client, connection) = on_standard_input();
    let tuned = Program::new("cat").stdin(connection).tuned(&[("RECV_TIMEOUT", "0.5")]).run();
    assert_on_time(tuned.elapsed, Duration::from_millis(500), LATE);
    assert!(tuned.stderr.contains("Connection timed out") && tuned.code() == Some(1), "{tuned:#?}");
}

#[test]
fn a_listener_as_standard_input_has_the_accept_timeout() {
    let script = "
import socket, time
listener = socket.socket(fileno=0)
start = time.monotonic()
try: listener.accept()
except OSError as e: print('accept=%d' % e.errno)
print('accept_took=%d' % ((time.monotonic() - start) * 1000))
print('defer=%d' % listener.getsockopt(socket.IPPROTO_TCP, socket.TCP_DEFER_ACCEPT))
";
    let listener = || OwnedFd::from(TcpListener::bind("127.0.0.1:0").expect("a listener"));
    let plain = Program::python(script).stdin(listener()).limit(Duration::from_millis(1500)).run();
    assert!(plain.killed, "{plain:#?}");
    let settings = [("ACCEPT_TIMEOUT", "0.6"), ("DEFER_ACCEPT", "3"), ("RECV_TIMEOUT", "0.1")];
    let tuned = Program::python(script).stdin(listener()).tuned(&settings).run();
    assert_ends(&tuned, "accept", ETIMEDOUT, 600);
    assert_eq!(tuned.number("defer"), 3, "{tuned:#?}");
}
