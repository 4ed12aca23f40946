//! `tcptune check`: whether a program can be tuned, or a running one is; and if not, why.

mod process;

use std::ffi::OsString;
use std::os::unix::ffi::OsStrExt;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Map, Value, json};

use crate::commands::inspect::{Pace, watch};
use crate::live::select::{self, Selection};
use crate::program::elf::Elf;
use crate::program::{self, Around, Obstacle, Program};
use crate::screens::candidates;
use crate::screens::error::Error;
use crate::screens::output::{Output, Tone};
use crate::settings::flags::Given;
use crate::system::variables;
use crate::ways::cgroup::order::Order;
use crate::ways::choice::{Choice, Way};
use crate::ways::notify::policy::Policy;
use crate::ways::preload::environment::Environment;
use crate::ways::preload::library::{self, Library};

/// Its flags.
pub fn command() -> Command {
    Command::new("check")
        .about("Tell whether a program can be tuned, or whether a running one is; and if not, why")
        .override_usage("tcptune check [OPTIONS] [--] COMMAND [ARGUMENT]...\n       tcptune check [OPTIONS] [--watch [SECONDS]] PID")
        .after_help(
            "Exit status: 0 if so, 1 if not, 127 if there is no such program.\n\n\
             Examples:\n  tcptune check legacy-server\n  tcptune check 4711\n  tcptune check timeout 5 curl",
        )
        .arg(
            Arg::new("what")
                .value_name("COMMAND|PID")
                .required_unless_present("watch")
                .num_args(1..)
                .trailing_var_arg(true)
                .value_parser(value_parser!(OsString))
                .add(candidates::completed(programs_and_processes))
                .help("A program and its arguments, which is not started, or a running process"),
        )
        .arg(library::arg())
        .arg(watch())
}

/// For a shell: a word that is a number is a process's, and any other a program's.
fn programs_and_processes(word: &str) -> Vec<(String, String)> {
    if select::is_number(word) { select::known(word) } else { program::known(word) }
}

/// Looks at a program or a process, and prints the verdict.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let words: Vec<OsString> = matches.get_many("what").unwrap_or_default().cloned().collect();
    let watched = matches.contains_id("watch");
    let pid = match words.as_slice() {
        [word] => word.to_str().filter(|word| select::is_number(word)).map(str::to_owned),
        [] => matches.get_one::<String>("watch").cloned(), // `check --watch PID`
        _ => None,
    };
    let Some(pid) = pid else {
        if watched {
            return Err(Error::usage("--watch is for a running process"));
        }
        let report = check_program(&words, |elf| Library::find(matches, elf))?;
        report.print(out)?;
        return Ok(report.status());
    };
    let mut selection = Selection { words: vec![pid], ..Selection::default() };
    let pace = Pace::new(matches, &mut selection)?;
    pace.run(&selection, out, |targets, out| {
        let mut tuned = true;
        for target in targets {
            let report = process::check(target, |elf| Library::find(matches, elf).ok())?;
            report.print(out)?;
            tuned &= report.reasons.is_empty();
        }
        Ok(tuned)
    })
}

/// Flags may follow the number of a process, but what follows a program are its arguments: the number comes last.
pub fn with_pid_last(mut args: Vec<OsString>) -> Vec<OsString> {
    let at = args.iter().position(|arg| arg == "check").map(|check| check + 1);
    if let Some(at) = at.filter(|at| args.get(*at).and_then(|arg| arg.to_str()).is_some_and(select::is_number))
        && args.iter().take(at - 1).skip(1).all(|arg| arg.as_bytes().starts_with(b"-"))
    {
        let pid = args.remove(at);
        args.push(pid);
    }
    args
}

/// One reason for a no.
struct Reason {
    /// For machines.
    name: &'static str,
    text: String,
    advice: Option<String>,
}

impl Reason {
    fn new(name: &'static str, text: impl Into<String>) -> Self {
        Self { name, text: text.into(), advice: None }
    }
}

impl From<&Obstacle> for Reason {
    fn from(obstacle: &Obstacle) -> Self {
        Self { name: obstacle.name(), text: obstacle.to_string(), advice: obstacle.advice() }
    }
}

/// What is found, and the verdict.
struct Report {
    /// What the verdict is about, for people and for machines.
    question: (&'static str, &'static str),
    /// Title, text, and the same for machines.
    facts: Vec<(&'static str, String, Value)>,
    /// None: yes.
    reasons: Vec<Reason>,
}

impl Report {
    fn status(&self) -> ExitCode {
        if self.reasons.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE }
    }

    fn print(&self, out: &Output) -> Result<(), Error> {
        let (title, key) = self.question;
        if out.is_json() {
            let facts = self.facts.iter().map(|(title, _, value)| (title.to_ascii_lowercase(), value.clone()));
            let reasons = self.reasons.iter().map(|reason| json!({ "name": reason.name, "text": reason.text }));
            let verdict = [
                (key.to_owned(), json!(self.reasons.is_empty())),
                ("reasons".to_owned(), Value::Array(reasons.collect())),
            ];
            return out.print_json(&Value::Object(facts.chain(verdict).collect::<Map<_, _>>()));
        }
        let mut table = out.plain_table();
        for (title, text, _) in &self.facts {
            // What has several lines has a row for each.
            for (i, line) in text.lines().enumerate() {
                let title = if i == 0 { title } else { "" };
                table.add_row(vec![out.cell(Tone::Heading, title), out.cell(Tone::Plain, line)]);
            }
        }
        if self.reasons.is_empty() {
            table.add_row(vec![out.cell(Tone::Heading, title), out.cell(Tone::Good, "yes")]);
        }
        let titles = std::iter::once(title).chain(std::iter::repeat(""));
        for (title, reason) in titles.zip(&self.reasons) {
            let no = if title.is_empty() { "and " } else { "no: " };
            table.add_row(vec![out.cell(Tone::Heading, title), out.cell(Tone::Bad, format!("{no}{}", reason.text))]);
        }
        for advice in self.reasons.iter().filter_map(|reason| reason.advice.as_ref()) {
            table.add_row(vec![out.cell(Tone::Heading, "Advice"), out.cell(Tone::Plain, advice)]);
        }
        out.print_table(&table)
    }
}

fn check_program(
    words: &[OsString],
    library: impl FnOnce(Option<&Elf>) -> Result<Library, Error>,
) -> Result<Report, Error> {
    let (command, args) = words.split_first().ok_or_else(|| Error::usage("a program is missing"))?;
    let variables = variables::own();
    let path = program::find(command, variables.path())?;
    let mut around = Around { search: variables.path(), preload: variables.ld_preload(), library: None };
    let library = library(Program::look(path.clone(), args, around).elf.as_ref());
    around.library = library.as_ref().ok().map(|library| (library.file.as_path(), &library.elf));
    let program = Program::look(path, args, around);
    let chain: Vec<_> = program.chain.iter().map(|path| path.display().to_string()).collect();
    let kind = kind(program.elf.as_ref());
    let settings = Environment::of(&Given::default()).settings();
    let policy = Policy::new(settings, &program.process()).0;
    let choice = Choice::new(&program, policy.first(), Order::of_environment().as_ref());
    let mut reasons: Vec<_> = choice.obstacles.iter().map(Reason::from).collect();
    let library = match library {
        Ok(library) => library.file.display().to_string(),
        Err(error) => {
            if choice.way == Way::Preload {
                reasons.push(Reason::new("no-library", error.to_string()));
            }
            "none".to_owned()
        }
    };
    let mut facts = vec![
        ("Program", chain.join(" → "), json!(chain)),
        ("Kind", kind.clone(), json!(kind)),
        ("Library", library.clone(), json!(library)),
        ("Way", format!("{}: {}", choice.way, choice.reason), json!(choice.way.name())),
    ];
    let waits = program.elf.as_ref().map(|elf| elf.waits.as_slice()).unwrap_or_default();
    if !waits.is_empty() {
        // RECV_TIMEOUT reaches all of them.
        facts.push(("Waits in", format!("{}, and what its libraries call", waits.join(", ")), json!(waits)));
    }
    if !choice.left_out.is_empty() {
        facts.push(("Not set", choice.left_out.join(", "), json!(choice.left_out)));
    }
    Ok(Report { question: ("Can be tuned", "tunable"), facts, reasons })
}

fn kind(elf: Option<&Elf>) -> String {
    match elf {
        None => "not known: it cannot be read, or is no ELF file".to_owned(),
        Some(elf) if elf.is_static() => format!("static, {}", elf.machine),
        Some(Elf { machine, loader: Some(loader), .. }) => format!("dynamic, {machine}, loader {}", loader.display()),
        Some(Elf { machine, .. }) => format!("the loader itself, {machine}"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn flags_may_follow_a_pid() {
        for (line, want) in [
            ("t check 7 --json", "t check --json 7"),
            ("t --json check 7 --watch=1", "t --json check --watch=1 7"),
            ("t check curl 7 --json", "t check curl 7 --json"),
            ("t run check 7 --json", "t run check 7 --json"),
            ("t check", "t check"),
        ] {
            let args = with_pid_last(line.split(' ').map(OsString::from).collect());
            assert_eq!(args.join(std::ffi::OsStr::new(" ")), want);
        }
    }
}
