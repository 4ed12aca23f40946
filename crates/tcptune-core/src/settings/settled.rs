//! Settings: settled once, before main, and never changed.

use std::fmt;

use crate::options::table::{OPTIONS, Own, Target};
use crate::options::value::{Kind, Value};
use crate::options::words::Choice;
use crate::settings::profile::{InForce, Profile};
use crate::settings::rules::Rules;
use crate::settings::source::{Place, Source};

/// By which way a program is reached.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Backend {
    /// The one that suits the program.
    #[default]
    Auto,
    /// The preloaded library.
    Preload,
    /// A supervisor, by seccomp user notification.
    Notify,
    /// BPF programs of a cgroup.
    Cgroup,
}

impl Backend {
    /// Whether another one than the library.
    #[must_use]
    pub const fn is_not_the_library(self) -> bool {
        matches!(self, Self::Notify | Self::Cgroup)
    }
}

/// All settings in force.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a setting of its own")]
pub struct Settings {
    /// What holds without a rule, then what holds under each rule that this process can meet.
    pub profiles: Vec<Profile>,
    /// Which of them holds for a socket.
    pub rules: Rules,
    /// What holds without a rule, or by one that holds for the whole process; for people.
    pub in_force: Vec<InForce>,
    /// The file of `TCPTUNE_CONFIG`.
    pub config: Option<String>,
    /// The profile of `TCPTUNE_PROFILE`: its file, or `profile NAME`.
    pub profile_source: Option<String>,
    /// Whether this program is tuned: `ONLY_PROGRAMS`, `SKIP_PROGRAMS`.
    pub in_scope: bool,
    /// By which way the program is reached.
    pub backend: Backend,
    /// Whether a wrong setting keeps the program from starting.
    pub strict: bool,
    /// Whether everything is left alone.
    pub disabled: bool,
    /// Whether counts are reported at exit.
    pub stats: bool,
    /// How much is reported.
    pub log: log::LevelFilter,
    /// Where to, if not to standard error.
    pub log_file: Option<String>,
}

impl Settings {
    /// The profile of this number.
    #[must_use]
    pub fn profile(&self, index: u32) -> Option<&Profile> {
        self.profiles.get(usize::try_from(index).ok()?)
    }

    /// The profile of every socket, where no rule looks at addresses.
    #[must_use]
    pub fn only_profile(&self) -> Option<&Profile> {
        if self.rules.is_empty() { self.profile(self.rules.fallback()) } else { None }
    }

    /// Whether no socket could be treated differently than without tcptune.
    #[must_use]
    pub fn leaves_all_alone(&self) -> bool {
        let profiles = || match self.only_profile() {
            Some(profile) => std::slice::from_ref(profile),
            None => &self.profiles,
        };
        self.disabled || !self.in_scope || profiles().iter().all(Profile::is_empty)
    }

    /// The name of a source of rules.
    #[must_use]
    pub fn source(&self, source: Source) -> &str {
        match source {
            Source::System => crate::settings::config::SYSTEM,
            Source::Config => self.config.as_deref().unwrap_or_default(),
            Source::Profile => self.profile_source.as_deref().unwrap_or_default(),
            Source::Environment => "TCPTUNE_RULES",
        }
    }

    /// Where a rule stands, as `source:line:column`.
    #[must_use]
    pub fn at(&self, rule: Place) -> At<'_> {
        At { source: self.source(rule.source), line: rule.line, column: rule.column }
    }
}

/// Displays where a rule stands.
#[derive(Clone, Copy, Debug)]
pub struct At<'a> {
    source: &'a str,
    line: u32,
    column: u32,
}

impl fmt::Display for At<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}:{}:{}", self.source, self.line, self.column)
    }
}

/// Displays the settings in force, on one line.
#[derive(Clone, Copy, Debug)]
pub struct Summary<'a>(pub &'a Settings);

impl fmt::Display for Summary<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let settings = self.0;
        if settings.leaves_all_alone() {
            return f.write_str("nothing, every socket is left alone");
        }
        let of_a_socket = |target| match target {
            Target::Socket(_) => true,
            Target::Own(own) => own.is_of_a_socket() && own != Own::Precedence,
        };
        for (setting, option) in settings.in_force.iter().filter_map(|s| Some((s, OPTIONS.get(s.row)?))) {
            let value = option.kind.show(&setting.value);
            if of_a_socket(option.target) {
                write!(f, "{}={value} ", option.name())?;
            }
        }
        let precedence = settings.profile(settings.rules.fallback()).map_or(0, |profile| profile.precedence() as i64);
        write!(f, "PRECEDENCE={}", Kind::Choice(Choice::Precedence).show(&Value::Int(precedence)))?;
        match (settings.only_profile().and_then(|profile| profile.rule), settings.profiles.len() - 1) {
            (Some(rule), _) => write!(f, ", by the rule at {}", settings.at(rule)),
            (None, 0) => Ok(()),
            (None, 1) => f.write_str(", 1 rule"),
            (None, rules) => write!(f, ", {rules} rules"),
        }
    }
}
