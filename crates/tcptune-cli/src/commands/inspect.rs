//! `tcptune inspect`: the TCP sockets of a running process, with their options as they are.

use std::net::SocketAddr;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches, Command};
use comfy_table::Cell;
use tcptune_core::options::table;
use tcptune_core::options::value::{Kind, Unit, Value};

use crate::live::process::Target;
use crate::live::snapshot::{self, Entry, Snapshot};
use crate::live::socket::{Reading, shown};
use crate::live::timers::Timers;
use crate::screens::error::{Error, say};
use crate::screens::output::{Output, Tone};

const LONG_ABOUT: &str = "\
Show every TCP socket of a running process with its actual options, whatever the program is and whoever has set them: \
a static, Go or Java program as well. The process is not stopped, and nothing is changed.

The sockets are reached by pidfd_getfd(2), which needs Linux 5.6 and the right to trace the process: the same user (and \
no kernel.yama.ptrace_scope above 0), or CAP_SYS_PTRACE.";

const AFTER_HELP: &str = "\
KEEPALIVE is idle time + interval × probes. TIMER is what the socket waits for, and how often it has retransmitted or \
probed by then. --json has all options, in the unit of the option, and more figures of the connection.

Exit status: 0, 1 (no such process, no permission, or the process ended meanwhile), 2 (wrong usage).";

/// How often `--watch` looks, without a time.
const EVERY: &str = "2s";

/// Its flags.
pub fn command() -> Command {
    Command::new("inspect")
        .about("Show every TCP socket of a running process with its actual options")
        .long_about(LONG_ABOUT)
        .after_long_help(AFTER_HELP)
        .arg(pid())
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(EVERY)
                .value_parser(|text: &str| duration(text))
                .help("Look again and again, every 2 seconds or as often as said, until the process ends"),
        )
}

/// The process to look at.
pub fn pid() -> Arg {
    Arg::new("pid")
        .value_name("PID")
        .required(true)
        .value_parser(clap::value_parser!(i32).range(1..))
        .help("Number of the process")
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

/// Does it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let pid = matches.get_one::<i32>("pid").copied().unwrap_or_default();
    let target = Target::open(pid)?;
    let timers = timers(&target);
    let Some(every) = matches.get_one::<Duration>("watch") else {
        let snapshot = Snapshot::take(&target, timers.as_ref())?;
        if out.is_json() {
            out.print_json(&snapshot.json(&target))?;
        } else {
            print(&target, &snapshot, out)?;
        }
        return if snapshot.ended { Err(ended(&target)) } else { Ok(ExitCode::SUCCESS) };
    };
    loop {
        let snapshot = Snapshot::take(&target, timers.as_ref())?;
        if out.is_json() {
            out.print_json_line(&snapshot.json(&target))?;
        } else {
            out.begin_screen()?;
            print(&target, &snapshot, out)?;
        }
        if target.ends_within(*every) {
            say(&format!("process {pid} has ended"));
            return Ok(ExitCode::SUCCESS);
        }
    }
}

fn timers(target: &Target) -> Option<Timers> {
    Timers::of_process(target.proc()).inspect_err(|why| say(why)).ok()
}

/// The error of a process that ended while it was looked at.
pub fn ended(target: &Target) -> Error {
    let (pid, name) = (target.pid(), target.name());
    Error::failed(format!("process {pid} ({name}) ended meanwhile"))
        .hint("what was printed had been read before; some of its sockets may be missing")
}

const COLUMNS: [&str; 13] = [
    "FD",
    "PROTO",
    "LOCAL",
    "PEER",
    "STATE",
    "TIMER",
    "KEEPALIVE",
    "USER TIMEOUT",
    "CONGESTION",
    "NODELAY",
    "SYNCNT",
    "SNDBUF",
    "RCVBUF",
];

/// Which columns stand one above the other, from wide to narrow: the first layout that fits is taken, or the last.
const LAYOUTS: [&[&[usize]]; 3] = [
    &[&[0], &[1], &[2], &[3], &[4], &[5], &[6], &[7], &[8], &[9], &[10], &[11], &[12]],
    &[&[0, 1], &[2, 3], &[4, 5], &[6, 7], &[8], &[9, 10], &[11, 12]],
    &[&[0, 1], &[2, 3], &[4, 5], &[6, 7, 8], &[9, 10], &[11, 12]],
];

/// Spaces between columns.
const GAP: usize = 2;

fn print(target: &Target, snapshot: &Snapshot, out: &Output) -> Result<(), Error> {
    let entries = &snapshot.entries;
    let many = if entries.len() == 1 { "" } else { "s" };
    let title = format!("{} (PID {}): {} TCP socket{many}", target.name(), target.pid(), entries.len());
    out.print(out.paint(Tone::Heading, title))?;
    if entries.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = entries.iter().map(cells).collect();
    let layout = layout(&rows, out.width());
    let header: Vec<_> = layout.iter().map(|stack| stacked(&COLUMNS, stack)).collect();
    let mut table = out.table(&header.iter().map(String::as_str).collect::<Vec<_>>());
    for row in &rows {
        let cells = row.each_ref().map(String::as_str);
        // What is not acknowledged is what one looks for.
        let troubled =
            |stack: &[usize]| stack.iter().any(|i| cells[*i].starts_with(['r', 'p']) && COLUMNS[*i] == "TIMER");
        table.add_row(layout.iter().map(|stack| {
            let text = stacked(&cells, stack);
            if troubled(stack) { out.cell(Tone::Warning, text) } else { Cell::new(text) }
        }));
    }
    out.print_table(&table)
}

fn layout(rows: &[[String; COLUMNS.len()]], width: Option<usize>) -> &'static [&'static [usize]] {
    let of_column = |column: usize| {
        let cells = rows.iter().map(|row| row[column].chars().count());
        cells.chain([COLUMNS[column].len()]).max().unwrap_or(0)
    };
    let of_layout = |layout: &[&[usize]]| -> usize {
        let stacks = layout.iter().map(|stack| stack.iter().map(|column| of_column(*column)).max().unwrap_or(0));
        stacks.map(|width| width + GAP).sum()
    };
    let fits = |layout: &&&[&[usize]]| width.is_none_or(|width| of_layout(layout) <= width);
    LAYOUTS.iter().find(fits).unwrap_or(&LAYOUTS[2])
}

fn stacked(cells: &[&str], stack: &[usize]) -> String {
    stack.iter().map(|column| cells[*column]).collect::<Vec<_>>().join("\n")
}

fn cells(entry: &Entry) -> [String; COLUMNS.len()] {
    let Entry { descriptor, reading, timer } = entry;
    let facts = &reading.facts;
    let count = facts.info.as_ref().map_or(0, |info| info.retransmits.max(info.probes));
    let timer = timer.map_or("-".to_owned(), |timer| {
        let times = if count == 0 { String::new() } else { format!(" ×{count}") };
        format!("{} {}{times}", timer.kind, seconds(timer.left))
    });
    [
        descriptor.to_string(),
        snapshot::protocol(facts).to_owned(),
        address(facts.local),
        address(facts.peer),
        facts.state.name().to_owned(),
        timer,
        keepalive(reading),
        value(reading, "USER_TIMEOUT"),
        value(reading, "CONGESTION"),
        value(reading, "NODELAY"),
        value(reading, "SYNCNT"),
        bytes(reading, "SNDBUF"),
        bytes(reading, "RCVBUF"),
    ]
}

/// An address, if it is one.
pub fn address(address: Option<SocketAddr>) -> String {
    match address {
        Some(address) if address.port() != 0 => address.to_string(),
        _ => "-".to_owned(),
    }
}

fn keepalive(reading: &Reading) -> String {
    match reading.int("KEEPALIVE") {
        None => "-".to_owned(),
        Some(0) => "off".to_owned(),
        Some(_) => {
            let [idle, interval, count] = ["KEEPIDLE", "KEEPINTVL", "KEEPCNT"].map(|name| value(reading, name));
            format!("{idle}+{interval}×{count}")
        }
    }
}

/// As an operator would write it; `-` where the kernel has no such option for this socket.
fn value(reading: &Reading, name: &str) -> String {
    match (table::find(name), reading.value(name)) {
        (Some((_, opt)), Some(value)) => shown(opt, value),
        _ => "-".to_owned(),
    }
}

fn bytes(reading: &Reading, name: &str) -> String {
    match reading.int(name) {
        Some(n) if n >= 10 << 20 => format!("{}M", n >> 20),
        Some(n) if n >= 10 << 10 => format!("{}K", n >> 10),
        Some(n) => n.to_string(),
        None => "-".to_owned(),
    }
}

/// In tenths of a second below ten of them.
fn seconds(time: Duration) -> String {
    if time < Duration::from_secs(10) { format!("{:.1}s", time.as_secs_f64()) } else { format!("{}s", time.as_secs()) }
}
