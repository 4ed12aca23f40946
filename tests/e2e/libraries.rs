//! Beside other preloaded libraries, before them and behind them.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::time::Duration;
use std::{fs, iter};

use crate::harness::hole::BlackHole;
use crate::harness::namespace::Namespace;
use crate::harness::{Program, assert_on_time, debug_library, library, probe};

/// A library of a Debian package, below the directory of some architecture.
fn packaged(name: &str) -> PathBuf {
    let directories = fs::read_dir("/usr/lib").expect("a directory").map(|entry| entry.expect("an entry").path());
    let found = directories.chain(iter::once("/usr/lib".into())).map(|d| d.join(name)).find(|file| file.is_file());
    found.unwrap_or_else(|| panic!("{name} is installed (scripts/test)"))
}

/// `LD_PRELOAD` with a library before ours, and behind it.
fn both_orders(ours: &Path, other: &Path) -> [OsString; 2] {
    [[ours, other], [other, ours]].map(|order| {
        let mut preload = order[0].as_os_str().to_owned();
        preload.push(":");
        preload.push(order[1]);
        preload
    })
}

/// A SOCKS 5 server (RFC 1928) in the place of Tor, for as many connections as tests make; then its client.
const SOCKS: &str = "
import os, socket, sys
listener = socket.create_server(('127.0.0.1', 0))
print('port=%d' % listener.getsockname()[1], flush=True)
listener.settimeout(60)
for _ in range(int(sys.argv[1])):
    peer, _ = listener.accept()
    peer.recv(peer.recv(2)[1])
    peer.sendall(b'\\5\\0')
    kind = peer.recv(4, socket.MSG_WAITALL)[3] # an IPv4 address, or a name with its length before it
    name = peer.recv(4 if kind == 1 else peer.recv(1)[0], socket.MSG_WAITALL)
    name = socket.inet_ntoa(name) if kind == 1 else name.decode()
    port = peer.recv(2, socket.MSG_WAITALL)
    print('asked=%s:%d' % (name, int.from_bytes(port, 'big')), flush=True)
    peer.sendall(b'\\5\\0\\0\\1\\0\\0\\0\\0\\0\\0hello')
    peer.close()
";

/// A connect goes through a library that leads it to a SOCKS server, and its socket is tuned, in both orders and with both of
/// our libraries. `config`: the variable that names that library's file, and what is in it for a port.
fn led_by(other: &Path, test: &str, (variable, config): (&str, fn(&str) -> String)) {
    let Some(namespace) = Namespace::or_skip(test) else { return };
    let server = Program::python(SOCKS).args(["4"]).limit(Duration::from_secs(90)).inside(&namespace).start();
    server.printed("port=");
    let port = server.stdout().trim().split_once('=').expect("a port").1.to_owned();
    let file = tempfile::NamedTempFile::new().expect("a file");
    fs::write(&file, config(&port)).expect("written");
    let client = "import socket; s = socket.socket(); s.connect(('198.51.100.7', 80)); \
        print('said=%s\\nidle=%d' % (s.recv(5).decode(), s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE)))";
    for ours in [library(), debug_library()] {
        for preload in both_orders(&ours, other) {
            let ended = Program::python(client)
                .inside(&namespace)
                .tuned_by(ours.clone(), &[("KEEPIDLE", "77"), ("CONNECT_TIMEOUT", "5")])
                .env("LD_PRELOAD", preload)
                .env(variable, file.path())
                .run();
            ended.succeeded();
            assert_eq!((ended.value("said"), ended.number("idle")), ("hello", 77), "{ended:#?}");
        }
    }
    let asked = server.wait().stdout.lines().filter(|line| *line == "asked=198.51.100.7:80").count();
    assert_eq!(asked, 4, "all of them went through {}", other.display());
}

/// torsocks has a `syscall` of its own, which crashes until its constructor has run.
#[test]
fn torsocks_and_ours_both_work() {
    let torsocks = packaged("torsocks/libtorsocks.so");
    let config = |port: &str| format!("TorAddress 127.0.0.1\nTorPort {port}\n");
    led_by(&torsocks, "torsocks_and_ours_both_work", ("TORSOCKS_CONF_FILE", config));
}

#[test]
fn proxychains_and_ours_both_work() {
    let proxychains = packaged("libproxychains.so.4");
    let config = |port: &str| format!("strict_chain\nquiet_mode\n[ProxyList]\nsocks5 127.0.0.1 {port}\n");
    led_by(&proxychains, "proxychains_and_ours_both_work", ("PROXYCHAINS_CONF_FILE", config));
}

/// Both give the program memory before they are started themselves.
#[test]
fn jemalloc_and_ours_both_work() {
    for preload in both_orders(&library(), &packaged("libjemalloc.so.2")) {
        let settings = [("KEEPIDLE", "77")];
        let program = Program::probe("secure").tuned(&settings).env("LD_PRELOAD", &preload);
        let ended = program.env("MALLOC_CONF", "stats_print:true").run();
        ended.succeeded();
        assert_eq!(ended.number("idle"), 77, "{ended:#?}");
        assert!(ended.stderr.contains("jemalloc statistics"), "it was at work: {ended:#?}");
    }
}

/// libfaketime has the clocks and the waits of libc: it stops time, slows it down, or lets it run away.
#[test]
fn a_connect_timeout_is_of_real_time() {
    let (faketime, hole) = (packaged("faketime/libfaketime.so.1"), BlackHole::v4());
    for preload in both_orders(&library(), &faketime) {
        for time in ["2020-01-01 00:00:00", "+0 x0.1", "+0 x20"] {
            let ended = Program::probe("connect")
                .args([hole.ip(), hole.port()])
                .tuned(&[("CONNECT_TIMEOUT", "1.5")])
                .env("LD_PRELOAD", &preload)
                .env("FAKETIME", time)
                .run();
            ended.succeeded();
            assert_eq!(ended.number("errno"), libc::ETIMEDOUT.into(), "{time}: {ended:#?}");
            assert_on_time(ended.elapsed, Duration::from_millis(1500), Duration::from_secs(5));
            // That of the program is another one, or the library would not be there.
            let of_program = ended.number("took");
            assert!(!(1400..=1700).contains(&of_program), "{time}: {of_program} ms for the program");
        }
    }
}

/// Under rules each connect asks whether the program's address can be read; a blocking one with a timeout asks for handlers.
#[test]
fn valgrind_has_nothing_to_say() {
    let hole = BlackHole::v4();
    let rules = "dst=192.0.2.0/24 : off; dst=127.0.0.0/8 : connect_timeout=0.5 ttl=9";
    let program = Program::new("valgrind").args(["--quiet", "--error-exitcode=9"]).args([probe("connect")]);
    let program = program.args([hole.ip(), hole.port()]).limit(Duration::from_secs(60));
    let ended = program.tuned(&[("RULES", rules), ("KEEPIDLE", "60")]).run();
    assert_eq!((ended.succeeded().contains("errno=110"), ended.stderr.as_str()), (true, ""), "{ended:#?}");
}
