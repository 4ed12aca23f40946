//! `tcptune explain`.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::error::Error;
use crate::output::Output;

/// Its flags.
pub fn command() -> Command {
    Command::new("explain").about("Explain what settings come to, beside what the kernel does by itself")
}

/// Does it.
pub fn run(_matches: &ArgMatches, _out: &Output) -> Result<ExitCode, Error> {
    Err(Error::failed("not there yet"))
}
