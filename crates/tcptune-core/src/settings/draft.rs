//! What the sources of settings say: the system's file, the user's file, a profile, the environment. `settle` makes settings of
//! it.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::options::rows::Rows;
use crate::options::table::{self, IN_LOWER_CASE, LIBRARY, NAMED, Named, OPTIONS, Own, PREFIX, Target};
use crate::options::value::Value;
use crate::settings::change::{Changes, Part};
use crate::settings::chosen::{Chosen, Values, is_unset};
use crate::settings::config;
use crate::settings::diagnostic::{Diagnostic, Subject, unknown};
use crate::settings::grammar::{self, Entry, Rule, Setting, Word, Wrong};
use crate::settings::named;
use crate::settings::rules::Rules;
use crate::settings::source::{Place, Process, Source};

/// So many unknown names get the nearest one: looking for it takes time, and an environment may hold thousands.
const SUGGESTIONS: usize = 16;

/// So many mistakes in one text are reported; then it is not what it is taken for, and may be large.
const MISTAKES: usize = 100;

/// So many lists of settings are known at a time.
const KNOWN: usize = 256;

/// A rule that this process can meet, and that looks at sockets.
pub(crate) struct DraftRule {
    pub place: Place,
    pub says: Says,
}

/// What a rule says.
#[derive(Clone)]
pub(crate) enum Says {
    /// `off`
    Off,
    /// What an earlier one of its layer says, which has this number.
    TheSame(u32),
    /// This.
    Changes(Part),
}

/// What one source says.
#[derive(Default)]
pub(crate) struct Layer {
    pub values: Values,
    pub rules: Vec<DraftRule>,
    /// Their conditions; profiles are counted from the first of these rules on.
    pub conditions: Rules,
    /// A rule for every socket, so that no later one is reached; it says nothing if it is `off`.
    pub last: Option<(Place, Option<Values>)>,
}

#[derive(Default)]
pub(crate) struct Files {
    pub system: Layer,
    pub config: Layer,
    pub profile: Layer,
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
    pub(crate) environment: Layer,
    /// Most programs have none.
    pub(crate) files: Option<Box<Files>>,
    /// Files and rules, to be read once it is known which process it is.
    texts: Vec<Unread>,
    /// What the rules say that this process can meet.
    pub(crate) changes: Changes,
    pub(crate) config: Option<String>,
    profile: Option<String>,
    /// Where it was found.
    pub(crate) profile_source: Option<String>,
    pub(crate) wrong: Vec<Diagnostic>,
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
            changes: Changes::default(),
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
        if let Err(problem) = self.environment.values.assign(named.row(), opt, text, &|_| place) {
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
                let _ = values.assign(row, opt, value, &|_| place); // it is right
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

    /// Reads all texts, if there are any.
    pub(crate) fn read<'p>(&mut self, process: &dyn Fn() -> &'p Process) {
        if !self.texts.is_empty() {
            self.read_texts(process);
        }
    }

    #[cold]
    fn read_texts<'p>(&mut self, process: &dyn Fn() -> &'p Process) {
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
    pub(crate) fn name(&self, source: Source) -> String {
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
        let (mut rule, mut reader) = (Rule::new(), Reader::new(text));
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
                rule.read(part).and_then(|()| self.rule(source, &rule, &mut reader, process))
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
            Some((row, opt)) => {
                let place = |value: Option<&Value>| match (stands, value) {
                    (Stands::Rule, Some(Value::Auto)) | (Stands::File | Stands::RuleOfAll, _) => {
                        Place::of(source, setting.word)
                    }
                    (Stands::Rule, _) => Place { source, line: 0, column: 0 }, // nobody is told
                };
                let refused = stands.refuses(opt.target).map(str::to_owned);
                refused.or_else(|| values.assign(row, opt, setting.value, &place).err())
            }
        };
        if let Some(problem) = problem {
            self.complain(source, setting.word, problem);
        }
    }

    /// A rule. Its settings are read unless the same list of them has been found right before: many rules of a long text
    /// have one of a few. One for every socket is read nevertheless, because it is told where its settings stand.
    #[cold]
    fn rule<'a, 'p>(
        &mut self,
        source: Source,
        rule: &Rule<'a>,
        reader: &mut Reader<'a>,
        process: &dyn Fn() -> &'p Process,
    ) -> Result<(), Wrong<'a>> {
        let of_all = rule.conditions.is_empty();
        let layer = self.layer(source);
        let number = u32::try_from(layer.rules.len()).unwrap_or(u32::MAX);
        let met = layer.last.is_none() && (rule.scope.is_empty() || process().is_in(&rule.scope));
        if rule.list.is_some() && of_all {
            return self.rule_of_all(source, rule, met, reader);
        }
        let mut says = Says::Off;
        if let Some(list) = rule.list {
            match reader.known(list.text, false) {
                Some(_) if !met => return Ok(()),
                Some(Known::SaidBy(number)) => says = Says::TheSame(number),
                _ => {
                    let start = self.changes.end();
                    let right = self.is_plain(list) || self.list(source, rule)?;
                    if met {
                        says = Says::Changes(start..self.changes.end());
                    } else {
                        self.changes.cut(start);
                    }
                    if right {
                        reader.add(list.text, false, if met { Known::SaidBy(number) } else { Known::Right });
                    }
                }
            }
        }
        if !met {
            return Ok(());
        }
        let place = Place::of(source, rule.word);
        let layer = self.layer(source);
        if of_all {
            layer.last = Some((place, None));
            return Ok(());
        }
        if layer.rules.is_empty() {
            layer.rules.reserve_exact(reader.entries);
            layer.conditions.reserve(reader.entries);
        }
        layer.rules.push(DraftRule { place, says });
        layer.conditions.push(&rule.conditions, number);
        Ok(())
    }

    /// A rule for every socket.
    #[cold]
    fn rule_of_all<'a>(
        &mut self,
        source: Source,
        rule: &Rule<'a>,
        met: bool,
        reader: &mut Reader<'a>,
    ) -> Result<(), Wrong<'a>> {
        let Some(list) = rule.list.filter(|list| met || reader.known(list.text, true).is_none()) else { return Ok(()) };
        let (values, right) = self.values(source, rule, Stands::RuleOfAll)?;
        if right {
            reader.add(list.text, true, Known::Right);
        }
        if met {
            self.layer(source).last = Some((Place::of(source, rule.word), Some(values)));
        }
        Ok(())
    }

    /// Adds a rule's list of settings to the changes, if all of them are right, and none of them is something special.
    #[cold]
    fn is_plain(&mut self, list: Word<'_>) -> bool {
        let (start, mut rows) = (self.changes.end(), Rows::default());
        for pair in list.pairs() {
            let Some((row, value)) = pair.and_then(|(name, value)| plain(name, value, rows)) else {
                self.changes.cut(start);
                return false;
            };
            rows = rows.or(Rows::of(row));
            self.changes.add(start, row, Some(&value), (0, 0));
        }
        true
    }

    /// The same of any settings. Returns whether they are right wherever they stand.
    #[cold]
    fn list<'a>(&mut self, source: Source, rule: &Rule<'a>) -> Result<bool, Wrong<'a>> {
        let (values, right) = self.values(source, rule, Stands::Rule)?;
        let start = self.changes.end();
        for Chosen { row, value, place } in &values.0 {
            self.changes.add(start, *row, value.as_ref(), (place.line, place.column));
        }
        // What `auto` comes to may be a mistake, which is reported where it stands.
        Ok(right && values.0.iter().all(|chosen| chosen.value != Some(Value::Auto)))
    }

    /// The settings of a rule, and whether all of them are right.
    #[cold]
    fn values<'a>(&mut self, source: Source, rule: &Rule<'a>, stands: Stands) -> Result<(Values, bool), Wrong<'a>> {
        rule.settings().try_for_each(|setting| setting.map(drop))?;
        let (mistakes, mut values) = (self.wrong.len(), Values::none());
        for setting in rule.settings().flatten() {
            self.setting(source, setting, &mut values, stands);
        }
        Ok((values, self.wrong.len() == mistakes))
    }
}

/// A setting of a rule beside those of `rows`: its row and its value, if it is right, and neither `default` nor `auto`.
#[inline]
fn plain(name: &str, value: &str, rows: Rows) -> Option<(usize, Value)> {
    let (row, opt) = table::find_in_any_case(name)?;
    let takes = Stands::Rule.refuses(opt.target).is_none() && !rows.share(Rows::rivals(row)) && !is_unset(value);
    let value = if takes { opt.kind.parse(value, opt.range) } else { None };
    value.filter(|value| *value != Value::Auto).map(|value| (row, value))
}

/// What is known of a list of settings.
#[derive(Clone, Copy)]
enum Known {
    /// It is right.
    Right,
    /// It is what the rule of this number says.
    SaidBy(u32),
}

/// What is remembered while a text is read.
struct Reader<'a> {
    /// Lists that are known, by what is written and by whether it is in a rule for every socket; a later one may take the
    /// place of an earlier one.
    lists: [(&'a str, bool, Known); KNOWN],
    /// So many entries the text may have.
    entries: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &str) -> Self {
        let count = |byte| memchr::memchr_iter(byte, text.as_bytes()).count();
        // One a line, or all in one: that of a variable.
        let entries = 1 + Some(count(b'\n')).filter(|lines| *lines > 1).unwrap_or_else(|| count(b';'));
        Self { lists: [("", false, Known::Right); KNOWN], entries }
    }

    /// FNV-1a, eight bytes at a time.
    fn place(text: &str) -> usize {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_ne_bytes(*word)).chain(rest.iter().map(|byte| (*byte).into()));
        let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| (hash ^ word).wrapping_mul(0x100_0000_01b3));
        usize::try_from(hash >> 56).unwrap_or(0)
    }

    fn known(&self, text: &str, of_all: bool) -> Option<Known> {
        let (known, known_of_all, list) = self.lists.get(Self::place(text))?;
        (*known == text && *known_of_all == of_all).then_some(*list)
    }

    fn add(&mut self, text: &'a str, of_all: bool, list: Known) {
        if let Some(place) = self.lists.get_mut(Self::place(text)) {
            *place = (text, of_all, list);
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
