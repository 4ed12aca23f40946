//! Rules: which sockets they match, and what holds then. Each rule sets another idle time, which tells it.

use std::net::{TcpListener, TcpStream};
use std::os::fd::OwnedFd;
use std::path::Path;
use std::time::Duration;

use crate::harness::hole::BlackHole;
use crate::harness::mounts::{NOBODY, become_nobody, is_root, on_a_thread, open_directory, write};
use crate::harness::namespace::Namespace;
use crate::harness::{Ended, LATE, Program, assert_on_time, probe, python};

/// Connects to each peer in turn, from `OWN>` if it says so, and prints the idle time then.
pub const CLIENT: &str = "
import socket, sys
for arg in sys.argv[1:]:
    own, _, peer = arg.rpartition('>')
    ip, _, port = peer.rpartition(':')
    s = socket.socket(socket.AF_INET6 if ':' in ip else socket.AF_INET)
    if own: s.bind((own, 0))
    s.connect((ip, int(port)))
    print('%s=%d' % (arg, s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)))
";

/// Listens on each address in turn, and prints the idle time of the listener, and of a connection that it accepts.
const SERVER: &str = "
import socket, sys
for arg in sys.argv[1:]:
    ip, _, port = arg.rpartition(':')
    s = socket.socket(socket.AF_INET6 if ':' in ip else socket.AF_INET)
    s.bind((ip, int(port)))
    s.listen(5)
    c = socket.socket(s.family)
    c.connect((ip.replace('0.0.0.0', '127.0.0.1'), s.getsockname()[1]))
    a, _ = s.accept()
    idle = (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
    print('%s=%d' % (arg, s.getsockopt(*idle)))
    print('%s accepted=%d' % (arg, a.getsockopt(*idle)))
    # What holds for it is followed up, without it the program's value stays.
    a.setsockopt(*idle, 55)
    print('%s set=%d' % (arg, a.getsockopt(*idle)))
";

/// A server on every address of loopback, IPv4 and IPv6, that only listens; and its port.
pub fn server() -> (TcpListener, u16) {
    let listener = TcpListener::bind("[::]:0").expect("a server");
    let port = listener.local_addr().expect("its address").port();
    (listener, port)
}

/// What a socket has that is left alone: measured, without the library.
pub fn kernels_idle() -> i64 {
    let ended = Program::probe("secure").run();
    ended.succeeded();
    ended.number("idle")
}

/// A program that prints idle times, under rules and a global idle time of 100 s.
fn under(rules: &str, program: Program) -> Ended {
    let ended = program.tuned(&[("RULES", rules), ("KEEPIDLE", "100")]).run();
    ended.succeeded();
    assert!(!ended.log.contains("warn"), "{ended:#?}");
    ended
}

/// Runs a script with these arguments under rules, and compares the idle time at each.
fn assert_idle(script: &str, namespace: Option<&Namespace>, rules: &str, expected: &[(&str, i64)]) {
    let mut arguments: Vec<_> =
        expected.iter().map(|(at, _)| at.trim_end_matches(" accepted").trim_end_matches(" set")).collect();
    arguments.dedup();
    let program = Program::python(script).args(arguments);
    let ended = under(rules, if let Some(namespace) = namespace { program.inside(namespace) } else { program });
    for (at, idle) in expected {
        assert_eq!(ended.number(at), *idle, "{at} under {rules}: {ended:#?}");
    }
}

#[test]
fn dst_is_addresses_and_networks_of_both_families() {
    let Some(namespace) = Namespace::or_skip("dst_is_addresses_and_networks_of_both_families") else { return };
    for net in ["fd00::1/64", "fd01::1/64"] {
        namespace.run("ip", &["address", "add", net, "dev", "lo", "nodad"]);
    }
    let _server = namespace.listener("[::]:80");
    let off = kernels_idle();
    let rules = "dst=127.0.0.2 : keepidle=2
        dst=127.1.0.0/16,127.2.0.0/15 : keepidle=3
        dst=fd00::/64 : keepidle=4 ; dst=::1 : off
        dst=::ffff:127.9.0.0/112 : keepidle=5";
    assert_idle(
        CLIENT,
        Some(&namespace),
        rules,
        &[
            ("127.0.0.2:80", 2),
            ("127.0.0.3:80", 100),
            ("127.1.255.255:80", 3),
            ("127.2.0.0:80", 3),
            ("127.3.255.255:80", 3),
            ("127.4.0.0:80", 100),
            ("fd00::1:80", 4),
            ("fd01::1:80", 100),
            ("::1:80", off),
            // An IPv4 peer, by whichever socket, and whichever way the rule is written.
            ("::ffff:127.0.0.2:80", 2),
            ("::ffff:127.0.0.3:80", 100),
            ("::ffff:127.1.2.3:80", 3),
            ("127.9.1.1:80", 5),
            ("::ffff:127.9.1.1:80", 5),
        ],
    );
    // All addresses of a family; none of the other one.
    for (rules, v4, v6) in [("dst=0.0.0.0/0 : keepidle=2", 2, 100), ("dst=::/0 : keepidle=2", 100, 2)] {
        let expected = [("127.0.0.1:80", v4), ("::1:80", v6), ("::ffff:127.0.0.1:80", v4)];
        assert_idle(CLIENT, Some(&namespace), rules, &expected);
    }
}

#[test]
fn src_is_the_address_a_socket_is_bound_to() {
    let (_server, port) = server();
    let rules = "src=127.0.0.2,127.7.0.0/16 : keepidle=2 ; src=::1 role=client : keepidle=3 ; src=0.0.0.0 : keepidle=4";
    let clients = [
        (format!("127.0.0.2>127.0.0.1:{port}"), 2),
        (format!("127.7.7.7>127.0.0.1:{port}"), 2),
        (format!("127.0.0.3>127.0.0.1:{port}"), 100),
        (format!("127.0.0.1:{port}"), 4),
        (format!("::1>::1:{port}"), 3),
        (format!("::ffff:127.0.0.2>::ffff:127.0.0.1:{port}"), 2),
        (format!("::1:{port}"), 100),
    ];
    assert_idle(CLIENT, None, rules, &clients.each_ref().map(|(at, idle)| (at.as_str(), *idle)));
    let servers = [
        ("127.0.0.2:0", 2),
        ("127.0.0.2:0 accepted", 2),
        ("127.0.0.3:0", 100),
        ("127.0.0.3:0 accepted", 100),
        ("0.0.0.0:0", 4),
        ("::1:0", 100),
        ("::1:0 accepted", 100),
    ];
    assert_idle(SERVER, None, rules, &servers);
}

#[test]
fn port_is_the_peers_for_connect_and_the_own_one_for_listen() {
    let Some(namespace) = Namespace::or_skip("port_is_the_peers_for_connect_and_the_own_one_for_listen") else {
        return;
    };
    let ports = [79, 80, 81, 5431, 5432, 5435, 5439, 5440];
    let servers = ports.map(|port| namespace.listener(&format!("127.0.0.9:{port}")));
    let rules = "port=80,5432-5439 : keepidle=2 ; port=81 role=client : keepidle=3";
    let client = |port| {
        if port == 81 {
            3
        } else if matches!(port, 80 | 5432..=5439) {
            2
        } else {
            100
        }
    };
    let clients = ports.map(|port| (format!("127.0.0.9:{port}"), client(port)));
    assert_idle(CLIENT, Some(&namespace), rules, &clients.each_ref().map(|(at, idle)| (at.as_str(), *idle)));
    drop(servers);
    for port in ports {
        let at = format!("127.0.0.1:{port}");
        let idle = if port == 81 { 100 } else { client(port) };
        assert_idle(SERVER, Some(&namespace), rules, &[(&at, idle), (&format!("{at} accepted"), idle)]);
    }
}

#[test]
fn role_tells_clients_from_listeners_and_what_they_accept() {
    let (_server, port) = server();
    let peer = format!("127.0.0.1:{port}");
    for (rules, client, server) in [
        ("role=client : keepidle=2", 2, 100),
        ("role=server : keepidle=2", 100, 2),
        ("role=server port=1 : keepidle=2 ; role=client : keepidle=3 ; role=server : keepidle=4", 3, 4),
        ("dst=127.0.0.0/8 : keepidle=2", 2, 100),
    ] {
        assert_idle(CLIENT, None, rules, &[(&peer, client)]);
        // A client that is bound is a client when it connects.
        assert_idle(CLIENT, None, rules, &[(&format!("127.0.0.1>{peer}"), client)]);
        let expected = [("127.0.0.1:0", server), ("127.0.0.1:0 accepted", server), ("127.0.0.1:0 set", server)];
        assert_idle(SERVER, None, rules, &expected);
    }
    let expected = [("127.0.0.1:0 accepted", kernels_idle()), ("127.0.0.1:0 set", 55)];
    assert_idle(SERVER, None, "role=server : off", &expected);
}

/// A program of a name, which may be a copy, a link or a script.
fn named(path: &Path, rules: &str) -> i64 {
    under(rules, Program::new(path)).number("idle")
}

#[test]
fn program_is_the_name_of_the_executable_or_of_the_script() {
    let (directory, _) = open_directory();
    let path = |name: &str| directory.path().join(name);
    write(&path("legacy-app"), &std::fs::read(probe("secure")).expect("read"), 0o755);
    std::os::unix::fs::symlink(path("legacy-app"), path("link")).expect("a link");
    let script = "#!/bin/sh\nexec ./legacy-app\n";
    write(&path("wrapper.sh"), script.as_bytes(), 0o755);
    let import = "import socket\ns = socket.socket()\nprint('idle=%d' % s.getsockopt(6, socket.TCP_KEEPIDLE))\n";
    let interpreter = Path::new(python());
    let script = format!("#!{} -I\n{import}", interpreter.display());
    write(&path("report.py"), script.as_bytes(), 0o755);
    let real = std::fs::canonicalize(interpreter).expect("python");
    let real = real.file_name().expect("a name").to_str().expect("UTF-8");

    for (file, pattern, matches) in [
        ("legacy-app", "legacy-app", true),
        ("legacy-app", "legacy*", true),
        ("legacy-app", "*app", true),
        ("legacy-app", "l*-*p", true),
        ("legacy-app", "other,legacy-app", true),
        ("legacy-app", "legacy", false),
        ("legacy-app", "app", false),
        ("legacy-app", "LEGACY-APP", false),
        ("link", "link", true),
        ("link", "legacy-app", true),
        ("link", "wrapper*", false),
        ("report.py", "report.py", true),
        ("report.py", "*.py", true),
        ("report.py", real, true),
        ("report.py", "report", false),
    ] {
        let rules = format!("program={pattern} : keepidle=7");
        let expected = if matches { 7 } else { 100 };
        assert_eq!(named(&path(file), &rules), expected, "{file} under {rules}");
    }
    // A path is meant as a whole; a script that env(1) or the interpreter's own arguments start has its name, too.
    let whole = |name: &str| path(name).display().to_string();
    let by_env = format!("#!/usr/bin/env -S {} -I\n{import}", interpreter.display());
    write(&path("env.py"), by_env.as_bytes(), 0o755);
    let here = |args: [&str; 3]| Program::new(interpreter).args(args);
    for (program, pattern, matches) in [
        (Program::new(path("legacy-app")), whole("legacy-app"), true),
        (Program::new(path("legacy-app")), "/nosuch/legacy-app".to_owned(), false),
        (Program::new(path("legacy-app")), "*/legacy-app".to_owned(), true),
        (Program::new(path("env.py")), "env.py".to_owned(), true),
        (here(["-I", "-u", &whole("report.py")]), "report.py".to_owned(), true),
        (here(["-I", "-u", &whole("report.py")]), whole("report.py"), true),
        (here(["-I", "-c", import]), "report.py".to_owned(), false),
    ] {
        let rules = format!("program={pattern} : keepidle=7");
        assert_eq!(under(&rules, program).number("idle"), if matches { 7 } else { 100 }, "{rules}");
    }
    // What a script starts has a name of its own.
    let wrapper = |rules| {
        under(rules, Program::new("sh").args(["-c", "cd \"$0\" && exec ./wrapper.sh"]).args([directory.path()]))
    };
    assert_eq!(wrapper("program=wrapper.sh : keepidle=7").number("idle"), 100);
    assert_eq!(wrapper("program=legacy-app : keepidle=7").number("idle"), 7);
}

#[test]
fn uid_is_that_of_the_process() {
    if !is_root() {
        println!("skipped: uid_is_that_of_the_process: only root can become another user");
        return;
    }
    let (directory, library) = open_directory();
    let program = directory.path().join("program");
    write(&program, &std::fs::read(probe("secure")).expect("read"), 0o755);
    for (rules, nobody, root) in [
        (format!("uid={NOBODY} : keepidle=2"), 2, 100),
        (format!("uid=0,1 : keepidle=2 ; uid=7,{NOBODY} : keepidle=3"), 3, 2),
        ("uid=1 : keepidle=2".to_owned(), 100, 100),
    ] {
        let run = {
            let (program, library, rules) = (program.clone(), library.clone(), rules.clone());
            move || {
                let settings = [("RULES", rules.as_str()), ("KEEPIDLE", "100")];
                Program::new(&program).tuned_by(library.clone(), &settings).run().number("idle")
            }
        };
        assert_eq!(run(), root, "as root: {rules}");
        let as_nobody = on_a_thread(move || {
            become_nobody();
            run()
        });
        assert_eq!(as_nobody, nobody, "{rules}");
    }
}

#[test]
fn all_matches_must_hold_and_the_first_rule_wins() {
    let (_server, port) = server();
    let (a, b) = (format!("127.0.0.1:{port}"), format!("127.0.0.2:{port}"));
    let off = kernels_idle();
    let program = Path::new(python()).file_name().expect("a name").to_str().expect("UTF-8");
    for (rules, at_a, at_b) in [
        (format!("dst=127.0.0.1 port={port} role=client program={program} : keepidle=2"), 2, 100),
        (format!("dst=127.0.0.1 port={} : keepidle=2", port ^ 1), 100, 100),
        ("dst=127.0.0.1 program=another : keepidle=2".to_owned(), 100, 100),
        ("dst=127.0.0.1 role=client src=127.0.0.9 : keepidle=2".to_owned(), 100, 100),
        ("dst=127.0.0.1 : keepidle=2 ; dst=127.0.0.0/8 : keepidle=3".to_owned(), 2, 3),
        ("dst=127.0.0.0/8 : keepidle=3 ; dst=127.0.0.1 : keepidle=2".to_owned(), 3, 3),
        ("dst=127.0.0.1 : off ; dst=127.0.0.0/8 : keepidle=3".to_owned(), off, 3),
        (format!("program={program} : keepidle=4 ; dst=127.0.0.1 : keepidle=2"), 4, 4),
        (format!("dst=127.0.0.1 : keepidle=2 ; program={program} : keepidle=4"), 2, 4),
        (format!("dst=127.0.0.1 : keepidle=2 ; program={program} : off"), 2, off),
        (format!("program={program} : off"), off, off),
        // Over the globals: what a rule does not say stays, and `default` takes it away.
        ("dst=127.0.0.1 : nodelay=on ; dst=127.0.0.2 : keepidle=default".to_owned(), 100, off),
    ] {
        assert_idle(CLIENT, None, &rules, &[(&a, at_a), (&b, at_b)]);
    }
}

/// Milliseconds until a connect to a hole fails, by a blocking or a nonblocking program.
fn time_to_hole(hole: &BlackHole, nonblocking: bool, rules: &str, limit: Duration) -> Ended {
    let probe = if nonblocking {
        Program::probe("nonblock").args(["poll", &hole.ip(), &hole.port()])
    } else {
        Program::probe("connect").args([hole.ip(), hole.port()])
    };
    probe.limit(limit).tuned(&[("RULES", rules)]).run()
}

#[test]
fn each_destination_has_its_own_connect_timeout() {
    let holes = [BlackHole::v4(), BlackHole::v4(), BlackHole::v4(), BlackHole::v6()];
    let rules = format!(
        "port={} : connect_timeout=1200ms ; port={} : connect_timeout=2500ms ; dst=::1 : connect_timeout=1800ms",
        holes[0].port(),
        holes[1].port()
    );
    for nonblocking in [false, true] {
        for (hole, due) in holes.iter().zip([Some(1200), Some(2500), None, Some(1800)]) {
            let limit = Duration::from_millis(if due.is_some() { 20_000 } else { 4500 });
            let ended = time_to_hole(hole, nonblocking, &rules, limit);
            if let Some(due) = due {
                assert_on_time(ended.milliseconds("took"), Duration::from_millis(due), LATE);
                let error = ended.number(if nonblocking { "so_error" } else { "errno" });
                assert_eq!(error, libc::ETIMEDOUT.into(), "{ended:#?}");
            } else {
                assert!(ended.killed, "left to the kernel: {ended:#?}");
            }
        }
    }
}

#[test]
fn each_destination_and_listener_has_its_own_source_backlog_and_precedence() {
    let (_server, port) = server();
    let script = "
import socket, sys
for peer in sys.argv[2:]:
    s = socket.socket()
    s.setsockopt(6, socket.TCP_KEEPIDLE, 55)
    s.connect((peer, int(sys.argv[1])))
    s.setsockopt(6, socket.TCP_KEEPINTVL, 5)
    print('%s=%s %d %d' % (peer, s.getsockname()[0], s.getsockopt(6, socket.TCP_KEEPIDLE),
        s.getsockopt(6, socket.TCP_KEEPINTVL)))
for own in '127.0.0.1', '127.0.0.2', '127.0.0.3':
    s = socket.socket(); s.bind((own, 0)); s.listen(10)
    # struct tcp_info of a listener: tcpi_sacked is the length of its queue
    print('backlog %s=%d' % (own, int.from_bytes(s.getsockopt(6, socket.TCP_INFO, 104)[28:32], sys.byteorder)))
";
    let rules =
        "dst=127.0.0.1 : source=127.0.0.9 ; dst=127.0.0.2 : precedence=program keepidle=60 ; dst=127.0.0.3 : off
        role=server src=127.0.0.1 : backlog=17 ; role=server src=127.0.0.2 : backlog=min:5";
    let settings = [("RULES", rules), ("KEEPIDLE", "100"), ("KEEPINTVL", "20")];
    let peers = ["127.0.0.1", "127.0.0.2", "127.0.0.3", "127.0.0.4"];
    let program = Program::python(script).args([&port.to_string()]).args(peers);
    let ended = program.tuned(&settings).run();
    ended.succeeded();
    let values = peers.map(|peer| ended.value(peer));
    let expected = ["127.0.0.9 100 20", "127.0.0.1 55 5", "127.0.0.1 55 5", "127.0.0.1 100 20"];
    assert_eq!(values, expected, "{ended:#?}");
    let backlogs = ["127.0.0.1", "127.0.0.2", "127.0.0.3"].map(|own| ended.number(&format!("backlog {own}")));
    assert_eq!(backlogs, [17, 10, 10], "{ended:#?}");
}

#[test]
fn the_programs_value_wins_where_the_rule_says_so_also_after_bind() {
    let (_server, port) = server();
    let script = "
import socket, sys
s = socket.socket()
s.bind(('127.0.0.5', 0))
s.setsockopt(6, socket.TCP_KEEPIDLE, 55)
s.connect((sys.argv[1], int(sys.argv[2])))
print('idle=%d' % s.getsockopt(6, socket.TCP_KEEPIDLE))
";
    let rules = "dst=127.0.0.1 : precedence=program";
    for (peer, idle) in [("127.0.0.1", 55), ("127.0.0.2", 100)] {
        let ended = under(rules, Program::python(script).args([peer, &port.to_string()]));
        assert_eq!(ended.number("idle"), idle, "{peer}: {ended:#?}");
    }
}

#[test]
fn a_setsockopt_after_connect_is_followed_up_on_every_descriptor_of_the_socket() {
    let (_server, port) = server();
    let script = "
import os, socket, sys
s = socket.create_connection((sys.argv[1], int(sys.argv[2])))
number = (6, socket.TCP_KEEPIDLE)
def after(name, s):
    s.setsockopt(*number, 55)
    print('%s=%d' % (name, s.getsockopt(*number)), flush=True)
after('own', s)
after('dup', socket.socket(fileno=os.dup(s.fileno())))
after('dup2', socket.socket(fileno=os.dup2(s.fileno(), 40)))
if not os.fork():
    after('fork', s)
    os._exit(0)
os.wait()
os.set_inheritable(s.fileno(), True)
code = 'import socket; s = socket.socket(fileno=%d); s.setsockopt(6, 4, 55); print(\"exec=%%d\" %% s.getsockopt(6, 4))'
os.execv(sys.executable, [sys.executable, '-I', '-c', code % s.fileno()])
";
    let rules = "dst=127.0.0.1 : keepidle=2 ; dst=127.0.0.2 : off";
    for (peer, idle) in [("127.0.0.1", 2), ("127.0.0.2", 55), ("127.0.0.3", 100)] {
        let ended = under(rules, Program::python(script).args([peer, &port.to_string()]));
        for name in ["own", "dup", "dup2", "fork", "exec"] {
            assert_eq!(ended.number(name), idle, "{name} at {peer}: {ended:#?}");
        }
    }
}

/// By then the kernel has chosen an address, which no rule was asked about.
#[test]
fn a_second_connect_does_not_change_the_rule() {
    let (_server, port) = server();
    let script = "
import select, socket, sys
idle = (socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)
peer = (sys.argv[1], int(sys.argv[2]))
for blocking in True, False:
    s = socket.socket()
    s.setblocking(blocking)
    print('%s=%d' % (blocking, s.connect_ex(peer)))
    select.select([], [s], [], 5)
    s.connect_ex(peer)
    print('%s after=%d' % (blocking, s.getsockopt(*idle)))
    # Dissolved, and connected again: to another destination, by another rule.
    s.setblocking(True)
    import ctypes
    ctypes.CDLL(None).connect(s.fileno(), bytes(16), 16)
    s.connect(('127.0.0.9', peer[1]))
    print('%s elsewhere=%d' % (blocking, s.getsockopt(*idle)))
";
    let rules = "dst=127.0.0.9 : keepidle=9 ; src=127.0.0.1 : keepidle=2 ; dst=127.0.0.1 : keepidle=3";
    let ended = under(rules, Program::python(script).args(["127.0.0.1", &port.to_string()]));
    assert_eq!((ended.number("True"), ended.number("False")), (0, libc::EINPROGRESS.into()), "{ended:#?}");
    for name in ["True", "False"] {
        assert_eq!(ended.number(&format!("{name} after")), 3, "{ended:#?}");
        assert_eq!(ended.number(&format!("{name} elsewhere")), 9, "{ended:#?}");
    }
}

/// What was made by a process without the library is matched when a hook first sees it.
#[test]
fn inherited_connections_and_listeners_are_matched_by_their_addresses() {
    let (_server, port) = server();
    let script = "
import socket
s = socket.socket(fileno=0)
s.setsockopt(6, socket.TCP_NODELAY, 1)
print('idle=%d' % s.getsockopt(6, socket.TCP_KEEPIDLE))
";
    let off = kernels_idle();
    let rules = "dst=127.0.0.1 : keepidle=2 ; dst=127.0.0.2 : off ; role=server src=127.0.0.1 : keepidle=3
        role=server src=127.0.0.2 : off";
    for (address, client, server) in [("127.0.0.1", 2, 3), ("127.0.0.2", off, off), ("127.0.0.3", 100, 100)] {
        let connection = TcpStream::connect((address, port)).expect("a connection");
        let run = |stdin: OwnedFd| under(rules, Program::python(script).stdin(stdin)).number("idle");
        assert_eq!(run(connection.into()), client, "a connection to {address}");
        let listener = TcpListener::bind((address, 0)).expect("a listener");
        assert_eq!(run(listener.into()), server, "a listener on {address}");
    }
}
