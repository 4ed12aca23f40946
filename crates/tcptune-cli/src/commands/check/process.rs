//! Looks at a running process: whether the library is in it, and what it has made of its settings.

use std::ffi::OsStr;
use std::os::fd::AsFd;
use std::path::Path;

use procfs::ProcError;
use procfs::process::{MMapPath, Process};
use serde_json::{Map, Value, json};
use tcptune_core::options::table::OPTIONS;
use tcptune_core::settings::config::{self, Trust};
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::settled::{Backend, Settings};
use tcptune_core::settings::source::{self, Source};

use super::{Reason, Report, kind};
use crate::live;
use crate::program::elf::Elf;
use crate::program::{self, Obstacle};
use crate::screens::error::Error;
use crate::system::kernel;
use crate::system::variables::Variables;
use crate::ways::cgroup::attachment::Attached;
use crate::ways::cgroup::place::Cgroup;
use crate::ways::choice::Way;
use crate::ways::preload::{self, library::Library};

/// Set in secure execution (getauxval(3)).
const AT_SECURE: u64 = libc::AT_SECURE;

/// What the library had to go by when the process was started.
struct Start {
    secure: bool,
    preload: Option<String>,
    /// Without their prefix.
    variables: Vec<(String, String)>,
    names: Vec<String>,
    uid: u32,
}

/// Looks at it. `library`: the one that would be preloaded.
pub fn check(pid: i32, library: Option<Library>) -> Result<Report, Error> {
    let of = |what: &'static str| move |error| cannot(pid, what, &error);
    let process = Process::new(pid).map_err(of("/proc"))?;
    let exe = process.exe().map_err(of("its executable"))?;
    let elf = Elf::read(Path::new(&format!("/proc/{pid}/exe"))).ok();
    let mapped = process.maps().map_err(of("its memory map"))?.into_iter().find_map(|map| match map.pathname {
        MMapPath::Path(path) if is_library(&path) => Some(path),
        _ => None,
    });
    let start = start(&process, &exe).map_err(of("its environment"))?;
    let (settings, wrong) = settings(pid, &start);

    let elf_of_library = library.map(|library| library.elf);
    let obstacles = elf.as_ref().map(|elf| program::obstacles(elf, elf_of_library.as_ref())).unwrap_or_default();
    // It runs, so it has found its loader, be it in another root directory.
    let obstacles = obstacles.iter().filter(|obstacle| !matches!(obstacle, Obstacle::NoLoader(_)));
    let mut reasons: Vec<_> = obstacles.map(Reason::from).collect();
    let way = way(&process, &settings, mapped.is_some());
    match &mapped {
        _ if way == Some(Way::Notify) => reasons = why_left_alone(&settings).into_iter().collect(),
        None if reasons.is_empty() => reasons.push(why_not_mapped(pid, &start)),
        None => {}
        Some(_) => reasons.extend(why_left_alone(&settings)),
    }

    let in_force: Vec<_> = settings
        .in_force
        .iter()
        .map(|setting| (OPTIONS[setting.row].name(), OPTIONS[setting.row].kind.show(&setting.value).to_string()))
        .collect();
    let shown = in_force.iter().map(|(name, value)| format!("{name}={value}")).collect::<Vec<_>>().join(" ");
    let machine: Map<_, _> = in_force.iter().map(|(name, value)| ((*name).to_owned(), json!(value))).collect();
    let rules = settings.profiles.len() - 1;
    let kind = kind(elf.as_ref());
    let mut facts = vec![
        ("Process", format!("{pid} ({})", start.names.join(", ")), json!(pid)),
        ("Program", exe.display().to_string(), json!(exe.display().to_string())),
        ("Kind", kind.clone(), json!(kind)),
        (
            "Library",
            mapped.as_ref().map_or("not in it".to_owned(), |path| path.display().to_string()),
            json!(mapped.map(|path| path.display().to_string())),
        ),
        ("Way", way.map_or("none".to_owned(), |way| way.to_string()), json!(way.map(Way::name))),
        ("Settings", if shown.is_empty() { "none".to_owned() } else { shown }, Value::Object(machine)),
        ("Rules", rules.to_string(), json!(rules)),
    ];
    if let Some(attached) = attached(pid) {
        facts.push(("Attached", attached.clone(), json!(attached)));
        reasons.clear(); // whatever keeps the library out
    }
    if !wrong.is_empty() {
        let outcome = if start.secure { "not read" } else { "ignored" };
        let lines: Vec<_> = wrong.iter().map(|line| format!("{line}; {outcome}")).collect();
        facts.push(("Wrong", lines.join("\n"), json!(wrong)));
    }
    Ok(Report { question: ("Is tuned", "tuned"), facts, reasons })
}

/// What `tcptune attach` has attached to its cgroup, or the nearest around it that has some.
fn attached(pid: i32) -> Option<String> {
    let cgroup = Cgroup::of_process(pid).ok()?;
    cgroup.with_ancestors().ok()?.find_map(|cgroup| {
        let about = Attached::find(cgroup.open().ok()?.as_fd()).ok()?.about()?;
        if about.left().is_some_and(|left| left.is_zero()) {
            return None;
        }
        let settings: Vec<_> = about.settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        let rules = if about.rules.is_empty() { String::new() } else { format!(", {} rules", about.rules.len()) };
        Some(format!("{cgroup}: {}{rules}", settings.join(" ")))
    })
}

/// How it is reached. What is announced to it must be true of it, too: a filter is on it (proc_pid_status(5)).
fn way(process: &Process, settings: &Settings, mapped: bool) -> Option<Way> {
    const FILTERED: u32 = 2; // SECCOMP_MODE_FILTER
    match settings.backend {
        Backend::Notify => (process.status().ok()?.seccomp == Some(FILTERED)).then_some(Way::Notify),
        Backend::Cgroup => attached(process.pid).is_some().then_some(Way::Cgroup),
        Backend::Auto | Backend::Preload => mapped.then_some(Way::Preload),
    }
}

fn is_library(path: &Path) -> bool {
    // One that was replaced by an update meanwhile is shown as deleted.
    let path = path.to_string_lossy();
    preload::has_library(OsStr::new(path.trim_end_matches(" (deleted)")))
}

fn start(process: &Process, exe: &Path) -> Result<Start, ProcError> {
    let environment = Variables::read(process.environ()?);
    let secure = process.auxv()?.get(&AT_SECURE).is_some_and(|secure| *secure != 0);
    let text = |text: &OsStr| text.to_string_lossy().into_owned();
    let settings = environment.settings().map(|(name, value)| (text(name), text(value)));
    let base_name = exe.file_name().unwrap_or_default().to_string_lossy();
    let mut names = vec![base_name.trim_end_matches(" (deleted)").to_owned()];
    // Of a script this is its own name, of which the kernel keeps 15 bytes.
    names.extend(Some(process.stat()?.comm).filter(|comm| !names[0].starts_with(comm.as_str())));
    Ok(Start {
        secure,
        preload: environment.ld_preload().map(text),
        variables: if secure { Vec::new() } else { settings.collect() },
        names,
        uid: live::process::status(process.pid).map_or(u32::MAX, |status| status.euid),
    })
}

/// As the library would settle them in that process, by the files as they are now.
fn settings(pid: i32, start: &Start) -> (Settings, Vec<String>) {
    let mut draft = Draft::new(&start.variables);
    draft.file(Source::System, config::read(&format!("/proc/{pid}/root{}", config::SYSTEM), Trust::Root));
    if let Some(path) = draft.config() {
        let root = if path.starts_with('/') { "root" } else { "cwd/" };
        let text = config::read(&format!("/proc/{pid}/{root}{path}"), Trust::User);
        draft.file(Source::Config, text);
    }
    let process = || source::Process { names: start.names.clone(), uid: start.uid };
    let (settings, wrong) = draft.settle(process, kernel::keepalive_defaults);
    (settings, wrong.iter().map(ToString::to_string).collect())
}

fn why_not_mapped(pid: i32, start: &Start) -> Reason {
    let Some(list) = start.preload.as_deref().filter(|list| preload::has_library(OsStr::new(list))) else {
        let advice = Some("start it with `tcptune run`; until then `tcptune apply PID` can set options".to_owned());
        return Reason { advice, ..Reason::new("not-preloaded", "it was started without the library in LD_PRELOAD") };
    };
    if start.secure {
        return Reason::new("secure-execution", "it runs in secure execution, where the loader ignores LD_PRELOAD");
    }
    let mut entries = list.split([' ', ':']).filter(|entry| preload::has_library(OsStr::new(entry)));
    match entries.find(|entry| entry.contains('/') && !Path::new(&format!("/proc/{pid}/root{entry}")).exists()) {
        Some(missing) => Reason::new("no-library", format!("LD_PRELOAD names {missing}, which its file system lacks")),
        None => Reason::new(
            "not-loaded",
            "LD_PRELOAD names the library, but the loader has not loaded it: it said why on start",
        ),
    }
}

fn why_left_alone(settings: &Settings) -> Option<Reason> {
    if settings.disabled {
        Some(Reason::new("disabled", "TCPTUNE_DISABLE is on"))
    } else if !settings.in_scope {
        Some(Reason::new("out-of-scope", "ONLY_PROGRAMS or SKIP_PROGRAMS leaves it alone"))
    } else if settings.leaves_all_alone() {
        Some(Reason::new("no-settings", "the library is in it, but no setting that is about sockets"))
    } else {
        None
    }
}

fn cannot(pid: i32, what: &str, error: &ProcError) -> Error {
    match error {
        ProcError::NotFound(_) => {
            Error::failed(format!("process {pid}: not there: it has ended, never was, or is the kernel's own"))
        }
        ProcError::PermissionDenied(_) => {
            let is_root = rustix::process::geteuid().is_root();
            Error::failed(format!("process {pid}: {what} cannot be read: permission denied")).hint(if is_root {
                "it takes CAP_SYS_PTRACE, in the user namespace of the process"
            } else {
                "run this as the same user, or as root"
            })
        }
        other => Error::failed(format!("process {pid}: {what} cannot be read: {other}")),
    }
}
