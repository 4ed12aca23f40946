//! What settings mean in time: when a dead peer is noticed, a connect given up, data given up.

use std::fmt;

use tcptune_core::options::table::OPTIONS;
use tcptune_core::options::value::Value;
use tcptune_core::settings::profile::Profile;
use tcptune_core::sockets::syn;

use crate::system::kernel::Kernel;

/// The kernel's first retransmission timeout of data when it models how long retries take (`TCP_RTO_MIN`).
const RTO_BASE: i64 = 200;

/// A span of time.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Milliseconds(pub i64);

impl fmt::Display for Milliseconds {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let ms = self.0;
        match (ms / 1000, ms % 1000) {
            (0, ms) => write!(f, "{ms}ms"),
            (s @ ..120, 0) => write!(f, "{s}s"),
            (s @ ..120, ms) => write!(f, "{s}.{}s", format!("{ms:03}").trim_end_matches('0')),
            (s, _) => {
                let parts = [(s / 3600, "h"), (s / 60 % 60, "m"), (s % 60, "s")];
                let parts = parts.iter().filter(|(n, _)| *n != 0).map(|(n, unit)| format!("{n}{unit}"));
                f.write_str(&parts.collect::<Vec<_>>().join(" "))
            }
        }
    }
}

/// What decides, of settings and kernel together.
#[derive(Clone, Copy, Debug)]
pub struct Facts {
    pub keepalive: bool,
    /// Seconds.
    pub idle: i64,
    /// Seconds.
    pub interval: i64,
    pub count: i64,
    pub user_timeout: Option<Milliseconds>,
    pub syn_retries: i64,
    pub syn_linear_timeouts: i64,
    pub connect_timeout: Option<Milliseconds>,
    pub retries2: i64,
    pub rto_max: Milliseconds,
}

/// The value of a number in a profile.
pub fn number(profile: &Profile, name: &str) -> Option<i64> {
    let planned = profile.plan().into_iter().find(|planned| OPTIONS[planned.row].name() == name)?;
    match planned.value() {
        Value::Int(n) => Some(n),
        _ => None,
    }
}

impl Facts {
    pub fn new(profile: &Profile, kernel: &Kernel) -> Self {
        let number = |name| number(profile, name);
        Self {
            keepalive: number("KEEPALIVE").is_some_and(|on| on != 0),
            idle: number("KEEPIDLE").unwrap_or(kernel.keepalive_time),
            interval: number("KEEPINTVL").unwrap_or(kernel.keepalive_intvl),
            count: number("KEEPCNT").unwrap_or(kernel.keepalive_probes),
            user_timeout: number("USER_TIMEOUT").map(Milliseconds),
            syn_retries: number("SYNCNT").unwrap_or(kernel.syn_retries),
            syn_linear_timeouts: kernel.syn_linear_timeouts,
            connect_timeout: profile.connect_timeout().map(|ms| Milliseconds(ms.into())),
            retries2: kernel.retries2,
            rto_max: Milliseconds(number("RTO_MAX").unwrap_or(kernel.rto_max_ms)),
        }
    }

    /// What idle, interval and count come to, whether keepalive is on or not.
    pub fn keepalive_time(&self) -> Milliseconds {
        Milliseconds((self.idle + self.interval * self.count) * 1000)
    }

    /// When a peer that is gone is noticed by an idle connection. A user timeout decides in place of the count: at the
    /// first probe that is due after it (`tcp_keepalive_timer` of the kernel).
    pub fn idle_peer(&self) -> Option<Milliseconds> {
        let probes = match self.user_timeout {
            Some(Milliseconds(ms)) => {
                ((ms + 999) / 1000 - self.idle + self.interval - 1).div_euclid(self.interval).max(1)
            }
            None => self.count,
        };
        self.keepalive.then_some(Milliseconds((self.idle + self.interval * probes) * 1000))
    }

    /// When the SYN schedule alone ends.
    pub fn syn_schedule(&self) -> Milliseconds {
        let [retries, linear] = [self.syn_retries, self.syn_linear_timeouts].map(|n| u32::try_from(n).unwrap_or(0));
        seconds(syn::gives_up_after(retries, linear))
    }

    /// What ends a connect that nobody answers, and when.
    pub fn connect(&self) -> (Milliseconds, Limit) {
        // Honoured while a connect is going on; the first timer, after a second, is not moved.
        let user = self.user_timeout.map(|timeout| (timeout.max(Milliseconds(1000)), Limit::UserTimeout));
        let own = self.connect_timeout.map(|timeout| (timeout, Limit::ConnectTimeout));
        let schedule = Some((self.syn_schedule(), Limit::SynSchedule));
        own.into_iter()
            .chain(user)
            .chain(schedule)
            .min_by_key(|(at, _)| *at)
            .unwrap_or((Milliseconds(0), Limit::SynSchedule))
    }

    /// When SYNs are sent, in seconds, before it ends.
    pub fn syns(&self) -> Vec<i64> {
        let (end, _) = self.connect();
        let linear = u32::try_from(self.syn_linear_timeouts).unwrap_or(0);
        let repeated = syn::timers(linear).map(|at| i64::try_from(at).unwrap_or(i64::MAX));
        std::iter::once(0).chain(repeated.take_while(|at| at.saturating_mul(1000) < end.0)).collect()
    }

    /// When data that nobody acknowledges ends a connection, at the earliest.
    pub fn unacknowledged(&self) -> Milliseconds {
        self.user_timeout.unwrap_or_else(|| {
            // tcp_model_timeout of the kernel: doublings up to RTO_MAX, then that.
            let doublings = i64::from((self.rto_max.0 / RTO_BASE).max(1).ilog2());
            let doubled = ((2 << self.retries2.min(doublings)) - 1) * RTO_BASE;
            Milliseconds(doubled + (self.retries2 - doublings).max(0) * self.rto_max.0)
        })
    }
}

fn seconds(seconds: u64) -> Milliseconds {
    Milliseconds(i64::try_from(seconds).unwrap_or(i64::MAX / 1000).saturating_mul(1000))
}

/// What ends a connect.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Limit {
    ConnectTimeout,
    UserTimeout,
    SynSchedule,
}

/// Displays SYNs on a line: `0s──1s──2s──✗ 3s`, of a long one only the first and the last ones.
pub struct Timeline<'a> {
    pub syns: &'a [i64],
    pub end: Milliseconds,
}

impl fmt::Display for Timeline<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        const SHOWN: usize = 12;
        let skipped = self.syns.len().saturating_sub(SHOWN);
        for (i, at) in self.syns.iter().enumerate() {
            match i {
                _ if i < SHOWN - 2 || i >= SHOWN - 2 + skipped => write!(f, "{at}s──")?,
                _ if i == SHOWN - 2 => f.write_str("…──")?,
                _ => {}
            }
        }
        let ms = self.end.0;
        if ms % 1000 == 0 { write!(f, "✗ {}s", ms / 1000) } else { write!(f, "✗ {}s", Fraction(ms)) }
    }
}

/// Milliseconds as seconds.
struct Fraction(i64);

impl fmt::Display for Fraction {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", self.0 / 1000, format!("{:03}", self.0 % 1000).trim_end_matches('0'))
    }
}

#[cfg(test)]
pub mod tests {
    use super::*;
    use tcptune_core::settings::settle;

    const LINUX_6_5: Kernel = Kernel {
        keepalive_time: 7200,
        keepalive_intvl: 75,
        keepalive_probes: 9,
        syn_retries: 6,
        syn_linear_timeouts: 4,
        retries2: 15,
        rto_max_ms: 120_000,
        rto_min_us: 200_000,
    };

    /// Facts of settings, written as `NAME=value NAME=value`.
    pub fn facts(settings: &str, kernel: &Kernel) -> (Profile, Facts) {
        let variables = settings.split_whitespace().map(|setting| setting.split_once('=').expect("a setting"));
        let defaults = crate::system::kernel::keepalive_defaults;
        let (mut settings, wrong) = settle::parse(&variables.collect::<Vec<_>>(), defaults);
        assert!(wrong.is_empty(), "{wrong:?}");
        let profile = settings.profiles.swap_remove(0);
        let facts = Facts::new(&profile, kernel);
        (profile, facts)
    }

    fn idle_peer(settings: &str) -> Option<i64> {
        facts(settings, &LINUX_6_5).1.idle_peer().map(|ms| ms.0 / 1000)
    }

    #[test]
    fn an_idle_peer_that_is_gone() {
        assert_eq!(idle_peer(""), None);
        assert_eq!(idle_peer("KEEPALIVE=on"), Some(7200 + 75 * 9));
        assert_eq!(idle_peer("KEEPIDLE=60 KEEPINTVL=10 KEEPCNT=6"), Some(120));
        assert_eq!(idle_peer("KEEPIDLE=60 KEEPALIVE=off"), None);
        // A user timeout decides: at the first probe after it, and not before one probe went unanswered.
        for (user_timeout, seconds) in
            [("1s", 70), ("60s", 70), ("70s", 70), ("70001", 80), ("95s", 100), ("auto", 120), ("5m", 300)]
        {
            let settings = format!("KEEPIDLE=60 KEEPINTVL=10 KEEPCNT=6 USER_TIMEOUT={user_timeout}");
            assert_eq!(idle_peer(&settings), Some(seconds), "{user_timeout}");
        }
    }

    #[test]
    fn a_connect_that_nobody_answers() {
        for (settings, ms, limit) in [
            ("", 131_000, Limit::SynSchedule),
            ("SYNCNT=3", 19_000, Limit::SynSchedule),
            ("CONNECT_TIMEOUT=3.5", 3500, Limit::ConnectTimeout),
            ("CONNECT_TIMEOUT=30 SYNCNT=3", 19_000, Limit::SynSchedule),
            ("CONNECT_TIMEOUT=30 USER_TIMEOUT=10s", 10_000, Limit::UserTimeout),
            ("USER_TIMEOUT=300ms", 1000, Limit::UserTimeout),
            ("CONNECT_TIMEOUT=5 USER_TIMEOUT=5s", 5000, Limit::ConnectTimeout),
        ] {
            assert_eq!(facts(settings, &LINUX_6_5).1.connect(), (Milliseconds(ms), limit), "{settings}");
        }
        let older = Kernel { syn_linear_timeouts: 0, ..LINUX_6_5 };
        assert_eq!(facts("", &older).1.connect().0, Milliseconds(127_000));
    }

    #[test]
    fn data_that_nobody_acknowledges() {
        // 924.6 s is the figure of ip-sysctl for tcp_retries2 = 15.
        assert_eq!(facts("", &LINUX_6_5).1.unacknowledged(), Milliseconds(924_600));
        assert_eq!(facts("USER_TIMEOUT=30s", &LINUX_6_5).1.unacknowledged(), Milliseconds(30_000));
        assert_eq!(facts("RTO_MAX=1s", &LINUX_6_5).1.unacknowledged(), Milliseconds(14_400));
        let few = Kernel { retries2: 3, ..LINUX_6_5 };
        assert_eq!(facts("", &few).1.unacknowledged(), Milliseconds(3000));
    }

    fn line(settings: &str) -> String {
        let (_, facts) = facts(settings, &LINUX_6_5);
        Timeline { syns: &facts.syns(), end: facts.connect().0 }.to_string()
    }

    #[test]
    fn syns_on_a_line() {
        assert_eq!(line(""), "0s──1s──2s──3s──4s──5s──7s──11s──19s──35s──67s──✗ 131s");
        assert_eq!(line("CONNECT_TIMEOUT=3"), "0s──1s──2s──✗ 3s");
        assert_eq!(line("CONNECT_TIMEOUT=250ms"), "0s──✗ 0.25s");
        let long = line("SYNCNT=127");
        assert!(long.starts_with("0s──1s──") && long.contains("──35s──…──") && long.chars().count() < 90, "{long}");
    }

    #[test]
    fn spans_are_readable() {
        for (ms, text) in [
            (0, "0ms"),
            (300, "300ms"),
            (3500, "3.5s"),
            (119_000, "119s"),
            (131_000, "2m 11s"),
            (7_875_000, "2h 11m 15s"),
            (3_600_000, "1h"),
        ] {
            assert_eq!(Milliseconds(ms).to_string(), text);
        }
    }
}
