//! A process that ends while it is looked at, and a socket that is closed then.

use std::io::Read;
use std::net::TcpListener;
use std::process::{Command, Stdio};
use std::sync::atomic::{AtomicBool, Ordering};
use std::thread;
use std::time::{Duration, Instant};

use crate::harness::*;

const MANY: &str = "
import resource, socket, sys
_, hard = resource.getrlimit(resource.RLIMIT_NOFILE); resource.setrlimit(resource.RLIMIT_NOFILE, (min(hard, 9000), hard))
kept = []
try:
    while len(kept) < 8000: kept.append(socket.socket())
except OSError: pass
print('ready', flush=True); sys.stdin.read()";

/// The processor time that a process has taken, in ticks of the clock.
fn ticks(pid: u32) -> u64 {
    let stat = std::fs::read_to_string(format!("/proc/{pid}/stat")).unwrap_or_default();
    let fields: Vec<_> = stat.rsplit(')').next().unwrap_or_default().split_whitespace().collect();
    [11, 12].iter().filter_map(|at| fields.get(*at)?.parse::<u64>().ok()).sum()
}

#[test]
fn a_process_that_ends_half_way() {
    let mut seen = false;
    // The process ends when so much work is done, of which it cannot be known how much there is.
    for (round, work) in (0..24).map(|n| n * n).cycle().take(72).enumerate() {
        let mut program = Running::start(&mut python(MANY));
        program.line();
        let pid = program.pid().to_string();
        let args: &[&str] = if round % 4 < 3 {
            &["inspect", &pid, "--json", "--options", "all"]
        } else {
            &["apply", &pid, "--keepidle", "5"]
        };
        let mut looking =
            Command::new(TCPTUNE).args(args).stdout(Stdio::piped()).stderr(Stdio::piped()).spawn().expect("it starts");
        let begun = Instant::now();
        while ticks(looking.id()) < work && begun.elapsed() < Duration::from_secs(20) {
            thread::sleep(Duration::from_millis(1));
            // It has written all, and waits for a reader.
            if looking.try_wait().expect("wait").is_some() {
                break;
            }
        }
        program.kill();
        program.wait();
        let output = looking.wait_with_output().expect("it ends");
        let (stdout, stderr) = (String::from_utf8_lossy(&output.stdout), String::from_utf8_lossy(&output.stderr));
        match output.status.code() {
            Some(0) => assert!(stderr.is_empty(), "{stderr}"),
            Some(1) => assert!(stderr.contains("ended") || stderr.contains("there is no process"), "{stderr}"),
            other => panic!("{other:?}: {stderr}"),
        }
        if args[0] == "inspect" && stderr.contains("ended meanwhile") {
            let all: serde_json::Value = serde_json::from_str(&stdout).expect("JSON all the same");
            assert_eq!(all["ended"], true);
            seen |= all["sockets"].as_array().is_some_and(|sockets| (1..7000).contains(&sockets.len()));
        }
        if seen {
            return;
        }
    }
    panic!("no process was caught half way");
}

#[test]
fn a_close_meanwhile_reaches_the_peer_at_once() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a port");
    let script = "
import socket, sys, time
idle = [socket.socket() for _ in range(300)]
print('ready', flush=True); sys.stdin.readline()
for n in range(600):
    s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); time.sleep(0.01)
    s.send(b'%.6f' % time.monotonic()); s.close()";
    let mut program =
        Running::start(python(script).arg(listener.local_addr().expect("its address").port().to_string()));
    program.line();
    let (pid, stop) = (program.pid(), AtomicBool::new(false));
    let (worst, looks) = thread::scope(|scope| {
        let looking = scope.spawn(|| {
            let mut looks = 0;
            while !stop.load(Ordering::Relaxed) {
                looks += usize::from(tcptune("inspect", pid, &[]).code == Some(0));
            }
            looks
        });
        program.say("");
        let mut worst = Duration::ZERO;
        for _ in 0..600 {
            let (mut stream, _) = listener.accept().expect("a connection");
            let mut first = [0; 1];
            stream.read_exact(&mut first).expect("data");
            let begun = Instant::now();
            stream.read_to_end(&mut Vec::new()).expect("its end");
            worst = worst.max(begun.elapsed());
        }
        stop.store(true, Ordering::Relaxed);
        (worst, looking.join().expect("the thread ends"))
    });
    assert!(looks >= 5, "{looks}");
    assert!(worst < Duration::from_secs(5), "a FIN came {worst:?} late");
}
