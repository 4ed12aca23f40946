//! Without /proc, or with little of it, each command says what it could not read.

use std::process::Command;

use serde_json::Value as Json;

use crate::harness::*;

/// Runs lines of a shell in a mount namespace of its own, as root; none, with the reason printed, where there is none.
fn in_own_mounts(test: &str, lines: &str) -> Option<Ended> {
    let unshare = ["--mount", "--propagation", "private", "sh", "-euc", lines];
    let mut command = Command::new("unshare");
    command.args(unshare).env_remove("TCPTUNE_LIBRARY").env("TCPTUNE", TCPTUNE).env("LC_ALL", "C.UTF-8");
    let ended = Ended::of(&mut command);
    if ended.stderr.starts_with("unshare:") {
        println!("skipped: {test}: {}", ended.stderr);
        return None;
    }
    Some(ended)
}

/// One line, which names what is missing.
fn says(ended: &Ended, code: i32, words: &[&str]) {
    assert_eq!((ended.code, ended.stderr.lines().count()), (Some(code), 1), "{ended:#?}");
    assert!(ended.stderr.starts_with("tcptune: "), "{ended:#?}");
    for word in words {
        assert!(ended.stderr.contains(word), "{word}: {ended:#?}");
    }
}

const NO_PROC: &str = "mount -t tmpfs none /proc\n";

#[test]
fn without_proc_it_is_proc_that_is_missing() {
    for command in ["check 1", "inspect 1", "apply 1 --keepidle 60", "stats 1", "inspect --all", "inspect nosuchname"] {
        let lines = format!("{NO_PROC} exec \"$TCPTUNE\" {command}");
        let Some(ended) = in_own_mounts("without_proc_it_is_proc_that_is_missing", &lines) else { return };
        says(&ended, 1, &["/proc is not mounted here", "mount -t proc"]);
    }
}

#[test]
fn without_proc_sysctls_are_assumed_and_named() {
    const TEST: &str = "without_proc_sysctls_are_assumed_and_named";
    let explain = "exec \"$TCPTUNE\" explain --keepidle 60 --json";
    let Some(ended) = in_own_mounts(TEST, &format!("{NO_PROC} {explain}")) else { return };
    says(&ended, 0, &["tcp_keepalive_time", "tcp_syn_retries", "tcp_retries2", "documented defaults are assumed"]);
    assert_eq!(ended.any_json()["kernel_assumed"].as_array().map(Vec::len), Some(5), "{ended:#?}");
    // One of them is there, as in a sandbox that shows a few.
    let one =
        "mount -t tmpfs none /proc/sys/net\nmkdir /proc/sys/net/ipv4\necho 2 >/proc/sys/net/ipv4/tcp_syn_retries\n";
    let Some(ended) = in_own_mounts(TEST, &format!("{one} {explain}")) else { return };
    says(&ended, 0, &["tcp_keepalive_time"]);
    assert!(!ended.stderr.contains("tcp_syn_retries"), "{ended:#?}");
    let all: Json = tcptune_json(&["explain", "--keepidle", "60", "--json"]);
    assert_eq!(all["kernel_assumed"].as_array().map(Vec::len), Some(0), "{all:#}");
}

fn tcptune_json(args: &[&str]) -> Json {
    Ended::of(Command::new(TCPTUNE).args(args)).json()
}

/// In a chroot without /proc, as a rescue shell has it: nothing is looked for in `/../lib`, and a program is looked at and
/// tuned all the same where the library is named.
#[test]
fn a_chroot_without_proc() {
    const TEST: &str = "a_chroot_without_proc";
    let chroot = "root=$(mktemp -d)\ntrap 'umount \"$root\" && rmdir \"$root\"' EXIT\nmount --bind / \"$root\"\n";
    let inside = |command: &str| in_own_mounts(TEST, &format!("{chroot}\nchroot \"$root\" \"$TCPTUNE\" {command}"));
    let Some(ended) = inside("check 1") else { return };
    says(&ended, 1, &["/proc is not mounted here"]);
    for command in ["check true", "run true"] {
        let Some(ended) = inside(command) else { return };
        let text = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!text.contains("/../") && !text.contains("\"\""), "{ended:#?}");
    }
}

#[test]
fn hidepid_hides_others() {
    const TEST: &str = "hidepid_hides_others";
    let tool = "bin=$(mktemp -d)\nchmod 755 \"$bin\"\ninstall -m 755 \"$TCPTUNE\" \"$bin/tcptune\"\ntrap 'rm -r \"$bin\"' EXIT\n";
    let hide = "mount -t proc -o hidepid=2 proc /proc\n";
    let nobody = "setpriv --reuid 65534 --regid 65534 --clear-groups \"$bin/tcptune\"";
    for command in ["check 1", "inspect 1", "stats 1"] {
        let Some(ended) = in_own_mounts(TEST, &format!("{tool}{hide}{nobody} {command}")) else { return };
        says(&ended, 1, &["/proc shows no process 1, though there is one", "hidepid", "run tcptune as root"]);
    }
    let Some(ended) = in_own_mounts(TEST, &format!("{tool}{hide}{nobody} inspect nosuchname")) else { return };
    says(&ended, 1, &["no process is called nosuchname", "only root sees all under hidepid"]);
    // Root sees all of them.
    let lines = format!("{hide} sleep 10 & \"$TCPTUNE\" inspect $! --json; kill $!");
    let Some(ended) = in_own_mounts(TEST, &lines) else { return };
    assert_eq!(ended.json()["name"], "sleep");
}

/// The numbers of a PID namespace mean other processes in a /proc that was mounted outside of it.
#[test]
fn a_proc_of_another_pid_namespace() {
    const TEST: &str = "a_proc_of_another_pid_namespace";
    let inside = |mount: &str| {
        let lines = format!("exec unshare --pid --fork sh -c '{mount} \"$TCPTUNE\" inspect 1 --options none; exit $?'");
        in_own_mounts(TEST, &lines)
    };
    let Some(ended) = inside("") else { return };
    says(&ended, 1, &["/proc shows the processes of another PID namespace", "mount -t proc"]);
    let Some(ended) = inside("mount -t proc proc /proc;") else { return };
    assert!(ended.code == Some(0) && ended.stdout.starts_with("sh (PID 1)"), "{ended:#?}");
}
