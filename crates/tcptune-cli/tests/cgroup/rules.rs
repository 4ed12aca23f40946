//! Rules become comparisons in the kernel.

use std::fmt::Write;
use std::fs;

use crate::group::{Group, listener};
use crate::harness::{Ended, real_python};

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
    let shown = group.tcptune("attached", &[]).stdout;
    assert!(rules.iter().all(|rule| shown.lines().any(|line| line.ends_with(rule.as_str()))), "{shown}");
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
        let said: Vec<i64> = serde_json::from_value(Ended::of(&mut command).json()).expect("numbers");
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
fn an_accepted_socket_has_the_rule_of_its_listener() {
    let Some(group) = Group::or_skip("an_accepted_socket_has_the_rule_of_its_listener") else { return };
    let script = "import socket\nl = socket.create_server(('0.0.0.0', 0))\nc = socket.create_connection(('127.0.0.1', \
                  l.getsockname()[1]))\na, _ = l.accept()\nfor s in (c, a):\n  s.setsockopt(6, socket.TCP_KEEPIDLE, 300)\n\
                  print([s.getsockopt(6, socket.TCP_KEEPIDLE) for s in (l, c, a)])";
    let said = || {
        let mut command = crate::harness::python(script);
        group.enter(&mut command);
        serde_json::from_value::<Vec<i64>>(Ended::of(&mut command).json()).expect("numbers")
    };
    // The listener is at every address, the accepted socket at one of the rule's.
    group.attach(&["--rule", "role=server src=127.0.0.1 : keepidle=22", "--keepidle", "60"]);
    assert_eq!(said(), [60, 60, 60]);
    group.attach(&["--rule", "role=server src=0.0.0.0 : keepidle=22", "--keepidle", "60"]);
    assert_eq!(said(), [22, 60, 22]);
    group.attach(&["--rule", "role=client : off", "--keepidle", "60"]);
    assert_eq!(said(), [60, 300, 60]);
}

#[test]
fn a_rule_for_a_user() {
    let Some(group) = Group::or_skip("a_rule_for_a_user") else { return };
    let rules =
        ["uid=65534 dst=127.0.0.0/8 : keepidle=11", "uid=65534,65533 : keepidle=12", "dst=127.0.0.0/8 : keepidle=13"];
    let words: Vec<_> = rules.iter().flat_map(|rule| ["--rule", rule]).collect();
    let ended = group.tcptune("attach", &[&words[..], &["--keepidle", "60", "--reuseaddr", "on"]].concat());
    if ended.stderr.contains("rules with uid= take Linux 6.16") {
        println!("skipped: a_rule_for_a_user: {}", ended.stderr.trim());
        return;
    }
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let script = "import os, socket\nl = socket.create_server(('127.0.0.1', 0))\nc = socket.create_connection(l.getsockname())\n\
                  a, _ = l.accept()\nfor s in (c, a):\n  s.setsockopt(6, socket.TCP_KEEPIDLE, 300)\n\
                  print([s.getsockopt(6, socket.TCP_KEEPIDLE) for s in (l, c, a)])";
    for (uid, keepidle) in [("65534", [12, 11, 12]), ("65533", [12, 12, 12]), ("0", [60, 13, 60])] {
        let mut command = std::process::Command::new("setpriv");
        command.args(["--reuid", uid, "--clear-groups"]).arg(real_python()).args(["-I", "-c", script]);
        group.enter(&mut command);
        let said: Vec<i64> = serde_json::from_value(Ended::of(&mut command).json()).expect("numbers");
        assert_eq!(said, keepidle, "listener, client and accepted socket of {uid}");
    }
}

#[test]
fn rules_of_programs_are_refused() {
    let Some(group) = Group::or_skip("rules_of_programs_are_refused") else { return };
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(file.path(), "keepidle = 60\nuid=0 program=curl : keepidle=5\n").expect("written");
    let path = file.path().to_str().expect("UTF-8");
    for (args, place) in [
        (&["--rule", "program=curl : keepidle=5", "--keepidle", "60"][..], "--rule:1:1"),
        (&["--config", path], &format!("{path}:2:1")),
    ] {
        let ended = group.tcptune("attach", args);
        assert_eq!(ended.code, Some(2), "{ended:#?}");
        assert!(ended.stderr.contains(&format!("{place}: program= ")), "{ended:#?}");
        assert!(ended.stderr.contains("the name of a thread, which each may change"), "{ended:#?}");
        assert_eq!(group.attached(), None);
    }
}
