//! epoll sets that ask for room: `SEND_TIMEOUT`.

use std::time::Duration;

use super::sets::{PRELUDE, assert_ended_after};
use super::waits::run;
use super::{Answer, serve};
use crate::harness::{Ended, FILL};

const ETIMEDOUT: i64 = libc::ETIMEDOUT as i64;
const EAGAIN: i64 = libc::EAGAIN as i64;
const SEND: &[(&str, &str)] = &[("SEND_TIMEOUT", "1")];

/// The script of sockets that do not block, and that `fill` leaves without room.
fn filling(script: &str) -> String {
    let nonblocking = "
def fill(s, fill=fill):
    s.setblocking(False)
    fill(s)
def until_ended(name, s, wait):
    events = call(name, wait)
    print('%s_events=%s' % (name, bool(events)))
    call(name + '_send', s.send, b'x')
def level():
    s = connect()
    fill(s)
    until_ended('level', s, epoll(s, events=OUT).poll)
";
    format!("{PRELUDE}{FILL}{nonblocking}{script}")
}

/// The set reported the end, and the next send its reason.
fn assert_told(ended: &Ended, name: &str, moved: Duration) {
    assert_ended_after(ended, name, moved);
    assert_eq!(ended.value(&format!("{name}_events")), "True", "{name}: {ended:#?}");
    assert_eq!(ended.number(&format!("{name}_send")), ETIMEDOUT, "{name}: {ended:#?}");
}

#[test]
fn a_set_that_asks_for_room_reports_the_end() {
    let script = "
def both():
    s = connect()
    e = epoll(s)
    fill(s)
    e.modify(s, IN | OUT)
    until_ended('both', s, e.poll)
def edge():
    s = connect()
    e = epoll(s, events=IN | OUT | ET)
    e.poll()
    fill(s)
    until_ended('edge', s, e.poll)
def oneshot():
    s = connect()
    fill(s)
    until_ended('oneshot', s, epoll(s, events=OUT | ONESHOT).poll)
def in_poll():
    s = connect()
    fill(s)
    until_ended('in_poll', s, lambda e=epoll(s, events=OUT): poll(e, 60000))
def before():
    s = socket.socket()
    s.setblocking(False)
    e = epoll(s, events=OUT | ET)
    e.poll(0)
    s.connect_ex(('127.0.0.1', port))
    e.poll()
    fill(s)
    until_ended('before', s, e.poll)
def closed_number():
    s = connect()
    fill(s)
    e = epoll(s, events=OUT)
    other = s.dup()
    s.close()
    until_ended('closed_number', other, e.poll)
all_at_once(level, both, edge, oneshot, in_poll, before, closed_number)
";
    let ended = run(&filling(script), serve(Answer::Late(60_000)), SEND);
    for name in ["level", "both", "edge", "oneshot", "in_poll", "before", "closed_number"] {
        assert_told(&ended, name, Duration::ZERO);
    }
}

/// What is reported once has not been, where the peer took less than what makes room, or the program did not wait.
#[test]
fn a_set_that_reports_room_once_is_bounded_until_it_does() {
    let script = "
def pair():
    server = socket.socket()
    server.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 1 << 14) # less than what makes room
    server.bind(('127.0.0.1', 0))
    server.listen()
    s = socket.create_connection(server.getsockname())
    fill(s)
    return s, server.accept()[0]
def later():
    s = connect()
    fill(s)
    e = epoll(s, events=OUT | ONESHOT)
    time.sleep(0.5) # another thread looks at it meanwhile
    until_ended('later', s, e.poll)
def moves():
    s, peer = pair()
    e = epoll(s, events=OUT | ONESHOT)
    taker = threading.Timer(0.5, lambda: peer.recv(1 << 14))
    taker.start()
    until_ended('moves', s, e.poll)
    taker.join()
def either():
    s = connect()
    fill(s)
    until_ended('either', s, epoll(s, events=IN | OUT | ONESHOT).poll)
def come():
    s, peer = pair()
    e = epoll(s, events=IN | OUT | ONESHOT)
    peer.send(b'x')
    print('come_events=%r' % [event for _, event in e.poll(5)])
    s.recv(1)
    e.poll(2) # it was told, and asks no more
    call('come', s.send, b'x')
all_at_once(level, later, moves, either, come)
";
    let ended = run(&filling(script), serve(Answer::Late(60_000)), SEND);
    for (name, moved) in [("later", 0), ("moves", 500), ("either", 0)] {
        assert_told(&ended, name, Duration::from_millis(moved));
    }
    assert_eq!((ended.value("come_events"), ended.number("come")), ("[1]", EAGAIN), "{ended:#?}");
}

#[test]
fn a_set_that_has_room_or_does_not_ask_for_it_goes_on() {
    let script = "
idle, some, only_in, none, fired, removed, rearmed = [connect() for _ in range(7)]
some.send(bytes(1 << 14))
for s in only_in, none, removed: fill(s)
e = epoll(idle, some, events=IN | OUT | ET)
e.register(only_in, IN)
e.register(none, OUT)
e.modify(none, 0)
e.register(fired, IN | OUT | ONESHOT)
e.register(removed, OUT)
e.unregister(removed)
e.register(rearmed, OUT | ONESHOT)
e.poll()
fill(fired), fill(rearmed)
end = time.monotonic() + 2
while time.monotonic() < end: e.poll(0.2)
for name, s in ('idle', idle), ('some', some): call(name, s.send, b'x')
for name, s in ('only_in', only_in), ('none', none), ('fired', fired), ('removed', removed), ('rearmed', rearmed):
    call(name, s.send, b'x')
e.modify(rearmed, OUT | ONESHOT)
call('again', e.poll)
call('again_send', rearmed.send, b'x')
";
    let ended = run(&filling(script), serve(Answer::Late(60_000)), SEND);
    for name in ["idle", "some"] {
        assert_eq!(ended.number(name), 0, "{name}: {ended:#?}");
    }
    for name in ["only_in", "none", "fired", "removed", "rearmed"] {
        assert_eq!(ended.number(name), EAGAIN, "{name}: {ended:#?}");
    }
    assert_eq!(ended.number("again_send"), ETIMEDOUT, "{ended:#?}");
}

#[test]
fn a_peer_that_takes_something_now_and_then_is_kept() {
    let script = "
s = connect()
s.setblocking(False)
e = epoll(s, events=OUT | ET)
sent, end = 0, time.monotonic() + 3
while time.monotonic() < end:
    e.poll(60)
    try:
        while True: sent += s.send(bytes(1 << 16))
    except BlockingIOError: pass
print('sent=%d' % sent)
call('alive', s.getpeername)
";
    let ended = run(&filling(script), serve(Answer::Takes(512)), SEND);
    assert!(ended.number("sent") > 0, "{ended:#?}");
    assert_eq!(ended.number("alive"), 0, "{ended:#?}");
}
