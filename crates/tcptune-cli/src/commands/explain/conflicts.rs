//! Settings that fight each other, or do not do what their names promise.

use tcptune_core::options::table::OPTIONS;
use tcptune_core::settings::profile::Profile;

use super::model::{Facts, Limit, Milliseconds, number};
use crate::system::kernel::Kernel;

/// Something to know about settings together.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conflict {
    /// For machines.
    pub name: &'static str,
    pub text: String,
}

/// All of them.
pub fn find(profile: &Profile, facts: &Facts, kernel: &Kernel) -> Vec<Conflict> {
    let mut found = Vec::new();
    let mut say = |name, text: String| found.push(Conflict { name, text });
    let is_set = |name| number(profile, name).is_some();
    let is_on = |name| number(profile, name).is_some_and(|on| on != 0);
    timeouts(profile, facts, &mut say);

    if profile.plan().iter().any(|planned| OPTIONS[planned.row].name() == "KEEPALIVE") && !facts.keepalive {
        let times = ["KEEPIDLE", "KEEPINTVL", "KEEPCNT"].into_iter().filter(|name| is_set(*name));
        let times = times.collect::<Vec<_>>().join(", ");
        if !times.is_empty() {
            say("keepalive-off", format!("KEEPALIVE=off: {times} do nothing unless the program turns keepalive on"));
        }
    }
    if let Some(ms) = number(profile, "SEND_TIMEOUT") {
        let shortest = number(profile, "RTO_MIN").unwrap_or(kernel.rto_min_us) / 1000;
        if ms < shortest {
            let text = format!(
                "SEND_TIMEOUT={ms}ms is shorter than the time until lost data is repeated ({shortest}ms at least): one \
                 lost packet can make send fail with ETIMEDOUT"
            );
            say("send-timeout-below-rto", text);
        }
    }
    if number(profile, "LINGER") == Some(0) {
        let text = "LINGER=0: close resets the connection, and data that is not sent or not acknowledged is lost";
        say("linger-zero", text.to_owned());
    }
    if is_on("CORK") && is_on("NODELAY") {
        let text = "CORK=on wins over NODELAY=on: segments that are not full wait for up to 200 ms";
        say("cork-over-nodelay", text.to_owned());
    }
    if is_on("FASTOPEN_CONNECT") && profile.connect_timeout().is_some() {
        let text = "FASTOPEN_CONNECT=on: to a peer that has given a cookie, connect returns at once, and \
                    CONNECT_TIMEOUT does not bound the first write, which connects";
        say("fastopen-without-timeout", text.to_owned());
    }
    if profile.mptcp() {
        let refused = ["USER_TIMEOUT", "SYNCNT", "QUICKACK"].into_iter().filter(|name| is_set(*name));
        let refused = refused.collect::<Vec<_>>().join(", ");
        if !refused.is_empty() {
            say("mptcp-refuses", format!("MPTCP=on: MPTCP sockets do not take {refused}"));
        }
        if profile.connect_timeout().is_some() {
            let text = "MPTCP=on: a nonblocking MPTCP socket has no CONNECT_TIMEOUT, only a blocking one has";
            say("mptcp-without-connect-timeout", text.to_owned());
        }
    }
    found
}

fn timeouts(profile: &Profile, facts: &Facts, say: &mut impl FnMut(&'static str, String)) {
    let (ends, limit) = facts.connect();
    if let (Some(user_timeout), Some(noticed)) = (facts.user_timeout, facts.idle_peer()) {
        let by_count = facts.keepalive_time();
        if noticed != by_count {
            let text = format!(
                "USER_TIMEOUT={user_timeout} decides in place of KEEPCNT={}: an idle peer that is gone is noticed after \
                 {noticed}, not {by_count}; USER_TIMEOUT=auto keeps them in step",
                facts.count
            );
            say("user-timeout-overrides-keepcnt", text);
        }
    }
    if let Some(connect_timeout) = facts.connect_timeout {
        if limit != Limit::ConnectTimeout {
            let by = if limit == Limit::UserTimeout { "USER_TIMEOUT" } else { "the SYN schedule" };
            let text = format!("CONNECT_TIMEOUT={connect_timeout} is never reached: {by} ends a connect after {ends}");
            say("connect-timeout-not-reached", text);
        } else if connect_timeout < Milliseconds(1000) {
            let text = format!(
                "CONNECT_TIMEOUT={connect_timeout} holds for blocking sockets; a nonblocking one waits for about 1s, until \
                 the kernel's first timer"
            );
            say("connect-timeout-below-a-second", text);
        }
    } else if limit == Limit::UserTimeout {
        say("user-timeout-ends-connect", format!("USER_TIMEOUT bounds connecting as well: it ends after {ends}"));
    }
    let doubled = Facts { syn_linear_timeouts: 0, ..*facts }.syn_schedule();
    let schedule = facts.syn_schedule();
    if number(profile, "SYNCNT").is_some() && schedule != doubled {
        let text = format!(
            "SYNCNT={} ends a connect after {schedule}, not {doubled} as doubling alone would: this kernel first \
             repeats the SYN {} times, a second apart (tcp_syn_linear_timeouts)",
            facts.syn_retries, facts.syn_linear_timeouts
        );
        say("syncnt-with-linear-timeouts", text);
    }
}

#[cfg(test)]
mod tests {
    use super::super::model::tests::facts;
    use super::*;

    fn names(settings: &str, kernel: &Kernel) -> Vec<&'static str> {
        let (profile, facts) = facts(settings, kernel);
        find(&profile, &facts, kernel).into_iter().map(|conflict| conflict.name).collect()
    }

    #[test]
    fn what_fights_is_named() {
        let linear = Kernel { syn_linear_timeouts: 4, ..Kernel::default() };
        for (settings, name) in [
            ("KEEPIDLE=60 KEEPINTVL=10 KEEPCNT=6 USER_TIMEOUT=30s", "user-timeout-overrides-keepcnt"),
            ("CONNECT_TIMEOUT=200", "connect-timeout-not-reached"),
            ("CONNECT_TIMEOUT=30 SYNCNT=1", "connect-timeout-not-reached"),
            ("CONNECT_TIMEOUT=300ms", "connect-timeout-below-a-second"),
            ("USER_TIMEOUT=10s", "user-timeout-ends-connect"),
            ("SYNCNT=3", "syncnt-with-linear-timeouts"),
            ("SEND_TIMEOUT=100ms", "send-timeout-below-rto"),
            ("KEEPALIVE=off KEEPIDLE=60", "keepalive-off"),
            ("LINGER=0", "linger-zero"),
            ("CORK=on NODELAY=on", "cork-over-nodelay"),
            ("FASTOPEN_CONNECT=on CONNECT_TIMEOUT=3", "fastopen-without-timeout"),
            ("MPTCP=on SYNCNT=1", "mptcp-refuses"),
            ("MPTCP=on CONNECT_TIMEOUT=3", "mptcp-without-connect-timeout"),
        ] {
            assert!(names(settings, &linear).contains(&name), "{settings}: {:?}", names(settings, &linear));
        }
    }

    #[test]
    fn what_does_not_fight_is_not_named() {
        let linear = Kernel { syn_linear_timeouts: 4, ..Kernel::default() };
        for settings in [
            "",
            "CONNECT_TIMEOUT=3 KEEPIDLE=60 KEEPINTVL=10 KEEPCNT=6 USER_TIMEOUT=auto",
            "KEEPALIVE=off",
            "SEND_TIMEOUT=200ms",
            "SEND_TIMEOUT=100ms RTO_MIN=50000",
            "LINGER=off",
            "CORK=on NODELAY=off",
            "MPTCP=on NODELAY=on",
            "SYNCNT=1",
        ] {
            assert_eq!(names(settings, &linear), [""; 0], "{settings}");
        }
        assert_eq!(names("SYNCNT=3", &Kernel::default()), [""; 0], "without linear timeouts");
    }
}
