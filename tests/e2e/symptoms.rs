//! The cases of docs/troubleshooting.md, staged: first the symptom, then the same with the setting that the page names.

use std::fs;
use std::path::Path;
use std::time::Duration;

use crate::harness::namespace::Namespace;
use crate::harness::{Ended, Program, Running, assert_on_time, eventually};

type Settings<'a> = Option<&'a [(&'a str, &'a str)]>;

/// Accepts, answers each line with itself, and sets no option.
const SERVER: &str = "
import socket, sys, threading
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
s.bind(('127.0.0.1', 7000)); s.listen(64)
print('listening', flush=True)
def serve(c):
    try:
        while (data := c.recv(100)): c.sendall(data)
    except OSError: pass
while True: threading.Thread(target=serve, args=(s.accept()[0],), daemon=True).start()
";

/// Asks, pauses, and asks again on the same connection.
const CLIENT: &str = "
import socket, sys, time
s = socket.create_connection(('127.0.0.1', 7000))
def ask():
    s.settimeout(4)
    try: s.sendall(b'x'); return 'answered' if s.recv(1) == b'x' else 'closed'
    except OSError as e: return type(e).__name__
    finally: s.settimeout(None)
print('first=' + ask(), flush=True); time.sleep(float(sys.argv[1])); print('second=' + ask())
";

fn server(namespace: &Namespace, settings: Settings) -> Running {
    let server = Program::python(SERVER).inside(namespace).limit(Duration::from_secs(60)).with(settings).start();
    server.printed("listening");
    server
}

/// A NAT or load balancer that forgets a connection after 5 s without a packet, and then treats its packets so.
fn forgetting(test: &str, then: &str) -> Option<Namespace> {
    let namespace = Namespace::or_skip(test)?;
    let rules = format!(
        "table inet nat {{
            ct timeout forgets {{
                protocol tcp
                l3proto ip
                policy = {{ established : 5 }}
            }}
            chain out {{
                type filter hook output priority 0
                ct timeout set \"forgets\"
            }}
            chain in {{
                type filter hook input priority 0
                ct state established accept
                tcp flags & (syn | ack) == syn accept
                tcp dport 7000 {then}
            }}
        }}"
    );
    namespace.run("nft", &[&rules]);
    namespace.run("sysctl", &["-qw", "net.netfilter.nf_conntrack_tcp_loose=0"]);
    Some(namespace)
}

fn ask(namespace: &Namespace, pause: &str, settings: Settings) -> Ended {
    let client = Program::python(CLIENT).args([pause]).inside(namespace).with(settings);
    let ended = client.run();
    ended.succeeded();
    assert_eq!(ended.value("first"), "answered", "{ended:#?}");
    ended
}

const KEEPALIVE: Settings = Some(&[("KEEPIDLE", "2"), ("KEEPINTVL", "1")]);

#[test]
fn an_idle_connection_dies_behind_a_nat() {
    let Some(namespace) = forgetting("an_idle_connection_dies_behind_a_nat", "drop") else { return };
    let _server = server(&namespace, None);
    assert_eq!(ask(&namespace, "8", None).value("second"), "TimeoutError");
    assert_eq!(ask(&namespace, "8", KEEPALIVE).value("second"), "answered");
}

#[test]
fn a_reset_on_the_first_request_after_a_pause() {
    let test = "a_reset_on_the_first_request_after_a_pause";
    let Some(namespace) = forgetting(test, "reject with tcp reset") else { return };
    let _server = server(&namespace, None);
    assert_eq!(ask(&namespace, "8", None).value("second"), "ConnectionResetError");
    assert_eq!(ask(&namespace, "8", KEEPALIVE).value("second"), "answered");
}

#[test]
fn a_connect_hangs() {
    let Some(namespace) = Namespace::or_skip("a_connect_hangs") else { return };
    let hole = "table inet hole {
            chain in {
                type filter hook input priority 0
                tcp dport 7001 drop
            }
        }";
    namespace.run("nft", &[hole]);
    let curl = || {
        let url = ["--silent", "--show-error", "--noproxy", "*", "http://127.0.0.1:7001/"];
        Program::new("curl").args(url).inside(&namespace).limit(Duration::from_secs(6))
    };
    assert!(curl().run().killed, "curl alone waits on");
    let ended = curl().tuned(&[("CONNECT_TIMEOUT", "2s")]).run();
    assert_eq!(ended.code(), Some(28).filter(|_| ended.stderr.contains("(28)")).or(Some(7)), "{ended:#?}");
    assert_on_time(ended.elapsed, Duration::from_secs(2), Duration::from_secs(3));
}

/// How many established connections the listener's side has.
fn established(namespace: &Namespace) -> usize {
    namespace.run("ss", &["-Htn", "state", "established", "sport = :7000"]).lines().count()
}

#[test]
fn half_open_connections_pile_up() {
    let Some(namespace) = Namespace::or_skip("half_open_connections_pile_up") else { return };
    let gone = "table inet gone {
            set clients {
                type inet_service
            }
            chain in {
                type filter hook input priority 0
                tcp dport @clients drop
                tcp sport @clients drop
            }
        }";
    namespace.run("nft", &[gone]);
    for (settings, left) in [(None, 5), (Some(&[("KEEPIDLE", "1"), ("KEEPINTVL", "1"), ("KEEPCNT", "2")][..]), 0)] {
        let server = server(&namespace, settings);
        let script = "
import socket, time
all = [socket.create_connection(('127.0.0.1', 7000)) for _ in range(5)]
print('ports=' + ','.join(str(s.getsockname()[1]) for s in all), flush=True)
time.sleep(30)";
        let clients = Program::python(script).inside(&namespace).start();
        clients.printed("ports=");
        let printed = clients.stdout();
        let ports = printed.trim().strip_prefix("ports=").expect("ports").to_owned();
        eventually("they are accepted", || established(&namespace) == 5);
        // The clients lose their network, and are gone: no packet of theirs comes any more.
        namespace.run("nft", &["add element inet gone clients { ", &ports, " }"]);
        clients.kill();
        std::thread::sleep(Duration::from_secs(1));
        if left == 0 {
            eventually("keepalive finds them gone", || established(&namespace) == 0);
        } else {
            std::thread::sleep(Duration::from_secs(4));
        }
        assert_eq!(established(&namespace), left);
        server.kill();
    }
}

#[test]
fn a_server_accepts_and_says_nothing() {
    let Some(namespace) = Namespace::or_skip("a_server_accepts_and_says_nothing") else { return };
    // Its kernel accepts, and answers keepalive probes.
    let listener = namespace.listener("127.0.0.1:7002");
    let ask = |settings: Settings| {
        let url = ["--silent", "--show-error", "--noproxy", "*", "http://127.0.0.1:7002/"];
        Program::new("curl").args(url).inside(&namespace).limit(Duration::from_secs(5)).with(settings).run()
    };
    assert!(ask(Some(&[("KEEPIDLE", "1"), ("KEEPINTVL", "1"), ("KEEPCNT", "2")])).killed, "keepalive does not help");
    let ended = ask(Some(&[("RECV_TIMEOUT", "2s")]));
    assert!(!ended.killed && ended.code() != Some(0), "{ended:#?}");
    assert_on_time(ended.elapsed, Duration::from_secs(2), Duration::from_secs(2));
    drop(listener);
}

/// A link is down for 4 s: keepalive of 1 s + 1 s × 2 gives the peer up, 1 s + 1 s × 20 does not.
#[test]
fn a_peer_that_sleeps_outlives_a_larger_keepcnt() {
    let Some(namespace) = Namespace::or_skip("a_peer_that_sleeps_outlives_a_larger_keepcnt") else { return };
    let server = server(&namespace, None);
    for (count, then) in [("2", "TimeoutError"), ("20", "answered")] {
        let settings = [("KEEPIDLE", "1"), ("KEEPINTVL", "1"), ("KEEPCNT", count)];
        let client = Program::python(CLIENT).args(["7"]).inside(&namespace).tuned(&settings).start();
        client.printed("first=answered");
        namespace.run(
            "nft",
            &["table inet asleep { chain in { type filter hook input priority 0; tcp dport 7000 drop; }; }"],
        );
        std::thread::sleep(Duration::from_secs(4));
        namespace.run("nft", &["delete table inet asleep"]);
        let ended = client.wait();
        assert_eq!(ended.value("second"), then, "KEEPCNT={count}: {ended:#?}");
    }
    server.kill();
}

/// An answer takes 3 s: with a timeout of 1 s it is cut off, unless a rule leaves this server out.
#[test]
fn an_answer_that_is_right_but_slow_is_cut_off() {
    let Some(namespace) = Namespace::or_skip("an_answer_that_is_right_but_slow_is_cut_off") else { return };
    let script = "
import socket, time
s = socket.create_server(('127.0.0.1', 7000))
print('listening', flush=True)
while True:
    c = s.accept()[0]
    try: c.recv(100); time.sleep(3); c.sendall(b'x')
    except OSError: pass";
    let server = Program::python(script).inside(&namespace).limit(Duration::from_secs(60)).start();
    server.printed("listening");
    let client = "
import socket
s = socket.create_connection(('127.0.0.1', 7000))
try: s.sendall(b'x'); print('answer=' + ('answered' if s.recv(1) == b'x' else 'closed'))
except OSError as e: print('answer=' + type(e).__name__)";
    let left_out = ("RULES", "port=7000 : recv_timeout=default");
    for (settings, answer) in [
        (None, "answered"),
        (Some(&[("RECV_TIMEOUT", "1s")][..]), "TimeoutError"),
        (Some(&[("RECV_TIMEOUT", "1s"), left_out]), "answered"),
    ] {
        let ended = Program::python(client).inside(&namespace).with(settings).run();
        assert_eq!(ended.value("answer"), answer, "{settings:?}: {ended:#?}");
    }
    server.kill();
}

/// The first SYNs are lost: 1 s is not enough for the one that comes through.
#[test]
fn a_connect_timeout_that_is_too_short_gives_up() {
    let Some(namespace) = Namespace::or_skip("a_connect_timeout_that_is_too_short_gives_up") else { return };
    let server = server(&namespace, None);
    let client = "
import socket
print('begins', flush=True)
try: socket.create_connection(('127.0.0.1', 7000)); print('connect=connected')
except OSError as e: print('connect=' + type(e).__name__)";
    for (settings, then) in [
        (None, "connected"),
        (Some(&[("CONNECT_TIMEOUT", "1s")][..]), "TimeoutError"),
        (Some(&[("CONNECT_TIMEOUT", "15s")]), "connected"),
    ] {
        namespace
            .run("nft", &["table inet lost { chain in { type filter hook input priority 0; tcp dport 7000 drop; }; }"]);
        let client = Program::python(client).inside(&namespace).with(settings).start();
        client.printed("begins");
        std::thread::sleep(Duration::from_secs(2));
        namespace.run("nft", &["delete table inet lost"]);
        let ended = client.wait();
        assert_eq!(ended.value("connect"), then, "{settings:?}: {ended:#?}");
    }
    server.kill();
}

/// The page names each test of this file, and each case of the page names its test.
#[test]
fn the_page_and_these_tests_are_in_step() {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = fs::read_to_string(root.join("docs/troubleshooting.md")).expect("the page");
    let tests = fs::read_to_string(root.join("tests/e2e/symptoms.rs")).expect("this file");
    let tests: Vec<_> = tests
        .split("#[test]\nfn ")
        .skip(1)
        .filter_map(|test| test.split_once('(').map(|(name, _)| name))
        .filter(|name| *name != "the_page_and_these_tests_are_in_step")
        .collect();
    assert!(tests.len() >= 4);
    for test in tests {
        assert!(page.contains(&format!("`{test}`")), "docs/troubleshooting.md does not name {test}");
    }
}
