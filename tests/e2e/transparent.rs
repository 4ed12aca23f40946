//! What is not tuned is as without the library.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::net::TcpListener;
use std::os::fd::OwnedFd;
use std::path::PathBuf;
use std::process::Command;

use crate::differential::ALL;
use crate::harness::hole::BlackHole;
use crate::harness::{Ended, Program, debug_library, library, probe};

/// The functions that the library exports; everything else in it is hidden.
const EXPORTED: &str = "
    _IO_fdopen __close __connect __dprintf_chk __dup2 __fcntl __poll __poll_chk __ppoll_chk __read __read_chk __recv_chk
    __recvfrom_chk __select __send __sendmmsg __vdprintf_chk __write accept accept4 bind close close_range
    closefrom connect dlopen dprintf dup dup2 dup3 epoll_ctl epoll_pwait epoll_pwait2 epoll_wait fcntl fcntl64
    fdopen getpeername getsockopt ioctl listen poll ppoll preadv2 preadv64v2 pselect pwritev2 pwritev64v2 read
    readv recv recvfrom recvmmsg recvmsg select send sendfile sendfile64 sendmmsg sendmsg sendto setsockopt
    shutdown socket socketpair splice vdprintf write writev
";

fn tool(program: &str, args: &[&str]) -> String {
    let output = Command::new(program).args(args).arg(library()).output().expect("binutils");
    assert!(output.status.success());
    String::from_utf8(output.stdout).expect("text")
}

#[test]
fn exports_exactly_the_hooks() {
    let symbols = tool("nm", &["-D", "--defined-only"]);
    let found: BTreeSet<_> = symbols.lines().filter_map(|line| line.split_whitespace().nth(2)).collect();
    assert_eq!(found, EXPORTED.split_whitespace().collect());
}

#[test]
fn needs_nothing_but_libc() {
    let dynamic = tool("readelf", &["-d", "--wide"]);
    let needed: Vec<_> = dynamic.lines().filter(|line| line.contains("(NEEDED)")).collect();
    assert!(matches!(needed[..], [libc] if libc.contains("[libc.so.6]")), "{needed:#?}");
    // What a glibc before 2.34 has elsewhere, or takes libgcc_s for.
    let symbols = tool("nm", &["-D", "--undefined-only"]);
    let elsewhere: Vec<_> = symbols
        .lines()
        .filter(|line| ["dlsym", "pthread_", "_Unwind_", "dl_find"].iter().any(|s| line.contains(s)))
        .collect();
    assert!(elsewhere.is_empty(), "{elsewhere:#?}");
    if cfg!(target_arch = "x86_64") {
        // One file for every Linux: no symbol that glibc 2.17 does not have (build.rs).
        let minor = |line: &str| line.rsplit_once("@GLIBC_2.")?.1.split('.').next()?.parse::<u32>().ok();
        let later: Vec<_> = symbols.lines().filter(|line| minor(line).is_none_or(|minor| minor > 17)).collect();
        assert!(later.is_empty() && symbols.lines().count() > 8, "{later:#?}");
    }
}

/// What it does take from libc asks the kernel nothing, so that no other library answers in the kernel's place.
#[test]
fn another_library_has_no_say_in_its_system_calls() {
    let symbols = tool("nm", &["-D", "--undefined-only", "--without-symbol-versions"]);
    let taken: BTreeSet<_> = symbols.lines().filter_map(|line| line.split_whitespace().last()).collect();
    let expected = "__errno_location abort bcmp dl_iterate_phdr environ getauxval memcmp memcpy memmove memset strlen";
    assert_eq!(taken, expected.split_whitespace().collect());
}

/// Half of the library would be std's way to report a panic, if the linker did not replace it (build.rs).
#[test]
fn does_not_contain_what_it_does_not_use() {
    let bytes = std::fs::read(library()).expect("the library");
    assert!(bytes.len() <= 440_000, "{} bytes", bytes.len());
    for text in ["RUST_BACKTRACE", ".debug_info"] {
        assert!(!bytes.windows(text.len()).any(|window| window == text.as_bytes()), "{text} is in the library");
    }
}

#[test]
fn wrong_arguments_get_the_kernels_answers() {
    let plain = Program::probe("errors").run();
    assert!(plain.succeeded().lines().count() > 40, "{plain:#?}");
    for settings in [&[] as &[_], ALL, &[ALL, &[("PRECEDENCE", "program")]].concat()] {
        let tuned = Program::probe("errors").tuned(settings).run();
        assert_eq!(plain.succeeded(), tuned.succeeded(), "with {settings:?}");
    }
}

/// The network system calls of a socket's life.
pub fn calls(kind: &str, settings: Option<&[(&str, &str)]>) -> Vec<String> {
    let traced = "trace=network,poll,ppoll,fcntl,ioctl,read,write,close,getpid,fstat";
    let calls = traced_calls(&[probe("sockets").as_os_str(), OsStr::new(kind)], traced, settings);
    calls.into_iter().next().expect("one pair of marks")
}

/// The system calls of a probe between each pair of its marks, with arguments left out.
pub fn traced_calls(probe: &[&OsStr], traced: &str, settings: Option<&[(&str, &str)]>) -> Vec<Vec<String>> {
    let mut strace = Program::new("strace").args(["-f", "-qq", "-e", traced]);
    if let Some(settings) = settings {
        strace = strace.args(["-E", &format!("LD_PRELOAD={}", library().display())]);
        for (name, value) in settings {
            strace = strace.args(["-E", &format!("TCPTUNE_{name}={value}")]);
        }
    }
    let ended = strace.args(probe).run();
    ended.succeeded();
    let between = |after: &str| {
        let (between, _) = after.split_once("write(2, \"END").unwrap_or_else(|| panic!("{ended:#?}"));
        between.lines().skip(1).filter_map(|line| line.split_once('(')).map(|(call, _)| call.to_owned()).collect()
    };
    let marked: Vec<_> = ended.stderr.split("BEGIN\\n").skip(1).map(between).collect();
    assert!(!marked.is_empty(), "{ended:#?}");
    marked
}

fn count(calls: &[String], call: &str) -> usize {
    calls.iter().filter(|c| *c == call).count()
}

#[test]
fn other_sockets_cost_no_system_call() {
    for kind in ["udp", "unix"] {
        let plain = calls(kind, None);
        assert!(plain.len() >= 8, "{kind}: {plain:?}");
        assert_eq!(plain, calls(kind, Some(ALL)), "{kind}");
    }
}

#[test]
fn without_settings_tcp_costs_no_system_call() {
    let plain = calls("tcp", None);
    assert_eq!(plain, calls("tcp", Some(&[])));
    assert_eq!(plain, calls("tcp", Some(&[("DISABLE", "1"), ("KEEPIDLE", "5")])));
}

#[test]
fn an_option_is_set_once_for_a_connection() {
    let plain = calls("tcp", None);
    let tuned = calls("tcp", Some(&[("KEEPIDLE", "60"), ("KEEPINTVL", "10"), ("KEEPCNT", "3")]));
    // Two sockets with KEEPALIVE, KEEPIDLE, KEEPINTVL, KEEPCNT; nothing again at connect, bind, listen or accept.
    assert_eq!(count(&tuned, "setsockopt") - count(&plain, "setsockopt"), 8, "{tuned:?}");
    assert_eq!(tuned.len() - plain.len(), 8, "{tuned:?}");
}

#[test]
fn a_connect_timeout_costs_five_system_calls_on_loopback() {
    let plain = calls("tcp", None);
    let tuned = calls("tcp", Some(&[("CONNECT_TIMEOUT", "3")]));
    for (call, more) in [("fcntl", 1), ("ioctl", 2), ("connect", 1), ("getsockopt", 1)] {
        assert_eq!(count(&tuned, call) - count(&plain, call), more, "F_GETFL, FIONBIO, SO_PROTOCOL: {tuned:?}");
    }
    assert_eq!(tuned.len() - plain.len(), 5, "{tuned:?}");
}

fn malloc_in_hook(library: PathBuf) -> Ended {
    let hole = BlackHole::v4();
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let port = live.local_addr().expect("its address").port().to_string();
    Program::probe("malloc_in_hook")
        .args([hole.ip(), hole.port(), port])
        .tuned_by(library, &[ALL, &[("CONNECT_TIMEOUT", "0.3")]].concat())
        .run()
}

#[test]
fn no_hook_allocates() {
    // The program's malloc aborts in the probe; the library's own memory aborts in a debug build.
    for library in [library(), debug_library()] {
        let ended = malloc_in_hook(library);
        ended.succeeded();
        assert_eq!(ended.number("calls"), 0, "{ended:#?}");
        for name in ["timed_out", "in_progress", "ready", "bad"] {
            assert_eq!(ended.number(name), 1, "{name}: {ended:#?}");
        }
    }
}

#[test]
fn sockets_made_elsewhere_are_tuned_when_first_seen() {
    let idle = [libc::IPPROTO_TCP.to_string(), libc::TCP_KEEPIDLE.to_string()];
    let run = |settings| {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a listener to inherit");
        Program::probe("adopted").args(&idle).stdin(OwnedFd::from(listener)).with(settings).run()
    };
    let plain = run(None);
    let tuned = run(Some(&[("KEEPIDLE", "33"), ("REUSEADDR", "on")]));
    for name in ["passed_before", "listener_before"] {
        assert_eq!(plain.number(name), tuned.number(name), "{name}: not seen yet");
    }
    for name in ["passed_after", "queued", "listener_after", "accepted"] {
        assert_ne!(plain.number(name), 33);
        assert_eq!(tuned.number(name), 33, "{name}: {tuned:#?}");
    }
    assert_eq!(tuned.number("udp_has_the_number"), 1);
    assert_eq!(tuned.number("udp_reuseaddr"), 0, "two UDP sockets would share a port");
}
