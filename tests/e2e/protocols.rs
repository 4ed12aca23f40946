//! What settings do to connections: on the wire, to peers, to listeners, and to a kernel that lacks an option.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::namespace::Namespace;
use crate::harness::{Ended, Program, probe, python};

type Settings<'a> = &'a [(&'a str, &'a str)];

fn run(script: &str, settings: Option<Settings>) -> Ended {
    let ended = Program::python(script).with(settings).run();
    ended.succeeded();
    ended
}

fn warnings(ended: &Ended) -> Vec<&str> {
    ended.log.lines().filter_map(|line| line.split_once(": warn: ")).map(|(_, text)| text).collect()
}

#[test]
fn linger_says_what_close_does() {
    // The program's own value is the other one.
    let script = |own: &str| {
        format!(
            "
import socket, struct
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
client = socket.create_connection(listener.getsockname())
accepted = listener.accept()[0]
client.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack('ii', {own}, 0))
client.close()
try: print('peer=%d' % len(accepted.recv(1)))
except OSError as e: print('peer=%d' % e.errno)
other = socket.create_connection(listener.getsockname())
listener.accept()[0].close()
try: print('accepted=%d' % len(other.recv(1)))
except OSError as e: print('accepted=%d' % e.errno)
"
        )
    };
    let reset = i64::from(libc::ECONNRESET);
    let seen = |own, settings| {
        let ended = run(&script(own), settings);
        (ended.number("peer"), ended.number("accepted"))
    };
    assert_eq!(seen("0", None), (0, 0));
    assert_eq!(seen("0", Some(&[("LINGER", "0")])), (reset, reset));
    assert_eq!(seen("1", None), (reset, 0));
    assert_eq!(seen("1", Some(&[("LINGER", "off")])), (0, 0));
    assert_eq!(seen("0", Some(&[("LINGER", "5s")])), (0, 0));
}

#[test]
fn defer_accept_waits_for_data() {
    let script = "
import socket, threading, time
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
client = socket.create_connection(listener.getsockname())
threading.Timer(0.7, client.send, (b'x',)).start()
start = time.monotonic()
accepted = listener.accept()[0]
print('took=%d' % ((time.monotonic() - start) * 1000))
accepted.setblocking(False)
try: print('data=%d' % len(accepted.recv(1)))
except BlockingIOError: print('data=0')
";
    let plain = run(script, None);
    assert!(plain.number("data") == 0, "{plain:#?}");
    let tuned = run(script, Some(&[("DEFER_ACCEPT", "10")]));
    assert!(tuned.milliseconds("took") > Duration::from_millis(500) && tuned.number("data") == 1, "{tuned:#?}");
}

#[test]
fn fast_open_sends_data_with_the_syn() {
    let Some(namespace) = Namespace::or_skip("fast_open_sends_data_with_the_syn") else { return };
    let sysctl = namespace.run("sh", &["-c", "cd /proc/sys/net/ipv4 && echo 3 > tcp_fastopen && cat tcp_fastopen"]);
    assert_eq!(sysctl.trim(), "3");
    let opened = |name: &str| {
        let text = namespace.run("cat", &["/proc/self/net/netstat"]);
        let mut rows = text.lines().filter(|l| l.starts_with("TcpExt:")).map(str::split_whitespace);
        let (names, values) = (rows.next().expect("names"), rows.next().expect("values"));
        let (_, value) = names.zip(values).find(|(n, _)| *n == name).expect(name);
        value.parse::<u32>().expect("a number")
    };
    // The first connection fetches a cookie, the second has data in its SYN.
    let script = "
import socket
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
for _ in range(2):
    client = socket.create_connection(listener.getsockname())
    client.sendall(b'hello')
    assert listener.accept()[0].recv(5) == b'hello'
";
    let (both, client, server) = ([("FASTOPEN", "5"), ("FASTOPEN_CONNECT", "on")], 1, 0);
    for (settings, more) in
        [(None, 0), (Some(&both[client..]), 0), (Some(&both[server..=server]), 0), (Some(&both[..]), 1)]
    {
        let before = (opened("TCPFastOpenActive"), opened("TCPFastOpenPassive"));
        Program::python(script).inside(&namespace).with(settings).run().succeeded();
        let after = (opened("TCPFastOpenActive"), opened("TCPFastOpenPassive"));
        assert_eq!(after, (before.0 + more, before.1 + more), "{settings:?}");
    }
}

#[test]
fn the_backlog_is_that_of_the_setting() {
    let script = "
import ctypes, socket, subprocess, sys
listener = socket.socket(); listener.bind(('127.0.0.1', 0))
ctypes.CDLL(None).listen(listener.fileno(), int(sys.argv[1])) # python's own takes no negative number
port = listener.getsockname()[1]
print('queue=' + subprocess.run(['ss', '-ltnH', f'sport = :{port}'], capture_output=True, text=True).stdout.split()[2])
";
    let limit = std::fs::read_to_string("/proc/sys/net/core/somaxconn").expect("a sysctl");
    let limit: i64 = limit.trim().parse().expect("a number");
    let queue_under = |own: i64, precedence: &'static str, setting: Option<&str>| {
        let settings = setting.map(|value| [("BACKLOG", value), ("PRECEDENCE", precedence)]);
        let settings: Option<Settings> = settings.as_ref().map(|s| &s[..]);
        let ended = Program::python(script).args([own.to_string()]).with(settings).run();
        ended.succeeded();
        ended.number("queue")
    };
    let queue = |own, setting| queue_under(own, "env", setting);
    assert_eq!((queue(5, None), queue(-1, None)), (5, limit));
    assert_eq!(queue_under(5, "program", Some("77")), 5, "the program's own call is left as it is");
    for (own, setting, wanted) in [
        (5, "77", 77),
        (100, "77", 77),
        (5, "0", 0),
        (5, "min:64", 64),
        (65, "min:64", 65),
        (-1, "min:64", limit), // the kernel takes it for its own limit
        (5, "min:2147483647", limit),
    ] {
        assert_eq!(queue(own, Some(setting)), wanted, "listen({own}) with {setting}");
    }
}

#[test]
fn an_ipv6_listener_takes_ipv4_or_leaves_it() {
    let script = "
import socket, sys
def attempt(name, f):
    try: f(); print(name + '=0')
    except OSError as e: print('%s=%d' % (name, e.errno))
six = socket.socket(socket.AF_INET6)
six.setsockopt(socket.IPPROTO_IPV6, socket.IPV6_V6ONLY, int(sys.argv[1]))
six.bind(('::', 0)); six.listen()
port = six.getsockname()[1]
attempt('connect', lambda: socket.create_connection(('127.0.0.1', port)))
attempt('bind', lambda: socket.socket().bind(('0.0.0.0', port)))
";
    let taken = |own, settings| {
        let ended = Program::python(script).args([own]).with(settings).run();
        ended.succeeded();
        (ended.number("connect"), ended.number("bind"))
    };
    let both = (0, libc::EADDRINUSE.into());
    let only = (libc::ECONNREFUSED.into(), 0);
    assert_eq!((taken("0", None), taken("1", None)), (both, only));
    assert_eq!(taken("0", Some(&[("V6ONLY", "on")])), only);
    assert_eq!(taken("1", Some(&[("V6ONLY", "off")])), both);
    assert_eq!(taken("1", Some(&[("V6ONLY", "off"), ("PRECEDENCE", "program")])), only);
}

const BIND: &str = "
import socket
s = socket.socket()
try: s.bind(('192.0.2.77', 0)); print('bind=0')
except OSError as e: print('bind=%d' % e.errno)
s = socket.socket()
s.bind(('127.0.0.1', 0))
print('port=%d' % s.getsockname()[1])
listener = socket.socket(); listener.bind(('127.0.0.1', 0)); listener.listen()
s.connect(listener.getsockname())
print('connected=%d' % s.getsockname()[1])
";

#[test]
fn bind_takes_addresses_that_are_not_there_yet() {
    assert_eq!(run(BIND, None).number("bind"), libc::EADDRNOTAVAIL.into());
    for name in ["FREEBIND", "TRANSPARENT"] {
        assert_eq!(run(BIND, Some(&[(name, "on")])).number("bind"), 0, "{name}");
    }
    let without_capability = ["--bounding-set=-net_admin,-net_raw"].map(Into::into).into_iter();
    let arguments = without_capability.chain([python().to_owned(), "-I".into(), "-c".into(), BIND.into()]);
    let ended = Program::new("setpriv").args(arguments).tuned(&[("TRANSPARENT", "on")]).run();
    ended.succeeded();
    assert_eq!(ended.number("bind"), libc::EADDRNOTAVAIL.into(), "it needs CAP_NET_ADMIN");
    let [warning] = warnings(&ended)[..] else { panic!("one warning: {ended:#?}") };
    assert!(warning.starts_with("TCPTUNE_TRANSPARENT=on: the kernel refused it with EPERM"), "{warning}");
}

#[test]
fn bind_takes_no_port_before_connect() {
    let plain = run(BIND, None);
    assert_ne!(plain.number("port"), 0);
    let tuned = run(BIND, Some(&[("BIND_ADDRESS_NO_PORT", "on")]));
    assert_eq!(tuned.number("port"), 0);
    assert_ne!(tuned.number("connected"), 0);
}

#[test]
fn an_unknown_congestion_control_is_one_warning_that_lists_the_others() {
    let script = "
import socket
before = [socket.socket() for _ in range(3)]
print('name=' + before[0].getsockopt(socket.IPPROTO_TCP, socket.TCP_CONGESTION, 16).rstrip(b'\\0').decode())
";
    let offered = std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").expect("a list");
    let tuned = run(script, Some(&[("CONGESTION", "cubist")]));
    assert_eq!(tuned.value("name"), run(script, None).value("name"));
    let [warning] = warnings(&tuned)[..] else { panic!("one warning: {tuned:#?}") };
    assert!(warning.starts_with("TCPTUNE_CONGESTION=cubist: the kernel refused it with ENOENT"), "{warning}");
    assert!(warning.contains(&format!("(it offers {})", offered.trim())), "{warning}");
    for name in offered.split_whitespace() {
        let tuned = run(script, Some(&[("CONGESTION", name)]));
        assert_eq!((tuned.value("name"), warnings(&tuned).len()), (name, 0));
    }
}

/// A client: of which family, bound to what, to which peer.
const FROM: &str = "
import socket, sys
family, own, peer = sys.argv[1:]
s = socket.socket(getattr(socket, family))
if own: s.bind((own.split('#')[0], int(own.split('#')[1])))
s.connect((peer, 4000))
print('from=%s' % s.getsockname()[0])
print('port=%d' % s.getsockname()[1])
";

#[test]
fn connections_come_from_the_source() {
    let Some(namespace) = Namespace::or_skip("connections_come_from_the_source") else { return };
    for addr in ["192.0.2.9/32", "2001:db8::9/128"] {
        namespace.run("ip", &["addr", "add", addr, "dev", "lo"]);
    }
    let servers = ["127.0.0.1:4000", "[::1]:4000"].map(|addr| namespace.listener(addr));
    let from = |family: &str, own: &str, peer: &str, settings: Option<Settings>| {
        let ended = Program::python(FROM).args([family, own, peer]).inside(&namespace).with(settings).run();
        ended.succeeded();
        // What the server sees, too.
        let server = &servers[usize::from(peer == "::1")];
        let (_, seen) = server.accept().expect("a connection");
        assert_eq!(seen.ip().to_string(), ended.value("from").trim_start_matches("::ffff:"));
        assert_eq!(i64::from(seen.port()), ended.number("port"));
        ended
    };
    let both = [("SOURCE", "192.0.2.9,2001:db8::9")];
    for (family, own, peer, plain, tuned) in [
        ("AF_INET", "", "127.0.0.1", "127.0.0.1", "192.0.2.9"),
        ("AF_INET6", "", "::1", "::1", "2001:db8::9"),
        ("AF_INET6", "", "::ffff:127.0.0.1", "::ffff:127.0.0.1", "::ffff:192.0.2.9"),
        ("AF_INET", "127.0.0.3#0", "127.0.0.1", "127.0.0.3", "127.0.0.3"),
        ("AF_INET", "0.0.0.0#4001", "127.0.0.1", "127.0.0.1", "127.0.0.1"),
        ("AF_INET6", "::1#0", "::1", "::1", "::1"),
        // "This host": from a source, the kernel would connect to the source.
        ("AF_INET", "", "0.0.0.0", "127.0.0.1", "127.0.0.1"),
        ("AF_INET6", "", "::ffff:0.0.0.0", "::ffff:127.0.0.1", "::ffff:127.0.0.1"),
    ] {
        assert_eq!(from(family, own, peer, None).value("from"), plain);
        for (more, port) in [(("CONNECT_TIMEOUT", "3"), "4002"), (("BIND_ADDRESS_NO_PORT", "on"), "4003")] {
            let own = own.replace("4001", port);
            let ended = from(family, &own, peer, Some(&[both[0], more]));
            assert_eq!(ended.value("from"), tuned, "{family} {own} to {peer}");
            assert_eq!(warnings(&ended), [""; 0]);
        }
    }
    // Of the other family: nothing to do. Not an address of the machine: one warning, and the connect goes on.
    assert_eq!(from("AF_INET", "", "127.0.0.1", Some(&[("SOURCE", "2001:db8::9")])).value("from"), "127.0.0.1");
    let missing = from("AF_INET", "", "127.0.0.1", Some(&[("SOURCE", "192.0.2.10")]));
    assert_eq!(missing.value("from"), "127.0.0.1");
    let [warning] = warnings(&missing)[..] else { panic!("one warning: {missing:#?}") };
    assert!(warning.contains("TCPTUNE_SOURCE=192.0.2.10") && warning.contains("EADDRNOTAVAIL"), "{warning}");
}

/// Connects from a namespace in which packets that match are counted, and gives how many did.
fn on_the_wire(namespace: &Namespace, matching: &str, peer: &str, settings: Option<Settings>) -> u64 {
    namespace.run("nft", &["add table inet wire"]);
    namespace.run("nft", &["add chain inet wire out { type filter hook output priority 0; }"]);
    namespace.run("nft", &["flush chain inet wire out"]);
    let rule = format!("add rule inet wire out tcp dport 4000 {matching} counter");
    namespace.run("nft", &[&rule]);
    let family = if peer.contains(':') { "AF_INET6" } else { "AF_INET" };
    let program = Program::python(FROM).args([family, "", peer]).inside(namespace).with(settings);
    let ended = program.run();
    ended.succeeded();
    assert_eq!(warnings(&ended), [""; 0]);
    let rules = namespace.run("nft", &["list chain inet wire out"]);
    let (_, packets) = rules.split_once("counter packets ").unwrap_or_else(|| panic!("{rules}"));
    packets.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{rules}"))
}

#[test]
fn packets_carry_what_is_set_on_both_ip_versions() {
    let Some(namespace) = Namespace::or_skip("packets_carry_what_is_set_on_both_ip_versions") else { return };
    let _servers = ["127.0.0.1:4000", "[::1]:4000"].map(|addr| namespace.listener(addr));
    let syn = 1;
    let handshake = 2; // the SYN and the ACK, at least
    for (setting, v4, v6, least) in [
        (("DSCP", "ef"), "ip dscp ef", "ip6 dscp ef", handshake),
        (("TOS", "cs1"), "ip dscp cs1", "ip6 dscp cs1", handshake),
        (("TOS", "72"), "ip dscp af21", "ip6 dscp af21", handshake),
        (("TTL", "33"), "ip ttl 33", "ip6 hoplimit 33", handshake),
        (("MARK", "0x2a"), "meta mark 0x2a", "meta mark 42", handshake),
        (("PRIORITY", "6"), "meta priority 0:6", "meta priority 0:6", handshake),
        (("MAXSEG", "500"), "tcp option maxseg size 500", "tcp option maxseg size 500", syn),
        (("MTU_DISCOVER", "dont"), "ip frag-off & 0x4000 == 0", "", handshake),
    ] {
        let mapped = v4; // IPv4 packets of an IPv6 socket
        for (matching, peer) in [(v4, "127.0.0.1"), (v6, "::1"), (mapped, "::ffff:127.0.0.1")] {
            if matching.is_empty() {
                continue;
            }
            let plain = on_the_wire(&namespace, matching, peer, None);
            assert_eq!(plain, 0, "{matching} to {peer} without the library");
            let tuned = on_the_wire(&namespace, matching, peer, Some(&[setting]));
            assert!(tuned >= least, "{setting:?}: {tuned} packets of {matching} to {peer}");
        }
    }
}

#[test]
fn packets_leave_by_the_device() {
    let Some(namespace) = Namespace::or_skip("packets_leave_by_the_device") else { return };
    // Two ways to the same network; the first route is taken where nothing else is said.
    for (device, peer, addr) in [("one", "onepeer", "192.0.2.1/24"), ("two", "twopeer", "198.51.100.1/24")] {
        namespace.run("ip", &["link", "add", device, "type", "veth", "peer", "name", peer]);
        namespace.run("ip", &["addr", "add", addr, "dev", device]);
        namespace.run("ip", &["link", "set", peer, "up"]);
        namespace.run("ip", &["link", "set", device, "up"]);
    }
    namespace.run("ip", &["route", "add", "203.0.113.0/24", "dev", "one", "metric", "1"]);
    namespace.run("ip", &["route", "add", "203.0.113.0/24", "dev", "two", "metric", "2"]);
    namespace.run("nft", &["add table inet ways"]);
    namespace.run("nft", &["add chain inet ways out { type filter hook output priority 0; }"]);
    let left_by = |settings: Settings| {
        namespace.run("nft", &["flush chain inet ways out"]);
        for device in ["one", "two"] {
            namespace.run("nft", &[&format!("add rule inet ways out tcp dport 4000 oifname \"{device}\" counter")]);
        }
        let script = "import socket; socket.socket().connect_ex(('203.0.113.1', 4000))";
        let settings = [settings, &[("CONNECT_TIMEOUT", "0.2")]].concat();
        let ended = Program::python(script).inside(&namespace).tuned(&settings).run();
        ended.succeeded();
        let rules = namespace.run("nft", &["list chain inet ways out"]);
        let count = |text: &str| text.split_whitespace().next().and_then(|n| n.parse::<u32>().ok()).expect("a number");
        let counts: Vec<_> = rules.split("counter packets ").skip(1).map(count).collect();
        (counts[0] > 0, counts[1] > 0, warnings(&ended).join("\n"))
    };
    assert_eq!(left_by(&[]), (true, false, String::new()));
    assert_eq!(left_by(&[("BINDTODEVICE", "two")]), (false, true, String::new()));
    let (one, two, warning) = left_by(&[("BINDTODEVICE", "three")]);
    assert!(one && !two, "the connect goes on");
    assert!(warning.starts_with("TCPTUNE_BINDTODEVICE=three: the kernel refused it with ENODEV"), "{warning}");
    assert_eq!(warning.lines().count(), 1, "{warning}");
}

#[test]
fn an_option_that_the_kernel_lacks_is_one_warning_with_the_version_that_has_it() {
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let port = live.local_addr().expect("its address").port();
    let script = format!(
        "
import os, socket, subprocess, sys
def connect(): socket.create_connection(('127.0.0.1', {port})).close()
for _ in range(3): connect()
if os.fork() == 0: connect(); sys.exit()
os.wait()
if len(sys.argv) == 1: subprocess.run([sys.executable, '-I', '-c', sys.orig_argv[3], 'child'], check=True)
print('done=1')
"
    );
    let rows = [
        ("RTO_MAX", "60s", 44, "Linux 6.15"),
        ("USER_TIMEOUT", "9s", libc::TCP_USER_TIMEOUT, "Linux 2.6.37"),
        ("NOTSENT_LOWAT", "64K", libc::TCP_NOTSENT_LOWAT, "Linux 3.12"),
    ];
    for (name, value, optname, version) in rows {
        let arguments = ["setsockopt", &optname.to_string(), &libc::ENOPROTOOPT.to_string()].map(Into::into);
        let python = [python().to_owned(), "-I".into(), "-c".into(), script.clone().into()];
        let program = Program::new(probe("without")).args(arguments.into_iter().chain(python));
        let ended = program.tuned(&[(name, value), ("TTL", "9")]).run();
        if ended.stdout.contains("no_filter") {
            println!("skipped: an_option_that_the_kernel_lacks: no seccomp filter: {}", ended.value("no_filter"));
            return;
        }
        ended.succeeded();
        assert_eq!(ended.number("done"), 1);
        // One in the program, none more in what it forks, and one in what it executes.
        let warned: Vec<_> = ended.log.lines().filter(|line| line.contains(": warn: ")).collect();
        let [first, second] = warned[..] else { panic!("{name}: {ended:#?}") };
        assert_ne!(first.split(']').next(), second.split(']').next(), "of two processes");
        for line in warned {
            assert!(line.contains(&format!("TCPTUNE_{name}=")) && line.contains("ENOPROTOOPT"), "{line}");
            assert!(line.contains(&format!("({version} has it)")), "{line}");
        }
    }
}
