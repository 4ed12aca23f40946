//! `tcptune inspect`: the TCP sockets of running processes, with their options as they are.

mod table;
mod watch;

use std::process::ExitCode;

use clap::{Arg, ArgAction, ArgMatches, Command};
use serde_json::Value as Json;

use self::table::Seen;
pub use self::table::address;
pub use self::watch::{Pace, duration, watch};
use crate::live::diag::Listed;
use crate::live::filter::{self, Filter};
use crate::live::process::Target;
use crate::live::select::{self, Selection};
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

Exit status: 0, 1 (no such process, no permission, or the process ended meanwhile), 2 (wrong usage).";

const EXAMPLES: &str = "\
Examples:
  tcptune inspect nginx                    all processes of this name
  tcptune inspect --all --state syn_sent   who waits for whom";

/// Its flags.
pub fn command() -> Command {
    Command::new("inspect")
        .about("Show every TCP socket of running processes with its actual options")
        .long_about(LONG_ABOUT)
        .after_help(EXAMPLES)
        .after_long_help(format!("{AFTER_HELP}\n\n{EXAMPLES}"))
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
        .arg(watch())
}

/// What is to be looked at.
struct Look {
    selection: Selection,
    filter: Filter,
    depth: Depth,
    pace: Pace,
}

impl Look {
    fn new(matches: &ArgMatches) -> Result<Self, Error> {
        let mut selection = Selection::new(matches);
        let pace = Pace::new(matches, &mut selection)?;
        let depth = match matches.get_one::<String>("options").map(String::as_str) {
            Some("none") => Depth::Nothing,
            Some("all") => Depth::All,
            None if selection.all => Depth::Nothing,
            _ => Depth::Connections,
        };
        Ok(Self { selection, filter: Filter::new(matches)?, depth, pace })
    }

    /// Looks once. Returns whether everything that was asked for could be seen.
    fn once(&self, targets: &[Target], out: &Output) -> Result<bool, Error> {
        let one = self.selection.is_one();
        let mut listed = Listed::default();
        let mut snapshots = Vec::new();
        let (mut whole, mut hidden) = (true, 0);
        for target in targets {
            match Snapshot::take(target, listed.of(target), &self.filter, self.depth) {
                Ok(snapshot) => snapshots.push((target, snapshot)),
                Err(error) if one => return Err(error),
                // Not everything of all processes can be seen.
                Err(_) if self.selection.all => hidden += 1,
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
            if self.pace.is_repeated() { out.print_json_line(&json)? } else { out.print_json(&json)? }
        } else {
            let seen: Vec<_> = snapshots
                .iter()
                .flat_map(|(target, snapshot)| snapshot.entries.iter().map(move |entry| Seen { target, entry }))
                .collect();
            if self.selection.all {
                table::print_all(&seen, targets.len(), out)?;
            } else {
                table::print(&seen, snapshots.iter().map(|(target, _)| *target), out)?;
            }
        }
        if hidden > 0 {
            say(&format!("{hidden} processes cannot be looked into; run tcptune as root"));
        }
        for (target, snapshot) in &snapshots {
            if snapshot.ended && one && !self.pace.is_repeated() {
                return Err(ended(target));
            }
        }
        Ok(whole)
    }
}

/// Does it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let look = Look::new(matches)?;
    look.pace.run(&look.selection, out, |targets, out| look.once(targets, out))
}

/// The error of a process that ended while it was looked at.
pub fn ended(target: &Target) -> Error {
    let (pid, name) = (target.pid(), target.name());
    Error::failed(format!("process {pid} ({name}) ended meanwhile"))
        .hint("what was printed had been read before; some of its sockets may be missing")
}
