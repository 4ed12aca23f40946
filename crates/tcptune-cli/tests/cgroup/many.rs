//! Very many attachments, and commands that are killed.

use std::process::{Command, Stdio};
use std::thread;
use std::time::Duration;

use crate::group::{Group, Other, listener, programs_of};
use crate::harness::{Ended, TCPTUNE};

#[test]
fn a_thousand_in_a_row_and_in_parallel() {
    let Some(group) = Group::or_skip("a_thousand_in_a_row_and_in_parallel") else { return };
    let other = Other::attach(&group);
    let place = ["--cgroup", group.word()];
    // All of them change the same cgroup: a detach may find nothing, and that is said.
    thread::scope(|scope| {
        for worker in 0..4 {
            scope.spawn(move || {
                for round in 0..125 {
                    let idle = (1 + worker * 125 + round).to_string();
                    let ended = Ended::of(Command::new(TCPTUNE).arg("attach").args(place).args(["--keepidle", &idle]));
                    assert_eq!(ended.code, Some(0), "{ended:#?}");
                    let ended = Ended::of(Command::new(TCPTUNE).arg("detach").args(place));
                    assert!(matches!(ended.code, Some(0 | 1)), "{ended:#?}");
                }
            });
        }
    });
    assert_eq!(programs_of(&group), [1, 0, 0, 0], "nothing is left behind, and nothing of others is touched");
    assert!(other.is_there());
}

#[test]
fn what_is_killed_in_the_middle_is_made_good() {
    let Some(group) = Group::or_skip("what_is_killed_in_the_middle_is_made_good") else { return };
    let other = Other::attach(&group);
    let (_v4, port) = listener("127.0.0.1");
    for round in 0..60_u64 {
        for subcommand in ["attach", "detach"] {
            let mut command = Command::new(TCPTUNE);
            command.args([subcommand, "--cgroup", group.word()]);
            if subcommand == "attach" {
                command.args(["--keepidle", "60", "--reuseaddr", "on", "--connect-timeout", "400ms"]);
            }
            let mut child = command.stdout(Stdio::null()).stderr(Stdio::null()).spawn().expect("started");
            thread::sleep(Duration::from_micros(round * 400));
            let _ = child.kill();
            child.wait().expect("ended");
        }
        if round % 10 == 0 {
            group.attach(&["--keepidle", "61"]);
            assert_eq!(programs_of(&group), [2, 1, 0, 0], "one whole attachment, whatever was there");
            assert_eq!(group.attached().expect("attached")["whole"], true);
            assert_eq!(group.client(&["127.0.0.1", &port])["keepidle"], 61);
        }
    }
    let ended = group.tcptune("detach", &[]);
    assert!(matches!(ended.code, Some(0 | 1)), "{ended:#?}");
    assert_eq!(programs_of(&group), [1, 0, 0, 0]);
    assert!(other.is_there());
}
