//! The option table: one row per setting. Parser, apply loop, help, README table and round-trip test all read it.
//!
//! A row becomes an entry of two tables with one index: [`OPTIONS`], what the shim needs inside the program, and
//! [`DOCS`], text for people, which the linker drops from the shim (each string there is a relocation at exec).
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use libc::c_int;

use crate::value::{Kind, Unit};

/// What the shim needs of a row.
#[derive(Debug)]
pub struct Opt {
    /// Name without the prefix: `KEEPIDLE` is the variable `TCPTUNE_KEEPIDLE`.
    pub name: &'static str,
    /// Other names that are accepted.
    pub aliases: &'static [&'static str],
    /// How the value is written.
    pub kind: Kind,
    /// Smallest and largest value, in the unit in which it is stored.
    pub range: (i32, i32),
    /// What the value is for.
    pub target: Target,
}

/// What people read of a row.
#[derive(Debug)]
pub struct Doc {
    /// What it does, one sentence.
    pub help: &'static str,
    /// First kernel that has it, where that matters to anybody today; empty for tcptune's own.
    pub since: &'static str,
    /// Where it is defined.
    pub source: &'static str,
}

/// What a setting's value is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Target {
    /// A socket option, applied at these stages.
    Socket {
        /// `SOL_SOCKET`, `IPPROTO_TCP`, …
        level: c_int,
        /// `SO_KEEPALIVE`, `TCP_KEEPIDLE`, …
        optname: c_int,
        /// The intercepted calls that apply it.
        stages: Stages,
    },
    /// A behaviour of tcptune itself.
    Own(Own),
}

/// The settings that no socket option stands behind.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Own {
    /// Bound on establishing a connection.
    ConnectTimeout,
    /// Which value wins.
    Precedence,
    /// Refuse to start on a bad setting.
    Strict,
    /// Log level.
    Log,
    /// Log file.
    LogFile,
    /// Leave everything alone.
    Disable,
}

/// A set of stages: the intercepted calls at which an option is applied.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stages(u8);

impl Stages {
    /// After socket(2), and to a socket that was not made by it when a hook first sees it.
    pub const SOCKET: Self = Self(1);
    /// Before bind(2).
    pub const BIND: Self = Self(2);
    /// Before listen(2), where bind(2) has not had its turn.
    pub const LISTEN: Self = Self(4);
    /// After accept(2): only what an accepted socket does not inherit from its listener.
    pub const ACCEPT: Self = Self(8);
    /// After connect(2) has succeeded or begun: only what the handshake would undo.
    pub const CONNECT: Self = Self(16);

    /// Both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// Whether the sets share a stage.
    #[must_use]
    pub const fn contains(self, stage: Self) -> bool {
        self.0 & stage.0 != 0
    }
}

/// The values of `PRECEDENCE`, in the order of their stored numbers.
pub const PRECEDENCE: &[&str] = &["env", "program"];

/// The values of `LOG`, in the order of [`log::LevelFilter`].
pub const LOG_LEVELS: &[&str] = &["off", "error", "warn", "info", "debug", "trace"];

const SECONDS: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Second, auto: false };
const OWN_TIMEOUT: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Millisecond, auto: false };
const MILLISECONDS_OR_AUTO: Kind = Kind::Duration { bare: Unit::Millisecond, stored: Unit::Millisecond, auto: true };
const ON_OR_OFF: (i32, i32) = (0, 1);
const AT_BIND: Stages = Stages::BIND.or(Stages::LISTEN);

const fn tcp(optname: c_int, stages: Stages) -> Target {
    Target::Socket { level: libc::IPPROTO_TCP, optname, stages }
}

const fn socket(optname: c_int, stages: Stages) -> Target {
    Target::Socket { level: libc::SOL_SOCKET, optname, stages }
}

macro_rules! options {
    ($({
        $name:literal $(or $alias:literal)*, $kind:expr, $range:expr, $target:expr,
        since: $since:literal, source: $source:literal,
        $help:literal
    })*) => {
        /// The rows, as the shim needs them.
        pub static OPTIONS: [Opt; [$($name),*].len()] =
            [$(Opt { name: $name, aliases: &[$($alias),*], kind: $kind, range: $range, target: $target }),*];

        /// The rows, as people read them; same index as [`OPTIONS`].
        pub static DOCS: [Doc; [$($name),*].len()] =
            [$(Doc { help: $help, since: $since, source: $source }),*];
    };
}

options! {
    {
        "KEEPALIVE", Kind::Bool, ON_OR_OFF, socket(libc::SO_KEEPALIVE, Stages::SOCKET),
        since: "2.0", source: "socket(7) SO_KEEPALIVE",
        "Probe an idle connection. Any of KEEPIDLE, KEEPINTVL, KEEPCNT turns it on, unless this is off."
    }
    {
        "KEEPIDLE" or "KEEPALIVE_TIME", SECONDS, (1, 32_767), tcp(libc::TCP_KEEPIDLE, Stages::SOCKET),
        since: "2.4", source: "tcp(7) TCP_KEEPIDLE",
        "Idle time before the first keepalive probe."
    }
    {
        "KEEPINTVL" or "KEEPALIVE_INTVL", SECONDS, (1, 32_767), tcp(libc::TCP_KEEPINTVL, Stages::SOCKET),
        since: "2.4", source: "tcp(7) TCP_KEEPINTVL",
        "Time between two keepalive probes."
    }
    {
        "KEEPCNT" or "KEEPALIVE_PROBES", Kind::Count, (1, 127), tcp(libc::TCP_KEEPCNT, Stages::SOCKET),
        since: "2.4", source: "tcp(7) TCP_KEEPCNT",
        "Unanswered keepalive probes that end the connection."
    }
    {
        "SYNCNT" or "SYN_RETRIES", Kind::Count, (1, 127), tcp(libc::TCP_SYNCNT, Stages::SOCKET),
        since: "2.4", source: "tcp(7) TCP_SYNCNT",
        "SYN retransmissions before a connect gives up; independent of CONNECT_TIMEOUT, whichever ends first."
    }
    {
        "USER_TIMEOUT", MILLISECONDS_OR_AUTO, (1, i32::MAX), tcp(libc::TCP_USER_TIMEOUT, Stages::SOCKET),
        since: "2.6.37", source: "tcp(7) TCP_USER_TIMEOUT",
        "How long sent data may stay unacknowledged before the connection ends; auto: KEEPIDLE + KEEPINTVL × KEEPCNT."
    }
    {
        "CONNECT_TIMEOUT", OWN_TIMEOUT, (1, i32::MAX), Target::Own(Own::ConnectTimeout),
        since: "", source: "docs/connect-timeout.md",
        "How long establishing a connection may take; connect then fails with ETIMEDOUT. \
         Below 1s, a nonblocking socket waits for about 1s."
    }
    {
        "REUSEADDR", Kind::Bool, ON_OR_OFF, socket(libc::SO_REUSEADDR, AT_BIND),
        since: "2.0", source: "socket(7) SO_REUSEADDR",
        "Let bind take a port whose old connections are in TIME_WAIT: a server restarts at once."
    }
    {
        "REUSEPORT", Kind::Bool, ON_OR_OFF, socket(libc::SO_REUSEPORT, AT_BIND),
        since: "3.9", source: "socket(7) SO_REUSEPORT",
        "Let several listeners of one user share a port; all of them must have it on."
    }
    {
        "NODELAY", Kind::Bool, ON_OR_OFF, tcp(libc::TCP_NODELAY, Stages::SOCKET),
        since: "2.0", source: "tcp(7) TCP_NODELAY",
        "Send small segments at once instead of collecting them (no Nagle algorithm)."
    }
    {
        "QUICKACK", Kind::Bool, ON_OR_OFF, tcp(libc::TCP_QUICKACK, Stages::CONNECT.or(Stages::ACCEPT)),
        since: "2.4.4", source: "tcp(7) TCP_QUICKACK",
        "Acknowledge at once instead of delaying; set when a connection begins, not permanent: the kernel may change it."
    }
    {
        "PRECEDENCE", Kind::Choice(PRECEDENCE), (0, 1), Target::Own(Own::Precedence),
        since: "", source: "docs/decisions.md",
        "Which value wins where the program sets an option itself: that of the environment (default) or the program's."
    }
    {
        "STRICT", Kind::Bool, ON_OR_OFF, Target::Own(Own::Strict),
        since: "", source: "sysexits.h EX_CONFIG",
        "Do not start the program if a setting is wrong: exit status 78 before main."
    }
    {
        "LOG", Kind::Choice(LOG_LEVELS), (0, 5), Target::Own(Own::Log),
        since: "", source: "",
        "How much to report, to standard error or LOG_FILE; default warn. \
         info: the settings in force; debug: every decision, and the values read back."
    }
    {
        "LOG_FILE", Kind::Path, (0, 0), Target::Own(Own::LogFile),
        since: "", source: "",
        "File to append messages to, instead of standard error; made if missing, a symbolic link is refused."
    }
    {
        "DISABLE", Kind::Bool, ON_OR_OFF, Target::Own(Own::Disable),
        since: "", source: "",
        "Leave every socket alone, as if no setting were there."
    }
}

/// The row of a name or an alias.
#[must_use]
pub fn find(name: &str) -> Option<(usize, &'static Opt)> {
    OPTIONS.iter().enumerate().find(|(_, o)| o.name == name || o.aliases.contains(&name))
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::collections::HashSet;

    #[test]
    fn names_and_aliases_are_unique() {
        let mut seen = HashSet::new();
        for option in &OPTIONS {
            for name in [option.name].iter().chain(option.aliases) {
                assert!(seen.insert(*name), "{name} stands twice");
                assert!(name.bytes().all(|b| b.is_ascii_uppercase() || b == b'_'), "{name}: not a variable name");
            }
        }
    }

    #[test]
    fn ranges_are_sane() {
        for option in &OPTIONS {
            let (low, high) = option.range;
            match option.kind {
                Kind::Bool => assert_eq!((low, high), (0, 1), "{}", option.name),
                Kind::Choice(names) => {
                    assert_eq!((low, usize::try_from(high)), (0, Ok(names.len() - 1)), "{}", option.name);
                }
                Kind::Path => assert_eq!((low, high), (0, 0), "{}", option.name),
                Kind::Count | Kind::Duration { .. } => assert!(1 <= low && low < high, "{}", option.name),
            }
        }
    }

    #[test]
    fn each_socket_option_stands_once_and_is_applied_somewhere() {
        let mut seen = HashSet::new();
        for option in &OPTIONS {
            if let Target::Socket { level, optname, stages } = option.target {
                assert!(seen.insert((level, optname)), "{}: its option has another row", option.name);
                assert!(stages != Stages(0), "{}: no stage applies it", option.name);
            }
        }
    }

    #[test]
    fn each_row_is_documented() {
        for (option, doc) in OPTIONS.iter().zip(&DOCS) {
            let name = option.name;
            assert!(doc.help.ends_with('.') && doc.help.len() > 20, "{name}: help is a sentence");
            assert!(!doc.help.contains(['|', '\n']), "{name}: help must fit a table cell");
            match option.target {
                Target::Socket { .. } => {
                    assert!(!doc.since.is_empty() && doc.source.contains("(7)"), "{name}: kernel and man page section");
                }
                Target::Own(_) => assert!(doc.since.is_empty(), "{name}: no kernel has it"),
            }
        }
    }

    #[test]
    fn finds_by_name_and_alias() {
        assert_eq!(find("KEEPIDLE").map(|(i, _)| i), find("KEEPALIVE_TIME").map(|(i, _)| i));
        assert!(find("KEEPIDEL").is_none());
    }
}
