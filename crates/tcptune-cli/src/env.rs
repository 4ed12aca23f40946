//! `tcptune env`.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::error::Error;
use crate::output::Output;

/// Its flags.
pub fn command() -> Command {
    Command::new("env").about("Print the environment that `run` would set, for eval")
}

/// Does it.
pub fn run(_matches: &ArgMatches, _out: &Output) -> Result<ExitCode, Error> {
    Err(Error::failed("not there yet"))
}
