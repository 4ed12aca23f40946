//! PHP, whose extensions are plugins.

use crate::command::said;
use crate::harness::{run, users};
use crate::hole::BlackHole;

const EXTENSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../tests/probes/extensions.php");

#[test]
fn extensions_are_tuned() {
    let hole = BlackHole::v4();
    let ip = hole.authority();
    let ip = ip.split(':').next().expect("an address");
    for user in users() {
        let flags = ["--backend", "notify", "--keepidle", "77", "--connect-timeout", "1s"];
        let mut php = run(user, &flags, std::path::Path::new("/usr/bin/php"), &["--", ip, &hole.port()]);
        let script = std::fs::File::open(EXTENSIONS).expect("the script");
        let said = said(php.stdin(script));
        let values: std::collections::HashMap<_, _> =
            said.ok().lines().filter_map(|line| line.split_once('=')).collect();
        let number = |name: &str| {
            values.get(name).and_then(|value| value.parse().ok()).unwrap_or_else(|| panic!("{name}: {said:?}"))
        };
        assert_eq!(number("idle"), 77, "as {user}: {said:?}");
        for extension in ["curl", "pgsql", "sockets"] {
            crate::timeouts::is_in_time(number(extension), 1);
        }
    }
}
