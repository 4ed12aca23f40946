//! What holds of every program holds under rules, too; what is logged; and real clients of several destinations.

use std::net::{SocketAddr, TcpListener};
use std::path::PathBuf;
use std::time::Duration;

use crate::differential::{ALL, same_in};
use crate::harness::hole::BlackHole;
use crate::harness::{Ended, Program, debug_library, eventually, library, outside};
use crate::rules::{CLIENT, kernels_idle, server};

/// Rules that look at every socket: none matches, all match, the last of thousands does, and the program's values win.
fn ways() -> Vec<Vec<(&'static str, &'static str)>> {
    let rules = |rules, more: &[(&'static str, &'static str)]| [ALL, &[("RULES", rules)], more].concat();
    vec![
        rules("dst=192.0.2.0/24 : off ; role=server src=192.0.2.1 : off", &[]),
        rules("dst=127.0.0.0/8,::1 : precedence=env ; role=server : precedence=env", &[]),
        rules("src=127.0.0.1,0.0.0.0 : precedence=program ; role=client : precedence=env", &[]),
        rules("dst=0.0.0.0/0,::/0 : off ; role=server : off", &[]),
        vec![("RULES", "port=1-65535 : connect_timeout=3s keepidle=600 reuseaddr=on")],
    ]
}

fn same(program: impl Fn() -> Program, least: usize) {
    same_in(ways(), program, least);
}

#[test]
fn wrong_arguments_states_and_families_get_the_kernels_answers() {
    let hole = BlackHole::v4();
    same(|| Program::probe("arguments"), 5000);
    same(|| Program::probe("families"), 700);
    same(|| Program::probe("states").args([hole.ip(), hole.port()]), 400);
    same(|| Program::probe("errors"), 40);
}

#[test]
fn pointers_to_nowhere_get_the_kernels_answers() {
    let hole = BlackHole::v4();
    let program = || Program::probe("pointers").args([hole.ip(), hole.port()]);
    same(program, 300);
    let plain = program().run();
    for way in ways() {
        // The debug library has Rust's checks of what is copied where.
        let checked = program().tuned_by(debug_library(), &way).run();
        assert_eq!(plain.succeeded(), checked.succeeded(), "with {way:?}");
    }
}

#[test]
fn every_hook_leaves_errno_alone_also_when_things_are_short() {
    for (mode, least) in [("plain", 50), ("descriptors", 15), ("stack", 50), ("memory", 50)] {
        same(|| Program::probe("every").args([mode]), least);
    }
}

/// A thousand rules, of which the last one matches loopback.
fn a_thousand() -> String {
    let others = (1..1000).map(|i| format!("dst=10.{}.{}.0/24 port={i} : off", i / 250, i % 250));
    let last = "dst=127.0.0.0/8 : connect_timeout=300ms keepidle=60 nodelay=on".to_owned();
    others.chain([last]).collect::<Vec<_>>().join("\n")
}

#[test]
fn no_hook_allocates_under_a_thousand_rules() {
    let directory = tempfile::tempdir().expect("temporary directory");
    let config = directory.path().join("config");
    std::fs::write(&config, a_thousand()).expect("written");
    let run = |library: PathBuf, level: &str| {
        let (hole, (_live, port)) = (BlackHole::v4(), server());
        let settings = [("CONFIG", config.to_str().expect("UTF-8")), ("LOG", level)];
        let program = Program::probe("malloc_in_hook").args([hole.ip(), hole.port(), port.to_string()]);
        program.tuned_by(library, &settings).run()
    };
    for (library, level) in [(library(), "info"), (debug_library(), "info"), (debug_library(), "debug")] {
        let ended = run(library, level);
        ended.succeeded();
        assert!(ended.log.contains("1000 rules"), "{ended:#?}");
        assert_eq!(ended.number("calls"), 0, "{ended:#?}");
        for name in ["timed_out", "in_progress", "ready", "bad"] {
            assert_eq!(ended.number(name), 1, "{name}: {ended:#?}");
        }
    }
}

#[test]
fn handlers_and_forks_meet_no_lock_under_rules() {
    let (live, port) = server();
    std::thread::spawn(move || live.incoming().for_each(drop));
    let rules = a_thousand();
    let hole = BlackHole::v4();
    for library in [library(), debug_library()] {
        let settings = [("RULES", rules.as_str())];
        let in_malloc = Program::probe("malloc_and_signals").args(["500", &port.to_string()]);
        let ended = in_malloc.tuned_by(library.clone(), &settings).run();
        ended.succeeded();
        assert!(ended.number("wrong") == 0 && ended.number("handled") > 200, "{ended:#?}");
        let forks = Program::probe("processes").args(["forks", &port.to_string(), &hole.port()]);
        let ended = forks.tuned_by(library, &settings).run();
        ended.succeeded();
        assert_eq!((ended.number("bad_children"), ended.number("wrong")), (0, 0), "{ended:#?}");
    }
}

/// The lines of level debug about one connection, without the descriptor.
fn about<'a>(ended: &'a Ended, begins: &str) -> Vec<&'a str> {
    let lines: Vec<_> =
        ended.log.lines().filter_map(|line| line.split_once(": debug: fd ")?.1.split_once(": ")).collect();
    let first = lines.iter().position(|(_, text)| text.starts_with(begins));
    let first = first.unwrap_or_else(|| panic!("no {begins}: {}", ended.log));
    let fd = lines[first].0;
    lines[first..].iter().take_while(|(other, _)| *other == fd).map(|(_, text)| *text).collect()
}

#[test]
fn each_connection_logs_the_rule_that_matched_and_the_values() {
    let (_server, port) = server();
    let run = |script: &str, rules: &str, args: &[String]| {
        let ended = Program::python(script).args(args).tuned(&[("RULES", rules), ("LOG", "debug")]).run();
        ended.succeeded();
        ended
    };
    let peers = [1, 2, 3].map(|n| format!("127.0.0.{n}:{port}"));
    let rules = "dst=127.0.0.1 : keepidle=33 ;\n dst=127.0.0.2 : off";
    let ended = run(CLIENT, rules, &peers);
    let lines = about(&ended, &format!("connects to {}", peers[0]));
    assert_eq!(lines[0], format!("connects to {}: the rule at TCPTUNE_RULES:1:1", peers[0]));
    assert!(lines.contains(&"KEEPIDLE=33s, the kernel says 33s"), "{lines:?}");
    let lines = about(&ended, &format!("connects to {}", peers[1]));
    assert_eq!(lines[0], format!("connects to {}: the rule at TCPTUNE_RULES:2:2", peers[1]));
    assert!(!lines.iter().any(|line| line.contains("the kernel says")), "{lines:?}");
    assert_eq!(
        about(&ended, &format!("connects to {}", peers[2]))[0],
        format!("connects to {}: no rule matches", peers[2])
    );

    // A rule that holds for every socket of the program is named, too.
    for (rules, place) in [("program=* : keepidle=44", "1:1"), ("uid=4711 : off\nprogram=* : keepidle=44", "2:1")] {
        let ended = run(CLIENT, rules, &peers[..1]);
        assert_eq!(ended.number(&peers[0]), 44);
        let lines = about(&ended, &format!("connects to {}", peers[0]));
        assert_eq!(lines[0], format!("connects to {}: the rule at TCPTUNE_RULES:{place}", peers[0]));
    }

    let accepts = "
import socket
s = socket.create_server(('127.0.0.1', 0))
c = socket.create_connection(s.getsockname())
a, _ = s.accept()
print('accepted=%d' % a.getsockopt(6, socket.TCP_KEEPIDLE))
";
    for rules in ["role=server : keepidle=55", "program=* : keepidle=55"] {
        let ended = run(accepts, rules, &[]);
        assert_eq!(ended.number("accepted"), 55);
        let lines = about(&ended, "accepted from ");
        assert!(lines[0].ends_with(": the rule at TCPTUNE_RULES:1:1"), "{lines:?}");
        assert!(lines.contains(&"KEEPIDLE=55s, the kernel says 55s"), "{lines:?}");
    }
}

/// A program that connects to these two.
type Client<'a> = &'a dyn Fn([SocketAddr; 2]) -> Program;

/// A program that connects to both servers, of which the first is left alone and the second one tuned; seen by the
/// kernel's own eyes, and by ss.
fn one_of_two(name: &str, program: Client<'_>, settings: Option<()>) -> [i32; 2] {
    let servers = ["127.0.0.1:0", "127.0.0.2:0"].map(|at| TcpListener::bind(at).expect("a server"));
    let peers = servers.each_ref().map(|server| server.local_addr().expect("its address"));
    let rules = format!("dst=127.0.0.1 : off ; dst=127.0.0.0/8 port={} : keepidle=3600", peers[1].port());
    let settings = settings.map(|()| [("RULES", rules.as_str()), ("KEEPIDLE", "900")]);
    let running = program(peers).with(settings.as_ref().map(|s| &s[..])).start();
    let _connections = servers.each_ref().map(|server| server.accept().expect("it connects"));
    std::thread::sleep(Duration::from_millis(300)); // redis-cli and curl set their own values after connect
    let sockets = peers.map(|peer| {
        let mut socket = None;
        eventually("the connection is among the program's descriptors", || {
            socket = outside::socket_to(running.pid(), peer);
            socket.is_some()
        });
        socket.expect("just seen")
    });
    if settings.is_some() {
        let minutes = peers.map(|peer| {
            let filter = ["-tnoiH", "state", "established", "dst", &peer.to_string()].map(str::to_owned);
            let ss = Program::new("ss").args(filter).run();
            ss.succeeded()
                .split_once("timer:(keepalive,")
                .map(|(_, timer)| timer.split_once("min").map(|(n, _)| n.to_owned()))
        });
        assert_ne!(minutes[0], Some(Some("59".to_owned())), "{name} is left alone");
        assert_eq!(minutes[1], Some(Some("59".to_owned())), "{name}: an hour less a moment");
    }
    running.kill();
    sockets.map(|socket| outside::option(&socket, libc::IPPROTO_TCP, libc::TCP_KEEPIDLE))
}

#[test]
fn real_clients_are_tuned_towards_one_destination_and_left_alone_towards_another() {
    let programs: [(&str, Client<'_>); 4] = [
        ("curl", &|peers| {
            let urls = peers.map(|peer| format!("http://{peer}/"));
            let curl = Program::new("curl").args(["-s", "--noproxy", "*", "--parallel", "--parallel-immediate"]);
            curl.args(["--keepalive-time", "99"]).args(urls)
        }),
        ("python", &|peers| {
            Program::python(
                "
import socket, sys
s = [socket.create_connection((sys.argv[i], int(sys.argv[i + 1]))) for i in (1, 3)]
for one in s:
    one.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    one.setsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE, 99)
s[0].recv(1)
",
            )
            .args(peers.iter().flat_map(|peer| [peer.ip().to_string(), peer.port().to_string()]))
        }),
        ("asyncio", &|peers| {
            Program::python(
                "
import asyncio, sys
async def main():
    s = [await asyncio.open_connection(sys.argv[i], int(sys.argv[i + 1])) for i in (1, 3)]
    await s[0][0].read(1)
asyncio.run(main())
",
            )
            .args(peers.iter().flat_map(|peer| [peer.ip().to_string(), peer.port().to_string()]))
        }),
        ("bash", &|peers| {
            let [a, b] = peers.map(|peer| format!("/dev/tcp/{}/{}", peer.ip(), peer.port()));
            Program::new("bash").args(["-c", &format!("exec 5<>{a} 6<>{b}; read -t 10 <&5")])
        }),
    ];
    for (name, program) in programs {
        let plain = one_of_two(name, program, None);
        let own = if matches!(name, "asyncio" | "bash") { i32::try_from(kernels_idle()).expect("an int") } else { 99 };
        assert_eq!(plain, [own, own], "{name}: its own, without tcptune");
        assert_eq!(one_of_two(name, program, Some(())), [own, 3600], "{name}");
    }
}

/// redis-cli sets keepalive values of its own once it is connected.
#[test]
fn redis_cli_is_tuned_where_a_rule_says_so() {
    let seen = |address: &str, rules: Option<&str>| {
        let server = TcpListener::bind((address, 0)).expect("a server");
        let peer = server.local_addr().expect("its address");
        let settings = rules.map(|rules| [("RULES", rules), ("KEEPCNT", "5")]);
        let program = Program::new("redis-cli").args(["-h", address, "-p", &peer.port().to_string(), "ping"]);
        let running = program.with(settings.as_ref().map(|s| &s[..])).start();
        let _connection = server.accept().expect("it connects");
        let mut socket = None;
        eventually("the connection is among the program's descriptors", || {
            socket = outside::socket_to(running.pid(), peer);
            socket.is_some()
        });
        let socket = socket.expect("just seen");
        let option = |name| outside::option(&socket, libc::IPPROTO_TCP, name);
        std::thread::sleep(Duration::from_millis(300));
        let found = [option(libc::TCP_KEEPIDLE), option(libc::TCP_KEEPINTVL), option(libc::TCP_KEEPCNT)];
        running.kill();
        found
    };
    let own = seen("127.0.0.1", None);
    assert!(own[0] != 33 && own[2] != 5, "{own:?}");
    let rules = Some("dst=127.0.0.1 : off ; program=redis-cli dst=127.0.0.2 : keepidle=33");
    assert_eq!(seen("127.0.0.1", rules), own, "left alone");
    assert_eq!(seen("127.0.0.2", rules), [33, own[1], 5], "by the rule, by the program, by the globals");
    assert_eq!(seen("127.0.0.3", rules), [own[0], own[1], 5]);
}
