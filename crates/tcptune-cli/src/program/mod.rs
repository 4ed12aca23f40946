//! Looks at a program before it is started: where it is, what runs it, and what keeps the library out of it.

pub mod elf;

use std::ffi::{CString, OsStr, OsString};
use std::fmt;
use std::fs::{self, File};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::{Access, StatVfsMountFlags};

use crate::program::elf::{Elf, Machine};
use crate::screens::error::Error;

/// Where programs are looked for if PATH is not set, as by glibc's execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";
/// So many interpreters may follow on each other in the kernel, about (execve(2)).
const LONGEST_CHAIN: usize = 6;

/// A program, and what executes it.
#[derive(Debug)]
pub struct Program {
    /// The file; behind it, for a script, its interpreter, and so on.
    pub chain: Vec<PathBuf>,
    /// The last one of the chain, if it can be read.
    pub elf: Option<Elf>,
    /// What keeps the library out.
    pub obstacles: Vec<Obstacle>,
}

/// Why a program cannot be tuned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It has no loader.
    Static,
    /// The loader ignores the variable.
    SecureExecution(Privilege),
    /// The library is for another machine.
    OtherMachine { program: Machine, library: Machine },
    /// It does not call libc.
    Go,
    /// The loader it asks for is not there.
    NoLoader(PathBuf),
    /// It starts others without the variable.
    FreshEnvironment(String),
}

/// Why secure execution (getauxval(3), `AT_SECURE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    Setuid(u32),
    Setgid(u32),
    Capabilities,
}

impl Obstacle {
    /// Its name for machines.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::SecureExecution(_) => "secure-execution",
            Self::OtherMachine { .. } => "other-machine",
            Self::Go => "go",
            Self::NoLoader(_) => "no-loader",
            Self::FreshEnvironment(_) => "fresh-environment",
        }
    }

    /// What can be done instead.
    pub fn advice(&self) -> Option<String> {
        match self {
            Self::Static | Self::Go => {
                Some("once it runs, `tcptune apply PID` can set options on its sockets".to_owned())
            }
            Self::SecureExecution(_) => Some("run it as a user for whom it gains nothing".to_owned()),
            Self::OtherMachine { .. } => Some("name a library for its machine with --library".to_owned()),
            Self::FreshEnvironment(name) => Some(format!("put it in front: {name} tcptune run …")),
            Self::NoLoader(_) => None,
        }
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = "in secure execution the loader ignores LD_PRELOAD";
        match self {
            Self::Static => f.write_str("a static binary: it loads no library, so nothing can be preloaded into it"),
            Self::SecureExecution(Privilege::Setuid(owner)) => write!(f, "setuid of user {owner}: {secure}"),
            Self::SecureExecution(Privilege::Setgid(group)) => write!(f, "setgid of group {group}: {secure}"),
            Self::SecureExecution(Privilege::Capabilities) => write!(f, "has file capabilities: {secure}"),
            Self::OtherMachine { program, library } => {
                write!(f, "for {program}, and the library is for {library}: the loader cannot load it there")
            }
            Self::Go => f.write_str("a Go program: it makes its own system calls, past libc and past the library"),
            Self::NoLoader(path) => write!(f, "needs the loader {}, which is not there", path.display()),
            Self::FreshEnvironment(name) => {
                write!(f, "{name} starts its program with an environment of its own, without LD_PRELOAD")
            }
        }
    }
}

/// Finds a program as a shell does. The error has a shell's exit status.
pub fn find(command: &OsStr, path: Option<&OsStr>) -> Result<PathBuf, Error> {
    let shown = command.to_string_lossy();
    if command.is_empty() {
        return Err(Error::not_found("no such program: its name is empty"));
    }
    if command.as_bytes().contains(&b'/') {
        return executable(Path::new(command)).map_err(|why| match why {
            Why::Missing => Error::not_found(format!("{shown}: no such file")),
            Why::Not(reason) => Error::not_executable(format!("{shown}: {reason}")),
        });
    }
    let mut refused = None;
    for directory in path.unwrap_or(OsStr::new(DEFAULT_PATH)).as_bytes().split(|byte| *byte == b':') {
        let directory = if directory.is_empty() { Path::new(".") } else { Path::new(OsStr::from_bytes(directory)) };
        let candidate = directory.join(command);
        match executable(&candidate) {
            Ok(path) => return Ok(path),
            Err(Why::Not(reason)) => {
                refused.get_or_insert_with(|| format!("{}: {reason}", candidate.display()));
            }
            Err(Why::Missing) => {}
        }
    }
    match refused {
        Some(message) => Err(Error::not_executable(message)),
        None => Err(Error::not_found(format!("{shown}: no such program in PATH"))),
    }
}

enum Why {
    Missing,
    Not(&'static str),
}

fn executable(path: &Path) -> Result<PathBuf, Why> {
    let metadata = fs::metadata(path).map_err(|error| match error.raw_os_error() {
        Some(libc::EACCES) => Why::Not("permission denied"),
        _ => Why::Missing,
    })?;
    if metadata.is_dir() {
        return Err(Why::Not("is a directory"));
    }
    match rustix::fs::access(path, Access::EXEC_OK) {
        Ok(()) => Ok(path.to_owned()),
        Err(_) => Err(Why::Not("is not executable")),
    }
}

impl Program {
    /// Looks at a file, and through `#!` at what interprets it.
    pub fn look(path: PathBuf, args: &[OsString], search: Option<&OsStr>, library: Option<&Elf>) -> Self {
        let mut program = Self { chain: vec![path], elf: None, obstacles: Vec::new() };
        let mut args = args.to_vec();
        loop {
            let file = program.file().to_owned();
            if let Some(name) = fresh_environment(&file, &args) {
                program.obstacles.push(Obstacle::FreshEnvironment(name));
            }
            // `env` of a `#!` line starts another one: it is not the program that matters.
            let next = interpreter(&file).or_else(|| (program.chain.len() > 1).then(|| env(&file, &args, search))?);
            match next.filter(|_| program.chain.len() < LONGEST_CHAIN) {
                Some((next, its_args)) => {
                    args = its_args;
                    program.chain.push(next);
                }
                None => break,
            }
        }
        program.elf = Elf::read(program.file()).ok().flatten();
        let of_elf = program.elf.as_ref().map(|elf| obstacles(elf, library)).unwrap_or_default();
        program.obstacles.extend(of_elf);
        program.obstacles.extend(privilege(program.file()).map(Obstacle::SecureExecution));
        program
    }

    /// What is executed in the end.
    pub fn file(&self) -> &Path {
        self.chain.last().map_or(Path::new(""), PathBuf::as_path)
    }
}

/// What an executable itself says.
pub fn obstacles(elf: &Elf, library: Option<&Elf>) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if elf.is_go {
        obstacles.push(Obstacle::Go); // whether static or not
    } else if elf.is_static() {
        obstacles.push(Obstacle::Static);
    }
    match (elf.machine, library.map(|library| library.machine)) {
        (program, Some(library)) if program != library => {
            obstacles.push(Obstacle::OtherMachine { program, library });
        }
        _ => obstacles.extend(elf.loader.clone().filter(|loader| !loader.exists()).map(Obstacle::NoLoader)),
    }
    obstacles
}

/// The interpreter of a script and its argument, as execve(2) takes them from the first line.
fn interpreter(path: &Path) -> Option<(PathBuf, Vec<OsString>)> {
    let mut line = Vec::new();
    File::open(path).ok()?.take(256).read_to_end(&mut line).ok()?;
    let line = line.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?.trim_ascii();
    let end = line.iter().position(u8::is_ascii_whitespace).unwrap_or(line.len());
    let (interpreter, argument) = line.split_at(end);
    let argument = Some(argument.trim_ascii()).filter(|argument| !argument.is_empty());
    (!interpreter.is_empty()).then(|| {
        (OsStr::from_bytes(interpreter).into(), argument.map(|a| OsStr::from_bytes(a).to_owned()).into_iter().collect())
    })
}

/// The program that env(1) starts: `#!/usr/bin/env -S NAME=VALUE program`.
fn env(path: &Path, args: &[OsString], search: Option<&OsStr>) -> Option<(PathBuf, Vec<OsString>)> {
    if path.file_name()? != "env" {
        return None;
    }
    let words = args.first()?.to_str()?.split_ascii_whitespace();
    let name = words
        .map(|word| word.strip_prefix("-S").unwrap_or(word))
        .find(|word| !word.is_empty() && !word.starts_with('-') && !word.contains('='))?;
    Some((find(OsStr::new(name), search).ok()?, Vec::new()))
}

/// What changes the user, and keeps little of the environment.
fn fresh_environment(path: &Path, args: &[OsString]) -> Option<String> {
    let name = path.file_name()?.to_str()?;
    (matches!(name, "sudo" | "doas" | "pkexec") && !args.is_empty()).then(|| name.to_owned())
}

/// What execve(2) would give this user with the file, and so secure execution.
fn privilege(path: &Path) -> Option<Privilege> {
    const SETUID: u32 = 0o4000;
    const SETGID_AND_GROUP_EXECUTE: u32 = 0o2010;
    let metadata = fs::metadata(path).ok()?;
    let no_setuid = rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOSUID));
    if no_setuid || rustix::thread::no_new_privs().unwrap_or(false) {
        return None;
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let capabilities = || {
        let name = CString::from(c"security.capability");
        rustix::fs::getxattr(path, name, &mut [0_u8; 64]).is_ok()
    };
    if metadata.mode() & SETUID != 0 && metadata.uid() != uid {
        Some(Privilege::Setuid(metadata.uid()))
    } else if metadata.mode() & SETGID_AND_GROUP_EXECUTE == SETGID_AND_GROUP_EXECUTE && metadata.gid() != gid {
        Some(Privilege::Setgid(metadata.gid()))
    } else {
        (uid != 0 && capabilities()).then_some(Privilege::Capabilities)
    }
}
