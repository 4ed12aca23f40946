//! What `tcptune explain` says of times is what the kernel does.

use std::process::Command;

use serde_json::Value;

use crate::harness::{clean, said, tcptune};

/// Idle connections to a peer that is gone all at once; prints after how many milliseconds each is ended. The arguments:
/// idle, interval, count and user timeout of each.
const DEAD_PEERS: &str = "
import select, socket, subprocess, sys, time
subprocess.check_call(['ip', 'link', 'set', 'lo', 'up'])
listener = socket.create_server(('127.0.0.1', 0))
clients = []
for case in sys.argv[1:]:
    client = socket.create_connection(listener.getsockname())
    clients.append((client, listener.accept()))
    for option, value in zip((4, 5, 6, 18), map(int, case.split())):
        client.setsockopt(socket.IPPROTO_TCP, option, value)
    client.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
start = time.monotonic()
drop = 'add table ip t; add chain ip t o { type filter hook output priority 0; }; add rule ip t o drop'
subprocess.check_call(['nft', drop])
ended = {}
while len(ended) < len(clients) and time.monotonic() - start < 20:
    for client, _ in clients:
        if client not in ended and select.select([client], [], [], 0.005)[0]:
            ended[client] = time.monotonic() - start
for client, _ in clients:
    print(int(ended.get(client, -1) * 1000))
";

#[test]
fn a_dead_idle_peer_is_noticed_when_explain_says_so() {
    // The count decides; then a user timeout: between two probes, before the first one's answer is due, after the count.
    let cases = ["1 1 3 0", "1 2 9 3500", "2 2 9 1000", "1 1 2 5000"];
    let mut unshare = Command::new("unshare");
    clean(&mut unshare).args(["--map-root-user", "--net", "python3", "-I", "-c", DEAD_PEERS]);
    let measured = said(unshare.env("PATH", "/usr/sbin:/usr/bin:/sbin:/bin").args(cases));
    let measured: Vec<i64> = measured.ok().lines().map(|line| line.parse().expect("a number")).collect();
    assert_eq!(measured.len(), cases.len());
    for (case, measured) in cases.iter().zip(measured) {
        let names = ["--keepidle", "--keepintvl", "--keepcnt", "--user-timeout"];
        let flags = names.iter().zip(case.split(' ')).filter(|(_, value)| *value != "0");
        // With a unit: a bare number so low is warned about.
        let unit = |name: &str| {
            if name.ends_with("cnt") {
                ""
            } else if name == "--user-timeout" {
                "ms"
            } else {
                "s"
            }
        };
        let flags = flags.flat_map(|(name, value)| [(*name).to_owned(), format!("{value}{}", unit(name))]);
        let args = ["explain", "--json"].map(str::to_owned).into_iter().chain(flags);
        let explained: Value = serde_json::from_str(said(&mut tcptune(args)).ok()).expect("JSON");
        let said = explained["times"]["dead_idle_peer_ms"].as_i64().expect("a number");
        assert!((said..said + 700).contains(&measured), "{case}: {said} ms said, {measured} ms measured");
    }
}
