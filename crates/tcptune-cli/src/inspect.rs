//! `tcptune inspect`: the TCP sockets of a running process, with their options as they are.

use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::error::Error;
use crate::output::{Output, Tone};

/// Its flags.
pub fn command() -> Command {
    Command::new("inspect").about("Show every TCP socket of a running process with its actual options")
}

/// Does it.
pub fn run(_matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    if out.is_json() {
        out.print_json(&serde_json::json!([]))?;
    }
    let mut table = out.table(&["fd", "state"]);
    table.add_row(vec![
        out.cell(Tone::Good, 3),
        out.cell(Tone::Warning, 4),
        out.cell(Tone::Bad, out.paint(Tone::Faint, "?")),
    ]);
    out.print_table(&table)?;
    Err(Error::failed("not there yet"))
}
