//! A trial ends by itself.

use std::process::Command;
use std::time::{Duration, Instant};

use crate::group::{Group, listener};
use crate::harness::{Ended, Running, TCPTUNE, eventually};
use crate::hole::BlackHole;

#[test]
fn after_a_trial_nothing_is_set_and_both_are_counted() {
    let Some(group) = Group::or_skip("after_a_trial_nothing_is_set_and_both_are_counted") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let hole = BlackHole::v4();
    // Longer where the machine is so busy that the trial is over before both clients are.
    let is_long_enough = |seconds: u32| {
        group.attach(&["--keepidle", "60", "--connect-timeout", "400ms", "--for", &format!("{seconds}s")]);
        let begun = Instant::now();
        let attached = group.attached().expect("attached");
        let left = attached["seconds_left"].as_f64();
        assert!(left.is_some_and(|left| left > 0.0 && left <= f64::from(seconds)), "{attached:#}");
        let keepidle = group.client(&["127.0.0.1", &port, "late_idle=300"])["keepidle"].as_i64();
        let errno = group.client(&[&hole.ip(), &hole.port()])["errno"].as_i64();
        let in_time = begun.elapsed() < Duration::from_secs(u64::from(seconds) - 1);
        if in_time {
            assert_eq!((keepidle, errno), (Some(60), Some(libc::ETIMEDOUT.into())));
        } else {
            group.detach();
        }
        in_time
    };
    assert!([3, 10, 30].into_iter().any(is_long_enough), "not within half a minute");
    eventually("the trial ends", || group.attached().expect("attached")["seconds_left"] == 0.0);
    assert_eq!(group.client(&["127.0.0.1", &port])["keepidle"], 7200);
    assert_eq!(group.client(&["127.0.0.1", &port, "late_idle=300"])["keepidle"], 300);
    let attached = group.attached().expect("attached still, to count");
    let (during, after) = (&attached["counts"], &attached["counts_after_the_trial"]);
    assert_eq!((&during["connects"], &during["timed_out"]), (&2.into(), &1.into()), "{attached:#}");
    assert_eq!((&after["connects"], &after["established"]), (&2.into(), &2.into()), "{attached:#}");
    let text = group.tcptune("attached", &[]).stdout;
    assert!(text.contains("over: nothing is set any more") && text.contains("after it"), "{text}");
    // Another one takes its place.
    group.attach(&["--keepidle", "61"]);
    assert_eq!(group.client(&["127.0.0.1", &port])["keepidle"], 61);
}

#[test]
fn after_a_trial_the_outer_cgroup_holds_again_and_check_says_so() {
    let Some(outer) = Group::or_skip("after_a_trial_the_outer_cgroup_holds_again_and_check_says_so") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let hole = BlackHole::v4();
    let inner = outer.below("inner");
    let mut sleep = Command::new("sleep");
    inner.enter(sleep.arg("60"));
    let sleep = Running::start(&mut sleep);
    let check = || {
        let checked = Ended::of(Command::new(TCPTUNE).args(["check", "--json", &sleep.pid().to_string()])).any_json();
        (checked["tuned"] == true, checked["attached"].as_str().unwrap_or_default().to_owned())
    };
    let trial = |more: &[&str]| {
        inner.attach(&[&["--keepidle", "61", "--for", "1s"], more].concat());
        eventually("the trial ends", || inner.attached().expect("attached")["seconds_left"] == 0.0);
    };

    trial(&["--rule", "dst=127.0.0.2 : keepidle=5"]);
    let (is_tuned, says) = check();
    assert!(!is_tuned && says.contains("KEEPIDLE=61s 1 rule; the trial is over"), "{says}");
    assert_eq!(inner.client(&["127.0.0.1", &port, "late_idle=300"])["keepidle"], 300);

    outer.attach(&["--keepidle", "60", "--connect-timeout", "400ms"]);
    for more in [&[][..], &["--connect-timeout", "3s"]] {
        trial(more);
        let before = outer.count("connects");
        let (is_tuned, says) = check();
        assert!(is_tuned && says.contains("KEEPIDLE=60s"), "{says}");
        assert_eq!(inner.client(&["127.0.0.1", &port, "late_idle=300"])["keepidle"], 60, "{more:?}");
        let begun = Instant::now();
        let said = inner.client(&[&hole.ip(), &hole.port(), "timeout=7777"]);
        assert_eq!((&said["errno"], &said["user_timeout"]), (&libc::ETIMEDOUT.into(), &7777.into()), "{said:#}");
        assert!(begun.elapsed() < Duration::from_secs(3), "by the outer timeout");
        assert_eq!(outer.count("connects") - before, 2);
        assert_eq!(inner.attached().expect("attached")["counts_after_the_trial"]["connects"], 2);
    }
}
