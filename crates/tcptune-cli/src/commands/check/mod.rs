//! `tcptune check`: whether a program can be tuned, or a running one is; and if not, why.

mod process;

use std::ffi::{OsStr, OsString};
use std::path::PathBuf;
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use serde_json::{Map, Value, json};

use crate::program::elf::Elf;
use crate::program::{self, Obstacle, Program};
use crate::screens::error::Error;
use crate::screens::output::{Output, Tone};
use crate::system::variables;
use crate::ways::preload;

/// Its flags.
pub fn command() -> Command {
    Command::new("check")
        .about("Tell whether a program can be tuned, or whether a running one is; and if not, why")
        .after_help("Exit status: 0 if so, 1 if not, 127 if there is no such program.")
        .arg(
            Arg::new("what")
                .value_name("COMMAND|PID")
                .required(true)
                .value_parser(value_parser!(OsString))
                .help("A program, which is not started, or a running process"),
        )
        .arg(preload::arg())
}

/// Tells it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let what = matches.get_one::<OsString>("what").map_or(OsStr::new(""), OsString::as_os_str);
    let report = match what.to_str().filter(|text| text.bytes().all(|byte| byte.is_ascii_digit())).map(str::parse) {
        Some(Ok(pid)) => process::check(pid, preload::library(matches).ok())?,
        _ => check_program(what, preload::library(matches))?,
    };
    report.print(out)?;
    Ok(if report.reasons.is_empty() { ExitCode::SUCCESS } else { ExitCode::FAILURE })
}

/// Why not.
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
            table.add_row(vec![out.cell(Tone::Heading, title), out.cell(Tone::Plain, text)]);
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

fn check_program(command: &OsStr, library: Result<PathBuf, Error>) -> Result<Report, Error> {
    let search = variables::own().path();
    let path = program::find(command, search)?;
    let elf_of_library = library.as_ref().ok().and_then(|library| Elf::read(library).ok().flatten());
    let program = Program::look(path, &[], search, elf_of_library.as_ref());
    let chain: Vec<_> = program.chain.iter().map(|path| path.display().to_string()).collect();
    let kind = kind(program.elf.as_ref());
    let mut reasons: Vec<_> = program.obstacles.iter().map(Reason::from).collect();
    let library = match library {
        Ok(path) => path.display().to_string(),
        Err(error) => {
            reasons.push(Reason::new("no-library", error.to_string()));
            "not found".to_owned()
        }
    };
    let facts = vec![
        ("Program", chain.join(" → "), json!(chain)),
        ("Kind", kind.clone(), json!(kind)),
        ("Library", library.clone(), json!(library)),
    ];
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
