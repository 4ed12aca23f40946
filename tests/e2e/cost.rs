//! What the hooks cost, in instructions: the same each time, whatever else the machine does (times are in scripts/bench).

use crate::harness::{Program, library, probe};

/// Instructions of one socket and close, by callgrind: the difference between two runs, so that start-up is not in it.
fn instructions(kind: &str, inline: bool, settings: Option<&[(&str, &str)]>) -> i64 {
    let [few, many] = ["1000", "3000"].map(|times| {
        let program = probe("loop").into_os_string().into_string().expect("UTF-8");
        let mut args = vec!["--tool=callgrind", "--callgrind-out-file=/dev/null", &program, kind, times];
        if inline {
            args.push("inline");
        }
        let mut valgrind = Program::new("valgrind").args(args);
        if let Some(settings) = settings {
            valgrind = valgrind.env("LD_PRELOAD", library());
            for (name, value) in settings {
                valgrind = valgrind.env(format!("TCPTUNE_{name}"), value);
            }
        }
        let ended = valgrind.run();
        ended.succeeded();
        let collected = ended.stderr.lines().find_map(|line| line.split_once("Collected : "));
        let (_, count) = collected.unwrap_or_else(|| panic!("{ended:#?}"));
        count.trim().parse::<i64>().expect("a number")
    });
    (many - few) / 2000
}

/// Measured on x86-64 with Rust 1.95: TCP with four options 242 more than inline C; UDP and UNIX 65 to 70 more than
/// plain, without settings 40 more. The bounds leave room for another compiler, not for another design.
#[test]
fn a_socket_costs_a_few_dozen_instructions() {
    let settings: &[_] = &[("KEEPIDLE", "60"), ("KEEPINTVL", "10"), ("KEEPCNT", "3")];
    let tuned = instructions("tcp", false, Some(settings)) - instructions("tcp", true, None);
    assert!((1..=300).contains(&tuned), "TCP: {tuned} more than inline C");
    for kind in ["udp", "unix"] {
        let plain = instructions(kind, false, None);
        let tuned = instructions(kind, false, Some(settings)) - plain;
        assert!((1..=90).contains(&tuned), "{kind}: {tuned} more than plain");
        let unset = instructions(kind, false, Some(&[])) - plain;
        assert!((1..=60).contains(&unset), "{kind}: {unset} more than plain, without settings");
    }
}
