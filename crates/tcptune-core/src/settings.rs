//! Settings: parsed once, before main, and never changed.

use std::collections::BTreeMap;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::diagnostic::Diagnostic;
use crate::option::{self, OPTIONS, Opt, Own, Stages, Target};
use crate::value::Value;

/// What the names of all variables begin with.
pub const PREFIX: &str = "TCPTUNE_";

/// So many unknown names get the nearest one: looking for it takes time, and an environment may hold thousands.
const SUGGESTIONS: usize = 16;

/// A socket option with the value it is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Index of its row in [`OPTIONS`].
    pub row: usize,
    /// Level of setsockopt(2).
    pub level: libc::c_int,
    /// Option name of setsockopt(2).
    pub optname: libc::c_int,
    /// The value.
    pub value: libc::c_int,
    /// The intercepted calls that apply it.
    pub stages: Stages,
}

impl Planned {
    /// Its row.
    #[must_use]
    pub fn option(&self) -> Option<&'static Opt> {
        OPTIONS.get(self.row)
    }
}

/// Which value wins where the program sets an option that is set here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precedence {
    /// That of the environment: a program's own successful setsockopt is followed by ours.
    #[default]
    Env,
    /// The program's: ours are applied once, to the new socket.
    Program,
}

/// All settings in force.
#[derive(Clone, Debug)]
pub struct Settings {
    /// The socket options, in the order of the table.
    pub plan: Vec<Planned>,
    /// Bound on establishing a connection, in milliseconds.
    pub connect_timeout: Option<i32>,
    /// Which value wins.
    pub precedence: Precedence,
    /// Whether a wrong setting keeps the program from starting.
    pub strict: bool,
    /// Whether everything is left alone.
    pub disabled: bool,
    /// How much is reported.
    pub log: log::LevelFilter,
    /// Where to, if not to standard error.
    pub log_file: Option<String>,
}

/// The kernel's own keepalive times, which `USER_TIMEOUT=auto` needs where a setting does not say.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveDefaults {
    /// `net.ipv4.tcp_keepalive_time`, seconds.
    pub idle: i32,
    /// `net.ipv4.tcp_keepalive_intvl`, seconds.
    pub interval: i32,
    /// `net.ipv4.tcp_keepalive_probes`.
    pub count: i32,
}

impl Settings {
    /// Parses variables, given without their prefix. What is wrong with one is in the list, and that one is left out.
    ///
    /// `kernel` is asked only where `USER_TIMEOUT=auto` needs it.
    pub fn parse(
        variables: Vec<(String, String)>,
        kernel: impl FnOnce() -> KeepaliveDefaults,
    ) -> (Self, Vec<Diagnostic>) {
        let mut wrong = Vec::new();
        let mut values = [const { None }; OPTIONS.len()];
        // envy lower-cases names, so only those that a row has may reach it.
        let (known, unknown): (Vec<_>, Vec<_>) =
            variables.into_iter().partition(|(name, _)| option::find(name).is_some());
        let unknown: BTreeMap<_, _> = unknown.into_iter().rev().collect();
        let named = unknown.iter().enumerate();
        wrong.extend(named.map(|(n, (name, text))| Diagnostic::unknown(name, text, n < SUGGESTIONS)));
        let variables: Variables = envy::from_iter(known).unwrap_or_default();
        for (name, text) in variables.0 {
            let name = name.to_ascii_uppercase();
            let Some((row, opt)) = option::find(&name) else { continue };
            let trimmed = text.trim_ascii();
            if trimmed.is_empty() || trimmed.eq_ignore_ascii_case("default") {
                continue;
            }
            match opt.kind.parse(trimmed, opt.range) {
                None => {
                    let problem = format!("not accepted; accepted: {}", opt.kind.accepted(opt.range));
                    wrong.push(Diagnostic::new(&name, &text, problem));
                }
                Some(_) if values[row].is_some() => {
                    let problem = format!("{PREFIX}{} is set under two names; this one does not count", opt.name);
                    wrong.push(Diagnostic::new(&name, &text, problem));
                }
                Some(value) => values[row] = Some(value),
            }
        }
        imply_keepalive(&mut values);
        resolve_auto(&mut values, kernel, &mut wrong);
        (Self::from_values(values), wrong)
    }

    /// The options that a stage applies.
    pub fn at(&self, stage: Stages) -> impl Iterator<Item = &Planned> {
        self.plan.iter().filter(move |p| p.stages.contains(stage))
    }

    /// The plan for an option, if it is set here.
    #[must_use]
    pub fn planned(&self, level: libc::c_int, optname: libc::c_int) -> Option<&Planned> {
        self.plan.iter().find(|p| p.level == level && p.optname == optname)
    }

    /// Whether no socket could be treated differently than without tcptune.
    #[must_use]
    pub fn leaves_all_alone(&self) -> bool {
        self.disabled || (self.plan.is_empty() && self.connect_timeout.is_none())
    }

    fn from_values(values: [Option<Value>; OPTIONS.len()]) -> Self {
        let mut settings = Self {
            plan: Vec::new(),
            connect_timeout: None,
            precedence: Precedence::Env,
            strict: false,
            disabled: false,
            log: log::LevelFilter::Warn,
            log_file: None,
        };
        for (row, (opt, value)) in OPTIONS.iter().zip(values).enumerate() {
            match (opt.target, value) {
                (Target::Socket { level, optname, stages }, Some(Value::Int(value))) => {
                    settings.plan.push(Planned { row, level, optname, value, stages });
                }
                (Target::Own(own), Some(value)) => settings.set_own(own, value),
                _ => {}
            }
        }
        settings
    }

    fn set_own(&mut self, own: Own, value: Value) {
        match (own, value) {
            (Own::ConnectTimeout, Value::Int(ms)) => self.connect_timeout = Some(ms),
            (Own::Precedence, Value::Int(i)) => {
                self.precedence = if i == 0 { Precedence::Env } else { Precedence::Program };
            }
            (Own::Strict, Value::Int(i)) => self.strict = i != 0,
            (Own::Disable, Value::Int(i)) => self.disabled = i != 0,
            (Own::Log, Value::Int(i)) => {
                self.log = usize::try_from(i).ok().and_then(|i| log::LevelFilter::iter().nth(i)).unwrap_or(self.log);
            }
            (Own::LogFile, Value::Path(path)) => self.log_file = Some(path),
            _ => {} // no kind of an own setting gives another value
        }
    }
}

fn row(name: &str) -> usize {
    option::find(name).map_or(usize::MAX, |(row, _)| row)
}

type Values = [Option<Value>; OPTIONS.len()];

fn int(values: &Values, name: &str) -> Option<i32> {
    match values.get(row(name)) {
        Some(Some(Value::Int(n))) => Some(*n),
        _ => None,
    }
}

fn put(values: &mut Values, name: &str, value: Option<Value>) {
    if let Some(slot) = values.get_mut(row(name)) {
        *slot = value;
    }
}

/// Keepalive times do nothing without `SO_KEEPALIVE` (tcp(7)), so any of them turns it on.
fn imply_keepalive(values: &mut Values) {
    let times = ["KEEPIDLE", "KEEPINTVL", "KEEPCNT"];
    if int(values, "KEEPALIVE").is_none() && times.iter().any(|t| int(values, t).is_some()) {
        put(values, "KEEPALIVE", Some(Value::Int(1)));
    }
}

/// `USER_TIMEOUT=auto`: the time in which keepalive would notice a dead idle peer.
fn resolve_auto(values: &mut Values, kernel: impl FnOnce() -> KeepaliveDefaults, wrong: &mut Vec<Diagnostic>) {
    if values.get(row("USER_TIMEOUT")) != Some(&Some(Value::Auto)) {
        return;
    }
    let own = ["KEEPIDLE", "KEEPINTVL", "KEEPCNT"].map(|name| int(values, name));
    let [idle, interval, count] = match own {
        [Some(idle), Some(interval), Some(count)] => [idle, interval, count],
        [idle, interval, count] => {
            let kernel = kernel();
            [idle.unwrap_or(kernel.idle), interval.unwrap_or(kernel.interval), count.unwrap_or(kernel.count)]
        }
    };
    let ms = (i64::from(idle) + i64::from(interval) * i64::from(count)).saturating_mul(1000).max(1);
    let value = i32::try_from(ms).ok().map(Value::Int);
    if value.is_none() {
        let problem =
            format!("KEEPIDLE + KEEPINTVL × KEEPCNT is {ms}ms, more than the {}ms the kernel takes", i32::MAX);
        wrong.push(Diagnostic::new("USER_TIMEOUT", "auto", problem));
    }
    put(values, "USER_TIMEOUT", value);
}

/// What envy hands over: every variable, known or not.
#[derive(Default)]
struct Variables(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Variables;

            fn expecting(&self, f: &mut std::fmt::Formatter) -> std::fmt::Result {
                f.write_str("environment variables")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Variables, A::Error> {
                let mut variables = BTreeMap::new();
                while let Some((name, value)) = map.next_entry::<String, String>()? {
                    variables.entry(name).or_insert(value); // as with getenv(3), the first of one name counts
                }
                Ok(Variables(variables))
            }
        }
        deserializer.deserialize_map(Collect)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const KERNEL: KeepaliveDefaults = KeepaliveDefaults { idle: 7200, interval: 75, count: 9 };

    fn parse(variables: &[(&str, &str)]) -> (Settings, Vec<String>) {
        let variables = variables.iter().map(|(n, v)| ((*n).to_owned(), (*v).to_owned())).collect();
        let (settings, wrong) = Settings::parse(variables, || KERNEL);
        (settings, wrong.iter().map(ToString::to_string).collect())
    }

    fn value(settings: &Settings, name: &str) -> Option<i32> {
        settings.plan.iter().find(|p| OPTIONS[p.row].name == name).map(|p| p.value)
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
            assert_eq!(value(&parse(&[(name, "5")]).0, "KEEPALIVE"), Some(1), "{name}");
            assert_eq!(value(&parse(&[(name, "5"), ("KEEPALIVE", "off")]).0, "KEEPALIVE"), Some(0), "{name}");
        }
        assert_eq!(value(&parse(&[("NODELAY", "1")]).0, "KEEPALIVE"), None);
    }

    #[test]
    fn empty_and_default_are_unset() {
        let (settings, wrong) = parse(&[("KEEPIDLE", ""), ("SYNCNT", "Default"), ("CONNECT_TIMEOUT", "  ")]);
        assert!(settings.leaves_all_alone() && wrong.is_empty());
    }

    #[test]
    fn a_wrong_one_is_named_and_the_others_hold() {
        let (settings, wrong) = parse(&[("KEEPIDLE", "abc"), ("SYNCNT", "3"), ("KEEPIDEL", "5"), ("KEEPCNT", "128")]);
        assert_eq!(
            wrong,
            [
                "TCPTUNE_KEEPIDEL=5: no such setting; did you mean TCPTUNE_KEEPIDLE?",
                "TCPTUNE_KEEPCNT=128: not accepted; accepted: 1 to 127",
                "TCPTUNE_KEEPIDLE=abc: not accepted; accepted: 1s to 32767s (ms s m h; a bare number is s)",
            ]
        );
        assert_eq!(settings.plan.len(), 1);
        assert_eq!(value(&settings, "SYNCNT"), Some(3));
    }

    #[test]
    fn auto_is_idle_and_interval_times_count() {
        let (settings, _) =
            parse(&[("USER_TIMEOUT", "auto"), ("KEEPIDLE", "60"), ("KEEPINTVL", "10"), ("KEEPCNT", "3")]);
        assert_eq!(value(&settings, "USER_TIMEOUT"), Some(90_000));
        let (settings, _) = parse(&[("USER_TIMEOUT", "auto"), ("KEEPIDLE", "60")]);
        assert_eq!(value(&settings, "USER_TIMEOUT"), Some((60 + 75 * 9) * 1000));
        let (settings, wrong) =
            parse(&[("USER_TIMEOUT", "auto"), ("KEEPIDLE", "9h"), ("KEEPINTVL", "9h"), ("KEEPCNT", "127")]);
        assert_eq!(value(&settings, "USER_TIMEOUT"), None);
        assert_eq!(wrong.len(), 1, "{wrong:?}");
    }

    #[test]
    fn own_settings() {
        let (settings, wrong) = parse(&[
            ("CONNECT_TIMEOUT", "3.5"),
            ("PRECEDENCE", "program"),
            ("STRICT", "1"),
            ("LOG", "debug"),
            ("LOG_FILE", "/x y"),
            ("DISABLE", "no"),
        ]);
        assert!(wrong.is_empty(), "{wrong:?}");
        assert_eq!(settings.connect_timeout, Some(3500));
        assert_eq!(settings.precedence, Precedence::Program);
        assert!(settings.strict && !settings.disabled);
        assert_eq!(settings.log, log::LevelFilter::Debug);
        assert_eq!(settings.log_file.as_deref(), Some("/x y"));
    }

    #[test]
    fn the_first_of_two_variables_counts_and_two_names_clash() {
        let (settings, wrong) = parse(&[("SYNCNT", "2"), ("SYNCNT", "9")]);
        assert_eq!((value(&settings, "SYNCNT"), wrong.len()), (Some(2), 0));
        let (settings, wrong) = parse(&[("SYNCNT", "2"), ("SYN_RETRIES", "9")]);
        assert_eq!((settings.plan.len(), wrong.len()), (1, 1), "one of them holds, the other is named");
    }
}
