//! epoll sets of all kinds.

use std::time::Duration;

use super::waits::run;
use super::{Answer, LIMIT, SLACK, serve};
use crate::harness::{Ended, assert_on_time};

const ETIMEDOUT: i64 = libc::ETIMEDOUT as i64;
const RECEIVE: &[(&str, &str)] = &[("RECV_TIMEOUT", "1")];

/// `ends` waits until the set reports the socket, and reads from it.
pub const PRELUDE: &str = "
IN, OUT, ET, ONESHOT = select.EPOLLIN, select.EPOLLOUT, select.EPOLLET, select.EPOLLONESHOT
def ends(name, s, wait):
    s.setblocking(False)
    events = call(name, wait)
    print('%s_events=%s' % (name, bool(events)))
    call(name + '_recv', s.recv, 1)
def all_at_once(*functions):
    threads = [threading.Thread(target=f) for f in functions]
    for t in threads: t.start()
    for t in threads: t.join()
def epoll(*sockets, events=IN):
    e = select.epoll()
    for s in sockets: e.register(s, events)
    return e
";

/// The time begins when the set is asked, before the wait.
fn assert_ended(ended: &Ended, name: &str) {
    assert_ended_after(ended, name, Duration::ZERO);
}

/// The peer has last taken something so long after the set was asked.
pub fn assert_ended_after(ended: &Ended, name: &str, moved: Duration) {
    let took = ended.milliseconds(&format!("{name}_took")).saturating_sub(moved);
    assert!(took + Duration::from_millis(150) >= LIMIT && took <= LIMIT + SLACK, "{name}: {ended:#?}");
}

fn assert_each_ends(script: &str, names: &[&str]) {
    let ended = run(&format!("{PRELUDE}{script}"), serve(Answer::None), RECEIVE);
    for name in names {
        assert_ended(&ended, name);
        assert_eq!(ended.value(&format!("{name}_events")), "True", "{name}: {ended:#?}");
        assert_eq!(ended.number(&format!("{name}_recv")), ETIMEDOUT, "{name}: {ended:#?}");
    }
}

/// The program computes meanwhile: it does not wait. Waits that are short are added up.
#[test]
fn a_pause_between_waits_does_not_count() {
    let script = "
def paused(name, wait):
    s = connect()
    e = select.epoll()
    by = select.epoll.fromfd(os.dup(e.fileno())) if name == 'duplicated' else e
    by.register(s, IN)
    e.poll(0.01)
    time.sleep(1.5)
    ends(name, s, lambda: wait(e))
read, write = os.pipe()
def beside(e):
    poll(read, 1500)
    return e.poll(60)
def in_another_set(e):
    epoll(read).poll(1.5)
    return e.poll(60)
def in_a_child(e):
    if os.fork() == 0: os._exit(len(poll(read, 1500)))
    os.wait()
    return e.poll(60)
def duplicated(e):
    return e.poll(60)
def nested(e):
    outer = select.epoll()
    outer.register(e, IN)
    return outer.poll(60)
def in_poll(e):
    p = select.poll()
    p.register(e, select.POLLIN)
    return p.poll(60000)
def short_ones(e):
    events, end = [], time.monotonic() + 20
    while not events and time.monotonic() < end:
        time.sleep(0.1)
        events = e.poll(0.1)
    return events
";
    let alone = [
        ("epoll", "lambda e: e.poll(60)", 1000),
        ("in_poll", "in_poll", 1000),
        ("short_ones", "short_ones", 1700),
        ("nested", "nested", 1000),
    ];
    let beside =
        [("beside", "beside", 2500), ("in_another_set", "in_another_set", 2500), ("in_a_child", "in_a_child", 2500)];
    let port = serve(Answer::None);
    // By another number than it was asked by, a set may be any other.
    for ways in [&alone[..], &beside, &[("duplicated", "duplicated", 1000)]] {
        let all: Vec<_> = ways.iter().map(|(name, wait, _)| format!("lambda: paused('{name}', {wait})")).collect();
        let ended = run(&format!("{PRELUDE}{script}all_at_once({})\n", all.join(", ")), port, RECEIVE);
        for (name, _, least) in ways {
            let took = ended.milliseconds(&format!("{name}_took"));
            assert!(took + Duration::from_millis(150) >= Duration::from_millis(*least), "{name}: {ended:#?}");
            assert!(took <= LIMIT * 4 + SLACK, "{name}: {ended:#?}");
            assert_eq!(ended.number(&format!("{name}_recv")), ETIMEDOUT, "{name}: {ended:#?}");
        }
    }
}

/// Whichever thread looks, those that wait for other sets count as waiting.
#[test]
fn threads_with_a_set_each_are_told_in_time() {
    let script = "
def one(name):
    s = connect()
    ends(name, s, lambda: epoll(s).poll(30))
all_at_once(*[lambda name=name: one(name) for name in ('first', 'second', 'third')])
";
    let limit = Duration::from_secs(4);
    let ended = run(&format!("{PRELUDE}{script}"), serve(Answer::None), &[("RECV_TIMEOUT", "4")]);
    for name in ["first", "second", "third"] {
        let took = ended.milliseconds(&format!("{name}_took"));
        assert!(took + Duration::from_millis(150) >= limit && took < Duration::from_millis(7500), "{ended:#?}");
        assert_eq!(ended.number(&format!("{name}_recv")), ETIMEDOUT, "{name}: {ended:#?}");
    }
}

#[test]
fn sets_of_every_kind_report_the_end() {
    let script = "
def level():
    s = connect()
    ends('level', s, epoll(s).poll)
def edge():
    s = connect()
    e = epoll(s, events=IN | OUT | ET)
    e.poll()
    ends('edge', s, e.poll)
def oneshot():
    s = connect()
    ends('oneshot', s, epoll(s, events=IN | ONESHOT).poll)
def nested():
    s = connect()
    inner = epoll(s)
    ends('nested', s, epoll(inner).poll)
def duplicated():
    s = connect()
    e = epoll(s)
    again = select.epoll.fromfd(os.dup(e.fileno()))
    e.close()
    ends('duplicated', s, again.poll)
def in_poll():
    s = connect()
    ends('in_poll', s, lambda e=epoll(s): poll(e, 60000))
def in_select():
    s = connect()
    ends('in_select', s, lambda e=epoll(s): select.select([e], [], [], 60)[0])
def short():
    s = connect()
    def wait(e=epoll(s)):
        while not (events := e.poll(0.05)): pass
        return events
    ends('short', s, wait)
def before():
    s = socket.socket()
    e = epoll(s)
    e.poll(0)
    e.modify(s, 0)
    s.connect(('127.0.0.1', port))
    e.modify(s, IN)
    ends('before', s, e.poll)
def another():
    s, e = connect(), select.epoll()
    threading.Timer(0.2, lambda: e.register(s, IN)).start()
    time.sleep(0.2)
    ends('another', s, e.poll)
def two_sets():
    s, room = connect(), select.epoll()
    e = epoll(s)
    room.register(s, OUT | ONESHOT)
    room.poll()
    room.unregister(s)
    ends('two_sets', s, e.poll)
all_at_once(level, edge, oneshot, nested, duplicated, in_poll, in_select, short, before, another, two_sets)
";
    let names = [
        "level",
        "edge",
        "oneshot",
        "nested",
        "duplicated",
        "in_poll",
        "in_select",
        "short",
        "before",
        "another",
        "two_sets",
    ];
    assert_each_ends(script, &names);
}

#[test]
fn a_forked_child_has_the_same_set() {
    let script = "
s = connect()
e = epoll(s)
if os.fork() == 0:
    call('child', e.poll)
    s.setblocking(False)
    try: s.recv(1)
    except OSError as error: print('child_recv=%d' % error.errno, flush=True)
    os._exit(0)
call('parent', e.poll)
os.wait()
";
    let ended = run(&format!("{PRELUDE}{script}"), serve(Answer::None), RECEIVE);
    for process in ["child", "parent"] {
        assert_ended(&ended, process);
    }
}

#[test]
fn a_number_used_again_is_another_connection() {
    let script = "
e = select.epoll()
def again(close):
    old = connect()
    number = old.fileno()
    e.register(old, IN)
    e.poll(0.8)
    close(old)
    new = connect()
    assert new.fileno() == number
    return new
new = again(lambda s: s.close())
print('not_registered=%s' % e.poll(1.3))
call('alive', new.send, b'x')
new.close()
new = again(lambda s: s.close())
e.register(new, IN)
print('registered_early=%s' % e.poll(0.6))
ends('registered', new, e.poll)
new.close()
other = socket.socketpair()
old = connect()
e.register(old, IN)
os.dup2(other[0].fileno(), old.fileno())
print('replaced=%s' % e.poll(1.3))
other[1].send(b'x')
print('other=%s' % os.read(old.fileno(), 1))
";
    let ended = run(&format!("{PRELUDE}{script}"), serve(Answer::None), RECEIVE);
    for name in ["not_registered", "registered_early", "replaced"] {
        assert_eq!(ended.value(name), "[]", "{name}: {ended:#?}");
    }
    assert_eq!((ended.number("alive"), ended.value("other")), (0, "b'x'"), "{ended:#?}");
    assert_on_time(ended.milliseconds("registered_took"), Duration::from_millis(400), SLACK);
    assert_eq!(ended.number("registered_recv"), ETIMEDOUT, "{ended:#?}");
}

#[test]
fn a_set_knows_a_socket_by_its_first_number() {
    let script = "
s = connect()
e = epoll(s)
other = s.dup()
s.close()
ends('other', other, e.poll)
";
    assert_each_ends(script, &["other"]);
}

#[test]
fn what_a_set_does_not_ask_for_goes_on() {
    let script = "
names = 'only_out', 'fired', 'removed', 'forgotten', 'hangup', 'closed', 'replaced', 'told', 'told_at_once'
only_out, fired, removed, forgotten, hangup, closed, replaced, told, told_at_once = sockets = [connect() for _ in names]
epoll(closed).close()
replaced_set = epoll(replaced)
os.dup2(0, replaced_set.fileno())
once, at_once = epoll(told, events=IN | ONESHOT), select.epoll()
told.send(b'x')
assert once.poll(5)
told.recv(9)
told_at_once.send(b'x')
told_at_once.recv(1, socket.MSG_PEEK)
at_once.register(told_at_once, IN | ONESHOT)
assert at_once.poll(5)
told_at_once.recv(9)
if os.fork() == 0:
    closed_in_child = connect()
    epoll(closed_in_child).close()
    time.sleep(0.1)
    poll(select.epoll(), 1600)
    call('closed_in_child', closed_in_child.send, b'x')
    os._exit(0)
e = epoll(only_out, events=OUT | ET)
e.register(fired, IN | OUT | ONESHOT)
e.register(removed, IN)
e.modify(removed, 0)
e.register(forgotten, IN)
e.unregister(forgotten)
e.register(hangup, select.EPOLLRDHUP)
end = time.monotonic() + 1.6
while time.monotonic() < end: e.poll(0.2)
for name, s in zip(names, sockets):
    call(name, s.send, b'x')
os.wait()
";
    let ended = run(&format!("{PRELUDE}{script}"), serve(Answer::Bytes(b"y")), RECEIVE);
    let still_there = [
        "only_out",
        "fired",
        "removed",
        "forgotten",
        "hangup",
        "closed",
        "replaced",
        "told",
        "told_at_once",
        "closed_in_child",
    ];
    for name in still_there {
        assert_eq!(ended.number(name), 0, "{name}: {ended:#?}");
    }
}

#[test]
fn idle_clients_of_a_server_stay_unless_a_setting_says_otherwise() {
    let script = "
listener = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(listener.getsockname())
accepted = listener.accept()[0]
accepted.setblocking(False)
e = epoll(listener, accepted)
events = call('wait', e.poll, 1.5)
print('events=%d' % len(events))
call('recv', accepted.recv, 1)
";
    let run = |settings| run(&format!("{PRELUDE}{script}"), 0, settings);
    let untouched = run(RECEIVE);
    assert_eq!(untouched.number("events"), 0, "{untouched:#?}");
    assert_eq!(untouched.number("recv"), i64::from(libc::EAGAIN), "{untouched:#?}");
    let ended = run(&[("CLIENT_TIMEOUT", "0.5")]);
    assert_eq!((ended.number("events"), ended.number("recv")), (1, ETIMEDOUT), "{ended:#?}");
    assert_on_time(ended.milliseconds("wait_took"), Duration::from_millis(500), SLACK);
}

/// A thread closes connections when they are due, and makes new ones with the same numbers, which nobody may end.
#[test]
fn a_close_by_another_thread_at_the_deadline_ends_nothing_else() {
    let script = "
e = select.epoll()
wrong, rounds, begun = [], [0], time.monotonic()
def close_and_connect():
    while time.monotonic() - begun < (4 if rounds[0] > 5 else 15):
        olds = [connect() for _ in range(20)]
        for s in olds: e.register(s, IN)
        time.sleep(0.1 + rounds[0] % 7 * 0.002 - 0.006)
        news = []
        for s in olds:
            s.close()
            news.append(connect())
        for s in news:
            try: s.send(b'x')
            except OSError as error: wrong.append(error.errno)
        time.sleep(0.02)
        for s in news:
            error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
            if error: wrong.append(error)
            s.close()
        rounds[0] += 1
thread = threading.Thread(target=close_and_connect)
thread.start()
while thread.is_alive(): e.poll(0.05)
print('wrong=%s' % wrong)
print('rounds=%d' % rounds[0])
";
    let ended = run(&format!("{PRELUDE}{script}"), serve(Answer::None), &[("RECV_TIMEOUT", "0.1"), ("LOG", "debug")]);
    assert_eq!(ended.value("wrong"), "[]", "{ended:#?}");
    assert!(ended.number("rounds") > 5, "{ended:#?}");
    let ends = ended.log.matches("the connection is ended").count();
    assert!(ends > 20, "some were closed before their deadline and some after: {ends}");
}
