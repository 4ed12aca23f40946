//! TCP Fast Open: sendto(2) and sendmsg(2) with `MSG_FASTOPEN` connect.

use std::time::Duration;

use crate::harness::hole::BlackHole;
use crate::harness::namespace::Namespace;
use crate::harness::{LATE, Program, assert_on_time};

const CALLS: [&str; 2] = ["s.sendto(data, flags, address)", "s.sendmsg([data[:2], data[2:]], [], flags, address)"];

/// How long a program is watched that does not end without the library.
const WITHOUT: Duration = Duration::from_secs(4);

/// A program that sends `data` by `call` to `address`, of a socket `s`.
fn program(call: &str, address: (&str, &str), before: &str, after: &str) -> Program {
    Program::python(&format!(
        "
import select, socket, time
data, address, flags = b'x' * 5, ('{}', {}), socket.MSG_FASTOPEN
s = socket.socket()
{before}
start = time.monotonic()
try: print('sent=%d' % {call})
except OSError as e: print('errno=%d' % e.errno)
print('took=%d' % ((time.monotonic() - start) * 1000), flush=True)
{after}
",
        address.0, address.1
    ))
}

#[test]
fn a_blocking_one_ends_in_time() {
    let hole = BlackHole::v4();
    for call in CALLS {
        let after = "
s.connect_ex(('127.0.0.1', 1))
print('flags=%d error=%d' % (s.getblocking(), s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)))";
        let program = || program(call, (&hole.ip(), &hole.port()), "", after);
        assert!(program().limit(WITHOUT).run().killed, "{call}: without tcptune it goes on");
        let tuned = program().tuned(&[("CONNECT_TIMEOUT", "0.5")]).run();
        tuned.succeeded();
        assert_eq!(tuned.number("errno"), libc::ETIMEDOUT.into(), "{call}: {tuned:#?}");
        assert_on_time(tuned.milliseconds("took"), Duration::from_millis(500), LATE);
        assert!(tuned.stdout.contains("flags=1 error=0"), "{call}: the socket is as it was: {tuned:#?}");
    }
}

#[test]
fn a_nonblocking_one_ends_in_time() {
    let hole = BlackHole::v4();
    let after = "
poll = select.poll()
poll.register(s, select.POLLOUT)
print('events=%d' % len(poll.poll(4000)))
print('error=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR))
print('polled=%d' % ((time.monotonic() - start) * 1000))";
    for call in CALLS {
        for before in ["s.setblocking(False)", "flags |= socket.MSG_DONTWAIT"] {
            let program = || program(call, (&hole.ip(), &hole.port()), before, after);
            let plain = program().run();
            plain.succeeded();
            assert_eq!(
                (plain.number("errno"), plain.number("events")),
                (libc::EINPROGRESS.into(), 0),
                "{call}: {plain:#?}"
            );
            let tuned = program().tuned(&[("CONNECT_TIMEOUT", "1")]).run();
            tuned.succeeded();
            assert_eq!(tuned.number("errno"), libc::EINPROGRESS.into(), "{call}, {before}: {tuned:#?}");
            assert!(tuned.milliseconds("took") < LATE, "{call}, {before}: {tuned:#?}");
            assert_eq!(tuned.number("error"), libc::ETIMEDOUT.into(), "{call}, {before}: {tuned:#?}");
            assert_on_time(tuned.milliseconds("polled"), Duration::from_secs(1), LATE);
        }
    }
}

/// Without a cookie, and with one: data goes with the SYN then.
#[test]
fn data_arrives_and_its_rule_holds() {
    let Some(namespace) = Namespace::or_skip("data_arrives_and_its_rule_holds") else { return };
    let before = "
open('/proc/sys/net/ipv4/tcp_fastopen', 'w').write('3')
server = socket.socket()
server.setsockopt(socket.IPPROTO_TCP, socket.TCP_FASTOPEN, 5)
server.bind(('127.0.0.1', 0))
server.listen()
address = server.getsockname()";
    let after = "
def received():
    accepted, _ = server.accept()
    s.close()
    got = b''
    while more := accepted.recv(100): got += more
    return got
print('keepidle=%d' % s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
print('from=%s' % s.getsockname()[0])
assert received() == data
for i in range(3):
    s = socket.socket()
    assert CALL == len(data)
    info = s.getsockopt(socket.IPPROTO_TCP, 11, 240)
    assert received() == data
print('with_syn=%d' % (info[5] >> 5 & 1))";
    for call in CALLS {
        let after = after.replace("CALL", call);
        let program = || program(call, ("", "0"), before, &after).inside(&namespace);
        let settings = &[("RULES", "dst=127.0.0.0/8 : keepidle=33 connect_timeout=2s source=127.0.0.9")];
        for settings in [None, Some(settings as &[_])] {
            let ended = program().with(settings).run();
            ended.succeeded();
            assert_eq!((ended.number("sent"), ended.number("with_syn")), (5, 1), "{call}: {ended:#?}");
            let (keepidle, from) = if settings.is_some() { (33, "127.0.0.9") } else { (7200, "127.0.0.1") };
            assert_eq!((ended.number("keepidle"), ended.value("from")), (keepidle, from), "{call}: {ended:#?}");
        }
    }
}
