//! `tcptune check`.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::error::Error;
use crate::output::Output;

/// Its flags.
pub fn command() -> Command {
    Command::new("check").about("Tell whether a program can be tuned, or a running one is")
}

/// Does it.
pub fn run(_matches: &ArgMatches, _out: &Output) -> Result<ExitCode, Error> {
    Err(Error::failed("not there yet"))
}
