//! Which way is taken, and what is said of it.

use std::fs;
use std::io::Write;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use serde_json::Value as Json;

use crate::command::said;
use crate::harness::{Server, eventually, go, ordinary, place, probe, rust, tcptune};

fn check(program: &Path) -> Json {
    let said = said(tcptune(ordinary()).args(["check", "--json"]).arg(program));
    serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

fn dry_run(flags: &[&str], program: &Path) -> Json {
    let said = said(tcptune(ordinary()).args(["run", "--dry-run", "--json"]).args(flags).arg("--").arg(program));
    serde_json::from_str(said.ok()).unwrap_or_else(|e| panic!("{e}: {said:?}"))
}

/// A dynamic program that makes its system calls itself.
fn direct() -> PathBuf {
    let program = place().join("direct");
    let source = "
        #include <stdio.h>
        int main(void) {
            long r, number = 41; /* socket */
            __asm__ volatile(\"syscall\" : \"=a\"(r) : \"a\"(number), \"D\"(2L), \"S\"(1L), \"d\"(0L) : \"rcx\", \"r11\");
            return printf(\"%d\\n\", r > 0) < 0;
        }";
    let mut cc =
        Command::new("cc").args(["-x", "c", "-", "-o"]).arg(&program).stdin(Stdio::piped()).spawn().expect("cc");
    cc.stdin.take().expect("piped").write_all(source.as_bytes()).expect("written");
    assert!(cc.wait().expect("wait").success());
    program
}

#[test]
fn the_way_follows_from_how_a_program_calls() {
    for (program, way) in [
        (probe("static-glibc"), "notify"),
        (probe("static-musl"), "notify"),
        (go(), "notify"),
        (direct(), "notify"),
        (rust("on-rustix"), "notify"),
        (rust("on-smol"), "notify"),
        (probe("dynamic"), "preload"),
        ("/bin/sh".into(), "preload"),
        ("/bin/cat".into(), "preload"),
    ] {
        let (checked, run) = (check(&program), dry_run(&["--keepidle", "77"], &program));
        let ways = (&checked["way"], &run["way"]);
        assert_eq!(ways, (&Json::from(way), &Json::from(way)), "{}: {checked} {run}", program.display());
        assert_eq!(checked["tunable"], true, "{checked}");
        let announced = (way == "notify").then_some("notify");
        assert_eq!(run["environment"]["TCPTUNE_BACKEND"].as_str(), announced, "{run}");
        assert_eq!(run["environment"]["LD_PRELOAD"].is_string(), way == "preload", "{run}");
    }
}

#[test]
fn a_way_can_be_asked_for() {
    assert_eq!(dry_run(&["--backend", "notify"], &probe("dynamic"))["way"], "notify");
    let refused = said(tcptune(ordinary()).args(["run", "--backend", "preload", "--"]).arg(probe("static-glibc")));
    assert!(refused.refused(126).contains("static binary"), "{refused:?}");
    let mut by_variable = tcptune(ordinary());
    let said_by = said(
        by_variable.args(["run", "--dry-run", "--json", "--"]).arg(probe("dynamic")).env("TCPTUNE_BACKEND", "notify"),
    );
    assert!(said_by.ok().contains("\"way\": \"notify\""), "{said_by:?}");
    let wrong = said(tcptune(ordinary()).args(["run", "--backend", "ptrace", "--"]).arg(probe("dynamic")));
    assert!(wrong.refused(2).contains("auto, preload, notify, cgroup"), "{wrong:?}");
}

#[test]
fn what_it_leaves_out_is_said_before_the_program_starts() {
    let server = Server::start();
    let flags = ["--mptcp", "on", "--priority", "2", "--keepidle", "77"];
    let run = dry_run(&flags, &probe("static-glibc"));
    assert_eq!(run["left_out"], serde_json::json!(["PRIORITY of accepted sockets", "MPTCP"]), "{run}");
    let said = said(tcptune(ordinary()).args(flags).arg(probe("static-glibc")).args(["blocking", server.port()]));
    assert_eq!(said.stderr, "tcptune: notify does not set PRIORITY of accepted sockets, MPTCP\n");
}

#[test]
fn a_running_process_says_by_which_way_it_is_tuned() {
    let mut child =
        tcptune(ordinary()).args(["--keepidle", "77", "/bin/busybox", "sleep", "300"]).spawn().expect("it starts");
    let exe = format!("/proc/{}/exe", child.id());
    eventually("it runs", || fs::read_link(&exe).is_ok_and(|exe| exe.ends_with("busybox")));
    let said = said(tcptune(ordinary()).args(["check", "--json"]).arg(child.id().to_string()));
    let report: Json = serde_json::from_str(&said.stdout).unwrap_or_else(|e| panic!("{e}: {said:?}"));
    child.kill().and_then(|()| child.wait()).expect("ended");
    assert_eq!((&report["tuned"], &report["way"]), (&Json::Bool(true), &Json::from("notify")), "{report}");
    assert_eq!(report["settings"]["KEEPIDLE"], "77s");
}
