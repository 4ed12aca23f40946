//! Whether a dynamic program makes its socket calls through libc, by what it and its libraries import.

use std::collections::HashSet;
use std::ffi::OsStr;
use std::fs;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::elf::Elf;

/// How many libraries are looked at: a program with more imports nearly everything.
const LIBRARIES: usize = 256;

/// Libraries of libc itself: what they import is how they call each other.
const OF_LIBC: [&str; 10] = [
    "libc.so",
    "libc.musl",
    "ld-linux",
    "ld-musl",
    "libpthread.so",
    "libresolv.so",
    "libnsl.so",
    "libanl.so",
    "libdl.so",
    "libnss_",
];

/// Whether a dynamic program reaches its sockets past libc: it makes system calls itself, or through io_uring, and
/// neither it nor a library of it imports what connects. Of bind and listen that says nothing: Rust's standard library
/// makes listeners by libc, also for those who connect past it (smol). Where it cannot be told, it does not.
pub fn past_libc(path: &Path, elf: &Elf) -> bool {
    let mut seen = HashSet::new();
    let mut next = vec![(path.to_owned(), elf.clone())];
    let mut makes_calls = false;
    while let Some((path, elf)) = next.pop() {
        // A program that loads libraries later may make its socket calls in those.
        if elf.imports.connect || elf.imports.dlopen || seen.len() > LIBRARIES {
            return false;
        }
        makes_calls |= elf.imports.makes_calls && seen.is_empty();
        for name in &elf.needed {
            makes_calls |= name.starts_with("liburing");
            if OF_LIBC.iter().any(|of_libc| name.starts_with(of_libc)) || !seen.insert(name.clone()) {
                continue;
            }
            match library(name, &path, &elf).and_then(|path| Some((Elf::read(&path).ok()?, path))) {
                Some((elf, path)) => next.push((path, elf)),
                None => return false,
            }
        }
    }
    makes_calls
}

/// Where the loader finds it (ld.so(8)): as far as can be told without its cache.
fn library(name: &str, by: &Path, elf: &Elf) -> Option<PathBuf> {
    if name.contains('/') {
        return Some(name.into());
    }
    let origin = by.parent().unwrap_or(Path::new("/"));
    let own = elf.imports.search.iter().map(|directory| with_origin(directory, origin));
    let beside_loader = elf.loader.as_ref().and_then(|loader| loader.canonicalize().ok()?.parent().map(Path::to_owned));
    let system = ["/lib", "/usr/lib", "/lib64", "/usr/lib64", "/usr/local/lib"].map(PathBuf::from);
    let system = beside_loader.into_iter().chain(multiarch()).chain(system).chain(configured());
    own.chain(system).map(|directory| directory.join(name)).find(|path| path.is_file())
}

fn with_origin(directory: &OsStr, origin: &Path) -> PathBuf {
    let text = directory.as_bytes();
    let rest = text.strip_prefix(b"$ORIGIN").or(text.strip_prefix(b"${ORIGIN}"));
    match rest {
        Some(rest) => origin.join(OsStr::from_bytes(rest.strip_prefix(b"/").unwrap_or(rest))),
        None => directory.into(),
    }
}

/// Debian's directories of an architecture: a library has no loader that tells.
fn multiarch() -> impl Iterator<Item = PathBuf> {
    let triplet = format!("{}-linux-gnu", std::env::consts::ARCH);
    ["/lib", "/usr/lib"].into_iter().map(move |directory| Path::new(directory).join(&triplet))
}

/// What /etc/ld.so.conf.d names (ldconfig(8)).
fn configured() -> impl Iterator<Item = PathBuf> {
    let files = fs::read_dir("/etc/ld.so.conf.d").into_iter().flatten().flatten();
    files.flat_map(|file| {
        let text = fs::read_to_string(file.path()).unwrap_or_default();
        text.lines().map(str::trim).filter(|line| line.starts_with('/')).map(PathBuf::from).collect::<Vec<_>>()
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn origin_is_the_directory_of_the_file() {
        for (directory, want) in [("$ORIGIN/../lib", "/a/../lib"), ("${ORIGIN}", "/a/"), ("/b", "/b")] {
            assert_eq!(with_origin(OsStr::new(directory), Path::new("/a")), Path::new(want));
        }
    }

    #[test]
    fn what_imports_nothing_of_sockets_but_makes_no_call_itself_is_no_such_program() {
        let past = |path: &str| past_libc(Path::new(path), &Elf::read(Path::new(path)).expect("ELF"));
        for program in ["/bin/cat", "/bin/sh", "/usr/bin/env", "/bin/bash"] {
            assert!(!past(program), "{program}");
        }
    }
}
