//! Where the library is, and that it is ours.

use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};
use tcptune_core::options::table::{LIBRARY, PREFIX};
use tcptune_core::system::note::RELEASE;

use super::{FILE, separates};
use crate::program::elf::Elf;
use crate::screens::error::Error;
use crate::system::variables;

/// Relative to the directory of the command: as installed, then as built.
const BESIDE: [&str; 4] = ["../lib", "../lib/x86_64-linux-gnu", ".", "../release"];

/// Where distributions have libraries.
const SYSTEM: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];

/// libtcptune.so.
#[derive(Debug)]
pub struct Library {
    /// Absolute.
    pub path: PathBuf,
    pub elf: Elf,
}

/// The flag that names the library.
pub fn arg() -> Arg {
    Arg::new("library")
        .long("library")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("libtcptune.so, where it is not beside the command or in the system [env: TCPTUNE_LIBRARY]")
}

impl Library {
    /// The one that is named, or is where it is expected.
    pub fn find(matches: &ArgMatches) -> Result<Self, Error> {
        let variable = format!("{PREFIX}{LIBRARY}");
        let named = match matches.get_one::<PathBuf>("library") {
            Some(path) => Some(("--library", path.clone())),
            None => variables::own().library().map(|path| (&*variable, path.into())),
        };
        if let Some((by, path)) = named {
            let shown = format!("{by}={}", path.display());
            let found = path.canonicalize().map_err(|_| Error::not_executable(format!("{shown}: no such file")))?;
            return Self::of(found, &shown);
        }
        let command = std::env::current_exe().and_then(|path| path.canonicalize()).ok();
        let directory = command.as_deref().and_then(Path::parent);
        let beside = BESIDE.iter().filter_map(|relative| Some(directory?.join(relative)));
        let mut candidates = beside.chain(SYSTEM.iter().map(PathBuf::from)).map(|directory| directory.join(FILE));
        match candidates.find(|path| path.is_file()) {
            Some(path) => {
                let path = path.canonicalize().unwrap_or(path);
                let shown = path.display().to_string();
                Self::of(path, &shown)
            }
            None => Err(Error::not_executable(format!(
                "{FILE} is not found: neither {}, nor in {}",
                directory.map_or(
                    "beside the command, which is not known without /proc".to_owned(),
                    |directory| format!("beside the command ({})", directory.join(BESIDE[0]).display())
                ),
                SYSTEM.join(", ")
            ))
            .hint(format!("name it with --library PATH or {variable}=PATH"))),
        }
    }

    /// This file, called so in messages. The loader would go on without a library that it cannot load, and load another
    /// one that tunes nothing.
    fn of(path: PathBuf, shown: &str) -> Result<Self, Error> {
        let refused = |why: String| Err(Error::not_executable(format!("{shown}: {why}")));
        let elf = match Elf::read(&path) {
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
        listable(Self { path, elf })
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
