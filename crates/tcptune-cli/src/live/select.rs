//! Which processes are meant: numbers, names, their children, or all.

use std::collections::BTreeSet;
use std::fs;

use clap::{Arg, ArgAction, ArgMatches};
use procfs::process::Process;

use super::process::{self, Target};
use crate::screens::candidates;
use crate::screens::error::Error;
use crate::settings::flags::Text;

/// The processes to look at, and `--children`.
pub fn args() -> [Arg; 2] {
    [
        Arg::new("process")
            .value_name("PID|NAME")
            .action(ArgAction::Append)
            .num_args(1..)
            .value_parser(Text(""))
            .add(candidates::completed(known))
            .help("Processes, by number or by name"),
        Arg::new("children")
            .long("children")
            .action(ArgAction::SetTrue)
            .help("Those that they have started, too, and so on"),
    ]
}

/// Processes that can be meant by a word that begins so: numbers, each with its name, or names.
pub fn known(word: &str) -> Vec<(String, String)> {
    let by_number = word.starts_with(|first: char| first.is_ascii_digit());
    let mut known = BTreeSet::new();
    for (pid, _) in processes(true) {
        let Ok(name) = process::name(pid) else { continue };
        known.insert(if by_number { (pid.to_string(), name) } else { (name, String::new()) });
    }
    known.into_iter().collect()
}

/// Words of the command line that mean processes.
#[derive(Clone, Debug, Default)]
pub struct Selection {
    /// Numbers and names.
    pub words: Vec<String>,
    pub children: bool,
    pub all: bool,
}

/// Some of them could not be looked into.
pub struct Selected {
    pub targets: Vec<Target>,
    /// Of those that were named.
    pub errors: Vec<Error>,
    /// How many others there are.
    pub denied: usize,
}

impl Selection {
    /// As the flags say.
    pub fn new(matches: &ArgMatches) -> Self {
        Self {
            words: matches.get_many("process").into_iter().flatten().cloned().collect(),
            children: matches.get_flag("children"),
            all: matches!(matches.try_get_one::<bool>("all"), Ok(Some(true))),
        }
    }

    /// Whether it is one process, by its number.
    pub fn is_one(&self) -> bool {
        !self.children && !self.all && matches!(self.words.as_slice(), [word] if is_number(word))
    }

    /// Finds them, in the order of their numbers.
    pub fn find(&self) -> Result<Selected, Error> {
        process::can_be_seen()?;
        let mut selected = Selected { targets: Vec::new(), errors: Vec::new(), denied: 0 };
        let (mut numbers, mut found) = (BTreeSet::new(), BTreeSet::new());
        let processes = processes(self.all);
        if self.all {
            found.extend(processes.iter().map(|(pid, _)| *pid));
        }
        for word in &self.words {
            if word.is_empty() {
                return Err(Error::usage("a process has no empty name"));
            }
            if is_number(word) {
                match word.parse() {
                    Ok(0) => return Err(Error::usage("0 is the number of no process")),
                    Ok(pid) => _ = numbers.insert(pid),
                    Err(_) => selected.errors.push(process::no_such(word)),
                }
                continue;
            }
            let before = found.len();
            found.extend(processes.iter().filter(|(pid, _)| is_called(*pid, word)).map(|(pid, _)| *pid));
            if found.len() == before {
                let error = Error::failed(format!("no process is called {word}"));
                selected.errors.push(error.hint("ps -e lists those there are, and only root sees all under hidepid"));
            }
        }
        if self.children {
            add_children(&mut found, &numbers, &processes);
        }
        found.retain(|pid| !numbers.contains(pid));
        for pid in numbers {
            match Target::open(pid) {
                Ok(target) => selected.targets.push(target),
                Err(error) => selected.errors.push(error),
            }
        }
        for pid in found {
            // A process that has ended meanwhile is left out, without a word.
            match Target::open(pid) {
                Ok(target) if target.is_open_to_us() => selected.targets.push(target),
                Ok(_) => selected.denied += 1,
                Err(_) => {}
            }
        }
        selected.targets.sort_by_key(Target::pid);
        if selected.targets.is_empty() && !selected.errors.is_empty() {
            return Err(selected.errors.remove(0));
        }
        Ok(selected)
    }
}

/// Whether a word means a process by its number.
pub fn is_number(word: &str) -> bool {
    !word.is_empty() && word.bytes().all(|byte| byte.is_ascii_digit())
}

/// Number and parent of each process, but for this one.
fn processes(all: bool) -> Vec<(i32, i32)> {
    let own = std::process::id().cast_signed();
    let entries = fs::read_dir("/proc").into_iter().flatten().flatten();
    let numbers = entries.filter_map(|entry| entry.file_name().to_str()?.parse::<i32>().ok());
    let numbers = numbers.filter(|pid| *pid != own);
    let with_parent = numbers.map(|pid| {
        let parent = if all { None } else { Process::new(pid).and_then(|process| process.stat()).ok() };
        (pid, parent.map_or(0, |stat| stat.ppid))
    });
    with_parent.collect()
}

/// By the name that ps(1) shows, which has 15 bytes, or by that of its file.
fn is_called(pid: i32, word: &str) -> bool {
    let file = || Some(fs::read_link(format!("/proc/{pid}/exe")).ok()?.file_name()?.to_string_lossy().into_owned());
    process::name(pid).is_ok_and(|name| name == word)
        || file().is_some_and(|file| file.trim_end_matches(" (deleted)") == word)
}

fn add_children(found: &mut BTreeSet<i32>, numbers: &BTreeSet<i32>, processes: &[(i32, i32)]) {
    loop {
        let is_new = |(pid, parent): &&(i32, i32)| {
            (found.contains(parent) || numbers.contains(parent)) && !found.contains(pid) && !numbers.contains(pid)
        };
        let children: Vec<_> = processes.iter().filter(is_new).map(|(pid, _)| *pid).collect();
        if children.is_empty() {
            return;
        }
        found.extend(children);
    }
}
