//! `inspect --all` where there is much to look at, and where processes come and go.

use std::fs::File;
use std::io;
use std::os::unix::process::ExitStatusExt;
use std::process::{Command, ExitStatus, Stdio};
use std::time::{Duration, Instant};

use crate::harness::*;
use crate::namespace::Namespace;

/// So many connections, both ends of which are its own; and some whose processes end again and again.
const CONNECTIONS: u32 = 10_000;

/// As many processes as it takes, where the limit of descriptors cannot be raised.
const MANY: &str = "
import os, resource, socket, sys, threading
count = int(sys.argv[1])
_, limit = resource.getrlimit(resource.RLIMIT_NOFILE)
resource.setrlimit(resource.RLIMIT_NOFILE, (limit, limit))
each = min(count, (limit - 100) // 2)
pids = []
made, done = os.pipe()
while count > 0:
    child = os.fork()
    if child == 0:
        listener = socket.create_server(('127.0.0.1', 0), backlog=100)
        ends = []
        for i in range(min(each, count)):
            if i % 1000 == 0: os.write(done, b'.')
            ends.append(socket.create_connection(listener.getsockname()))
            ends.append(listener.accept()[0])
        os.write(done, b'!')
        sys.stdin.read()
        os._exit(0)
    pids.append(str(child)); count -= each
left = len(pids)
while left > 0:
    if os.read(made, 1) == b'!': left -= 1
    else: print('more', flush=True)
print(' '.join(pids), flush=True)
stop = []
threading.Thread(target=lambda: (sys.stdin.read(), stop.append(1)), daemon=True).start()
while not stop:
    child = os.fork()
    if child == 0: os.execv('/bin/sleep', ['sleep', '0.002'])
    os.waitpid(child, 0)
";

/// What a run has taken.
struct Took {
    status: ExitStatus,
    processor: Duration,
    elapsed: Duration,
}

/// Runs it; of this child alone, whatever else the tests run.
#[allow(clippy::zombie_processes, reason = "wait4(2) waits for it")]
fn took(command: &mut Command) -> Took {
    let started = Instant::now();
    let child = command.spawn().expect("it starts");
    // SAFETY: plain data, for which all zeroes are valid.
    let mut usage: libc::rusage = unsafe { std::mem::zeroed() };
    let mut status = 0;
    // SAFETY: a child that nobody else waits for, and live places for the answers.
    let waited = unsafe { libc::wait4(child.id().cast_signed(), &raw mut status, 0, &raw mut usage) };
    assert!(waited > 0, "{}", io::Error::last_os_error());
    let time = |time: libc::timeval| {
        Duration::from_secs(time.tv_sec.cast_unsigned()) + Duration::from_micros(time.tv_usec.cast_unsigned())
    };
    Took {
        status: ExitStatus::from_raw(status),
        processor: time(usage.ru_utime) + time(usage.ru_stime),
        elapsed: started.elapsed(),
    }
}

#[test]
fn twenty_thousand_sockets() {
    const TEST: &str = "twenty_thousand_sockets";
    let Some(namespace) = Namespace::or_skip(TEST) else { return };
    let mut command = python(MANY);
    namespace.enter_on_exec(command.arg(CONNECTIONS.to_string()));
    let mut program = Running::start(&mut command);
    // Each within the time that a program may take for a line.
    let line = std::iter::repeat_with(|| program.line()).find(|line| line != "more").expect("a line");
    let pids: Vec<&str> = line.split(' ').collect();
    let count = 2 * CONNECTIONS as usize + pids.len(); // with a listener each
    let directory = tempfile::tempdir().expect("a directory");
    // Of a build that is not optimised, which takes several times as long for JSON.
    for (name, args, seconds) in [("table", &[][..], 2), ("json", &["--json"], 6), ("few", &["--state", "listen"], 2)] {
        let path = directory.path().join(name);
        let mut command = Command::new(TCPTUNE);
        command.args(["inspect", "--all"]).args(args).stdin(Stdio::null());
        command.stdout(File::create(&path).expect("made")).stderr(Stdio::null());
        let took = took(&mut command);
        println!("{name}: {:?} of processor time, {:?} in all", took.processor, took.elapsed);
        assert_eq!(took.status.code(), Some(0), "{name}");
        assert!(took.processor < Duration::from_secs(seconds), "{name}: {:?} of processor time", took.processor);
        assert!(took.elapsed < Duration::from_secs(240), "{name}: {:?}", took.elapsed);
        let text = std::fs::read_to_string(&path).expect("UTF-8");
        let is_own = |pid: &str| pids.contains(&pid);
        match name {
            "table" => {
                let own = text.lines().filter(|line| line.split(' ').next().is_some_and(is_own));
                assert_eq!(own.count(), count);
            }
            "json" => {
                let all: Vec<serde_json::Value> = serde_json::from_str(&text).expect("JSON");
                let own = all.iter().filter(|one| is_own(&one["pid"].to_string()));
                assert_eq!(own.map(|one| one["sockets"].as_array().map_or(0, Vec::len)).sum::<usize>(), count);
            }
            _ => assert!(!text.contains("ESTABLISHED") && text.contains("LISTEN"), "{text}"),
        }
    }
    program.wait();
}

/// All that is looked at ends again and again; what ended meanwhile is left out, and nothing is complained of.
#[test]
fn processes_that_end_meanwhile() {
    let script = "
import os, socket, sys, threading
listener = socket.create_server(('127.0.0.1', 0), backlog=100)
stop = []
threading.Thread(target=lambda: (sys.stdin.readline(), stop.append(1)), daemon=True).start()
print('ready', flush=True)
while not stop:
    child = os.fork()
    if child == 0:
        socket.create_connection(listener.getsockname()); os._exit(0)
    listener.accept()[0].close(); os.waitpid(child, 0)
";
    let mut program = Running::start(&mut python(script));
    program.line();
    for _ in 0..5 {
        for args in [&["--all", "--json"][..], &["--all", "--options", "all", "--json"]] {
            let ended = Ended::of(Command::new(TCPTUNE).arg("inspect").args(args));
            let all: Vec<serde_json::Value> = serde_json::from_str(&ended.stdout).expect("JSON");
            assert!(ended.code == Some(0) && all.iter().any(|one| one["pid"] == program.pid()), "{}", ended.stderr);
            let own = ended.stderr.lines().filter(|line| !line.contains("cannot be looked into"));
            assert_eq!(own.filter(|line| !line.contains("no timers")).count(), 0, "{}", ended.stderr);
        }
    }
    program.say("");
    program.wait();
}
