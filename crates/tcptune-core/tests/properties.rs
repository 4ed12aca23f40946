//! Properties of the settings: any environment gives settings, or messages that name the variables.

mod invariants;

use std::fs;
use std::net::IpAddr;
use std::time::{Duration, Instant};

use ipnet::IpNet;
use proptest::collection::vec;
use proptest::prelude::*;
use proptest::sample::select;
use proptest::strategy::ValueTree;
use proptest::test_runner::TestRunner;
use tcptune_core::options::table::{OPTIONS, Opt};
use tcptune_core::options::value::{Kind, OFF, Value};
use tcptune_core::settings::rules::{Conditions, Endpoint, Role, Rules};
use tcptune_core::settings::source::KeepaliveDefaults;

use invariants::{KERNEL, hold, text_holds, variables};

fn names() -> Vec<&'static str> {
    OPTIONS.iter().flat_map(Opt::names).collect()
}

const WORDS: &[&str] = &[
    "",
    " ",
    "default",
    "auto",
    "on",
    "Off",
    "yes",
    "0",
    "1",
    " 1 ",
    "env",
    "program",
    "debug",
    "off",
    "/x y",
    "2147483647",
    "2147483648",
    "-1",
    "1e9",
    "inf",
    "nan",
    "0.0000000001h",
    "9h",
    "127",
    "32767s",
    "0x10",
    "１",
    "0xff",
    "4G",
    "min:5",
    "ef",
    "cubic",
    "127.0.0.1",
    "::1, 10.0.0.1",
    "dst=::1 : off",
];

fn option() -> impl Strategy<Value = &'static Opt> {
    (0..OPTIONS.len()).prop_map(|row| &OPTIONS[row])
}

/// Characters that a terminal would obey, and others that take part in no value.
fn garbage() -> impl Strategy<Value = String> {
    prop_oneof![any::<String>(), vec(prop::char::range('\0', '\u{a0}'), 0..80).prop_map(|c| c.into_iter().collect())]
}

fn name() -> impl Strategy<Value = String> {
    let typo = (select(names()), any::<prop::sample::Index>(), any::<char>()).prop_map(|(name, at, c)| {
        let mut chars: Vec<_> = name.chars().collect();
        let at = at.index(chars.len());
        chars[at] = c;
        chars.into_iter().collect()
    });
    prop_oneof![
        6 => select(names()).prop_map(str::to_owned),
        1 => select(names()).prop_map(str::to_lowercase),
        1 => typo,
        1 => "[A-Z_]{0,50}",
        1 => garbage(),
    ]
}

fn value() -> impl Strategy<Value = String> {
    prop_oneof![
        3 => "[0-9]{1,6}(\\.[0-9]{0,12})?(ms|s|m|h|d|us|K|M|G)?",
        2 => select(WORDS).prop_map(str::to_owned),
        1 => "[-+.0-9eEinfa ]{0,30}(ns|ms|s|m|h| s)?",
        2 => garbage(),
    ]
}

fn kernel() -> impl Strategy<Value = KeepaliveDefaults> {
    let number = || prop_oneof![0..=1i64, 0..=i64::MAX];
    (number(), number(), number()).prop_map(|(idle, interval, count)| KeepaliveDefaults { idle, interval, count })
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1000, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn each_variable_takes_effect_or_is_named(variables in vec((name(), value()), 0..30)) {
        hold(&variables, KERNEL);
    }

    #[test]
    fn auto_stays_in_range_whatever_the_kernel_says(
        times in vec((select(vec!["KEEPIDLE", "KEEPINTVL", "KEEPCNT"]), value()), 0..3),
        kernel in kernel(),
    ) {
        let auto = std::iter::once(("USER_TIMEOUT", "auto".to_owned()));
        let variables: Vec<_> = auto.chain(times).map(|(name, value)| (name.to_owned(), value)).collect();
        hold(&variables, kernel);
    }

    #[test]
    fn what_parses_is_in_range(option in option(), text in value()) {
        let (low, high) = option.range;
        if let Some(Value::Int(n)) = option.kind.parse(&text, option.range) {
            prop_assert!(n == OFF || low <= n && n <= high, "{}: {text:?} is {n}", option.name());
        }
    }

    #[test]
    fn what_is_shown_parses_to_the_same(option in option(), at in any::<u32>()) {
        let (low, high) = (i128::from(option.range.0), i128::from(option.range.1));
        let n = Value::Int(i64::try_from(low + i128::from(at) % (high - low + 1)).expect("in range"));
        let numbers = !matches!(option.kind, Kind::Text(_) | Kind::Name | Kind::Addresses);
        let whole = !matches!((option.kind, &n), (Kind::TrafficClass { shift }, Value::Int(n)) if n % (1 << shift) != 0);
        if numbers && whole {
            prop_assert_eq!(option.kind.parse(&option.kind.show(&n).to_string(), option.range), Some(n));
        }
    }

    #[test]
    fn the_first_rule_whose_conditions_all_hold(
        list in vec(conditions(), 0..40), peer in address(), own in address(), port in 0..4u16, client in any::<bool>(),
    ) {
        let mut rules = Rules::default();
        list.iter().zip(1..).for_each(|(conditions, profile)| rules.push(conditions, profile));
        let own = if client && own.is_ipv4() != peer.is_ipv4() { peer } else { own };
        let endpoint =
            if client { Endpoint::Client((peer, port).into()) } else { Endpoint::Server((own, port).into()) };
        let first = list.iter().position(|conditions| all_hold(conditions, endpoint, own)).map_or(0, |at| at + 1);
        prop_assert_eq!(usize::try_from(rules.find(&endpoint, || Some(own))), Ok(first), "{:?} {}", list, endpoint);
    }

    #[test]
    fn any_text_of_rules_is_taken_or_named(text in rules()) {
        text_holds(&text);
    }
}

/// A few addresses, and networks with many of them in.
fn address() -> impl Strategy<Value = IpAddr> {
    let list = ["10.0.0.1", "10.0.0.2", "10.1.0.1", "127.0.0.1", "0.0.0.0", "::1", "::", "fd00::1", "fd00::2"];
    select(list.map(|text| text.parse().expect("an address")).to_vec())
}

fn network() -> impl Strategy<Value = IpNet> {
    (address(), select(vec![0, 1, 2, 16, 128])).prop_map(|(address, fewer)| {
        let longest = IpNet::from(address).max_prefix_len();
        IpNet::new(address, longest.saturating_sub(fewer)).expect("a network")
    })
}

fn conditions() -> impl Strategy<Value = Conditions> {
    let ports = vec((0..4u16, 0..4u16).prop_map(|(a, b)| (a.min(b), a.max(b))), 0..3);
    let role = select(vec![None, None, Some(Role::Client), Some(Role::Server)]);
    let all = (vec(network(), 0..3), vec(network(), 0..3), ports, role);
    all.prop_map(|(dst, src, ports, role)| Conditions { dst, src, ports, role })
}

/// The same, as the words of a rule say it.
fn all_hold(conditions: &Conditions, endpoint: Endpoint, own: IpAddr) -> bool {
    let (role, port, peer) = match endpoint {
        Endpoint::Client(peer) => (Role::Client, peer.port(), Some(peer.ip())),
        Endpoint::Server(own) => (Role::Server, own.port(), None),
    };
    let Conditions { dst, src, ports, role: wanted } = conditions;
    wanted.is_none_or(|wanted| wanted == role)
        && (dst.is_empty() || peer.is_some_and(|peer| dst.iter().any(|net| net.contains(&peer))))
        && (src.is_empty() || src.iter().any(|net| net.contains(&own)))
        && (ports.is_empty() || ports.iter().any(|(first, last)| (*first..=*last).contains(&port)))
}

/// Rules that are nearly right.
fn rules() -> impl Strategy<Value = String> {
    let words = vec![
        "dst=",
        "src=",
        "port=",
        "role=client",
        "role=server",
        "program=",
        "uid=0",
        ":",
        ";",
        "\n",
        "#",
        "off",
        ",",
        "=",
        "10.0.0.0/8",
        "::1",
        "::/0",
        "::ffff:1.2.3.4/100",
        "127.0.0.1",
        "80",
        "80-90",
        "curl",
        "*",
        "keepidle=5",
        "é",
        "connect_timeout=2s",
        "user_timeout=auto",
        "mptcp=on",
        "log=debug",
        "keepidel=1",
        "default",
        " ",
        "  ",
    ];
    let word = prop_oneof![9 => select(words).prop_map(str::to_owned), 1 => garbage()];
    (vec((word, any::<bool>()), 0..40))
        .prop_map(|words| words.into_iter().map(|(word, space)| if space { word + " " } else { word }).collect())
}

/// The files of a fuzz target's corpus.
fn corpus(target: &str) -> impl Iterator<Item = Vec<u8>> {
    let directory = format!("{}/../../fuzz/corpus/{target}", env!("CARGO_MANIFEST_DIR"));
    fs::read_dir(directory).expect("the corpus").map(|file| fs::read(file.expect("an entry").path()).expect("a file"))
}

#[test]
fn the_corpus_of_environments() {
    let mut entries = 0;
    for file in corpus("environment") {
        let variables = variables(&file);
        entries += variables.len();
        hold(&variables, KERNEL);
    }
    assert!(entries > 40, "only {entries} variables");
}

#[test]
fn the_corpus_of_rules() {
    let mut lines = 0;
    for file in corpus("rules") {
        let text = String::from_utf8(file).expect("UTF-8, as the fuzz target has it");
        lines += text.lines().count();
        text_holds(&text);
    }
    assert!(lines > 40, "only {lines} lines");
}

#[test]
fn ten_thousand_variables() {
    let mut runner = TestRunner::deterministic();
    let variables = vec((name(), value()), 10_000).new_tree(&mut runner).expect("a tree").current();
    hold(&variables, KERNEL);
}

#[test]
fn a_megabyte_as_value_or_name_is_read_in_no_time() {
    let started = Instant::now();
    for text in ["9", "0", ".", " ", "-", "a", "\u{1b}", "\u{1f600}", "1h", "0."] {
        let long = text.repeat((1 << 20) / text.len());
        let mut variables: Vec<_> = names().into_iter().map(|name| (name.to_owned(), long.clone())).collect();
        variables.push((long, "1".to_owned()));
        hold(&variables, KERNEL);
    }
    // 3 s of processor time, 10 for each name; a parser that takes time with the square of the length would need hours.
    assert!(started.elapsed() < Duration::from_secs(60), "{:?}", started.elapsed());
}
