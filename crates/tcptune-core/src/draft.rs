//! From the sources of settings to [`Settings`]: the system's file, the user's file, the environment; the last one wins.

use std::collections::BTreeMap;
use std::fmt;

use serde::Deserialize;
use serde::de::{Deserializer, MapAccess, Visitor};

use crate::config;
use crate::diagnostic::{Diagnostic, Subject, unknown};
use crate::grammar::{self, Entry, Rule, Scope, Setting, Word};
use crate::option::{self, OPTIONS, Own, Target};
use crate::rules::{Conditions, Rules, glob};
use crate::settings::{InForce, LIBRARY, PREFIX, Profile, Settings};
use crate::value::Value;

/// So many unknown names get the nearest one: looking for it takes time, and an environment may hold thousands.
const SUGGESTIONS: usize = 16;

/// So many mistakes in one text are reported; then it is not what it is taken for, and may be large.
const MISTAKES: usize = 100;

/// Where settings come from, in the order in which they are laid over each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// [`config::SYSTEM`].
    System,
    /// The file of `TCPTUNE_CONFIG`.
    Config,
    /// A variable.
    Environment,
}

/// Where a setting or a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which source.
    pub source: Source,
    /// Counted from 1; 0 for a variable of its own.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

impl Place {
    fn of(source: Source, word: Word<'_>) -> Self {
        Self { source, line: word.line, column: word.column }
    }
}

/// A value that a source gives; `None` is `default`: that of the kernel.
#[derive(Clone, Debug)]
struct Chosen {
    value: Option<Value>,
    place: Place,
}

/// What is known of the process when its rules are settled.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The names by which it can be called: of its executable, and of a script that it runs.
    pub names: Vec<String>,
    /// Its effective user id.
    pub uid: u32,
}

impl Process {
    fn is_one_of(&self, programs: &[impl AsRef<str>]) -> bool {
        programs.iter().any(|program| self.names.iter().any(|name| glob(program.as_ref(), name)))
    }

    fn is_in(&self, scope: &Scope) -> bool {
        (scope.programs.is_empty() || self.is_one_of(&scope.programs))
            && (scope.uids.is_empty() || scope.uids.contains(&self.uid))
    }
}

/// The kernel's own keepalive times, which `USER_TIMEOUT=auto` needs where a setting does not say.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveDefaults {
    /// `net.ipv4.tcp_keepalive_time`, seconds.
    pub idle: i64,
    /// `net.ipv4.tcp_keepalive_intvl`, seconds.
    pub interval: i64,
    /// `net.ipv4.tcp_keepalive_probes`.
    pub count: i64,
}

/// One value for a row, in the order of the rows: there are many rows, and few are set.
#[derive(Clone, Debug)]
struct Values(Vec<(usize, Chosen)>);

impl Values {
    const fn none() -> Self {
        Self(Vec::new())
    }

    fn get(&self, row: usize) -> Option<&Chosen> {
        self.0.iter().find(|(other, _)| *other == row).map(|(_, chosen)| chosen)
    }

    fn int(&self, name: &str) -> Option<i64> {
        match self.get(row(name))?.value {
            Some(Value::Int(n)) => Some(n),
            _ => None,
        }
    }

    /// The row of the same socket option that has a value: TOS and DSCP, or an alias.
    fn rival(&self, row: usize) -> Option<usize> {
        self.0.iter().map(|(other, _)| *other).find(|other| say_the_same(*other, row))
    }

    /// Over what was said before.
    fn put(&mut self, row: usize, chosen: Chosen) {
        self.0.retain(|(other, _)| !say_the_same(*other, row));
        let at = self.0.partition_point(|(other, _)| *other < row);
        self.0.insert(at, (row, chosen));
    }

    /// With others over them.
    fn under(&self, over: Self) -> Self {
        let room = self.0.len() + over.0.len() + 1; // and an implied one
        let mut values = Self(Vec::with_capacity(room));
        values.0.extend_from_slice(&self.0);
        over.0.into_iter().for_each(|(row, chosen)| values.put(row, chosen));
        values
    }
}

fn say_the_same(a: usize, b: usize) -> bool {
    match (OPTIONS[a].target, OPTIONS[b].target) {
        _ if a == b => true,
        (Target::Socket(a), Target::Socket(b)) => a.is(b.level, b.optname) && a.stages.contains(b.stages),
        _ => false,
    }
}

fn row(name: &str) -> usize {
    option::find(name).map_or(usize::MAX, |(row, _)| row)
}

struct DraftRule {
    place: Place,
    conditions: Conditions,
    scope: Scope,
    /// Over what holds without the rule; none: `off`.
    over: Option<Values>,
}

struct Layer {
    values: Values,
    rules: Vec<DraftRule>,
}

impl Layer {
    const fn empty() -> Self {
        Self { values: Values::none(), rules: Vec::new() }
    }
}

/// What all sources say, before it is settled.
pub struct Draft {
    layers: [Layer; 3],
    config: Option<String>,
    wrong: Vec<Diagnostic>,
    suggested: usize,
}

impl Draft {
    /// Of the environment's variables, given without their prefix.
    #[must_use]
    pub fn new(variables: Vec<(String, String)>) -> Self {
        let mut draft = Self { layers: [const { Layer::empty() }; 3], config: None, wrong: Vec::new(), suggested: 0 };
        // envy lower-cases names, so only those that a row has may reach it.
        let (known, unknown): (Vec<_>, Vec<_>) =
            variables.into_iter().partition(|(name, _)| option::find(name).is_some());
        let unknown: BTreeMap<_, _> = unknown.into_iter().rev().filter(|(name, _)| name != LIBRARY).collect();
        for (name, text) in unknown {
            let problem = draft.unknown(&name, |near| format!("{PREFIX}{near}"));
            draft.wrong.push(Diagnostic::variable(&name, &text, problem));
        }
        let known: Variables = envy::from_iter(known).unwrap_or_default();
        for (name, text) in known.0 {
            draft.variable(&name.to_ascii_uppercase(), &text);
        }
        draft
    }

    fn unknown(&mut self, name: &str, shown: fn(&str) -> String) -> String {
        self.suggested += 1;
        unknown(name, self.suggested <= SUGGESTIONS, shown)
    }

    fn variable(&mut self, name: &str, text: &str) {
        let Some((row, opt)) = option::find(name) else { return };
        let place = Place { source: Source::Environment, line: 0, column: 0 };
        let mut values = std::mem::replace(&mut self.layers[Source::Environment as usize].values, Values::none());
        match (assign(&mut values, row, text, place), opt.target) {
            (Err(problem), _) => self.wrong.push(Diagnostic::variable(name, text, problem)),
            (Ok(()), Target::Own(Own::Rules)) if !is_unset(text.trim_ascii()) => self.text(Source::Environment, text),
            (Ok(()), Target::Own(Own::Config)) => {
                self.config = Some(text.trim_ascii().to_owned()).filter(|path| !is_unset(path));
            }
            _ => {}
        }
        self.layers[Source::Environment as usize].values = values;
    }

    /// The file that `TCPTUNE_CONFIG` names.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// A file, as [`config::read`] has found it.
    pub fn file(&mut self, source: Source, text: Result<Option<String>, String>) {
        let problem = match text {
            Ok(Some(text)) => return self.text(source, &text),
            Ok(None) if source == Source::System => return,
            Ok(None) => "no such file".to_owned(),
            Err(problem) => problem,
        };
        let subject = Subject::File(self.name(source));
        self.wrong.push(Diagnostic { subject, text: String::new(), problem });
    }

    fn name(&self, source: Source) -> String {
        match source {
            Source::System => config::SYSTEM.to_owned(),
            Source::Config => self.config.clone().unwrap_or_default(),
            Source::Environment => format!("{PREFIX}RULES"),
        }
    }

    fn complain(&mut self, source: Source, word: Word<'_>, problem: String) {
        let subject = Subject::Place { source: self.name(source), line: word.line, column: word.column };
        self.wrong.push(Diagnostic { subject, text: word.text.to_owned(), problem });
    }

    fn text(&mut self, source: Source, text: &str) {
        let before = self.wrong.len();
        for entry in grammar::entries(text) {
            if self.wrong.len() - before >= MISTAKES {
                let word = match &entry {
                    Ok(Entry::Rule(rule)) => rule.word,
                    Ok(Entry::Setting(setting)) => setting.word,
                    Err(wrong) => wrong.word,
                };
                let problem = format!("{MISTAKES} mistakes before this; nothing from here on counts");
                return self.complain(source, word, problem);
            }
            match entry {
                Ok(Entry::Rule(rule)) => self.rule(source, rule),
                Ok(Entry::Setting(setting)) if source == Source::Environment => {
                    let problem = "expected a rule: MATCH=VALUE ... : SETTING=VALUE ...".to_owned();
                    self.complain(source, setting.word, problem);
                }
                Ok(Entry::Setting(setting)) => {
                    let mut values = std::mem::replace(&mut self.layers[source as usize].values, Values::none());
                    self.setting(source, setting, &mut values, |own| match own {
                        Own::Rules => {
                            Some("rules stand on lines of their own here: MATCH=VALUE ... : SETTING=VALUE ...")
                        }
                        Own::Config => Some("only as a variable: a file names no other"),
                        _ => None,
                    });
                    self.layers[source as usize].values = values;
                }
                Err(wrong) => self.complain(source, wrong.word, wrong.problem),
            }
        }
    }

    fn setting(
        &mut self,
        source: Source,
        setting: Setting<'_>,
        values: &mut Values,
        refused: impl Fn(Own) -> Option<&'static str>,
    ) {
        let name = setting.name.to_ascii_uppercase();
        let problem = match option::find(&name) {
            None => Some(self.unknown(&name, str::to_ascii_lowercase)),
            Some((row, opt)) => match opt.target {
                Target::Own(own) if refused(own).is_some() => refused(own).map(str::to_owned),
                _ => assign(values, row, setting.value, Place::of(source, setting.word)).err(),
            },
        };
        if let Some(problem) = problem {
            self.complain(source, setting.word, problem);
        }
    }

    fn rule(&mut self, source: Source, rule: Rule<'_>) {
        let Rule { word, conditions, scope, settings } = rule;
        let mut over = (!settings.is_empty()).then(Values::none);
        if let Some(values) = &mut over {
            for setting in settings {
                self.setting(source, setting, values, |own| match own {
                    Own::Mptcp if !conditions.is_empty() => {
                        Some("not beside dst, src, port or role: a socket is made before they are known")
                    }
                    _ if own.is_of_a_socket() => None,
                    _ => Some("holds for the whole process, not in a rule"),
                });
            }
        }
        let place = Place::of(source, word);
        self.layers[source as usize].rules.push(DraftRule { place, conditions, scope, over });
    }

    /// Settles what holds in this process. `process` and `kernel` are asked only where it matters.
    pub fn settle(
        mut self,
        process: impl FnOnce() -> Process,
        kernel: impl FnOnce() -> KeepaliveDefaults,
    ) -> (Settings, Vec<Diagnostic>) {
        let mut globals = Values::none();
        for layer in &mut self.layers {
            globals = globals.under(std::mem::replace(&mut layer.values, Values::none()));
        }
        let process = std::cell::LazyCell::new(process);
        let kernel = std::cell::LazyCell::new(kernel);
        let in_scope = |own: &str, wanted: bool| match globals.get(row(own)).and_then(|c| c.value.as_ref()) {
            Some(Value::Text(list)) => process.is_one_of(&list.split(',').map(str::trim).collect::<Vec<_>>()) == wanted,
            _ => true,
        };
        let in_scope = in_scope("ONLY_PROGRAMS", true) && in_scope("SKIP_PROGRAMS", false);

        let (profile, mut in_force) = self.finish(globals.clone(), &kernel, None);
        let mut profiles = vec![profile];
        let mut rules = Rules::default();
        let drafts = self.layers.each_mut().map(|layer| std::mem::take(&mut layer.rules));
        for rule in drafts.into_iter().rev().flatten() {
            let no_scope = rule.scope == Scope::default();
            if !in_scope || !(no_scope || process.is_in(&rule.scope)) {
                continue;
            }
            let values = rule.over.map_or(Values::none(), |over| globals.under(over));
            let Ok(index) = u32::try_from(profiles.len()) else { break };
            let (profile, of_rule) = self.finish(values, &kernel, Some(rule.place));
            profiles.push(profile);
            if rule.conditions.is_empty() {
                rules.end(index);
                if rules.is_empty() {
                    in_force = of_rule;
                }
                break; // no later rule is reached
            }
            rules.push(&rule.conditions, index);
        }
        let config = self.config.take();
        let own = |own: &str| globals.int(own).is_some_and(|n| n != 0);
        let settings = Settings {
            strict: own("STRICT"),
            disabled: own("DISABLE"),
            stats: own("STATS"),
            log: globals
                .int("LOG")
                .and_then(|i| log::LevelFilter::iter().nth(usize::try_from(i).ok()?))
                .unwrap_or(log::LevelFilter::Warn),
            log_file: match globals.get(row("LOG_FILE")).and_then(|c| c.value.clone()) {
                Some(Value::Text(path)) => Some(path),
                _ => None,
            },
            in_scope,
            in_force,
            config,
            profiles,
            rules,
        };
        (settings, self.wrong)
    }

    /// What follows from the values of a profile.
    fn finish(
        &mut self,
        mut values: Values,
        kernel: &dyn std::ops::Deref<Target = KeepaliveDefaults>,
        place: Option<Place>,
    ) -> (Profile, Vec<InForce>) {
        imply_keepalive(&mut values);
        if let Err((place, problem)) = resolve_auto(&mut values, kernel) {
            let word = Word { text: "user_timeout=auto", line: place.line, column: place.column };
            let told = self.wrong.len();
            match place.source {
                Source::Environment if place.line == 0 => {
                    self.wrong.push(Diagnostic::variable("USER_TIMEOUT", "auto", problem));
                }
                source => self.complain(source, word, problem),
            }
            // Where it is a global setting, each rule has it, too.
            if self.wrong[..told].contains(&self.wrong[told]) {
                self.wrong.truncate(told);
            }
        }
        let in_force: Vec<_> = values
            .0
            .into_iter()
            .filter_map(|(row, Chosen { value, place })| Some(InForce { row, value: value?, place }))
            .collect();
        (Profile::new(&in_force, place), in_force)
    }
}

fn is_unset(text: &str) -> bool {
    text.is_empty() || text.eq_ignore_ascii_case("default")
}

/// Takes a value as it is written; the error is for the operator.
fn assign(values: &mut Values, row: usize, text: &str, place: Place) -> Result<(), String> {
    let opt = &OPTIONS[row];
    let trimmed = text.trim_ascii();
    if trimmed.is_empty() {
        return Ok(());
    }
    let value = if is_unset(trimmed) {
        None
    } else {
        let value = opt.kind.parse(trimmed, opt.range);
        Some(value.ok_or_else(|| format!("not accepted; accepted: {}", opt.kind.accepted(opt.range)))?)
    };
    let rival = values.rival(row).filter(|rival| values.get(*rival).is_some_and(|chosen| chosen.value.is_some()));
    match rival {
        Some(_) if value.is_none() => Ok(()),
        Some(other) if other == row => Err(format!("{} is set twice; this one does not count", opt.name())),
        Some(other) => Err(format!("{} says the same, and counts", OPTIONS[other].name())),
        None => {
            values.put(row, Chosen { value, place });
            Ok(())
        }
    }
}

/// Keepalive times do nothing without `SO_KEEPALIVE` (tcp(7)), so any of them turns it on.
fn imply_keepalive(values: &mut Values) {
    let times = ["KEEPIDLE", "KEEPINTVL", "KEEPCNT"];
    let time = times.iter().find(|time| values.int(time).is_some()).and_then(|time| values.get(row(time)));
    if let (Some(time), None) = (time, values.int("KEEPALIVE")) {
        let place = time.place;
        values.put(row("KEEPALIVE"), Chosen { value: Some(Value::Int(1)), place });
    }
}

/// `USER_TIMEOUT=auto`: the time in which keepalive would notice a dead idle peer.
fn resolve_auto(
    values: &mut Values,
    kernel: &dyn std::ops::Deref<Target = KeepaliveDefaults>,
) -> Result<(), (Place, String)> {
    let row = row("USER_TIMEOUT");
    let Some(&Chosen { value: Some(Value::Auto), place }) = values.get(row) else { return Ok(()) };
    let own = ["KEEPIDLE", "KEEPINTVL", "KEEPCNT"].map(|name| values.int(name));
    let [idle, interval, count] = match own {
        [Some(idle), Some(interval), Some(count)] => [idle, interval, count],
        [idle, interval, count] => {
            [idle.unwrap_or(kernel.idle), interval.unwrap_or(kernel.interval), count.unwrap_or(kernel.count)]
        }
    };
    let ms = idle.saturating_add(interval.saturating_mul(count)).saturating_mul(1000).max(1);
    let fits = i32::try_from(ms).is_ok();
    values.put(row, Chosen { value: fits.then_some(Value::Int(ms)), place });
    if fits {
        Ok(())
    } else {
        let problem =
            format!("KEEPIDLE + KEEPINTVL × KEEPCNT is {ms}ms, more than the {}ms the kernel takes", i32::MAX);
        Err((place, problem))
    }
}

/// What envy hands over: every variable that a row has.
#[derive(Default)]
struct Variables(BTreeMap<String, String>);

impl<'de> Deserialize<'de> for Variables {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Collect;
        impl<'de> Visitor<'de> for Collect {
            type Value = Variables;

            fn expecting(&self, f: &mut fmt::Formatter) -> fmt::Result {
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
