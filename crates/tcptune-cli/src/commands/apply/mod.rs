//! `tcptune apply`: sets options on the live sockets of a running process.

mod change;

use std::collections::{HashMap, HashSet};
use std::process::ExitCode;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgMatches, Command};
use comfy_table::{Cell, ColumnConstraint};
use serde_json::{Value as Json, json};
use tcptune_core::options::phase::Phases;
use tcptune_core::options::table::{OPTIONS, Opt, Own, Target as Of};
use tcptune_core::options::ways::Ways;

use self::change::Change;
use crate::commands::inspect::{address, duration, ended};
use crate::live::diag::Listed;
use crate::live::filter::{self, Filter};
use crate::live::process::{Descriptor, Target};
use crate::live::select::{self, Selection};
use crate::live::socket::{Facts, Socket};
use crate::screens::error::{Error, say};
use crate::screens::output::{Output, Tone};
use crate::settings::flags::{self, Given, Origin};
use crate::system::kernel;

const LONG_ABOUT: &str = "\
Set options on the live TCP sockets of running processes, without restarting them, whatever the programs are. Each option \
is read before and after; what makes no sense any more, such as SYNCNT on an established connection, is not set, and said so.

The process is not stopped; no descriptor is closed, and no file status flag is changed. The program itself may set its \
options again, and sockets that it makes later have the kernel's values, except those accepted from a listener that was \
set; see --watch.";

const AFTER_HELP: &str = "\
ADDRESS is the peer, or of a listener its own. Without --dst, --port and --fd, all TCP sockets of the process are meant.

Exit status: 0, 1 (no such process or no permission; a socket refused an option; a setting fits none of the sockets), \
2 (wrong usage or a wrong setting).";

/// Shortest time between two looks of `--watch`.
const PAUSE: Duration = Duration::from_millis(100);
/// A pause is at least so many times as long as a look takes, so that watching a process with very many descriptors is no
/// load.
const REST: u32 = 20;

/// The narrowest last column that can still be read.
const LEAST: u16 = 16;

/// Its flags.
pub fn command() -> Command {
    let command = Command::new("apply")
        .about("Set options on the live TCP sockets of a running process")
        .long_about(LONG_ABOUT)
        .after_long_help(AFTER_HELP)
        .args(select::args().map(|arg| match arg.get_id().as_str() {
            "process" => arg.required(true),
            _ => arg,
        }))
        .args(filter::args())
        .args([
            Arg::new("watch")
                .long("watch")
                .value_name("TIME")
                .value_parser(|text: &str| duration(text))
                .help("Go on for this time, and set the options on new sockets as well"),
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Say what would be set, and set nothing"),
        ]);
    let examples = "  \
  tcptune apply nginx --keepidle 60 --user-timeout auto
  tcptune apply 4711 --dst 10.0.0.0/8 --port 5432 --nodelay on --dry-run
  tcptune apply 4711 --state syn_sent --user-timeout 2s --watch 10m";
    let is_of_a_socket = |opt: &Opt| match opt.target {
        Of::Socket(_) => true,
        Of::Own(own) => own.is_of_a_socket(),
    };
    let command = flags::with(command, is_of_a_socket, Ways::APPLY, examples);
    // Flags that are taken only to be refused with the reason.
    OPTIONS.iter().filter(|opt| why_not(opt).is_some()).fold(command, |command, opt| {
        if is_of_a_socket(opt) { command.mut_arg(opt.name(), |arg| arg.hide(true)) } else { command }
    })
}

/// Why a setting is not for live sockets at all.
fn why_not(opt: &Opt) -> Option<&'static str> {
    match opt.target {
        Of::Socket(_) if opt.name() == "ACCEPT_TIMEOUT" => {
            Some("what the listener accepts would inherit it, where no library takes it off")
        }
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
        if let (Some(why), Origin::Flag) = (why_not(opt), &said.origin) {
            let message = format!("--{}: not for sockets that are there already: {why}", flags::name(opt));
            return Err(Error::usage(message).hint("tcptune run sets it from the start"));
        }
    }
    if given.settings()?.in_force.is_empty() {
        return Err(Error::usage("no setting is given").hint("for example --keepidle 60; see tcptune apply --help"));
    }
    for trap in given.traps() {
        say(&trap);
    }
    let selection = Selection::new(matches);
    let selected = selection.find()?;
    for error in &selected.errors {
        say(&error.to_string());
    }
    let job = Job {
        given,
        filter: Filter::new(matches)?,
        dry_run: matches.get_flag("dry-run"),
        one: selection.is_one(),
        watching: matches.contains_id("watch"),
    };
    let deadline = Instant::now() + matches.get_one::<Duration>("watch").copied().unwrap_or_default();
    let mut tasks: Vec<_> = selected.targets.into_iter().map(|target| Task { target, seen: HashMap::new() }).collect();
    let mut tally = Tally { processes: tasks.len(), errors: selected.errors.len(), ..Tally::default() };
    loop {
        let begun = Instant::now();
        job.round(&mut tasks, &mut tally, out)?;
        let pause = PAUSE.max(begun.elapsed() * REST);
        let left = deadline.saturating_duration_since(Instant::now());
        if left.is_zero() {
            break;
        }
        let first = tasks.first().map(|task| task.target.ends_within(pause.min(left)));
        tasks.retain(|task| {
            let ended = task.target.has_ended();
            if ended {
                say(&format!("process {} has ended", task.target.pid()));
            }
            !ended
        });
        if first.is_none() || tasks.is_empty() {
            return tally.result(&job, None);
        }
    }
    if let [task] = tasks.as_slice()
        && job.one
        && !job.watching
        && task.target.has_ended()
    {
        return Err(ended(&task.target));
    }
    tally.result(&job, tasks.first().map(|task| &task.target))
}

/// What is to be done.
struct Job {
    given: Given,
    filter: Filter,
    dry_run: bool,
    /// To one process, named by its number.
    one: bool,
    watching: bool,
}

impl Job {
    /// Looks at each process once.
    fn round(&self, tasks: &mut [Task], tally: &mut Tally, out: &Output) -> Result<(), Error> {
        let mut listed = Listed::default();
        let mut all = Vec::new();
        for task in tasks {
            let changed = match task.round(self, &mut listed) {
                Ok(changed) => changed,
                Err(error) if self.one => return Err(error),
                Err(error) => {
                    say(&error.to_string());
                    tally.errors += 1;
                    continue;
                }
            };
            tally.add(&changed);
            if !out.is_json() {
                task.print(self, &changed, out)?;
            } else if !self.watching {
                all.push(task.json(self, &changed));
            } else if !changed.is_empty() {
                out.print_json_line(&task.json(self, &changed))?;
            }
        }
        match all.pop() {
            Some(json) if self.one => out.print_json(&json),
            Some(last) => {
                all.push(last);
                out.print_json(&all)
            }
            None => Ok(()),
        }
    }
}

impl Seen {
    /// A socket in this phase.
    fn after(phase: Phases) -> Self {
        if Phases::CONNECTED.or(Phases::LISTENING).contains(phase) { Self::Done } else { Self::In(phase) }
    }
}

/// A process, and what is known of its sockets.
struct Task {
    target: Target,
    seen: HashMap<u64, Seen>,
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
    /// Looks at each socket that is new, or is in another phase than at the last look.
    fn round(&mut self, job: &Job, listed: &mut Listed) -> Result<Vec<Changed>, Error> {
        let mut all = Vec::new();
        let descriptors = self.target.descriptors()?;
        let open: HashSet<_> = descriptors.iter().map(|descriptor| descriptor.inode).collect();
        self.seen.retain(|inode, _| open.contains(inode));
        for descriptor in descriptors {
            let before = self.seen.get(&descriptor.inode).copied();
            if before == Some(Seen::Done) || !job.filter.takes_descriptor(&descriptor) {
                continue;
            }
            let known = listed.of(&self.target).get(descriptor.inode);
            if known.is_none() && self.target.kind(&descriptor).is_none() {
                self.seen.insert(descriptor.inode, Seen::Done);
                continue;
            }
            // A duplicate is made only of a socket on which something is to be set.
            if let Some(facts) = known.filter(|facts| !job.filter.takes(facts)) {
                self.seen.insert(descriptor.inode, Seen::after(facts.phase()));
                continue;
            }
            let Some(socket) = self.target.duplicate(&descriptor)? else { continue };
            let Some(facts) = socket.facts(known) else { continue };
            let phase = facts.phase();
            self.seen.insert(descriptor.inode, Seen::after(phase));
            if before == Some(Seen::In(phase)) || !job.filter.takes(&facts) {
                continue;
            }
            let mut changes = job.changes(&socket, &facts)?;
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

    fn json(&self, job: &Job, changed: &[Changed]) -> Json {
        let sockets: Vec<_> = changed.iter().map(Changed::json).collect();
        let (pid, name) = (self.target.pid(), self.target.name());
        json!({ "pid": pid, "name": name, "dry_run": job.dry_run, "sockets": sockets })
    }

    fn print(&self, job: &Job, changed: &[Changed], out: &Output) -> Result<(), Error> {
        if changed.is_empty() {
            return Ok(());
        }
        if !job.one {
            let title = format!("{} (PID {})", self.target.name(), self.target.pid());
            out.print(out.paint(Tone::Heading, title))?;
        }
        let after = if job.dry_run { "WOULD BE" } else { "AFTER" };
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

impl Job {
    fn changes(&self, socket: &Socket, facts: &Facts) -> Result<Vec<Change>, Error> {
        // USER_TIMEOUT=auto is computed from the keepalive times of this socket.
        let kernel = kernel::keepalive_defaults;
        let settings = self.given.settings_where(|| socket.keepalive(facts).unwrap_or_else(kernel))?;
        let changes = settings.in_force.iter().filter_map(|one| Change::make(socket, facts, one, self.dry_run));
        Ok(changes.collect())
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
    processes: usize,
    /// Of processes that could not be looked into.
    errors: usize,
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

    fn result(&self, job: &Job, target: Option<&Target>) -> Result<ExitCode, Error> {
        if self.sockets == 0 {
            let who = match target {
                Some(target) if self.processes == 1 => format!("process {} ({}) has", target.pid(), target.name()),
                _ if self.processes == 1 => "the process had".to_owned(),
                _ => format!("none of these {} processes has", self.processes),
            };
            let what = if self.processes == 1 { "no" } else { "a" };
            let matching = if job.filter.is_empty() { "" } else { " that matches --dst, --port, --state and --fd" };
            let message = format!("{who} {what} TCP socket{matching}: nothing was set");
            return Err(Error::failed(message).hint("tcptune inspect lists those there are"));
        }
        if self.failed > 0 {
            let message = format!("the kernel refused {} of {} settings", self.failed, self.changes);
            return Err(Error::failed(message).hint("which, and why, is said above"));
        }
        let of_a_flag = |row| job.given.iter().any(|said| said.row == row && said.origin == Origin::Flag);
        let idle = self.fits.iter().filter(|(row, fits)| !**fits && of_a_flag(**row));
        let mut idle: Vec<_> = idle.map(|(row, _)| OPTIONS[*row].name()).collect();
        idle.sort_unstable();
        if idle.is_empty() {
            return Ok(if self.errors == 0 { ExitCode::SUCCESS } else { ExitCode::FAILURE });
        }
        let message = format!("{} fits none of these sockets and was not set", idle.join(", "));
        Err(Error::failed(message).hint("tcptune run sets it from the start"))
    }
}
