//! Runs real programs without and with the library, and proves that it was there.

pub mod hole;
pub mod mounts;
pub mod namespace;
pub mod outside;

use std::collections::HashMap;
use std::ffi::{OsStr, OsString};
use std::fs::{self, File};
use std::os::unix::process::{CommandExt, ExitStatusExt};
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Stdio};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use namespace::Namespace;
use tempfile::TempDir;

/// How long a child may take, unless the test says otherwise.
const LIMIT: Duration = Duration::from_secs(20);

/// Libraries and programs for another machine, and this directory is in a root of its kind (scripts/test-machines).
fn elsewhere() -> Option<PathBuf> {
    std::env::var_os("TEST_PREBUILT").map(PathBuf::from)
}

/// Builds the library with a profile, once, and gives its path.
fn built(profile: &'static str) -> PathBuf {
    static BUILT: Mutex<Option<HashMap<&'static str, PathBuf>>> = Mutex::new(None);
    if let Some(directory) = elsewhere() {
        return directory.join(profile).join("libtcptune.so");
    }
    let mut built = BUILT.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    built
        .get_or_insert_default()
        .entry(profile)
        .or_insert_with(|| {
            let status = Command::new(env!("CARGO"))
                .args(["build", "--quiet", "--package", "tcptune", "--lib", "--profile", profile])
                .current_dir(root)
                .status()
                .expect("cargo runs");
            assert!(status.success(), "the library builds");
            let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target directory");
            let directory = if profile == "dev" { "debug" } else { profile };
            let library = target.join(directory).join("libtcptune.so");
            assert!(library.is_file(), "{} is there", library.display());
            library
        })
        .clone()
}

/// The release library.
pub fn library() -> PathBuf {
    built("release")
}

/// The debug library, which aborts where a hook allocates.
pub fn debug_library() -> PathBuf {
    built("dev")
}

/// Compiles `tests/probes/NAME.c`, once, and gives the path of the program.
pub fn probe(name: &'static str) -> PathBuf {
    let options: &[_] = match name {
        "unwind" => &["-fexceptions"],
        "stack" => &["-Wl,-z,now"], // the loader's own look-ups would be on the stack that is measured
        _ => &[],
    };
    compiled("cc", name, name.to_owned(), options)
}

/// The same for musl.
pub fn probe_of_musl(name: &'static str) -> PathBuf {
    if elsewhere().is_some() { probe(name) } else { compiled("musl-gcc", name, format!("{name}-musl"), &[]) }
}

/// The same, of a library.
pub fn shared(name: &'static str) -> PathBuf {
    compiled("cc", name, format!("lib{name}.so"), &["-shared", "-fPIC", "-ldl"])
}

fn compiled(compiler: &str, name: &'static str, file: String, options: &[&str]) -> PathBuf {
    static COMPILED: Mutex<Option<HashMap<String, PathBuf>>> = Mutex::new(None);
    if let Some(directory) = elsewhere() {
        return directory.join(file);
    }
    let mut made = COMPILED.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    made.get_or_insert_default()
        .entry(file.clone())
        .or_insert_with(|| {
            let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/probes/{name}.c"));
            let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(file);
            let status = Command::new(compiler)
                .args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-pthread", "-o"])
                .args([&program, &source])
                .args(options)
                .status()
                .expect("the compiler runs");
            assert!(status.success(), "{name}.c compiles");
            program
        })
        .clone()
}

/// The interpreter itself: a wrapper script in PATH would be preloaded, too.
pub fn python() -> &'static OsStr {
    static PYTHON: OnceLock<OsString> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let out = Command::new("python3").args(["-c", "import sys; print(sys.executable, end='')"]).output();
        OsString::from(String::from_utf8(out.expect("python3 runs").stdout).expect("its path is UTF-8"))
    })
}

/// Python: sends until the kernel takes no more and probes the window that the peer has closed: before that, what the peer
/// takes late makes room again. Not byte by byte, which takes a busy machine minutes.
pub const FILL: &str = "
def fill(s):
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 1 << 16) # from now on the buffer does not grow
    while True:
        info = s.getsockopt(socket.IPPROTO_TCP, socket.TCP_INFO, 28)
        probes = info[4] > 0 and not any(info[24:]) # tcpi_backoff, tcpi_unacked
        try: s.send(bytes(1 << 16), socket.MSG_DONTWAIT)
        except BlockingIOError:
            if probes: return
            time.sleep(0.01)
";

/// A program to run, plain or tuned.
pub struct Program {
    command: Command,
    limit: Duration,
    library: Option<PathBuf>,
    directory: TempDir,
}

impl Program {
    /// A program with a clean environment.
    pub fn new(program: impl AsRef<OsStr>) -> Self {
        let mut command = Command::new(program);
        command.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default()).env("LC_ALL", "C");
        command.stdin(Stdio::null()).process_group(0);
        Self { command, limit: LIMIT, library: None, directory: TempDir::new().expect("temporary directory") }
    }

    /// A C probe.
    pub fn probe(name: &'static str) -> Self {
        Self::new(probe(name))
    }

    /// A python program.
    pub fn python(script: &str) -> Self {
        Self::new(python()).args(["-I", "-c", script])
    }

    pub fn args<S: AsRef<OsStr>>(mut self, args: impl IntoIterator<Item = S>) -> Self {
        self.command.args(args);
        self
    }

    pub fn env(mut self, name: impl AsRef<OsStr>, value: impl AsRef<OsStr>) -> Self {
        self.command.env(name, value);
        self
    }

    pub fn limit(mut self, limit: Duration) -> Self {
        self.limit = limit;
        self
    }

    pub fn stdin(mut self, stdin: impl Into<Stdio>) -> Self {
        self.command.stdin(stdin);
        self
    }

    /// Run inside a network namespace.
    pub fn inside(mut self, namespace: &Namespace) -> Self {
        namespace.enter_on_exec(&mut self.command);
        self
    }

    /// Preloads the library, with these settings (names without the prefix).
    pub fn tuned<V: AsRef<OsStr>>(self, settings: &[(&str, V)]) -> Self {
        self.tuned_by(library(), settings)
    }

    /// Preloads a certain library.
    pub fn tuned_by<V: AsRef<OsStr>>(mut self, library: PathBuf, settings: &[(&str, V)]) -> Self {
        self.command.env("LD_PRELOAD", &library);
        // The line of level info in the log file is the proof that the library was at work in the child.
        let log = self.log_path();
        self.command.env("TCPTUNE_LOG", "info").env("TCPTUNE_LOG_FILE", log);
        for (name, value) in settings {
            self.command.env(format!("TCPTUNE_{name}"), value);
        }
        self.library = Some(library);
        self
    }

    /// Tuned if there are settings, plain if there are none: for tests that run the same program both ways.
    pub fn with(self, settings: Option<&[(&str, &str)]>) -> Self {
        match settings {
            Some(settings) => self.tuned(settings),
            None => self,
        }
    }

    fn log_path(&self) -> PathBuf {
        self.directory.path().join("log")
    }

    /// Starts it.
    pub fn start(mut self) -> Running {
        let out = self.directory.path().join("out");
        let err = self.directory.path().join("err");
        self.command.stdout(File::create(&out).expect("output file"));
        self.command.stderr(File::create(&err).expect("output file"));
        let started = Instant::now();
        let child = self.command.spawn().unwrap_or_else(|e| panic!("{:?} starts: {e}", self.command));
        Running { program: self, child, started, out, err }
    }

    /// Runs it to its end or its limit.
    pub fn run(self) -> Ended {
        self.start().wait()
    }
}

/// A program that runs; killed when dropped.
pub struct Running {
    program: Program,
    child: Child,
    started: Instant,
    out: PathBuf,
    err: PathBuf,
}

impl Running {
    pub fn pid(&self) -> i32 {
        i32::try_from(self.child.id()).expect("a process id")
    }

    /// What it has printed so far.
    pub fn stdout(&self) -> String {
        read(&self.out)
    }

    /// Waits until it has printed `text`.
    pub fn printed(&self, text: &str) {
        eventually(&format!("the child prints {text:?}"), || self.stdout().contains(text));
    }

    /// Ends it, and all that it started, by a signal.
    pub fn kill(mut self) -> Ended {
        self.end_group();
        self.wait()
    }

    fn end_group(&mut self) {
        // SAFETY: the child leads a process group of its own, and has not been waited for.
        unsafe { libc::kill(-self.pid(), libc::SIGKILL) };
    }

    /// Waits for its end; at the limit it is killed. The library must have been at work in it, if it was to be.
    pub fn wait(self) -> Ended {
        let library = self.program.library.clone();
        let ended = self.wait_unproven();
        if let Some(library) = library {
            let at_work = ended.log.contains("info: in force");
            assert!(at_work, "{} was at work in the child: {ended:#?}", library.display());
        }
        ended
    }

    /// As `wait`, for tests that look for the library's messages themselves.
    pub fn wait_unproven(mut self) -> Ended {
        let mut killed = false;
        let status = loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                break status;
            }
            if self.started.elapsed() >= self.program.limit {
                killed = true;
                self.end_group();
                break self.child.wait().expect("wait");
            }
            thread::sleep(Duration::from_millis(3));
        };
        Ended {
            status,
            killed,
            elapsed: self.started.elapsed(),
            stdout: read(&self.out),
            stderr: read(&self.err),
            log: read(&self.program.log_path()),
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        if matches!(self.child.try_wait(), Ok(None)) {
            self.end_group();
            let _ = self.child.wait();
        }
    }
}

/// A program that has ended.
#[derive(Debug)]
pub struct Ended {
    pub status: ExitStatus,
    /// It was still running at its limit.
    pub killed: bool,
    pub elapsed: Duration,
    pub stdout: String,
    pub stderr: String,
    /// What the library wrote to its log file.
    pub log: String,
}

impl Ended {
    /// Asserts that it ended by itself, with status 0, and gives what it printed.
    pub fn succeeded(&self) -> &str {
        assert!(self.status.success(), "{self:#?}");
        &self.stdout
    }

    pub fn code(&self) -> Option<i32> {
        assert_eq!(self.status.signal(), None, "{self:#?}");
        self.status.code()
    }

    /// The value of a line `name=value` of its output.
    pub fn value(&self, name: &str) -> &str {
        self.stdout
            .lines()
            .find_map(|line| line.strip_prefix(name)?.strip_prefix('='))
            .unwrap_or_else(|| panic!("no {name} in {self:#?}"))
    }

    /// The same, as a number.
    pub fn number(&self, name: &str) -> i64 {
        self.value(name).parse().unwrap_or_else(|e| panic!("{name}: {e}: {self:#?}"))
    }

    /// The same, as milliseconds.
    pub fn milliseconds(&self, name: &str) -> Duration {
        Duration::from_millis(u64::try_from(self.number(name)).expect("a time"))
    }
}

fn read(path: &Path) -> String {
    fs::read(path).map(|bytes| String::from_utf8_lossy(&bytes).into_owned()).unwrap_or_default()
}

/// Waits, within bounds, for something that has to become true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(5);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(5));
    }
}

/// How late something may be on a busy machine. Where another end must be told from the right one, it comes later still, or
/// is another error.
pub const LATE: Duration = Duration::from_secs(5);

/// Asserts that `took` is not before `due` and at most `slack` later.
pub fn assert_on_time(took: Duration, due: Duration, slack: Duration) {
    let early = Duration::from_millis(5); // of the clock ticks of two processes
    assert!(took + early >= due && took <= due + slack, "took {took:?}, due at {due:?} + {slack:?} at most");
}
