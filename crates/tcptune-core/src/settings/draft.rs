//! From the sources of settings to [`Settings`]: the system's file, the user's file, a profile, the environment; the last
//! one wins.

use std::borrow::Cow;
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
use crate::settings::grammar::{self, Entry, Rule, Setting, Word, Wrong};
use crate::settings::named;
use crate::settings::profile::{InForce, Profile};
use crate::settings::rules::Rules;
use crate::settings::settled::{Backend, Settings};
use crate::settings::source::{KeepaliveDefaults, Place, Process, Source};

/// So many unknown names get the nearest one: looking for it takes time, and an environment may hold thousands.
const SUGGESTIONS: usize = 16;

/// So many mistakes in one text are reported; then it is not what it is taken for, and may be large.
const MISTAKES: usize = 100;

/// So many lists of settings are known at a time.
const KNOWN: usize = 256;

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

/// A rule that this process can meet.
struct DraftRule {
    place: Place,
    /// What lies over what holds without it, as index of a list; none: `off`.
    over: Option<usize>,
}

/// What one source says.
#[derive(Default)]
struct Layer {
    values: Values,
    rules: Vec<DraftRule>,
    /// Their conditions; profiles are counted from the first of these rules on.
    conditions: Rules,
    /// Whether the last one holds for every socket, so that no later one is reached.
    ended: bool,
}

#[derive(Default)]
struct Files {
    system: Layer,
    config: Layer,
    profile: Layer,
}

/// A text with settings and rules that has not been read, or why it cannot be had.
struct Unread {
    source: Source,
    text: Result<String, String>,
    /// So many mistakes are reported before those in it.
    after: usize,
}

/// What all sources say, before it is settled.
pub struct Draft {
    environment: Layer,
    /// Most programs have none.
    files: Option<Box<Files>>,
    /// Files and rules, to be read once it is known which process it is.
    texts: Vec<Unread>,
    /// What the rules set that this process can meet.
    lists: Vec<Values>,
    config: Option<String>,
    profile: Option<String>,
    /// Where it was found.
    profile_source: Option<String>,
    wrong: Vec<Diagnostic>,
    suggested: usize,
}

impl Draft {
    /// Of the environment's variables, given without their prefix.
    #[must_use]
    pub fn new<T: AsRef<str>>(variables: &[(T, T)]) -> Self {
        let mut draft = Self {
            environment: Layer::default(),
            files: None,
            texts: Vec::new(),
            lists: Vec::new(),
            config: None,
            profile: None,
            profile_source: None,
            wrong: Vec::new(),
            suggested: 0,
        };
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
            Target::Own(Own::Rules) if !is_unset(text.trim_ascii()) => {
                let (source, after) = (Source::Environment, self.wrong.len());
                self.texts.push(Unread { source, text: Ok(text.to_owned()), after });
            }
            Target::Own(Own::Config) => {
                self.config = Some(text.trim_ascii().to_owned()).filter(|path| !is_unset(path));
            }
            Target::Own(Own::Profile) => {
                self.profile = Some(text.trim_ascii().to_owned()).filter(|name| !is_unset(name));
            }
            _ => {}
        }
    }

    /// The file that `TCPTUNE_CONFIG` names.
    #[must_use]
    pub fn config(&self) -> Option<&str> {
        self.config.as_deref()
    }

    /// The name of the profile that `TCPTUNE_PROFILE` asks for.
    #[must_use]
    pub fn profile(&self) -> Option<&str> {
        self.profile.as_deref()
    }

    /// That profile, if it was found.
    #[cold]
    pub fn found(&mut self, profile: Result<named::Found, Diagnostic>) {
        match profile {
            Ok(named::Found { source, text }) => {
                self.profile_source = Some(source);
                match text {
                    Cow::Borrowed(text) => self.built_in(text),
                    Cow::Owned(text) => {
                        self.texts.push(Unread { source: Source::Profile, text: Ok(text), after: usize::MAX });
                    }
                }
            }
            Err(problem) => self.wrong.push(problem),
        }
    }

    /// A profile of our own: settings with comments, and nothing else (a test).
    #[cold]
    fn built_in(&mut self, text: &str) {
        let values = &mut self.layer(Source::Profile).values;
        for (setting, line) in text.lines().zip(1..) {
            let setting = setting.split('#').next().unwrap_or_default();
            let Some((name, value)) = setting.split_once('=') else { continue };
            if let Some((row, opt)) = table::find_in_any_case(name.trim_ascii()) {
                let place = Place { source: Source::Profile, line, column: 1 };
                let _ = values.assign(row, opt, value, place); // it is right
            }
        }
    }

    /// A file, as [`config::read`] has found it.
    pub fn file(&mut self, source: Source, text: Result<Option<String>, String>) {
        if source != Source::System || !matches!(text, Ok(None)) {
            self.some_file(source, text);
        }
    }

    #[cold]
    fn some_file(&mut self, source: Source, text: Result<Option<String>, String>) {
        let text = text.and_then(|text| text.ok_or_else(|| "no such file".to_owned()));
        self.texts.push(Unread { source, text, after: usize::MAX });
    }

    /// Reads all texts.
    #[cold]
    fn read<'p>(&mut self, process: &dyn Fn() -> &'p Process) {
        for Unread { source, text, after } in std::mem::take(&mut self.texts) {
            let later = self.wrong.split_off(after.min(self.wrong.len()));
            match text {
                Ok(text) => self.text(source, &text, process),
                Err(problem) => {
                    let subject = Subject::File(self.name(source));
                    self.wrong.push(Diagnostic { subject, text: String::new(), problem });
                }
            }
            self.wrong.extend(later);
        }
    }

    #[cold]
    fn layer(&mut self, source: Source) -> &mut Layer {
        match source {
            Source::System => &mut self.files.get_or_insert_default().system,
            Source::Config => &mut self.files.get_or_insert_default().config,
            Source::Profile => &mut self.files.get_or_insert_default().profile,
            Source::Environment => &mut self.environment,
        }
    }

    #[cold]
    fn name(&self, source: Source) -> String {
        match source {
            Source::System => config::SYSTEM.to_owned(),
            Source::Config => self.config.clone().unwrap_or_default(),
            Source::Profile => self.profile_source.clone().unwrap_or_default(),
            Source::Environment => format!("{PREFIX}RULES"),
        }
    }

    #[cold]
    fn complain(&mut self, source: Source, word: Word<'_>, problem: String) {
        let subject = Subject::Place { source: self.name(source), line: word.line, column: word.column() };
        self.wrong.push(Diagnostic { subject, text: word.text.to_owned(), problem });
    }

    #[cold]
    fn text<'p>(&mut self, source: Source, text: &str, process: &dyn Fn() -> &'p Process) {
        let before = self.wrong.len();
        let (mut rule, mut known) = (Rule::new(), Known::new(text));
        for part in grammar::parts(text) {
            if self.wrong.len() - before >= MISTAKES {
                let word = match part.entry() {
                    Ok(Entry::Rule(rule)) => rule.word,
                    Ok(Entry::Setting(setting)) => setting.word,
                    Err(wrong) => wrong.word,
                };
                let problem = format!("{MISTAKES} mistakes before this; nothing from here on counts");
                return self.complain(source, word, problem);
            }
            let read = if part.is_rule() {
                rule.read(part).and_then(|()| self.rule(source, &rule, &mut known, process))
            } else {
                part.setting().map(|setting| self.of_file(source, setting))
            };
            if let Err(wrong) = read {
                self.complain(source, wrong.word, wrong.problem);
            }
        }
    }

    #[cold]
    fn of_file(&mut self, source: Source, setting: Setting<'_>) {
        if source == Source::Environment {
            let problem = "expected a rule: MATCH=VALUE ... : SETTING=VALUE ...".to_owned();
            return self.complain(source, setting.word, problem);
        }
        let mut values = std::mem::take(&mut self.layer(source).values);
        self.setting(source, setting, &mut values, Stands::File);
        self.layer(source).values = values;
    }

    #[cold]
    fn setting(&mut self, source: Source, setting: Setting<'_>, values: &mut Values, stands: Stands) {
        let problem = match table::find_in_any_case(setting.name) {
            None => Some(self.unknown(&setting.name.to_ascii_uppercase(), str::to_ascii_lowercase)),
            Some((row, opt)) => match stands.refuses(opt.target) {
                Some(problem) => Some(problem.to_owned()),
                None => values.assign(row, opt, setting.value, Place::of(source, setting.word)).err(),
            },
        };
        if let Some(problem) = problem {
            self.complain(source, setting.word, problem);
        }
    }

    /// A rule. Its settings are read unless the same list of them has been found right before: most rules of a long text
    /// have one of a few. One for every socket is read nevertheless, because it is told where its settings stand.
    #[cold]
    fn rule<'a, 'p>(
        &mut self,
        source: Source,
        rule: &Rule<'a>,
        known: &mut Known<'a>,
        process: &dyn Fn() -> &'p Process,
    ) -> Result<(), Wrong<'a>> {
        let of_all = rule.conditions.is_empty();
        let met = !self.layer(source).ended && (rule.scope.is_empty() || process().is_in(&rule.scope));
        let mut over = None;
        if let Some(list) = rule.list {
            over = match known.find(list.text, of_all) {
                Some(_) if !met => None,
                Some(List::Kept(kept)) if !of_all => Some(kept),
                _ => {
                    let (kept, right) = self.list(source, rule, met)?;
                    if right {
                        known.add(list.text, of_all, kept.map_or(List::Right, List::Kept));
                    }
                    kept
                }
            };
        }
        if !met {
            return Ok(());
        }
        let entries = known.entries;
        let layer = self.layer(source);
        if layer.rules.is_empty() {
            layer.rules.reserve_exact(entries);
            layer.conditions.reserve(entries);
        }
        let Ok(index) = u32::try_from(layer.rules.len()) else { return Ok(()) };
        layer.rules.push(DraftRule { place: Place::of(source, rule.word), over });
        layer.ended = of_all;
        if !of_all {
            layer.conditions.push(&rule.conditions, index);
        }
        Ok(())
    }

    /// The settings of a rule, as index of a list if they are to be kept; and whether they are right wherever they stand.
    #[cold]
    fn list<'a>(&mut self, source: Source, rule: &Rule<'a>, keep: bool) -> Result<(Option<usize>, bool), Wrong<'a>> {
        rule.settings().try_for_each(|setting| setting.map(drop))?;
        let stands = if rule.conditions.is_empty() { Stands::RuleOfAll } else { Stands::Rule };
        let (mistakes, mut values) = (self.wrong.len(), Values::none());
        for setting in rule.settings().flatten() {
            self.setting(source, setting, &mut values, stands);
        }
        // What `auto` comes to may be a mistake, which is reported where it stands.
        let has_auto = values.0.iter().any(|chosen| chosen.value == Some(Value::Auto));
        let right = self.wrong.len() == mistakes && !has_auto;
        if !keep {
            return Ok((None, right));
        }
        self.lists.push(values);
        Ok((Some(self.lists.len() - 1), right))
    }

    /// Settles what holds in this process. `process` and `kernel` are asked only where it matters.
    pub fn settle(
        mut self,
        process: impl FnOnce() -> Process,
        kernel: impl FnOnce() -> KeepaliveDefaults,
    ) -> (Settings, Vec<Diagnostic>) {
        let (process, kernel) = (LazyCell::new(process), LazyCell::new(kernel));
        let (process, kernel) = (|| &*process, || *kernel);
        if !self.texts.is_empty() {
            self.read(&process);
        }
        let mut globals = std::mem::take(&mut self.environment.values);
        let mut layers = [std::mem::take(&mut self.environment), Layer::default(), Layer::default(), Layer::default()];
        if let Some(files) = self.files.take() {
            let Files { mut system, mut config, mut profile } = *files;
            for layer in [&mut profile, &mut config, &mut system] {
                globals = std::mem::take(&mut layer.values).under(globals);
            }
            let [_, second, third, fourth] = &mut layers;
            (*second, *third, *fourth) = (profile, config, system);
        }
        let of_process = if globals.0.iter().any(Chosen::is_of_process) {
            OfProcess::new(&globals, process)
        } else {
            OfProcess::NONE
        };
        let any_rule = layers.iter().any(|layer| !layer.rules.is_empty());
        let (profiles, rules, in_force) = if of_process.in_scope && any_rule {
            self.settle_rules(&globals, layers, kernel)
        } else {
            let (profile, in_force) = self.finish(globals, kernel, None);
            (vec![profile], Rules::default(), in_force)
        };
        let OfProcess { in_scope, backend, strict, disabled, stats, log, log_file } = of_process;
        let (config, profile_source) = (self.config, self.profile_source);
        let settings = Settings {
            profiles,
            rules,
            in_force,
            config,
            profile_source,
            in_scope,
            backend,
            strict,
            disabled,
            stats,
            log,
            log_file,
        };
        (settings, self.wrong)
    }

    /// The rules of all layers, the first of which are looked at first.
    #[cold]
    fn settle_rules(
        &mut self,
        globals: &Values,
        layers: [Layer; 4],
        kernel: impl Fn() -> KeepaliveDefaults + Copy,
    ) -> (Vec<Profile>, Rules, Vec<InForce>) {
        let (profile, mut in_force) = self.finish(globals.clone(), kernel, None);
        let mut profiles = Vec::with_capacity(1 + layers.iter().map(|layer| layer.rules.len()).sum::<usize>());
        profiles.push(profile);
        let mut rules = Rules::default();
        let mut lists = std::mem::take(&mut self.lists);
        let mut finished: Vec<Option<Profile>> = vec![None; lists.len()];
        for layer in layers {
            let Ok(first) = u32::try_from(profiles.len()) else { break };
            rules.append(layer.conditions, first);
            let mut of_rule = Vec::new();
            for DraftRule { place, over } in layer.rules {
                let shared = over.and_then(|list| Some((lists.get_mut(list)?, finished.get_mut(list)?)));
                let profile = match shared {
                    None => Profile::default(),
                    Some((_, Some(profile))) => profile.clone(),
                    Some((over, profile)) => {
                        let (new, settings) = self.finish(globals.under(std::mem::take(over)), kernel, None);
                        of_rule = settings;
                        profile.insert(new).clone()
                    }
                };
                profiles.push(profile.of_rule(place));
            }
            if layer.ended
                && let Ok(last) = u32::try_from(profiles.len() - 1)
            {
                rules.end(last);
                if rules.is_empty() {
                    in_force = of_rule;
                }
                break; // no later rule is reached
            }
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
        let Place { source, line, column } = place;
        self.wrong.push(if source == Source::Environment && line == 0 {
            Diagnostic::variable("USER_TIMEOUT", "auto", problem)
        } else {
            let subject = Subject::Place { source: self.name(source), line, column };
            Diagnostic { subject, text: "user_timeout=auto".to_owned(), problem }
        });
        // Where it is a global setting, each rule has it, too.
        if let Some((last, told)) = self.wrong.split_last()
            && told.contains(last)
        {
            self.wrong.pop();
        }
    }
}

/// What is known of a list of settings.
#[derive(Clone, Copy)]
enum List {
    /// It is right.
    Right,
    /// It has been kept, too, with this index.
    Kept(usize),
}

/// Lists in one text that are known, by what is written and by whether it is in a rule for every socket; a later one may
/// take the place of an earlier one.
struct Known<'a> {
    lists: [(&'a str, bool, List); KNOWN],
    /// So many entries the text may have.
    entries: usize,
}

impl<'a> Known<'a> {
    fn new(text: &str) -> Self {
        let count = |byte| memchr::memchr_iter(byte, text.as_bytes()).count();
        let entries = 1 + count(b'\n') + count(b';');
        Self { lists: [("", false, List::Right); KNOWN], entries }
    }

    /// FNV-1a, eight bytes at a time.
    fn place(text: &str) -> usize {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_ne_bytes(*word)).chain(rest.iter().map(|byte| (*byte).into()));
        let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| (hash ^ word).wrapping_mul(0x100_0000_01b3));
        usize::try_from(hash >> 56).unwrap_or(0)
    }

    fn find(&self, text: &str, of_all: bool) -> Option<List> {
        let (known, known_of_all, list) = self.lists.get(Self::place(text))?;
        (*known == text && *known_of_all == of_all).then_some(*list)
    }

    fn add(&mut self, text: &'a str, of_all: bool, list: List) {
        if let Some(place) = self.lists.get_mut(Self::place(text)) {
            *place = (text, of_all, list);
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
            (Self::File, Own::Config | Own::Profile) => Some("only as a variable: a file names no other"),
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
