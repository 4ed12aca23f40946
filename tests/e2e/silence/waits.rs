//! poll, select and calls that block: what ends a connection, and what does not.

use std::time::Duration;

use super::{Answer, LIMIT, SLACK, serve};
use crate::harness::{Ended, Program, assert_on_time, debug_library, library};

const ETIMEDOUT: i64 = libc::ETIMEDOUT as i64;
const EAGAIN: i64 = libc::EAGAIN as i64;

/// `call` prints what a function gives and how long it took; python hands each errno on as it is.
pub const PRELUDE: &str = "
import ctypes, errno, os, select, signal, socket, struct, sys, threading, time
def call(name, function, *arguments):
    start = time.monotonic()
    try:
        result, error = function(*arguments), 0
    except OSError as e: result, error = None, e.errno
    print('%s_took=%d\\n%s=%d' % (name, (time.monotonic() - start) * 1000, name, error), flush=True)
    return result
port = int(sys.argv[1]) if len(sys.argv) > 1 else 0
def connect(): return socket.create_connection(('127.0.0.1', port))
def poll(s, ms, events=select.POLLIN):
    p = select.poll()
    p.register(s, events)
    return p.poll(ms)
";

pub fn run(script: &str, port: u16, settings: &[(&str, &str)]) -> Ended {
    let ended = Program::python(&format!("{PRELUDE}{script}")).args([port.to_string()]).tuned(settings).run();
    ended.succeeded();
    ended
}

const RECEIVE: &[(&str, &str)] = &[("RECV_TIMEOUT", "1")];

fn assert_ended(ended: &Ended, wait: &str) {
    assert_on_time(ended.milliseconds(&format!("{wait}_took")), LIMIT, SLACK);
}

#[test]
fn each_wait_ends_and_the_error_is_etimedout() {
    let script = "
waits = {
    'poll': lambda s: poll(s, None),
    'poll_long': lambda s: poll(s, 60000),
    'select': lambda s: select.select([s], [], [], None),
    'select_long': lambda s: select.select([s], [], [], 60),
    'select_except': lambda s: select.select([s], [], [s], 60),
}
def one(name, wait):
    s = connect()
    s.setblocking(False)
    events = call(name, wait, s)
    print('%s_events=%s' % (name, 'in' if events and (events[0][1] & select.POLLIN if 'poll' in name else events[0]) else events))
    if 'long' in name: print('%s_so_error=%d' % (name, s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))
    else: call(name + '_recv', s.recv, 1)
    print('%s_then=%r' % (name, s.recv(1)), flush=True)
threads = [threading.Thread(target=one, args=item) for item in waits.items()]
for t in threads: t.start()
for t in threads: t.join()
";
    let ended = run(script, serve(Answer::None), RECEIVE);
    for wait in ["poll", "poll_long", "select", "select_long", "select_except"] {
        assert_ended(&ended, wait);
        assert_eq!(ended.value(&format!("{wait}_events")), "in", "{wait}: {ended:#?}");
        let error = if wait.ends_with("long") { "so_error" } else { "recv" };
        assert_eq!(ended.number(&format!("{wait}_{error}")), ETIMEDOUT, "{wait}: {ended:#?}");
        assert_eq!(ended.value(&format!("{wait}_then")), "b''", "{wait}: {ended:#?}");
    }
}

#[test]
fn every_thread_and_duplicate_hears_of_it() {
    let script = "
s = connect()
other = socket.socket(fileno=os.dup(s.fileno()))
def blocked(name, s): call(name, s.recv, 1)
threads = [threading.Thread(target=call, args=('other', poll, other, 60000))]
for t in threads: t.start()
time.sleep(0.3)
late = threading.Thread(target=call, args=('blocked', other.recv, 1))
late.start()
call('first', poll, s, 60000)
for t in threads + [late]: t.join()
call('read', s.recv, 1)
";
    let ended = run(script, serve(Answer::None), RECEIVE);
    assert_ended(&ended, "other");
    assert!(ended.milliseconds("first_took") < LIMIT + SLACK, "{ended:#?}");
    // A thread that waits in recv hears of a timeout as well, its own or that one; what is left is the end.
    assert_eq!(ended.number("blocked"), ETIMEDOUT, "{ended:#?}");
    assert!([0, ETIMEDOUT].contains(&ended.number("read")), "{ended:#?}");
}

#[test]
fn a_byte_now_and_then_keeps_it_alive() {
    let script = "
def times(wait, s):
    s.setblocking(False)
    start, bytes = time.monotonic(), 0
    while time.monotonic() - start < 3:
        wait(s)
        try:
            got = s.recv(100)
            assert got
            bytes += len(got)
        except BlockingIOError: pass
    return bytes
def blocking(s):
    s.settimeout(None)
    return sum(len(s.recv(1)) for _ in range(5))
def one(name, function):
    s = connect()
    print('%s_bytes=%d' % (name, call(name, function, s) or 0), flush=True)
ep = lambda s: e.poll(60)
e = select.epoll()
functions = {
    'poll': lambda s: times(lambda s: poll(s, 60000), s),
    'poll_short': lambda s: times(lambda s: poll(s, 50), s),
    'select': lambda s: times(lambda s: select.select([s], [], [], 60), s),
    'epoll': lambda s: (e.register(s, select.EPOLLIN), times(ep, s))[1],
    'blocking': blocking,
}
threads = [threading.Thread(target=one, args=item) for item in functions.items()]
for t in threads: t.start()
for t in threads: t.join()
";
    let ended = run(script, serve(Answer::Slowly(600)), RECEIVE);
    for wait in ["poll", "poll_short", "select", "epoll", "blocking"] {
        assert_eq!(ended.number(wait), 0, "{wait}: {ended:#?}");
        assert!(ended.number(&format!("{wait}_bytes")) >= 3, "{wait}: {ended:#?}");
    }
}

#[test]
fn short_waits_add_up_and_pauses_between_them_do_not() {
    let script = "
def until_ended(wait):
    while not wait(): pass
s = connect()
call('poll', until_ended, lambda: poll(s, 70))
s = connect()
call('select', until_ended, lambda: select.select([s], [], [], 0.07)[0])
s = connect()
print('paused=%s' % [(poll(s, 200), time.sleep(0.5)) [0] for _ in range(4)])
s = connect()
call('not_waiting', until_ended, lambda: poll(s, 0) or time.monotonic() - start > 1.5)
";
    let script = script.replace("call('not_waiting'", "start = time.monotonic()\ncall('not_waiting'")
        + "
print('alive=%s' % poll(s, 0))
s.setblocking(False)
call('recv', s.recv, 1)
";
    let ended = run(&script, serve(Answer::None), RECEIVE);
    assert_ended(&ended, "poll");
    assert_ended(&ended, "select");
    assert_eq!(ended.value("paused"), "[[], [], [], []]", "{ended:#?}");
    assert_eq!((ended.value("alive"), ended.number("recv")), ("[]", EAGAIN), "{ended:#?}");
}

#[test]
fn a_time_of_the_programs_own_that_is_shorter_keeps_its_answer() {
    let script = "
s = connect()
print('poll=%s' % poll(s, 300))
print('select=%s' % (select.select([s], [], [], 0.3),))
s.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 200000))
call('recv', s.recv, 1)
s.setblocking(False)
call('nonblocking', s.recv, 1)
s.setblocking(True)
call('dontwait', s.recv, 1, socket.MSG_DONTWAIT)
early = socket.socket()
early.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 0, 200000))
early.connect(('127.0.0.1', port))
call('early', early.recv, 1)
early.setsockopt(socket.SOL_SOCKET, socket.SO_RCVTIMEO, struct.pack('ll', 9, 0))
call('longer', early.recv, 1)
libc = ctypes.CDLL(None, use_errno=True)
left = (ctypes.c_long * 2)(5, 0)
sets = (ctypes.c_uint64 * 16)()
sets[early.fileno() // 64] = 1 << early.fileno() % 64
print('result=%d' % libc.select(early.fileno() + 1, sets, None, None, left))
print('left=%d' % (left[0] * 1000 + left[1] // 1000))
";
    let ended = run(script, serve(Answer::None), RECEIVE);
    assert_eq!((ended.value("poll"), ended.value("select")), ("[]", "([], [], [])"));
    for own in ["recv", "early"] {
        assert_eq!(ended.number(own), EAGAIN, "{own}: {ended:#?}");
        assert_on_time(ended.milliseconds(&format!("{own}_took")), Duration::from_millis(200), SLACK);
    }
    assert_eq!((ended.number("nonblocking"), ended.number("dontwait")), (EAGAIN, EAGAIN), "{ended:#?}");
    assert_eq!(ended.number("longer"), ETIMEDOUT, "{ended:#?}");
    assert_ended(&ended, "longer");
    // select(2) writes back what is left of the time.
    assert_eq!(ended.number("result"), 1, "{ended:#?}");
    assert!((2000..=4005).contains(&ended.number("left")), "{ended:#?}");
}

#[test]
fn other_descriptors_go_on() {
    let script = "
read, write = os.pipe()
quiet, lively = connect(), socket.socketpair()
def feed():
    for _ in range(30):
        os.write(write, b'x')
        time.sleep(0.05)
threading.Thread(target=feed).start()
p, got, ended = select.poll(), 0, 0
for fd in read, quiet.fileno(), lively[0].fileno(): p.register(fd, select.POLLIN)
start = time.monotonic()
while got < 30 and time.monotonic() - start < 10:
    for fd, events in p.poll():
        if fd == read: got += len(os.read(read, 1))
        elif fd == quiet.fileno():
            print('quiet_took=%d' % ((time.monotonic() - start) * 1000))
            p.unregister(fd)
            call('recv', quiet.recv, 1)
print('got=%d' % got)
";
    let ended = run(script, serve(Answer::None), RECEIVE);
    assert_ended(&ended, "quiet");
    assert_eq!((ended.number("recv"), ended.number("got")), (ETIMEDOUT, 30), "{ended:#?}");
}

#[test]
fn an_upload_that_stalls_survives() {
    let script = "
s = connect()
s.setblocking(False)
sent, data = 0, bytes(1 << 20)
start = time.monotonic()
while sent < 32 << 20:
    for _, events in poll(s, 60000, select.POLLIN | select.POLLOUT):
        assert not events & ~select.POLLOUT, events
        try: sent += s.send(data)
        except BlockingIOError: pass
print('stalled=%d' % ((time.monotonic() - start) * 1000))
s.shutdown(socket.SHUT_WR)
poll(s, 60000)
print('arrived=%s' % s.recv(100).decode())
";
    let ended = run(script, serve(Answer::Late(2500)), RECEIVE);
    assert!(ended.number("stalled") >= 2000, "{ended:#?}");
    assert_eq!(ended.number("arrived"), 32 << 20, "{ended:#?}");
}

#[test]
fn a_peer_that_takes_nothing_ends_a_wait_for_room() {
    let script = "
def fill(s):
    s.setblocking(False)
    while poll(s, 200, select.POLLOUT):
        try: s.send(bytes(1 << 20))
        except BlockingIOError: pass
s = connect()
fill(s)
call('poll', poll, s, 60000, select.POLLOUT)
call('send', s.send, b'x')
s = connect()
fill(s)
call('select', select.select, [], [s], [], 60)
call('blocked', lambda: (s.setblocking(True), s.send(b'x')))
s = connect()
fill(s)
s.setblocking(True)
call('blocking', s.sendall, bytes(1 << 25))
";
    let ended = run(script, serve(Answer::Late(60_000)), &[("SEND_TIMEOUT", "1")]);
    for wait in ["poll", "select", "blocking"] {
        let took = ended.milliseconds(&format!("{wait}_took"));
        // What fill has waited counts.
        assert!(took >= Duration::from_millis(600) && took <= LIMIT + SLACK, "{wait}: {ended:#?}");
    }
    for (name, error) in [("send", ETIMEDOUT), ("blocked", ETIMEDOUT), ("blocking", ETIMEDOUT)] {
        assert_eq!(ended.number(name), error, "{name}: {ended:#?}");
    }
}

#[test]
fn what_is_no_connection_of_the_program_is_left_alone() {
    let script = "
listener = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(listener.getsockname())
accepted = listener.accept()[0]
pair, udp, unbound = socket.socketpair(), socket.socket(type=socket.SOCK_DGRAM), socket.socket()
read, write = os.pipe()
keep = [listener, accepted, pair[0], udp, read]
print('poll=%s' % [poll(fd, 1400) for fd in ()])
p = select.poll()
for fd in keep: p.register(fd, select.POLLIN)
print('poll=%s' % p.poll(1400))
print('select=%s' % (select.select(keep, [], [], 1.4),))
e = select.epoll()
for fd in keep: e.register(fd, select.EPOLLIN)
print('epoll=%s' % e.poll(1.4))
client.send(b'x')
print('received=%s' % accepted.recv(1))
";
    let ended = run(script, 0, RECEIVE);
    for (wait, result) in [("select", "([], [], [])"), ("epoll", "[]"), ("received", "b'x'")] {
        assert_eq!(ended.value(wait), result, "{ended:#?}");
    }
    assert!(ended.stdout.contains("poll=[]\nselect"), "{ended:#?}");
}

/// It may never be sent; and where it has come, the peer was not silent.
#[test]
fn a_wait_for_the_urgent_byte_or_with_one_unread_goes_on() {
    let script = "
listener = socket.create_server(('127.0.0.1', 0))
def pair():
    client = socket.create_connection(listener.getsockname())
    return client, listener.accept()[0]
(quiet, its_peer), (urgent, other) = pair(), pair()
other.send(b'!', socket.MSG_OOB)
waits = (poll, quiet, 1500, select.POLLPRI), (poll, urgent, 1500, select.POLLIN)
threads = [threading.Thread(target=lambda w=w: print(w[0](*w[1:]), flush=True)) for w in waits]
for t in threads: t.start()
for t in threads: t.join()
its_peer.send(b'x')
call('quiet', lambda: print('got=%s' % quiet.recv(1)))
call('urgent', lambda: print('byte=%s' % urgent.recv(1, socket.MSG_OOB)))
";
    let ended = run(script, 0, RECEIVE);
    for name in ["quiet", "urgent"] {
        assert_eq!(ended.number(name), 0, "{name}: {ended:#?}");
    }
    assert_eq!((ended.value("got"), ended.value("byte")), ("b'x'", "b'!'"), "{ended:#?}");
}

#[test]
fn a_signal_ends_a_wait_as_ever() {
    let script = "
signal.signal(signal.SIGALRM, lambda *_: 1 / 0)
s = connect()
for name, wait in ('poll', lambda: poll(s, 60000)), ('select', lambda: select.select([s], [], [], 60)):
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    start = time.monotonic()
    try: wait()
    except ZeroDivisionError: print('%s_took=%d' % (name, (time.monotonic() - start) * 1000))
signal.signal(signal.SIGALRM, lambda *_: None)
signal.setitimer(signal.ITIMER_REAL, 0.1, 0.1)
call('rest', poll, s, 60000)
signal.setitimer(signal.ITIMER_REAL, 0)
";
    let ended = run(script, serve(Answer::None), RECEIVE);
    for wait in ["poll", "select"] {
        assert_on_time(ended.milliseconds(&format!("{wait}_took")), Duration::from_millis(300), SLACK);
    }
    // Both have waited for 0.3 s.
    assert_on_time(ended.milliseconds("rest_took"), Duration::from_millis(400), SLACK);
}

#[test]
fn a_child_that_closes_its_descriptors_changes_nothing() {
    let script = "
import subprocess
s = connect()
subprocess.run(['true'], close_fds=True, check=True)
if os.fork() == 0:
    s.close()
    os._exit(0)
os.wait()
call('poll', poll, s, 60000)
call('recv', s.recv, 1)
";
    let ended = run(script, serve(Answer::None), RECEIVE);
    assert_ended(&ended, "poll");
    assert_eq!(ended.number("recv"), ETIMEDOUT, "{ended:#?}");
}

#[test]
fn a_timeout_is_logged_with_the_peer() {
    let port = serve(Answer::None);
    let script = "
s = connect()
call('recv', s.recv, 1)
call('poll', poll, s, 60000)
";
    let ended = run(script, port, &[("RECV_TIMEOUT", "1"), ("LOG", "debug")]);
    let lines: Vec<_> = ended.log.lines().filter(|line| line.contains(&format!("127.0.0.1:{port}: "))).collect();
    assert!(lines.iter().any(|line| line.contains("nothing came for 1.000 s: ETIMEDOUT")), "{ended:#?}");
    assert!(lines.iter().any(|line| line.contains("no byte came for 1.")), "{ended:#?}");
}

/// Programs make larger sets than `fd_set` is: those are the kernel's affair.
#[test]
fn a_select_of_more_than_1024_descriptors_is_as_ever() {
    let script = "
import resource
libc = ctypes.CDLL(None, use_errno=True)
resource.setrlimit(resource.RLIMIT_NOFILE, (4096, 4096))
s = connect()
WORDS, GUARD = 3000 // 64 + 1, 0xa5a5a5a5a5a5a5a5
def sets(fd):
    room = (ctypes.c_uint64 * (WORDS + 2))(*[0] * (WORDS + 2))
    room[WORDS] = room[WORDS + 1] = GUARD
    room[fd // 64] = 1 << fd % 64
    return room
def wait(name, fd, seconds):
    read, write = sets(fd), sets(fd)
    left = (ctypes.c_long * 2)(int(seconds), int(seconds % 1 * 1e6))
    number = WORDS * 64
    print('%s=%d' % (name, libc.select(number, read, write if 'both' in name else None, None, left)))
    intact = all(r[WORDS] == r[WORDS + 1] == GUARD for r in (read, write))
    print('%s_intact=%d\\n%s_set=%s' % (name, intact, name, [i for i in range(WORDS) if read[i]] == []))
    print('%s_left=%d' % (name, left[0] * 1000 + left[1] // 1000))
high = os.dup2(s.fileno(), 2999)
low = connect()
for name, fd in ('high', high), ('low', low.fileno()):
    wait(name, fd, 1.5)
    wait(name + '_both', fd, 5)
for name, s in ('high', socket.socket(fileno=high)), ('low', low):
    s.setblocking(False)
    call(name + '_recv', s.recv, 1)
";
    let port = serve(Answer::None);
    for settings in [&[("NODELAY", "on")], RECEIVE] {
        let ended = run(script, port, settings);
        for name in ["high", "low"] {
            let number = |what| ended.number(&format!("{name}{what}"));
            assert_eq!((number(""), number("_both"), number("_recv")), (0, 1, EAGAIN), "{name}: {ended:#?}");
            assert_eq!((number("_intact"), number("_both_intact")), (1, 1), "{name}: {ended:#?}");
            assert_eq!(ended.value(&format!("{name}_set")), "True", "{name}: {ended:#?}");
            assert!(number("_left") == 0 && number("_both_left") > 3000, "{name}: {ended:#?}");
        }
    }
}

/// The kernel cannot end such a connection so that the program hears of an error: only calls that block are bounded.
#[test]
fn waits_for_multipath_tcp_are_as_ever() {
    let has_mptcp = std::fs::read_to_string("/proc/sys/net/mptcp/enabled").is_ok_and(|enabled| enabled.trim() == "1");
    if !has_mptcp {
        println!("skipped: waits_for_multipath_tcp_are_as_ever: no MPTCP here");
        return;
    }
    let script = "
def made():
    s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
    s.connect(('127.0.0.1', port))
    return s
s = made()
e = select.epoll()
e.register(s, select.EPOLLIN)
print('poll=%s' % poll(s, 1500))
print('select=%s' % (select.select([s], [], [], 1.5)[0],))
print('epoll=%s' % e.poll(1.5))
s.setblocking(False)
call('recv', s.recv, 1)
s.setblocking(True)
call('blocking', s.recv, 1)
call('send', s.send, b'x')
";
    let ended = run(script, serve(Answer::None), &[("RECV_TIMEOUT", "1"), ("SEND_TIMEOUT", "1")]);
    for wait in ["poll", "select", "epoll"] {
        assert_eq!(ended.value(wait), "[]", "{ended:#?}");
    }
    let errors = ["recv", "blocking", "send"].map(|name| ended.number(name));
    assert_eq!(errors, [EAGAIN, ETIMEDOUT, 0], "{ended:#?}");
    assert_ended(&ended, "blocking");
}

/// poll(2) of nothing is a sleep.
#[test]
fn a_wait_for_nothing_is_a_sleep() {
    let script = "
libc = ctypes.CDLL(None, use_errno=True)
def sleep(name, function):
    start = time.monotonic()
    print('%s=%d' % (name, function()))
    print('%s_took=%d' % (name, (time.monotonic() - start) * 1000))
idle = connect()
sleep('poll', lambda: libc.poll(None, 0, 1300))
sleep('select', lambda: libc.select(0, None, None, None, (ctypes.c_long * 2)(1, 300000)))
sleep('pselect', lambda: libc.pselect(0, None, None, None, (ctypes.c_long * 2)(1, 300000000), None))
sleep('ppoll', lambda: libc.ppoll(None, 0, (ctypes.c_long * 2)(1, 300000000), None))
sleep('negative', lambda: libc.poll(struct.pack('ihh', -5, 1, 0), 1, 1300))
";
    let port = serve(Answer::None);
    for library in [library(), debug_library()] {
        let program = Program::python(&format!("{PRELUDE}{script}")).args([port.to_string()]);
        let ended = program.tuned_by(library, RECEIVE).run();
        ended.succeeded();
        for wait in ["poll", "select", "pselect", "ppoll", "negative"] {
            assert_eq!(ended.number(wait), 0, "{wait}: {ended:#?}");
            assert_on_time(ended.milliseconds(&format!("{wait}_took")), Duration::from_millis(1300), SLACK);
        }
    }
}

#[test]
fn waits_at_the_same_time_count_once() {
    let script = "
twice, threads, closed = connect(), connect(), connect()
time.sleep(1)
libc = ctypes.CDLL(None, use_errno=True)
entry = lambda s: struct.pack('ihh', s.fileno(), select.POLLIN, 0)
print('twice=%d' % libc.poll(entry(twice) * 3, 3, 700))
polls = [threading.Thread(target=poll, args=(threads, 700)) for _ in range(3)]
for t in polls: t.start()
for t in polls: t.join()
for name, s in ('of_twice', twice), ('of_threads', threads):
    s.setblocking(False)
    call(name, s.recv, 1)
other = closed.dup()
call('poll', poll, closed, 60000)
closed.close()
call('other', other.recv, 1)
";
    let ended = run(script, serve(Answer::None), RECEIVE);
    assert_eq!(["twice", "of_twice", "of_threads"].map(|name| ended.number(name)), [0, EAGAIN, EAGAIN], "{ended:#?}");
    assert_ended(&ended, "poll");
    assert_eq!(ended.number("other"), ETIMEDOUT, "the number that it was ended by is closed: {ended:#?}");
}
