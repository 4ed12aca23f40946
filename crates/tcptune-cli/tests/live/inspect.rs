//! What `tcptune inspect` says is what the program's own getsockopt says.

use std::fmt::Write;
use std::process::Command;

use serde_json::{Value as Json, json};
use tcptune_core::options::table::{OPTIONS, Opt, SOCKET_OPTIONS, Target};
use tcptune_core::options::value::{Kind, Value};
use tcptune_core::options::wire::Payload;

use crate::harness::*;

/// The rows as `sockets.py` takes them.
fn rows(v6: bool) -> String {
    let rows = OPTIONS[..SOCKET_OPTIONS].iter().fold(String::new(), |mut text, opt| {
        let Target::Socket(option) = opt.target else { return text };
        let (level, optname) = match option.v6 {
            Some(name) if v6 => (libc::IPPROTO_IPV6, name),
            _ => (option.level, option.optname),
        };
        write!(text, ",{}:{level}:{optname}", opt.name().to_ascii_lowercase()).expect("a string");
        text
    });
    rows[1..].to_owned()
}

pub fn sockets(others: bool) -> Command {
    let mut command = Command::new(real_python());
    command.args(["-I", "-u"]).arg(source("sockets.py")).args([rows(false), rows(true)]);
    command.args(others.then_some("others"));
    command
}

/// What `inspect` has to say where getsockopt gave these bytes.
fn expected(opt: &Opt, hex: &str) -> Json {
    let Target::Socket(option) = opt.target else { panic!("{}", opt.name()) };
    let mut payload = Payload::room();
    for (i, at) in (0..hex.len()).step_by(2).enumerate() {
        let byte = u8::from_str_radix(&hex[at..at + 2], 16).expect("hexadecimal");
        // SAFETY: as many bytes as there is room.
        unsafe { payload.as_mut_ptr().add(i).write(byte) };
    }
    match (opt.kind, option.wire.decode(&payload)) {
        (Kind::Bool, Value::Int(n)) => json!(n != 0),
        (Kind::Choice(choice), Value::Int(n)) => json!(choice.words().nth(usize::try_from(n).expect("an index"))),
        (Kind::Duration { word: Some(_), .. } | Kind::Size, Value::Int(-1)) => Json::Null,
        (_, Value::Int(n)) => json!(n),
        (_, Value::Name(name)) if name.is_empty() => Json::Null,
        (_, Value::Name(name)) => json!(name.to_string()),
        (_, other) => panic!("{other:?}"),
    }
}

pub fn by_fd(all: &Json, fd: &Json) -> Json {
    let sockets = all["sockets"].as_array().expect("sockets");
    let found = sockets.iter().find(|socket| socket["fds"].as_array().is_some_and(|fds| fds.contains(fd)));
    found.unwrap_or_else(|| panic!("no descriptor {fd} in {all:#}")).clone()
}

#[test]
fn every_option_is_what_the_program_reads_itself() {
    let mut program = Running::start(&mut sockets(true));
    let own = program.json();
    let all = inspect(program.pid());
    let own = own.as_array().expect("sockets");
    assert_eq!(all["sockets"].as_array().map(Vec::len), Some(own.len() + 1), "and one that is not connected");
    assert!(own.len() >= 6, "IPv4 and IPv6 at least");
    let mut compared = 0;
    for theirs in own {
        let ours = by_fd(&all, &theirs["fd"]);
        for opt in &OPTIONS[..SOCKET_OPTIONS] {
            let name = opt.name().to_ascii_lowercase();
            // Of a listener, RECV_TIMEOUT is ACCEPT_TIMEOUT; DSCP is a part of TOS. CPU and ACKs change by themselves.
            let listens = ours["state"] == "LISTEN";
            let is_other_name = (name == "recv_timeout" && listens) || (name == "accept_timeout" && !listens);
            // Linux answers it of some IPv4 sockets; it says nothing there.
            let is_other_name = is_other_name || (name == "v6only" && ours["family"] == "ipv4");
            if is_other_name || matches!(&*name, "dscp" | "incoming_cpu" | "quickack") {
                continue;
            }
            let found = &ours["options"][&name];
            match theirs["hex"][&name].as_str() {
                Some(hex) => assert_eq!(*found, expected(opt, hex), "{name} {hex}: {ours:#}"),
                None => assert!(ours["options"].get(&name).is_none(), "{name}: {ours:#}"),
            }
            compared += 1;
        }
    }
    assert!(compared >= 6 * 35, "{compared}");
}

#[test]
fn state_addresses_and_kind_of_each_socket() {
    let mut program = Running::start(&mut sockets(true));
    program.line();
    let all = inspect(program.pid());
    assert_eq!((&all["pid"], &all["ended"]), (&json!(program.pid()), &json!(false)));
    let sockets = all["sockets"].as_array().expect("sockets");
    let count = |key: &str, value: &str| sockets.iter().filter(|socket| socket[key] == value).count();
    assert_eq!((count("state", "CLOSE"), count("family", "ipv6")), (1, 3), "{all:#}");
    assert_eq!(count("state", "ESTABLISHED"), 2 * count("state", "LISTEN"), "{all:#}");
    let mptcp = count("protocol", "mptcp");
    assert!(mptcp == 3 || (mptcp == 0 && !std::path::Path::new("/proc/sys/net/mptcp").exists()), "{all:#}");
    for client in sockets.iter().filter(|socket| socket["options"]["keepalive"] == true) {
        let (local, peer) = (client["local"].as_str().expect("local"), client["peer"].as_str().expect("peer"));
        let accepted = socket(&all, peer, Some(local));
        assert!(accepted["timer"].is_null(), "{accepted:#}");
        assert_eq!(client["timer"]["kind"], "keepalive", "{client:#}");
        let left = client["timer"]["left_ms"].as_i64().expect("milliseconds");
        let idle = client["options"]["keepidle"].as_i64().expect("seconds");
        assert!(left > (idle - 10) * 1000 && left <= idle * 1000, "{client:#}");
    }
}

#[test]
fn a_shared_socket_is_one() {
    let script = "
import socket, sys
s = socket.create_server(('127.0.0.1', 0)); d = s.dup()
print(s.fileno(), d.fileno(), flush=True); sys.stdin.read()";
    let mut program = Running::start(&mut python(script));
    let fds: Vec<i32> = program.line().split(' ').map(|fd| fd.parse().expect("a number")).collect();
    let all = inspect(program.pid());
    assert_eq!(all["sockets"].as_array().map(Vec::len), Some(1), "{all:#}");
    assert_eq!(all["sockets"][0]["fds"], json!(fds));
}

#[test]
fn a_name_commands_no_terminal() {
    let script = "
import sys
open('/proc/self/comm', 'wb').write(b'a\\x1b[2Jb)\\nc'); print('ready', flush=True); sys.stdin.read()";
    let mut program = Running::start(&mut python(script));
    program.line();
    let ended = tcptune("inspect", program.pid(), &[]);
    assert_eq!(ended.stdout, format!("a\\x1b[2Jb)\\x0ac (PID {}): 0 TCP sockets\n", program.pid()));
}

/// Compares what a program has printed of one socket of its own.
fn same(all: &Json, own: &Json) {
    let ours = by_fd(all, &own["fd"]);
    let names: Vec<_> = own.as_object().expect("values").keys().filter(|name| *name != "fd").collect();
    assert!(names.len() >= 8, "{own}");
    for name in names {
        let found = &ours["options"][name];
        let found = found.as_bool().map_or(found.clone(), |on| json!(i32::from(on)));
        assert_eq!(found, own[name], "{name}: {ours:#}");
    }
}

#[test]
fn a_static_program() {
    let program = compiled("static.c", "cc", &["-static", "-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror"]);
    let mut running = Running::start(&mut Command::new(program));
    let own = running.json();
    assert_eq!(own["keepidle"], 123);
    same(&inspect(running.pid()), &own);
}

#[test]
fn a_go_program() {
    let program = compiled("gocode.go", "go", &["build"]);
    let mut running = Running::start(&mut Command::new(program));
    let own = running.json();
    assert_eq!((&own["keepidle"], &own["nodelay"]), (&json!(44), &json!(1)));
    same(&inspect(running.pid()), &own);
}

#[test]
fn node() {
    let mut running = Running::start(Command::new("node").arg(source("node.js")));
    let own = running.json();
    let socket = by_fd(&inspect(running.pid()), &own["fd"]);
    let options = &socket["options"];
    assert_eq!(
        (&options["nodelay"], &options["keepalive"], &options["keepidle"]),
        (&json!(true), &json!(true), &json!(91))
    );
    assert!(ss(&format!(":{}", own["port"]), "").contains("timer:(keepalive,1min3"), "91 s");
    assert!(socket["timer"]["left_ms"].as_i64().is_some_and(|ms| (80_000..=91_000).contains(&ms)), "{socket:#}");
}

#[test]
fn redis() {
    let directory = tempfile::tempdir().expect("a directory");
    let (server, port) = crate::harness::redis(directory.path(), &["--tcp-keepalive", "77"]);
    let client = std::net::TcpStream::connect(("127.0.0.1", port)).expect("it listens");
    let own = client.local_addr().expect("its address").to_string();
    eventually("redis accepts", || tcptune("inspect", server.pid(), &[]).stdout.contains(&own));
    let all = inspect(server.pid());
    let options = &socket(&all, &format!(":{port}"), Some(&own))["options"];
    // anetKeepAlive of redis: interval a third of the time, three probes.
    let times = ["keepidle", "keepintvl", "keepcnt", "nodelay"].map(|name| options[name].clone());
    assert_eq!(times, [json!(77), json!(25), json!(3), json!(true)], "{options:#}");
}

#[test]
fn a_blocked_connection_shows_its_retransmissions() {
    let Some(namespace) = crate::namespace::Namespace::or_skip("a_blocked_connection_shows_its_retransmissions") else {
        return;
    };
    let script = "
import socket, sys
s = socket.create_server(('127.0.0.1', 7000)); c = socket.create_connection(('127.0.0.1', 7000)); a, _ = s.accept()
print('connected', flush=True); sys.stdin.readline()
c.send(b'x'); print('sent', flush=True); sys.stdin.read()";
    let mut command = python(script);
    namespace.enter_on_exec(&mut command);
    let mut program = Running::start(&mut command);
    program.line();
    crate::apply::drop_packets(&namespace, 7000);
    program.say("");
    program.line();
    eventually("it retransmits", || {
        let all = inspect(program.pid());
        let client = socket(&all, "127.0.0.1", Some(":7000"));
        client["timer"]["kind"] == "retransmit" && client["info"]["retransmits"].as_i64() >= Some(2)
    });
    let table = tcptune("inspect", program.pid(), &[]).stdout;
    assert!(table.lines().any(|line| line.contains("retransmit ") && line.contains('×')), "{table}");
}

#[test]
fn watch_goes_on_until_the_process_ends() {
    let mut program = Running::start(&mut sockets(false));
    program.line();
    let pid = program.pid().to_string();
    let mut watching = Running::start(Command::new(TCPTUNE).args(["inspect", &pid, "--json", "--watch=100ms"]));
    for _ in 0..3 {
        assert_eq!(watching.json()["pid"], json!(program.pid()), "a line for each look");
    }
    program.kill();
    program.wait();
    assert_eq!(watching.wait(), Some(0));
}
