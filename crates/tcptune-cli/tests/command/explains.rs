//! `tcptune explain`: where settings stand. What it says of times is in figures.rs, how it looks in screens.

use std::fs;

use serde_json::Value;

use crate::harness::{directory, said, tcptune};

/// The line of a setting.
fn line<'a>(text: &'a str, setting: &str) -> &'a str {
    let is_it = |line: &&str| line.split(' ').next() == Some(setting);
    text.lines().find(is_it).unwrap_or_else(|| panic!("no {setting} in {text}"))
}

#[test]
fn each_setting_has_its_source() {
    let directory = directory();
    let file = directory.path().join("settings");
    fs::write(&file, "# first\nttl = 9\nkeepcnt = 3\n").expect("written");
    let args = ["explain", "--keepcnt", "2", "--profile", "fast-fail", "--config"];
    let said = said(tcptune(args).arg(&file).env("TCPTUNE_KEEPALIVE_TIME", "7").env("TCPTUNE_SYN_RETRIES", "1"));
    let file = format!("{}:2", file.display());
    for (setting, from) in [
        ("KEEPALIVE", "implied by KEEPIDLE"),
        ("KEEPIDLE", "profile fast-fail"),
        ("KEEPCNT", "--keepcnt"),
        ("SYNCNT", "TCPTUNE_SYN_RETRIES"),
        ("TTL", &file),
    ] {
        assert!(line(said.ok(), setting).ends_with(from), "{setting}: {said:?}");
    }
    assert_eq!(line(said.ok(), "KEEPIDLE").split_whitespace().nth(1), Some("5s"), "the profile wins over the variable");
}

#[test]
fn a_wrong_variable_is_said_and_ignored_as_by_the_library() {
    let said = said(tcptune(["explain", "--json", "--keepcnt", "2"]).env("TCPTUNE_KEEPIDLE", "x"));
    let explained: Value = serde_json::from_str(said.ok()).expect("JSON");
    assert!(explained["wrong"][0].as_str().is_some_and(|wrong| wrong.starts_with("TCPTUNE_KEEPIDLE=x: not accepted")));
    let names: Vec<_> = explained["settings"].as_array().expect("settings").iter().map(|one| &one["name"]).collect();
    assert_eq!(names, ["KEEPALIVE", "KEEPCNT"]);
}

#[test]
fn what_a_rule_shares_with_the_rest_is_said_once() {
    let args = ["explain", "--linger", "0", "--rule", "port=1 : nodelay=on cork=on"];
    let said = said(&mut tcptune(args));
    let count = |text| said.ok().matches(text).count();
    assert_eq!((count("LINGER=0: close resets"), count("CORK=on wins over NODELAY=on")), (1, 1), "{said:?}");
}

#[test]
fn programs_in_scope() {
    let explain = |program: &str| {
        let args = ["explain", "--keepidle", "5", "--only-programs", "nginx", "--rule", "program=nginx : ttl=9"];
        said(tcptune(args).args(["--program", program])).ok().to_owned()
    };
    assert!(explain("curl").contains("leaves this program alone") && !explain("curl").contains("Rule program="));
    assert!(!explain("nginx").contains("leaves this program alone") && explain("nginx").contains("Rule program=nginx"));
}
