//! From what the sources say to [`Settings`]: the last source wins, and rules lie over what holds without them.

use std::cell::LazyCell;
use std::sync::Arc;

use log::LevelFilter;

use crate::options::rows::Rows;
use crate::options::value::Value;
use crate::settings::change::{Change, Changes, Part};
use crate::settings::chosen::{
    self, BACKEND, Chosen, DISABLE, KEEPALIVE, KEEPALIVES, LOG, LOG_FILE, ONLY_PROGRAMS, SKIP_PROGRAMS, STATS, STRICT,
    USER_TIMEOUT, Values,
};
use crate::settings::diagnostic::{Diagnostic, Subject};
use crate::settings::draft::{Draft, DraftRule, Files, Layer, Says};
use crate::settings::profile::{InForce, Profile, Settled};
use crate::settings::rules::Rules;
use crate::settings::settled::{Backend, Settings};
use crate::settings::source::{KeepaliveDefaults, Place, Process, Source};

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

impl Draft {
    /// Settles what holds in this process. `process` and `kernel` are asked only where it matters.
    pub fn settle(
        mut self,
        process: impl FnOnce() -> Process,
        kernel: impl FnOnce() -> KeepaliveDefaults,
    ) -> (Settings, Vec<Diagnostic>) {
        let (process, kernel) = (LazyCell::new(process), LazyCell::new(kernel));
        let (process, kernel) = (|| &*process, || *kernel);
        self.read(&process);
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
        let any_rule = layers.iter().any(|layer| !layer.rules.is_empty() || layer.last.is_some());
        let (profiles, rules, in_force) = if of_process.in_scope && any_rule {
            self.settle_rules(globals, layers, &kernel)
        } else {
            let in_force = self.finish(globals, &kernel);
            (
                vec![Profile::new(Arc::new(Settled::new(&in_force, Changes::default())), None)],
                Rules::default(),
                in_force,
            )
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
        globals: Values,
        mut layers: [Layer; 4],
        kernel: &dyn Fn() -> KeepaliveDefaults,
    ) -> (Vec<Profile>, Rules, Vec<InForce>) {
        let mut in_force = self.finish(globals.clone(), kernel);
        let count = layers.iter().map(|layer| layer.rules.len()).sum::<usize>();
        let changes = std::mem::take(&mut self.changes);
        let has_auto = globals.get(USER_TIMEOUT).is_some_and(|chosen| chosen.value == Some(Value::Auto));
        let has_keepalive = in_force.iter().any(|in_force| in_force.row == KEEPALIVE);
        let mut over = Over { globals, in_force: &in_force, has_auto, has_keepalive, changes };
        let (mut last, mut reached) = (None, 0);
        for layer in &mut layers {
            reached += 1;
            layer.rules.iter_mut().for_each(|rule| self.lay(&mut over, rule, kernel));
            if let Some((place, values)) = layer.last.take() {
                let values = values.map(|values| self.finish(over.globals.under(values), kernel));
                last = Some((place, values.unwrap_or_default()));
                break; // no later rule is reached
            }
        }
        let settled = Arc::new(Settled::new(&in_force, over.changes));
        let mut profiles = Vec::with_capacity(count + 2);
        profiles.push(Profile::new(settled.clone(), None));
        let mut rules = Rules::default();
        let nothing = Profile::default();
        for layer in layers.into_iter().take(reached) {
            let first = profiles.len();
            rules.append(layer.conditions, u32::try_from(first).unwrap_or(u32::MAX));
            for DraftRule { place, says } in layer.rules {
                let profile = match says {
                    Says::Changes(part) => Profile::under_rule(&settled, part, place),
                    Says::TheSame(number) => {
                        let earlier = usize::try_from(number).ok().and_then(|number| profiles.get(first + number));
                        earlier.unwrap_or(&nothing).of_rule(place)
                    }
                    Says::Off => nothing.of_rule(place),
                };
                profiles.push(profile);
            }
        }
        if let Some((place, values)) = last {
            rules.end(u32::try_from(profiles.len()).unwrap_or(u32::MAX));
            profiles.push(Profile::new(Arc::new(Settled::new(&values, Changes::default())), Some(place)));
            if rules.is_empty() {
                in_force = values;
            }
        }
        (profiles, rules, in_force)
    }

    /// What follows from what a rule says, beside what holds without it.
    fn lay(&mut self, over: &mut Over<'_>, rule: &mut DraftRule, kernel: &dyn Fn() -> KeepaliveDefaults) {
        let Says::Changes(part) = &mut rule.says else { return };
        let wrong = over.lay(part, rule.place.source, kernel);
        if let Some((place, problem)) = wrong {
            self.too_long(place, problem);
        }
    }

    /// What follows from values: with what they imply.
    fn finish(&mut self, mut values: Values, kernel: &dyn Fn() -> KeepaliveDefaults) -> Vec<InForce> {
        if let Some(time) = chosen::implied_keepalive(|row| values.int(row))
            && let Some(&Chosen { place, .. }) = values.get(time)
        {
            values.put(Chosen { row: KEEPALIVE, value: Some(Value::Int(1)), place });
        }
        if let Some(&Chosen { value: Some(Value::Auto), place, .. }) = values.get(USER_TIMEOUT) {
            let ms = chosen::auto(&|row| values.int(row), kernel);
            let value = ms.as_ref().ok().copied().map(Value::Int);
            values.put(Chosen { row: USER_TIMEOUT, value, place });
            if let Err(problem) = ms {
                self.too_long(place, problem);
            }
        }
        let in_force = |chosen: Chosen| Some(InForce { row: chosen.row, value: chosen.value?, place: chosen.place });
        values.0.into_iter().filter_map(in_force).collect()
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

/// Lays what rules say over what holds without them.
struct Over<'a> {
    /// What holds without a rule, before anything follows from it.
    globals: Values,
    /// And then.
    in_force: &'a [InForce],
    /// Whether the user timeout depends on keepalive.
    has_auto: bool,
    /// Whether keepalive is said.
    has_keepalive: bool,
    /// What the rules say.
    changes: Changes,
}

impl Over<'_> {
    /// Whether anything may follow from what a rule says: not from keepalive times alone, where keepalive is said without it.
    fn may_imply(&self, said: &[Change], rows: Rows) -> bool {
        rows.has(USER_TIMEOUT) && said.iter().any(|change| change.is_auto())
            || rows.share(KEEPALIVES)
                && (rows.has(KEEPALIVE)
                    || self.has_auto
                    || !self.has_keepalive
                    || said.iter().any(|change| KEEPALIVES.has(change.row()) && self.changes.int(*change).is_none()))
    }

    /// Puts in place of what a rule says what follows from it, if that is something else; and what is wrong with that.
    fn lay(
        &mut self,
        part: &mut Part,
        source: Source,
        kernel: &dyn Fn() -> KeepaliveDefaults,
    ) -> Option<(Place, String)> {
        let said = self.changes.of(part);
        let rows = said.iter().fold(Rows::default(), |rows, change| rows.or(Rows::of(change.row())));
        if !self.may_imply(said, rows) {
            return None;
        }
        let of_row = |row| said.iter().find(|change| change.row() == row);
        let int = |row| of_row(row).map_or_else(|| self.globals.int(row), |change| self.changes.int(*change));
        let keepalive = rows.share(KEEPALIVES);
        // An `auto` of the rule, or one that holds without it and comes to something else under it.
        let auto = match of_row(USER_TIMEOUT) {
            Some(change) => self.changes.auto(*change).map(|(line, column)| Place { source, line, column }),
            None => self.globals.get(USER_TIMEOUT).filter(|c| c.value == Some(Value::Auto)).map(|c| c.place),
        };
        let auto = auto.filter(|_| keepalive || rows.has(USER_TIMEOUT));
        let (auto, wrong) = match auto.map(|place| (place, chosen::auto(&int, kernel))) {
            None => (None, None),
            Some((_, Ok(ms))) => (Some(Some(ms)), None),
            Some((place, Err(problem))) => (Some(None), Some((place, problem))),
        };
        let on = keepalive.then(|| int(KEEPALIVE).or(chosen::implied_keepalive(int).map(|_| 1)));
        let holds = |row| match of_row(row) {
            Some(change) => self.changes.value(*change),
            None => self.in_force.iter().find(|in_force| in_force.row == row).map(|in_force| in_force.value.clone()),
        };
        let follows = [(KEEPALIVE, on), (USER_TIMEOUT, auto)].map(|(row, value)| {
            let value = value.map(|value| value.map(Value::Int)).filter(|value| *value != holds(row));
            (row, value)
        });
        if follows.iter().any(|(_, value)| value.is_some()) {
            let others = |rows: Rows, (row, value): &(usize, Option<_>)| {
                if value.is_some() { rows.or(Rows::of(*row)) } else { rows }
            };
            let start = self.changes.copy(part, follows.iter().fold(Rows::default(), others));
            for (row, value) in follows {
                if let Some(value) = value {
                    self.changes.add(start, row, value.as_ref(), (0, 0));
                }
            }
            *part = start..self.changes.end();
        }
        wrong
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
            in_scope: lists(ONLY_PROGRAMS) != Some(false) && lists(SKIP_PROGRAMS) != Some(true) || process().is_any(),
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
