//! `tcptune attached`: what is attached to cgroups, read from the kernel.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use clap::{Arg, ArgGroup, ArgMatches, Command};
use serde_json::{Value as Json, json};

use crate::commands::{attach, inspect};
use crate::screens::error::Error;
use crate::screens::output::{Output, Tone};
use crate::ways::cgroup::about::{About, Counts, State};
use crate::ways::cgroup::attachment::Attached;
use crate::ways::cgroup::place::Cgroup;

const LONG_ABOUT: &str = "\
Show what `tcptune attach` has attached: to which cgroups, since when, by whom, with which settings, and what the programs \
have counted. All of it is read from the kernel. With a cgroup, a unit or a process: what holds there, be it attached to a \
cgroup around it.";

const AFTER_HELP: &str = "\
TIMED OUT are attempts that took as long as the connect timeout, FAILED those that failed otherwise; both are counted \
where there is one. MEAN is the time from connect to connection, LEFT OUT are the program's own calls of setsockopt(2) that \
would have undone a setting. After the end of a trial (--for) the programs set nothing any more, and go on counting: those \
counts stand beside the others.

Exit status: 0, 1 (no such cgroup or process), 2 (wrong usage), 126 (a capability is missing).";

/// How often `--watch` looks, without a time.
const EVERY: &str = "2s";

const EXAMPLES: &str = "\
Examples:
  tcptune attached
  tcptune attached --unit nginx";

/// Its flags.
pub fn command() -> Command {
    Command::new("attached")
        .about("Show which cgroups are tuned, with which settings, and what was counted")
        .long_about(LONG_ABOUT)
        .after_help(EXAMPLES)
        .after_long_help(format!("{AFTER_HELP}\n\n{EXAMPLES}"))
        .args(attach::place())
        .group(ArgGroup::new("place").args(["cgroup", "unit", "pid"]))
        .arg(
            Arg::new("watch")
                .long("watch")
                .value_name("SECONDS")
                .num_args(0..=1)
                .require_equals(true)
                .default_missing_value(EVERY)
                .value_parser(|text: &str| inspect::duration(text))
                .help("Look again and again, every 2 seconds or as often as said"),
        )
}

/// One attachment, as it was found.
struct Found {
    cgroup: Cgroup,
    /// None if another version of tcptune has attached it.
    about: Option<About>,
    state: Option<State>,
    pending: usize,
    is_whole: bool,
}

/// Does it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let Some(every) = matches.get_one::<Duration>("watch") else {
        let found = find(matches)?;
        if out.is_json() {
            out.print_json(&json(&found))?;
        } else {
            print(&found, out)?;
        }
        return Ok(ExitCode::SUCCESS);
    };
    loop {
        let found = find(matches)?;
        if out.is_json() {
            out.print(json(&found))?;
        } else {
            out.begin_screen()?;
            print(&found, out)?;
        }
        thread::sleep(*every);
    }
}

fn find(matches: &ArgMatches) -> Result<Vec<Found>, Error> {
    let is_chosen = matches.get_one::<clap::Id>("place").is_some();
    let cgroups: Vec<_> =
        if is_chosen { attach::chosen(matches)?.with_ancestors()?.collect() } else { Cgroup::all()?.collect() };
    let mut all = Vec::new();
    for cgroup in cgroups {
        all.extend(look(cgroup)?);
    }
    Ok(all)
}

/// What is attached to a cgroup.
fn look(cgroup: Cgroup) -> Result<Option<Found>, Error> {
    // A cgroup may be removed while others are looked at.
    let Ok(file) = cgroup.open() else { return Ok(None) };
    let attached = Attached::find(file.as_fd())?;
    let (about, state, pending) = (attached.about(), attached.state(), attached.pending());
    let is_whole = attached.is_whole();
    Ok((!attached.is_empty()).then_some(Found { cgroup, about, state, pending, is_whole }))
}

fn json(found: &[Found]) -> Json {
    let one = |it: &Found| {
        let about = it.about.as_ref();
        let is_trial = about.is_some_and(|about| about.until.is_some());
        let has_timeouts = about.is_some_and(|about| about.longest > 0);
        let counts = |is_after| it.state.as_ref().map(|state| state.counts(has_timeouts, is_after));
        let slots = about.map_or(&[][..], |about| &about.slots);
        let refused = it.state.iter().flat_map(|state| state.refused(slots)).collect::<Vec<_>>();
        json!({
            "cgroup": it.cgroup.path,
            "since": about.map(|about| about.since),
            "by": about.map(|about| &about.by),
            "uid": about.map(|about| about.uid),
            "settings": about.map(|about| about.settings.iter().cloned().collect::<std::collections::BTreeMap<_, _>>()),
            "rules": about.map(|about| &about.rules),
            "seconds_left": about.and_then(About::left).map(|left| left.as_secs_f64()),
            "counts": counts(false),
            "counts_after_the_trial": is_trial.then(|| counts(true)).flatten(),
            "pending": it.pending,
            "refused": refused,
            "stopped": it.state.as_ref().is_some_and(State::is_stopped),
            "whole": it.is_whole,
        })
    };
    found.iter().map(one).collect()
}

fn print(found: &[Found], out: &Output) -> Result<(), Error> {
    if found.is_empty() {
        return out.print("nothing is attached");
    }
    for (n, it) in found.iter().enumerate() {
        if n > 0 {
            out.print("")?;
        }
        print_one(it, out)?;
    }
    Ok(())
}

fn print_one(it: &Found, out: &Output) -> Result<(), Error> {
    let path = out.paint(Tone::Heading, &it.cgroup);
    let Some(about) = &it.about else {
        return out.print(format!("{path}: attached by another version of tcptune; detach takes it off"));
    };
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let ago = time(Duration::from_secs(now.saturating_sub(about.since)));
    out.print(format!("{path}: attached {ago} ago by {}", about.by))?;
    let mut facts = out.plain_table();
    let mut fact = |title: &str, tone, text: String| {
        facts.add_row(vec![out.cell(Tone::Plain, format!("  {title}")), out.cell(tone, text)]);
    };
    let settings: Vec<_> = about.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    fact(
        "settings",
        Tone::Plain,
        if settings.is_empty() { "none without a rule".to_owned() } else { settings.join(" ") },
    );
    for (n, rule) in about.rules.iter().enumerate() {
        fact(if n == 0 { "rules" } else { "" }, Tone::Plain, rule.clone());
    }
    match about.left() {
        Some(left) if left.is_zero() => fact("trial", Tone::Warning, "over: nothing is set any more".to_owned()),
        Some(left) => fact("trial", Tone::Plain, format!("{} left", time(left))),
        None => {}
    }
    let refused: Vec<_> = it.state.iter().flat_map(|state| state.refused(&about.slots)).collect();
    if !refused.is_empty() {
        fact("refused", Tone::Bad, format!("{}: the kernel has refused it for some socket", refused.join(", ")));
    }
    if it.state.as_ref().is_some_and(State::is_stopped) {
        fact("stopped", Tone::Warning, "a detach has not come to its end; detach again".to_owned());
    } else if !it.is_whole {
        fact("incomplete", Tone::Warning, "an attach has not come to its end; attach or detach again".to_owned());
    }
    if it.state.as_ref().is_some_and(|state| state.counts(false, false).unbounded > 0) {
        fact(
            "unbounded",
            Tone::Bad,
            "some connects had no timeout: too many at a time, or a kernel before 6.1".to_owned(),
        );
    }
    out.print_table(&facts)?;
    let Some(state) = &it.state else { return Ok(()) };
    let mut table = out.table(&COLUMNS);
    let (is_trial, has_timeouts) = (about.until.is_some(), about.longest > 0);
    table.add_row(cells(if is_trial { "in the trial" } else { "" }, &state.counts(has_timeouts, false), it.pending));
    if is_trial {
        table.add_row(cells("after it", &state.counts(has_timeouts, true), 0));
    }
    out.print_table(&table)
}

const COLUMNS: [&str; 10] =
    ["", "CONNECTS", "ESTABLISHED", "MEAN", "TIMED OUT", "FAILED", "PENDING", "LISTENERS", "ACCEPTED", "LEFT OUT"];

fn cells(title: &str, counts: &Counts, pending: usize) -> [String; COLUMNS.len()] {
    let micros = counts.mean_microseconds;
    let mean = match micros {
        0 => "-".to_owned(),
        1..1000 => format!("{micros}us"),
        _ => format!("{}.{}ms", micros / 1000, micros % 1000 / 100),
    };
    let number = |n: u64| n.to_string();
    [
        format!("  {title}"),
        number(counts.connects),
        number(counts.established),
        mean,
        counts.timed_out.map_or("-".to_owned(), number),
        counts.failed.map_or("-".to_owned(), number),
        pending.to_string(),
        number(counts.listens),
        number(counts.accepts),
        number(counts.left_out),
    ]
}

/// A duration in its two largest units, as `1h 5m`.
pub fn time(time: Duration) -> String {
    let seconds = time.as_secs();
    match seconds {
        0..60 => format!("{seconds}s"),
        60..3600 => format!("{}m {}s", seconds / 60, seconds % 60),
        3600..86_400 => format!("{}h {}m", seconds / 3600, seconds % 3600 / 60),
        _ => format!("{}d {}h", seconds / 86_400, seconds % 86_400 / 3600),
    }
}
