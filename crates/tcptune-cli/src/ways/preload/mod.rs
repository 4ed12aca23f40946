//! The list of `LD_PRELOAD`, and where the library is.

pub mod environment;

use std::env;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use clap::{Arg, ArgMatches, value_parser};
use tcptune_core::options::table::{LIBRARY, PREFIX};

use crate::screens::error::Error;
use crate::system::variables;

const FILE: &str = "libtcptune.so";

/// Relative to the directory of the command: as installed, then as built.
const BESIDE: [&str; 4] = ["../lib", "../lib/x86_64-linux-gnu", ".", "../release"];

/// Where distributions have libraries.
const SYSTEM: [&str; 4] = ["/usr/lib/x86_64-linux-gnu", "/usr/lib64", "/usr/lib", "/usr/local/lib"];

/// The flag that names the library.
pub fn arg() -> Arg {
    Arg::new("library")
        .long("library")
        .value_name("PATH")
        .value_parser(value_parser!(PathBuf))
        .help("libtcptune.so, where it is not beside the command or in the system [env: TCPTUNE_LIBRARY]")
}

/// The absolute path of the library.
pub fn library(matches: &ArgMatches) -> Result<PathBuf, Error> {
    let variable = format!("{PREFIX}{LIBRARY}");
    let named = match matches.get_one::<PathBuf>("library") {
        Some(path) => Some(("--library", path.clone())),
        None => variables::own().library().map(|path| (&*variable, path.into())),
    };
    if let Some((by, path)) = named {
        let found = path.canonicalize().ok().filter(|path| path.is_file());
        return found.ok_or_else(|| Error::failed(format!("{by}={}: no such file", path.display()))).and_then(listable);
    }
    let command = env::current_exe().and_then(|path| path.canonicalize()).unwrap_or_default();
    let directory = command.parent().unwrap_or(Path::new("/"));
    let beside = BESIDE.iter().map(|relative| directory.join(relative));
    let mut candidates = beside.chain(SYSTEM.iter().map(PathBuf::from)).map(|directory| directory.join(FILE));
    match candidates.find(|path| path.is_file()) {
        Some(path) => listable(path.canonicalize().unwrap_or(path)),
        None => Err(Error::failed(format!(
            "{FILE} is not found: neither beside the command ({}), nor in {}",
            directory.join(BESIDE[0]).display(),
            SYSTEM.join(", ")
        ))
        .hint(format!("name it with --library PATH or {variable}=PATH"))),
    }
}

/// A path with a separator in it cannot stand in the list (ld.so(8)).
fn listable(path: PathBuf) -> Result<PathBuf, Error> {
    if path.as_os_str().as_bytes().iter().any(|byte| separates(*byte)) {
        let message = format!("LD_PRELOAD cannot hold {}: it has a space or a colon in it", path.display());
        return Err(Error::failed(message).hint("copy the library to another directory, and name it with --library"));
    }
    Ok(path)
}

const fn separates(byte: u8) -> bool {
    matches!(byte, b' ' | b':')
}

/// Whether an entry of the list is the library, be it another copy: two would tune each socket twice.
fn is_library(entry: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(entry)).file_name() == Some(OsStr::new(FILE))
}

/// The list with the library in it, once: in its old place, or in front. All else stays as it is.
pub fn list(existing: Option<&OsStr>, library: &Path) -> OsString {
    let existing = existing.unwrap_or_default().as_bytes();
    let library = library.as_os_str().as_bytes();
    let mut list = Vec::new();
    let mut there = false;
    // With the separator that follows each entry.
    for part in existing.split_inclusive(|byte| separates(*byte)) {
        let entry = part.strip_suffix(b" ").or(part.strip_suffix(b":")).unwrap_or(part);
        if is_library(entry) {
            if !there {
                list.extend_from_slice(library);
                list.extend_from_slice(&part[entry.len()..]);
            }
            there = true;
        } else {
            list.extend_from_slice(part);
        }
    }
    if !there {
        let rest = std::mem::replace(&mut list, library.to_vec());
        if rest.iter().any(|byte| !separates(*byte)) {
            list.push(b':');
            list.extend(rest);
        }
    }
    OsString::from_vec(list)
}

/// Whether the list has the library.
pub fn has_library(list: &OsStr) -> bool {
    list.as_bytes().split(|byte| separates(*byte)).any(is_library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_list_is_kept_and_the_library_is_in_it_once() {
        let library = Path::new("/l/libtcptune.so");
        for (existing, want) in [
            (None, "/l/libtcptune.so"),
            (Some(""), "/l/libtcptune.so"),
            (Some(" : "), "/l/libtcptune.so"),
            (Some("liba.so"), "/l/libtcptune.so:liba.so"),
            (Some("liba.so:/x/libb.so libc.so"), "/l/libtcptune.so:liba.so:/x/libb.so libc.so"),
            (Some("/l/libtcptune.so"), "/l/libtcptune.so"),
            (Some("liba.so /l/libtcptune.so:libb.so"), "liba.so /l/libtcptune.so:libb.so"),
            (Some("liba.so:libtcptune.so"), "liba.so:/l/libtcptune.so"),
            (Some("/old/libtcptune.so liba.so /older/libtcptune.so"), "/l/libtcptune.so liba.so "),
            (Some("/x/notlibtcptune.so"), "/l/libtcptune.so:/x/notlibtcptune.so"),
        ] {
            let once = list(existing.map(OsStr::new), library);
            assert_eq!(once, want, "{existing:?}");
            assert_eq!(list(Some(&once), library), want, "{existing:?}, again");
            assert!(has_library(&once), "{existing:?}");
        }
        assert!(!has_library(OsStr::new("/x/notlibtcptune.so:a b")));
    }

    #[test]
    fn a_path_that_the_list_cannot_hold_is_refused() {
        assert!(listable("/a b/libtcptune.so".into()).is_err());
        assert!(listable("/a:b/libtcptune.so".into()).is_err());
        assert!(listable("/ab/libtcptune.so".into()).is_ok());
    }
}
