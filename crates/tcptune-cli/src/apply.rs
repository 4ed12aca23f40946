//! `tcptune apply`: sets options on the live sockets of a running process.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use tcptune_core::option::Target;

use crate::error::Error;
use crate::flags::{self, Given};
use crate::output::Output;

/// Its flags.
pub fn command() -> Command {
    let command = Command::new("apply").about("Set options on the live TCP sockets of a running process");
    flags::with(command, |opt| matches!(opt.target, Target::Socket(_)))
}

/// Does it.
pub fn run(matches: &ArgMatches, _out: &Output) -> Result<ExitCode, Error> {
    let settings = Given::new(matches)?.settings()?;
    Err(Error::failed(format!("not there yet: {} settings", settings.in_force.len())))
}
