//! `tcptune stats`: what a running process counts.

use std::process::ExitCode;

use clap::{ArgMatches, Command};
use serde_json::{Value as Json, json};
use tcptune_core::sockets::block::Counted;

use crate::commands::inspect::{Pace, watch};
use crate::live;
use crate::live::library::Library;
use crate::live::process::Target;
use crate::live::select::{self, Selection};
use crate::screens::error::{Error, say};
use crate::screens::output::{Output, Tone};

const LONG_ABOUT: &str = "\
Show the counts of running processes that are tuned: sockets, connects, how many timed out and to whom, options that the \
kernel refused. They are read from the memory of the process, which needs the right to trace it, as `tcptune inspect` \
does.

Whom connects timed out to, and after how long, is known of processes that were started with TCPTUNE_STATS=1, or by \
`tcptune run --stats on`. In others the counts of a process that was forked begin with those of its parent, and a program \
that asks by another connect(2) whether its first one has succeeded counts both.";

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
            .map(|(target, counted)| json!({ "pid": target.pid(), "name": target.name(), "counts": json(target, Some(counted)) }))
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
        out.print(format!("{}: {}", out.paint(Tone::Heading, title), line(target, Some(counted))))?;
        let Some(peers) = counted.peers.as_ref().filter(|peers| !peers.is_empty()) else { continue };
        let mut table = out.table(&["Timed out", "Times", "Slowest"]);
        for (peer, times, ms) in peers {
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
        Error::failed(format!("process {pid} ({name}) counts nothing: it is not tuned"))
            .hint(format!("tcptune check {pid} says why"))
    })
}

/// Whether the counts of its parent up to the fork are in these.
fn is_forked(target: &Target, counted: &Counted) -> bool {
    // Of the namespace in which it counts, whatever its number is here.
    let own = live::process::status(target.pid()).and_then(|status| status.nspid?.last().copied());
    counted.peers.is_none() && own.and_then(|own| u64::try_from(own).ok()).is_some_and(|own| own != counted.since)
}

/// In a line.
pub fn line(target: &Target, counted: Option<&Counted>) -> String {
    let Some(counted) = counted else { return "none".to_owned() };
    let Counted { seen, tuned, connects, timed_out, refused, .. } = counted;
    let forked = if is_forked(target, counted) { "; those of its parent before the fork among them" } else { "" };
    format!(
        "{seen} TCP sockets seen, {tuned} tuned, {connects} connects, {timed_out} timed out, {refused} options refused\
         {forked}"
    )
}

/// For other programs.
pub fn json(target: &Target, counted: Option<&Counted>) -> Json {
    counted.map_or(Json::Null, |counted| {
        let peer = |(peer, times, ms): &(_, _, _)| json!({ "peer": peer, "times": times, "slowest_ms": ms });
        let peers = counted.peers.as_ref().map(|peers| peers.iter().map(peer).collect::<Vec<_>>());
        json!({
            "seen": counted.seen,
            "tuned": counted.tuned,
            "connects": counted.connects,
            "timed_out": counted.timed_out,
            "refused": counted.refused,
            "with_parent": is_forked(target, counted),
            "timed_out_peers": peers,
        })
    })
}
