//! Completion in shells: what is possible is said by the command itself, each time it is asked; a shell has a script that
//! asks.

mod line;

use std::ffi::OsString;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_complete::Shell;

use self::line::Answer;
use crate::screens::error::Error;
use crate::screens::output::Output;

const EXAMPLES: &str = "\
The packages install them. They ask the `tcptune` in PATH what is possible: settings, profiles, congestion controls, \
devices, programs, processes.

Examples:
  source <(tcptune completions bash)
  tcptune completions zsh >/usr/local/share/zsh/site-functions/_tcptune
  tcptune completions fish >~/.config/fish/completions/tcptune.fish";

/// Flags of `completions`.
pub fn command() -> Command {
    Command::new("completions").about("Print completions for a shell").after_help(EXAMPLES).arg(
        Arg::new("shell").value_name("SHELL").required(true).value_parser(value_parser!(Shell)).help("Which shell"),
    )
}

/// Prints completions.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let script = match matches.get_one::<Shell>("shell") {
        Some(Shell::Bash) => include_bytes!("tcptune.bash").to_vec(),
        Some(Shell::Zsh) => include_bytes!("tcptune.zsh").to_vec(),
        Some(Shell::Fish) => include_bytes!("tcptune.fish").to_vec(),
        Some(other) => {
            let mut script = Vec::new();
            clap_complete::generate(*other, &mut crate::command(), "tcptune", &mut script);
            script
        }
        None => return Err(Error::usage("a shell is missing")),
    };
    out.print_bytes(script.trim_ascii_end())?;
    Ok(ExitCode::SUCCESS)
}

/// What those scripts ask: the words of a command line up to the cursor.
pub fn ask_command() -> Command {
    Command::new("complete").about("Print what may stand at the end of a command line").hide(true).arg(
        Arg::new("words")
            .value_name("WORDS")
            .num_args(1..)
            .last(true)
            .required(true)
            .value_parser(value_parser!(OsString)),
    )
}

/// Answers: the first line is `words`, and the others are words, each with a tab and its help; or it is `files`; or it is
/// `command N`: what begins with the word N is the command line of another program.
pub fn ask(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let words = matches.get_many("words").unwrap_or_default().cloned().collect();
    match line::possible(words, &crate::command()) {
        Answer::Words(words) => {
            let lines = words.iter().map(|(word, help)| format!("\n{word}\t{help}"));
            out.print_bytes(format!("words{}", lines.collect::<String>()).as_bytes())?;
        }
        Answer::Files => out.print_bytes(b"files")?,
        Answer::Command(at) => out.print_bytes(format!("command {at}").as_bytes())?,
    }
    Ok(ExitCode::SUCCESS)
}
