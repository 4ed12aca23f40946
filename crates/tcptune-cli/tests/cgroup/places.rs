//! Which cgroup, and beside whom.

use std::fs;
use std::process::Command;

use crate::group::{Group, Other, listener, mount, programs_of};
use crate::harness::{Ended, Running, TCPTUNE, real_python};

fn sleep(group: &Group) -> Running {
    let mut command = Command::new("sleep");
    command.arg("60");
    group.enter(&mut command);
    Running::start(&mut command)
}

fn tcptune(args: &[&str]) -> Ended {
    Ended::of(Command::new(TCPTUNE).args(args))
}

#[test]
fn by_unit_by_process_and_by_name() {
    let Some(group) = Group::or_skip("by_unit_by_process_and_by_name") else { return };
    let name = format!("tcptune-test-{}.service", std::process::id());
    let unit = group.below(&name);
    let running = sleep(&unit);
    let pid = running.pid().to_string();
    let below_the_mount = format!("{}/{name}", group.path().file_name().expect("a name").to_string_lossy());
    for place in [
        ["--unit", &name],
        ["--unit", name.trim_end_matches(".service")],
        ["--pid", &pid],
        ["--cgroup", &below_the_mount],
        ["--cgroup", unit.word()],
    ] {
        let ended = tcptune(&["attach", place[0], place[1], "--keepidle", "60"]);
        assert_eq!(ended.code, Some(0), "{place:?}: {ended:#?}");
        assert!(ended.stdout.starts_with(unit.word()), "{ended:#?}");
        let all = tcptune(&["attached", place[0], place[1], "--json"]).json();
        assert_eq!(all[0]["cgroup"], unit.word(), "{place:?}: {all:#}");
        assert_eq!(tcptune(&["detach", place[0], place[1]]).code, Some(0), "{place:?}");
    }
    let twin = group.below("twin");
    let other = twin.below(&name);
    let ended = tcptune(&["attach", "--unit", &name, "--keepidle", "60"]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("several cgroups have this name"), "{ended:#?}");
    drop(running);
    drop(other);
}

#[test]
fn wrong_places_and_settings_are_one_line_and_attach_nothing() {
    let test = "wrong_places_and_settings_are_one_line_and_attach_nothing";
    let Some(group) = Group::or_skip(test) else { return };
    let word = group.word();
    for (args, code, says) in [
        (&["--cgroup", "/tmp", "--keepidle", "60"][..], 1, "no cgroup of version 2"),
        (&["--cgroup", "/no/such", "--keepidle", "60"], 1, "no cgroup of version 2"),
        (&["--cgroup", "../../../tmp", "--keepidle", "60"], 1, "no cgroup of version 2"),
        (&["--unit", "tcptune-no-such.service", "--keepidle", "60"], 1, "no cgroup of this name"),
        (&["--pid", "4194304", "--keepidle", "60"], 1, "not there"),
        (&["--pid", "x", "--keepidle", "60"], 2, "invalid value"),
        (&["--keepidle", "60"], 2, "required"),
        (&["--cgroup", word], 2, "no setting that BPF programs could set"),
        (&["--cgroup", word, "--linger", "3", "--backlog", "5"], 2, "LINGER is left out"),
        (&["--cgroup", word, "--keepidle", "60", "--linger", "3", "--strict", "on"], 2, "LINGER is left out"),
        (&["--cgroup", word, "--keepidle", "99999"], 2, "--keepidle=99999: not accepted"),
        (&["--cgroup", word, "--rule", "dst=example.org : keepidle=5"], 2, "a host name is resolved before"),
        (&["--cgroup", word, "--max-pacing-rate", "8G"], 2, "no more than 4 GiB"),
        (&["--cgroup", word, "--keepidle", "60", "--for", "0"], 2, "accepted: 1000ms"),
        (&["--cgroup", word, "--log", "debug", "--keepidle", "60"], 2, "unexpected argument"),
    ] {
        let ended = tcptune(&[&["attach"], args].concat());
        assert_eq!(ended.code, Some(code), "{args:?}: {ended:#?}");
        assert!(ended.stderr.contains(says), "{args:?}: {ended:#?}");
        assert!(!ended.stderr.contains("\\x0a"), "{args:?}: {ended:#?}");
        assert_eq!(group.attached(), None, "{args:?}");
    }
    let ended = group.tcptune("attach", &["--keepidle", "60", "--linger", "3", "--connect-timeout", "20ms"]);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    assert!(ended.stderr.contains("tcptune: LINGER is left out: the kernel lets no BPF program set"), "{ended:#?}");
    assert!(ended.stderr.contains("CONNECT_TIMEOUT=20ms becomes 100ms"), "{ended:#?}");
    assert_eq!(group.attached().expect("attached")["settings"]["CONNECT_TIMEOUT"], "100ms");
    let ended = group.tcptune("attach", &["--keepidle", "60", "--dry-run"]);
    assert!(ended.stdout.contains("tcptune_sockops") && ended.stdout.contains("; KEEPIDLE=60s"), "{ended:#?}");
    group.detach();
    let ended = group.tcptune("detach", &[]);
    assert_eq!(ended.code, Some(1), "{ended:#?}");
    assert!(ended.stderr.contains("nothing of tcptune is attached"), "{ended:#?}");
}

#[test]
fn the_root_needs_a_yes() {
    if Group::or_skip("the_root_needs_a_yes").is_none() {
        return;
    }
    let groups = fs::read_to_string("/proc/self/cgroup").expect("cgroups");
    if !groups.lines().any(|line| line == "0::/") {
        println!("skipped: the_root_needs_a_yes: this process is not in the root");
        return;
    }
    let pid = std::process::id().to_string();
    let root = mount().expect("a mount");
    let says = format!("the root: all programs of the machine ({}, ", root.display());
    for place in [["--pid", pid.as_str()], ["--cgroup", "/"], ["--cgroup", root.to_str().expect("UTF-8")]] {
        let ended = tcptune(&["attach", place[0], place[1], "--keepidle", "60"]);
        assert_eq!(ended.code, Some(2), "{place:?}: {ended:#?}");
        assert!(ended.stderr.contains(&says) && ended.stderr.contains(" processes in it"), "{place:?}: {ended:#?}");
    }
}

/// A name that is no cgroup's is not the root's either.
#[test]
fn the_root_is_named_only_by_its_name() {
    if Group::or_skip("the_root_is_named_only_by_its_name").is_none() {
        return;
    }
    let root = mount().expect("a mount");
    for (directory, name) in [("/tmp", "."), ("/tmp", ".."), ("/", "sys/..")] {
        let mut command = Command::new(TCPTUNE);
        let ended = Ended::of(command.args(["detach", "--cgroup", name]).current_dir(directory));
        assert_eq!(ended.code, Some(1), "{name:?}: {ended:#?}");
        assert!(ended.stderr.contains("no cgroup of version 2"), "{name:?}: {ended:#?}");
    }
    let mut command = Command::new(TCPTUNE);
    let ended = Ended::of(command.args(["detach", "--cgroup", "."]).current_dir(&root));
    assert!(ended.stderr.contains(&format!("{}: nothing of tcptune is attached", root.display())), "{ended:#?}");
}

#[test]
fn the_inner_of_two_cgroups_holds() {
    let Some(outer) = Group::or_skip("the_inner_of_two_cgroups_holds") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let inner = outer.below("inner");
    let middle = outer.below("no settings of its own");
    outer.attach(&["--keepidle", "60", "--keepcnt", "7", "--connect-timeout", "400ms"]);
    inner.attach(&["--keepidle", "61", "--user-timeout", "9s"]);
    let of = |group: &Group, words: &[&str]| {
        let said = group.client(&[&["127.0.0.1", port.as_str()], words].concat());
        ["keepidle", "keepcnt", "user_timeout"].map(|name| said[name].as_i64().unwrap_or(0))
    };
    assert_eq!(of(&inner, &[]), [61, 9, 9000], "nothing of the outer one");
    assert_eq!(of(&inner, &["late_idle=300"]), [61, 9, 9000]);
    assert_eq!(of(&middle, &["late_idle=300", "timeout=7777"]), [60, 7, 7777]);
    // What only the outer one sets is the program's on a socket of the inner one.
    inner.attach(&["--user-timeout", "9s"]);
    assert_eq!(of(&inner, &["late_idle=300"]), [300, 9, 9000]);
    assert_eq!(outer.count("connects"), 1, "those of the inner one are counted there");
    let hole = crate::hole::BlackHole::v4();
    let said = middle.client(&[&hole.ip(), &hole.port()]);
    assert_eq!(said["errno"], libc::ETIMEDOUT);
    let attached = inner.tcptune("attached", &["--json"]).json();
    let cgroups: Vec<_> = attached.as_array().expect("a list").iter().map(|it| it["cgroup"].as_str()).collect();
    assert_eq!(cgroups, [Some(inner.word()), Some(outer.word())], "the nearest first");
    inner.detach();
    assert_eq!(of(&inner, &[]), [60, 7, 0]);
}

#[test]
fn a_program_of_another_tool_stays() {
    let Some(group) = Group::or_skip("a_program_of_another_tool_stays") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let other = Other::attach(&group);
    group.attach(&["--keepidle", "60", "--reuseaddr", "on"]);
    assert_eq!(programs_of(&group), [2, 1, 1, 1]);
    group.attach(&["--keepidle", "61"]);
    assert_eq!(programs_of(&group), [2, 1, 0, 0], "in the place of those before, and only of those");
    assert_eq!(group.client(&["127.0.0.1", &port])["keepidle"], 61);
    group.detach();
    assert_eq!(programs_of(&group), [1, 0, 0, 0]);
    assert!(other.is_there());
}

/// The kernel shows programs one page of a value, and before Linux 6.5 fails with `EFAULT` where they leave the length.
#[test]
fn a_long_value_of_setsockopt_is_left_as_it_is() {
    let Some(outer) = Group::or_skip("a_long_value_of_setsockopt_is_left_as_it_is") else { return };
    let inner = outer.below("inner");
    let _other = Other::refuses_long_values(&outer);
    let script =
        "import socket\ns = socket.socket()\ns.setsockopt(6, 1, b'\\1\\0\\0\\0' * 2048)\nprint(s.getsockopt(6, 1))";
    let sets = || {
        let mut command = Command::new(real_python());
        inner.enter(command.args(["-I", "-c", script]));
        Ended::of(&mut command)
    };
    assert!(sets().stderr.contains("Operation not permitted"), "the other program sees the length");
    for settings in [&["--keepidle", "60"][..], &["--nodelay", "on", "--connect-timeout", "3s"]] {
        inner.attach(settings);
        assert_eq!(sets().stdout.trim(), "1", "{settings:?}");
    }
}
