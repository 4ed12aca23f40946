//! `tcptune apply` changes the sockets of running programs, and harms none of them.

use std::process::Command;
use std::thread;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};

use crate::harness::*;
use crate::inspect::{by_fd, sockets};
use crate::namespace::Namespace;

/// Drops packets to and from this port from now on.
pub fn drop_packets(namespace: &Namespace, port: u16) {
    namespace.run("nft", &["add table inet hole"]);
    namespace.run("nft", &["add chain inet hole in { type filter hook input priority 0; }"]);
    namespace.run("nft", &["add rule inet hole in tcp dport", &port.to_string(), "drop"]);
    namespace.run("nft", &["add rule inet hole in tcp sport", &port.to_string(), "drop"]);
}

/// What became of a setting on a socket.
fn change<'a>(socket: &'a Json, setting: &str) -> &'a Json {
    let changes = socket["changes"].as_array().unwrap_or_else(|| panic!("{socket:#}"));
    changes.iter().find(|change| change["setting"] == setting).unwrap_or_else(|| panic!("{setting}: {socket:#}"))
}

#[test]
fn what_it_says_was_set_the_program_reads_itself() {
    let mut program = Running::start(&mut sockets(true));
    let before = program.json();
    let flags = descriptors(program.pid());
    let fd = before[1]["fd"].clone();
    let args =
        ["--fd", &fd.to_string(), "--keepidle", "31", "--user-timeout", "auto", "--nodelay", "off", "--tos", "ef"];
    let dry = tcptune("apply", program.pid(), &[&args[..], &["--json", "--dry-run"]].concat()).json();
    assert_eq!(
        (&dry["dry_run"], &change(&dry["sockets"][0], "keepidle")["outcome"]),
        (&json!(true), &json!("would_set"))
    );
    program.say("again");
    assert_eq!(program.json()[1], before[1], "a dry run changes nothing");

    let done = tcptune("apply", program.pid(), &[&args[..], &["--json"]].concat()).json();
    assert_eq!(done["sockets"].as_array().map(Vec::len), Some(1), "{done:#}");
    // This socket of sockets.py has intervals of 20 s and 3 probes.
    for (setting, before, after) in [
        ("keepalive", json!(true), json!(true)),
        ("keepidle", json!(100), json!(31)),
        ("user_timeout", json!(30_000), json!((31 + 20 * 3) * 1000)),
        ("nodelay", json!(true), json!(false)),
        ("tos", json!(0), json!(184)),
    ] {
        let change = change(&done["sockets"][0], setting);
        assert_eq!(
            (&change["before"], &change["after"], &change["outcome"]),
            (&before, &after, &json!("set")),
            "{setting}"
        );
    }
    program.say("again");
    let after = program.json();
    assert_eq!(after[1]["hex"]["keepidle"], "1f000000", "31, as the program reads it");
    assert_eq!(after[1]["hex"]["nodelay"], "00000000");
    assert_eq!(after[0], before[0], "others are as before");
    assert_eq!(after[2], before[2], "others are as before");
    assert_eq!(descriptors(program.pid()), flags, "descriptors and file status flags are as before");
    let now = inspect(program.pid());
    assert_eq!(by_fd(&now, &fd)["options"]["keepidle"], 31);
}

#[test]
fn it_neither_stops_nor_shuts_down_nor_sets_flags() {
    let mut program = Running::start(&mut sockets(true));
    program.line();
    let trace = tempfile::NamedTempFile::new().expect("a file");
    let pid = program.pid().to_string();
    for subcommand in [&["inspect", &pid][..], &["apply", &pid, "--keepidle", "9"]] {
        let mut strace = Command::new("strace");
        strace.args(["-f", "-o"]).arg(trace.path()).arg(TCPTUNE).args(subcommand);
        let ended = Ended::of(&mut strace);
        let calls = std::fs::read_to_string(trace.path()).expect("a trace");
        assert!(calls.contains("pidfd_getfd(") && calls.contains("getsockopt("), "{ended:#?}");
        assert_eq!(calls.contains("setsockopt("), subcommand[0] == "apply");
        for call in ["ptrace(", "kill(", "shutdown(", "F_SETFL", "F_SETFD", "FIONBIO", "process_vm_", "SO_ERROR"] {
            assert!(!calls.contains(call), "{call}: {calls}");
        }
        // One duplicate at a time: each is closed before the next one is made.
        let made = calls.lines().filter(|line| line.contains("pidfd_getfd(") && !line.contains("= -1"));
        let numbers: std::collections::HashSet<_> =
            made.filter_map(|line| line.rsplit_once("= ")).map(|(_, n)| n).collect();
        assert_eq!(numbers.len(), 1, "{calls}");
    }
}

#[test]
fn what_does_not_fit_a_socket_is_said() {
    let mut program = Running::start(&mut sockets(true));
    let own = program.json();
    let (listener, client) = (own[0]["fd"].to_string(), own[1]["fd"].to_string());
    for (fd, flag, value, why) in [
        (&client, "--syncnt", "3", "before ESTABLISHED"),
        (&client, "--maxseg", "1000", "before connect(2), or on a listener"),
        (&client, "--fastopen-connect", "on", "before connect(2)"),
        (&client, "--reuseport", "on", "before bind(2)"),
        (&client, "--defer-accept", "5s", "on a listener"),
        (&client, "--v6only", "on", "on an IPv6 socket"),
        (&listener, "--recv-timeout", "5s", "on a connection"),
    ] {
        let ended = tcptune("apply", program.pid(), &["--json", "--fd", fd, flag, value]);
        let done = ended.any_json();
        let change = &done["sockets"][0]["changes"][0];
        assert_eq!((ended.code, &change["outcome"]), (Some(1), &json!("not_set")), "{flag}: {done:#}");
        assert!(change["why"].as_str().is_some_and(|text| text.ends_with(why)), "{flag}: {done:#}");
        assert!(ended.stderr.contains("fits none"), "{}", ended.stderr);
    }
    // Where one socket takes it, it is no failure that others do not.
    let done = tcptune("apply", program.pid(), &["--json", "--defer-accept", "5s", "--keepidle", "7s"]).json();
    let changed = done["sockets"].as_array().expect("sockets");
    let listening = changed.iter().find(|socket| socket["fds"][0] == own[0]["fd"]).expect("the listener");
    assert_eq!(change(listening, "keepidle")["after"], 7);
    assert!(change(listening, "defer_accept")["after"].as_i64() >= Some(5), "rounded up to a retry");
    // Settings that are not about sockets that are there already.
    for args in [
        ["--connect-timeout", "3s"],
        ["--accept-timeout", "7s"],
        ["--backlog", "5"],
        ["--source", "127.0.0.1"],
        ["--mptcp", "on"],
    ] {
        let ended = tcptune("apply", program.pid(), &args);
        assert_eq!(
            (ended.code, ended.stderr.contains("not for sockets that are there")),
            (Some(2), true),
            "{ended:#?}"
        );
    }
}

/// A server that sets no option, and leaves a connection in TIME_WAIT on its port.
const SERVER: &str = "
import socket
s = socket.socket(); s.bind(('127.0.0.1', 0)); s.listen(1)
c = socket.create_connection(s.getsockname()); a, _ = s.accept()
print(s.getsockname()[1]); input()
a.close(); c.recv(1); c.close()
";

/// The next one on its port, which has `REUSEADDR`.
const NEXT: &str = "
import socket, sys
s = socket.socket(); s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
try: s.bind(('127.0.0.1', int(sys.argv[1]))); print('bound')
except OSError as e: print(e.strerror)
";

#[test]
fn a_server_is_made_ready_for_its_restart() {
    for (ready, bind) in [(false, "Address already in use"), (true, "bound")] {
        let mut server = Running::start(&mut python(SERVER));
        let port = server.line();
        if ready {
            let done = tcptune("apply", server.pid(), &["--reuseaddr", "on", "--json"]).json();
            let sockets = done["sockets"].as_array().expect("sockets");
            assert_eq!(sockets.len(), 3, "{done:#}");
            assert!(sockets.iter().all(|socket| change(socket, "reuseaddr")["after"] == true), "{done:#}");
        }
        server.say("end");
        assert_eq!(server.wait(), Some(0));
        assert_eq!(Running::start(python(NEXT).arg(&port)).line(), bind, "made ready: {ready}");
    }
}

#[test]
fn a_profile_gives_what_fits() {
    let mut program = Running::start(&mut sockets(false));
    let own = program.json();
    let fd = own[1]["fd"].to_string();
    // It has a backlog, too, which is for `tcptune run`.
    let done =
        tcptune("apply", program.pid(), &["--profile", "server", "--keepidle", "290", "--fd", &fd, "--json"]).json();
    let socket = &done["sockets"][0];
    let after = ["keepidle", "keepintvl", "user_timeout"].map(|setting| change(socket, setting)["after"].clone());
    assert_eq!(after, [json!(290), json!(30), json!((290 + 30 * 4) * 1000)], "{done:#}");
    assert_eq!(change(socket, "reuseaddr")["after"], true, "{done:#}");
}

#[test]
fn a_refusal_is_said_per_socket_and_the_others_are_set() {
    let mut program = Running::start(&mut sockets(true));
    let own = program.json();
    let fd = own[1]["fd"].to_string();
    let args = ["--json", "--fd", &fd, "--keepidle", "33", "--congestion", "nosuch", "--bindtodevice", "nosuch0"];
    let ended = tcptune("apply", program.pid(), &args);
    let done = ended.any_json();
    let socket = &done["sockets"][0];
    assert_eq!((ended.code, &change(socket, "keepidle")["after"]), (Some(1), &json!(33)), "{ended:#?}");
    assert!(ended.stderr.contains("refused 2 of 4"), "{}", ended.stderr);
    assert!(
        change(socket, "congestion")["why"].as_str().is_some_and(|why| why.contains("tcp_available")),
        "{socket:#}"
    );
    assert!(change(socket, "bindtodevice")["why"].as_str().is_some_and(|why| why.contains("ENODEV")), "{socket:#}");
    assert_eq!(by_fd(&inspect(program.pid()), &own[1]["fd"])["options"]["keepidle"], 33);
}

#[test]
fn sockets_are_chosen_by_peer_port_and_descriptor() {
    let mut program = Running::start(&mut sockets(true));
    program.line();
    let all = inspect(program.pid());
    let v6 = socket(&all, "[::1]", None)["local"].as_str().expect("an address").to_owned();
    let port = v6.rsplit(':').next().expect("a port").to_owned();
    let chosen = |args: &[&str]| {
        let ended = tcptune("apply", program.pid(), &[args, &["--json", "--dry-run", "--keepidle", "9"]].concat());
        ended.json()["sockets"].as_array().expect("sockets").len()
    };
    assert_eq!(chosen(&["--dst", "::/0"]), 2, "both ends");
    assert_eq!(chosen(&["--dst", "10.0.0.0/8,::1"]), 2);
    assert_eq!(chosen(&["--port", &port]), 3, "both ends, and the listener");
    assert_eq!(chosen(&["--port", &format!("1-2,{port}"), "--dst", "::1"]), 2);
    let none = tcptune("apply", program.pid(), &["--dst", "192.0.2.0/24", "--keepidle", "9"]);
    assert_eq!((none.code, none.stderr.contains("has no TCP socket that matches")), (Some(1), true), "{none:#?}");
    for (flag, value) in
        [("--dst", "db.example.com"), ("--dst", ""), ("--port", "70000"), ("--fd", "x"), ("--watch", "0")]
    {
        assert_eq!(tcptune("apply", program.pid(), &["--keepidle", "9", flag, value]).code, Some(2), "{flag} {value}");
    }
}

/// Asks redis for one thing after another, and checks each answer; ends when its standard input does.
const SESSION: &str = "
import select, socket, sys
s = socket.create_connection(('127.0.0.1', int(sys.argv[1]))); f = s.makefile('rb')
print(s.getsockname()[1], flush=True)
n = 0
while not select.select([sys.stdin], [], [], 0)[0]:
    value = b'%d' % n * 50
    s.sendall(b'*3\\r\\n$3\\r\\nSET\\r\\n$1\\r\\nk\\r\\n$%d\\r\\n%s\\r\\n' % (len(value), value))
    assert f.readline() == b'+OK\\r\\n'
    s.sendall(b'*2\\r\\n$3\\r\\nGET\\r\\n$1\\r\\nk\\r\\n')
    assert f.readline() == b'$%d\\r\\n' % len(value) and f.readline() == value + b'\\r\\n'
    n += 1
print(n, flush=True)";

#[test]
fn a_live_redis_session_gets_other_timers_and_goes_on() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, port) = redis(directory.path(), &["--tcp-keepalive", "300"]);
    let mut session = Running::start(python(SESSION).arg(port.to_string()));
    let client = session.line();
    let mut idle = Running::start(python(&SESSION.replace("0)[0]", "None)[0]")).arg(port.to_string()));
    let idle_port = idle.line();
    let benchmark = thread::spawn(move || {
        let mut command = Command::new("redis-benchmark");
        Ended::of(command.args(["-p", &port.to_string(), "-n", "60000", "-c", "8", "-t", "set,get", "--csv"]))
    });
    eventually("redis accepts", || tcptune("inspect", server.pid(), &[]).stdout.contains(&format!(":{idle_port}")));
    let flags = |pid| descriptors(pid).into_iter().map(|(_, flags)| flags).filter(|f| f.ends_with("04002")).count() > 0;
    assert!(flags(server.pid()), "redis' sockets are nonblocking");
    assert!(
        ss(&format!(":{port}"), &format!(":{idle_port}")).contains("timer:(keepalive,4min5"),
        "as redis has set it"
    );

    let mut times = 0;
    while times < 20 || !benchmark.is_finished() {
        let idle = if times % 2 == 0 { "1000" } else { "1100" };
        let ended = tcptune("apply", server.pid(), &["--keepidle", idle, "--user-timeout", "20s", "--json"]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        inspect(server.pid());
        times += 1;
    }
    let ended =
        tcptune("apply", server.pid(), &["--keepidle", "1200", "--keepintvl", "11", "--port", &port.to_string()]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let line = ss(&format!(":{port}"), &format!(":{idle_port}"));
    assert!(line.contains("timer:(keepalive,19min") || line.contains("timer:(keepalive,20min"), "{line}");
    let connection = socket(&inspect(server.pid()), &format!(":{port}"), Some(&format!(":{client}"))).clone();
    let options = ["keepidle", "keepintvl", "user_timeout"].map(|name| connection["options"][name].clone());
    assert_eq!(options, [json!(1200), json!(11), json!(20_000)], "{connection:#}");

    let benchmark = benchmark.join().expect("the thread ends");
    assert!(benchmark.code == Some(0) && benchmark.stdout.contains("\"GET\""), "{benchmark:#?}");
    session.say("");
    let answers: u64 = session.line().parse().expect("a number");
    assert!(answers > 100 && session.wait() == Some(0), "each answer was right: {answers}");
    idle.say("");
    assert_eq!(idle.line().parse::<u64>().ok(), Some(0));
    assert_eq!(idle.wait(), Some(0));
}

#[test]
fn a_dead_peer_is_noticed_within_the_new_time() {
    let Some(namespace) = Namespace::or_skip("a_dead_peer_is_noticed_within_the_new_time") else { return };
    let script = "
import socket, sys, time
s = socket.create_server(('127.0.0.1', 7000)); c = socket.create_connection(('127.0.0.1', 7000)); a, _ = s.accept()
c.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
print('connected', flush=True)
try:
    c.recv(1)
except OSError as e:
    print(e.errno, flush=True)";
    let mut command = python(script);
    namespace.enter_on_exec(&mut command);
    let mut program = Running::start(&mut command);
    program.line();
    drop_packets(&namespace, 7000);
    thread::sleep(Duration::from_millis(1500));
    let begun = Instant::now();
    // The connection has been idle for longer than that already: the first probe is due at once, and 3 s end it.
    let args = ["--dst", "127.0.0.1", "--keepidle", "1s", "--keepintvl", "1", "--keepcnt", "3", "--json"];
    let done = tcptune("apply", program.pid(), &args).json();
    assert_eq!(change(&done["sockets"][0], "keepidle")["before"], 7200, "{done:#}");
    assert_eq!(program.line(), libc::ETIMEDOUT.to_string());
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(2500) && took < Duration::from_secs(12), "{took:?}");
}

#[test]
fn a_connect_that_hangs_can_be_ended() {
    let Some(namespace) = Namespace::or_skip("a_connect_that_hangs_can_be_ended") else { return };
    drop_packets(&namespace, 7000);
    let script = "
import socket
s = socket.socket(); print('connects', flush=True)
try:
    s.connect(('127.0.0.1', 7000))
except OSError as e:
    print(e.errno, flush=True)";
    let mut command = python(script);
    namespace.enter_on_exec(&mut command);
    let mut program = Running::start(&mut command);
    program.line();
    eventually("it connects", || inspect(program.pid())["sockets"][0]["state"] == "SYN_SENT");
    let begun = Instant::now();
    let done = tcptune("apply", program.pid(), &["--syncnt", "1", "--json"]).json();
    assert_eq!(change(&done["sockets"][0], "syncnt")["after"], 1, "{done:#}");
    assert_eq!(program.line(), libc::ETIMEDOUT.to_string());
    assert!(begun.elapsed() < Duration::from_secs(15), "the kernel alone: more than two minutes");
}

#[test]
fn watch_sets_new_sockets_and_ends_in_time() {
    let script = "
import socket, sys
s = socket.create_server(('127.0.0.1', 0)); kept = []
print(s.getsockname()[1], flush=True)
for line in sys.stdin:
    kept.append(socket.create_connection(s.getsockname()))
    print(kept[-1].getsockname()[1], flush=True)";
    let mut program = Running::start(&mut python(script));
    let server = program.line();
    let pid = program.pid().to_string();
    let watch = |time| {
        let args = ["apply", &pid, "--keepidle", "41", "--dst", "127.0.0.0/8", "--watch", time, "--json"];
        Running::start(Command::new(TCPTUNE).args(args))
    };
    let mut watching = watch("10m");
    for _ in 0..3 {
        thread::sleep(Duration::from_millis(300));
        program.say("connect");
        let client = program.line();
        let line = watching.json();
        assert_eq!(change(&line["sockets"][0], "keepidle")["after"], 41, "{line:#}");
        let timer = ss(&format!(":{client}"), &format!(":{server}"));
        // The kernel's own is two hours.
        assert!(timer.contains("timer:(keepalive,") && timer.contains("sec,0)") && !timer.contains("min"), "{timer}");
    }
    watching.kill();
    let begun = Instant::now();
    assert_eq!(watch("2s").wait(), Some(0));
    let took = begun.elapsed();
    assert!(took > Duration::from_millis(1900) && took < Duration::from_secs(20), "{took:?}");
}
