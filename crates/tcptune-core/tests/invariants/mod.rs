//! What holds of any environment: the properties check it, and the fuzz target.

use std::collections::{BTreeMap, BTreeSet};

use tcptune_core::diagnostic::Diagnostic;
use tcptune_core::option::{self, OPTIONS, Own, Target};
use tcptune_core::settings::{KeepaliveDefaults, PREFIX, Settings};
use tcptune_core::value::Value;

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
    let (settings, wrong) = Settings::parse(variables.to_vec(), || kernel);
    values_are_in_range(&settings);
    wrong.iter().for_each(is_one_short_line);

    let mut given = BTreeMap::new();
    for (name, text) in variables {
        given.entry(name.as_str()).or_insert(text.as_str()); // as with getenv(3)
    }
    let mut named = BTreeSet::new();
    for diagnostic in &wrong {
        let name = diagnostic.variable.strip_prefix(PREFIX).filter(|name| given.contains_key(name));
        assert!(named.insert(name), "named twice: {diagnostic}");
        assert!(name.is_some(), "names no variable that is there: {diagnostic}");
    }
    for (name, text) in &given {
        let named = named.contains(&Some(*name));
        let Some((row, opt)) = option::find(name) else {
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
                let mut rivals = opt.aliases.iter().chain([&opt.name]).filter(|n| *n != name && given.contains_key(*n));
                assert!(value == Value::Auto || rivals.next().is_some(), "{name}={text:?} is right, but named");
            }
        }
    }
}

/// No value can reach the kernel, or a deadline, that its row does not allow.
fn values_are_in_range(settings: &Settings) {
    let mut last = None;
    for planned in &settings.plan {
        let opt = &OPTIONS[planned.row];
        assert!((opt.range.0..=opt.range.1).contains(&planned.value), "{planned:?}");
        let (level, optname, stages) = (planned.level, planned.optname, planned.stages);
        assert_eq!(opt.target, Target::Socket { level, optname, stages });
        assert!(last < Some(planned.row), "once, and in the order of the table: {settings:?}");
        last = Some(planned.row);
    }
    assert!(settings.connect_timeout.is_none_or(|ms| ms > 0), "{settings:?}");
}

fn is_one_short_line(diagnostic: &Diagnostic) {
    let line = diagnostic.to_string();
    assert!(line.starts_with(PREFIX), "{line:?}");
    assert!(!line.contains(char::is_control), "{line:?}");
    assert!(line.len() <= MESSAGE, "{} bytes: {line:?}", line.len());
}

/// Whether the settings say `value` where the row says.
fn in_force(settings: &Settings, row: usize, value: &Value) -> bool {
    let planned = settings.plan.iter().find(|p| p.row == row).map(|p| p.value);
    match (OPTIONS[row].target, value) {
        (Target::Socket { .. }, Value::Int(n)) => planned == Some(*n),
        (Target::Socket { .. }, Value::Auto) => planned.is_some(),
        (Target::Own(Own::ConnectTimeout), Value::Int(n)) => settings.connect_timeout == Some(*n),
        (Target::Own(Own::Precedence), Value::Int(n)) => settings.precedence as i32 == *n,
        (Target::Own(Own::Strict), Value::Int(n)) => i32::from(settings.strict) == *n,
        (Target::Own(Own::Disable), Value::Int(n)) => i32::from(settings.disabled) == *n,
        (Target::Own(Own::Log), Value::Int(n)) => settings.log as usize == usize::try_from(*n).expect("an index"),
        (Target::Own(Own::LogFile), Value::Path(path)) => settings.log_file.as_ref() == Some(path),
        _ => false,
    }
}
