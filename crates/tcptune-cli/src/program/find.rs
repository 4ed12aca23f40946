//! Finds a program as a shell does.

use std::collections::BTreeSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use rustix::fs::Access;

use crate::screens::error::Error;
use crate::system::variables;

/// Where programs are looked for if PATH is not set, as by glibc's execvp(3).
const DEFAULT_PATH: &str = "/bin:/usr/bin";

/// The error has a shell's exit status.
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

/// Programs whose names begin so, for a shell.
pub fn known(word: &str) -> Vec<(String, String)> {
    let path = variables::own().path().unwrap_or(OsStr::new(DEFAULT_PATH));
    let directories =
        path.as_bytes().split(|byte| *byte == b':').map(|directory| Path::new(OsStr::from_bytes(directory)));
    let mut known = BTreeSet::new();
    for file in directories.filter_map(|directory| fs::read_dir(directory).ok()).flatten().flatten() {
        let name = file.file_name().into_string().ok().filter(|name| name.starts_with(word));
        known.extend(name.filter(|_| executable(&file.path()).is_ok()));
    }
    known.into_iter().map(|name| (name, String::new())).collect()
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
    if !metadata.is_file() {
        return Err(Why::Not("is not a regular file"));
    }
    match rustix::fs::access(path, Access::EXEC_OK) {
        Ok(()) => Ok(path.to_owned()),
        Err(_) => Err(Why::Not("is not executable")),
    }
}
