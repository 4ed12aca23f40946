//! The same probes without and with the library: every answer is the same, apart from what a setting says.

use std::collections::BTreeSet;
use std::ffi::{OsStr, OsString};
use std::net::TcpListener;
use std::path::Path;
use std::time::Duration;

use tcptune_core::options::table::{OPTIONS, Opt, Own, Target};

use crate::harness::hole::BlackHole;
use crate::harness::{Ended, LATE, Program, assert_on_time, debug_library, library, shared};

/// Every setting that does something to a socket. KEEPIDLE is more than 255 because MPTCP answers a short read of a
/// smaller value with one byte.
pub const ALL: &[(&str, &str)] = &[
    ("KEEPALIVE", "on"),
    ("KEEPIDLE", "600"),
    ("KEEPINTVL", "10"),
    ("KEEPCNT", "3"),
    ("SYNCNT", "3"),
    ("USER_TIMEOUT", "auto"),
    ("CONNECT_TIMEOUT", "3"),
    ("REUSEADDR", "on"),
    ("REUSEPORT", "on"),
    ("NODELAY", "on"),
    ("QUICKACK", "on"),
    ("LINGER2", "30"),
    ("RTO_MAX", "60s"),
    ("RTO_MIN", "100ms"),
    ("THIN_LINEAR_TIMEOUTS", "on"),
    ("RECV_TIMEOUT", "30"),
    ("ACCEPT_TIMEOUT", "30"),
    ("CORK", "off"),
    ("SNDBUF", "100K"),
    ("RCVBUF", "100K"),
    ("NOTSENT_LOWAT", "64K"),
    ("MAXSEG", "1400"),
    ("WINDOW_CLAMP", "60K"),
    ("CONGESTION", "reno"),
    ("MAX_PACING_RATE", "1G"),
    ("BUSY_POLL", "1"),
    ("ZEROCOPY", "on"),
    ("TOS", "16"),
    ("TTL", "61"),
    ("MTU_DISCOVER", "dont"),
    ("PRIORITY", "3"),
    ("MARK", "0x10"),
    ("LINGER", "off"),
    ("INCOMING_CPU", "0"),
    ("BACKLOG", "min:64"),
];

/// The settings that change what calls answer, which is what they are for. Each has tests of its own.
const CHANGE_ANSWERS: &[(&str, &str)] = &[
    ("FASTOPEN_CONNECT", "connect returns before the peer answers"),
    ("FREEBIND", "bind takes any address"),
    ("TRANSPARENT", "bind takes any address"),
    ("BIND_ADDRESS_NO_PORT", "bind takes no port"),
    ("V6ONLY", "an IPv6 listener leaves the IPv4 port free"),
    ("DEFER_ACCEPT", "accept waits for data"),
    ("FASTOPEN", "a listener answers the SYN of a client with a cookie"),
    ("DSCP", "another way to write TOS"),
    ("SEND_TIMEOUT", "a program's own, which ends connect as well, no longer holds"),
    ("BINDTODEVICE", "other networks cannot be reached"),
    ("SOURCE", "sockets are bound"),
    ("CLIENT_TIMEOUT", "ends idle clients, by shutting their connections down"),
    ("MPTCP", "another protocol"),
];

/// No settings, all of them, and all with the program's own values in front.
pub fn ways() -> [Vec<(&'static str, &'static str)>; 3] {
    [vec![], ALL.to_vec(), [ALL, &[("PRECEDENCE", "program")]].concat()]
}

/// Runs it plain and in every way; all must print the same, and more than `least` lines. Gives the tuned runs.
pub fn same(program: impl Fn() -> Program, least: usize) -> Vec<Ended> {
    same_in(ways(), program, least)
}

/// The same, in these ways.
pub fn same_in<W>(ways: impl IntoIterator<Item = W>, program: impl Fn() -> Program, least: usize) -> Vec<Ended>
where
    W: AsRef<[(&'static str, &'static str)]>,
{
    let plain = program().run();
    let expected: Vec<_> = plain.succeeded().lines().collect();
    assert!(expected.len() > least, "{plain:#?}");
    let all_ways = ways.into_iter().map(|settings| {
        let settings = settings.as_ref();
        let tuned = program().tuned(settings).run();
        let found: Vec<_> = tuned.succeeded().lines().collect();
        // Not one assert_eq! over thousands of lines: the first that differs tells.
        for (i, (expected, found)) in expected.iter().zip(&found).enumerate() {
            assert_eq!(expected, found, "line {} with {settings:?}; {}", i + 1, tuned.log);
        }
        assert_eq!(expected.len(), found.len(), "with {settings:?}");
        tuned
    });
    all_ways.collect()
}

#[test]
fn all_settings_are_all_of_the_table() {
    let of_a_socket = |target| match target {
        Target::Socket(_) => true,
        Target::Own(own) => own.is_of_a_socket() && own != Own::Precedence,
    };
    let rows: BTreeSet<_> = OPTIONS.iter().filter(|o| of_a_socket(o.target)).map(Opt::name).collect();
    let listed: Vec<_> = ALL.iter().chain(CHANGE_ANSWERS).map(|(name, _)| *name).collect();
    let set: BTreeSet<_> = listed.iter().copied().collect();
    assert_eq!(rows, set);
    assert_eq!(set.len(), listed.len(), "each once");
}

#[test]
fn wrong_arguments_on_descriptors_of_every_kind() {
    same(|| Program::probe("arguments"), 5000);
}

#[test]
fn every_domain_type_flags_and_protocol() {
    same(|| Program::probe("families"), 700);
}

#[test]
fn pointers_to_nowhere() {
    let hole = BlackHole::v4();
    let program = || Program::probe("pointers").args([hole.ip(), hole.port()]);
    let tuned = same(program, 300);
    // The debug library has Rust's checks of what is copied where.
    let checked = program().tuned_by(debug_library(), ALL).run();
    assert_eq!(tuned[1].succeeded(), checked.succeeded());
}

#[test]
fn connect_in_every_state() {
    let hole = BlackHole::v4();
    let program = || Program::probe("states").args([hole.ip(), hole.port()]);
    same(program, 400);
    // TCP_USER_TIMEOUT holds the connect timeout meanwhile, and never afterwards.
    let program = || program().env("USER_TIMEOUT_TOO", "1");
    let (plain, tuned) = (program().run(), program().tuned(&[("CONNECT_TIMEOUT", "3")]).run());
    assert!(plain.succeeded().matches("user_timeout=0").count() > 20, "{plain:#?}");
    assert_eq!(plain.succeeded(), tuned.succeeded());
}

#[test]
fn every_hook_with_its_errno() {
    same(|| Program::probe("every").args(["plain"]), 50);
}

/// The library and another one, in both orders, as `LD_PRELOAD` has them.
fn both_orders(other: &'static str) -> [OsString; 2] {
    let (ours, other) = (library(), shared(other));
    let list = |a: &Path, b: &Path| [a.as_os_str(), b.as_os_str()].join(OsStr::new(":"));
    [list(&ours, &other), list(&other, &ours)]
}

#[test]
fn a_library_whose_constructor_comes_first() {
    let run = |preload: &OsStr, settings: Option<&[_]>| {
        let program = Program::probe("every").args(["plain"]);
        let program = if let Some(settings) = settings { program.tuned(settings) } else { program };
        program.env("LD_PRELOAD", preload).run()
    };
    let answers = |ended: &Ended| {
        let lines = ended.succeeded().lines().filter(|line| !line.starts_with("idle_in_"));
        lines.map(str::to_owned).collect::<Vec<_>>()
    };
    let plain = run(shared("early").as_os_str(), None);
    let expected = answers(&plain);
    assert!(expected.len() > 3 * 50, "constructor, main and destructor: {plain:#?}");
    // Constructors of the libraries that are listed later run first: of the one before, ours has run already.
    for (preload, ours_first) in both_orders("early").iter().zip([false, true]) {
        for settings in ways() {
            let tuned = run(preload, Some(&settings));
            assert_eq!(expected, answers(&tuned), "{preload:?} with {settings:?}");
            let set = !settings.is_empty();
            assert_eq!(tuned.number("idle_in_constructor") == 600, set && ours_first, "{preload:?}: {tuned:#?}");
            assert_eq!(tuned.number("idle_in_destructor") == 600, set, "tuned when it is first seen: {tuned:#?}");
        }
    }
}

#[test]
fn a_library_that_interposes_connect_too() {
    let (hole, live) = (BlackHole::v4(), TcpListener::bind("127.0.0.1:0").expect("a live server"));
    let live = live.local_addr().expect("its address").port().to_string();
    for preload in both_orders("wrapper") {
        for settings in [&[] as &[_], &[("NODELAY", "on")], &[("CONNECT_TIMEOUT", "0.4")]] {
            let run = |port: &str| {
                let program = Program::probe("connect").args([&hole.ip(), port]).tuned(settings);
                program.env("TCPTUNE_LOG", "debug").env("LD_PRELOAD", &preload).run()
            };
            let mut cases = vec![(live.clone(), 0)];
            if settings.iter().any(|(name, _)| *name == "CONNECT_TIMEOUT") {
                cases.push((hole.port(), libc::ETIMEDOUT));
            }
            for (port, error) in cases {
                let ended = run(&port);
                let case = format!("{preload:?} with {settings:?}: {ended:#?}");
                assert_eq!(ended.number("result"), if error == 0 { 0 } else { -1 }, "{case}");
                if error != 0 {
                    assert_eq!(ended.number("errno"), error.into(), "{case}");
                    assert_on_time(ended.milliseconds("took"), Duration::from_millis(400), LATE);
                }
                assert_eq!(ended.number("flags_before"), ended.number("flags_after"), "{case}");
                let ours = ended.log.lines().filter(|line| line.contains(": connect: ")).count();
                assert_eq!(ours, usize::from(!settings.is_empty()), "{case}");
                assert_eq!((ended.number("wrapped"), ended.number("deepest")), (1, 1), "{case}");
            }
        }
    }
}
