//! `tcptune env`: the environment of `run`, for a shell.

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use tcptune_core::options::ways::Ways;

use crate::screens::error::{Error, say};
use crate::screens::output::Output;
use crate::settings::flags::{self, Given};
use crate::ways::preload::environment::{Environment, Shell};
use crate::ways::preload::library::{self, Library};

const EXAMPLES: &str = "  \
  eval \"$(tcptune env --keepidle 60)\"   the rest of this shell
  eval \"$(tcptune env --unset)\"         and no more
  tcptune env --shell fish --nodelay on | source";

/// Its flags.
pub fn command() -> Command {
    let command = Command::new("env").about("Print the environment that `run` would set, as lines for `eval`");
    let shell = Arg::new("shell")
        .long("shell")
        .value_name("SHELL")
        .value_parser(["sh", "bash", "dash", "zsh", "fish"])
        .default_value("sh")
        .hide_default_value(true)
        .help("For which shell");
    let unset = Arg::new("unset")
        .long("unset")
        .action(ArgAction::SetTrue)
        .help("Print what takes the library and all settings out of the environment");
    flags::with(command.arg(library::arg()).args([shell, unset]), |_| true, Ways::ALL, EXAMPLES)
}

/// Prints it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let given = Given::new(matches)?;
    given.settings()?;
    for trap in given.traps() {
        say(&trap);
    }
    let environment = if matches.get_flag("unset") {
        Environment::none()
    } else {
        Environment::new(&given, &Library::find(matches, None)?.path)
    };
    if out.is_json() {
        out.print_json(&environment.json())?;
    } else {
        let is_fish = matches.get_one::<String>("shell").is_some_and(|shell| shell == "fish");
        out.print_bytes(&environment.lines(if is_fish { Shell::Fish } else { Shell::Posix }))?;
    }
    Ok(ExitCode::SUCCESS)
}
