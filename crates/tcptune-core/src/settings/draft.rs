//! From the sources of settings to [`Settings`]: the system's file, the user's file, the environment; the last one wins.

use std::cell::LazyCell;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use log::LevelFilter;

use crate::options::table::{self, IN_LOWER_CASE, LIBRARY, NAMED, Named, OPTIONS, Own, PREFIX, Target};
use crate::options::value::Value;
use crate::settings::chosen::{
    self, BACKEND, Chosen, DISABLE, LOG, LOG_FILE, ONLY_PROGRAMS, SKIP_PROGRAMS, STATS, STRICT, USER_TIMEOUT, Values,
    is_unset,
};
use crate::settings::config;
use crate::settings::diagnostic::{Diagnostic, Subject, unknown};
use crate::settings::grammar::{self, Entry, Rule, Scope, Setting, Word};
use crate::settings::profile::{InForce, Profile};
use crate::settings::rules::{Conditions, Rules};
use crate::settings::settled::{Backend, Settings};
use crate::settings::source::{KeepaliveDefaults, Place, Process, Source};

/// So many unknown names get the nearest one: looking for it takes time, and an environment may hold thousands.
const SUGGESTIONS: usize = 16;

/// So many mistakes in one text are reported; then it is not what it is taken for, and may be large.
const MISTAKES: usize = 100;

/// Settings of variables alone, given without their prefix. What is wrong with one is in the list, and that one is
/// left out.
///
/// `kernel` is asked only where `USER_TIMEOUT=auto` needs it.
pub fn parse<T: AsRef<str>>(
    variables: &[(T, T)],
    kernel: impl FnOnce() -> KeepaliveDefaults,
) -> (Settings, Vec<Diagnostic>) {
    Draft::new(variables).settle(Process::default, kernel)
}

struct DraftRule {
    place: Place,
    conditions: Conditions,
    scope: Scope,
    /// Over what holds without the rule; none: `off`.
    over: Option<Values>,
}

/// What one source says.
#[derive(Default)]
struct Layer {
    values: Values,
    rules: Vec<DraftRule>,
}

#[derive(Default)]
struct Files {
    system: Layer,
    config: Layer,
}

/// What all sources say, before it is settled.
pub struct Draft {
    environment: Layer,
    /// Most programs have none.
    files: Option<Box<Files>>,
    config: Option<String>,
    wrong: Vec<Diagnostic>,
    suggested: usize,
}

impl Draft {
    /// Of the environment's variables, given without their prefix.
    #[must_use]
    pub fn new<T: AsRef<str>>(variables: &[(T, T)]) -> Self {
        let mut draft =
            Self { environment: Layer::default(), files: None, config: None, wrong: Vec::new(), suggested: 0 };
        let mut numbers = [0; NAMED.len()]; // of the variable of a name, counted from 1
        let mut unknown = false;
        for ((name, _), number) in variables.iter().zip(1_u32..) {
            match table::position(name.as_ref()).and_then(|at| numbers.get_mut(at)) {
                Some(first) if *first == 0 => *first = number, // as with getenv(3)
                Some(_) => {}
                None => unknown = true,
            }
        }
        if unknown {
            draft.unknown_variables(variables);
        }
        draft.environment.values = Values(Vec::with_capacity(variables.len().min(OPTIONS.len()) + 1)); // and an implied one
        for at in IN_LOWER_CASE.iter().map(|at| usize::from(*at)) {
            let number = numbers.get(at).and_then(|number| usize::try_from(*number).ok()?.checked_sub(1));
            if let (Some(named), Some((_, text))) = (NAMED.get(at), number.and_then(|number| variables.get(number))) {
                draft.variable(*named, text.as_ref());
            }
        }
        draft
    }

    #[cold]
    fn unknown_variables<T: AsRef<str>>(&mut self, variables: &[(T, T)]) {
        let mut unknown: BinaryHeap<_> = variables
            .iter()
            .map(|(name, text)| (name.as_ref(), text.as_ref()))
            .zip(0..)
            .filter(|((name, _), _)| *name != LIBRARY && table::position(name).is_none())
            .map(|((name, text), number)| Reverse((name, number, text)))
            .collect();
        let mut before = None;
        while let Some(Reverse((name, _, text))) = unknown.pop() {
            if before.replace(name) != Some(name) {
                let problem = self.unknown(name, |near| format!("{PREFIX}{near}"));
                self.wrong.push(Diagnostic::variable(name, text, problem));
            }
        }
    }

    #[cold]
    fn unknown(&mut self, name: &str, shown: fn(&str) -> String) -> String {
        self.suggested += 1;
        unknown(name, self.suggested <= SUGGESTIONS, shown)
    }

    fn variable(&mut self, named: Named, text: &str) {
        let Some(opt) = OPTIONS.get(named.row()) else { return };
        let place = Place { source: Source::Environment, line: 0, column: 0 };
        if let Err(problem) = self.environment.values.assign(named.row(), opt, text, place) {
            self.wrong.push(Diagnostic::variable(named.text(), text, problem));
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
    fn layer(&mut self, source: Source) -> &mut Layer {
        match source {
            Source::System => &mut self.files.get_or_insert_default().system,
            Source::Config => &mut self.files.get_or_insert_default().config,
            Source::Environment => &mut self.environment,
        }
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
                    let mut values = std::mem::take(&mut self.layer(source).values);
                    self.setting(source, setting, &mut values, Stands::File);
                    self.layer(source).values = values;
                }
                Err(wrong) => self.complain(source, wrong.word, wrong.problem),
            }
        }
    }

    #[cold]
    fn setting(&mut self, source: Source, setting: Setting<'_>, values: &mut Values, stands: Stands) {
        let name = setting.name.to_ascii_uppercase();
        let problem = match table::find(&name) {
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

    #[cold]
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
        self.layer(source).rules.push(DraftRule { place, conditions, scope, over });
    }

    /// Settles what holds in this process. `process` and `kernel` are asked only where it matters.
    pub fn settle(
        mut self,
        process: impl FnOnce() -> Process,
        kernel: impl FnOnce() -> KeepaliveDefaults,
    ) -> (Settings, Vec<Diagnostic>) {
        let mut globals = std::mem::take(&mut self.environment.values);
        let mut drafts = std::mem::take(&mut self.environment.rules);
        if let Some(files) = self.files.take() {
            let Files { system, config } = *files;
            globals = system.values.under(config.values).under(globals);
            drafts.extend(config.rules.into_iter().chain(system.rules));
        }
        let (process, kernel) = (LazyCell::new(process), LazyCell::new(kernel));
        let (process, kernel) = (|| &*process, || *kernel);
        let of_process = if globals.0.iter().any(Chosen::is_of_process) {
            OfProcess::new(&globals, process)
        } else {
            OfProcess::NONE
        };
        let (profiles, rules, in_force) = if of_process.in_scope && !drafts.is_empty() {
            self.settle_rules(&globals, drafts, process, kernel)
        } else {
            let (profile, in_force) = self.finish(globals, kernel, None);
            (vec![profile], Rules::default(), in_force)
        };
        let OfProcess { in_scope, backend, strict, disabled, stats, log, log_file } = of_process;
        let config = self.config;
        let settings =
            Settings { profiles, rules, in_force, config, in_scope, backend, strict, disabled, stats, log, log_file };
        (settings, self.wrong)
    }

    #[cold]
    fn settle_rules<'a>(
        &mut self,
        globals: &Values,
        drafts: Vec<DraftRule>,
        process: impl Fn() -> &'a Process,
        kernel: impl Fn() -> KeepaliveDefaults + Copy,
    ) -> (Vec<Profile>, Rules, Vec<InForce>) {
        let (profile, mut in_force) = self.finish(globals.clone(), kernel, None);
        let (mut profiles, mut rules) = (vec![profile], Rules::default());
        for rule in drafts {
            if rule.scope != Scope::default() && !process().is_in(&rule.scope) {
                continue;
            }
            let values = rule.over.map_or(Values::none(), |over| globals.under(over));
            let Ok(index) = u32::try_from(profiles.len()) else { break };
            let (profile, of_rule) = self.finish(values, kernel, Some(rule.place));
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
        (profiles, rules, in_force)
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

/// The settings of the process: few have any.
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
struct OfProcess {
    in_scope: bool,
    backend: Backend,
    strict: bool,
    disabled: bool,
    stats: bool,
    log: LevelFilter,
    log_file: Option<String>,
}

impl OfProcess {
    const NONE: Self = Self {
        in_scope: true,
        backend: Backend::Auto,
        strict: false,
        disabled: false,
        stats: false,
        log: LevelFilter::Warn,
        log_file: None,
    };

    #[cold]
    fn new<'a>(globals: &Values, process: impl Fn() -> &'a Process) -> Self {
        let lists = |row| globals.text(row).map(|list| list.split(',').any(|program| process().is(program.trim())));
        let is_on = |row| globals.int(row).is_some_and(|n| n != 0);
        let log = globals.int(LOG).and_then(|i| LevelFilter::iter().nth(usize::try_from(i).ok()?));
        Self {
            in_scope: lists(ONLY_PROGRAMS) != Some(false) && lists(SKIP_PROGRAMS) != Some(true),
            backend: match globals.int(BACKEND) {
                Some(1) => Backend::Preload,
                Some(2) => Backend::Notify,
                Some(3) => Backend::Cgroup,
                _ => Backend::Auto,
            },
            strict: is_on(STRICT),
            disabled: is_on(DISABLE),
            stats: is_on(STATS),
            log: log.unwrap_or(Self::NONE.log),
            log_file: globals.text(LOG_FILE).map(str::to_owned),
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
