//! What needs a network of its own: dropped packets on any port, unreachable hosts, packet counts.

use std::time::Duration;

use tcptune_core::sockets::syn;

use crate::harness::namespace::Namespace;
use crate::harness::{Ended, LATE, Program, assert_on_time};

/// A namespace in which packets to ports 5000 to 5009 are counted and dropped.
fn with_drop_rule(test: &str) -> Option<Namespace> {
    let namespace = Namespace::or_skip(test)?;
    namespace.run("nft", &["add table inet hole"]);
    namespace.run("nft", &["add chain inet hole in { type filter hook input priority 0; }"]);
    namespace.run("nft", &["add rule inet hole in tcp dport 5000-5009 counter drop"]);
    Some(namespace)
}

/// Packets dropped so far.
fn dropped(namespace: &Namespace) -> u64 {
    let rules = namespace.run("nft", &["list table inet hole"]);
    let (_, after) = rules.split_once("counter packets ").unwrap_or_else(|| panic!("{rules}"));
    after.split_whitespace().next().and_then(|n| n.parse().ok()).unwrap_or_else(|| panic!("{rules}"))
}

fn connect(namespace: &Namespace, args: &[&str], settings: Option<&[(&str, &str)]>) -> Ended {
    let limit = Duration::from_secs(if settings.is_some() { 20 } else { 8 });
    Program::probe("connect").args(args).inside(namespace).limit(limit).with(settings).run()
}

#[test]
fn nothing_more_is_sent_after_the_timeout() {
    let Some(namespace) = with_drop_rule("nothing_more_is_sent_after_the_timeout") else { return };
    let _live = namespace.listener("127.0.0.1:6000");
    // After the deadline at 1.5 s the probe keeps the descriptor, connected elsewhere, for 3 s: four more SYNs' time.
    let ended = connect(&namespace, &["127.0.0.1", "5001", "6000"], Some(&[("CONNECT_TIMEOUT", "1.5")]));
    assert_eq!((ended.number("errno"), ended.number("again")), (libc::ETIMEDOUT.into(), 0), "{ended:#?}");
    assert_eq!(dropped(&namespace), 2, "the SYN, and its repetition after 1 s");

    let plain = connect(&namespace, &["127.0.0.1", "5002", "6000"], None);
    assert!(plain.killed && dropped(&namespace) >= 2 + 5, "without tcptune it goes on: {plain:#?}");
}

#[test]
fn blocking_and_nonblocking_on_both_ip_versions() {
    let Some(namespace) = with_drop_rule("blocking_and_nonblocking_on_both_ip_versions") else { return };
    for ip in ["127.0.0.1", "::1"] {
        let ended = connect(&namespace, &[ip, "5003"], Some(&[("CONNECT_TIMEOUT", "300ms")]));
        assert_on_time(ended.milliseconds("took"), Duration::from_millis(300), LATE);
        let ended = Program::probe("nonblock")
            .args(["select", ip, "5004"])
            .inside(&namespace)
            .tuned(&[("CONNECT_TIMEOUT", "1500ms")])
            .run();
        assert_on_time(ended.milliseconds("took"), Duration::from_millis(1500), LATE);
        assert_eq!((ended.number("so_error"), ended.number("after")), (libc::ETIMEDOUT.into(), 0), "{ended:#?}");
    }
}

#[test]
fn unreachable_keeps_its_own_errno() {
    let Some(namespace) = Namespace::or_skip("unreachable_keeps_its_own_errno") else { return };
    // TEST-NET-1 and a documentation prefix (RFC 5737, RFC 3849), which exist inside this namespace only.
    namespace.run("ip", &["route", "add", "unreachable", "192.0.2.1/32"]);
    namespace.run("ip", &["route", "add", "prohibit", "192.0.2.2/32"]);
    let cases = [
        ("192.0.2.1", libc::EHOSTUNREACH),
        ("192.0.2.2", libc::EACCES),
        ("192.0.2.3", libc::ENETUNREACH),
        ("2001:db8::1", libc::ENETUNREACH),
    ];
    for (ip, error) in cases {
        for settings in [None, Some(&[("CONNECT_TIMEOUT", "2")] as &[_])] {
            let ended = connect(&namespace, &[ip, "80"], settings);
            assert_eq!(ended.number("errno"), error.into(), "{ip}: {ended:#?}");
            assert_eq!(ended.number("flags_before"), ended.number("flags_after"));
        }
    }
}

#[test]
fn the_kernel_gives_up_when_the_model_says() {
    let Some(namespace) = with_drop_rule("the_kernel_gives_up_when_the_model_says") else { return };
    // A namespace begins with the kernel's defaults; the sysctl is missing before Linux 6.5.
    let linear = namespace.run("sh", &["-c", "cat /proc/sys/net/ipv4/tcp_syn_linear_timeouts 2>/dev/null || echo 0"]);
    let linear = linear.trim().parse().expect("a number");
    for retries in [1, 2] {
        let ended = connect(&namespace, &["127.0.0.1", "5005"], Some(&[("SYNCNT", &retries.to_string())]));
        let model = Duration::from_secs(syn::gives_up_after(retries, linear));
        assert_on_time(ended.milliseconds("took"), model, LATE);
        assert_eq!(ended.number("errno"), libc::ETIMEDOUT.into());
    }
    // Whichever ends first: the count of SYNs here, the timeout below.
    let both = |retries, timeout| {
        connect(&namespace, &["127.0.0.1", "5006"], Some(&[("SYNCNT", retries), ("CONNECT_TIMEOUT", timeout)]))
    };
    let model = Duration::from_secs(syn::gives_up_after(1, linear));
    assert_on_time(both("1", "15").milliseconds("took"), model, LATE);
    assert_on_time(both("4", "0.5").milliseconds("took"), Duration::from_millis(500), LATE);
}
