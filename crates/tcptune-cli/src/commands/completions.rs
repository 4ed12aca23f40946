//! Completions for shells and man pages, made of the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;
use clap_mangen::Man;

use crate::screens::error::Error;
use crate::screens::output::Output;

const EXAMPLES: &str = "\
Examples:
  tcptune completions bash >/etc/bash_completion.d/tcptune
  tcptune completions fish >~/.config/fish/completions/tcptune.fish";

/// Flags of `completions`.
pub fn command() -> Command {
    Command::new("completions").about("Print completions for a shell").after_help(EXAMPLES).arg(
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

/// Flags of `man`, which the release is built with.
pub fn man_command() -> Command {
    Command::new("man")
        .about("Write the man pages, one for each subcommand")
        .hide(true)
        .arg(Arg::new("date").long("date").value_name("YYYY-MM-DD").default_value("").help("The date in them"))
        .arg(
            Arg::new("directory")
                .value_name("DIRECTORY")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Where to"),
        )
}

/// Writes the man pages.
pub fn run_man(matches: &ArgMatches, _out: &Output) -> Result<ExitCode, Error> {
    let directory = matches.get_one::<PathBuf>("directory").ok_or_else(|| Error::usage("a directory is missing"))?;
    let date = matches.get_one::<String>("date").map_or("", String::as_str);
    let mut whole = crate::command();
    whole.build();
    pages(&whole, date, directory)
        .map_err(|error| Error::failed(format!("{}: cannot be written: {error}", directory.display())))?;
    Ok(ExitCode::SUCCESS)
}

fn pages(command: &Command, date: &str, directory: &Path) -> io::Result<()> {
    let page =
        Man::new(command.clone().mut_args(with_aliases)).date(date).source(concat!("tcptune ", clap::crate_version!()));
    let mut text = Vec::new();
    page.render(&mut text)?;
    // mandoc(1) warns of the line breaks that the generator writes between paragraphs.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.sp\n");
    let name = command.get_display_name().unwrap_or_else(|| command.get_name());
    let others = if name == "tcptune" { "" } else { ".BR tcptune (1),\n" };
    let text = format!("{text}.SH SEE ALSO\n{others}.BR libtcptune (7),\n.BR tcp (7),\n.BR socket (7)\n");
    fs::write(directory.join(page.get_filename()), text)?;
    command
        .get_subcommands()
        .filter(|command| !command.is_hide_set())
        .try_for_each(|of_it| pages(of_it, date, directory))
}

/// Other names of a flag, which the generator leaves out.
fn with_aliases(arg: Arg) -> Arg {
    let aliases: Vec<_> =
        arg.get_visible_aliases().unwrap_or_default().iter().map(|name| format!("--{name}")).collect();
    match arg.get_help() {
        Some(help) if !aliases.is_empty() => {
            let help = format!("{help} Also {}.", aliases.join(", "));
            arg.long_help(help)
        }
        _ => arg,
    }
}
