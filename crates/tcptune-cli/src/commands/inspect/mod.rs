//! `tcptune inspect`: the TCP sockets of running processes, with their options as they are.

mod table;

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value as Json;
use tcptune_core::options::value::{Kind, Unit, Value};

use self::table::Seen;
pub use self::table::address;
use crate::live::diag::Listed;
use crate::live::filter::{self, Filter};
use crate::live::process::Target;
use crate::live::select::{self, Selected, Selection};
use crate::live::snapshot::{Depth, Snapshot};
use crate::screens::error::{Error, say};
use crate::screens::output::Output;

const LONG_ABOUT: &str = "\
Show every TCP socket of running processes with its actual options, whatever the program is and whoever has set them: \
a static, Go or Java program as well. No process is stopped, and nothing is changed.

Addresses, states, timers and figures are those of sock_diag(7). Options are read from a duplicate of the descriptor \
(pidfd_getfd(2)), which needs Linux 5.6 and the right to trace the process: the same user (and no \
kernel.yama.ptrace_scope above 0), or CAP_SYS_PTRACE. A duplicate keeps its socket open for a few microseconds, so \
those that listen or are not connected, whose port the program may want to bind again, are left alone unless --options \
all is given.";

const AFTER_HELP: &str = "\
KEEPALIVE is idle time + interval × probes. TIMER is what the socket waits for, and how often it has retransmitted or \
probed by then. RECV-Q are bytes that the program has not read, SEND-Q bytes that the peer has not acknowledged; of a \
listener, connections that are not accepted yet, and the backlog. --json has all options, in the unit of the option, and \
more figures of the connection.

Examples:
  tcptune inspect nginx                    all processes of this name
  tcptune inspect --all --state syn_sent   who waits for whom

Exit status: 0, 1 (no such process, no permission, or the process ended meanwhile), 2 (wrong usage).";

/// How often `--watch` looks, without a time.
const EVERY: Duration = Duration::from_secs(2);

/// Its flags.
pub fn command() -> Command {
    Command::new("inspect")
        .about("Show every TCP socket of running processes with its actual options")
        .long_about(LONG_ABOUT)
        .after_long_help(AFTER_HELP)
        .args(select::args())
        .arg(
            Arg::new("all")
                .long("all")
                .action(ArgAction::SetTrue)
                .conflicts_with_all(["process", "children"])
                .help("All processes; without the options of their sockets, unless --options is given"),
        )
        .args(filter::args())
        .arg(
            Arg::new("options")
                .long("options")
                .value_name("WHICH")
                .value_parser(["none", "connections", "all"])
                .help("Of which sockets options are read [default: connections]"),
        )
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .help("Look again and again, every 2 seconds or as often as said, until the process ends"),
        )
}

/// A time as settings have it: `2`, `500ms`, `1m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    const KIND: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Millisecond, word: None };
    const RANGE: (i64, i64) = (100, 86_400_000);
    match KIND.parse(text, RANGE) {
        Some(Value::Int(ms)) => Ok(Duration::from_millis(ms.cast_unsigned())),
        _ => Err(format!("accepted: {}", KIND.accepted(RANGE))),
    }
}

/// What is to be looked at.
struct Look {
    selection: Selection,
    filter: Filter,
    depth: Depth,
    every: Option<Duration>,
}

impl Look {
    fn new(matches: &ArgMatches) -> Result<Self, Error> {
        let mut selection = Selection::new(matches);
        let mut every = matches.contains_id("watch").then_some(EVERY);
        match matches.get_one::<String>("watch") {
            // `--watch 1234`, and nothing else that could be a process.
            Some(word) if selection.words.is_empty() && !selection.all => selection.words.push(word.clone()),
            Some(time) => {
                every =
                    Some(duration(time).map_err(|why| Error::usage(format!("--watch {time}: not accepted; {why}")))?);
            }
            None => {}
        }
        if selection.words.is_empty() && !selection.all {
            let hint = "give a number, a name, or --all; see tcptune inspect --help";
            return Err(Error::usage("a process is missing").hint(hint));
        }
        let depth = match matches.get_one::<String>("options").map(String::as_str) {
            Some("none") => Depth::Nothing,
            Some("all") => Depth::All,
            None if selection.all => Depth::Nothing,
            _ => Depth::Connections,
        };
        Ok(Self { selection, filter: Filter::new(matches)?, depth, every })
    }

    /// Once. Whether all was seen that was asked for.
    fn once(&self, selected: &Selected, out: &Output) -> Result<bool, Error> {
        let one = self.selection.is_one();
        let mut listed = Listed::default();
        let mut snapshots = Vec::new();
        let mut whole = true;
        for target in &selected.targets {
            match Snapshot::take(target, listed.of(target), &self.filter, self.depth) {
                Ok(snapshot) => snapshots.push((target, snapshot)),
                Err(error) if one => return Err(error),
                Err(error) => {
                    say(&error.to_string());
                    whole = false;
                }
            }
        }
        if self.selection.all {
            snapshots.retain(|(_, snapshot)| !snapshot.entries.is_empty());
        }
        if out.is_json() {
            let mut all: Vec<Json> = snapshots.iter().map(|(target, snapshot)| snapshot.json(target)).collect();
            let json = if one { all.pop().unwrap_or_default() } else { Json::Array(all) };
            if self.every.is_some() { out.print_json_line(&json)? } else { out.print_json(&json)? }
        } else {
            let seen: Vec<_> = snapshots
                .iter()
                .flat_map(|(target, snapshot)| snapshot.entries.iter().map(move |entry| Seen { target, entry }))
                .collect();
            table::print(&seen, &selected.targets, self.selection.all, out)?;
        }
        if selected.denied > 0 {
            say(&format!("{} other processes cannot be looked into; run tcptune as root", selected.denied));
        }
        for (target, snapshot) in &snapshots {
            if snapshot.ended && one && self.every.is_none() {
                return Err(ended(target));
            }
        }
        Ok(whole)
    }
}

/// Does it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let look = Look::new(matches)?;
    let mut selected = look.selection.find()?;
    for error in &selected.errors {
        say(&error.to_string());
    }
    let Some(every) = look.every else {
        let whole = look.once(&selected, out)? && selected.errors.is_empty();
        return Ok(if whole { ExitCode::SUCCESS } else { ExitCode::FAILURE });
    };
    loop {
        if !out.is_json() {
            out.begin_screen()?;
        }
        look.once(&selected, out)?;
        let ended = match selected.targets.as_slice() {
            [target] if look.selection.is_one() => {
                let ends = target.ends_within(every);
                ends.then(|| format!("process {} has ended", target.pid()))
            }
            _ => {
                std::thread::sleep(every);
                match look.selection.find() {
                    Ok(found) if look.selection.all || !found.targets.is_empty() => {
                        selected = found;
                        None
                    }
                    _ => Some("these processes have ended".to_owned()),
                }
            }
        };
        if let Some(ended) = ended {
            say(&ended);
            return Ok(ExitCode::SUCCESS);
        }
    }
}

/// The error of a process that ended while it was looked at.
pub fn ended(target: &Target) -> Error {
    let (pid, name) = (target.pid(), target.name());
    Error::failed(format!("process {pid} ({name}) ended meanwhile"))
        .hint("what was printed had been read before; some of its sockets may be missing")
}
