//! Files below the root directory of another machine or process: their links lead to where they do there, never out of it
//! (openat2(2), `RESOLVE_IN_ROOT`, Linux 5.6).

use std::os::fd::{AsFd, OwnedFd};
use std::path::Path;

use rustix::fs::{AtFlags, Mode, OFlags, ResolveFlags};
use rustix::io::{Errno, Result};

/// A file or directory as such: nothing of it is opened.
pub fn find(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    named(root, path, OFlags::empty())
}

/// Whether there is one of this name, or a link that leads to nothing.
pub fn has(root: impl AsFd, path: &Path) -> bool {
    named(root, path, OFlags::NOFOLLOW).is_ok()
}

fn named(root: impl AsFd, path: &Path, how: OFlags) -> Result<OwnedFd> {
    let flags = OFlags::PATH | OFlags::CLOEXEC | how;
    rustix::fs::openat2(root, path, flags, Mode::empty(), ResolveFlags::IN_ROOT)
}

/// The root directory itself.
pub fn open(path: &Path) -> Result<OwnedFd> {
    rustix::fs::open(path, OFlags::PATH | OFlags::DIRECTORY | OFlags::CLOEXEC, Mode::empty())
}

/// A directory below it, which is made if it is not there.
pub fn make(root: impl AsFd, path: &Path) -> Result<OwnedFd> {
    let mut parent = root.as_fd().try_clone_to_owned().map_err(|_| Errno::MFILE)?;
    let mut there = path.ancestors().filter(|part| !part.as_os_str().is_empty()).collect::<Vec<_>>();
    while let Some(part) = there.pop() {
        parent = match (find(&root, part), part.file_name()) {
            (Err(Errno::NOENT), Some(name)) => {
                rustix::fs::mkdirat(&parent, name, Mode::from_raw_mode(0o755))?;
                find(&root, part)?
            }
            (found, _) => found?,
        };
    }
    Ok(parent)
}

/// Replaces a file of a directory: a reader finds the old one or the new one.
pub fn write(directory: impl AsFd, name: &str, text: &str) -> std::io::Result<()> {
    let new = format!(".{name}.{}", std::process::id());
    let flags = OFlags::WRONLY | OFlags::CREATE | OFlags::TRUNC | OFlags::NOFOLLOW | OFlags::CLOEXEC;
    let file = rustix::fs::openat(&directory, &new, flags, Mode::from_raw_mode(0o644))?;
    std::io::Write::write_all(&mut std::fs::File::from(file), text.as_bytes())?;
    Ok(rustix::fs::renameat(&directory, &new, &directory, name)?)
}

/// Removes a file of a directory, and the directory if nothing else is in it.
pub fn remove(root: impl AsFd, path: &Path) -> Result<()> {
    let (Some(directory), Some(name)) = (path.parent(), path.file_name()) else { return Err(Errno::NOENT) };
    rustix::fs::unlinkat(find(&root, directory)?, name, AtFlags::empty())?;
    if let (Some(parent), Some(name)) = (directory.parent(), directory.file_name()) {
        let _ = find(&root, parent).and_then(|parent| rustix::fs::unlinkat(parent, name, AtFlags::REMOVEDIR));
    }
    Ok(())
}
