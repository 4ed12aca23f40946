//! Completions for shells and man pages, made of the definition of the command line.

use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use crate::error::Error;
use crate::output::Output;

/// Flags of `completions`.
pub fn command() -> Command {
    Command::new("completions").about("Print completions for a shell").arg(
        Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell)).help("Which shell"),
    )
}

/// Prints completions.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let Some(shell) = matches.get_one::<Shell>("shell") else { return Err(Error::usage("a shell is missing")) };
    let mut script = Vec::new();
    clap_complete::generate(*shell, &mut crate::command(), "tcptune", &mut script);
    out.print(String::from_utf8_lossy(&script).trim_end())?;
    Ok(ExitCode::SUCCESS)
}

/// Flags of `man`, which builds the release.
pub fn man_command() -> Command {
    Command::new("man").about("Print the man page").hide(true)
}

/// Prints the man page.
pub fn run_man(_matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let mut page = Vec::new();
    clap_mangen::Man::new(crate::command()).render(&mut page)?;
    out.print(String::from_utf8_lossy(&page).trim_end())?;
    Ok(ExitCode::SUCCESS)
}
