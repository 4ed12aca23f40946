//! What the parser of the command line says, in the form of all other errors.

use std::ffi::OsString;
use std::process::ExitCode;

use clap::error::ErrorKind;

use super::error::Error;

/// Help and version are printed; all else is an error in one line.
pub fn wrong(error: &clap::Error, args: &[OsString]) -> Result<ExitCode, Error> {
    if matches!(
        error.kind(),
        ErrorKind::DisplayHelp | ErrorKind::DisplayVersion | ErrorKind::DisplayHelpOnMissingArgumentOrSubcommand
    ) {
        error.print()?;
        return Ok(ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(2)));
    }
    if error.kind() == ErrorKind::MissingSubcommand {
        return Err(Error::usage("a subcommand or a program is missing").hint("see tcptune --help"));
    }
    let whole = crate::command();
    let subcommand =
        args.iter().skip(1).filter_map(|arg| whole.find_subcommand(arg)).map(clap::Command::get_name).next();
    let help = subcommand.map_or("tcptune --help".to_owned(), |subcommand| format!("tcptune {subcommand} --help"));
    Err(Error::usage(in_one_line(&error.to_string())).hint(format!("see {help}")))
}

/// The text up to the usage, which is in the help as well: what is wrong, what is possible, and tips.
fn in_one_line(text: &str) -> String {
    let mut line = String::new();
    for part in text.lines().take_while(|part| !part.starts_with("Usage:") && !part.starts_with("For more information"))
    {
        let part = part.trim().trim_start_matches("error: ");
        if part.is_empty() {
            continue;
        }
        if let Some(tip) = part.strip_prefix("tip: ") {
            // `-- --keepidel` would run a program of that name.
            if !tip.starts_with("to pass") {
                line.push_str("; ");
                line.push_str(tip);
            }
        } else {
            line.push_str(if line.is_empty() { "" } else { " " });
            line.push_str(part);
        }
    }
    line
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn several_lines_become_one() {
        let text = "error: unexpected argument '--x' found\n\n  tip: a similar argument exists: '--y'\n  tip: to pass\n\n\
                    Usage: tcptune\n\nFor more information, try '--help'.\n";
        assert_eq!(in_one_line(text), "unexpected argument '--x' found; a similar argument exists: '--y'");
        let text = "error: the following required arguments were not provided:\n  <COMMAND>...\n\nUsage: x\n";
        assert_eq!(in_one_line(text), "the following required arguments were not provided: <COMMAND>...");
    }
}
