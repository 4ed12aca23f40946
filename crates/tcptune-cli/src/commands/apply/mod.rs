//! `tcptune apply`: sets options on the live sockets of a running process.

mod change;

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};
use comfy_table::{Cell, ColumnConstraint};
use serde_json::{Value as Json, json};
use tcptune_core::options::phase::Phases;
use tcptune_core::options::table::{OPTIONS, Own, Target as Of};
use tcptune_core::settings::grammar::{self, Entry};

use self::change::{Change, Filter};
use crate::commands::inspect::{address, duration, ended, pid};
use crate::live::process::{Descriptor, Target};
use crate::live::socket::{Facts, Socket};
use crate::screens::error::{Error, say};
use crate::screens::output::{Output, Tone};
use crate::settings::flags::{self, Given, Origin};
use crate::system::kernel;

const LONG_ABOUT: &str = "\
Set options on the live TCP sockets of a running process, without restarting it, whatever the program is. Each option is \
read before and after; what makes no sense any more, such as SYNCNT on an established connection, is not set, and said so.

The process is not stopped; no descriptor is closed, and no file status flag is changed. The program itself may set its \
options again, and sockets that it makes later have the kernel's values, but for those accepted from a listener that was \
set; see --watch.";

const AFTER_HELP: &str = "\
ADDRESS is the peer, or of a listener its own. Without --dst, --port and --fd, all TCP sockets of the process are meant.

Exit status: 0, 1 (no such process or no permission; a socket refused an option; a setting fits none of the sockets), \
2 (wrong usage or a wrong setting).";

/// Shortest time between two looks of `--watch`.
const PAUSE: Duration = Duration::from_millis(100);
/// So many times as long as a look takes, none is taken: a process with very many descriptors shall not be a load.
const REST: u32 = 20;

/// So wide a last column can be read.
const LEAST: u16 = 16;

/// Its flags.
pub fn command() -> Command {
    let command = Command::new("apply")
        .about("Set options on the live TCP sockets of a running process")
        .long_about(LONG_ABOUT)
        .after_long_help(AFTER_HELP)
        .arg(pid())
        .args([
            Arg::new("dst")
                .long("dst")
                .value_name("NETWORKS")
                .help("Only sockets whose peer is in one of these networks"),
            Arg::new("port")
                .long("port")
                .value_name("PORTS")
                .help("Only sockets whose own or peer's port is one of these"),
            Arg::new("fd")
                .long("fd")
                .value_name("N")
                .action(ArgAction::Append)
                .value_delimiter(',')
                .value_parser(clap::value_parser!(i32).range(0..))
                .help("Only these descriptors of the process"),
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .value_parser(|text: &str| duration(text))
                .help("Go on for this time, and set the options on new sockets as well"),
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Say what would be set, and set nothing"),
        ]);
    let command = flags::with(command, |opt| match opt.target {
        Of::Socket(_) => true,
        Of::Own(own) => own.is_of_a_socket(),
    });
    // They are known, to be refused with the reason.
    OPTIONS.iter().filter(|opt| why_not(opt.target).is_some()).fold(command, |command, opt| {
        if matches!(opt.target, Of::Own(own) if own.is_of_a_socket()) {
            command.mut_arg(opt.name(), |arg| arg.hide(true))
        } else {
            command
        }
    })
}

/// Why a setting is not for live sockets at all.
fn why_not(target: Of) -> Option<&'static str> {
    match target {
        Of::Socket(_) => None,
        Of::Own(Own::ConnectTimeout) => {
            Some("it bounds connect(2), which the library has to wait for; see --user-timeout")
        }
        Of::Own(Own::Backlog) => Some("it is an argument of the program's listen(2), and no option"),
        Of::Own(Own::Source) => Some("an address is bound before connect(2)"),
        Of::Own(Own::Mptcp) => Some("a socket is made as MPTCP, or it is none"),
        Of::Own(_) => Some("it is about the library"),
    }
}

/// Does it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let given = Given::new(matches)?;
    for said in given.iter() {
        let opt = &OPTIONS[said.row];
        // A profile is for other subcommands as well; what is not for this one is left out.
        if let (Some(why), Origin::Flag) = (why_not(opt.target), &said.origin) {
            let message = format!("--{}: not for sockets that are there already: {why}", flags::name(opt));
            return Err(Error::usage(message).hint("tcptune run sets it from the start"));
        }
    }
    if given.settings()?.in_force.is_empty() {
        return Err(Error::usage("no setting is given").hint("for example --keepidle 60; see tcptune apply --help"));
    }
    let pid = matches.get_one::<i32>("pid").copied().unwrap_or_default();
    let task =
        Task { target: Target::open(pid)?, given, filter: filter(matches)?, dry_run: matches.get_flag("dry-run") };
    let watch = matches.get_one::<Duration>("watch").copied();
    let mut tally = Tally::default();
    let mut seen = HashMap::new();
    let deadline = Instant::now() + watch.unwrap_or_default();
    loop {
        let begun = Instant::now();
        let changed = task.round(&mut seen)?;
        tally.add(&changed);
        task.print(&changed, out, watch.is_some())?;
        let pause = PAUSE.max(begun.elapsed() * REST);
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        if task.target.ends_within(pause.min(left)) {
            say(&format!("process {pid} has ended"));
            return tally.result(&task);
        }
    }
    if watch.is_none() && task.target.has_ended() {
        return Err(ended(&task.target));
    }
    tally.result(&task)
}

fn filter(matches: &ArgMatches) -> Result<Filter, Error> {
    let mut filter =
        Filter { fds: matches.get_many("fd").into_iter().flatten().copied().collect(), ..Filter::default() };
    for flag in ["dst", "port"] {
        let Some(list) = matches.get_one::<String>(flag) else { continue };
        // As a rule has it: the same networks and ports are taken, with the same messages.
        let words = list.split(',').map(str::trim).collect::<Vec<_>>().join(",");
        match grammar::entries(&format!("{flag}={words} : off")).next() {
            Some(Ok(Entry::Rule(rule))) => {
                filter.dst.extend(rule.conditions.dst);
                filter.ports.extend(rule.conditions.ports);
            }
            Some(Err(wrong)) => return Err(Error::usage(format!("--{flag} {list}: {}", wrong.problem))),
            _ => {
                return Err(Error::usage(format!("--{flag} {list}: expected a value, or several with commas between")));
            }
        }
    }
    Ok(filter)
}

/// What is to be done to which process.
struct Task {
    target: Target,
    given: Given,
    filter: Filter,
    dry_run: bool,
}

/// A socket that was looked at.
struct Changed {
    descriptor: Descriptor,
    facts: Facts,
    changes: Vec<Change>,
}

/// What is known of a socket that was looked at before.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Seen {
    /// No later look would find more to do.
    Done,
    /// In this phase; another one may follow.
    In(Phases),
}

impl Task {
    /// Looks at one socket after another, of those that are new or have gone on since.
    fn round(&self, seen: &mut HashMap<u64, Seen>) -> Result<Vec<Changed>, Error> {
        let mut all = Vec::new();
        let descriptors = self.target.descriptors()?;
        let open: HashSet<_> = descriptors.iter().map(|descriptor| descriptor.inode).collect();
        seen.retain(|inode, _| open.contains(inode));
        for descriptor in descriptors {
            let before = seen.get(&descriptor.inode).copied();
            if before == Some(Seen::Done) || !self.filter.takes_descriptor(&descriptor) {
                continue;
            }
            let Some(socket) = self.target.duplicate(&descriptor)? else { continue };
            let Some(facts) = socket.facts() else {
                seen.insert(descriptor.inode, Seen::Done);
                continue;
            };
            let phase = facts.phase();
            let last = Phases::CONNECTED.or(Phases::LISTENING).contains(phase);
            seen.insert(descriptor.inode, if last { Seen::Done } else { Seen::In(phase) });
            if before == Some(Seen::In(phase)) || !self.filter.takes(&facts) {
                continue;
            }
            let mut changes = self.changes(&socket, &facts)?;
            drop(socket);
            if before.is_some() {
                changes.retain(|change| !change.is_same());
            }
            if !changes.is_empty() {
                all.push(Changed { descriptor, facts, changes });
            }
        }
        Ok(all)
    }

    fn changes(&self, socket: &Socket, facts: &Facts) -> Result<Vec<Change>, Error> {
        // USER_TIMEOUT=auto is of the times that hold for this socket.
        let kernel = kernel::keepalive_defaults;
        let settings = self.given.settings_where(|| socket.keepalive(facts).unwrap_or_else(kernel))?;
        let changes = settings.in_force.iter().filter_map(|one| Change::make(socket, facts, one, self.dry_run));
        Ok(changes.collect())
    }

    fn print(&self, changed: &[Changed], out: &Output, watching: bool) -> Result<(), Error> {
        if out.is_json() {
            let sockets: Vec<_> = changed.iter().map(Changed::json).collect();
            let (pid, name) = (self.target.pid(), self.target.name());
            let all = json!({ "pid": pid, "name": name, "dry_run": self.dry_run, "sockets": sockets });
            return match watching {
                false => out.print_json(&all),
                true if changed.is_empty() => Ok(()),
                true => out.print_json_line(&all),
            };
        }
        if changed.is_empty() {
            return Ok(());
        }
        let after = if self.dry_run { "WOULD BE" } else { "AFTER" };
        let mut table = out.table(&["FD", "STATE", "ADDRESS", "SETTING", "BEFORE", after]);
        table.add_rows(changed.iter().flat_map(|socket| socket.rows(out)));
        // Only the last column has sentences; the others are not wrapped, as long as that leaves room for it.
        let (last, others) = table
            .column_max_content_widths()
            .split_last()
            .map_or((0, 0), |(last, others)| (*last, others.iter().map(|width| width + 2).sum::<u16>()));
        if out.width().is_some_and(|width| usize::from(others + last.min(LEAST)) <= width) {
            table.column_iter_mut().take(5).for_each(|column| {
                column.set_constraint(ColumnConstraint::ContentWidth);
            });
        }
        out.print_table(&table)
    }
}

impl Changed {
    fn rows(&self, out: &Output) -> impl Iterator<Item = [Cell; 6]> {
        let peer_or_own = self.facts.peer.or(self.facts.local);
        let first = [self.descriptor.to_string(), self.facts.state.name().to_owned(), address(peer_or_own)];
        self.changes.iter().enumerate().map(move |(i, change)| {
            let [fd, state, address] = first.clone().map(|text| Cell::new(if i == 0 { text } else { String::new() }));
            let after = if change.has_failed() {
                out.cell(Tone::Bad, change.after())
            } else if !change.fits() {
                out.cell(Tone::Warning, change.after())
            } else if change.is_same() {
                out.cell(Tone::Faint, change.after())
            } else {
                out.cell(Tone::Good, change.after())
            };
            [fd, state, address, Cell::new(OPTIONS[change.row].name()), Cell::new(change.before()), after]
        })
    }

    fn json(&self) -> Json {
        json!({
            "fds": self.descriptor.fds,
            "state": self.facts.state.name(),
            "local": self.facts.local,
            "peer": self.facts.peer,
            "changes": self.changes.iter().map(Change::json).collect::<Vec<_>>(),
        })
    }
}

/// What became of all.
#[derive(Default)]
struct Tally {
    sockets: usize,
    changes: usize,
    failed: usize,
    /// By row: whether a socket could take it.
    fits: HashMap<usize, bool>,
}

impl Tally {
    fn add(&mut self, changed: &[Changed]) {
        self.sockets += changed.len();
        for change in changed.iter().flat_map(|socket| &socket.changes) {
            self.changes += 1;
            self.failed += usize::from(change.has_failed());
            *self.fits.entry(change.row).or_default() |= change.fits();
        }
    }

    fn result(&self, task: &Task) -> Result<ExitCode, Error> {
        let (pid, name) = (task.target.pid(), task.target.name());
        if self.sockets == 0 {
            let matching = if task.filter.is_empty() { "" } else { " that matches --dst, --port and --fd" };
            let message = format!("process {pid} ({name}) has no TCP socket{matching}: nothing was set");
            return Err(Error::failed(message).hint(format!("tcptune inspect {pid} lists those it has")));
        }
        if self.failed > 0 {
            let message = format!("the kernel refused {} of {} settings", self.failed, self.changes);
            return Err(Error::failed(message).hint("which, and why, is said above"));
        }
        let of_a_flag = |row| task.given.iter().any(|said| said.row == row && said.origin == Origin::Flag);
        let idle = self.fits.iter().filter(|(row, fits)| !**fits && of_a_flag(**row));
        let mut idle: Vec<_> = idle.map(|(row, _)| OPTIONS[*row].name()).collect();
        idle.sort_unstable();
        if idle.is_empty() {
            return Ok(ExitCode::SUCCESS);
        }
        let message = format!("{} fits none of these sockets and was not set", idle.join(", "));
        Err(Error::failed(message).hint("tcptune run sets it from the start"))
    }
}
