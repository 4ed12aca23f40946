//! Root file systems, and containers that runc runs in them.

use std::fs;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::Command;

/// A root file system.
pub struct Root(PathBuf);

impl Root {
    /// An empty one.
    pub fn at(path: PathBuf) -> Self {
        fs::create_dir_all(&path).expect("made");
        fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).expect("its owner");
        Self(path)
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// Puts a file there.
    pub fn put(&self, from: &Path, to: &str) {
        let to = self.0.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a directory")).expect("made");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    }

    /// Puts a program there with the libraries that it is linked to.
    pub fn put_program(&self, program: &Path, to: &str) {
        self.put(program, to);
        let linked = Command::new("ldd").arg(program).output().expect("ldd runs");
        let linked = String::from_utf8(linked.stdout).expect("text");
        for path in linked.split_whitespace().filter(|word| word.starts_with('/')) {
            self.put(Path::new(path), path);
        }
    }
}
