//! Sources of settings: what each says, and which one wins.

use std::net::SocketAddr;

use tcptune_core::options::table::{OPTIONS, find};
use tcptune_core::options::value::Value;
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::profile::none_on_accept;
use tcptune_core::settings::profile::{Backlog, Precedence, Profile};
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::settings::settled::Settings;
use tcptune_core::settings::source::{KeepaliveDefaults, Process, Source};
use tcptune_core::sockets::apply;

const KERNEL: KeepaliveDefaults = KeepaliveDefaults { idle: 7200, interval: 75, count: 9 };

/// What the sources say.
#[derive(Default)]
struct Said<'a> {
    system: Option<&'a str>,
    config: Option<&'a str>,
    variables: &'a [(&'a str, &'a str)],
}

fn process() -> Process {
    Process { names: vec!["python3.11".to_owned(), "server.py".to_owned()], uid: 33 }
}

fn settle(said: &Said) -> (Settings, Vec<String>) {
    let mut variables = said.variables.to_vec();
    if said.config.is_some() {
        variables.push(("CONFIG", "/home/op/my.conf"));
    }
    let mut draft = Draft::new(&variables);
    draft.file(Source::System, Ok(said.system.map(str::to_owned)));
    if said.config.is_some() {
        draft.file(Source::Config, Ok(said.config.map(str::to_owned)));
    }
    let (settings, wrong) = draft.settle(process, || KERNEL);
    (settings, wrong.iter().map(ToString::to_string).collect())
}

fn parse(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
    settle(&Said { variables, ..Said::default() })
}

fn value(profile: &Profile, name: &str) -> Option<i64> {
    match profile.plan().into_iter().find(|p| OPTIONS[p.row].name() == name)?.value() {
        Value::Int(n) => Some(n),
        _ => None,
    }
}

fn global(settings: &Settings, name: &str) -> Option<i64> {
    value(&settings.profiles[0], name)
}

fn to<'a>(settings: &'a Settings, peer: &str) -> &'a Profile {
    let peer: SocketAddr = peer.parse().expect("an address");
    settings.profile(settings.rules.find(&Endpoint::Client(peer), || None)).expect("a profile")
}

#[test]
fn nothing_set_leaves_all_alone() {
    let (settings, wrong) = parse(&[]);
    assert!(settings.leaves_all_alone() && wrong.is_empty());
    assert_eq!(settings.log, log::LevelFilter::Warn);
}

#[test]
fn a_keepalive_time_turns_keepalive_on_unless_it_is_off() {
    for name in ["KEEPIDLE", "KEEPINTVL", "KEEPCNT"] {
        assert_eq!(global(&parse(&[(name, "5")]).0, "KEEPALIVE"), Some(1), "{name}");
        assert_eq!(global(&parse(&[(name, "5"), ("KEEPALIVE", "off")]).0, "KEEPALIVE"), Some(0), "{name}");
    }
    assert_eq!(global(&parse(&[("NODELAY", "1")]).0, "KEEPALIVE"), None);
}

#[test]
fn empty_and_default_are_unset() {
    let (settings, wrong) = parse(&[("KEEPIDLE", ""), ("SYNCNT", "Default"), ("CONNECT_TIMEOUT", "  ")]);
    assert!(settings.leaves_all_alone() && wrong.is_empty());
}

#[test]
fn a_wrong_variable_is_named_and_the_others_hold() {
    let (settings, wrong) = parse(&[("KEEPIDLE", "abc"), ("SYNCNT", "3"), ("KEEPIDEL", "5"), ("KEEPCNT", "128")]);
    assert_eq!(
        wrong,
        [
            "TCPTUNE_KEEPIDEL=5: no such setting; did you mean TCPTUNE_KEEPIDLE?",
            "TCPTUNE_KEEPCNT=128: not accepted; accepted: 1 to 127",
            "TCPTUNE_KEEPIDLE=abc: not accepted; accepted: 1s to 32767s (ms s m h; a bare number is s)",
        ]
    );
    assert_eq!(settings.profiles[0].plan().len(), 1);
    assert_eq!(global(&settings, "SYNCNT"), Some(3));
}

#[test]
fn auto_is_idle_and_interval_times_count() {
    let times = [("USER_TIMEOUT", "auto"), ("KEEPIDLE", "60"), ("KEEPINTVL", "10"), ("KEEPCNT", "3")];
    assert_eq!(global(&parse(&times).0, "USER_TIMEOUT"), Some(90_000));
    assert_eq!(global(&parse(&times[..2]).0, "USER_TIMEOUT"), Some((60 + 75 * 9) * 1000));
    let (settings, wrong) =
        parse(&[("USER_TIMEOUT", "auto"), ("KEEPIDLE", "9h"), ("KEEPINTVL", "9h"), ("KEEPCNT", "127")]);
    assert_eq!((global(&settings, "USER_TIMEOUT"), wrong.len()), (None, 1), "{wrong:?}");
    // In a rule, of the times that hold there.
    let (settings, _) = settle(&Said {
        config: Some("keepidle = 60\nuser_timeout = auto\ndst=::1 : keepidle=10 keepintvl=1 keepcnt=5"),
        ..Said::default()
    });
    assert_eq!(value(to(&settings, "[::1]:1"), "USER_TIMEOUT"), Some(15_000));
    assert_eq!(global(&settings, "USER_TIMEOUT"), Some((60 + 75 * 9) * 1000));
}

#[test]
fn own_settings() {
    let (settings, wrong) = parse(&[
        ("CONNECT_TIMEOUT", "3.5"),
        ("PRECEDENCE", "program"),
        ("BACKLOG", "min:64"),
        ("STRICT", "1"),
        ("STATS", "on"),
        ("LOG", "debug"),
        ("LOG_FILE", "/x y"),
        ("DISABLE", "no"),
    ]);
    assert!(wrong.is_empty(), "{wrong:?}");
    let profile = &settings.profiles[0];
    assert_eq!((profile.connect_timeout(), profile.precedence()), (Some(3500), Precedence::Program));
    assert_eq!(profile.backlog().map(|b: Backlog| [0, 64, 100, -1].map(|n| b.instead_of(n))), Some([64, 64, 100, -1]));
    assert!(settings.strict && settings.stats && !settings.disabled);
    assert_eq!((settings.log, settings.log_file.as_deref()), (log::LevelFilter::Debug, Some("/x y")));
}

#[test]
fn the_first_of_two_variables_counts_and_two_names_of_one_option_clash() {
    let (settings, wrong) = parse(&[("SYNCNT", "2"), ("SYNCNT", "9")]);
    assert_eq!((global(&settings, "SYNCNT"), wrong.len()), (Some(2), 0));
    for (first, second) in [("SYNCNT", "SYN_RETRIES"), ("TOS", "DSCP")] {
        let (settings, wrong) = parse(&[(first, "8"), (second, "9")]);
        assert_eq!((settings.profiles[0].plan().len(), wrong.len()), (1, 1), "one of them holds, the other is named");
    }
    let (settings, wrong) = parse(&[("RECV_TIMEOUT", "1"), ("ACCEPT_TIMEOUT", "2")]);
    assert_eq!((settings.profiles[0].plan().len(), wrong.len()), (2, 0), "not of the same socket");
}

#[test]
fn an_accept_timeout_is_taken_off_accepted_sockets() {
    let at_accept = |variables: &[_]| {
        let accept = tcptune_core::options::phase::Stages::ACCEPT;
        let profile = parse(variables).0.profiles.remove(0);
        let mut values = Vec::new();
        apply::each(&profile, accept, |planned| values.push(planned.value()));
        if profile.inherits_too_much() {
            values.extend(none_on_accept().map(|planned| planned.value()));
        }
        values
    };
    assert_eq!(at_accept(&[("ACCEPT_TIMEOUT", "2")]), [Value::Int(0)]);
    assert_eq!(at_accept(&[("ACCEPT_TIMEOUT", "2"), ("RECV_TIMEOUT", "3")]), [Value::Int(3000)]);
    assert_eq!(at_accept(&[("SYNCNT", "2")]), []);
}

#[test]
fn the_last_source_wins_and_default_takes_away() {
    let said = Said {
        system: Some("keepidle = 1\nkeepintvl = 1\nkeepcnt = 1\nsyncnt = 1\ntos = 16\nlog = debug"),
        config: Some("keepidle = 2\nkeepintvl = 2\nkeepcnt = default\ndscp = ef"),
        variables: &[("KEEPIDLE", "3"), ("SYNCNT", "default"), ("KEEPINTVL", "")],
    };
    let (settings, wrong) = settle(&said);
    assert!(wrong.is_empty(), "{wrong:?}");
    for (name, wanted) in [
        ("KEEPIDLE", Some(3)),
        ("KEEPINTVL", Some(2)),
        ("KEEPCNT", None),
        ("SYNCNT", None),
        ("DSCP", Some(184)),
        ("TOS", None),
    ] {
        assert_eq!(global(&settings, name), wanted, "{name}");
    }
    assert_eq!(settings.log, log::LevelFilter::Debug);
    let place = |name| {
        let (row, _) = find(name).expect("a row");
        settings.in_force.iter().find(|said| said.row == row).map(|said| (said.place.source, said.place.line))
    };
    assert_eq!(place("KEEPIDLE"), Some((Source::Environment, 0)));
    assert_eq!(place("KEEPINTVL"), Some((Source::Config, 2)));
    assert_eq!(place("LOG"), Some((Source::System, 6)));
}

#[test]
fn rules_of_the_last_source_come_first_and_lie_over_what_holds() {
    let said = Said {
        system: Some("dst=10.0.0.0/8 : syncnt=1\ndst=11.0.0.0/8 : syncnt=1"),
        config: Some("keepidle = 60\ndst=10.0.0.0/8 : syncnt=2 keepidle=default keepalive=default"),
        variables: &[
            ("RULES", "dst=10.1.0.0/16 : syncnt=3 connect_timeout=2s; dst=10.2.0.0/16 : off"),
            ("NODELAY", "on"),
        ],
    };
    let (settings, wrong) = settle(&said);
    assert!(wrong.is_empty(), "{wrong:?}");
    let shown = |peer| {
        let profile = to(&settings, peer);
        ["SYNCNT", "KEEPIDLE", "KEEPALIVE", "NODELAY"].map(|name| value(profile, name))
    };
    assert_eq!(shown("10.1.0.1:1"), [Some(3), Some(60), Some(1), Some(1)]);
    assert_eq!(to(&settings, "10.1.0.1:1").connect_timeout(), Some(2000));
    assert!(to(&settings, "10.2.0.1:1").is_empty());
    assert_eq!(shown("10.3.0.1:1"), [Some(2), None, None, Some(1)]);
    assert_eq!(shown("11.0.0.1:1"), [Some(1), Some(60), Some(1), Some(1)]);
    assert_eq!(shown("12.0.0.1:1"), [None, Some(60), Some(1), Some(1)]);
    let place = to(&settings, "10.2.0.1:1").rule.expect("a rule");
    assert_eq!(settings.at(place).to_string(), "TCPTUNE_RULES:1:48");
}

#[test]
fn rules_of_the_process_are_settled_at_once() {
    for (rule, holds) in [
        ("program=server.py : syncnt=3", true),
        ("program=python* : syncnt=3", true),
        ("program=curl,python3.11 uid=0,33 : syncnt=3", true),
        ("program=python uid=33 : syncnt=3", false),
        ("uid=34 : syncnt=3", false),
    ] {
        let (settings, wrong) = parse(&[("RULES", rule), ("SYNCNT", "1")]);
        assert!(wrong.is_empty(), "{wrong:?}");
        let everywhere = settings.only_profile().expect("no rule looks at addresses");
        assert_eq!(value(everywhere, "SYNCNT"), Some(if holds { 3 } else { 1 }), "{rule}");
        assert!(settings.in_force.iter().any(|said| said.value == Value::Int(if holds { 3 } else { 1 })), "{rule}");
    }
    let (settings, _) = parse(&[("RULES", "dst=::1 : off; program=* : syncnt=3; dst=::2 : syncnt=4")]);
    assert_eq!(settings.only_profile().map(|_| ()), None);
    assert_eq!(value(to(&settings, "[::2]:1"), "SYNCNT"), Some(3), "a rule for all ends the list");
    assert_eq!(settings.profiles.len(), 3);
}

#[test]
fn programs_out_of_scope() {
    for (name, list, in_scope) in [
        ("ONLY_PROGRAMS", "curl, server.py", true),
        ("ONLY_PROGRAMS", "curl", false),
        ("ONLY_PROGRAMS", "default", true),
        ("SKIP_PROGRAMS", "python*", false),
        ("SKIP_PROGRAMS", "python", true),
    ] {
        let (settings, _) = parse(&[(name, list), ("SYNCNT", "1"), ("RULES", "dst=::1 : off")]);
        assert_eq!((settings.in_scope, settings.leaves_all_alone()), (in_scope, !in_scope), "{name}={list}");
    }
}

#[test]
fn what_is_wrong_in_a_text_is_named_with_its_place() {
    let said = Said {
        system: Some("keepidle = 5\n\nkeepidel = 5\n  keepcnt = 128 # too many\nrules = x\nconfig = /x"),
        config: Some("dst=::1 : keepidel=5 log=debug\nport=1 : mptcp=on\nnonsense\nsyncnt = 1\nsyncnt = 2"),
        variables: &[("RULES", "dst=db.example.com : off; dst=::1 : syncnt=999; syncnt = 2"), ("RETRIES", "5")],
    };
    let (_, wrong) = settle(&said);
    let begin = [
        "TCPTUNE_RETRIES=5: no such setting: no socket option; SYNCNT",
        "TCPTUNE_RULES:1:1: dst=db.example.com: a host name is resolved before connect",
        "TCPTUNE_RULES:1:37: syncnt=999: not accepted; accepted: 1 to 127",
        "TCPTUNE_RULES:1:49: syncnt = 2: expected a rule",
        "/etc/tcptune.conf:3:1: keepidel = 5: no such setting; did you mean keepidle?",
        "/etc/tcptune.conf:4:3: keepcnt = 128: not accepted; accepted: 1 to 127",
        "/etc/tcptune.conf:5:1: rules = x: rules stand on lines of their own",
        "/etc/tcptune.conf:6:1: config = /x: only as a variable",
        "/home/op/my.conf:1:11: keepidel=5: no such setting; did you mean keepidle?",
        "/home/op/my.conf:1:22: log=debug: holds for the whole process, not in a rule",
        "/home/op/my.conf:2:10: mptcp=on: not beside dst, src, port or role",
        "/home/op/my.conf:3:1: nonsense: expected NAME = VALUE, or a rule",
        "/home/op/my.conf:5:1: syncnt = 2: SYNCNT is set twice",
    ];
    assert_eq!(wrong.len(), begin.len(), "{wrong:#?}");
    for (line, begin) in wrong.iter().zip(begin) {
        assert!(line.starts_with(begin), "{line}\n  is not\n{begin}");
    }
}

#[test]
fn the_examples_of_the_documentation_are_right() {
    let text = include_str!("../../../docs/rules.md");
    let (_, example) = text.split_once("```conf\n").expect("a file");
    let (example, _) = example.split_once("```").expect("its end");
    let (settings, wrong) = settle(&Said { system: Some(example), ..Said::default() });
    assert!(wrong.is_empty() && settings.profiles.len() == 4, "{wrong:?}: curl's rule is not this process's");
    let (_, rules) = text.split_once("TCPTUNE_RULES='").expect("rules");
    let (settings, wrong) = parse(&[("RULES", rules.split_once('\'').expect("their end").0)]);
    assert!(wrong.is_empty() && settings.profiles.len() == 3, "{wrong:?}");
}
