//! Runs the command with the library of this build, and an environment of its own.

use std::ffi::OsStr;
use std::fs;
use std::io::Write;
use std::os::unix::fs::PermissionsExt;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output, Stdio};
use std::sync::OnceLock;

use tempfile::TempDir;

pub const TCPTUNE: &str = env!("CARGO_BIN_EXE_tcptune");

/// Builds the library, once.
pub fn library() -> &'static Path {
    static LIBRARY: OnceLock<PathBuf> = OnceLock::new();
    LIBRARY.get_or_init(|| {
        let build = ["build", "--quiet", "--release", "--package", "tcptune", "--lib"];
        let status = Command::new(env!("CARGO")).args(build).current_dir(env!("CARGO_MANIFEST_DIR")).status();
        assert!(status.expect("cargo runs").success(), "the library builds");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target directory");
        let library = target.join("release/libtcptune.so");
        assert!(library.is_file(), "{} is there", library.display());
        library
    })
}

/// The command, with nothing in the environment but PATH and the library.
pub fn tcptune<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(TCPTUNE);
    command.args(args).stdin(Stdio::null());
    clean(&mut command).env("TCPTUNE_LIBRARY", library());
    command
}

/// Nothing in the environment but PATH.
pub fn clean(command: &mut Command) -> &mut Command {
    command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C.UTF-8")
}

/// What a program has said.
#[derive(Debug)]
pub struct Said {
    pub code: Option<i32>,
    pub signal: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

pub fn said(command: &mut Command) -> Said {
    let Output { status, stdout, stderr } = command.output().expect("it starts");
    let text = |bytes: Vec<u8>| String::from_utf8(bytes).expect("UTF-8");
    Said { code: status.code(), signal: status.signal(), stdout: text(stdout), stderr: text(stderr) }
}

impl Said {
    /// What it printed; it must have succeeded, and complained of nothing.
    pub fn ok(&self) -> &str {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:#?}");
        self.stdout.trim_end()
    }

    /// What it complained of; it must have ended with this status, and printed nothing.
    pub fn refused(&self, code: i32) -> &str {
        assert_eq!((self.code, self.stdout.as_str()), (Some(code), ""), "{self:#?}");
        assert!(self.stderr.lines().all(|line| line.starts_with("tcptune: ")), "{self:#?}");
        self.stderr.trim_end()
    }
}

/// A directory that every user can look into.
pub fn directory() -> TempDir {
    let directory = TempDir::with_prefix("tcptune").expect("temporary directory");
    fs::set_permissions(directory.path(), fs::Permissions::from_mode(0o755)).expect("chmod");
    directory
}

/// A C program that prints "started", compiled with these options.
pub fn compiled(directory: &Path, name: &str, options: &[&str]) -> PathBuf {
    let source = "#include <stdio.h>\nint main(void) { return puts(\"started\") < 0; }\n";
    compile(directory, name, options, source)
}

/// A C program.
pub fn compiled_source(directory: &Path, name: &str, source: &str) -> PathBuf {
    compile(directory, name, &[], source)
}

/// The same with options.
pub fn compile(directory: &Path, name: &str, options: &[&str], source: &str) -> PathBuf {
    let program = directory.join(name);
    let mut cc = Command::new("cc")
        .args(["-x", "c", "-", "-o"])
        .arg(&program)
        .args(options)
        .stdin(Stdio::piped())
        .spawn()
        .expect("cc runs");
    cc.stdin.take().expect("piped").write_all(source.as_bytes()).expect("written");
    assert!(cc.wait().expect("wait").success(), "{name} compiles");
    program
}

/// An executable file with this content.
pub fn script(directory: &Path, name: &str, content: impl AsRef<[u8]>) -> PathBuf {
    let source = directory.join("source");
    fs::write(&source, content).expect("written");
    installed(&source, &directory.join(name))
}

/// An executable copy. It is not this process that writes it: a child of another test could hold it open meanwhile, and
/// then it cannot be executed (`ETXTBSY`).
pub fn installed(from: &Path, to: &Path) -> PathBuf {
    let status = Command::new("install").args(["-D", "-m", "755"]).args([from, to]).status();
    assert!(status.expect("install runs").success());
    to.to_owned()
}

/// The interpreter itself: a wrapper script in PATH would be looked at, too.
pub fn python() -> &'static str {
    static PYTHON: OnceLock<String> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let out = Command::new("python3").args(["-c", "import sys; print(sys.executable, end='')"]).output();
        String::from_utf8(out.expect("python3 runs").stdout).expect("its path is UTF-8")
    })
}
