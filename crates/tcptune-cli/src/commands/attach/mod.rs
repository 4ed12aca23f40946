//! `tcptune attach`: BPF programs of a cgroup tune each program in it.

use std::path::PathBuf;
use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgAction, ArgGroup, ArgMatches, Command, value_parser};
use serde_json::json;
use tcptune_core::options::table::{Opt, Own, Target};
use tcptune_core::options::value::{Kind, Unit, Value};
use tcptune_core::options::ways::Ways;

use crate::commands::attached;
use crate::screens::error::Error;
use crate::screens::output::{Output, Tone};
use crate::settings::flags::{self, Given};
use crate::ways::cgroup::order::Order;
use crate::ways::cgroup::place::{self, Cgroup};

const LONG_ABOUT: &str = "\
Tune every program in a cgroup, whatever it is written in: static, Go and io_uring programs, and those that are running \
already. BPF programs that are made of the settings set the options of each socket that connects, listens or is accepted \
from now on, in cgroups below as well; nothing is loaded into the programs, and no process has to stay.

They stay attached until `tcptune detach`, or until the cgroup is gone. Attaching again takes the place of what was \
attached before. TCPTUNE_ variables of this command's environment count, as they do for `tcptune run`; flags win.";

const AFTER_HELP: &str = "\
A connect timeout may be as short as 100ms. What the kernel lets no BPF program set is said and left out; --strict on \
refuses it. docs/attach.md has examples, a line for unit files among them.

Exit status: 0, 1 (no such cgroup or process), 2 (wrong usage or a wrong setting; nothing that can be set is left), 126 \
(BPF or cgroups of version 2 cannot be had here, or a capability is missing).";

/// The flags that choose a cgroup.
pub fn place() -> [Arg; 3] {
    [
        Arg::new("cgroup")
            .long("cgroup")
            .value_name("DIR")
            .value_parser(value_parser!(PathBuf))
            .help("The cgroup: its directory, or its name below the version 2 mount"),
        Arg::new("unit")
            .long("unit")
            .value_name("NAME")
            .help("The cgroup that systemd has made for this service, slice or scope"),
        Arg::new("pid")
            .long("pid")
            .value_name("PID")
            .value_parser(value_parser!(i32).range(1..))
            .help("The cgroup of this process"),
    ]
}

/// The cgroup that they choose.
pub fn chosen(matches: &ArgMatches) -> Result<Cgroup, Error> {
    if let Some(path) = matches.get_one::<PathBuf>("cgroup") {
        Cgroup::named(path)
    } else if let Some(unit) = matches.get_one::<String>("unit") {
        Cgroup::of_unit(unit)
    } else {
        Cgroup::of_process(matches.get_one::<i32>("pid").copied().unwrap_or_default())
    }
}

/// The settings that it takes: those of sockets, and where they come from.
pub fn wanted(opt: &Opt) -> bool {
    match opt.target {
        Target::Socket(_) => true,
        Target::Own(own) => own.is_of_a_socket() || matches!(own, Own::Rules | Own::Config | Own::Strict),
    }
}

/// Its flags.
pub fn command() -> Command {
    let command = Command::new("attach")
        .about("Tune every program in a cgroup, also one that is static or running already")
        .long_about(LONG_ABOUT)
        .after_long_help(AFTER_HELP)
        .args(place())
        .group(ArgGroup::new("place").args(["cgroup", "unit", "pid"]).required(true))
        .args([
            Arg::new("for")
                .long("for")
                .value_name("TIME")
                .value_parser(|text: &str| trial(text))
                .help("A trial: nothing is set any more after this time, whoever is logged in"),
            Arg::new("yes")
                .long("yes")
                .action(ArgAction::SetTrue)
                .help("Attach also if the cgroup is the root, or (with --pid) a user's whole session"),
            Arg::new("dry-run")
                .long("dry-run")
                .action(ArgAction::SetTrue)
                .help("Print the BPF programs, and attach nothing"),
        ]);
    let examples = "  \
  tcptune attach --unit nginx --keepidle 60 --for 10m
  tcptune attach --pid 4711 --connect-timeout 3s --dry-run";
    flags::with(command, wanted, Ways::CGROUP, examples)
}

/// A time from a second to a year.
fn trial(text: &str) -> Result<Duration, String> {
    const KIND: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Millisecond, word: None };
    const RANGE: (i64, i64) = (1000, 365 * 86_400_000);
    match KIND.parse(text, RANGE) {
        Some(Value::Int(ms)) => Ok(Duration::from_millis(ms.unsigned_abs())),
        _ => Err(format!("accepted: {}", KIND.accepted(RANGE))),
    }
}

/// Does it.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let given = Given::new(matches)?.over_environment();
    let trial = matches.get_one::<Duration>("for").copied();
    let order = Order::new(&given, trial)?;
    order.warn()?;
    if matches.get_flag("dry-run") {
        return dry_run(&order, out);
    }
    let cgroup = chosen(matches)?;
    // Whoever names a session means it; the root may be named by mistake (`--cgroup .` in its directory).
    let may_be_a_mistake = matches.get_one::<i32>("pid").is_some() || cgroup.is_root;
    if let (true, false, Some(wide)) = (may_be_a_mistake, matches.get_flag("yes"), cgroup.is_wide()) {
        let processes = cgroup.processes().len();
        let message = format!("this cgroup is {wide} ({cgroup}, {processes} processes in it)");
        return Err(Error::usage(message).hint("--yes attaches all the same; nothing is attached"));
    }
    let file = cgroup.open()?;
    place::lock(&file)?;
    let (about, has_replaced) = order.attach(&file)?;
    let processes = cgroup.processes().len();
    if out.is_json() {
        out.print_json(&json!({
            "cgroup": cgroup.path, "processes": processes, "replaced": has_replaced,
            "settings": about.settings, "rules": about.rules, "for_seconds": about.left().map(|left| left.as_secs()),
            "left_out": order.left_out().iter().map(|it| json!({"name": it.name, "reason": it.reason})).collect::<Vec<_>>(),
        }))?;
        return Ok(ExitCode::SUCCESS);
    }
    let settings: Vec<_> = about.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
    let rules = if about.rules.is_empty() {
        String::new()
    } else {
        format!(" and {} rule{}", about.rules.len(), if about.rules.len() == 1 { "" } else { "s" })
    };
    let replaced = if has_replaced { ", in the place of what was attached before" } else { "" };
    let limit = trial.map_or(String::new(), |trial| format!(" for {}", attached::time(trial)));
    out.print(out.paint(Tone::Good, format!("{cgroup}: attached{limit}{replaced}")))?;
    out.print(format!("  {}{rules}", settings.join(" ")))?;
    let many = if processes == 1 { "" } else { "es" };
    out.print(format!(
        "  {processes} process{many} in it now; their sockets are tuned when they connect, listen or are accepted"
    ))?;
    out.print("  `tcptune attached` shows what comes of it, `tcptune detach` takes it off")?;
    Ok(ExitCode::SUCCESS)
}

/// Prints the programs.
pub fn dry_run(order: &Order, out: &Output) -> Result<ExitCode, Error> {
    let programs = order.listing()?;
    if out.is_json() {
        let programs: Vec<_> =
            programs.into_iter().map(|(name, listing)| json!({"name": name, "listing": listing})).collect();
        out.print_json(&programs)?;
    } else {
        for (name, listing) in programs {
            out.print(out.paint(Tone::Heading, name))?;
            out.print(listing)?;
        }
    }
    Ok(ExitCode::SUCCESS)
}
