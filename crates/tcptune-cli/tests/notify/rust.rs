//! Dynamic programs of Rust whose socket calls pass by libc: on rustix, and on smol.

use crate::harness::{Server, numbers, output, rust, users};
use crate::hole::BlackHole;

const PROGRAMS: [(&str, &[&str]); 2] = [("on-rustix", &["blocking", "nonblocking"]), ("on-smol", &["client"])];

/// No way is asked for: `run` finds it.
fn printed(user: u32, flags: &[&str], name: &str, args: &[&str]) -> Vec<i64> {
    numbers(&output(user, flags, &rust(name), args))
}

#[test]
fn run_finds_how_they_are_reached_and_their_options_hold() {
    let server = Server::start();
    for user in users() {
        // As root cgroups would reach them, too.
        let flags: &[&str] =
            if user == 0 { &["--backend", "notify", "--keepidle", "77"] } else { &["--keepidle", "77"] };
        for (name, clients) in PROGRAMS {
            for client in clients {
                let client = [*client, server.port()];
                let [error, _, on, idle] = printed(user, flags, name, &client)[..] else { panic!("four numbers") };
                assert_eq!((error, on, idle), (0, 1, 77), "{name} {client:?} as {user}");
            }
            assert_eq!(printed(user, flags, name, &["server"]), [1, 77, 1, 77], "{name} as {user}");
        }
    }
}

#[test]
fn their_connects_end_in_time() {
    let hole = BlackHole::v4();
    for user in users() {
        for (name, clients) in PROGRAMS {
            for (client, seconds) in clients.iter().flat_map(|client| [(client, 1), (client, 3)]) {
                let timeout = format!("{seconds}s");
                let flags = ["--backend", "notify", "--connect-timeout", &timeout];
                let ended = printed(user, &flags, name, &[client, &hole.port()]);
                assert_eq!(ended[0], i64::from(libc::ETIMEDOUT), "{name} {client} as {user}");
                crate::timeouts::is_in_time(ended[1], seconds);
            }
        }
    }
}
