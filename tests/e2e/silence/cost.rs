//! What waits cost in system calls, and that no hook of theirs allocates, or is in the way of a cancellation.

use std::ffi::OsStr;
use std::time::Duration;

use super::{Answer, LIMIT, SLACK, serve};
use crate::harness::{Ended, Program, debug_library, library, probe};
use crate::transparent::traced_calls;

const RECEIVE: &[(&str, &str)] = &[("RECV_TIMEOUT", "1")];
const BOTH: &[(&str, &str)] = &[("RECV_TIMEOUT", "1"), ("SEND_TIMEOUT", "1"), ("CLIENT_TIMEOUT", "1")];
const WAYS: [&str; 8] = ["poll", "ppoll", "select", "pselect", "epoll_wait", "epoll_pwait", "epoll_pwait2", "recv"];

/// The ways that this libc has.
fn ways(ended: &Ended) -> impl Iterator<Item = &'static str> {
    let ways = WAYS.into_iter().filter(|way| ended.stdout.contains(&format!("\n{way}_took="))).collect::<Vec<_>>();
    assert_eq!(i64::try_from(ways.len()), Ok(ended.number("ways")), "{ended:#?}");
    ways.into_iter()
}

/// For each way, the calls for what is ready at once, for nothing within no time, and for nothing within 20 ms.
fn calls(settings: Option<&[(&str, &str)]>) -> Vec<Vec<String>> {
    let port = serve(Answer::None).to_string();
    let probe = probe("waits");
    let args = [probe.as_os_str(), OsStr::new("calls"), OsStr::new("127.0.0.1"), OsStr::new(&port)];
    let calls = traced_calls(&args, "trace=all", settings);
    assert_eq!(calls.len(), WAYS.len(), "{calls:?}");
    calls
}

#[test]
fn waits_cost_no_system_call_without_the_setting() {
    let plain = calls(None);
    assert_eq!(plain[0].iter().filter(|call| *call == "poll").count(), 3, "{plain:?}");
    for settings in [&[][..], &[("KEEPIDLE", "60"), ("CONNECT_TIMEOUT", "9"), ("USER_TIMEOUT", "60s")]] {
        assert_eq!(calls(Some(settings)), plain, "{settings:?}");
    }
}

/// What is ready at once, or not waited for, costs nothing. Epoll, and what takes a mask of signals, looks first, and waits by a second
/// call; the mask is held back meanwhile by three more, of which the first asks whether it can be read.
#[test]
fn what_waits_cost_with_the_setting() {
    let plain = calls(None);
    for settings in [RECEIVE, BOTH] {
        for ((way, plain), tuned) in WAYS.iter().zip(&plain).zip(calls(Some(settings))) {
            // Each of three sets is known by the process that made it, and so is who closes it: two getpid(2).
            let more = match *way {
                "poll" | "select" | "recv" => 0,
                "epoll_wait" => 1 + 6,
                set if set.starts_with("epoll") => 4 + 6,
                _ => 4,
            };
            assert_eq!(tuned.len() - plain.len(), more, "{way}: {plain:?} {tuned:?}");
            let waits = |calls: &[String]| calls.iter().filter(|call| *call != "getpid").count();
            let not_waited_for = tuned.split(|call| call == "write").take(2).map(waits).sum::<usize>();
            let plain = plain.split(|call| call == "write").take(2).map(<[_]>::len).sum::<usize>();
            assert_eq!(not_waited_for, plain, "{way}: {tuned:?}");
        }
    }
}

#[test]
fn no_wait_allocates() {
    let port = serve(Answer::None).to_string();
    for library in [library(), debug_library()] {
        let program = Program::probe("waits").args(["each", "127.0.0.1", &port]).tuned_by(library, BOTH);
        let ended = program.run();
        ended.succeeded();
        for way in ways(&ended) {
            let number = |what| ended.number(&format!("{way}_{what}"));
            assert_eq!((number("result"), number("error")), (1, libc::ETIMEDOUT.into()), "{way}: {ended:#?}");
            let took = ended.milliseconds(&format!("{way}_took"));
            assert!(took + Duration::from_millis(20) >= LIMIT && took < LIMIT + SLACK, "{way}: {ended:#?}");
        }
    }
}

#[test]
fn a_wait_can_be_cancelled_as_ever() {
    let port = serve(Answer::None).to_string();
    let mut cleaned = Vec::new();
    for settings in [None, Some(BOTH)] {
        for mode in ["cancel", "async"] {
            let ended = Program::probe("waits").args([mode, "127.0.0.1", &port]).with(settings).run();
            ended.succeeded();
            for way in ways(&ended) {
                let number = |what| ended.number(&format!("{way}_{what}"));
                assert_eq!((number("cancelled"), number("goes_on")), (1, 1), "{mode}: {way}: {settings:?}: {ended:#?}");
                assert!(number("took") < 500, "{mode}: {way}: {ended:#?}");
                cleaned.push((mode, way, number("cleaned")));
            }
        }
    }
    let (plain, tuned) = cleaned.split_at(cleaned.len() / 2);
    assert!(plain.iter().all(|(_, _, cleaned)| *cleaned > 0), "{plain:?}");
    assert_eq!(plain, tuned, "the signals that were held back");
}
