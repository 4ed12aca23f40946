//! The `tcptune` command: runs programs with libtcptune.so preloaded, explains settings, and looks at live sockets.

#![deny(clippy::print_stderr, clippy::print_stdout)] // text of others is made safe in screens/
#![deny(clippy::disallowed_methods)] // clippy.toml of this crate: only system/variables.rs reads the environment

mod commands;
mod live;
mod program;
mod screens;
mod settings;
mod system;
mod ways;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{ArgMatches, Command};

use crate::commands::{
    apply, attach, attached, check, completions, detach, env, explain, inspect, man, profile, run, stats, unit,
};
use crate::screens::error::Error;
use crate::screens::output::{self, Output};
use crate::screens::usage;
use crate::system::inherited;

const LONG_ABOUT: &str = "\
Tunes the TCP sockets of unmodified programs: starts them with libtcptune.so preloaded, which sets socket options and \
bounds how long connecting may take; explains what settings come to; and looks at, or changes, the sockets of programs \
that are already running.";

const AFTER_HELP: &str = "\
A program may stand in place of a subcommand: `tcptune --keepidle 60 curl URL` is `tcptune run --keepidle 60 curl URL`.

Exit status: 0, 1 (failed), 2 (wrong usage or a wrong setting), 126 (the program cannot be started or tuned), 127 (no \
such program); of `run`, that of the program.

docs/troubleshooting.md, which the packages install below /usr/share/doc/tcptune, has more by symptom.

Examples:
  tcptune --connect-timeout 3s legacy-client        # a connect hangs
  tcptune --profile cloud-nat legacy-client         # an idle connection hangs, or is reset
  tcptune --recv-timeout 30s legacy-client          # a server accepts, and never answers
  tcptune --reuseaddr on legacy-server              # \"Address already in use\" after a restart
  tcptune --profile server legacy-server            # connections of clients that are gone pile up
  tcptune inspect --all --state syn_sent            # who waits for a connect now
  tcptune check PID                                 # is it tuned, with what, and if not, why
  tcptune explain --profile fast-fail               # what settings mean in seconds";

/// The whole command line; help, completions and man pages are made of it.
#[must_use]
pub fn command() -> Command {
    Command::new("tcptune")
        .version(clap::crate_version!())
        .about("Tunes the TCP sockets of unmodified programs")
        .long_about(LONG_ABOUT)
        .after_long_help(AFTER_HELP)
        .subcommand_required(true)
        .arg_required_else_help(true)
        .args(output::args())
        .subcommand(run::command())
        .subcommand(run::shell_command())
        .subcommand(env::command())
        .subcommand(profile::command())
        .subcommand(explain::command())
        .subcommand(check::command())
        .subcommand(inspect::command())
        .subcommand(apply::command())
        .subcommand(stats::command())
        .subcommand(attach::command())
        .subcommand(attached::command())
        .subcommand(detach::command())
        .subcommand(unit::enable_command())
        .subcommand(unit::disable_command())
        .subcommand(completions::command())
        .subcommand(completions::ask_command())
        .subcommand(man::command())
        .subcommand(Command::new("version").about("Print the version").hide(true))
}

fn dispatch(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    match matches.subcommand() {
        Some(("run", of_it)) => run::run(of_it, out),
        Some(("shell", of_it)) => run::run_shell(of_it, out),
        Some(("env", of_it)) => env::run(of_it, out),
        Some(("profile", of_it)) => profile::run(of_it, out),
        Some(("explain", of_it)) => explain::run(of_it, out),
        Some(("check", of_it)) => check::run(of_it, out),
        Some(("inspect", of_it)) => inspect::run(of_it, out),
        Some(("apply", of_it)) => apply::run(of_it, out),
        Some(("stats", of_it)) => stats::run(of_it, out),
        Some(("attach", of_it)) => attach::run(of_it, out),
        Some(("attached", of_it)) => attached::run(of_it, out),
        Some(("detach", of_it)) => detach::run(of_it, out),
        Some(("enable", of_it)) => unit::enable(of_it, out),
        Some(("disable", of_it)) => unit::disable(of_it, out),
        Some(("completions", of_it)) => completions::run(of_it, out),
        Some(("complete", of_it)) => completions::ask(of_it, out),
        Some(("version", _)) => out.print(command().render_version().trim_end()).map(|()| ExitCode::SUCCESS),
        Some(("man", of_it)) => man::run(of_it, out),
        _ => Err(Error::usage("a subcommand or a program is missing").hint("see tcptune --help")),
    }
}

fn main() -> ExitCode {
    inherited::restore_sigpipe();
    let args: Vec<OsString> = run::without_run(std::env::args_os().collect(), &command());
    let args = check::with_pid_last(args);
    let json = args.iter().take_while(|arg| *arg != "--").any(|arg| arg == "--json");
    let result = match command().try_get_matches_from(&args) {
        Ok(matches) => dispatch(&matches, &Output::new(&matches)),
        Err(error) => usage::wrong(&error, &args),
    };
    result.unwrap_or_else(|error| error.tell(json))
}
