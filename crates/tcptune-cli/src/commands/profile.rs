//! `tcptune profile`: shows profiles.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use serde_json::json;

use crate::screens::error::Error;
use crate::screens::output::{Output, Tone};
use crate::settings::profile::{self, Profile};

/// Its subcommands.
pub fn command() -> Command {
    let show = Command::new("show")
        .about("Show the settings of a profile, each with its reason")
        .arg(Arg::new("name").value_name("NAME").required(true).add(profile::named()).help("Which one"));
    Command::new("profile")
        .about("Show profiles: settings for a purpose, each with its reason")
        .after_help(
            "A profile of your own is a file NAME.conf of lines `name = value` and rules in ~/.config/tcptune \
             ($XDG_CONFIG_HOME/tcptune) or /etc/tcptune; one of the same name takes the place of a built-in one.\n\n\
             Examples:\n  tcptune profile list\n  tcptune profile show cloud-nat\n  tcptune --profile cloud-nat legacy-client",
        )
        .subcommand_required(true)
        .arg_required_else_help(true)
        .subcommand(Command::new("list").about("List the profiles that there are"))
        .subcommand(show)
}

/// Lists them, or shows one.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    match matches.subcommand() {
        Some(("show", matches)) => show(matches, out)?,
        _ => list(out)?,
    }
    Ok(ExitCode::SUCCESS)
}

fn list(out: &Output) -> Result<(), Error> {
    let profiles = profile::all();
    if out.is_json() {
        let profiles = profiles
            .iter()
            .map(|profile| json!({ "name": profile.name(), "origin": profile.from(), "purpose": profile.purpose() }));
        return out.print_json(&profiles.collect::<Vec<_>>());
    }
    let mut table = out.table(&["Name", "Purpose", "From"]);
    for profile in profiles {
        let from = out.cell(Tone::Faint, profile.from());
        table.add_row(vec![out.cell(Tone::Plain, profile.name()), out.cell(Tone::Plain, profile.purpose()), from]);
    }
    out.print_table(&table)
}

fn show(matches: &ArgMatches, out: &Output) -> Result<(), Error> {
    let name = matches.get_one::<String>("name").map_or("", String::as_str);
    let profile = Profile::load(name)?;
    if out.is_json() {
        let settings = profile.settings();
        let settings =
            settings.iter().map(|(name, value, reason)| json!({ "name": name, "value": value, "reason": reason }));
        return out.print_json(&json!({
            "name": profile.name(),
            "origin": profile.from(),
            "purpose": profile.purpose(),
            "settings": settings.collect::<Vec<_>>(),
            "rules": profile.rules(),
        }));
    }
    for line in profile.text().trim_end().lines() {
        let at = line.find('#').unwrap_or(line.len());
        let (setting, comment) = line.split_at(at);
        out.print(format!(
            "{setting}{}",
            if comment.is_empty() { String::new() } else { out.paint(Tone::Faint, comment) }
        ))?;
    }
    Ok(())
}
