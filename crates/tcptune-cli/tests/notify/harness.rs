//! Programs to run under a supervisor, and those who run them.

use std::fs;
use std::net::TcpListener;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::{Mutex, OnceLock, PoisonError};
use std::thread;
use std::time::{Duration, Instant};

use crate::command::{TCPTUNE, clean, directory, installed, library, said};

pub const NOBODY: u32 = 65534;

/// Kinds of the probe: what no preload reaches.
pub const STATIC: [&str; 2] = ["static-glibc", "static-musl"];

pub fn is_root() -> bool {
    // SAFETY: cannot fail.
    unsafe { libc::geteuid() == 0 }
}

/// Who runs the programs: this user, and, if that is root, nobody.
pub fn users() -> Vec<u32> {
    // SAFETY: cannot fail.
    let own = unsafe { libc::geteuid() };
    if own == 0 { vec![0, NOBODY] } else { vec![own] }
}

/// An ordinary user.
pub fn ordinary() -> u32 {
    users().pop().unwrap_or(NOBODY)
}

/// The command, as this user, with the library.
pub fn tcptune(user: u32) -> Command {
    static COPY: OnceLock<PathBuf> = OnceLock::new();
    let library = COPY.get_or_init(|| installed(library(), &place().join("libtcptune.so")));
    let mut command = Command::new(place().join("tcptune"));
    clean(&mut command).env("TCPTUNE_LIBRARY", library).current_dir("/");
    as_user(&mut command, user);
    command
}

/// Programs and the command, where every user finds them.
pub fn place() -> &'static Path {
    static PLACE: OnceLock<PathBuf> = OnceLock::new();
    PLACE.get_or_init(|| {
        let directory = directory().keep();
        installed(Path::new(TCPTUNE), &directory.join("tcptune"));
        directory
    })
}

/// A program that is compiled from a file of `programs`, once.
fn compiled(kind: &str, command: &mut Command) -> PathBuf {
    static ONE_AT_A_TIME: Mutex<()> = Mutex::new(());
    let _guard = ONE_AT_A_TIME.lock().unwrap_or_else(PoisonError::into_inner);
    let program = place().join(kind);
    if !program.exists() {
        let made = place().join(format!("{kind}.new"));
        let status = command.arg("-o").arg(&made).arg(source(kind)).status();
        assert!(status.unwrap_or_else(|e| panic!("{command:?}: {e}")).success(), "{kind} compiles");
        fs::rename(made, &program).expect("renamed");
    }
    program
}

fn source(kind: &str) -> PathBuf {
    let name = match kind {
        "go" => "main.go",
        "forbidden" => "forbidden.c",
        _ => "probe.c",
    };
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notify/programs").join(name)
}

/// The probe, of this kind.
pub fn probe(kind: &str) -> PathBuf {
    let (compiler, more): (_, &[&str]) = match kind {
        "static-musl" => ("musl-gcc", &["-static"]),
        "static-glibc" => ("cc", &["-static"]),
        _ => ("cc", &[]),
    };
    compiled(kind, Command::new(compiler).args(["-O1", "-Wall", "-Werror", "-pthread"]).args(more))
}

/// The program of Go.
pub fn go() -> PathBuf {
    let cache = Path::new(env!("CARGO_TARGET_TMPDIR")).join("go");
    compiled(
        "go",
        Command::new("go").env("GOCACHE", cache).env("GO111MODULE", "off").env("CGO_ENABLED", "0").arg("build"),
    )
}

/// The programs of tests/notify/programs/rust.
const RUST: [&str; 2] = ["on-rustix", "on-smol"];

/// A dynamic program of Rust that makes its system calls itself; they are built once, in a directory of their own.
pub fn rust(name: &str) -> PathBuf {
    static BUILT: OnceLock<()> = OnceLock::new();
    BUILT.get_or_init(|| {
        let manifest = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/notify/programs/rust/Cargo.toml");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).join("rust");
        let mut build = Command::new(env!("CARGO"));
        build.args(["build", "--quiet", "--locked", "--manifest-path"]).arg(manifest).arg("--target-dir").arg(&target);
        assert!(build.status().expect("cargo runs").success(), "the programs of Rust build");
        for name in RUST {
            installed(&target.join("debug").join(name), &place().join(name));
        }
    });
    assert!(RUST.contains(&name), "{name}");
    place().join(name)
}

/// `tcptune run` with these flags and this program, as this user.
pub fn run(user: u32, flags: &[&str], program: &Path, args: &[&str]) -> Command {
    let mut command = Command::new(place().join("tcptune"));
    command.arg("run").args(flags).arg("--").arg(program).args(args).current_dir("/");
    clean(&mut command);
    as_user(&mut command, user);
    command
}

/// As another user, where it is one.
pub fn as_user(command: &mut Command, user: u32) {
    if is_root() && user != 0 {
        command.uid(user).gid(user);
    }
}

/// What the program printed; it went well, and nobody complained.
pub fn output(user: u32, flags: &[&str], program: &Path, args: &[&str]) -> String {
    said(&mut run(user, flags, program, args)).ok().to_owned()
}

/// Numbers, as a probe prints them.
pub fn numbers(text: &str) -> Vec<i64> {
    text.split_whitespace().map(|word| word.parse().unwrap_or_else(|e| panic!("{word}: {e} in {text}"))).collect()
}

/// A listener that takes all, until the test ends.
pub struct Server(String);

impl Server {
    pub fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").expect("a loopback port");
        // SAFETY: listen(2) again sets another backlog.
        assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&listener), 4096) }, 0);
        let port = listener.local_addr().expect("its address").port().to_string();
        // It ends with the test.
        thread::spawn(move || listener.incoming().for_each(drop));
        Self(port)
    }

    pub fn port(&self) -> &str {
        &self.0
    }
}

/// The processes of this command that are supervisors: those that have this word among their arguments, but `besides`.
pub fn supervisors(word: &str, besides: u32) -> Vec<i32> {
    let own = place().join("tcptune");
    let is_one = |pid: &u32| {
        let words = fs::read(format!("/proc/{pid}/cmdline")).unwrap_or_default();
        *pid != besides
            && words.split(|byte| *byte == 0).any(|each| each == word.as_bytes())
            && fs::read_link(format!("/proc/{pid}/exe")).is_ok_and(|exe| exe == own)
    };
    let all = fs::read_dir("/proc").expect("/proc").flatten();
    let pids = all.filter_map(|entry| entry.file_name().to_str()?.parse().ok());
    pids.filter(is_one).map(u32::cast_signed).collect()
}

/// Waits, within bounds, for something that has to become true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(20);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}
