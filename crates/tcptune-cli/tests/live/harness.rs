//! Starts programs, and asks tcptune about them.

use std::ffi::OsStr;
use std::fs;
use std::io::{BufRead, BufReader, Write};
use std::path::{Path, PathBuf};
use std::process::{Child, ChildStdin, Command, Stdio};
use std::sync::mpsc::{self, Receiver};
use std::sync::{Mutex, OnceLock};
use std::thread;
use std::time::{Duration, Instant};

use serde_json::Value as Json;

/// The command under test.
pub const TCPTUNE: &str = env!("CARGO_BIN_EXE_tcptune");

/// How it ended.
#[derive(Debug)]
pub struct Ended {
    pub code: Option<i32>,
    pub stdout: String,
    pub stderr: String,
}

impl Ended {
    pub fn of(command: &mut Command) -> Self {
        let output = command.output().unwrap_or_else(|e| panic!("{command:?} starts: {e}"));
        let text = |bytes: &[u8]| String::from_utf8_lossy(bytes).into_owned();
        Self { code: output.status.code(), stdout: text(&output.stdout), stderr: text(&output.stderr) }
    }

    /// What it printed, as JSON; it succeeded.
    pub fn json(&self) -> Json {
        assert_eq!((self.code, self.stderr.as_str()), (Some(0), ""), "{self:#?}");
        self.any_json()
    }

    /// The same, whether it succeeded or not.
    pub fn any_json(&self) -> Json {
        serde_json::from_str(&self.stdout).unwrap_or_else(|e| panic!("{e}: {self:#?}"))
    }
}

/// Runs `tcptune SUBCOMMAND PID ARGS...`.
pub fn tcptune(subcommand: &str, pid: u32, args: &[&str]) -> Ended {
    Ended::of(Command::new(TCPTUNE).args([subcommand, &pid.to_string()]).args(args).env("LC_ALL", "C"))
}

/// What `tcptune inspect` says of a process, listeners among its sockets.
pub fn inspect(pid: u32) -> Json {
    tcptune("inspect", pid, &["--json", "--options", "all"]).json()
}

/// The socket of this `local` and `peer`; a part of an address may be given.
pub fn socket<'a>(all: &'a Json, local: &str, peer: Option<&str>) -> &'a Json {
    let is = |socket: &Json, key: &str, part: &str| socket[key].as_str().is_some_and(|address| address.contains(part));
    let sockets = all["sockets"].as_array().unwrap_or_else(|| panic!("{all:#}"));
    sockets
        .iter()
        .find(|socket| {
            is(socket, "local", local) && peer.map_or(socket["peer"].is_null(), |peer| is(socket, "peer", peer))
        })
        .unwrap_or_else(|| panic!("no socket {local} {peer:?} in {all:#}"))
}

/// A program that runs; killed when dropped.
pub struct Running {
    child: Child,
    stdin: Option<ChildStdin>,
    lines: Receiver<String>,
}

/// How long a program may take for its next line, or its end.
const LIMIT: Duration = Duration::from_secs(30);

impl Running {
    pub fn start(command: &mut Command) -> Self {
        let mut child = command
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .unwrap_or_else(|e| panic!("{command:?} starts: {e}"));
        let stdout = BufReader::new(child.stdout.take().expect("piped"));
        let (send, lines) = mpsc::channel();
        // It ends with the program's output, or with the test.
        thread::spawn(move || stdout.lines().map_while(Result::ok).try_for_each(|line| send.send(line)));
        Self { stdin: child.stdin.take(), child, lines }
    }

    pub fn pid(&self) -> u32 {
        self.child.id()
    }

    /// The next line that it prints.
    pub fn line(&mut self) -> String {
        let line = self.lines.recv_timeout(LIMIT);
        line.unwrap_or_else(|e| panic!("no line of the program: {e}, {:?}", self.child.try_wait()))
    }

    /// The next line, as JSON.
    pub fn json(&mut self) -> Json {
        let line = self.line();
        serde_json::from_str(&line).unwrap_or_else(|e| panic!("{e}: {line}"))
    }

    /// Writes a line to it.
    pub fn say(&mut self, line: &str) {
        let stdin = self.stdin.as_mut().expect("not closed");
        writeln!(stdin, "{line}").and_then(|()| stdin.flush()).expect("it reads");
    }

    /// Asks for its end without waiting for it.
    pub fn kill(&mut self) {
        self.child.kill().expect("it runs");
    }

    /// Waits for its end.
    pub fn wait(&mut self) -> Option<i32> {
        self.stdin = None;
        let deadline = Instant::now() + LIMIT;
        loop {
            if let Some(status) = self.child.try_wait().expect("wait") {
                return status.code();
            }
            assert!(Instant::now() < deadline, "the program does not end");
            thread::sleep(Duration::from_millis(3));
        }
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

/// A python program.
pub fn python(script: &str) -> Command {
    let mut command = Command::new("python3");
    command.args(["-I", "-u", "-c", script]);
    command
}

/// A file of `tests/live/programs`.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/live/programs").join(name)
}

/// A program compiled from a file of `tests/live/programs`.
pub fn compiled(name: &str, compiler: &str, args: &[&str]) -> PathBuf {
    compiled_from(&source(name), &name.replace('.', "-"), compiler, args)
}

/// A program compiled from any file, once for each name.
pub fn compiled_from(source: &Path, name: &str, compiler: &str, args: &[&str]) -> PathBuf {
    static MADE: Mutex<Vec<PathBuf>> = Mutex::new(Vec::new());
    let mut made = MADE.lock().unwrap_or_else(std::sync::PoisonError::into_inner);
    let program = Path::new(env!("CARGO_TARGET_TMPDIR")).join(name);
    if made.contains(&program) {
        return program;
    }
    let mut command = Command::new(compiler);
    command.args(args).args(["-o".as_ref(), program.as_os_str(), source.as_os_str()]);
    // Go wants a place for its objects, and no module.
    command.env("GOCACHE", Path::new(env!("CARGO_TARGET_TMPDIR")).join("go")).env("GO111MODULE", "off");
    let ended = Ended::of(&mut command);
    assert_eq!(ended.code, Some(0), "{name} compiles: {ended:#?}");
    made.push(program.clone());
    program
}

/// Waits, within bounds, for something that has to become true.
pub fn eventually(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(10);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        thread::sleep(Duration::from_millis(10));
    }
}

/// The line of `ss -tno` for a connection; a part of each address may be given.
pub fn ss(local: &str, peer: &str) -> String {
    let ended = Ended::of(Command::new("ss").args(["-Htno"]));
    let line = ended.stdout.lines().find(|line| {
        let columns: Vec<_> = line.split_whitespace().collect();
        columns.get(3).is_some_and(|c| c.ends_with(local)) && columns.get(4).is_some_and(|c| c.ends_with(peer))
    });
    line.unwrap_or_else(|| panic!("{local} {peer}: {ended:#?}")).to_owned()
}

/// File status flags and descriptor flags of all descriptors of a process: /proc/PID/fdinfo.
pub fn descriptors(pid: u32) -> Vec<(String, String)> {
    let mut all: Vec<_> = fs::read_dir(format!("/proc/{pid}/fdinfo"))
        .expect("it runs")
        .map(|entry| {
            let entry = entry.expect("an entry");
            let text = fs::read_to_string(entry.path()).expect("fdinfo");
            let flags = text.lines().find(|line| line.starts_with("flags:")).expect("flags");
            (entry.file_name().to_string_lossy().into_owned(), flags.to_owned())
        })
        .collect();
    all.sort();
    all
}

/// A redis server of the test's own; its port.
pub fn redis(directory: &Path, args: &[&str]) -> (Running, u16) {
    let free = std::net::TcpListener::bind("127.0.0.1:0").expect("a port");
    let port = free.local_addr().expect("its address").port();
    drop(free);
    let mut command = Command::new("redis-server");
    command.args(["--port", &port.to_string(), "--save", "", "--bind", "127.0.0.1"]).args(args).current_dir(directory);
    let server = Running::start(&mut command);
    eventually("redis listens", || std::net::TcpStream::connect(("127.0.0.1", port)).is_ok());
    (server, port)
}

/// The interpreter itself, where a wrapper script stands in PATH.
pub fn real_python() -> &'static OsStr {
    static PYTHON: OnceLock<std::ffi::OsString> = OnceLock::new();
    PYTHON.get_or_init(|| {
        let ended = Ended::of(&mut python("import sys; print(sys.executable, end='')"));
        ended.stdout.into()
    })
}
