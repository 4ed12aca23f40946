//! `tcptune env`: the environment of `run`, for a shell.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::screens::error::Error;
use crate::screens::output::Output;
use crate::settings::flags::{self, Given};
use crate::ways::preload::environment::Environment;
use crate::ways::preload::library::{self, Library};

/// Its flags.
pub fn command() -> Command {
    let command = Command::new("env").about("Print the environment that `run` would set, as lines for `eval`");
    flags::with(command.arg(library::arg()), |_| true)
}

/// Prints it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let given = Given::new(matches)?;
    given.settings()?;
    let environment = Environment::new(&given, &Library::find(matches)?.path);
    if out.is_json() {
        out.print_json(&environment.json())?;
    } else {
        out.print(environment.lines().join("\n"))?;
    }
    Ok(ExitCode::SUCCESS)
}
