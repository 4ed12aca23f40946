//! Every row of the option table, set and read back through a real child.

use tcptune_core::option::{OPTIONS, Opt, Stages, Target};
use tcptune_core::value::Kind;

use crate::harness::{Ended, Program};

/// The sockets that `options.c` shows, and whether the option of these stages is on them.
const SOCKETS: [(&str, Stages); 5] = [
    ("new", Stages::SOCKET),
    ("bound", Stages::BIND),
    ("connected", Stages::CONNECT),
    ("accepted", Stages::ACCEPT),
    ("unbound", Stages::LISTEN),
];

fn show(level: i32, optname: i32, settings: Option<&[(&str, &str)]>) -> Ended {
    Program::probe("options").args([level.to_string(), optname.to_string()]).with(settings).run()
}

/// A value that the row takes and the socket does not have already.
fn another_value(option: &Opt, present: i64) -> i64 {
    match option.kind {
        Kind::Bool => 1 - present,
        _ => i64::from(option.range.0) + if present == i64::from(option.range.0) + 6 { 7 } else { 6 },
    }
}

/// As an operator would write it.
fn written(option: &Opt, value: i64) -> String {
    option.kind.show(i32::try_from(value).expect("a c_int")).to_string()
}

#[test]
fn each_option_differs_without_and_holds_with_its_setting() {
    let mut checked = 0;
    for option in &OPTIONS {
        let Target::Socket { level, optname, stages } = option.target else { continue };
        let plain = show(level, optname, None);
        plain.succeeded();
        for (socket, stage) in SOCKETS {
            let applies = stages.contains(stage) || stages.contains(Stages::SOCKET);
            if !applies {
                continue;
            }
            let key = format!("{socket}.{level}.{optname}");
            let present = plain.number(&key);
            assert!(present >= 0, "{}: {plain:#?}", option.name);
            let wanted = another_value(option, present);
            assert_ne!(present, wanted);
            for name in [option.name].iter().chain(option.aliases) {
                let tuned = show(level, optname, Some(&[(*name, &written(option, wanted))]));
                tuned.succeeded();
                assert_eq!(tuned.number(&key), wanted, "{name} on a {socket} socket: {tuned:#?}");
            }
            checked += 1;
        }
    }
    assert!(checked > OPTIONS.len(), "only {checked} sockets were looked at");
}

#[test]
fn options_of_bind_wait_for_bind() {
    for (name, optname) in [("REUSEADDR", libc::SO_REUSEADDR), ("REUSEPORT", libc::SO_REUSEPORT)] {
        let tuned = show(libc::SOL_SOCKET, optname, Some(&[(name, "on")]));
        for (socket, wanted) in [("new", 0), ("connected", 0), ("bound", 1), ("unbound", 1)] {
            assert_eq!(tuned.number(&format!("{socket}.1.{optname}")), wanted, "{name} on a {socket} socket");
        }
    }
}

#[test]
fn user_timeout_auto_is_the_time_in_which_keepalive_would_notice() {
    let settings = [("USER_TIMEOUT", "auto"), ("KEEPIDLE", "20"), ("KEEPINTVL", "5s"), ("KEEPCNT", "4")];
    let tuned = show(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, Some(&settings));
    assert_eq!(tuned.number("connected.6.18"), 40_000, "{tuned:#?}");

    let kernel: i64 = ["time", "intvl", "probes"]
        .map(|name| std::fs::read_to_string(format!("/proc/sys/net/ipv4/tcp_keepalive_{name}")).expect("sysctl"))
        .map(|text| text.trim().parse::<i64>().expect("a number"))
        .windows(3)
        .map(|k| (k[0] + k[1] * k[2]) * 1000)
        .sum();
    let tuned = show(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT, Some(&[("USER_TIMEOUT", "auto")]));
    assert_eq!(tuned.number("connected.6.18"), kernel, "{tuned:#?}");
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
