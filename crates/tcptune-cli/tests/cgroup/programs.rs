//! Programs that no library reaches, and some that one would.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::PathBuf;
use std::process::Command;
use std::time::{Duration, Instant};

use crate::group::{Group, client, listener, source};
use crate::harness::{Ended, Running, compiled_from, eventually, inspect, python, real_python, socket};
use crate::hole::BlackHole;
use crate::namespace::Namespace;

const SETTINGS: [&str; 6] = ["--keepidle", "61", "--keepcnt", "7", "--connect-timeout", "400ms"];

fn go() -> PathBuf {
    compiled_from(&source("client.go"), "client-go", "go", &["build"])
}

#[test]
fn static_c_by_system_call_and_by_io_uring() {
    let Some(group) = Group::or_skip("static_c_by_system_call_and_by_io_uring") else { return };
    group.attach(&SETTINGS);
    let musl = compiled_from(
        &source("client.c"),
        "client-musl",
        "musl-gcc",
        &["-O1", "-static", "-idirafter", "/usr/include", "-idirafter", "/usr/include/x86_64-linux-gnu"],
    );
    let (_v4, port) = listener("127.0.0.1");
    let (_v6, port_v6) = listener("::1");
    for program in [client(), musl] {
        for (ip, port) in [("127.0.0.1", &port), ("::1", &port_v6)] {
            for words in [&[][..], &["uring"], &["mptcp"], &["nonblocking"]] {
                let mut command = Command::new(&program);
                command.args([ip, port]).args(words);
                group.enter(&mut command);
                let said = Ended::of(&mut command).json();
                let of = |name: &str| said[name].as_i64();
                assert_eq!(of("errno"), Some(0), "{words:?}: {said}");
                let options = [of("keepalive"), of("keepidle"), of("keepcnt"), of("user_timeout")];
                if words != ["mptcp"] {
                    assert_eq!(options, [1, 61, 7, 0].map(Some), "{program:?} {ip} {words:?}: {said}");
                }
            }
        }
    }
}

#[test]
fn connections_of_mptcp_are_tuned_and_what_the_program_reads() {
    let Some(group) = Group::or_skip("connections_of_mptcp_are_tuned_and_what_the_program_reads") else { return };
    let script = "import json, socket, subprocess, sys\nl = socket.socket(socket.AF_INET, socket.SOCK_STREAM, int(sys.argv[1]))\n\
                  l.bind(('127.0.0.1', 0))\nl.listen()\nc = socket.socket(socket.AF_INET, socket.SOCK_STREAM, 262)\n\
                  c.connect(l.getsockname())\nss = ['ss', '-tnoiH', 'dport', '=', ':%d' % l.getsockname()[1]]\n\
                  print(json.dumps([subprocess.run(ss, capture_output=True, text=True).stdout, c.getsockopt(6, 4), \
                  c.getsockopt(6, 6)]))";
    let said = |protocol: &str| {
        let mut command = Command::new(real_python());
        group.enter(command.args(["-I", "-c", script, protocol]));
        let said = Ended::of(&mut command).json();
        let connection = said[0].as_str().expect("a line").to_owned();
        (connection.contains("timer:(keepalive,"), said[1].as_i64(), said[2].as_i64())
    };
    assert_eq!(said("262"), (false, Some(7200), Some(9)));
    group.attach(&SETTINGS);
    assert_eq!(
        said("0"),
        (true, Some(61), Some(7)),
        "the peer has TCP only: the program reads what its connection has"
    );
    assert_eq!(
        said("262"),
        (true, Some(7200), Some(9)),
        "it reads what the MPTCP socket has, and its connection is tuned"
    );
}

#[test]
fn the_environment_wins_or_the_program() {
    let Some(group) = Group::or_skip("the_environment_wins_or_the_program") else { return };
    let (_v4, port) = listener("127.0.0.1");
    for (precedence, words, keepidle) in [
        ("env", &["idle=300"][..], 61),
        ("env", &["late_idle=300"], 61),
        ("program", &["idle=300"], 300),
        ("program", &["late_idle=300"], 300),
        ("program", &[], 61),
    ] {
        group.attach(&["--keepidle", "61", "--precedence", precedence]);
        let said = group.client(&[&["127.0.0.1", port.as_str()], words].concat());
        assert_eq!(said["keepidle"], keepidle, "{precedence} {words:?}: {said}");
    }
    // What the kernel refuses is the program's to see.
    group.attach(&["--keepidle", "61"]);
    let mut command = Command::new(client());
    command.args(["127.0.0.1", &port, "late_idle=99999"]);
    group.enter(&mut command);
    let ended = Ended::of(&mut command);
    assert!(ended.stderr.contains("Invalid argument"), "{ended:#?}");
    assert_eq!(ended.any_json()["keepidle"], 61);
}

#[test]
fn go_client_and_server() {
    let Some(group) = Group::or_skip("go_client_and_server") else { return };
    let start = |words: &[&str]| {
        let mut command = Command::new(go());
        command.args(words);
        group.enter(&mut command);
        command
    };
    // Its listener is open before anything is attached.
    let mut server = Running::start(&mut start(&["serve"]));
    let port = server.line();
    group.attach(&SETTINGS);
    let said = Ended::of(&mut start(&[&format!("127.0.0.1:{port}")])).json();
    let accepted = server.json();
    for said in [&said, &accepted] {
        assert_eq!((&said["keepidle"], &said["keepcnt"]), (&61.into(), &7.into()), "Go sets 15 itself: {said}");
    }
    let hole = BlackHole::v4();
    let said = Ended::of(&mut start(&[&hole.authority()])).json();
    assert!(said["error"].as_str().is_some_and(|error| error.contains("connection timed out")), "{said}");
    assert!((400..1000).contains(&said["ms"].as_i64().unwrap_or(0)), "{said}");
}

#[test]
fn python_and_node() {
    let Some(group) = Group::or_skip("python_and_node") else { return };
    group.attach(&SETTINGS);
    let (listener, port) = listener("127.0.0.1");
    let of_python = format!(
        "import asyncio\nasync def main():\n  r, w = await asyncio.open_connection('127.0.0.1', {port})\n  print('up')\n  \
         await r.read()\nasyncio.run(main())"
    );
    let of_node = format!("require('net').connect({port}, '127.0.0.1', () => console.log('up'))");
    let mut commands = [python(&of_python), Command::new("node")];
    commands[1].args(["-e", &of_node]);
    for command in &mut commands {
        group.enter(command);
        let mut running = Running::start(command);
        let (_peer, _) = listener.accept().expect("a connection");
        assert_eq!(running.line(), "up");
        let all = inspect(running.pid());
        let options = &socket(&all, "127.0.0.1", Some(&format!(":{port}")))["options"];
        assert_eq!((&options["keepidle"], &options["user_timeout"]), (&61.into(), &0.into()), "{all:#}");
    }
    let hole = BlackHole::v4();
    let script = format!(
        "import socket, time\nt = time.monotonic()\ntry:\n  socket.create_connection({:?})\nexcept OSError as e:\n  \
         print(type(e).__name__, time.monotonic() - t)",
        (hole.ip(), hole.port())
    );
    let mut command = python(&script);
    group.enter(&mut command);
    let ended = Ended::of(&mut command);
    let (name, time) = ended.stdout.trim().split_once(' ').expect("a name and a time");
    assert_eq!(name, "TimeoutError");
    assert!((0.4..1.0).contains(&time.parse::<f64>().expect("a time")), "{time}");
}

#[test]
fn nginx_as_a_proxy() {
    let Some(group) = Group::or_skip("nginx_as_a_proxy") else { return };
    let directory = tempfile::tempdir().expect("a directory");
    let (upstream, port) = listener("127.0.0.1");
    let hole = BlackHole::v4();
    let own = crate::hole::refusing_port();
    let configuration = format!(
        "daemon off; master_process off; pid {0}/pid; error_log stderr crit; events {{}}\nhttp {{ access_log off;\n\
         client_body_temp_path {0}; proxy_temp_path {0}; fastcgi_temp_path {0}; uwsgi_temp_path {0}; scgi_temp_path {0};\n\
         upstream up {{ server 127.0.0.1:{port}; keepalive 1; }}\n\
         server {{ listen 127.0.0.1:{own}; location / {{ proxy_pass http://up; proxy_http_version 1.1; \
         proxy_set_header Connection ''; }}\n location /hole {{ proxy_pass http://{1}; }} }} }}\n",
        directory.path().display(),
        hole.authority(),
    );
    let file = directory.path().join("nginx.conf");
    fs::write(&file, configuration).expect("written");
    let mut command = Command::new("nginx");
    command.arg("-c").arg(&file).arg("-p").arg(directory.path());
    group.enter(&mut command);
    let server = Running::start(&mut command);
    eventually("nginx listens", || TcpStream::connect(("127.0.0.1", own)).is_ok());
    group.attach(&SETTINGS); // its listener is open already
    let serving = std::thread::spawn(move || answer(&upstream));
    assert!(get(own, "/").starts_with("HTTP/1.1 200"), "through the proxy");
    let _upstream = serving.join().expect("it has answered");
    let all = inspect(server.pid());
    let upstream = &socket(&all, "127.0.0.1", Some(&format!(":{port}")))["options"];
    assert_eq!((&upstream["keepidle"], &upstream["user_timeout"]), (&61.into(), &0.into()), "{all:#}");
    let begun = Instant::now();
    assert!(get(own, "/hole").starts_with("HTTP/1.1 502"), "the upstream is a black hole");
    assert!((400..6000).contains(&begun.elapsed().as_millis()), "{:?}", begun.elapsed());
    assert!(group.count("accepts") >= 2);
}

/// Answers one request, and keeps the connection.
fn answer(listener: &TcpListener) -> TcpStream {
    let (mut peer, _) = listener.accept().expect("a connection");
    let mut request = [0; 1024];
    let _ = peer.read(&mut request).expect("a request");
    peer.write_all(b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\n\r\nok").expect("answered");
    peer
}

fn get(port: u16, path: &str) -> String {
    let mut stream = TcpStream::connect(("127.0.0.1", port)).expect("connected");
    stream.set_read_timeout(Some(Duration::from_secs(20))).expect("set");
    write!(stream, "GET {path} HTTP/1.0\r\n\r\n").expect("sent");
    let mut answer = String::new();
    stream.read_to_string(&mut answer).expect("an answer");
    answer
}

#[test]
fn every_option_on_clients_listeners_and_accepted_sockets() {
    let test = "every_option_on_clients_listeners_and_accepted_sockets";
    let Some(group) = Group::or_skip(test) else { return };
    // What the kernel has there, in the unit of the option: buffers are doubled (socket(7)).
    let all = [
        ("--keepalive", "on", "KEEPALIVE", 1),
        ("--keepidle", "61", "KEEPIDLE", 61),
        ("--keepintvl", "11", "KEEPINTVL", 11),
        ("--keepcnt", "7", "KEEPCNT", 7),
        ("--syncnt", "3", "SYNCNT", 3),
        ("--user-timeout", "20s", "USER_TIMEOUT", 20_000),
        ("--rto-max", "5s", "RTO_MAX", 5000),
        ("--thin-linear-timeouts", "on", "THIN_LINEAR_TIMEOUTS", 1),
        ("--reuseaddr", "on", "REUSEADDR", 1),
        ("--reuseport", "on", "REUSEPORT", 1),
        ("--nodelay", "on", "NODELAY", 1),
        ("--sndbuf", "64K", "SNDBUF", 131_072),
        ("--rcvbuf", "64K", "RCVBUF", 131_072),
        ("--notsent-lowat", "16K", "NOTSENT_LOWAT", 16_384),
        ("--maxseg", "1000", "MAXSEG", 1000),
        ("--window-clamp", "32K", "WINDOW_CLAMP", 32_768),
        ("--max-pacing-rate", "1M", "MAX_PACING_RATE", 1_048_576),
        ("--tos", "0x28", "TOS", 0x28),
        ("--priority", "3", "PRIORITY", 3),
        ("--mark", "7", "MARK", 7),
    ];
    let flags: Vec<_> = all.iter().flat_map(|(flag, value, ..)| [*flag, *value]).collect();
    group.attach(&[&flags[..], &["--congestion", "reno", "--bindtodevice", "lo", "--connect-timeout", "2s"]].concat());
    for ip in ["127.0.0.1", "::1"] {
        let script = format!(
            "import socket, sys\nl = socket.create_server(({ip:?}, 0), family=socket.AF_INET6 if ':' in {ip:?} else \
             socket.AF_INET)\nc = socket.socket(l.family)\nc.bind(({ip:?}, 0))\nc.connect(l.getsockname())\na, _ = l.accept()\n\
             print(l.fileno(), c.fileno(), a.fileno())\nsys.stdin.read()"
        );
        let mut command = Command::new(real_python());
        command.args(["-I", "-u", "-c", &script]);
        group.enter(&mut command);
        let mut running = Running::start(&mut command);
        let line = running.line();
        let fds: Vec<i64> = line.split(' ').map(|fd| fd.parse().expect("a descriptor")).collect();
        let sockets = inspect(running.pid());
        for (which, fd) in ["listener", "client", "accepted"].iter().zip(fds) {
            let of_fd = |socket: &&serde_json::Value| socket["fds"].as_array().is_some_and(|fds| fds[0] == fd);
            let options = sockets["sockets"].as_array().expect("a list").iter().find(of_fd).expect("inspected");
            let options = &options["options"];
            for (_, _, name, want) in all {
                let has = &options[name.to_lowercase()];
                let has = has.as_i64().or(has.as_bool().map(i64::from));
                let is_fitting = match name {
                    "SYNCNT" => *which != "client" || has == Some(want), // nothing of a listener
                    "MAXSEG" if *which != "listener" => has.is_some_and(|has| (900..=want).contains(&has)), // TCP options
                    "TOS" if ip == "::1" => options["tos"].as_i64() == Some(0) || has == Some(want),
                    _ => has == Some(want),
                };
                assert!(is_fitting, "{ip} {which}: {name}: {options:#}");
            }
            assert_eq!((&options["congestion"], &options["bindtodevice"]), (&"reno".into(), &"lo".into()), "{which}");
        }
    }
    assert_eq!(group.attached().expect("attached")["refused"], serde_json::json!([]));
}

#[test]
fn a_program_in_another_network_namespace() {
    let test = "a_program_in_another_network_namespace";
    let (Some(group), Some(namespace)) = (Group::or_skip(test), Namespace::or_skip(test)) else { return };
    group.attach(&SETTINGS);
    let listener = namespace.listener("127.0.0.1:0");
    let port = listener.local_addr().expect("its address").port().to_string();
    let mut command = Command::new(client());
    command.args(["127.0.0.1", &port]);
    group.enter(&mut command);
    namespace.enter_on_exec(&mut command);
    assert_eq!(Ended::of(&mut command).json()["keepidle"], 61);
}
