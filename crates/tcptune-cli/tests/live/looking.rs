//! Looking at a process harms nothing, and finds whom it hangs on.

use std::process::Command;
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;

use serde_json::json;

use crate::harness::*;

/// Connects that nobody answers: the queue of the listener is full.
const CONNECTING: &str = "
import socket, sys
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(0)
kept = []
for _ in range(4):
    c = socket.socket(); c.setblocking(False); c.connect_ex(s.getsockname()); kept.append(c)
print(s.getsockname()[1], flush=True); sys.stdin.read()";

#[test]
fn a_connect_that_is_going_on_shows_its_peer() {
    let mut program = Running::start(&mut python(CONNECTING));
    let port = program.line();
    let peer = format!("127.0.0.1:{port}");
    for filter in [
        &["--state", "syn_sent"][..],
        &["--state", "SYN-SENT", "--dst", "127.0.0.0/8"],
        &["--state=syn_sent", "--port", &port],
    ] {
        let all = tcptune("inspect", program.pid(), &[&["--json"], filter].concat()).json();
        let sockets = all["sockets"].as_array().expect("sockets");
        assert!(!sockets.is_empty(), "{filter:?}: {all:#}");
        for socket in sockets {
            assert_eq!((&socket["state"], &socket["peer"]), (&json!("SYN_SENT"), &json!(peer)), "{socket:#}");
            assert_eq!(
                (&socket["timer"]["kind"], &socket["send_queue"]),
                (&json!("retransmit"), &json!(1)),
                "{socket:#}"
            );
            assert!(socket["info"]["rto_us"].as_i64() >= Some(1_000_000), "{socket:#}");
            assert_eq!(socket["options"]["keepidle"], 7200, "{socket:#}");
        }
    }
    let none = tcptune("inspect", program.pid(), &["--json", "--state", "syn_sent", "--dst", "::1"]).json();
    assert_eq!(none["sockets"], json!([]));
    let applied =
        tcptune("apply", program.pid(), &["--json", "--state", "syn_sent", "--dst", "127.0.0.0/8", "--syncnt", "3"])
            .json();
    assert_eq!(applied["sockets"][0]["peer"], json!(peer), "{applied:#}");
    let table = tcptune("inspect", program.pid(), &[]).stdout;
    assert!(
        table.lines().any(|line| line.contains("SYN_SENT") && line.contains(&peer) && line.contains("retransmit")),
        "{table}"
    );
}

#[test]
fn listeners_and_unconnected_sockets_are_not_duplicated_unless_asked() {
    let script = "
import socket, sys
l = socket.create_server(('127.0.0.1', 0), backlog=7); b = socket.socket(); b.bind(('127.0.0.1', 0)); u = socket.socket()
c = socket.create_connection(l.getsockname())
print('ready', flush=True); sys.stdin.read()";
    let mut program = Running::start(&mut python(script));
    program.line();
    let pid = program.pid().to_string();
    let traced = |options: &[&str]| {
        let strace = ["-f", "-e", "trace=pidfd_getfd", "-o", "/dev/stderr", TCPTUNE, "inspect", &pid, "--json"];
        let ended = Ended::of(Command::new("strace").args(strace).args(options));
        (ended.any_json(), ended.stderr.matches("pidfd_getfd(").count())
    };
    let (all, duplicates) = traced(&[]);
    let sockets = all["sockets"].as_array().expect("sockets");
    assert_eq!((sockets.len(), duplicates), (4, 1), "{all:#}");
    for socket in sockets {
        assert_eq!(socket["options"].is_null(), socket["state"] != "ESTABLISHED", "{socket:#}");
    }
    let listener = sockets.iter().find(|socket| socket["state"] == "LISTEN").expect("a listener");
    assert_eq!((&listener["recv_queue"], &listener["send_queue"]), (&json!(1), &json!(7)), "{listener:#}");
    assert_eq!(traced(&["--options", "none"]).1, 0);
    let (all, duplicates) = traced(&["--options", "all"]);
    assert_eq!(duplicates, 4);
    assert!(all["sockets"].as_array().expect("sockets").iter().all(|socket| socket["options"]["keepidle"] == 7200));
}

/// Closes a listener and binds its port again, and accepts a connection in between.
const REBINDING: &str = "
import errno, socket, sys, threading
def made(port):
    s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1); s.bind(('127.0.0.1', port)); s.listen()
    return s
s = made(0); port = s.getsockname()[1]; s.close()
print('ready', flush=True)
ends = []
threading.Thread(target=lambda: (sys.stdin.readline(), ends.append(1)), daemon=True).start()
tries = refused = 0
while not ends:
    tries += 1
    try:
        s = made(port); s.close()
    except OSError as e:
        refused += e.errno == errno.EADDRINUSE
        s.close()
print(tries, refused, flush=True)";

#[test]
fn a_port_is_free_as_soon_as_its_listener_is_closed() {
    let mut program = Running::start(&mut python(REBINDING));
    program.line();
    let (pid, stop) = (program.pid(), AtomicBool::new(false));
    let looks = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !stop.load(Ordering::Relaxed) {
                looks += usize::from(tcptune("inspect", pid, &[]).code == Some(0));
            }
            looks
        });
        thread::sleep(std::time::Duration::from_secs(4));
        stop.store(true, Ordering::Relaxed);
        looking.join().expect("the thread ends")
    });
    program.say("");
    let line = program.line();
    println!("{looks} looks: {line} (binds, EADDRINUSE)");
    let counts: Vec<u32> = line.split(' ').map(|count| count.parse().expect("a count")).collect();
    assert!(looks >= 5 && counts[0] > 1000, "{looks} looks, {counts:?}");
    assert_eq!(counts[1], 0, "of {} binds, {looks} looks", counts[0]);
}

#[test]
fn processes_by_name_with_children_and_all() {
    // Its own name, so that no other test is meant.
    let script = "
import os, socket, sys
name = sys.argv[1]
s = socket.create_server(('127.0.0.1', 0))
child = os.fork()
open('/proc/self/comm', 'w').write(name if child else 'child')
if child == 0:
    s = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(s.getsockname())
    print(os.getpid(), flush=True)
sys.stdin.read()";
    let name = format!("n{}", std::process::id());
    let mut program = Running::start(python(script).arg(&name));
    let child: u32 = program.line().parse().expect("a number");
    eventually("it has its name", || {
        std::fs::read_to_string(format!("/proc/{}/comm", program.pid())).is_ok_and(|comm| comm.trim() == name)
    });
    let by = |args: &[&str]| Ended::of(Command::new(TCPTUNE).arg("inspect").args(args).arg("--json")).json();
    let pids = |all: &serde_json::Value| -> Vec<u32> {
        let pids = all.as_array().expect("several").iter().map(|one| one["pid"].as_u64().expect("a number"));
        pids.map(|pid| u32::try_from(pid).expect("a PID")).collect()
    };
    let mut both = vec![program.pid(), child];
    both.sort_unstable();
    assert_eq!(pids(&by(&[&name])), [program.pid()]);
    assert_eq!(pids(&by(&[&name, "--children"])), both);
    assert_eq!(pids(&by(&[&name, &child.to_string()])), both);
    let all = Ended::of(Command::new(TCPTUNE).args(["inspect", "--all", "--json"]));
    let found = pids(&all.any_json());
    assert!(both.iter().all(|pid| found.contains(pid)), "{found:?}");
    let table = Ended::of(Command::new(TCPTUNE).args(["inspect", "--all", "--state", "established"])).stdout;
    assert!(
        table.lines().any(|line| line.starts_with(&format!("{child} child")) && line.contains("ESTABLISHED")),
        "{table}"
    );
    assert!(!table.contains("LISTEN"), "{table}");

    let applied = Ended::of(Command::new(TCPTUNE).args(["apply", &name, "--children", "--json", "--keepidle", "33"]));
    let applied = applied.json();
    assert_eq!(pids(&applied), both);
    assert!(
        applied.as_array().expect("several").iter().all(|one| !one["sockets"][0]["changes"].is_null()),
        "{applied:#}"
    );
    // One of several that is not there does not hide the others.
    let some = Ended::of(Command::new(TCPTUNE).args(["inspect", &name, "nosuchname"]));
    assert!(some.code == Some(1) && some.stdout.contains(&name), "{some:?}");
    assert!(some.stderr.contains("no process is called nosuchname"), "{some:?}");
}

#[test]
fn watch_takes_its_time_with_or_without_a_sign() {
    let mut program = Running::start(&mut python("import sys; print('ready', flush=True); sys.stdin.read()"));
    program.line();
    let pid = program.pid().to_string();
    let looks = [&["--watch", "1", &pid][..], &["--watch=1", &pid], &[&pid, "--watch", "1"], &["--watch", &pid]];
    let mut looking: Vec<_> = looks
        .iter()
        .map(|args| Running::start(Command::new(TCPTUNE).args(["inspect", "--json"]).args(*args)))
        .collect();
    for look in &mut looking {
        assert_eq!(look.json()["pid"], json!(program.pid()));
    }
    program.kill();
    program.wait();
    assert!(looking.iter_mut().all(|look| look.wait() == Some(0)));
    let wrong = Ended::of(Command::new(TCPTUNE).args(["inspect", &pid, "--watch", "soon"]));
    assert!(wrong.code == Some(2) && wrong.stderr.contains("--watch soon: not accepted"), "{wrong:?}");
}

#[test]
fn what_fails_is_said_as_what_it_is() {
    let closed = "
import os, sys, time
child = os.fork()
if child == 0:
    os.closerange(0, 1024); time.sleep(20); os._exit(0)
print(child, flush=True); sys.stdin.read()";
    let mut program = Running::start(&mut python(closed));
    let child = program.line();
    eventually("it closes all", || std::fs::read_dir(format!("/proc/{child}/fd")).is_ok_and(|fds| fds.count() == 0));
    let ended = tcptune("inspect", child.parse().expect("a number"), &[]);
    assert!(ended.code == Some(0) && ended.stdout.contains("0 TCP sockets"), "{ended:?}");
    Ended::of(Command::new("kill").arg(&child));
    let kthread = tcptune("inspect", 2, &[]);
    if std::fs::read_to_string("/proc/2/comm").is_ok_and(|comm| comm.trim() == "kthreadd") {
        assert!(kthread.code == Some(1) && kthread.stderr.contains("is a thread of the kernel"), "{kthread:?}");
    } else {
        println!("skipped: the half of what_fails_is_said_as_what_it_is about kernel threads: none is seen here");
    }
    // Descriptors run out: somewhere between the first and the last that is needed.
    let mut said = 0;
    for limit in 3..9 {
        let script = format!("ulimit -n {limit}; exec {TCPTUNE} inspect {}", program.pid());
        let ended = Ended::of(Command::new("sh").args(["-c", &script]));
        assert!(ended.code == Some(0) || !ended.stderr.contains("hidepid"), "{ended:?}");
        assert!(
            ended.code == Some(0) || ended.stderr.contains("EMFILE") || ended.stderr.contains("loading"),
            "{limit}: {ended:?}"
        );
        said += usize::from(ended.stderr.contains("EMFILE"));
    }
    assert!(said > 0, "no limit was too low");
}
