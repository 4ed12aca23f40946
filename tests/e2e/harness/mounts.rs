//! Mounts that nobody else sees, and another user.

use std::ffi::CString;
use std::fs::{self, Permissions};
use std::io::{self, ErrorKind};
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::thread;

use tempfile::TempDir;

use crate::harness::library;

/// The user and the group that own nothing.
pub const NOBODY: libc::uid_t = 65534;

/// Runs `steps` in a mount namespace of its own: what is mounted there is seen nowhere else, and gone with the thread.
pub fn with_own_mounts(test: &str, steps: impl FnOnce() + Send + 'static) {
    on_a_thread(move || {
        // SAFETY: touches no memory; only this thread leaves for the namespace.
        if unsafe { libc::unshare(libc::CLONE_NEWNS) } != 0 {
            return Err(io::Error::last_os_error());
        }
        mount("none", Path::new("/"), "", libc::MS_REC | libc::MS_PRIVATE, "");
        steps();
        Ok(())
    })
    .unwrap_or_else(|why| {
        assert_eq!(why.kind(), ErrorKind::PermissionDenied, "a mount namespace: {why}");
        println!("skipped: {test}: no mount namespace: {why}");
    });
}

/// Runs `steps` on a thread of their own, which may leave for other namespaces and users.
pub fn on_a_thread<T: Send + 'static>(steps: impl FnOnce() -> T + Send + 'static) -> T {
    thread::spawn(steps).join().unwrap_or_else(|panic| std::panic::resume_unwind(panic))
}

/// mount(2).
pub fn mount(source: &str, target: &Path, kind: &str, flags: libc::c_ulong, data: &str) {
    let c = |text: &[u8]| CString::new(text).expect("no NUL");
    let (source, at) = (c(source.as_bytes()), c(target.as_os_str().as_bytes()));
    let (kind, data) = (c(kind.as_bytes()), c(data.as_bytes()));
    // SAFETY: C strings that live.
    let r = unsafe { libc::mount(source.as_ptr(), at.as_ptr(), kind.as_ptr(), flags, data.as_ptr().cast()) };
    assert_eq!(r, 0, "mount on {}: {}", target.display(), io::Error::last_os_error());
}

/// Gives up root's privileges for the rest of this thread's life.
pub fn become_nobody() {
    // SAFETY: they touch no memory. The libc functions would change all threads; the system calls change the caller.
    let failed = unsafe {
        libc::syscall(libc::SYS_setgroups, 0, 0)
            | libc::syscall(libc::SYS_setresgid, NOBODY, NOBODY, NOBODY)
            | libc::syscall(libc::SYS_setresuid, NOBODY, NOBODY, NOBODY)
    };
    assert_eq!(failed, 0, "{}", io::Error::last_os_error());
}

/// Whether this is root, who may become others.
pub fn is_root() -> bool {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Writes a file with a mode, whatever the umask.
pub fn write(path: &Path, text: &[u8], mode: u32) {
    fs::write(path, text).expect("written");
    fs::set_permissions(path, Permissions::from_mode(mode)).expect("its owner");
}

/// A directory that every user can enter, with a copy of the library.
pub fn open_directory() -> (TempDir, PathBuf) {
    let directory = tempfile::tempdir().expect("temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("its owner");
    let copy = directory.path().join("libtcptune.so");
    write(&copy, &fs::read(library()).expect("read"), 0o755);
    (directory, copy)
}
