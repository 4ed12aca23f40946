//! Looks at a running process: whether the library is in it, and what it has made of its settings.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use serde_json::{Map, Value, json};
use tcptune_core::options::table::OPTIONS;
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::named::Found;
use tcptune_core::settings::settled::Settings;
use tcptune_core::settings::source::Process;
use tcptune_core::sockets::block::{Plugins, State, Told};
use tcptune_core::system::note::RELEASE;

use super::{Reason, Report, kind};
use crate::commands::stats;
use crate::live;
use crate::live::library::Library;
use crate::live::process::Target;
use crate::program::elf::Elf;
use crate::program::{self, Obstacle};
use crate::screens::error::Error;
use crate::system::variables::Variables;
use crate::system::{kernel, root};
use crate::ways::cgroup::attachment::Attached;
use crate::ways::cgroup::place::Cgroup;
use crate::ways::choice::Way;
use crate::ways::preload;
use crate::ways::preload::library::Library as Ours;

/// Set in secure execution (getauxval(3)).
const AT_SECURE: u64 = libc::AT_SECURE;

/// Looks at it. `ours`: the library that would be preloaded into such a program.
pub fn check(target: &Target, ours: impl FnOnce(Option<&Elf>) -> Option<Ours>) -> Result<Report, Error> {
    let pid = target.pid();
    let cannot = |what: &'static str| move |error| target.cannot(what, &error);
    let exe = target.proc().exe().map_err(cannot("reading /proc/PID/exe"))?;
    // The file that the process executes, by the kernel's link: the name that it leads to is not opened.
    let elf = Elf::read(Path::new(&format!("/proc/{pid}/exe"))).ok();
    let found = Library::find(target)?;
    let ours = ours(elf.as_ref()).map(|ours| ours.elf);
    let obstacles = elf.as_ref().map(|elf| program::obstacles(elf, ours.as_ref())).unwrap_or_default();
    // It runs, so it has found its loader, be it in another root directory.
    let obstacles = obstacles.iter().filter(|obstacle| !matches!(obstacle, Obstacle::NoLoader(_)));
    let mut reasons: Vec<_> = obstacles.map(Reason::from).collect();
    let announced = Announced::of(target);
    let way = announced.way(target, found.is_some());
    match &found {
        _ if way == Some(Way::Notify) => reasons = why_not_set(&announced.settings()).into_iter().collect(),
        None if reasons.is_empty() => reasons.push(why_not_mapped(target)?),
        None => {}
        Some(Library { told: Some(told), .. }) => reasons.extend(why_left_alone(target, told)),
        Some(Library { version, .. }) => {
            let text = if version == RELEASE {
                "what the library says of itself cannot be read".to_owned()
            } else {
                format!("the library in it is version {version}, and this command is {RELEASE}, which cannot read it")
            };
            reasons.push(Reason::new("other-version", text));
        }
    }
    let attached = attached(pid);
    let way = way.or_else(|| attached.as_ref().is_some_and(|it| it.holds).then_some(Way::Cgroup));
    let kind = kind(elf.as_ref());
    let path = found.as_ref().map(|library| library.path.display().to_string());
    let mut facts = vec![
        ("Process", format!("{pid} ({})", target.name()), json!(pid)),
        ("Program", exe.display().to_string(), json!(exe.display().to_string())),
        ("Kind", kind.clone(), json!(kind)),
        ("Library", path.clone().unwrap_or("not in it".to_owned()), json!(path)),
        ("Way", way.map_or("none".to_owned(), |way| way.to_string()), json!(way.map(Way::name))),
    ];
    if let Some(attached) = attached {
        facts.push(("Attached", attached.text.clone(), json!(attached.text)));
        if attached.holds {
            reasons.clear(); // whatever keeps the library out
        }
    }
    facts.extend(found.as_ref().map(|library| ("Version", library.version.clone(), json!(library.version))));
    if way == Some(Way::Notify) {
        facts.extend(announced.shown());
    } else if let Some(told) = found.and_then(|library| library.told) {
        facts.extend(decided(target, &told));
    }
    Ok(Report { question: ("Is tuned", "tuned"), facts, reasons })
}

/// What `tcptune attach` has attached to a cgroup of the process.
struct OfCgroup {
    text: String,
    /// Whether it sets anything still.
    holds: bool,
}

/// The nearest that holds; where none does, the nearest.
fn attached(pid: i32) -> Option<OfCgroup> {
    let nearest = Cgroup::of_process(pid).ok()?;
    let mut all: Vec<_> = nearest.with_ancestors().ok()?.filter_map(|cgroup| of_cgroup(&cgroup)).collect();
    let holds = all.iter().position(|it| it.holds).unwrap_or_default();
    (!all.is_empty()).then(|| all.swap_remove(holds))
}

fn of_cgroup(cgroup: &Cgroup) -> Option<OfCgroup> {
    let attached = Attached::find(cgroup.open().ok()?.as_fd()).ok()?;
    if attached.is_empty() {
        return None;
    }
    let Some(about) = attached.about() else {
        let text = format!("{cgroup}: by another version of tcptune, which alone knows what it sets");
        return Some(OfCgroup { text, holds: true });
    };
    let settings = about.settings.iter().map(|(name, value)| format!("{name}={value}"));
    let rules = match about.rules.len() {
        0 => None,
        1 => Some("1 rule".to_owned()),
        count => Some(format!("{count} rules")),
    };
    let is_over = about.left().is_some_and(|left| left.is_zero());
    let is_stopped = attached.state().is_some_and(|state| state.is_stopped());
    let end = match (is_over, is_stopped) {
        (true, _) => "; the trial is over: nothing is set any more",
        (_, true) => "; a detach has not come to its end: nothing is set any more",
        _ => "",
    };
    let parts: Vec<_> = settings.chain(rules).collect();
    Some(OfCgroup { text: format!("{cgroup}: {}{end}", parts.join(" ")), holds: end.is_empty() })
}

/// What the library in the process has decided.
fn decided(target: &Target, told: &Told) -> Vec<(&'static str, String, Value)> {
    let name = |row: usize| OPTIONS.get(row).map_or("", tcptune_core::options::table::Opt::name);
    let shown = told
        .settings
        .iter()
        .map(|found| format!("{}={} ({})", name(found.row), found.value.replace('\n', "; "), told.source(found.place)));
    let shown = shown.collect::<Vec<_>>();
    let machine: Map<_, _> =
        told.settings.iter().map(|found| (name(found.row).to_owned(), json!(found.value))).collect();
    let sources: Map<_, _> =
        told.settings.iter().map(|found| (name(found.row).to_owned(), json!(told.source(found.place)))).collect();
    let rules: Vec<_> = told
        .rules
        .iter()
        .map(|(place, settings)| {
            let settings = settings.iter().map(|found| format!("{}={}", name(found.row), found.value));
            let settings = settings.collect::<Vec<_>>().join(" ");
            let source = match told.source(*place) {
                source if source == "environment" => format!("TCPTUNE_RULES:{}:{}", place.line, place.column),
                source => source,
            };
            (source, if settings.is_empty() { "off".to_owned() } else { settings })
        })
        .collect();
    let mut of_rules: Vec<_> = rules.iter().map(|(source, settings)| format!("{source}: {settings}")).collect();
    let more = told.all_rules.saturating_sub(u64::try_from(rules.len()).unwrap_or(0));
    if more > 0 {
        of_rules.push(format!("and {more} more"));
    }
    let none = |text: String| if text.is_empty() { "none".to_owned() } else { text };
    let mut facts = vec![
        ("Settings", none(shown.join("\n")), Value::Object(machine)),
        ("Sources", String::new(), Value::Object(sources)),
        ("Rules", none(of_rules.join("\n")), json!(told.all_rules)),
    ];
    if !told.wrong.is_empty() {
        let lines: Vec<_> = told.wrong.iter().map(|line| format!("{line}; ignored")).collect();
        facts.push(("Wrong", lines.join("\n"), json!(told.wrong)));
    }
    let (plugins, machine) = match told.plugins {
        Plugins::None => ("none loaded with RTLD_DEEPBIND", None),
        Plugins::Reached => ("reached", Some(true)),
        Plugins::LeftAlone => ("left alone, for mprotect was refused", Some(false)),
    };
    facts.push(("Plugins", plugins.to_owned(), json!(machine)));
    facts.push(("Counts", stats::line(target, told.counted.as_ref()), stats::json(target, told.counted.as_ref())));
    facts
}

/// The settings in the environment of a process that another way than the library reaches. Files that they name are not
/// read.
struct Announced(Variables);

impl Announced {
    fn of(target: &Target) -> Self {
        Self(Variables::read(target.proc().environ().unwrap_or_default()))
    }

    /// The way that reaches it, if its environment names one and the kernel confirms it: for notify, a seccomp filter is on it
    /// (proc_pid_status(5)).
    fn way(&self, target: &Target, mapped: bool) -> Option<Way> {
        const FILTERED: u32 = 2; // SECCOMP_MODE_FILTER
        let backend = self.0.settings().find(|(name, _)| *name == "BACKEND").map(|(_, value)| value);
        match backend.and_then(OsStr::to_str) {
            Some("notify") => (live::process::status(target.pid())?.seccomp == Some(FILTERED)).then_some(Way::Notify),
            Some("cgroup") => attached(target.pid()).is_some_and(|it| it.holds).then_some(Way::Cgroup),
            _ => mapped.then_some(Way::Preload),
        }
    }

    fn settings(&self) -> Settings {
        let text = |text: &OsStr| text.to_string_lossy().into_owned();
        let variables: Vec<_> = self.0.settings().map(|(name, value)| (text(name), text(value))).collect();
        let mut draft = Draft::new(&variables);
        if let Some(found) = draft.profile().and_then(Found::built_in) {
            draft.found(Ok(found));
        }
        draft.settle(Process::default, kernel::keepalive_defaults).0
    }

    fn shown(&self) -> [(&'static str, String, Value); 2] {
        let settings = self.settings();
        let all = settings.in_force.iter().filter_map(|setting| {
            let opt = OPTIONS.get(setting.row)?;
            Some((opt.name(), opt.kind.show(&setting.value).to_string()))
        });
        let machine: Map<_, _> = all.clone().map(|(name, value)| (name.to_owned(), json!(value))).collect();
        let text = all.map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
        let source = "its environment; what files said at its start is known to its supervisor alone";
        [
            ("Settings", if text.is_empty() { "none".to_owned() } else { text }, Value::Object(machine)),
            ("Source", source.to_owned(), json!("environment")),
        ]
    }
}

fn why_not_set(settings: &Settings) -> Option<Reason> {
    if settings.disabled {
        Some(Reason::new("disabled", "TCPTUNE_DISABLE is on"))
    } else if settings.profiles.iter().all(tcptune_core::settings::profile::Profile::is_empty) {
        Some(Reason::new("no-settings", "no setting that is about sockets is in its environment"))
    } else {
        None
    }
}

fn why_left_alone(target: &Target, told: &Told) -> Option<Reason> {
    Some(match told.state {
        State::Tuning => return None,
        State::Nothing if is_secure(target) => {
            Reason::new("secure-execution", "it runs in secure execution, where nothing of the environment is read")
        }
        State::Nothing | State::NoneOfSockets => {
            Reason::new("no-settings", "the library is in it, but no setting that is about sockets")
        }
        State::Elsewhere => Reason::new("elsewhere", "TCPTUNE_BACKEND says that sockets are tuned another way"),
        State::OutOfScope => Reason::new("out-of-scope", "ONLY_PROGRAMS or SKIP_PROGRAMS leaves it alone"),
        State::Disabled => Reason::new("disabled", "TCPTUNE_DISABLE is on"),
        State::NoFunction => Reason::new("no-function", "its libc lacks a function: every socket is left alone"),
    })
}

fn is_secure(target: &Target) -> bool {
    target.proc().auxv().is_ok_and(|auxv| auxv.get(&AT_SECURE).is_some_and(|secure| *secure != 0))
}

fn why_not_mapped(target: &Target) -> Result<Reason, Error> {
    let environ = target.proc().environ().map_err(|error| target.cannot("reading /proc/PID/environ", &error))?;
    let variables = Variables::read(environ);
    let list = variables.ld_preload().unwrap_or_default();
    if !preload::has_library(list) {
        let pid = target.pid();
        let advice = format!(
            "start it with `tcptune run`; until then `tcptune apply {pid} --keepidle 60`, or another setting, changes the \
             sockets that it has, and `tcptune attach --pid {pid} --keepidle 60` those that it makes"
        );
        let advice = Some(advice);
        let why = "the library is not in it: it was started without it in LD_PRELOAD, or has lost it since";
        return Ok(Reason { advice, ..Reason::new("not-preloaded", why) });
    }
    if is_secure(target) {
        let why = "it runs in secure execution, where the loader ignores LD_PRELOAD";
        return Ok(Reason::new("secure-execution", why));
    }
    let list = list.to_string_lossy();
    let mut entries = list.split([' ', ':']).filter(|entry| preload::has_library(OsStr::new(entry)));
    Ok(match entries.find(|entry| entry.contains('/') && !is_there(target, entry)) {
        Some(missing) => Reason::new("no-library", format!("LD_PRELOAD names {missing}, which its file system lacks")),
        None => Reason::new(
            "not-loaded",
            "LD_PRELOAD names the library, but the loader has not loaded it: it said why on start",
        ),
    })
}

/// Whether the process would find a file of this name.
fn is_there(target: &Target, path: &str) -> bool {
    let root = root::open(Path::new(&format!("/proc/{}/root", target.pid())));
    root.and_then(|root| root::find(root, Path::new(path))).is_ok()
}
