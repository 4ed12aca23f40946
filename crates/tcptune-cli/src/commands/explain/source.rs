//! Where a setting or a rule stands, for people.

use tcptune_core::options::table::{self, OPTIONS, PREFIX};
use tcptune_core::settings::profile::InForce;
use tcptune_core::settings::settled::Settings;
use tcptune_core::settings::source::{Place, Source};

use crate::settings::flags::{self, Given, Origin};

/// What the sources said.
#[derive(Default)]
pub struct Sources {
    given: Vec<(usize, Origin)>,
    /// The variables that are set, without their prefix.
    variables: Vec<String>,
    rules: String,
    system: String,
    config: String,
    profile: String,
}

impl Sources {
    pub fn new(given: &Given, variables: &[(String, String)]) -> Self {
        Self {
            given: given.iter().map(|said| (said.row, said.origin.clone())).collect(),
            variables: variables.iter().map(|(name, _)| name.clone()).collect(),
            rules: variables.iter().find(|(name, _)| name == "RULES").map_or(String::new(), |(_, text)| text.clone()),
            ..Self::default()
        }
    }

    /// Keeps the text of a file, to show rules of it.
    pub fn keep(&mut self, source: Source, text: &Result<Option<String>, String>) {
        let text = text.as_ref().ok().cloned().flatten().unwrap_or_default();
        match source {
            Source::System => self.system = text,
            Source::Config => self.config = text,
            Source::Profile => self.profile = text,
            Source::Environment => {}
        }
    }

    /// Where a setting stands.
    pub fn shown(&self, setting: &InForce, settings: &Settings) -> String {
        let opt = &OPTIONS[setting.row];
        let Place { source, line, .. } = setting.place;
        if let Some(time) = Self::implies(setting, settings).filter(|_| self.variable(opt.name()).is_none()) {
            return format!("implied by {time}");
        }
        if source == Source::Environment && line > 0 {
            return self.at(setting.place);
        }
        if source != Source::Environment {
            return format!("{}:{line}", settings.source(source));
        }
        match self.given.iter().find(|(row, _)| *row == setting.row) {
            Some((_, Origin::Flag)) => format!("--{}", flags::name(opt)),
            Some((_, Origin::Profile(name))) => format!("profile {name}"),
            None => format!("{PREFIX}{}", self.variable(opt.name()).unwrap_or(opt.name())),
        }
    }

    /// The time of keepalive that turns it on.
    fn implies(setting: &InForce, settings: &Settings) -> Option<&'static str> {
        let is_keepalive = OPTIONS[setting.row].name() == "KEEPALIVE";
        let mut times = settings.in_force.iter().filter(|time| OPTIONS[time.row].name().starts_with("KEEP"));
        let time = times.find(|time| is_keepalive && time.row != setting.row && time.place == setting.place)?;
        Some(OPTIONS[time.row].name())
    }

    /// The variable of a row, which may have another name of it.
    fn variable(&self, name: &str) -> Option<&str> {
        let is_it = |variable: &&String| table::find(variable).is_some_and(|(_, opt)| opt.name() == name);
        self.variables.iter().find(is_it).map(String::as_str)
    }

    /// The text of a source of rules.
    pub fn text(&self, source: Source) -> &str {
        match source {
            Source::System => &self.system,
            Source::Config => &self.config,
            Source::Profile => &self.profile,
            Source::Environment => &self.rules,
        }
    }

    /// Where a rule of the environment stands.
    fn at(&self, place: Place) -> String {
        let given = self.given.iter().find(|(row, _)| OPTIONS[*row].name() == "RULES");
        let by = match given {
            Some((_, Origin::Flag)) => "--rule".to_owned(),
            Some((_, Origin::Profile(name))) => format!("profile {name}, rule"),
            None => format!("{PREFIX}RULES"),
        };
        format!("{by}:{}:{}", place.line, place.column)
    }

    /// A rule as it is written.
    pub fn rule(&self, place: Place) -> String {
        let Place { source, line, column } = place;
        let text = self.text(source);
        let index = |n: u32| usize::try_from(n.saturating_sub(1)).unwrap_or(0);
        let line_text = text.lines().nth(index(line)).unwrap_or_default();
        let rest: String = line_text.chars().skip(index(column)).collect();
        rest.split([';', '#']).next().unwrap_or_default().trim().to_owned()
    }
}
