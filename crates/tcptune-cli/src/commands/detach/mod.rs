//! `tcptune detach`: takes the BPF programs of `tcptune attach` off a cgroup.

use std::os::fd::AsFd;
use std::process::ExitCode;
use std::thread;
use std::time::{Duration, Instant};

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command};
use serde_json::json;

use crate::commands::attach;
use crate::screens::error::Error;
use crate::screens::output::Output;
use crate::ways::cgroup::attachment::Attached;
use crate::ways::cgroup::place::{self, Cgroup};

const LONG_ABOUT: &str = "\
Take the programs of `tcptune attach` off a cgroup; those of others stay. Sockets keep the options that they have.

An attempt to connect has its connect timeout in place of the user timeout until it is over, so this waits for the \
attempts that are going on, no longer than the longest connect timeout. What an attach or detach that was killed has left \
is taken off as well.";

/// How often it is looked whether attempts still go on.
const PAUSE: Duration = Duration::from_millis(5);
/// How much later than its timeout an attempt may end.
const LATE: Duration = Duration::from_secs(2);

/// Its flags.
pub fn command() -> Command {
    Command::new("detach")
        .about("Take the programs of `tcptune attach` off a cgroup")
        .long_about(LONG_ABOUT)
        .after_help(
            "Exit status: 0, 1 (nothing was attached), 2 (wrong usage), 126 (a capability is missing).\n\n\
             Examples:\n  tcptune detach --unit nginx\n  tcptune detach --all",
        )
        .args(attach::place())
        .arg(Arg::new("all").long("all").action(ArgAction::SetTrue).help("Every cgroup that has some"))
        .group(ArgGroup::new("place").args(["cgroup", "unit", "pid", "all"]).required(true))
}

/// Does it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let mut detached = Vec::new();
    if matches.get_flag("all") {
        for cgroup in Cgroup::all()? {
            // One may go while others are looked at.
            if cgroup.path.is_dir() && detach(&cgroup)? {
                detached.push(cgroup);
            }
        }
    } else {
        let cgroup = attach::chosen(matches)?;
        if !detach(&cgroup)? {
            return Err(Error::failed(format!("{cgroup}: nothing of tcptune is attached")));
        }
        detached.push(cgroup);
    }
    if out.is_json() {
        let paths: Vec<_> = detached.iter().map(|cgroup| &cgroup.path).collect();
        out.print_json(&json!({ "detached": paths }))?;
    } else {
        for cgroup in detached {
            out.print(format!("{cgroup}: detached"))?;
        }
    }
    Ok(ExitCode::SUCCESS)
}

/// Whether there was something.
fn detach(cgroup: &Cgroup) -> Result<bool, Error> {
    let file = cgroup.open()?;
    place::lock(&file)?;
    let attached = Attached::find(file.as_fd())?;
    if attached.is_empty() {
        return Ok(false);
    }
    attached.stop()?;
    let longest = Duration::from_millis(attached.about().map_or(0, |about| about.longest));
    let deadline = Instant::now() + longest + LATE;
    if !longest.is_zero() {
        thread::sleep(PAUSE); // a program that runs just now has not seen it, and may begin an attempt
    }
    while attached.pending() > 0 && Instant::now() < deadline {
        thread::sleep(PAUSE);
    }
    attached.detach(file.as_fd())?;
    Ok(true)
}
