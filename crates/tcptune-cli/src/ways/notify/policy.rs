//! The settings that hold for a program: as the library would settle them in it.

use std::cell::Cell;
use std::collections::HashMap;
use std::path::PathBuf;

use procfs::process::Process as Proc;
use tcptune_core::settings::config::{self, Trust};
use tcptune_core::settings::diagnostic::Diagnostic;
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::named::Found;
use tcptune_core::settings::settled::Settings;
use tcptune_core::settings::source::{Process, Source};

use super::threads;
use crate::settings::profile;
use crate::system::kernel;

/// What a file was found to say.
type File = Result<Option<String>, String>;

/// What all sources say, as they were when the program was started.
pub struct Policy {
    variables: Vec<(String, String)>,
    system: File,
    config: Option<File>,
    profile: Option<Result<Found, Diagnostic>>,
    /// What holds for the first program.
    first: &'static Settings,
    /// Whether it depends on the program, or on its user.
    by_program: bool,
    known: HashMap<(Vec<String>, u32), &'static Settings>,
}

impl Policy {
    /// Of variables without their prefix, and of the files. `first` is the program that is started.
    pub fn new(variables: Vec<(String, String)>, first: &Process) -> (Self, Vec<Diagnostic>) {
        let system = config::read_system();
        let draft = Draft::new(&variables);
        let config = draft.config().map(|path| config::read(path, Trust::User));
        let profile = draft.profile().map(profile::find);
        let nothing =
            Box::leak(Box::new(Draft::new::<String>(&[]).settle(Process::default, kernel::keepalive_defaults).0));
        let known = HashMap::new();
        let mut policy = Self { variables, system, config, profile, first: nothing, by_program: false, known };
        let (settings, wrong, by_program) = policy.settle(first);
        (policy.first, policy.by_program) = (settings, by_program);
        (policy, wrong)
    }

    /// What holds for the first program.
    pub fn first(&self) -> &'static Settings {
        self.first
    }

    /// Whether another program may have other settings.
    pub fn is_by_program(&self) -> bool {
        self.by_program
    }

    fn settle(&self, process: &Process) -> (&'static Settings, Vec<Diagnostic>, bool) {
        let mut draft = Draft::new(&self.variables);
        draft.file(Source::System, self.system.clone());
        if let Some(config) = &self.config {
            draft.file(Source::Config, config.clone());
        }
        if let Some(profile) = &self.profile {
            draft.found(profile.clone());
        }
        let asked = Cell::new(false);
        let of_process = || {
            asked.set(true);
            process.clone()
        };
        let (settings, wrong) = draft.settle(of_process, kernel::keepalive_defaults);
        (Box::leak(Box::new(settings)), wrong, asked.get())
    }

    /// What holds for a thread's program.
    pub fn of(&mut self, thread: i32) -> &'static Settings {
        if !self.by_program {
            return self.first;
        }
        let Some(process) = process(thread) else { return self.first };
        let key = (process.names.clone(), process.uid);
        if let Some(settings) = self.known.get(&key) {
            return settings;
        }
        let (settings, _, _) = self.settle(&process);
        self.known.insert(key, settings);
        settings
    }
}

/// By which names a program can be called, as the library knows it.
fn process(thread: i32) -> Option<Process> {
    let proc = Proc::new(thread).ok()?;
    let path = |path: PathBuf| path.to_string_lossy().trim_end_matches(" (deleted)").to_owned();
    let executable = path(proc.exe().ok()?);
    let started = started(thread, &proc).unwrap_or_default();
    let arguments = proc.cmdline().unwrap_or_default();
    let directory = proc.cwd().map(path).unwrap_or_default();
    let uid = proc.status().ok()?.euid;
    Some(Process::new(&executable, &started, arguments.iter().map(String::as_str), &directory, uid))
}

/// The path by which it was started (getauxval(3), `AT_EXECFN`).
fn started(thread: i32, proc: &Proc) -> Option<String> {
    let mut at = *proc.auxv().ok()?.get(&libc::AT_EXECFN)?;
    let mut bytes = Vec::new();
    while bytes.len() < 4096 {
        // No further than the page, behind which nothing may be.
        let mut room = vec![0; usize::try_from(256 - at % 256).ok()?];
        threads::read(thread, at, &mut room).ok()?;
        at += room.len() as u64;
        let end = room.iter().position(|byte| *byte == 0);
        bytes.extend_from_slice(&room[..end.unwrap_or(room.len())]);
        if end.is_some() {
            return Some(String::from_utf8_lossy(&bytes).into_owned());
        }
    }
    None
}
