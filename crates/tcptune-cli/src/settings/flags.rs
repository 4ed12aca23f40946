//! Settings as flags: one for each row of the option table, `--keepidle 60` for `TCPTUNE_KEEPIDLE=60`.

use std::fmt::Write;

use clap::builder::{PossibleValue, StyledStr, TypedValueParser};
use clap::error::ErrorKind;
use clap::{Arg, ArgAction, ArgMatches, Command};
use tcptune_core::options::group::Group;
use tcptune_core::options::table::{self, DOCS, OPTIONS, Opt, Own, PREFIX, Target};
use tcptune_core::options::value::{Kind, Word};
use tcptune_core::options::ways::Ways;
use tcptune_core::settings::config::{self, Trust};
use tcptune_core::settings::diagnostic::{Diagnostic, Subject};
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::settled::Settings;
use tcptune_core::settings::source::{KeepaliveDefaults, Process, Source};

use crate::screens::candidates;
use crate::screens::error::Error;
use crate::settings::profile::{self, Profile};
use crate::system::{kernel, variables};

const RULES: &str = "RULES";

/// The name of a row's flag, without the dashes.
pub fn name(opt: &Opt) -> String {
    match opt.target {
        Target::Own(Own::Rules) => "rule".to_owned(),
        _ => dashed(opt.name()),
    }
}

fn dashed(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The flags of the rows that are wanted.
pub fn args(wanted: fn(&Opt) -> bool) -> impl Iterator<Item = Arg> {
    // It has a flag that is read before all others: `profile::arg`.
    let is_profile = |opt: &Opt| opt.target == Target::Own(Own::Profile);
    OPTIONS.iter().zip(&DOCS).filter(move |(opt, _)| wanted(opt) && !is_profile(opt)).map(|(opt, doc)| {
        let is_rule = matches!(opt.target, Target::Own(Own::Rules));
        let accepted = opt.kind.accepted(opt.range).to_string();
        // Words are taken as they are written.
        let accepted =
            if matches!(opt.kind, Kind::Choice(_)) { format!("One of {accepted}.") } else { capitalised(&accepted) };
        let help = format!("{} {accepted}", doc.help);
        let arg = Arg::new(opt.name())
            .long(name(opt))
            .visible_aliases(opt.names().skip(1).map(dashed))
            .value_name(value_name(opt.kind))
            .value_parser(Text(suggested(opt.kind)))
            .hide_possible_values(true) // they stand in the help text
            .action(if is_rule { ArgAction::Append } else { ArgAction::Set })
            .allow_hyphen_values(true) // -1 is a wrong value, and not a flag
            .hide_short_help(true)
            .help_heading(format!("Settings: {}", doc.group.title()))
            .help(help.clone())
            .long_help(help); // man pages have nothing else of what is hidden in the short help
        match (opt.target, opt.name()) {
            (Target::Own(Own::Config | Own::LogFile), _) => arg.add(candidates::files()),
            (_, "CONGESTION") => arg.add(candidates::words(kernel::congestion_controls)),
            (_, "BINDTODEVICE") => arg.add(candidates::words(kernel::devices)),
            _ => arg,
        }
    })
}

/// Two settings of each group, as the short help shows them.
const EXAMPLES: [(Group, [&str; 2]); 8] = [
    (Group::Keepalive, ["--keepidle 60", "--keepcnt 4"]),
    (Group::Connecting, ["--connect-timeout 3s", "--syncnt 2"]),
    (Group::Timeouts, ["--user-timeout 30s", "--linger 0"]),
    (Group::Listening, ["--reuseaddr on", "--backlog min:1024"]),
    (Group::Addresses, ["--source 10.0.0.7", "--bindtodevice eth1"]),
    (Group::Sending, ["--nodelay on", "--congestion bbr"]),
    (Group::Packets, ["--dscp ef", "--ttl 9"]),
    (Group::Library, ["--log info", "--rule 'dst=10.0.0.0/8 : connect_timeout=2s'"]),
];

/// A command with these flags, and examples of it; of settings those that one of these ways can set.
pub fn with(command: Command, wanted: fn(&Opt) -> bool, ways: Ways, examples: &str) -> Command {
    let command = command.arg(profile::arg()).args(args(wanted));
    let is_there = |example: &&str| {
        let long = example.trim_start_matches('-').split(' ').next().unwrap_or_default();
        let mut all = OPTIONS.iter().zip(&DOCS);
        all.any(|(opt, doc)| name(opt) == long && wanted(opt) && doc.ways.contains(ways))
    };
    let mut groups = "Settings (all are in --help):".to_owned();
    for (group, both) in EXAMPLES {
        let both: Vec<_> = both.iter().filter(|example| is_there(example)).copied().collect();
        if !both.is_empty() {
            let _ = write!(groups, "\n  {:<20} {}", group.title(), both.join("  "));
        }
    }
    let examples = format!("Examples:\n{examples}");
    let before = |text: Option<&StyledStr>| text.map_or(String::new(), |text| format!("{text}\n\n"));
    let (short, long) = (before(command.get_after_help()), before(command.get_after_long_help()));
    let long = if long.is_empty() { short.clone() } else { long };
    command.after_help(format!("{groups}\n\n{short}{examples}")).after_long_help(format!("{long}{examples}"))
}

fn capitalised(text: &str) -> String {
    let mut chars = text.chars();
    chars.next().map_or_else(String::new, |first| first.to_ascii_uppercase().to_string() + chars.as_str() + ".")
}

const fn value_name(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "ON|OFF",
        Kind::Count | Kind::Bits | Kind::Backlog => "N",
        Kind::Size => "BYTES",
        Kind::Duration { .. } => "TIME",
        Kind::Choice(_) => "WORD",
        Kind::TrafficClass { .. } => "CLASS",
        Kind::Name => "NAME",
        Kind::Addresses => "ADDRESS",
        Kind::Text(_) => "TEXT",
    }
}

/// What a shell offers to complete: words with spaces between.
const fn suggested(kind: Kind) -> &'static str {
    match kind {
        Kind::Bool => "on off",
        Kind::Choice(choice) => choice.text(),
        Kind::Duration { word: Some(Word::Auto), .. } => "auto",
        Kind::Duration { word: Some(Word::Off), .. } => "off",
        _ => "",
    }
}

/// Takes any text, so that a wrong value gets the library's own message; offers some to shells.
#[derive(Clone)]
pub struct Text(pub &'static str);

impl TypedValueParser for Text {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &std::ffi::OsStr) -> Result<String, clap::Error> {
        let Some(text) = value.to_str() else {
            let name = arg.map_or(String::new(), ToString::to_string);
            let message = format!("the value of {name} is not UTF-8: {}", value.display());
            return Err(clap::Error::raw(ErrorKind::InvalidUtf8, message).with_cmd(command));
        };
        Ok(text.to_owned())
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        (!self.0.is_empty()).then(|| Box::new(self.0.split(' ').map(PossibleValue::new)) as _)
    }
}

/// Where a setting of the command line stands.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Origin {
    Flag,
    Profile(String),
}

/// A setting of the command line, as text.
#[derive(Clone, Debug)]
pub struct Said {
    /// Index of its row in [`OPTIONS`].
    pub row: usize,
    pub text: String,
    pub origin: Origin,
}

/// The settings that the command line gives. Several rules are lines of one text.
#[derive(Clone, Debug, Default)]
pub struct Given {
    said: Vec<Said>,
    /// Whether `/etc/tcptune.conf` lies below them.
    over_system: bool,
}

impl Given {
    /// Flags, over those of the profile that is named.
    pub fn new(matches: &ArgMatches) -> Result<Self, Error> {
        let mut given = Self::default();
        if let Ok(Some(name)) = matches.try_get_one::<String>("profile") {
            let profile = Profile::load(name)?;
            let origin = Origin::Profile(profile.name().to_owned());
            for (name, value, _) in profile.settings() {
                given.say(name, value.to_owned(), origin.clone());
            }
            if !profile.rules().is_empty() {
                given.say(RULES, profile.rules().join("\n"), origin);
            }
        }
        for opt in &OPTIONS {
            let Ok(Some(values)) = matches.try_get_many::<String>(opt.name()) else { continue };
            let text = values.cloned().collect::<Vec<_>>().join("\n");
            // The first rule that matches counts, so those of the profile may follow.
            let below = given.said.iter().find(|said| opt.name() == RULES && OPTIONS[said.row].name() == RULES);
            let text = below.map_or(text.clone(), |below| format!("{text}\n{}", below.text));
            given.say(opt.name(), text, Origin::Flag);
        }
        Ok(given)
    }

    /// In place of what was said of the same option, be it by another name of it.
    fn say(&mut self, name: &str, text: String, origin: Origin) {
        let Some((row, opt)) = table::find(name) else { return };
        self.said.retain(|said| OPTIONS[said.row].target != opt.target || said.origin == origin);
        self.said.push(Said { row, text, origin });
    }

    /// Whether it names a profile, which takes the place of that of the environment.
    pub fn has_profile(&self) -> bool {
        self.said.iter().any(|said| matches!(said.origin, Origin::Profile(_)))
    }

    /// With all that a program would find below them.
    pub fn over_all(self) -> Self {
        Self { over_system: true, ..self.over_environment() }
    }

    /// What the system's file says, if it lies below them.
    pub fn system(&self) -> Result<Option<String>, String> {
        if self.over_system { config::read_system() } else { Ok(None) }
    }

    /// With those of the environment below them.
    pub fn over_environment(mut self) -> Self {
        let has_profile = self.has_profile();
        for (name, value) in variables::own().settings() {
            let found = name.to_str().zip(value.to_str()).and_then(|(name, value)| Some((table::find(name)?, value)));
            if let Some(((row, opt), value)) = found
                && !self.said.iter().any(|said| OPTIONS[said.row].target == opt.target)
                && !(has_profile && opt.target == Target::Own(Own::Profile))
            {
                self.said.push(Said { row, text: value.to_owned(), origin: Origin::Flag });
            }
        }
        self
    }

    /// Each of them.
    pub fn iter(&self) -> impl Iterator<Item = &Said> {
        self.said.iter()
    }

    /// What they alone come to, with the file that they name.
    pub fn settings(&self) -> Result<Settings, Error> {
        self.settings_where(kernel::keepalive_defaults)
    }

    /// The same, where these keepalive times hold.
    pub fn settings_where(&self, keepalive: impl FnOnce() -> KeepaliveDefaults) -> Result<Settings, Error> {
        self.settle(Process::default, keepalive)
    }

    /// The same for this process, as far as its rules know it.
    pub fn settings_of(&self, process: Process) -> Result<Settings, Error> {
        self.settle(|| process, kernel::keepalive_defaults)
    }

    fn settle(
        &self,
        process: impl FnOnce() -> Process,
        keepalive: impl FnOnce() -> KeepaliveDefaults,
    ) -> Result<Settings, Error> {
        let variables: Vec<_> = self.iter().map(|said| (OPTIONS[said.row].name(), said.text.as_str())).collect();
        let mut draft = Draft::new(&variables);
        draft.file(Source::System, self.system());
        if let Some(path) = draft.config() {
            let text = config::read(path, Trust::User);
            draft.file(Source::Config, text);
        }
        if let Some(name) = draft.profile() {
            let found = profile::find(name);
            draft.found(found);
        }
        let (settings, wrong) = draft.settle(process, keepalive);
        if wrong.is_empty() { Ok(settings) } else { Err(refused(wrong)) }
    }
}

/// The library's own messages about flags, which it knows as variables.
fn refused(wrong: Vec<Diagnostic>) -> Error {
    let lines = wrong.into_iter().map(|mut diagnostic| {
        match &mut diagnostic.subject {
            Subject::Variable(variable) | Subject::Place { source: variable, .. } => {
                let row = variable.strip_prefix(PREFIX).and_then(table::find);
                if let Some((_, opt)) = row {
                    *variable = format!("--{}", name(opt));
                }
            }
            Subject::File(_) => {}
        }
        diagnostic.to_string()
    });
    Error::usage(lines.collect::<Vec<_>>()).hint("nothing is started or changed")
}
