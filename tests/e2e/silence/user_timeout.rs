//! What `TCP_USER_TIMEOUT` ends, by each of the kernel's rules: unacknowledged data, a peer that takes nothing though it
//! lives, an idle connection with keepalive.

use std::time::Duration;

use super::waits::PRELUDE;
use crate::harness::namespace::Namespace;
use crate::harness::{Ended, Program};

const ETIMEDOUT: i64 = libc::ETIMEDOUT as i64;

/// Three connections: data into the void, data that the peer does not read, and none. Each is waited for until it ends.
const SCRIPT: &str = "
listener = socket.create_server(('127.0.0.1', 0), backlog=9)
keep = []
def pair():
    client = socket.create_connection(listener.getsockname())
    keep.append(listener.accept()[0])
    return client
began = time.monotonic()
void, paused, idle = pair(), pair(), pair()
print('ports=%d,%d' % (void.getsockname()[1], idle.getsockname()[1]), flush=True)
sys.stdin.readline()
def until_ended(name, s, send):
    start = time.monotonic()
    s.setblocking(False)
    try:
        while send: s.send(bytes(send))
    except BlockingIOError: pass
    poll(s, 6000, 0)
    error = s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
    end = time.monotonic()
    for what, since in ('took', start), ('lived', began): print('%s_%s=%d' % (name, what, (end - since) * 1000))
    print('%s=%d' % (name, error), flush=True)

void.send(b'x')
threads = [threading.Thread(target=until_ended, args=a) for a in (('void', void, 0), ('paused', paused, 1 << 16), ('idle', idle, 0))]
for t in threads: t.start()
for t in threads: t.join()
";

fn run(namespace: &Namespace, settings: &[(&str, &str)]) -> Ended {
    let (read, write) = std::io::pipe().expect("a pipe");
    let program = Program::python(&format!("{PRELUDE}{SCRIPT}")).stdin(read).inside(namespace);
    let running = program.tuned(settings).start();
    running.printed("ports=");
    let printed = running.stdout();
    let ports = printed.lines().find_map(|line| line.strip_prefix("ports=")).expect("printed");
    namespace.run("nft", &["add table inet void"]);
    namespace.run("nft", &["add chain inet void in { type filter hook input priority 0; }"]);
    for end in ["sport", "dport"] {
        namespace.run("nft", &[&format!("add rule inet void in tcp {end} {{ {ports} }} drop")]);
    }
    drop(write); // it goes on
    let ended = running.wait();
    namespace.run("nft", &["delete table inet void"]);
    ended.succeeded();
    ended
}

#[test]
fn a_user_timeout_ends_three_kinds_of_connections() {
    let name = "a_user_timeout_ends_three_kinds_of_connections";
    let Some(namespace) = Namespace::or_skip(name) else { return };
    let keepalive = [("KEEPIDLE", "1"), ("KEEPINTVL", "1"), ("KEEPCNT", "9")];
    let plain = run(&namespace, &keepalive);
    for kind in ["void", "paused", "idle"] {
        assert_eq!(plain.number(kind), 0, "{kind} lasts for more than 6 s: {plain:#?}");
    }
    let tuned = run(&namespace, &[&keepalive[..], &[("USER_TIMEOUT", "2s")]].concat());
    for kind in ["void", "paused", "idle"] {
        assert_eq!(tuned.number(kind), ETIMEDOUT, "{kind}: {tuned:#?}");
        // It counts from what the peer said last, which a busy machine may have seen long before the wait.
        assert!(tuned.milliseconds(&format!("{kind}_lived")) >= Duration::from_secs(2), "{kind}: {tuned:#?}");
        assert!(tuned.milliseconds(&format!("{kind}_took")) <= Duration::from_millis(4500), "{kind}: {tuned:#?}");
    }
}
