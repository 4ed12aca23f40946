//! A trial ends by itself.

use std::time::{Duration, Instant};

use crate::group::{Group, listener};
use crate::harness::eventually;
use crate::hole::BlackHole;

#[test]
fn after_a_trial_nothing_is_set_and_both_are_counted() {
    let Some(group) = Group::or_skip("after_a_trial_nothing_is_set_and_both_are_counted") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let hole = BlackHole::v4();
    group.attach(&["--keepidle", "60", "--connect-timeout", "400ms", "--for", "3s"]);
    let begun = Instant::now();
    let attached = group.attached().expect("attached");
    assert!(attached["seconds_left"].as_f64().is_some_and(|left| left > 0.0 && left <= 3.0), "{attached:#}");
    assert_eq!(group.client(&["127.0.0.1", &port, "late_idle=300"])["keepidle"], 60);
    assert_eq!(group.client(&[&hole.ip(), &hole.port()])["errno"], libc::ETIMEDOUT);
    assert!(begun.elapsed() < Duration::from_secs(2), "this machine is too slow for the test");
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
