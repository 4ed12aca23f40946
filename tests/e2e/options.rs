//! Every row of the option table, set and read back through a real child.

use tcptune_core::options::names::Name;
use tcptune_core::options::phase::{Phases, Stages};
use tcptune_core::options::table::{OPTIONS, Opt, Sockopt, Target};
use tcptune_core::options::value::{Kind, Value};
use tcptune_core::options::wire::Payload;

use crate::harness::{Ended, Program};

/// The sockets that `options.c` shows, and the stages that each has passed.
const SOCKETS: [(&str, Stages); 5] = [
    ("new", Stages::SOCKET),
    ("bound", Stages::SOCKET.or(Stages::BIND)),
    ("connected", Stages::SOCKET.or(Stages::CONNECT)),
    ("accepted", Stages::SOCKET.or(Stages::ACCEPT)),
    (IPV6, Stages::SOCKET.or(Stages::LISTEN)),
];

/// The one that is an IPv6 socket: it listens without a bind.
const IPV6: &str = "unbound";

fn show(level: i32, optname: i32, settings: Option<&[(&str, &str)]>) -> Ended {
    let ended = Program::probe("options").args([level.to_string(), optname.to_string()]).with(settings).run();
    ended.succeeded();
    ended
}

/// The option on one of the sockets, as the kernel has it.
fn on(ended: &Ended, socket: &str, level: i32, optname: i32, option: &Sockopt) -> Value {
    let hex = ended.value(&format!("{socket}.{level}.{optname}"));
    let mut payload = Payload::room();
    let bytes = (0..hex.len()).step_by(2).map(|i| u8::from_str_radix(&hex[i..i + 2], 16).expect("hexadecimal"));
    for (i, byte) in bytes.enumerate() {
        // SAFETY: as many bytes as there is room.
        unsafe { payload.as_mut_ptr().add(i).write(byte) };
    }
    option.wire.decode(&payload)
}

fn int(ended: &Ended, socket: &str, level: i32, optname: i32) -> i64 {
    let wire = tcptune_core::options::wire::Wire::Int;
    let option = Sockopt { level, optname, v6: None, wire, stages: Stages::SOCKET, live: Phases::of(Stages::SOCKET) };
    match on(ended, socket, level, optname, &option) {
        Value::Int(n) => n,
        other => panic!("{other:?}"),
    }
}

/// A value that the row takes and the socket does not have already.
fn another_value(option: &Opt, present: &Value) -> Value {
    let (low, high) = option.range;
    let first_not_present = |candidates: &[i64]| {
        let mut others = candidates.iter().map(|n| Value::Int(*n)).filter(|n| n != present);
        others.next().expect("two candidates")
    };
    match (option.name(), option.kind) {
        ("BINDTODEVICE", _) => Name::new("lo").map(Value::Name).expect("a name"),
        ("CONGESTION", _) => {
            let offered =
                std::fs::read_to_string("/proc/sys/net/ipv4/tcp_available_congestion_control").expect("a list");
            let mut others = offered.split_whitespace().filter_map(Name::new).map(Value::Name).filter(|n| n != present);
            others.next().expect("the kernel offers two")
        }
        ("DEFER_ACCEPT", _) => Value::Int(3), // a sum of SYN-ACK timeouts: 1, 3, 7, …
        (_, Kind::Bool | Kind::Choice(_)) => first_not_present(&[high, low]),
        (_, Kind::Size) => first_not_present(&[low.max(20_000), low.max(24_000)]),
        (_, Kind::TrafficClass { .. }) => first_not_present(&[16, 32]), // without the bits of ECN
        (_, Kind::Duration { .. }) if high > 100_000 => first_not_present(&[100_000, 120_000]), // whole clock ticks
        _ => first_not_present(&[low + 6, low + 7]),
    }
}

/// What the kernel makes of a value (socket(7), tcp(7)).
fn made_of(option: &Opt, socket: &str, set: &Value) -> Value {
    match (option.name(), set) {
        // Doubled, for its own bookkeeping.
        ("SNDBUF" | "RCVBUF", Value::Int(n)) => Value::Int(2 * n),
        // Once there is a connection, the segment without the 12 bytes of the timestamp option.
        ("MAXSEG", Value::Int(n)) if matches!(socket, "connected" | "accepted") => Value::Int(n - 12),
        _ => set.clone(),
    }
}

#[test]
fn each_option_differs_without_and_holds_with_its_setting() {
    let mut checked = 0;
    for opt in &OPTIONS {
        let Target::Socket(option) = opt.target else { continue };
        let both = [Some((option.level, option.optname)), option.v6.map(|v6| (libc::IPPROTO_IPV6, v6))];
        let mut sockets = 0;
        for (level, optname) in both.into_iter().flatten() {
            let plain = show(level, optname, None);
            for (socket, passed) in SOCKETS {
                let v6_only = level == libc::IPPROTO_IPV6;
                if !option.stages.contains(passed) || (v6_only && socket != IPV6) {
                    continue;
                }
                let present = on(&plain, socket, level, optname, &option);
                let set = another_value(opt, &present);
                let wanted = made_of(opt, socket, &set);
                assert_ne!(present, wanted, "{} on a {socket} socket", opt.name());
                for name in opt.names() {
                    let tuned = show(level, optname, Some(&[(name, &opt.kind.show(&set).to_string())]));
                    let found = on(&tuned, socket, level, optname, &option);
                    assert_eq!(found, wanted, "{name} on a {socket} socket: {tuned:#?}");
                    assert!(!tuned.log.contains(": warn: "), "{name}: {}", tuned.log);
                }
                sockets += 1;
            }
        }
        assert!(sockets > 0, "{} was seen on no socket", opt.name());
        checked += 1;
    }
    assert_eq!(checked, tcptune_core::options::table::SOCKET_OPTIONS);
}

#[test]
fn options_of_bind_wait_for_bind() {
    for (name, optname) in [("REUSEADDR", libc::SO_REUSEADDR), ("REUSEPORT", libc::SO_REUSEPORT)] {
        let tuned = show(libc::SOL_SOCKET, optname, Some(&[(name, "on")]));
        for (socket, wanted) in [("new", 0), ("connected", 0), ("bound", 1), ("unbound", 1)] {
            assert_eq!(int(&tuned, socket, libc::SOL_SOCKET, optname), wanted, "{name} on a {socket} socket");
        }
    }
}

#[test]
fn user_timeout_auto_is_the_time_in_which_keepalive_would_notice() {
    let user_timeout = |settings: &[(&str, &str)]| {
        let tuned = show(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, Some(settings));
        int(&tuned, "connected", libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT)
    };
    let settings = [("USER_TIMEOUT", "auto"), ("KEEPIDLE", "20"), ("KEEPINTVL", "5s"), ("KEEPCNT", "4")];
    assert_eq!(user_timeout(&settings), 40_000);

    let kernel: i64 = ["time", "intvl", "probes"]
        .map(|name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_keepalive_{name}")).expect("sysctl"))
        .map(|text| text.trim().parse::<i64>().expect("a number"))
        .windows(3)
        .map(|k| (k[0] + k[1] * k[2]) * 1000)
        .sum();
    assert_eq!(user_timeout(&[("USER_TIMEOUT", "auto")]), kernel);
}

/// What a python client with keepalive values of its own ends up with.
fn own_values(settings: &[(&str, &str)]) -> Ended {
    let script = "
import socket
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 0)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 111)
s.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT, 2)
print('keepalive=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE))
print('idle=%d' % s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
print('count=%d' % s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPCNT))
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 0)
s.bind(('127.0.0.1', 0))
print('reuseaddr=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
";
    let ended = Program::python(script).tuned(settings).run();
    ended.succeeded();
    ended
}

#[test]
fn the_environment_wins_over_the_program_unless_told_otherwise() {
    let settings = [("KEEPIDLE", "33"), ("REUSEADDR", "on")];
    let env = own_values(&settings);
    assert_eq!((env.number("keepalive"), env.number("idle"), env.number("count")), (1, 33, 2), "{env:#?}");
    assert_eq!(env.number("reuseaddr"), 1);

    let program = own_values(&[settings[0], settings[1], ("PRECEDENCE", "program")]);
    assert_eq!((program.number("keepalive"), program.number("idle"), program.number("count")), (0, 111, 2));
    assert_eq!(program.number("reuseaddr"), 0, "the program has set it itself");
}

/// The kernel sets the same field of a socket by a second name, and SO_PRIORITY by IP_TOS (ip(7)).
#[test]
fn second_names_of_an_option_are_that_option() {
    let script = "
import socket, struct
listener = socket.create_server(('127.0.0.1', 0))
s = socket.socket()
for second in 32, 33: s.setsockopt(socket.SOL_SOCKET, second, 300000) # SO_SNDBUFFORCE, SO_RCVBUFFORCE
s.setsockopt(socket.IPPROTO_IP, socket.IP_TOS, 8)
s.connect(listener.getsockname())
for name, option in dict(sndbuf=7, rcvbuf=8, priority=12).items():
    print('%s=%d' % (name, s.getsockopt(socket.SOL_SOCKET, option)))
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, 62, 0) # SO_BINDTOIFINDEX
print('device=%d' % s.getsockopt(socket.SOL_SOCKET, 62))
s = socket.socket(socket.AF_INET6)
for name, second in ('freebind', 78), ('transparent', 75): # IPV6_FREEBIND, IPV6_TRANSPARENT
    s.setsockopt(socket.IPPROTO_IPV6, second, 0)
s.bind(('::1', 0))
for name, second in ('freebind', 78), ('transparent', 75):
    print('%s=%d' % (name, s.getsockopt(socket.IPPROTO_IPV6, second)))
";
    let values = |settings: Option<&[(&str, &str)]>| {
        let ended = Program::python(script).with(settings).run();
        ended.succeeded();
        ["sndbuf", "rcvbuf", "priority", "device", "freebind", "transparent"].map(|name| ended.number(name))
    };
    let plain = values(None);
    assert_eq!(plain, [600_000, 600_000, 2, 0, 0, 0]);
    let all: Vec<_> = [("SNDBUF", "64K"), ("RCVBUF", "64K"), ("PRIORITY", "3"), ("BINDTODEVICE", "lo")]
        .into_iter()
        .chain([("FREEBIND", "on"), ("TRANSPARENT", "on")])
        .collect();
    let settings = all.iter().fold(String::new(), |rule, (name, value)| format!("{rule} {name}={value}"));
    let rules = format!("dst=127.0.0.0/8 : {settings} ; role=server : {settings}");
    // A socket that neither connects nor listens has nothing of a rule.
    for (by, device) in [(&all[..], 1), (&[("RULES", rules.as_str())], 0)] {
        assert_eq!(values(Some(by)), [131_072, 131_072, 3, device, 1, 1], "{by:?}");
        assert_eq!(values(Some(&[by, &[("PRECEDENCE", "program")]].concat())), plain, "{by:?}");
    }
}

#[test]
fn mptcp_sockets_are_tuned_where_mptcp_can() {
    let script = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)
print('idle=%d' % s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))
";
    let plain = Program::python(script).run();
    if plain.stderr.contains("not supported") || plain.stderr.contains("not available") {
        println!("skipped: mptcp_sockets_are_tuned_where_mptcp_can: this kernel has no MPTCP");
        return;
    }
    let present = plain.number("idle");
    let tuned = Program::python(script).tuned(&[("KEEPIDLE", "33"), ("SYNCNT", "2")]).run();
    assert_ne!(present, 33);
    assert_eq!(tuned.number("idle"), 33);
    assert!(!tuned.log.contains("warn"), "what MPTCP refuses is no news: {}", tuned.log);
}
