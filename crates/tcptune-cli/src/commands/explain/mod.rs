//! `tcptune explain`: what settings come to, where each stands, and what the kernel does by itself.

mod conflicts;
mod model;
mod source;
mod which;

use std::net::{IpAddr, SocketAddr};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command};
use serde_json::{Value as Json, json};
use tcptune_core::options::table::{OPTIONS, Own, Target};
use tcptune_core::options::value::{Kind, Unit, Value};
use tcptune_core::options::ways::Ways;
use tcptune_core::settings::config::{self, Trust};
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::profile::{InForce, Profile};
use tcptune_core::settings::settled::Settings;
use tcptune_core::settings::source::{Process, Source};
use tcptune_core::system::errno;

use self::conflicts::Conflict;
use self::model::{Facts, Limit, Milliseconds, Timeline};
use self::source::Sources;
use self::which::Which;
use crate::screens::error::{Error, say};
use crate::screens::output::{Output, Tone};
use crate::settings::flags::{self, Given};
use crate::settings::profile;
use crate::system::kernel::{self, Kernel, Outcome};
use crate::ways::preload::environment::Environment;

/// Its flags.
pub fn command() -> Command {
    let command = Command::new("explain")
        .about("Explain what settings come to, beside what the kernel does by itself")
        .long_about(
            "Explains what would be in force for a program that is started here: the settings of the command line, the \
             environment, and configuration files; where each stands, what the kernel does by itself, what they mean in \
             time, and which of them fight each other.",
        )
        .arg(
            Arg::new("program")
                .long("program")
                .value_name("NAME")
                .value_parser(flags::Text(""))
                .help("Which program it is about, where rules or ONLY_PROGRAMS look at its name or its path"),
        )
        .arg(
            Arg::new("dst")
                .long("dst")
                .value_name("ADDRESS")
                .value_parser(clap::value_parser!(IpAddr))
                .help("Which rule holds for a connect to this address, and why the others do not"),
        )
        .arg(
            Arg::new("port")
                .long("port")
                .value_name("PORT")
                .requires("dst")
                .value_parser(clap::value_parser!(u16).range(1..))
                .help("To this port of it"),
        );
    let examples = "  \
  tcptune explain --keepidle 60 --user-timeout 30s
  tcptune explain --config my.conf --program nginx --dst 10.1.2.3 --port 5432";
    flags::with(command, |_| true, Ways::ALL, examples)
}

/// What is printed.
struct Explained {
    kernel: Kernel,
    settings: Settings,
    sources: Sources,
    wrong: Vec<String>,
    which: Option<Which>,
}

/// Explains them.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let given = Given::new(matches)?;
    given.settings()?;
    let variables = Environment::of(&given).settings();
    let mut draft = Draft::new(&variables);
    let mut sources = Sources::new(&given, &variables);
    let system = config::read_system();
    sources.keep(Source::System, &system);
    draft.file(Source::System, system);
    if let Some(path) = draft.config() {
        let text = config::read(path, Trust::User);
        sources.keep(Source::Config, &text);
        draft.file(Source::Config, text);
    }
    if let Some(name) = draft.profile() {
        let found = profile::find(name);
        if let Ok(found) = &found {
            sources.keep(Source::Profile, &Ok(Some(found.text.to_string())));
        }
        draft.found(found);
    }
    let process = Process {
        names: matches.get_one::<String>("program").into_iter().cloned().collect(),
        uid: rustix::process::geteuid().as_raw(),
    };
    let peer = matches.get_one::<IpAddr>("dst").map(|ip| {
        SocketAddr::new(ip.to_canonical(), matches.get_one::<u16>("port").copied().unwrap_or(which::UNKNOWN))
    });
    let which = peer.map(|peer| Which::new(&sources, &process, peer));
    let (settings, wrong) = draft.settle(|| process, kernel::keepalive_defaults);
    let wrong = wrong.iter().map(ToString::to_string).collect();
    let explained = Explained { kernel: Kernel::read(), settings, sources, wrong, which };
    for trap in given.traps() {
        say(&trap);
    }
    let unreadable = Kernel::unreadable();
    if !unreadable.is_empty() {
        let names = unreadable.join(", ");
        say(&format!("{names} of /proc/sys/net/ipv4 cannot be read: the kernel's documented defaults are assumed"));
    }
    if out.is_json() {
        out.print_json(&explained.json())?;
    } else {
        explained.print(out)?;
    }
    Ok(ExitCode::SUCCESS)
}

impl Explained {
    /// What holds where no rule matches.
    fn base(&self) -> &Profile {
        self.settings.only_profile().unwrap_or(&self.settings.profiles[0])
    }

    /// The profiles of rules. A rule without conditions on sockets is not among them: it holds for the whole process.
    fn rules(&self) -> &[Profile] {
        if self.settings.only_profile().is_some() { &[] } else { &self.settings.profiles[1..] }
    }

    /// What holds for the peer that is asked about.
    fn of_peer(&self) -> Option<&Profile> {
        let winner = self.which.as_ref()?.winner();
        self.settings.profiles.iter().find(|profile| profile.rule == winner)
    }

    fn from(&self, setting: &InForce) -> String {
        self.sources.shown(setting, &self.settings)
    }

    fn json(&self) -> Json {
        let settings = self.settings.in_force.iter().map(|setting| {
            let opt = &OPTIONS[setting.row];
            let (outcome, refused) = match self.outcome(setting) {
                Some(Outcome::Other(value)) => (Some(kernel::shown(opt, &value)), None),
                Some(Outcome::Refused(errno)) => (None, Some(errno::Named(errno).to_string())),
                _ => (None, None),
            };
            json!({
                "name": opt.name(),
                "value": opt.kind.show(&setting.value).to_string(),
                "from": self.from(setting),
                "kernel_alone": self.kernel_alone(setting),
                "sysctl": kernel::sysctl(opt),
                "kernel_makes_of_it": outcome,
                "refused": refused,
            })
        });
        let rules = self.rules().iter().map(|profile| {
            json!({
                "rule": self.shown(profile),
                "left_alone": profile.is_empty(),
                "times": self.times(profile),
                "conflicts": self.conflicts(profile).iter().map(conflict).collect::<Vec<_>>(),
            })
        });
        json!({
            "settings": settings.collect::<Vec<_>>(),
            "disabled": self.settings.disabled,
            "in_scope": self.settings.in_scope,
            "times": self.times(self.base()),
            "kernel_alone": self.times(&Profile::default()),
            "conflicts": self.conflicts(self.base()).iter().map(conflict).collect::<Vec<_>>(),
            "rules": rules.collect::<Vec<_>>(),
            "wrong": self.wrong,
            "kernel_assumed": Kernel::unreadable(),
            "connects_to": self.which.as_ref().map(Which::json),
            "of_peer": self.of_peer().map(|profile| json!({
                "times": self.times(profile),
                "left_alone": profile.is_empty(),
            })),
        })
    }

    fn shown(&self, profile: &Profile) -> String {
        profile.rule.map_or("(none)".to_owned(), |place| self.sources.rule(place))
    }

    fn facts(&self, profile: &Profile) -> Facts {
        Facts::new(profile, &self.kernel)
    }

    fn times(&self, profile: &Profile) -> Json {
        let facts = self.facts(profile);
        let (connect, limit) = facts.connect();
        json!({
            "dead_idle_peer_ms": facts.idle_peer().map(|ms| ms.0),
            "dead_host_ms": connect.0,
            "dead_host_limit": match limit {
                Limit::ConnectTimeout => "CONNECT_TIMEOUT",
                Limit::UserTimeout => "USER_TIMEOUT",
                Limit::SynSchedule => "SYNCNT",
            },
            "syns_s": facts.syns(),
            "unacknowledged_ms": facts.unacknowledged().0,
            "paused_peer_ms": facts.user_timeout.map(|ms| ms.0),
            "silent_server_ms": receive_timeout(profile).map(|ms| ms.0),
        })
    }

    fn conflicts(&self, profile: &Profile) -> Vec<Conflict> {
        conflicts::find(profile, &self.facts(profile), &self.kernel)
    }

    fn outcome(&self, setting: &InForce) -> Option<Outcome> {
        kernel::outcome(&self.base().plan().into_iter().find(|planned| planned.row == setting.row)?)
    }

    fn kernel_alone(&self, setting: &InForce) -> Option<String> {
        let opt = &OPTIONS[setting.row];
        match opt.target {
            Target::Socket(_) => kernel::new_socket_has(opt).map(|value| kernel::shown(opt, &value)),
            Target::Own(Own::ConnectTimeout) => Some(self.facts(&Profile::default()).syn_schedule().to_string()),
            Target::Own(Own::Backlog) => Some("the program's".to_owned()),
            Target::Own(Own::Source) => Some("by route".to_owned()),
            Target::Own(Own::Mptcp) => Some("off".to_owned()),
            Target::Own(_) => None,
        }
    }

    fn print(&self, out: &Output) -> Result<(), Error> {
        for wrong in &self.wrong {
            say(&format!("{wrong}; ignored"));
        }
        self.print_settings(out)?;
        self.print_scope(out)?;
        if self.settings.disabled {
            return out.print("DISABLE is on: every socket is left alone.");
        }
        self.print_times(out)?;
        print_conflicts(out, &self.conflicts(self.base()))?;
        match &self.which {
            Some(which) => {
                which.print(out)?;
                self.of_peer()
                    .filter(|profile| profile.rule.is_some())
                    .map_or(Ok(()), |profile| self.print_rule(out, profile))
            }
            None => self.rules().iter().try_for_each(|profile| self.print_rule(out, profile)),
        }
    }

    fn print_settings(&self, out: &Output) -> Result<(), Error> {
        if self.settings.in_force.is_empty() {
            return out.print("No setting is in force; the kernel alone decides.");
        }
        let mut table = out.table(&["Setting", "Value", "Kernel alone", "From"]);
        let mut refused = Vec::new();
        for setting in &self.settings.in_force {
            let opt = &OPTIONS[setting.row];
            let mut value = match (opt.target, opt.kind, &setting.value) {
                (Target::Own(Own::Rules), ..) => "see below".to_owned(),
                (_, Kind::Duration { stored: Unit::Millisecond, .. }, Value::Int(ms)) => Milliseconds(*ms).to_string(),
                _ => opt.kind.show(&setting.value).to_string(),
            };
            let mut tone = Tone::Plain;
            match self.outcome(setting) {
                Some(Outcome::Other(made)) => value = format!("{value} (becomes {})", kernel::shown(opt, &made)),
                Some(Outcome::Refused(errno)) => {
                    tone = Tone::Bad;
                    refused.push(format!(
                        "{}={value}: the kernel refuses it here ({})",
                        opt.name(),
                        errno::Named(errno)
                    ));
                    value += " (refused)";
                }
                _ => {}
            }
            let mut alone = self.kernel_alone(setting).unwrap_or_default();
            if let Some(sysctl) = kernel::sysctl(opt).filter(|_| !alone.is_empty()) {
                alone = format!("{alone} ({sysctl})");
            }
            table.add_row(vec![
                out.cell(Tone::Heading, opt.name()),
                out.cell(tone, value),
                out.cell(Tone::Faint, alone),
                out.cell(Tone::Faint, self.from(setting)),
            ]);
        }
        out.print_table(&table)?;
        for line in refused {
            out.print(format!("{} {line}", out.paint(Tone::Bad, "refused:")))?;
        }
        Ok(())
    }

    fn print_scope(&self, out: &Output) -> Result<(), Error> {
        if self.settings.in_scope {
            return Ok(());
        }
        out.print(format!(
            "{} ONLY_PROGRAMS or SKIP_PROGRAMS leaves this program alone; --program NAME says which one it is about",
            out.paint(Tone::Warning, "note:")
        ))
    }

    fn print_times(&self, out: &Output) -> Result<(), Error> {
        let nothing = Profile::default();
        let alone = (&nothing, self.facts(&nothing), "Kernel alone", Tone::Faint);
        let with = (self.base(), self.facts(self.base()), "With settings", Tone::Heading);
        let both = if self.settings.in_force.is_empty() { vec![alone] } else { vec![with, alone] };
        out.print("")?;
        let titles = ["Ends after"].into_iter().chain(both.iter().map(|(_, _, title, _)| *title));
        let mut table = out.table(&titles.collect::<Vec<_>>());
        for (what, text) in MEANINGS {
            let cells = both.iter().map(|(profile, facts, _, tone)| out.cell(*tone, text(facts, profile)));
            table.add_row([out.cell(Tone::Plain, what)].into_iter().chain(cells).collect::<Vec<_>>());
        }
        out.print_table(&table)?;
        for line in reach(self.base()) {
            out.print(line)?;
        }
        out.print("")?;
        let mut table = out.table(&["SYNs to a dead host", ""]);
        for (_, facts, title, _) in &both {
            let line = Timeline { syns: &facts.syns(), end: facts.connect().0 }.to_string();
            table.add_row(vec![out.cell(Tone::Plain, title.to_lowercase()), out.cell(Tone::Plain, line)]);
        }
        out.print_table(&table)
    }

    fn print_rule(&self, out: &Output, profile: &Profile) -> Result<(), Error> {
        out.print("")?;
        out.print(format!("{} {}", out.paint(Tone::Heading, "Rule"), self.shown(profile)))?;
        if profile.is_empty() {
            return out.print("  what it matches is left alone");
        }
        let facts = self.facts(profile);
        let mut table = out.plain_table();
        for (what, text) in MEANINGS {
            let text = text(&facts, profile);
            table.add_row(vec![out.cell(Tone::Plain, format!("  {what}")), out.cell(Tone::Heading, text)]);
        }
        out.print_table(&table)?;
        let known = self.conflicts(self.base());
        let new: Vec<_> = self.conflicts(profile).into_iter().filter(|conflict| !known.contains(conflict)).collect();
        print_conflicts(out, &new)
    }
}

fn print_conflicts(out: &Output, conflicts: &[Conflict]) -> Result<(), Error> {
    if conflicts.is_empty() {
        return Ok(());
    }
    out.print("")?;
    let mut table = out.plain_table();
    for conflict in conflicts {
        table.add_row(vec![out.cell(Tone::Warning, "warning:"), out.cell(Tone::Plain, &conflict.text)]);
    }
    out.print_table(&table)
}

fn conflict(conflict: &Conflict) -> Json {
    json!({ "name": conflict.name, "text": conflict.text })
}

/// A line of the table: what happens to a connection, and the text that says when it ends.
type Meaning = (&'static str, fn(&Facts, &Profile) -> String);

const MEANINGS: [Meaning; 5] = [
    ("idle connection, dead peer", idle_peer),
    ("connect to a dead host", connect),
    ("unacknowledged data", unacknowledged),
    ("peer that pauses reading", paused_peer),
    ("server that falls silent", silent_server),
];

/// Which programs the timeouts of a silent peer reach, if they are set.
fn reach(profile: &Profile) -> impl Iterator<Item = &'static str> {
    let limits = profile.limits();
    let lines = [
        (
            limits.receive,
            "RECV_TIMEOUT reaches calls that block, and programs that wait in poll, select or epoll for connections of",
        ),
        (
            limits.receive,
            "their own; not accepted ones (CLIENT_TIMEOUT), MPTCP, io_uring, or stdio, which says EAGAIN.",
        ),
        (
            limits.send,
            "SEND_TIMEOUT reaches calls that block, and programs that wait for room in poll, select or epoll.",
        ),
        (
            limits.client,
            "CLIENT_TIMEOUT reaches programs that wait in poll, select or epoll; idle clients are ended as well.",
        ),
    ];
    lines.into_iter().filter(|(limit, _)| limit.is_some()).map(|(_, line)| line)
}

fn idle_peer(facts: &Facts, _: &Profile) -> String {
    let Facts { idle, interval, count, .. } = facts;
    match facts.idle_peer() {
        None => "never: keepalive is off".to_owned(),
        Some(after) if after == facts.keepalive_time() => format!("{after} ({idle}s + {interval}s × {count})"),
        Some(after) => format!("{after} (USER_TIMEOUT)"),
    }
}

fn connect(facts: &Facts, profile: &Profile) -> String {
    let (after, limit) = facts.connect();
    match limit {
        Limit::ConnectTimeout => format!("{after} (CONNECT_TIMEOUT), for each address"),
        Limit::UserTimeout => format!("{after} (USER_TIMEOUT)"),
        Limit::SynSchedule if model::number(profile, "SYNCNT").is_some() => {
            format!("{after} (SYNCNT {})", facts.syn_retries)
        }
        Limit::SynSchedule => format!("{after} (tcp_syn_retries {})", facts.syn_retries),
    }
}

fn unacknowledged(facts: &Facts, _: &Profile) -> String {
    let after = facts.unacknowledged();
    match facts.user_timeout {
        Some(_) => format!("{after} (USER_TIMEOUT)"),
        None => format!("{after} or more (tcp_retries2 {})", facts.retries2),
    }
}

/// A window of zero is probed, and the probes are answered; a user timeout ends it all the same (`tcp_probe_timer` of the
/// kernel).
fn paused_peer(facts: &Facts, _: &Profile) -> String {
    match facts.user_timeout {
        Some(after) => format!("{after} (USER_TIMEOUT), though it lives"),
        None => "never: it is asked again and again".to_owned(),
    }
}

fn silent_server(_: &Facts, profile: &Profile) -> String {
    match receive_timeout(profile) {
        Some(after) => format!("{after} (RECV_TIMEOUT)"),
        None => "never".to_owned(),
    }
}

fn receive_timeout(profile: &Profile) -> Option<Milliseconds> {
    profile.limits().receive.map(|ms| Milliseconds(ms.into()))
}
