//! What holds of any environment: the properties check it, and the fuzz target.

use std::collections::{BTreeMap, BTreeSet};

use tcptune_core::options::phase::Stages;
use tcptune_core::options::table::{self, OPTIONS, Opt, Own, PREFIX, Target};
use tcptune_core::options::value::{Kind, OFF, Value};
use tcptune_core::settings::diagnostic::{Diagnostic, Subject};
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::profile::{Backlog, Profile};
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::settings::settle;
use tcptune_core::settings::settled::Settings;
use tcptune_core::settings::source::{KeepaliveDefaults, Process, Source};

/// Room for a message in the shim's line of 512 bytes, behind `tcptune[4194304]: warn: `.
const MESSAGE: usize = 488;

/// The kernel's defaults.
pub const KERNEL: KeepaliveDefaults = KeepaliveDefaults { idle: 7200, interval: 75, count: 9 };

/// Entries `NAME=value` without the prefix, each ended by a NUL as in `/proc/PID/environ`, taken as the shim takes them.
pub fn variables(environment: &[u8]) -> Vec<(String, String)> {
    let text = |bytes| String::from_utf8_lossy(bytes).into_owned();
    environment
        .split(|byte| *byte == 0)
        .filter_map(|entry| {
            let equals = entry.iter().position(|byte| *byte == b'=')?;
            Some((text(&entry[..equals]), text(&entry[equals + 1..])))
        })
        .collect()
}

/// Parses the variables (names without the prefix): each takes effect, or is named by a message.
pub fn hold(variables: &[(String, String)], kernel: KeepaliveDefaults) {
    let (settings, wrong) = settle::parse(variables, || kernel);
    settings.profiles.iter().for_each(values_are_in_range);
    wrong.iter().for_each(is_one_short_line);

    let mut given = BTreeMap::new();
    for (name, text) in variables {
        given.entry(name.as_str()).or_insert(text.as_str()); // as with getenv(3)
    }
    let mut named = BTreeSet::new();
    for diagnostic in &wrong {
        // Of the rules, several entries can be wrong.
        let Subject::Variable(variable) = &diagnostic.subject else {
            assert!(given.contains_key("RULES"), "names no variable that is there: {diagnostic}");
            continue;
        };
        let name = variable.strip_prefix(PREFIX).filter(|name| given.contains_key(name));
        assert!(named.insert(name), "named twice: {diagnostic}");
        assert!(name.is_some(), "names no variable that is there: {diagnostic}");
    }
    for (name, text) in &given {
        let named = named.contains(&Some(*name));
        let Some((row, opt)) = table::find(name) else {
            assert!(named, "{name:?} is no setting, and is not named");
            continue;
        };
        let text = text.trim_ascii();
        let unset = text.is_empty() || text.eq_ignore_ascii_case("default");
        match opt.kind.parse(text, opt.range).filter(|_| !unset) {
            None => assert_eq!(named, !unset, "{name}={text:?}"),
            Some(value) if !named => {
                assert!(in_force(&settings, row, &value), "{name}={text:?}: {settings:?}");
            }
            Some(value) => {
                let mut rivals = names_of_the_same(row).filter(|n| n != name && given.contains_key(n));
                assert!(value == Value::Auto || rivals.next().is_some(), "{name}={text:?} is right, but named");
            }
        }
    }
}

/// A text of rules, or of a file: no panic, and messages of one line.
pub fn text_holds(text: &str) {
    let mut draft = Draft::new(&[("RULES", text)]);
    draft.file(Source::Config, Ok(Some(text.to_owned())));
    let (settings, wrong) = draft.settle(Process::default, || KERNEL);
    settings.profiles.iter().for_each(values_are_in_range);
    wrong.iter().for_each(is_one_short_line);
    for peer in ["127.0.0.1:80", "[::1]:65535", "10.1.2.3:0"].map(|peer| peer.parse().expect("an address")) {
        for endpoint in [Endpoint::Client(peer), Endpoint::Server(peer)] {
            assert!(settings.profile(settings.rules.find(&endpoint, || Some(peer.ip()))).is_some());
        }
    }
}

/// The names by which a socket option, or a setting of ours, can be set.
fn names_of_the_same(row: usize) -> impl Iterator<Item = &'static str> {
    let same = move |other: &&Opt| match (OPTIONS[row].target, other.target) {
        (Target::Socket(a), Target::Socket(b)) => a.is(b.level, b.optname),
        (a, b) => a == b,
    };
    OPTIONS.iter().filter(same).flat_map(Opt::names)
}

/// No value can reach the kernel, or a deadline, that its row does not allow.
fn values_are_in_range(profile: &Profile) {
    let mut last = None;
    for planned in profile.plan() {
        let opt = &OPTIONS[planned.row];
        match planned.value() {
            Value::Int(OFF) => assert_eq!(opt.kind.parse("off", opt.range), Some(Value::Int(OFF)), "{planned:?}"),
            Value::Int(n) => assert!((opt.range.0..=opt.range.1).contains(&n), "{planned:?}"),
            _ => assert_eq!(opt.kind, Kind::Name),
        }
        assert_eq!(opt.target, Target::Socket(planned.option));
        assert_eq!(planned.option.wire.encode(&planned.value()), Some(planned.payload));
        let place = Some((!planned.option.stages.contains(Stages::SOCKET), planned.row));
        assert!(last < place, "once, those of socket(2) first, in the order of the table: {profile:?}");
        last = place;
    }
    assert!(profile.connect_timeout().is_none_or(|ms| ms > 0), "{profile:?}");
}

fn is_one_short_line(diagnostic: &Diagnostic) {
    let line = diagnostic.to_string();
    assert!(!line.contains(char::is_control), "{line:?}");
    assert!(line.len() <= MESSAGE, "{} bytes: {line:?}", line.len());
}

/// Whether the settings say `value` where the row says.
fn in_force(settings: &Settings, row: usize, value: &Value) -> bool {
    let said = settings.in_force.iter().find(|said| said.row == row).map(|said| &said.value);
    let (profile, number) = (&settings.profiles[0], |n: i64| i32::try_from(n).expect("an int"));
    let as_said = match (OPTIONS[row].target, value) {
        (Target::Socket(_), value) => {
            let planned = profile.plan().into_iter().find(|p| p.row == row);
            planned.is_some_and(|p| *value == Value::Auto || p.value() == *value)
        }
        (Target::Own(Own::ConnectTimeout), Value::Int(n)) => profile.connect_timeout() == Some(number(*n)),
        (Target::Own(Own::ClientTimeout), Value::Int(n)) => profile.limits().client.map(i64::from) == Some(*n),
        (Target::Own(Own::Backlog), Value::Int(n)) => profile.backlog() == Some(Backlog::Fixed(number(*n))),
        (Target::Own(Own::Backlog), Value::AtLeast(n)) => profile.backlog() == Some(Backlog::AtLeast(number(*n))),
        (Target::Own(Own::Source), Value::Addresses(source)) => profile.source() == *source,
        (Target::Own(Own::Mptcp), Value::Int(n)) => i64::from(profile.mptcp()) == *n,
        (Target::Own(Own::Precedence), Value::Int(n)) => profile.precedence() as i32 == number(*n),
        (Target::Own(Own::Strict), Value::Int(n)) => i64::from(settings.strict) == *n,
        (Target::Own(Own::Disable), Value::Int(n)) => i64::from(settings.disabled) == *n,
        (Target::Own(Own::Backend), Value::Int(n)) => settings.backend as i32 == number(*n),
        (Target::Own(Own::Stats), Value::Int(n)) => i64::from(settings.stats) == *n,
        (Target::Own(Own::Log), Value::Int(n)) => settings.log as i32 == number(*n),
        (Target::Own(Own::LogFile), Value::Text(path)) => settings.log_file.as_ref() == Some(path),
        (Target::Own(Own::Config), Value::Text(path)) => settings.config.as_ref() == Some(path),
        (Target::Own(Own::Profile | Own::Rules | Own::OnlyPrograms | Own::SkipPrograms), Value::Text(_)) => true,
        _ => false,
    };
    as_said && (said == Some(value) || *value == Value::Auto)
}
