//! What may stand at the end of a command line.

use std::ffi::{OsStr, OsString};

use clap::Command;
use clap_complete::engine::{CompletionCandidate, complete};

use crate::commands::run;
use crate::live::select;
use crate::screens::candidates::is_files;

/// What a shell is told.
#[derive(Debug, PartialEq, Eq)]
pub enum Answer {
    /// Words, each with what it means.
    Words(Vec<(String, String)>),
    /// Names of files: a shell knows best how it writes them.
    Files,
    /// What begins with this word is the command line of another program.
    Command(usize),
}

/// Of such a command line, whose last word is being written.
pub fn possible(words: Vec<OsString>, whole: &Command) -> Answer {
    let Some(last) = words.len().checked_sub(1) else { return Answer::Words(Vec::new()) };
    let with_run = run::without_run(words.clone(), whole);
    let put_in = with_run.len() - words.len();
    if let Some(at) = program(&with_run).filter(|at| at - put_in < last) {
        return Answer::Command(at - put_in);
    }
    // The word may become a subcommand, or what `run` takes; where nothing of it is there, it is no program yet.
    let word = words.get(last).cloned().unwrap_or_default();
    let mut found = Vec::new();
    if last == 1 {
        found = candidates(words, whole);
    }
    if last > 1 || (put_in > 0 && !word.is_empty()) {
        found.extend(candidates(with_run, whole));
    }
    if found.iter().any(is_files) {
        return Answer::Files;
    }
    let is_flag = |found: &CompletionCandidate| found.get_value().as_encoded_bytes().starts_with(b"-");
    // Flags are many: they come when they are asked for, or nothing else is possible.
    if word.is_empty() && !found.iter().all(is_flag) {
        found.retain(|found| !is_flag(found));
    }
    let mut words = Vec::new();
    for found in &found {
        // A line each, and what is no text cannot be written to one.
        let Some(word) = found.get_value().to_str().filter(|word| !word.contains(char::is_control)) else { continue };
        if !words.iter().any(|(known, _)| known == word) {
            let help = found.get_help().map_or(String::new(), ToString::to_string);
            words.push((word.to_owned(), help.lines().next().unwrap_or_default().replace('\t', " ")));
        }
    }
    Answer::Words(words)
}

fn candidates(words: Vec<OsString>, whole: &Command) -> Vec<CompletionCandidate> {
    let last = words.len().saturating_sub(1);
    complete(&mut whole.clone(), words, last, None).unwrap_or_default()
}

/// The word that is a program of its own, of a command line that has its subcommand.
fn program(words: &[OsString]) -> Option<usize> {
    let whole = crate::command();
    let globals: Vec<_> = whole.get_arguments().cloned().collect();
    let subcommand = run::behind_flags(words, 1, &globals);
    let of_it = whole.find_subcommand(words.get(subcommand)?)?;
    if !matches!(of_it.get_name(), "run" | "check") {
        return None;
    }
    let flags: Vec<_> = globals.iter().chain(of_it.get_arguments()).cloned().collect();
    let at = run::behind_flags(words, subcommand + 1, &flags);
    let is_pid = words.get(at).and_then(|word| word.to_str()).is_some_and(select::is_number);
    if is_pid && of_it.get_name() == "check" {
        return None;
    }
    Some(if words.get(at).map(OsString::as_os_str) == Some(OsStr::new("--")) { at + 1 } else { at })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn at(line: &str) -> Answer {
        possible(line.split(' ').map(OsString::from).collect(), &crate::command())
    }

    fn words(line: &str) -> Vec<String> {
        match at(line) {
            Answer::Words(words) => words.into_iter().map(|(word, _)| word).collect(),
            other => panic!("{line}: {other:?}"),
        }
    }

    #[test]
    fn flags_of_the_short_form() {
        assert_eq!(words("tcptune --keepi"), ["--keepidle", "--keepintvl"]);
        assert_eq!(words("tcptune --keepidle 60 --keepc"), ["--keepcnt"]);
        assert_eq!(words("tcptune --vers"), ["--version"]);
        assert_eq!(words("tcptune --js"), ["--json"]);
        assert!(words("tcptune --").len() > 60, "all of them");
        let aliases = ["--keepalive", "--keepalive-time", "--keepalive-intvl", "--keepalive-probes"];
        assert_eq!(words("tcptune run --keepa"), aliases, "where they alone begin so");
    }

    #[test]
    fn subcommands_and_programs() {
        let first = words("tcptune ");
        assert!(first.contains(&"inspect".to_owned()) && first.contains(&"run".to_owned()), "{first:?}");
        assert!(!first.contains(&"sh".to_owned()) && !first.iter().any(|word| word.starts_with('-')), "{first:?}");
        assert!(!first.contains(&"complete".to_owned()) && !first.contains(&"man".to_owned()), "{first:?}");
        let both = words("tcptune en");
        assert!(both.contains(&"enable".to_owned()) && both.contains(&"env".to_owned()), "{both:?}");
        for line in ["tcptune s", "tcptune run s", "tcptune --keepidle 60 s", "tcptune check s"] {
            assert!(words(line).contains(&"sh".to_owned()), "{line}");
        }
        assert_eq!(at("tcptune run ./s"), Answer::Files);
    }

    #[test]
    fn values() {
        assert_eq!(words("tcptune run --precedence "), ["env", "program"]);
        assert_eq!(words("tcptune --profile fast"), ["fast-fail"]);
        assert_eq!(words("tcptune --profile=fast"), ["--profile=fast-fail"]);
        assert_eq!(words("tcptune profile show fast"), ["fast-fail"]);
        assert!(words("tcptune apply --bindtodevice ").contains(&"lo".to_owned()));
        assert!(words("tcptune inspect --state syn").contains(&"syn_sent".to_owned()));
        let pid = std::process::id().to_string();
        assert!(words(&format!("tcptune check {pid}")).is_empty(), "not the command itself");
        assert!(words("tcptune inspect 1").contains(&"1".to_owned()));
        assert_eq!(at("tcptune --config /"), Answer::Files);
        assert_eq!(words("tcptune run --keepidle "), [""; 0], "a number is the operator's");
    }

    #[test]
    fn behind_a_program_its_own_command_line_begins() {
        for (line, word) in [
            ("tcptune curl -", 1),
            ("tcptune run curl --keepi", 2),
            ("tcptune --keepidle 60 --force -- curl ", 5),
            ("tcptune --json run --profile=x curl a", 4),
            ("tcptune check curl ", 2),
        ] {
            assert_eq!(at(line), Answer::Command(word), "{line}");
        }
        assert_eq!(words("tcptune run --keepi").len(), 2);
        assert_eq!(words("tcptune check 1 --wat"), ["--watch"], "flags may follow a PID");
    }
}
