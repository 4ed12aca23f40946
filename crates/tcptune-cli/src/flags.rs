//! Settings as flags: one for each row of the option table, `--keepidle 60` for `TCPTUNE_KEEPIDLE=60`.

use clap::builder::{PossibleValue, StringValueParser, TypedValueParser};
use clap::{Arg, ArgAction, ArgMatches, Command};
use tcptune_core::diagnostic::{Diagnostic, Subject};
use tcptune_core::option::{DOCS, OPTIONS, Opt, Own, Target};
use tcptune_core::settings::{PREFIX, Settings};
use tcptune_core::value::{Kind, Word};

use crate::error::Error;
use crate::kernel;

/// The name of a row's flag, without the dashes.
pub fn name(opt: &Opt) -> String {
    match opt.target {
        Target::Own(Own::Rules) => "rule".to_owned(),
        _ => dashed(opt.name),
    }
}

fn dashed(name: &str) -> String {
    name.to_ascii_lowercase().replace('_', "-")
}

/// The flags of the rows that are wanted.
pub fn args(wanted: fn(&Opt) -> bool) -> impl Iterator<Item = Arg> {
    OPTIONS.iter().zip(&DOCS).filter(move |(opt, _)| wanted(opt)).map(|(opt, doc)| {
        let (heading, is_rule) = match opt.target {
            Target::Socket(_) => ("Settings: socket options", false),
            Target::Own(own) if own.is_of_a_socket() => ("Settings: connecting and listening", false),
            Target::Own(own) => ("Settings: the whole process", own == Own::Rules),
        };
        let help = format!("{} {}", doc.help, capitalised(&opt.kind.accepted(opt.range).to_string()));
        Arg::new(opt.name)
            .long(name(opt))
            .visible_aliases(opt.aliases.iter().map(|alias| dashed(alias)))
            .value_name(value_name(opt.kind))
            .value_parser(Text(suggested(opt.kind)))
            .hide_possible_values(true) // they stand in the help text
            .action(if is_rule { ArgAction::Append } else { ArgAction::Set })
            .allow_hyphen_values(true) // -1 is a wrong value, and not a flag
            .hide_short_help(true)
            .help_heading(heading)
            .help(help)
    })
}

/// A command with these flags, and where to find them.
pub fn with(command: Command, wanted: fn(&Opt) -> bool) -> Command {
    command.args(args(wanted)).after_help("Settings, such as --keepidle 60 --connect-timeout 3s: see --help.")
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

/// What a shell offers to complete.
const fn suggested(kind: Kind) -> &'static [&'static str] {
    match kind {
        Kind::Bool => &["on", "off"],
        Kind::Choice(words) => words,
        Kind::Duration { word: Some(Word::Auto), .. } => &["auto"],
        Kind::Duration { word: Some(Word::Off), .. } => &["off"],
        _ => &[],
    }
}

/// Takes any text, so that a wrong value gets the library's own message; offers some to shells.
#[derive(Clone)]
struct Text(&'static [&'static str]);

impl TypedValueParser for Text {
    type Value = String;

    fn parse_ref(&self, command: &Command, arg: Option<&Arg>, value: &std::ffi::OsStr) -> Result<String, clap::Error> {
        StringValueParser::new().parse_ref(command, arg, value)
    }

    fn possible_values(&self) -> Option<Box<dyn Iterator<Item = PossibleValue> + '_>> {
        (!self.0.is_empty()).then(|| Box::new(self.0.iter().map(PossibleValue::new)) as _)
    }
}

/// The settings that the command line gives, as text.
#[derive(Debug, Default)]
pub struct Given(Vec<(usize, String)>);

impl Given {
    /// In the order of the table. Several rules are lines of one text.
    pub fn new(matches: &ArgMatches) -> Self {
        let given = OPTIONS.iter().enumerate().filter_map(|(row, opt)| {
            let values = matches.try_get_many::<String>(opt.name).ok()??;
            Some((row, values.cloned().collect::<Vec<_>>().join("\n")))
        });
        Self(given.collect())
    }

    /// Row and text of each.
    pub fn iter(&self) -> impl Iterator<Item = (usize, &str)> {
        self.0.iter().map(|(row, text)| (*row, text.as_str()))
    }

    /// What they alone come to, without environment and files.
    pub fn settings(&self) -> Result<Settings, Error> {
        let variables = self.iter().map(|(row, text)| (OPTIONS[row].name.to_owned(), text.to_owned())).collect();
        let (settings, wrong) = Settings::parse(variables, kernel::keepalive_defaults);
        refuse(wrong)?;
        Ok(settings)
    }
}

/// The library's own messages about flags, which it knows as variables.
pub fn refuse(wrong: Vec<Diagnostic>) -> Result<(), Error> {
    if wrong.is_empty() {
        return Ok(());
    }
    let lines = wrong.into_iter().map(|mut diagnostic| {
        match &mut diagnostic.subject {
            Subject::Variable(variable) | Subject::Place { source: variable, .. } => {
                let row = variable.strip_prefix(PREFIX).and_then(tcptune_core::option::find);
                if let Some((_, opt)) = row {
                    *variable = format!("--{}", name(opt));
                }
            }
            Subject::File(_) => {}
        }
        diagnostic.to_string()
    });
    Err(Error::usage(lines.collect::<Vec<_>>().join("\ntcptune: ")).hint("nothing is started or changed"))
}
