//! Reads configuration files.

use std::ffi::{CStr, CString};
use std::os::unix::ffi::OsStrExt;
use std::path::Path;

use libc::c_int;

use crate::system::errno;
use crate::system::files::{File, status};

/// The system's file: the only source that counts in secure execution.
pub const SYSTEM: &str = "/etc/tcptune.conf";
const SYSTEM_PATH: &CStr = c"/etc/tcptune.conf";

/// Largest file that is read.
const LARGEST: usize = 16 << 20;

/// Whose files are believed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trust {
    /// Files of root that nobody else can write to: the system's file holds for everybody's programs.
    Root,
    /// Any that the process can read: its own user has named it.
    User,
}

/// The text of a file; none if there is no such file.
///
/// # Errors
/// Why it is not read, for the operator.
pub fn read(path: &str, trust: Trust) -> Result<Option<String>, String> {
    CString::new(path).map_or(Ok(None), |path| text(File::open(&path, FLAGS, 0), trust))
}

/// The text of a file of the user's, if there is one. There is none either where no such directory can be, or where this
/// process may not look into it: a program may have another user's `HOME`.
///
/// # Errors
/// As `read`.
#[cold]
pub fn read_if_there(path: &Path) -> Result<Option<String>, String> {
    let Ok(path) = CString::new(path.as_os_str().as_bytes()) else { return Ok(None) };
    match File::open(&path, FLAGS, 0) {
        Err(libc::ENOTDIR | libc::ENAMETOOLONG) => Ok(None),
        // It needs no right to the file itself (open(2)).
        Err(libc::EACCES) if File::open(&path, libc::O_PATH, 0).is_err() => Ok(None),
        file => text(file, Trust::User),
    }
}

/// The text of [`SYSTEM`]. Where there is no such file, as on most machines, an exec touches no other page for it.
///
/// # Errors
/// As `read`.
#[inline]
pub fn read_system() -> Result<Option<String>, String> {
    let file = File::open(SYSTEM_PATH, FLAGS, 0);
    if matches!(file, Err(libc::ENOENT)) { Ok(None) } else { text(file, Trust::Root) }
}

/// O_NONBLOCK so that a FIFO is refused below instead of waited for.
const FLAGS: c_int = libc::O_RDONLY | libc::O_NONBLOCK;

fn text(file: Result<File, c_int>, trust: Trust) -> Result<Option<String>, String> {
    let file = match file {
        Ok(file) => file,
        Err(libc::ENOENT) => return Ok(None),
        Err(error) => return Err(cannot(error)),
    };
    let status = status(file.fd()).map_err(cannot)?;
    if status.st_mode & libc::S_IFMT != libc::S_IFREG {
        return Err("is not a regular file".to_owned());
    }
    if trust == Trust::Root && (status.st_uid != 0 || status.st_mode & 0o022 != 0) {
        return Err("must belong to root, and be writable by nobody else".to_owned());
    }
    let size = usize::try_from(status.st_size).unwrap_or(usize::MAX);
    if size > LARGEST {
        return Err(format!("is larger than {} MiB", LARGEST >> 20));
    }
    let (mut text, mut read) = (vec![0; size.max(1)], 0); // one of proc(5) says that it is empty
    while let Some(room) = text.get_mut(read..).filter(|room| !room.is_empty()) {
        match file.read(room).map_err(cannot)? {
            0 => break,
            more => read += more,
        }
    }
    text.truncate(read);
    // A byte order mark of UTF-8, which editors of Windows write.
    if text.starts_with(b"\xef\xbb\xbf") {
        text.drain(..3);
    }
    // Text that is not UTF-8 becomes names and values that nothing accepts, and is named as such.
    Ok(Some(lossy(text)))
}

/// Bytes as text: what is not UTF-8 is replaced.
pub(super) fn lossy(bytes: Vec<u8>) -> String {
    String::from_utf8(bytes).unwrap_or_else(|error| String::from_utf8_lossy(error.as_bytes()).into_owned())
}

fn cannot(error: c_int) -> String {
    format!("cannot be read ({})", errno::Named(error))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::fs;
    use std::os::unix::fs::{MetadataExt, PermissionsExt};

    #[test]
    fn the_systems_file_has_one_name() {
        assert_eq!(SYSTEM_PATH.to_str(), Ok(SYSTEM));
    }

    #[test]
    fn only_roots_own_file_is_believed_for_everybody() {
        let path = std::env::temp_dir().join(format!("tcptune-config-{}", std::process::id()));
        let name = path.to_str().expect("UTF-8");
        assert_eq!(read(name, Trust::Root), Ok(None));
        fs::write(&path, "keepidle = 5\n").expect("written");
        let owner = fs::metadata(&path).expect("metadata").uid();
        for (mode, believed) in [(0o644, true), (0o600, true), (0o664, false), (0o646, false), (0o666, false)] {
            fs::set_permissions(&path, fs::Permissions::from_mode(mode)).expect("chmod");
            assert_eq!(read(name, Trust::Root).is_ok(), believed && owner == 0, "{mode:o}");
            assert!(read(name, Trust::User).is_ok_and(|text| text.is_some()), "{mode:o}");
        }
        fs::remove_file(&path).expect("removed");
        assert!(read("/dev/zero", Trust::User).is_err_and(|why| why.contains("regular file")));
        assert!(read("/", Trust::User).is_err());
    }
}
