//! What the sources of settings say: the system's file, the user's file, a profile, the environment. `settle` makes settings of
//! it.

use std::borrow::Cow;
use std::cmp::Reverse;
use std::collections::BinaryHeap;

use crate::options::table::{self, IN_LOWER_CASE, LIBRARY, NAMED, Named, OPTIONS, Own, PREFIX, Target};
use crate::settings::change::{Changes, Part};
use crate::settings::chosen::{Values, is_unset};
use crate::settings::config;
use crate::settings::diagnostic::{Diagnostic, Subject, unknown};
use crate::settings::grammar::{self, Word};
use crate::settings::named;
use crate::settings::plain;
use crate::settings::rules::Rules;
use crate::settings::source::{Place, Process, Source};

/// So many unknown names get the nearest one: looking for it takes time, and an environment may hold thousands.
const SUGGESTIONS: usize = 16;

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
    pub(super) fn unknown(&mut self, name: &str, shown: fn(&str) -> String) -> String {
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
        let (values, mut parts) = (&mut self.layer(Source::Profile).values, grammar::parts(text));
        plain::skip(&mut parts);
        while let Some(setting) = plain::setting(&mut parts) {
            if let Some((row, opt)) = table::find_in_any_case(setting.name) {
                let _ = values.assign(row, opt, setting.value, &|_| Place::of(Source::Profile, setting.word)); // it is right
            }
            plain::skip(&mut parts);
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
    pub(super) fn layer(&mut self, source: Source) -> &mut Layer {
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
    pub(super) fn complain(&mut self, source: Source, word: Word<'_>, problem: String) {
        let subject = Subject::Place { source: self.name(source), line: word.line, column: word.column() };
        self.wrong.push(Diagnostic { subject, text: word.text.to_owned(), problem });
    }
}
