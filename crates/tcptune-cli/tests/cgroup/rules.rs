//! Rules become comparisons in the kernel.

use std::fmt::Write;
use std::fs;

use crate::group::{Group, listener};

#[test]
fn the_first_rule_that_matches_holds() {
    let Some(group) = Group::or_skip("the_first_rule_that_matches_holds") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let (_v6, port_v6) = listener("::1");
    let rules = [
        format!("dst=127.0.0.0/8 port={port} src=127.0.0.9 : keepidle=11"),
        format!("dst=10.0.0.0/8,127.0.0.0/9 port=1-2,{port} role=client : keepidle=12"),
        "dst=127.0.0.0/8 : keepidle=13".to_owned(),
        format!("dst=::1 port={port_v6} : keepidle=14 precedence=program connect_timeout=1s"),
        "dst=::/0 : off".to_owned(),
    ];
    let words: Vec<_> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
    group.attach(&[&words[..], &["--keepidle", "60", "--user-timeout", "9s"]].concat());
    let of = |ip: &str, port: &str, words: &[&str]| {
        let said = group.client(&[&[ip, port], words].concat());
        (said["keepidle"].as_i64().unwrap_or(0), said["user_timeout"].as_i64().unwrap_or(0))
    };
    assert_eq!(of("127.0.0.1", &port, &[]), (12, 9000));
    assert_eq!(of("::ffff:127.0.0.1", &port, &[]), (12, 9000), "a mapped address is the IPv4 address");
    assert_eq!(of("127.200.0.1", &port, &[]), (13, 9000), "not in the /9; it refuses, but has its options");
    assert_eq!(of("::1", &port_v6, &["idle=300"]), (300, 9000), "the program's own value wins under this rule");
    assert_eq!(of("::1", &port_v6, &["late_idle=300"]), (300, 9000));
    assert_eq!(of("::1", &port_v6, &[]), (14, 9000));
    assert_eq!(of("127.0.0.1", &port, &["late_idle=300"]), (12, 9000));
}

#[test]
fn rules_for_listeners() {
    let Some(group) = Group::or_skip("rules_for_listeners") else { return };
    let port = crate::hole::refusing_port();
    let rules = [format!("role=server port={port} : keepidle=21"), "role=server src=::1 : keepidle=22".to_owned()];
    group.attach(&["--rule", &rules[0], "--rule", &rules[1], "--keepidle", "60"]);
    for (ip, port, keepidle) in [("127.0.0.1", port, 21), ("127.0.0.1", 0, 60), ("::1", 0, 22), ("::1", port, 21)] {
        let script = format!(
            "import socket\nl = socket.create_server(({ip:?}, {port}), family=socket.AF_INET6 if ':' in {ip:?} else \
             socket.AF_INET)\nc = socket.create_connection(l.getsockname()[:2])\na, _ = l.accept()\n\
             print([s.getsockopt(6, socket.TCP_KEEPIDLE) for s in (l, c, a)])"
        );
        let mut command = crate::harness::python(&script);
        group.enter(&mut command);
        let said: Vec<i64> = serde_json::from_value(crate::harness::Ended::of(&mut command).json()).expect("numbers");
        assert_eq!(said, [keepidle, 60, keepidle], "{ip} {port}");
    }
}

#[test]
fn a_thousand_rules_load_and_the_last_one_holds() {
    let Some(group) = Group::or_skip("a_thousand_rules_load_and_the_last_one_holds") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let mut text = String::new();
    for n in 0..999 {
        let (a, b) = (n / 250, n % 250);
        writeln!(text, "dst=10.{a}.{b}.0/24,fd00:{n}::/32 port={} : keepidle={}", 1000 + n, 1 + n).expect("written");
    }
    writeln!(text, "dst=127.0.0.1 port={port} : keepidle=1234").expect("written");
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), text).expect("written");
    group.attach(&["--config", file.path().to_str().expect("UTF-8"), "--connect-timeout", "400ms"]);
    assert_eq!(group.client(&["127.0.0.1", &port])["keepidle"], 1234);
    assert_eq!(group.attached().expect("attached")["rules"].as_array().map(Vec::len), Some(1000));
}

#[test]
fn rules_of_programs_and_users_are_refused() {
    let Some(group) = Group::or_skip("rules_of_programs_and_users_are_refused") else { return };
    for rule in ["program=curl : keepidle=5", "uid=0 dst=127.0.0.1 : keepidle=5"] {
        let ended = group.tcptune("attach", &["--rule", rule, "--keepidle", "60"]);
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains("--rule:1:1: program= and uid="), "{ended:#?}");
        assert_eq!(group.attached(), None);
    }
}
