//! `MPTCP`: Multipath TCP in place of TCP, where kernel and peer can.

use std::io::{Read, Write};
use std::net::TcpListener;
use std::time::Duration;

use crate::differential::ALL;
use crate::harness::hole::BlackHole;
use crate::harness::namespace::Namespace;
use crate::harness::{Ended, LATE, Program, assert_on_time, probe, python};

const MPTCP: i64 = libc::IPPROTO_MPTCP as i64;
const TCP: i64 = libc::IPPROTO_TCP as i64;
const ON: &[(&str, &str)] = &[("MPTCP", "on")];

const PRELUDE: &str = "
import ctypes, socket, sys, time
def protocol(s): return s.getsockopt(socket.SOL_SOCKET, socket.SO_PROTOCOL)
def listen(family=socket.AF_INET):
    s = socket.socket(family); s.bind(('127.0.0.1' if family == socket.AF_INET else '::1', 0)); s.listen()
    return s
";

fn script(text: &str) -> Program {
    Program::python(&format!("{PRELUDE}{text}"))
}

/// Whether this kernel makes MPTCP sockets.
fn has_mptcp(test: &str) -> bool {
    // SAFETY: touches no memory; the descriptor is new.
    let fd = unsafe { libc::socket(libc::AF_INET, libc::SOCK_STREAM, libc::IPPROTO_MPTCP) };
    if fd == -1 {
        println!("skipped: {test}: no MPTCP here: {}", std::io::Error::last_os_error());
        return false;
    }
    // SAFETY: as above.
    unsafe { libc::close(fd) };
    true
}

/// How often an event has happened in a namespace (`/proc/net/netstat`).
fn happened(namespace: &Namespace, group: &str, name: &str) -> u64 {
    let text = namespace.run("cat", &["/proc/self/net/netstat"]);
    let mut rows = text.lines().filter(|line| line.starts_with(&format!("{group}:"))).map(str::split_whitespace);
    let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
    let found = names.zip(values).find(|(n, _)| *n == name);
    found.unwrap_or_else(|| panic!("{group} {name}: {text}")).1.parse().expect("a number")
}

#[test]
fn sockets_are_mptcp_and_talk_to_a_tcp_server() {
    if !has_mptcp("sockets_are_mptcp_and_talk_to_a_tcp_server") {
        return;
    }
    for (ip, family) in [("127.0.0.1", "AF_INET"), ("::1", "AF_INET6")] {
        let server = TcpListener::bind((ip, 0)).expect("a server");
        let port = server.local_addr().expect("its address").port().to_string();
        let echo = std::thread::spawn(move || {
            for _ in 0..2 {
                let (mut connection, _) = server.accept().expect("a connection");
                let mut bytes = [0; 5];
                connection.read_exact(&mut bytes).expect("five bytes");
                connection.write_all(&bytes).expect("sent back");
            }
        });
        let text = format!(
            "
s = socket.socket(socket.{family})
print('protocol=%d' % protocol(s))
print('explicit=%d' % protocol(socket.socket(socket.{family}, socket.SOCK_STREAM, socket.IPPROTO_TCP)))
print('datagram=%d' % protocol(socket.socket(socket.{family}, socket.SOCK_DGRAM)))
s.connect((sys.argv[1], int(sys.argv[2])))
s.sendall(b'hello')
print('echo=%s' % s.recv(5, socket.MSG_WAITALL).decode())
"
        );
        for (settings, wanted) in [(None, TCP), (Some(ON), MPTCP)] {
            let ended = script(&text).args([ip, &port]).with(settings).run();
            ended.succeeded();
            assert_eq!((ended.number("protocol"), ended.number("explicit")), (wanted, wanted), "{ended:#?}");
            assert_eq!(ended.number("datagram"), libc::IPPROTO_UDP.into());
            assert_eq!(ended.value("echo"), "hello");
            assert_eq!(ended.log.matches("warn").count(), 0, "{ended:#?}");
        }
        echo.join().expect("both were served");
    }
}

#[test]
fn two_programs_speak_mptcp_with_each_other() {
    let this = "two_programs_speak_mptcp_with_each_other";
    let Some(namespace) = Namespace::or_skip(this).filter(|_| has_mptcp(this)) else { return };
    let text = "
listener = listen()
client = socket.socket(); client.connect(listener.getsockname())
accepted = listener.accept()[0]
client.sendall(b'hello'), accepted.sendall(b'hello')
print('got=%s' % (accepted.recv(5) + client.recv(5)).decode())
print('accepted=%d' % protocol(accepted))
plain = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[1])); plain.connect(listener.getsockname())
from_tcp = listener.accept()[0]
for name, s in ('client', client), ('accepted', accepted), ('from_tcp', from_tcp):
    print('%s_idle=%d' % (name, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)))
    print('%s_nodelay=%d' % (name, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY)))
";
    let settings = [("MPTCP", "on"), ("KEEPIDLE", "600"), ("NODELAY", "on")];
    for (settings, protocol) in [(None, TCP), (Some(&settings[..]), MPTCP)] {
        let before = happened(&namespace, "MPTcpExt", "MPCapableSYNACKRX");
        let ended = script(text).args(["0"]).inside(&namespace).with(settings).run();
        ended.succeeded();
        assert_eq!((ended.value("got"), ended.number("accepted")), ("hellohello", protocol), "{ended:#?}");
        let spoken = happened(&namespace, "MPTcpExt", "MPCapableSYNACKRX") - before;
        assert_eq!(spoken, if settings.is_some() { 2 } else { 0 }, "by the options on the wire");
        for name in ["client", "accepted", "from_tcp"] {
            let found = (ended.number(&format!("{name}_idle")), ended.number(&format!("{name}_nodelay")));
            assert_eq!(found == (600, 1), settings.is_some(), "{name}: {ended:#?}");
        }
    }
}

/// errno after a `socket` that succeeds, called as by a C program; then what the socket is.
const ERRNO: &str = "
libc = ctypes.CDLL(None, use_errno=True)
ctypes.set_errno(4711)
fd = libc.socket(socket.AF_INET, socket.SOCK_STREAM, 0)
print('errno=%d' % ctypes.get_errno())
print('protocol=%d' % protocol(socket.socket(fileno=fd)))
print('idle=%d' % socket.socket().getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
listener = listen()
s = socket.socket(); s.connect(listener.getsockname())
listener.accept()[0].sendall(b'x')
print('got=%d' % len(s.recv(1)))
";

fn assert_is_tcp(ended: &Ended) {
    ended.succeeded();
    assert_eq!((ended.number("errno"), ended.number("protocol")), (4711, TCP), "{ended:#?}");
    assert_eq!((ended.number("idle"), ended.number("got")), (33, 1), "{ended:#?}");
    assert!(!ended.log.contains("warn"), "{ended:#?}");
}

#[test]
fn where_the_kernel_has_none_it_is_tcp_and_errno_untouched() {
    let settings = [("MPTCP", "on"), ("KEEPIDLE", "33")];
    for error in [libc::EPROTONOSUPPORT, libc::EPERM, libc::EINVAL] {
        let program = Program::new(probe("without"))
            .args(["socket", &libc::IPPROTO_MPTCP.to_string(), &error.to_string()])
            .args([python()])
            .args(["-I", "-c", &format!("{PRELUDE}{ERRNO}")]);
        let ended = program.tuned(&settings).run();
        if ended.stdout.contains("no_filter") {
            println!("skipped: where_the_kernel_has_none_it_is_tcp_and_errno_untouched: no seccomp filter");
            return;
        }
        assert_is_tcp(&ended);
    }
    let Some(namespace) = Namespace::or_skip("where_the_kernel_has_none_it_is_tcp_and_errno_untouched") else { return };
    if has_mptcp("net.mptcp.enabled=0") {
        namespace.run("sh", &["-c", "echo 0 > /proc/sys/net/mptcp/enabled"]);
        assert_is_tcp(&script(ERRNO).inside(&namespace).tuned(&settings).run());
        namespace.run("sh", &["-c", "echo 1 > /proc/sys/net/mptcp/enabled"]);
        assert_eq!(script(ERRNO).inside(&namespace).tuned(&settings).run().number("protocol"), MPTCP);
    }
}

#[test]
fn what_mptcp_refuses_is_quiet_and_the_rest_holds() {
    if !has_mptcp("what_mptcp_refuses_is_quiet_and_the_rest_holds") {
        return;
    }
    let more = [("MPTCP", "on"), ("DEFER_ACCEPT", "3"), ("FASTOPEN", "5"), ("SEND_TIMEOUT", "9"), ("V6ONLY", "on")];
    let more = [&more[..], &[("FREEBIND", "on"), ("TRANSPARENT", "on"), ("BIND_ADDRESS_NO_PORT", "on")]].concat();
    let text = "
for family in socket.AF_INET, socket.AF_INET6:
    listener = listen(family)
    client = socket.socket(family); client.connect(listener.getsockname())
    accepted = listener.accept()[0]
    client.sendall(b'x'), accepted.recv(1)
    for name, s in ('listener', listener), ('client', client), ('accepted', accepted):
        print('%s_%d=%d' % (name, family, s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE)))
    print('protocol=%d' % protocol(client))
";
    let ended = script(text).tuned(&[ALL, &more, &[("STATS", "on"), ("LOG", "debug")]].concat()).run();
    ended.succeeded();
    assert_eq!(ended.number("protocol"), MPTCP);
    for family in [libc::AF_INET, libc::AF_INET6] {
        for name in ["listener", "client", "accepted"] {
            assert_eq!(ended.number(&format!("{name}_{family}")), 1, "{name}: {ended:#?}");
        }
    }
    assert!(!ended.log.contains(": warn: ") && ended.log.contains(" 0 options refused"), "{}", ended.log);
    assert!(ended.log.contains("MPTCP does not take TCPTUNE_SYNCNT"), "it does refuse something: {}", ended.log);
}

#[test]
fn a_blocking_connect_ends_in_time() {
    if !has_mptcp("a_blocking_connect_ends_in_time") {
        return;
    }
    for hole in [BlackHole::v4(), BlackHole::v6()] {
        let live = TcpListener::bind((hole.ip(), 0)).expect("a live server");
        let port = live.local_addr().expect("its address").port().to_string();
        let connect =
            |settings| Program::probe("connect").args([hole.ip(), hole.port(), port.clone()]).tuned(settings).run();
        let ended = connect(&[
            ("MPTCP", "on"),
            ("CONNECT_TIMEOUT", "0.7"),
            ("SEND_TIMEOUT", "0.2"),
            ("SYNCNT", "5"),
            ("LOG", "debug"),
        ]);
        assert!(ended.log.contains("MPTCP does not take TCPTUNE_SYNCNT"), "it is MPTCP: {ended:#?}");
        assert_on_time(ended.milliseconds("took"), Duration::from_millis(700), LATE);
        assert_eq!((ended.number("result"), ended.number("errno")), (-1, libc::ETIMEDOUT.into()), "{ended:#?}");
        assert_eq!(ended.number("flags_before"), ended.number("flags_after"));
        assert_eq!(ended.number("so_error"), 0);
        assert_eq!(ended.number("again"), 0, "the same descriptor connects to a live server: {ended:#?}");
        assert_eq!(ended.number("flags_before"), ended.number("flags_again"));
        assert_eq!(hole.attempts(), 0);
    }
}
