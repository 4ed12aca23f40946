//! From the sources of settings to [`Settings`]: the system's file, the user's file, the environment; the last one wins.

use std::cell::LazyCell;
use std::cmp::Ordering;
use std::collections::BTreeMap;

use crate::chosen::{
    self, Chosen, DISABLE, LOG, LOG_FILE, ONLY_PROGRAMS, SKIP_PROGRAMS, STATS, STRICT, USER_TIMEOUT, Values, is_unset,
};
use crate::config;
use crate::diagnostic::{Diagnostic, Subject, unknown};
use crate::grammar::{self, Entry, Rule, Scope, Setting, Word};
use crate::option::{self, OPTIONS, Opt, Own, Target};
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

/// What is known of the process when its rules are settled.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The names by which it can be called: of its executable, and of a script that it runs.
    pub names: Vec<String>,
    /// Its effective user id.
    pub uid: u32,
}

impl Process {
    fn is(&self, program: &str) -> bool {
        self.names.iter().any(|name| glob(program, name))
    }

    fn is_in(&self, scope: &Scope) -> bool {
        (scope.programs.is_empty() || scope.programs.iter().any(|program| self.is(program)))
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
    pub fn new<T: AsRef<str>>(variables: &[(T, T)]) -> Self {
        let mut draft = Self { layers: [const { Layer::empty() }; 3], config: None, wrong: Vec::new(), suggested: 0 };
        let mut known: Vec<Variable> = Vec::with_capacity(variables.len().min(OPTIONS.len()));
        let mut unknown = Vec::new();
        for (name, text) in variables {
            let (name, text) = (name.as_ref(), text.as_ref());
            match option::find(name) {
                // In the order of the names in lower case. As with getenv(3), the first of one name counts.
                Some((row, opt)) => match known.binary_search_by(|other| in_lower_case(other.name, name)) {
                    Ok(_) => {}
                    Err(at) => known.insert(at, Variable { name, row, opt, text }),
                },
                None if name == LIBRARY => {}
                None => unknown.push((name, text)),
            }
        }
        if !unknown.is_empty() {
            draft.unknown_variables(unknown);
        }
        let [.., environment] = &mut draft.layers;
        environment.values = Values(Vec::with_capacity(known.len() + 1)); // and an implied one
        for variable in known {
            draft.variable(&variable);
        }
        draft
    }

    #[cold]
    fn unknown_variables(&mut self, variables: Vec<(&str, &str)>) {
        let variables: BTreeMap<_, _> = variables.into_iter().rev().collect();
        for (name, text) in variables {
            let problem = self.unknown(name, |near| format!("{PREFIX}{near}"));
            self.wrong.push(Diagnostic::variable(name, text, problem));
        }
    }

    #[cold]
    fn unknown(&mut self, name: &str, shown: fn(&str) -> String) -> String {
        self.suggested += 1;
        unknown(name, self.suggested <= SUGGESTIONS, shown)
    }

    fn variable(&mut self, variable: &Variable) {
        let Variable { name, row, opt, text } = *variable;
        let [.., environment] = &mut self.layers;
        let place = Place { source: Source::Environment, line: 0, column: 0 };
        if let Err(problem) = environment.values.assign(row, opt, text, place) {
            self.wrong.push(Diagnostic::variable(name, text, problem));
            return;
        }
        match opt.target {
            Target::Own(Own::Rules) if !is_unset(text.trim_ascii()) => self.text(Source::Environment, text),
            Target::Own(Own::Config) => {
                self.config = Some(text.trim_ascii().to_owned()).filter(|path| !is_unset(path));
            }
            _ => {}
        }
    }

    /// The file that `TCPTUNE_CONFIG` names.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// A file, as [`config::read`] has found it.
    pub fn file(&mut self, source: Source, text: Result<Option<String>, String>) {
        if source != Source::System || !matches!(text, Ok(None)) {
            self.some_file(source, text);
        }
    }

    #[cold]
    fn some_file(&mut self, source: Source, text: Result<Option<String>, String>) {
        let problem = match text {
            Ok(Some(text)) => return self.text(source, &text),
            Ok(None) => "no such file".to_owned(),
            Err(problem) => problem,
        };
        let subject = Subject::File(self.name(source));
        self.wrong.push(Diagnostic { subject, text: String::new(), problem });
    }

    #[cold]
    fn name(&self, source: Source) -> String {
        match source {
            Source::System => config::SYSTEM.to_owned(),
            Source::Config => self.config.clone().unwrap_or_default(),
            Source::Environment => format!("{PREFIX}RULES"),
        }
    }

    #[cold]
    fn complain(&mut self, source: Source, word: Word<'_>, problem: String) {
        let subject = Subject::Place { source: self.name(source), line: word.line, column: word.column };
        self.wrong.push(Diagnostic { subject, text: word.text.to_owned(), problem });
    }

    #[cold]
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
                    let mut values = std::mem::take(&mut self.layers[source as usize].values);
                    self.setting(source, setting, &mut values, Stands::File);
                    self.layers[source as usize].values = values;
                }
                Err(wrong) => self.complain(source, wrong.word, wrong.problem),
            }
        }
    }

    fn setting(&mut self, source: Source, setting: Setting<'_>, values: &mut Values, stands: Stands) {
        let name = setting.name.to_ascii_uppercase();
        let problem = match option::find(&name) {
            None => Some(self.unknown(&name, str::to_ascii_lowercase)),
            Some((row, opt)) => match stands.refuses(opt.target) {
                Some(problem) => Some(problem.to_owned()),
                None => values.assign(row, opt, setting.value, Place::of(source, setting.word)).err(),
            },
        };
        if let Some(problem) = problem {
            self.complain(source, setting.word, problem);
        }
    }

    fn rule(&mut self, source: Source, rule: Rule<'_>) {
        let Rule { word, conditions, scope, settings } = rule;
        let stands = if conditions.is_empty() { Stands::RuleOfAll } else { Stands::Rule };
        let mut over = (!settings.is_empty()).then(Values::none);
        if let Some(values) = &mut over {
            for setting in settings {
                self.setting(source, setting, values, stands);
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
            globals = globals.under(std::mem::take(&mut layer.values));
        }
        let (process, kernel) = (LazyCell::new(process), LazyCell::new(kernel));
        let (process, kernel) = (|| &*process, || *kernel);
        let is_in = |row| globals.text(row).map(|list| list.split(',').any(|program| process().is(program.trim())));
        let in_scope = is_in(ONLY_PROGRAMS) != Some(false) && is_in(SKIP_PROGRAMS) != Some(true);
        let own = |row| globals.int(row).is_some_and(|n| n != 0);
        let log = globals.int(LOG).and_then(|i| log::LevelFilter::iter().nth(usize::try_from(i).ok()?));
        let mut settings = Settings {
            strict: own(STRICT),
            disabled: own(DISABLE),
            stats: own(STATS),
            log: log.unwrap_or(log::LevelFilter::Warn),
            log_file: globals.text(LOG_FILE).map(str::to_owned),
            in_scope,
            in_force: Vec::new(),
            config: None,
            profiles: Vec::new(),
            rules: Rules::default(),
        };
        if in_scope && self.layers.iter().any(|layer| !layer.rules.is_empty()) {
            self.settle_rules(&globals, process, kernel, &mut settings);
        } else {
            let (profile, in_force) = self.finish(globals, kernel, None);
            settings.profiles = vec![profile];
            settings.in_force = in_force;
        }
        settings.config = self.config;
        (settings, self.wrong)
    }

    #[cold]
    fn settle_rules<'a>(
        &mut self,
        globals: &Values,
        process: impl Fn() -> &'a Process,
        kernel: impl Fn() -> KeepaliveDefaults + Copy,
        settings: &mut Settings,
    ) {
        let (profile, in_force) = self.finish(globals.clone(), kernel, None);
        settings.profiles.push(profile);
        settings.in_force = in_force;
        let drafts = self.layers.each_mut().map(|layer| std::mem::take(&mut layer.rules));
        for rule in drafts.into_iter().rev().flatten() {
            if rule.scope != Scope::default() && !process().is_in(&rule.scope) {
                continue;
            }
            let values = rule.over.map_or(Values::none(), |over| globals.under(over));
            let Ok(index) = u32::try_from(settings.profiles.len()) else { break };
            let (profile, in_force) = self.finish(values, kernel, Some(rule.place));
            settings.profiles.push(profile);
            if rule.conditions.is_empty() {
                settings.rules.end(index);
                if settings.rules.is_empty() {
                    settings.in_force = in_force;
                }
                break; // no later rule is reached
            }
            settings.rules.push(&rule.conditions, index);
        }
    }

    /// What follows from the values of a profile.
    fn finish(
        &mut self,
        mut values: Values,
        kernel: impl Fn() -> KeepaliveDefaults,
        rule: Option<Place>,
    ) -> (Profile, Vec<InForce>) {
        chosen::imply_keepalive(&mut values);
        if let Some(&Chosen { value: Some(Value::Auto), place, .. }) = values.get(USER_TIMEOUT)
            && let Err(problem) = chosen::resolve_auto(&mut values, place, kernel)
        {
            self.too_long(place, problem);
        }
        let in_force = |chosen: Chosen| Some(InForce { row: chosen.row, value: chosen.value?, place: chosen.place });
        let in_force: Vec<_> = values.0.into_iter().filter_map(in_force).collect();
        (Profile::new(&in_force, rule), in_force)
    }

    /// A `USER_TIMEOUT=auto` that the kernel does not take.
    #[cold]
    fn too_long(&mut self, place: Place, problem: String) {
        let word = Word { text: "user_timeout=auto", line: place.line, column: place.column };
        match place.source {
            Source::Environment if place.line == 0 => {
                self.wrong.push(Diagnostic::variable("USER_TIMEOUT", "auto", problem));
            }
            source => self.complain(source, word, problem),
        }
        // Where it is a global setting, each rule has it, too.
        if let Some((last, told)) = self.wrong.split_last()
            && told.contains(last)
        {
            self.wrong.pop();
        }
    }
}

/// Where a setting stands.
#[derive(Clone, Copy)]
enum Stands {
    /// On a line of a file.
    File,
    /// In a rule that looks at sockets.
    Rule,
    /// In a rule that does not.
    RuleOfAll,
}

impl Stands {
    /// Why a setting must not stand there.
    fn refuses(self, target: Target) -> Option<&'static str> {
        let Target::Own(own) = target else { return None };
        match (self, own) {
            (Self::File, Own::Rules) => {
                Some("rules stand on lines of their own here: MATCH=VALUE ... : SETTING=VALUE ...")
            }
            (Self::File, Own::Config) => Some("only as a variable: a file names no other"),
            (Self::Rule, Own::Mptcp) => {
                Some("not beside dst, src, port or role: a socket is made before they are known")
            }
            (Self::Rule | Self::RuleOfAll, own) if !own.is_of_a_socket() => {
                Some("holds for the whole process, not in a rule")
            }
            _ => None,
        }
    }
}

/// A variable that a row has.
struct Variable<'a> {
    name: &'a str,
    row: usize,
    opt: &'static Opt,
    text: &'a str,
}

fn in_lower_case(a: &str, b: &str) -> Ordering {
    a.bytes().map(|b| b.to_ascii_lowercase()).cmp(b.bytes().map(|b| b.to_ascii_lowercase()))
}
