//! What a running process is found to go by is read from its memory, and nothing that it names is opened.

use std::fs;
use std::io::{BufRead, BufReader, Read};
use std::os::unix::process::CommandExt;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::checks::Waiting;
use crate::harness::{clean, compiled_source, directory, library, python, said, tcptune};

/// Writes a title over its arguments and its environment, as setproctitle(3) does.
const TITLE: &str = r#"
#include <stdio.h>
#include <string.h>
extern char **environ;
int main(int argc, char **argv)
{
    char *end = argv[0];
    for (char **e = environ; *e; e++)
        end = *e + strlen(*e);
    for (int i = 1; i < argc; i++)
        if (argv[i] + strlen(argv[i]) > end)
            end = argv[i] + strlen(argv[i]);
    memset(argv[0], 0, (size_t)(end - argv[0]));
    strcpy(argv[0], "worker: idle");
    char c;
    if (fread(&c, 1, 1, stdin) == 1)
        putchar(c);
    fflush(stdout);
    return fread(&c, 1, 1, stdin) == 1;
}
"#;

#[test]
fn a_process_title_over_the_environment_hides_nothing() {
    let directory = directory();
    let program = compiled_source(directory.path(), "title", TITLE);
    let rules = "dst=10.0.0.0/8 : keepidle=5 ; role=server : off";
    let config = directory.path().join("settings");
    fs::write(&config, "\nnodelay = on\n").expect("written");
    let mut command = tcptune(["--keepidle", "77", "--rule", rules, "--config"]);
    let waiting = Waiting::start(
        command
            .arg(&config)
            .arg(&program)
            .env("TCPTUNE_KEEPIDEL", "1")
            .env("TCPTUNE_PROFILE", "server")
            .stderr(Stdio::null()),
    );
    let environ = fs::read(format!("/proc/{}/environ", waiting.0.id())).expect("it runs");
    assert!(!environ.windows(8).any(|bytes| bytes == b"TCPTUNE_"), "the title is over it");
    // What the file says by now is not what the library has read.
    fs::write(&config, "nodelay = off\n").expect("written");
    let (report, code) = waiting.check();
    assert_eq!((&report["tuned"], code), (&Value::Bool(true), Some(0)), "{report:#}");
    assert_eq!((&report["settings"]["KEEPIDLE"], &report["settings"]["NODELAY"]), (&"77s".into(), &"on".into()));
    assert_eq!(report["sources"]["KEEPIDLE"], "environment");
    assert_eq!(report["sources"]["NODELAY"].as_str(), Some(&*format!("{}:2", config.display())));
    assert!(
        report["sources"]["BACKLOG"].as_str().is_some_and(|from| from.starts_with("profile server:")),
        "{report:#}"
    );
    assert_eq!((&report["rules"], &report["version"]), (&2.into(), &"0.1.0".into()), "{report:#}");
    assert!(report["wrong"][0].as_str().is_some_and(|wrong| wrong.contains("TCPTUNE_KEEPIDEL")), "{report:#}");
    let table = said(&mut tcptune(["check", &waiting.0.id().to_string()])).stdout;
    for line in ["KEEPIDLE=77s (environment)", "TCPTUNE_RULES:1:1: KEEPALIVE=on", "off"] {
        assert!(table.contains(line), "{line}: {table}");
    }
}

#[test]
fn nothing_that_a_process_names_is_opened() {
    let directory = directory();
    let secret = directory.path().join("secret");
    fs::write(&secret, "keepidle = not for others\n").expect("written");
    let list = format!("{0}/libtcptune.so:{1}", directory.path().display(), library().display());
    let mut command = Command::new("cat");
    clean(&mut command).env("TCPTUNE_CONFIG", &secret).env("LD_PRELOAD", &list).stderr(Stdio::null());
    let own = Waiting::start(&mut command);
    fs::write(&secret, "keepcnt = a secret of root\n").expect("written");
    let mut without = Command::new("cat");
    clean(&mut without).env("TCPTUNE_CONFIG", &secret).env("LD_PRELOAD", "/etc/libtcptune.so").stderr(Stdio::null());
    let without = Waiting::start(&mut without);
    for (waiting, tuned) in [(own, false), (without, false)] {
        let pid = waiting.0.id().to_string();
        let strace =
            ["-f", "-y", "-e", "trace=open,openat,openat2,stat,newfstatat,statx,readlink", "-o", "/dev/stderr"];
        let library = format!("TCPTUNE_LIBRARY={}", library().display());
        let output = Command::new("strace")
            .args(strace)
            .args(["env", &library, crate::harness::TCPTUNE, "check", &pid])
            .output()
            .expect("strace runs");
        let (text, trace) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        assert!(trace.contains(&format!("/proc/{pid}/")), "{trace}");
        assert!(!text.contains("a secret of root") && !trace.contains("secret"), "{text}{trace}");
        // Only whether it is there, within the root directory of the process.
        for line in trace.lines().filter(|line| line.contains("libtcptune.so") && line.contains("open")) {
            let ours = line.contains(&*crate::harness::library().to_string_lossy());
            assert!(ours || (line.contains("O_PATH") && line.contains("RESOLVE_IN_ROOT")), "{line}");
        }
        assert_eq!(output.status.success(), tuned, "{text}");
    }
}

/// A python program that says when it is ready, and waits for its end.
fn counting(script: &str, settings: &[&str]) -> (Child, String) {
    let mut command = tcptune(settings.iter().copied().chain([python(), "-I", "-u", "-c", script]));
    let mut child = command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts");
    let mut line = String::new();
    BufReader::new(child.stdout.as_mut().expect("piped")).read_line(&mut line).expect("ready");
    (child, line.trim().to_owned())
}

#[test]
fn counts_of_a_running_process() {
    // A listener whose queue is full answers nobody.
    let script = "
import errno, socket, sys
l = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(l.getsockname())
f = socket.socket(); f.bind(('127.0.0.1', 0)); f.listen(0); full = []
for _ in range(2):
    s = socket.socket(); s.setblocking(False); s.connect_ex(f.getsockname()); full.append(s)
timed_out = 0
while timed_out < 2:
    s = socket.socket()
    timed_out += s.connect_ex(f.getsockname()) == errno.ETIMEDOUT
print('%s:%d' % f.getsockname(), flush=True); sys.stdin.read()";
    let (mut child, peer) = counting(script, &["--stats", "on", "--connect-timeout", "300ms", "--keepidle", "60"]);
    let pid = child.id().to_string();
    let stats: Value = serde_json::from_str(said(&mut tcptune(["stats", &pid, "--json"])).ok()).expect("JSON");
    let counts = &stats["counts"];
    assert_eq!((&counts["timed_out"], &counts["refused"]), (&2.into(), &0.into()), "{stats:#}");
    assert!(counts["connects"].as_i64() >= Some(5) && counts["seen"].as_i64() >= Some(7), "{stats:#}");
    let peers = counts["timed_out_peers"].as_array().expect("peers");
    assert_eq!(
        (peers.len(), &peers[0]["peer"], &peers[0]["times"]),
        (1, &peer.as_str().into(), &2.into()),
        "{stats:#}"
    );
    assert!(peers[0]["slowest_ms"].as_i64().is_some_and(|ms| (290..5000).contains(&ms)), "{stats:#}");
    let table = said(&mut tcptune(["stats", &pid]));
    assert!(table.ok().contains("2 timed out") && table.stdout.contains(&peer), "{table:?}");
    let check: Value = serde_json::from_str(&said(&mut tcptune(["check", "--json", &pid])).stdout).expect("JSON");
    assert_eq!(check["counts"]["timed_out"], 2, "{check:#}");

    // Each look shows what there is by then, and the process may be ended by a signal meanwhile.
    for subcommand in ["check", "stats"] {
        let mut command = tcptune([subcommand, "--watch", "100ms", &pid]);
        let mut watching = command.stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let mut lines = BufReader::new(watching.stdout.take().expect("piped")).lines().map_while(Result::ok);
        assert_eq!(lines.by_ref().filter(|line| line.contains("2 timed out")).take(3).count(), 3, "{subcommand}");
        if subcommand == "stats" {
            child.kill().expect("it runs");
            child.wait().expect("it ends");
            lines.by_ref().count();
            let mut said = String::new();
            watching.stderr.take().expect("piped").read_to_string(&mut said).expect("text");
            assert!(said.contains("has ended"), "{said}");
        } else {
            watching.kill().expect("it runs");
        }
        watching.wait().expect("it ends");
    }
}

/// Without `STATS`, at the default level.
#[test]
fn every_tuned_process_counts() {
    let script = "
import errno, os, select, socket, sys, time
l = socket.create_server(('127.0.0.1', 0)); c = socket.create_connection(l.getsockname())
f = socket.socket(); f.bind(('127.0.0.1', 0)); f.listen(0); full = []
for _ in range(2):
    s = socket.socket(); s.setblocking(False); s.connect_ex(f.getsockname()); full.append(s)
s = socket.socket(); assert s.connect_ex(f.getsockname()) == errno.ETIMEDOUT
for s in full:
    select.select([], [s], []); s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
connected, told = os.pipe()
child = os.fork()
if child == 0:
    s = socket.create_connection(l.getsockname()); os.write(told, b'1')
    time.sleep(60); os._exit(0)
os.read(connected, 1); print(child, flush=True); sys.stdin.read(); os.kill(child, 9)";
    let (mut child, forked) = counting(script, &["--connect-timeout", "300ms", "--congestion", "no-such"]);
    let counts = |pid: &str| {
        let stats: Value = serde_json::from_str(said(&mut tcptune(["stats", pid, "--json"])).ok()).expect("JSON");
        stats["counts"].clone()
    };
    let number = |counts: &Value, name: &str| counts[name].as_i64().unwrap_or_else(|| panic!("{name}: {counts:#}"));
    let pid = child.id().to_string();
    let of_parent = counts(&pid);
    // Sockets: two listeners, a client, two that do not wait, and one that times out; the first of those that do not
    // wait may get into the queue of the listener.
    assert_eq!((number(&of_parent, "seen"), number(&of_parent, "connects")), (6, 4), "{of_parent:#}");
    assert!((2..=3).contains(&number(&of_parent, "timed_out")), "{of_parent:#}");
    assert_eq!((number(&of_parent, "refused"), &of_parent["with_parent"]), (6, &false.into()), "{of_parent:#}");
    assert!(of_parent["timed_out_peers"].is_null(), "they are not told apart: {of_parent:#}");
    // A forked child goes on from there, which is said.
    let of_child = counts(&forked);
    assert_eq!((number(&of_child, "connects"), &of_child["with_parent"]), (5, &true.into()), "{of_child:#}");
    assert!(said(&mut tcptune(["check", &forked])).ok().contains("those of its parent before the fork among them"));
    drop(child.stdin.take());
    child.wait().expect("it ends");
}

#[test]
fn what_counts_nothing_says_so() {
    let (mut child, _) = counting("import sys; print('ready', flush=True); sys.stdin.read()", &["--disable", "on"]);
    let refused = said(&mut tcptune(["stats", &child.id().to_string()]));
    assert!(refused.refused(1).contains("counts nothing: it is not tuned"), "{refused:?}");
    drop(child.stdin.take());
    child.wait().expect("it ends");
    let plain = Waiting::start(clean(&mut Command::new("cat")));
    let refused = said(&mut tcptune(["stats", &plain.0.id().to_string()]));
    assert!(refused.refused(1).contains("the library is not in it"), "{refused:?}");
}

#[test]
fn a_process_of_another_user_that_has_the_variables_of_root() {
    // SAFETY: cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        println!("skipped: only root has processes of somebody else");
        return;
    }
    let mut command = Command::new("cat");
    clean(&mut command).env("TCPTUNE_CONFIG", "/etc/shadow").env("LD_PRELOAD", "/nosuch/libtcptune.so");
    let waiting = Waiting::start(command.uid(65534).gid(65534).current_dir("/").stderr(Stdio::null()));
    let said = said(&mut tcptune(["check", &waiting.0.id().to_string()]));
    assert!(said.code == Some(1) && !said.stdout.contains("root:"), "{said:?}");
    assert!(!said.stdout.contains("Wrong") && !said.stdout.contains("shadow"), "{said:?}");
}
