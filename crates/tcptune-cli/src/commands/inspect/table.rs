//! Sockets as a table: all in one row where that fits, else with the options on a line of their own.

use std::fmt::Write;
use std::net::SocketAddr;
use std::time::Duration;

use tcptune_core::options::table as options;

use crate::live::process::Target;
use crate::live::snapshot::{Entry, protocol};
use crate::live::socket::{Reading, shown};
use crate::screens::error::Error;
use crate::screens::output::{Output, Tone};
use crate::screens::text::safe;

/// A socket, and whose it is.
pub struct Seen<'a> {
    pub target: &'a Target,
    pub entry: &'a Entry,
}

/// Titles, and the first of those that are options.
const COLUMNS: [&str; 16] = [
    "PROCESS",
    "FD",
    "PROTO",
    "STATE",
    "LOCAL",
    "PEER",
    "RECV-Q",
    "SEND-Q",
    "TIMER",
    "KEEPALIVE",
    "USER TIMEOUT",
    "CONGESTION",
    "NODELAY",
    "SYNCNT",
    "SNDBUF",
    "RCVBUF",
];
const TIMER: usize = 8;
const OPTIONS: usize = 9;

/// Which columns stand one above the other, from wide to narrow: the first layout that fits is taken, or the last. The
/// options that a layout leaves out are on a line below.
const LAYOUTS: [&[&[usize]]; 3] = [
    &[&[0], &[1], &[2], &[3], &[4], &[5], &[6], &[7], &[8], &[9], &[10], &[11], &[12], &[13], &[14], &[15]],
    &[&[0], &[1], &[3], &[4], &[5], &[6], &[7], &[8]],
    &[&[0, 1], &[4, 5], &[3, 8], &[6, 7]],
];

/// Spaces between columns, and before a line of options.
const GAP: usize = 2;

type Row = [String; COLUMNS.len()];

/// Prints a table of all processes, of which there are so many.
pub fn print_all(seen: &[Seen], count: usize, out: &Output) -> Result<(), Error> {
    out.print(out.paint(Tone::Heading, format!("{}, of {count} processes", sockets(seen.len()))))?;
    print_rows(seen, true, out)
}

/// Prints a table for each of these processes, in the order of their numbers.
pub fn print<'a>(seen: &[Seen], targets: impl Iterator<Item = &'a Target>, out: &Output) -> Result<(), Error> {
    for (i, target) in targets.enumerate() {
        let start = seen.partition_point(|seen| seen.target.pid() < target.pid());
        let end = seen.partition_point(|seen| seen.target.pid() <= target.pid());
        let of_it = seen.get(start..end).unwrap_or_default();
        if i > 0 {
            out.print("")?;
        }
        let title = format!("{} (PID {}): {}", target.name(), target.pid(), sockets(of_it.len()));
        out.print(out.paint(Tone::Heading, title))?;
        print_rows(of_it, false, out)?;
    }
    Ok(())
}

fn sockets(count: usize) -> String {
    format!("{count} TCP socket{}", if count == 1 { "" } else { "s" })
}

fn print_rows(seen: &[Seen], all: bool, out: &Output) -> Result<(), Error> {
    if seen.is_empty() {
        return Ok(());
    }
    let rows: Vec<_> = seen.iter().map(|seen| cells(seen, all)).collect();
    let mut widths = COLUMNS.map(str::len);
    for row in &rows {
        for (width, cell) in widths.iter_mut().zip(row) {
            *width = (*width).max(cell.chars().count());
        }
    }
    // A column that says nothing takes no room.
    let says = |column: usize| match column {
        0 => all,
        2 => rows.iter().any(|row| row[2] != "tcp"),
        OPTIONS.. => seen.iter().any(|seen| seen.entry.reading.is_some()),
        _ => true,
    };
    let of_stack = |stack: &[usize]| stack.iter().filter(|i| says(**i)).map(|i| widths[*i]).max();
    let of_layout =
        |layout: &[&[usize]]| layout.iter().filter_map(|stack| of_stack(stack)).map(|w| w + GAP).sum::<usize>();
    let fits = |layout: &&&[&[usize]]| out.width().is_none_or(|width| of_layout(layout) <= width + GAP);
    let layout = *LAYOUTS.iter().find(fits).unwrap_or(&LAYOUTS[2]);
    let stacks: Vec<_> = layout.iter().filter_map(|stack| Some((*stack, of_stack(stack)?))).collect();
    let mut text = String::new();
    let titles = COLUMNS.map(str::to_owned);
    for line in lines(&stacks, &titles, says) {
        let _ = writeln!(text, "{}", out.paint(Tone::Heading, line.trim_end()));
    }
    for (row, seen) in rows.iter().zip(seen) {
        // Sockets that retransmit or probe are what an operator looks for.
        let troubled = row[TIMER].starts_with(['r', 'p']);
        for line in lines(&stacks, row, says) {
            let line = line.trim_end();
            match line.split_once(&row[TIMER]).filter(|_| troubled) {
                Some((before, after)) => {
                    let _ = writeln!(text, "{before}{}{after}", out.paint(Tone::Warning, &row[TIMER]));
                }
                None => {
                    let _ = writeln!(text, "{line}");
                }
            }
        }
        if !layout.iter().any(|stack| stack.contains(&OPTIONS)) && seen.entry.reading.is_some() {
            for line in options_below(seen.entry, row, out.width()) {
                let _ = writeln!(text, "{}", out.paint(Tone::Faint, line));
            }
        }
    }
    out.print(text.trim_end_matches('\n'))
}

/// The lines of a row.
fn lines(stacks: &[(&[usize], usize)], row: &Row, says: impl Fn(usize) -> bool) -> Vec<String> {
    let stacked = |stack: &[usize]| stack.iter().copied().filter(|i| says(*i)).collect::<Vec<_>>();
    let stacks: Vec<_> = stacks.iter().map(|(stack, width)| (stacked(stack), *width)).collect();
    let height = stacks.iter().map(|(stack, _)| stack.len()).max().unwrap_or(0);
    let line = |at: usize| {
        stacks.iter().fold(String::new(), |mut line, (stack, width)| {
            let cell = stack.get(at).map_or("", |column| row[*column].as_str());
            let right = stack.get(at).is_some_and(|column| matches!(column, 6 | 7));
            let _ = if right { write!(line, "{cell:>width$}  ") } else { write!(line, "{cell:<width$}  ") };
            line
        })
    };
    (0..height).map(line).collect()
}

/// The options of a socket, broken where the terminal ends.
fn options_below(entry: &Entry, row: &Row, width: Option<usize>) -> Vec<String> {
    const INDENT: &str = "      ";
    let protocol = (protocol(&entry.facts) == "mptcp").then(|| "mptcp".to_owned());
    let options = (OPTIONS..COLUMNS.len()).filter(|i| row[*i] != "-");
    let options = options.map(|i| format!("{} {}", COLUMNS[i].to_lowercase(), row[i]));
    let mut lines = vec![INDENT.to_owned()];
    for option in protocol.into_iter().chain(options) {
        let Some(line) = lines.last_mut() else { break };
        let fits = width.is_none_or(|width| line.chars().count() + option.chars().count() + 2 <= width);
        if line.len() == INDENT.len() {
            line.push_str(&option);
        } else if fits {
            let _ = write!(line, ", {option}");
        } else {
            line.push(',');
            lines.push(format!("{INDENT}{option}"));
        }
    }
    lines
}

fn cells(seen: &Seen, all: bool) -> Row {
    let Entry { descriptor, facts, reading } = seen.entry;
    let reading = reading.as_ref();
    let count = facts.info.as_ref().map_or(0, |info| info.retransmits.max(info.probes));
    let timer = facts.timer.map_or("-".to_owned(), |timer| {
        let times = if count == 0 { String::new() } else { format!(" ×{count}") };
        format!("{} {}{times}", timer.kind, seconds(timer.left))
    });
    let queue = |which: fn((u32, u32)) -> u32| facts.queues.map_or("-".to_owned(), |both| which(both).to_string());
    [
        if all { format!("{} {}", seen.target.pid(), safe(seen.target.name())) } else { String::new() },
        descriptor.to_string(),
        protocol(facts).to_owned(),
        facts.state.name().to_owned(),
        address(facts.local),
        address(facts.peer),
        queue(|(received, _)| received),
        queue(|(_, sent)| sent),
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

fn keepalive(reading: Option<&Reading>) -> String {
    match reading.and_then(|reading| reading.int("KEEPALIVE")) {
        None => "-".to_owned(),
        Some(0) => "off".to_owned(),
        Some(_) => {
            let [idle, interval, count] = ["KEEPIDLE", "KEEPINTVL", "KEEPCNT"].map(|name| value(reading, name));
            format!("{idle}+{interval}×{count}")
        }
    }
}

/// As an operator would write it; `-` where the kernel has no such option for this socket, or it was not read.
fn value(reading: Option<&Reading>, name: &str) -> String {
    match (options::find(name), reading.and_then(|reading| reading.value(name))) {
        (Some((_, opt)), Some(value)) => shown(opt, value),
        _ => "-".to_owned(),
    }
}

fn bytes(reading: Option<&Reading>, name: &str) -> String {
    match reading.and_then(|reading| reading.int(name)) {
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
