//! `tcptune stats`: what a running process counts.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use serde_json::{Value as Json, json};
use tcptune_core::sockets::block::Counted;

use crate::commands::inspect::{Pace, watch};
use crate::live::library::Library;
use crate::live::process::Target;
use crate::live::select::{self, Selection};
use crate::screens::error::{Error, say};
use crate::screens::output::{Output, Tone};

const LONG_ABOUT: &str = "\
Show the counts of running processes that are tuned: sockets, connects, how many timed out and to whom, options that the \
kernel refused. They are read from the memory of the process, which needs the right to trace it, as `tcptune inspect` \
does. A process counts where it was started with TCPTUNE_STATS=1, or `tcptune run --stats on`.";

/// Its flags.
pub fn command() -> Command {
    Command::new("stats")
        .about("Show what running processes count: sockets, connects, timeouts by peer")
        .long_about(LONG_ABOUT)
        .after_help("Examples:\n  tcptune stats nginx\n  tcptune stats 4711 --watch 1")
        .args(select::args())
        .arg(watch())
}

/// Shows them.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let mut selection = Selection::new(matches);
    let pace = Pace::new(matches, &mut selection)?;
    pace.run(&selection, out, |targets, out| show(targets, &selection, pace.is_repeated(), out))
}

fn show(targets: &[Target], selection: &Selection, repeated: bool, out: &Output) -> Result<bool, Error> {
    let mut all = Vec::new();
    let mut whole = true;
    for target in targets {
        match of(target) {
            Ok(counted) => all.push((target, counted)),
            Err(error) if selection.is_one() => return Err(error),
            Err(error) => {
                say(&error.to_string());
                whole = false;
            }
        }
    }
    if out.is_json() {
        let mut all: Vec<_> = all
            .iter()
            .map(|(target, counted)| json!({ "pid": target.pid(), "name": target.name(), "counts": json(Some(counted)) }))
            .collect();
        let json = if selection.is_one() { all.pop().unwrap_or_default() } else { Json::Array(all) };
        if repeated {
            out.print_json_line(&json)?;
        } else {
            out.print_json(&json)?;
        }
        return Ok(whole);
    }
    for (target, counted) in &all {
        let title = format!("{} (PID {})", target.name(), target.pid());
        out.print(format!("{}: {}", out.paint(Tone::Heading, title), line(Some(counted))))?;
        if counted.peers.is_empty() {
            continue;
        }
        let mut table = out.table(&["Timed out", "Times", "Slowest"]);
        for (peer, times, ms) in &counted.peers {
            let slowest = format!("{}.{:03} s", ms / 1000, ms % 1000);
            table.add_row(vec![
                out.cell(Tone::Plain, peer),
                out.cell(Tone::Plain, times),
                out.cell(Tone::Warning, slowest),
            ]);
        }
        out.print_table(&table)?;
    }
    Ok(whole)
}

/// The counts of a process; an error if it counts nothing.
fn of(target: &Target) -> Result<Counted, Error> {
    let (pid, name) = (target.pid(), target.name());
    let Some(library) = Library::find(target)? else {
        return Err(Error::failed(format!("process {pid} ({name}): the library is not in it"))
            .hint(format!("tcptune check {pid} says why")));
    };
    let Some(told) = library.told else {
        let why = format!(
            "process {pid} ({name}): the library in it is version {}, not that of this command",
            library.version
        );
        return Err(Error::failed(why));
    };
    told.counted.ok_or_else(|| {
        Error::failed(format!("process {pid} ({name}) counts nothing")).hint("start it with TCPTUNE_STATS=1")
    })
}

/// In a line.
pub fn line(counted: Option<&Counted>) -> String {
    let Some(counted) = counted else { return "none: it was started without TCPTUNE_STATS=1".to_owned() };
    let Counted { seen, tuned, connects, timed_out, refused, .. } = counted;
    format!(
        "{seen} TCP sockets seen, {tuned} tuned, {connects} connects, {timed_out} timed out, {refused} options refused"
    )
}

/// For other programs.
pub fn json(counted: Option<&Counted>) -> Json {
    counted.map_or(Json::Null, |counted| {
        let peers = counted.peers.iter();
        let peers = peers.map(|(peer, times, ms)| json!({ "peer": peer, "times": times, "slowest_ms": ms }));
        json!({
            "seen": counted.seen,
            "tuned": counted.tuned,
            "connects": counted.connects,
            "timed_out": counted.timed_out,
            "refused": counted.refused,
            "timed_out_peers": peers.collect::<Vec<_>>(),
        })
    })
}
