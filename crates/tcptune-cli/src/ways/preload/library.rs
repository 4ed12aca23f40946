//! Where the library is, and that it is ours.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};
use tcptune_core::options::table::{LIBRARY, PREFIX};
use tcptune_core::system::note::RELEASE;

use super::{FILE, lib, separates};
use crate::program::elf::{self, Elf, Machine};
use crate::screens::candidates;
use crate::screens::error::Error;
use crate::system::variables;

/// Relative to the directory of the command: as installed, then as built. Before each, its directory for the machine.
const BESIDE: [&str; 3] = ["../lib", ".", "../release"];

/// Where distributions have libraries; before each, its directory for the machine.
const SYSTEM: [&str; 3] = ["/usr/lib", "/usr/lib64", "/usr/local/lib"];

/// libtcptune.so.
#[derive(Debug)]
pub struct Library {
    /// Absolute, as it stands in `LD_PRELOAD`: `$LIB` may be in it, which the loader of glibc fills in (ld.so(8)).
    pub path: PathBuf,
    /// The file that the program loads.
    pub file: PathBuf,
    pub elf: Elf,
    /// What else is loaded by way of `$LIB`: the directories for programs of other kinds.
    pub also: Vec<PathBuf>,
}

/// The flag that names the library.
pub fn arg() -> Arg {
    Arg::new("library")
        .long("library")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .add(candidates::files())
        .help("libtcptune.so, where it is not beside the command or in the system [env: TCPTUNE_LIBRARY]")
}

impl Library {
    /// The one that is named, or is where it is expected; for the kind of this program, or of the command itself.
    pub fn find(matches: &ArgMatches, program: Option<&Elf>) -> Result<Self, Error> {
        let itself = Elf::read(Path::new("/proc/self/exe")).ok();
        let machine = program.or(itself.as_ref()).map(|elf| elf.machine);
        let loader = program.map_or(machine.and_then(Machine::loader).map(PathBuf::from), |elf| elf.loader.clone());
        let lib = loader.as_deref().and_then(lib::of);
        let variable = format!("{PREFIX}{LIBRARY}");
        let named = match matches.get_one::<PathBuf>("library") {
            Some(path) => Some(("--library", path.clone())),
            None => variables::own().library().map(|path| (&*variable, path.into())),
        };
        if let Some((by, path)) = named {
            let shown = format!("{by}={}", path.display());
            let missing = |_| Error::not_executable(format!("{shown}: no such file"));
            let Some(at) = lib::token(&path) else {
                let found = path.canonicalize().map_err(missing)?;
                return Self::of(found.clone(), found, &shown);
            };
            let Some(lib) = lib else {
                let why = "only the loader of glibc fills in $LIB, and this program has another one, or none";
                return Err(Error::not_executable(format!("{shown}: {why}")));
            };
            let path = std::path::absolute(&path).unwrap_or(path);
            let file = lib::filled_in(&path, &lib);
            let file = file.canonicalize().map_err(|_| {
                Error::not_executable(format!("{shown}: no such file: {at} is {} there", lib.display()))
            })?;
            return Ok(Self::of(path.clone(), file, &shown)?.also(&path));
        }
        let command = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
        let directory = command.as_deref().and_then(Path::parent);
        let beside = BESIDE.iter().filter_map(|relative| Some(directory?.join(relative)));
        let directories = beside.chain(SYSTEM.iter().map(PathBuf::from)).flat_map(|directory| {
            let of_machine = machine.and_then(Machine::directory).map(|name| directory.join(name));
            of_machine.into_iter().chain([directory])
        });
        let candidates: Vec<_> =
            directories.map(|directory| directory.join(FILE)).filter(|path| path.is_file()).collect();
        let fits = |path: &&PathBuf| Elf::read(path).is_ok_and(|elf| Some(elf.machine) == machine);
        let Some(file) = candidates.iter().find(fits).or(candidates.first()) else {
            return Err(Error::not_executable(format!(
                "{FILE} is not found: neither {}, nor in {}",
                directory.map_or("beside the command, which is not known without /proc".to_owned(), |directory| {
                    let lib = directory.parent().unwrap_or(directory).join("lib");
                    format!("beside the command ({}, {})", directory.display(), lib.display())
                }),
                SYSTEM.join(", ")
            ))
            .hint(format!("name it with --library PATH or {variable}=PATH")));
        };
        let file = file.canonicalize().unwrap_or_else(|_| file.clone());
        let shown = file.display().to_string();
        let library = Self::of(file.clone(), file.clone(), &shown)?;
        Ok(match lib.and_then(|lib| lib::with_token(&file, &lib)) {
            Some(path) => library.also(&path),
            None => library,
        })
    }

    /// This file, called so in messages. The loader would go on without a library that it cannot load, and load another
    /// one that tunes nothing.
    fn of(path: PathBuf, file: PathBuf, shown: &str) -> Result<Self, Error> {
        let refused = |why: String| Err(Error::not_executable(format!("{shown}: {why}")));
        let elf = match Elf::read(&file) {
            Ok(elf) => elf,
            Err(unfit) => return refused(unfit.to_string()),
        };
        match elf.tcptune.as_deref() {
            None => return refused(format!("is not {FILE}, which it would have to be")),
            Some(version) if version != RELEASE => {
                return refused(format!("is version {version}, and this command is {RELEASE}: they must be the same"));
            }
            Some(_) => {}
        }
        listable(Self { path, file, elf, also: Vec::new() })
    }

    /// What is said of other programs, if they are served as well.
    pub fn also_leads_to(&self) -> Option<String> {
        let also: Vec<_> = self.also.iter().map(|lib| lib.display().to_string()).collect();
        let file = self.file.display();
        (!also.is_empty())
            .then(|| format!("$LIB leads to {file} here, and to {} in programs of other kinds", also.join(", ")))
    }

    /// With `$LIB` in its path, if programs of other kinds, whose loaders this system has, find theirs there.
    fn also(mut self, path: &Path) -> Self {
        let own = self.elf.machine;
        let others =
            elf::LOADERS.iter().filter(|(machine, ..)| !own.is(*machine)).map(|(.., loader)| Path::new(loader));
        let libs = others.filter(|loader| loader.exists()).filter_map(lib::of);
        self.also = libs.filter(|lib| lib::filled_in(path, lib).is_file()).collect();
        if !self.also.is_empty() {
            path.clone_into(&mut self.path);
        }
        self
    }
}

/// A path with a separator in it cannot stand in the list (ld.so(8)).
fn listable(library: Library) -> Result<Library, Error> {
    if library.path.as_os_str().as_bytes().iter().any(|byte| separates(*byte)) {
        let message = format!("LD_PRELOAD cannot hold {}: it has a space or a colon in it", library.path.display());
        let hint = "copy the library to another directory, and name it with --library";
        return Err(Error::not_executable(message).hint(hint));
    }
    Ok(library)
}
