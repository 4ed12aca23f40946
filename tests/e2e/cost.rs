//! What the hooks cost, in instructions: the same each time, whatever else the machine does (times are in scripts/bench).

use std::collections::BTreeMap;
use std::fs;
use std::time::Duration;

use tempfile::NamedTempFile;

use crate::harness::namespace::Namespace;
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

/// A file of four settings and so many rules, none of which is for a connect on loopback.
fn file(count: u32, rule: impl Fn(u32) -> String) -> NamedTempFile {
    file_of(count, |i| rule(i) + " : connect_timeout=2s keepidle=30\n")
}

fn file_of(count: u32, rule: impl Fn(u32) -> String) -> NamedTempFile {
    let file = NamedTempFile::new().expect("a file");
    let rules: String = (0..count).map(rule).collect();
    fs::write(&file, format!("keepidle = 60\nkeepintvl = 10\nkeepcnt = 3\n{rules}")).expect("written");
    file
}

fn by_network(i: u32) -> String {
    format!("dst=10.{}.{}.0/24 port=5432", i / 256, i % 256)
}

fn under(kind: &str, rules: &NamedTempFile) -> i64 {
    let path = rules.path().to_str().expect("UTF-8");
    instructions(kind, false, Some(&[("CONFIG", path), ("STRICT", "on")]))
}

/// Measured on x86-64 with Rust 1.95: TCP with four options 174 more than inline C; UDP and UNIX 60 to 63 more than
/// plain, without settings 18 more. The bounds leave room for another compiler, not for another design.
#[test]
fn a_socket_costs_a_few_dozen_instructions() {
    let settings: &[_] = &[("KEEPIDLE", "60"), ("KEEPINTVL", "10"), ("KEEPCNT", "3")];
    let tuned = instructions("tcp", false, Some(settings)) - instructions("tcp", true, None);
    assert!((1..=210).contains(&tuned), "TCP: {tuned} more than inline C");
    for kind in ["udp", "unix"] {
        let plain = instructions(kind, false, None);
        let tuned = instructions(kind, false, Some(settings)) - plain;
        assert!((1..=66).contains(&tuned), "{kind}: {tuned} more than plain");
        let unset = instructions(kind, false, Some(&[])) - plain;
        assert!((1..=28).contains(&unset), "{kind}: {unset} more than plain, without settings");
    }
}

/// Measured as above: of 1,000 rules that do not match each costs 5.4 instructions where the peer's network differs, 10.4
/// where only the port does, and 6 where only the own address does; the first 478, with its look at the peer's address.
#[test]
fn a_rule_costs_a_few_instructions_of_a_connect() {
    let none = under("connect", &file(0, by_network));
    let first = under("connect", &file(1, by_network)) - none;
    assert!((1..=490).contains(&first), "{first} more under one rule");
    for (kind, rules, most) in [
        ("dst", file(1000, by_network), 7),
        ("port", file(1000, |i| format!("dst=127.0.0.0/8 port={}", i + 1)), 12),
        ("src", file(1000, |i| format!("src=10.{}.{}.0/24", i / 256, i % 256)), 8),
    ] {
        let each = (under("connect", &rules) - none) / 1000;
        assert!((1..=most).contains(&each), "{kind}: {each} a rule");
    }
}

#[test]
fn rules_cost_other_sockets_nothing() {
    let (none, thousand) = (file(0, by_network), file(1000, by_network));
    for kind in ["udp", "unix"] {
        let (settings, rules) = (under(kind, &none), under(kind, &thousand));
        assert!((settings - rules).abs() <= 5, "{kind}: {rules} under rules, {settings} under settings");
    }
}

/// Instructions of a program that does nothing.
fn at_start(rules: &NamedTempFile) -> i64 {
    let program = Program::new("valgrind").args(["--tool=callgrind", "--callgrind-out-file=/dev/null", "/bin/true"]);
    let program = program.env("LD_PRELOAD", library()).env("TCPTUNE_STRICT", "on");
    let ended = program.env("TCPTUNE_CONFIG", rules.path()).run();
    ended.succeeded();
    let collected = ended.stderr.lines().find_map(|line| line.split_once("Collected : "));
    collected.unwrap_or_else(|| panic!("{ended:#?}")).1.trim().parse().expect("a number")
}

/// KiB that a process has to itself: the least of some, since python's own differ by 200 from one to the next.
fn private(rules: &NamedTempFile) -> i64 {
    (0..5).map(|_| private_once(rules)).min().expect("some")
}

fn private_once(rules: &NamedTempFile) -> i64 {
    let script = "import re; print('private=%d' % int(re.search('Private_Dirty: *([0-9]+)', \
        open('/proc/self/smaps_rollup').read())[1]))";
    let ended = Program::python(script).env("LD_PRELOAD", library()).env("TCPTUNE_CONFIG", rules.path()).run();
    ended.succeeded();
    ended.number("private")
}

/// Measured as above, in millions of instructions: 1.45 for 1,000 rules, 2.4 if each has two settings of its own, 4.3 if
/// each has five, 2.2 if they look at ports alone, which clients of both families and listeners have, and 2.4 if
/// all are for other programs. When each rule was kept as a whole set of settings they took 2.5 to 16, and up to 2.6 MB.
#[test]
fn a_thousand_rules_cost_the_start_of_a_program_little() {
    let two = |i: u32| format!("connect_timeout={}ms keepidle={}", 2000 + i, 30 + i);
    let five =
        |i: u32| format!("{} keepintvl={} user_timeout={} recv_timeout={}s", two(i), 1 + i % 50, 1000 + i, 1 + i);
    let none = file(0, by_network);
    let start = at_start(&none);
    for (kind, rules, most) in [
        ("with the same settings", file(1000, by_network), 1_470_000),
        ("with two settings each", file_of(1000, |i| format!("{} : {}\n", by_network(i), two(i))), 2_600_000),
        ("with five settings each", file_of(1000, |i| format!("{} : {}\n", by_network(i), five(i))), 4_600_000),
        ("of ports", file_of(1000, |i| format!("port={} : {}\n", i + 1, two(i))), 2_450_000),
        ("of others", file_of(1000, |i| format!("program=other{i} {} : {}\n", by_network(i), two(i))), 2_650_000),
    ] {
        let more = at_start(&rules) - start;
        assert!((100_000..=most).contains(&more), "{kind}: {more} instructions");
        let more = private(&rules) - private(&none);
        assert!((-100..=300).contains(&more), "{kind}: {more} KiB");
    }
}

/// How often the probe makes each call.
const TIMES: i64 = 100;

/// Instructions of the calls of an event loop, by callgrind, beside so many connects that go on: `CALL: COUNT` of each.
fn of_an_event_loop(namespace: &Namespace, counts: &[&str], tuned: bool) -> BTreeMap<String, i64> {
    let directory = tempfile::tempdir().expect("a directory");
    let out = |number: &str| directory.path().join(format!("out{number}"));
    let file = format!("--callgrind-out-file={}", out("").display());
    let counted = ["--toggle-collect=repeated", "--dump-before=measured"];
    let program =
        Program::new("prlimit").args(["--nofile=16384:", "valgrind", "--tool=callgrind", &file]).args(counted);
    let program = program.args([probe("storm").as_os_str()]).args(["127.0.0.1", "9"]).args(counts);
    let settings: &[_] = if tuned { &[("TCPTUNE_KEEPIDLE", "60"), ("TCPTUNE_CONNECT_TIMEOUT", "300")] } else { &[] };
    let program = settings.iter().fold(program, |program, (name, value)| program.env(name, value));
    let program = if tuned { program.env("LD_PRELOAD", library()) } else { program };
    // The kernel gives an attempt up after 127 s.
    let ended = program.inside(namespace).limit(Duration::from_secs(100)).run();
    ended.succeeded();
    assert_eq!(ended.number("limited"), i64::from(tuned && counts.len() > 1), "{ended:#?}");
    let measured = ended.stdout.lines().filter(|line| line.contains(": "));
    let count = |number: usize| {
        let dump = fs::read_to_string(out(&format!(".{number}"))).expect("of callgrind");
        let total = dump.lines().find_map(|line| line.strip_prefix("totals: ")).expect("a total");
        total.parse::<i64>().expect("a number")
    };
    measured.zip(1..).map(|(line, number)| (line.to_owned(), count(number))).collect()
}

/// Measured as above, in instructions: epoll_wait 113 and poll 167 more while any connect goes on, a connect and close 197 more
/// if others do; and no more with 10,000 than with 100, nor after the last.
#[test]
fn a_call_costs_no_more_beside_ten_thousand_pending_connects() {
    let test = "a_call_costs_no_more_beside_ten_thousand_pending_connects";
    let Some(namespace) = Namespace::or_skip(test) else { return };
    namespace.run("nft", &["add table inet hole"]);
    namespace.run("nft", &["add chain inet hole in { type filter hook input priority 0; }"]);
    namespace.run("nft", &["add rule inet hole in tcp dport 9 drop"]);
    let plain = of_an_event_loop(&namespace, &["0"], false);
    let tuned = of_an_event_loop(&namespace, &["0", "100", "1000", "10000"], true);
    for (call, without, with_some) in [("epoll_wait", 60, 130), ("poll", 60, 190), ("connect and close", 1800, 220)] {
        let of = |count: &str| tuned[&format!("{call}: {count}")] / TIMES;
        let more = of("0") - plain[&format!("{call}: 0")] / TIMES;
        assert!((1..=without).contains(&more), "{call}: {more} more than without the library: {tuned:#?} {plain:#?}");
        let more = of("100") - of("0");
        assert!((1..=with_some).contains(&more), "{call}: {more} more beside 100: {tuned:#?}");
        for (count, as_with) in [("1000", "100"), ("10000", "100"), ("over", "0")] {
            let more = of(count) - of(as_with);
            assert!((-5..=5).contains(&more), "{call}: {more} more beside {count} than beside {as_with}: {tuned:#?}");
        }
    }
    let by_threads = |count| tuned[&format!("epoll_wait by 64 threads: {count}")] / (64 * TIMES);
    let more = by_threads("10000") - by_threads("0");
    assert!((1..=130).contains(&more), "{more} more by 64 threads: {tuned:#?}");
}

/// KiB of the library's own mappings that are resident in a program which has made a TCP socket: its file, and the
/// anonymous pages behind it.
fn resident(settings: &[(&str, &str)]) -> u64 {
    // What has just been linked is still to be written, and the kernel maps larger pieces of it than of a file on disk.
    fs::File::open(library()).and_then(|file| file.sync_all()).expect("on disk");
    let script = "import socket, time; s = socket.socket(); print('made', flush=True); time.sleep(20)";
    // Without the log lines that prove the library elsewhere: here it must be among the mappings.
    let program = Program::python(script).env("LD_PRELOAD", library());
    let set = |program: Program, (name, value): &(&str, &str)| program.env(format!("TCPTUNE_{name}"), value);
    let running = settings.iter().fold(program, set).start();
    running.printed("made");
    let maps = fs::read_to_string(format!("/proc/{}/smaps", running.pid())).expect("of a child");
    running.kill();
    let (mut resident, mut ours) = (0, false);
    for line in maps.lines() {
        let mut words = line.split_whitespace();
        let first = words.next().unwrap_or_default();
        if first == "Rss:" && ours {
            resident += words.next().and_then(|kib| kib.parse::<u64>().ok()).expect("KiB");
        } else if !first.ends_with(':') {
            let name = words.nth(4).unwrap_or_default();
            ours = name.ends_with("libtcptune.so") || (ours && name.is_empty());
        }
    }
    resident
}

/// A fault maps 64 KiB around it, as far as they are of the file (fault_around_bytes): those of the address space, so that
/// it depends on where the mapping begins, in steps of a page; or those of the file, where the page cache has it in large
/// pieces. So it is the mean of as many starts as there are pages in 64 KiB. Measured: 80 to 85 KiB without settings, 84 to
/// 88 with, since what a start needs lies in the first 64 KiB of the file; some 30 more by address.
#[test]
fn the_library_takes_little_memory() {
    const STARTS: u64 = 16;
    const MOST: u64 = 150;
    let all = [("KEEPIDLE", "60"), ("KEEPINTVL", "10"), ("KEEPCNT", "3"), ("CONNECT_TIMEOUT", "3")];
    for settings in [&[][..], &all] {
        let resident = (0..STARTS).map(|_| resident(settings)).sum::<u64>() / STARTS;
        assert!((20..=MOST).contains(&resident), "{settings:?}: {resident} KiB");
    }
}
