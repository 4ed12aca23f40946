//! What settings come to as environment of a program.

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, absolute};

use serde_json::{Map, Value, json};
use tcptune_core::options::table::{OPTIONS, Opt, Own, PREFIX, Target};

use crate::settings::flags::Given;
use crate::system::variables;
use crate::ways::preload;

const PRELOAD: &str = "LD_PRELOAD";

/// The variables that change.
#[derive(Debug, Default)]
pub struct Environment {
    set: Vec<(String, OsString)>,
    /// Other names of what is set: the library takes only one of them.
    unset: Vec<String>,
}

impl Environment {
    /// Of the settings that the command line gives. Those that the environment has already stay.
    pub fn new(given: &Given, library: &Path) -> Self {
        Self::of(given).preloading(library)
    }

    /// With the library.
    pub fn preloading(mut self, library: &Path) -> Self {
        let list = preload::list(variables::own().ld_preload(), library);
        self.set.insert(0, (PRELOAD.to_owned(), list));
        self
    }

    /// What takes the library and all settings away.
    pub fn none() -> Self {
        let mut environment = Self::default();
        let variables = variables::own();
        environment.unset = variables.settings().map(|(name, _)| variable(&name.to_string_lossy())).collect();
        let list = preload::without(variables.ld_preload().unwrap_or_default());
        if list.is_empty() {
            environment.unset.insert(0, PRELOAD.to_owned());
        } else {
            environment.set.push((PRELOAD.to_owned(), list));
        }
        environment
    }

    /// The same, without the library.
    pub fn of(given: &Given) -> Self {
        let mut environment = Self::default();
        for said in given.iter() {
            let opt = &OPTIONS[said.row];
            environment.set.push((variable(opt.name()), text(opt, &said.text)));
        }
        let same = |opt: &Opt| {
            given.iter().any(|said| OPTIONS[said.row].target == opt.target)
                || (given.has_profile() && opt.target == Target::Own(Own::Profile))
        };
        let names = OPTIONS.iter().filter(|opt| same(opt)).flat_map(Opt::names);
        let is_inherited = |name: &String| {
            variables::own()
                .settings()
                .any(|(inherited, _)| name.strip_prefix(PREFIX).is_some_and(|name| name == inherited))
        };
        let is_set = |name: &String| environment.set.iter().any(|(set, _)| set == name);
        environment.unset = names.map(variable).filter(|name| !is_set(name) && is_inherited(name)).collect();
        environment
    }

    /// One more that is set.
    pub fn set(&mut self, name: &str, value: &str) {
        self.set.push((name.to_owned(), value.into()));
    }

    /// Telling the program, and all that it starts, by which other way they are reached: the library stays quiet.
    pub fn announcing(mut self, backend: &str) -> Self {
        let name = variable("BACKEND");
        self.set.retain(|(set, _)| *set != name);
        self.set.push((name, backend.into()));
        self
    }

    /// Puts them into the environment of this process, which a program that takes its place inherits.
    pub fn put(&self) {
        for name in &self.unset {
            // SAFETY: this process has one thread.
            unsafe { env::remove_var(name) };
        }
        for (name, value) in &self.set {
            // SAFETY: as above.
            unsafe { env::set_var(name, value) };
        }
    }

    /// The settings that a program would find, without their prefix.
    pub fn settings(&self) -> Vec<(String, String)> {
        let text = |text: &OsStr| text.to_string_lossy().into_owned();
        let set =
            self.set.iter().filter_map(|(name, value)| Some((name.strip_prefix(PREFIX)?.to_owned(), text(value))));
        let changed = |name: &String| {
            let names = self.set.iter().map(|(name, _)| name).chain(&self.unset);
            names.filter_map(|changed| changed.strip_prefix(PREFIX)).any(|changed| changed == name)
        };
        let inherited = variables::own().settings().map(|(name, value)| (text(name), text(value)));
        inherited.filter(|(name, _)| !changed(name)).chain(set).collect()
    }

    /// What is set, by name.
    pub fn variables(&self) -> impl Iterator<Item = (&str, &OsStr)> {
        self.set.iter().map(|(name, value)| (&**name, &**value))
    }

    /// Lines that a shell takes.
    pub fn lines(&self, shell: Shell) -> Vec<u8> {
        let mut lines = Vec::new();
        for name in &self.unset {
            lines.push([shell.unset(), name.as_bytes()].concat());
        }
        for (name, value) in &self.set {
            lines.push([shell.set(), name.as_bytes(), shell.between(), &shell.quoted(value)].concat());
        }
        lines.join(&b'\n')
    }

    /// For machines: null is to be unset.
    pub fn json(&self) -> Value {
        let unset = self.unset.iter().map(|name| (name.clone(), Value::Null));
        let set = self.set.iter().map(|(name, value)| (name.clone(), json!(value.to_string_lossy())));
        Value::Object(unset.chain(set).collect::<Map<_, _>>())
    }
}

fn variable(name: &str) -> String {
    format!("{PREFIX}{name}")
}

/// As the library takes it: rules on one line, and paths that hold wherever a child of the program changes to.
fn text(opt: &Opt, text: &str) -> OsString {
    match opt.target {
        Target::Own(Own::Rules) => text.replace('\n', "; ").into(),
        Target::Own(Own::Config | Own::LogFile) if !text.is_empty() && !text.eq_ignore_ascii_case("default") => {
            absolute(text).map_or_else(|_| text.into(), Into::into)
        }
        _ => text.into(),
    }
}

/// For which shell lines are written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Shell {
    /// sh(1), and so bash, dash and zsh.
    Posix,
    Fish,
}

impl Shell {
    const fn set(self) -> &'static [u8] {
        match self {
            Self::Posix => b"export ",
            Self::Fish => b"set -gx ",
        }
    }

    const fn unset(self) -> &'static [u8] {
        match self {
            Self::Posix => b"unset ",
            Self::Fish => b"set -e ",
        }
    }

    const fn between(self) -> &'static [u8] {
        match self {
            Self::Posix => b"=",
            Self::Fish => b" ",
        }
    }

    /// A word as the shell takes it.
    pub fn quoted(self, word: &OsStr) -> Vec<u8> {
        match self {
            // It refuses only null bytes, which no argument and no variable can have.
            Self::Posix => shlex::bytes::try_quote(word.as_bytes()).unwrap_or_default().into_owned(),
            Self::Fish => {
                let mut quoted = b"'".to_vec();
                for byte in word.as_bytes() {
                    if matches!(byte, b'\\' | b'\'') {
                        quoted.push(b'\\');
                    }
                    quoted.push(*byte);
                }
                quoted.push(b'\'');
                quoted
            }
        }
    }
}
