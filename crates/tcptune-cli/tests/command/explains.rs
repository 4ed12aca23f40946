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
    let nginx = explain("nginx");
    assert!(!nginx.contains("leaves this program alone") && line(&nginx, "TTL").ends_with("--rule:1:17"), "{nginx}");
}

#[test]
fn a_rule_of_a_program_is_what_holds() {
    let args = ["explain", "--program", "/opt/nginx", "--keepcnt", "9", "--rule"];
    let said = said(tcptune(args).arg("program=/opt/* : keepidle=33 keepintvl=2").env("TCPTUNE_KEEPIDLE", "60"));
    let text = said.ok();
    assert_eq!(line(text, "KEEPIDLE").split_whitespace().nth(1), Some("33s"), "{text}");
    assert!(line(text, "KEEPIDLE").ends_with("--rule:1:18"), "{text}");
    assert!(line(text, "KEEPCNT").ends_with("--keepcnt"), "{text}");
    // Times are those of the rule, and keepalive is on.
    assert!(text.contains("51s (33s + 2s × 9)"), "{text}");
}

#[test]
fn which_rule_wins_and_why_the_others_do_not() {
    let directory = directory();
    let file = directory.path().join("rules");
    fs::write(&file, "port=1-9 : ttl=9\ndst=10.0.0.0/8 : keepidle=5\nkeepcnt = 4\n").expect("written");
    let rules = [
        ("program=curl : off", "no: program is nginx"),
        ("uid=4711 : off", "no: uid is "),
        ("dst=10.9.0.0/16 : off", "no: dst is 10.1.2.3"),
        ("role=server : off", "no: role is client"),
        ("port=1-9 : ttl=9", "no: port is 5432"),
        ("dst=10.0.0.0/8 : keepidle=5", "wins"),
    ];
    let mut command = tcptune(["explain", "--program", "nginx", "--dst", "10.1.2.3", "--port", "5432", "--config"]);
    command.arg(&file);
    for (rule, _) in &rules[..4] {
        command.args(["--rule", rule]);
    }
    let plain = said(&mut command);
    for (rule, verdict) in rules {
        let line = plain.ok().lines().find(|line| line.contains(rule)).unwrap_or_else(|| panic!("{rule}: {plain:?}"));
        assert!(line.contains(verdict), "{verdict}: {line}");
    }
    assert!(plain.ok().contains("idle connection, dead peer"), "what holds then: {plain:?}");
    let json: Value = serde_json::from_str(said(command.arg("--json")).ok()).expect("JSON");
    let verdicts: Vec<_> =
        json["connects_to"]["rules"].as_array().expect("rules").iter().map(|one| &one["verdict"]).collect();
    assert_eq!(verdicts, ["no", "no", "no", "no", "no", "wins"]);
    assert_eq!(json["of_peer"]["times"]["dead_idle_peer_ms"], 1000 * (5 + 75 * 4), "{json:#}");
    let none = said(&mut tcptune(["explain", "--dst", "::1", "--rule", "dst=10.0.0.0/8 : off"]));
    assert!(none.ok().contains("none of them: what holds without a rule"), "{none:?}");
    assert_eq!(said(&mut tcptune(["explain", "--port", "1"])).code, Some(2), "of which address?");
    let any = said(&mut tcptune(["explain", "--dst", "10.1.2.3", "--rule", "port=80 : off"]));
    let is_said = |part| any.stdout.lines().any(|line| line.ends_with(part));
    assert!(is_said("Connects to 10.1.2.3") && is_said("no: port is not known, see --port"), "{any:?}");
}

#[test]
fn values_that_are_hardly_meant() {
    let directory = directory();
    for (args, words) in [
        (["--user-timeout", "30"], "was 30s meant?"),
        (["--keepidle", "2"], "was 2m meant?"),
        (["--log-file", "/nosuch/directory/log"], "there is no directory /nosuch/directory"),
    ] {
        for subcommand in [&["run"][..], &["env"], &["explain"], &["apply"]] {
            let process = std::process::id().to_string();
            let rest: &[&str] = match subcommand {
                ["run"] => &["true"],
                ["apply"] if args[0] == "--log-file" => continue,
                ["apply"] => &["--dry-run", &process],
                _ => &[],
            };
            let said = said(&mut tcptune(subcommand.iter().chain(&args).chain(rest)));
            assert!(said.stderr.contains(words) && said.stderr.contains(args[0]), "{subcommand:?}: {said:?}");
        }
    }
    assert_eq!(said(&mut tcptune(["env", "--user-timeout", "30s", "--keepidle", "60"])).stderr, "");
    // In a file names have no prefix, and a byte order mark is none of the first name.
    let file = directory.path().join("settings");
    fs::write(&file, "\u{feff}keepidle = 7\nTCPTUNE_KEEPINTVL=10\n").expect("written");
    let refused = said(tcptune(["env", "--config"]).arg(&file));
    assert!(refused.refused(2).contains("without TCPTUNE_ it is keepintvl"), "{refused:?}");
    assert!(!refused.stderr.contains("keepidle"), "{refused:?}");
}

#[test]
fn what_one_tries_first() {
    let version = said(&mut tcptune(["version"]));
    assert_eq!(version.ok(), said(&mut tcptune(["--version"])).ok());
    assert!(said(&mut tcptune(["help"])).ok().contains("Usage: tcptune"));
    assert!(said(&mut tcptune(["help", "run"])).ok().contains("--keepidle"));
    let order = said(&mut tcptune(["--profile", "fast-fail", "explain"]));
    assert!(order.refused(127).contains("a subcommand comes before its flags: tcptune explain"), "{order:?}");
}
