//! `tcptune run`: starts a program with the library preloaded.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};

use crate::error::Error;
use crate::flags::{self, Given};
use crate::output::Output;

/// Its flags.
pub fn command() -> Command {
    let command = Command::new("run").about("Run a program with its TCP sockets tuned").arg(
        Arg::new("command")
            .value_name("COMMAND")
            .required(true)
            .num_args(1..)
            .trailing_var_arg(true)
            .allow_hyphen_values(true)
            .value_parser(value_parser!(OsString))
            .help("The program, and its arguments"),
    );
    flags::with(command, |_| true)
}

/// Does it.
pub fn run(matches: &ArgMatches, _out: &Output) -> Result<ExitCode, Error> {
    for (row, text) in Given::new(matches).iter() {
        println!("{row} {text}");
    }
    Err(Error::failed("not there yet"))
}

/// The arguments, with `run` put in where the first that is no flag is not a subcommand either.
pub fn without_run(args: Vec<OsString>, whole: &Command) -> Vec<OsString> {
    let run = command();
    let known: Vec<&Arg> = run.get_arguments().chain(whole.get_arguments()).collect();
    let mut at = 1;
    let mut has_flag_of_run = false;
    while let Some(arg) = args.get(at).and_then(|arg| arg.to_str()).filter(|arg| arg.starts_with('-')) {
        if arg == "--" {
            has_flag_of_run = true;
            break;
        }
        let (long, has_value) = arg.split_once('=').map_or((arg, false), |(long, _)| (long, true));
        let found = long.strip_prefix("--").and_then(|long| {
            known.iter().find(|known| known.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long)))
        });
        let Some(found) = found else { return args }; // --help, --version, or a mistake to be named
        has_flag_of_run |= run.get_arguments().any(|arg| arg.get_id() == found.get_id());
        let takes_value = matches!(found.get_action(), ArgAction::Set | ArgAction::Append);
        at += if takes_value && !has_value { 2 } else { 1 };
    }
    let is_program = match args.get(at) {
        None => has_flag_of_run,
        Some(_) if has_flag_of_run => true,
        Some(first) => whole.find_subcommand(first).is_none(),
    };
    let mut args = args;
    if is_program {
        args.insert(1, "run".into());
    }
    args
}
