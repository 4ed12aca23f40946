//! Where settings come from, and what is asked of the process and the kernel to settle them.

use crate::settings::grammar::{Scope, Word};
use crate::settings::rules::glob;

/// Where settings come from, in the order in which they are laid over each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `/etc/tcptune.conf`.
    System,
    /// The file of `TCPTUNE_CONFIG`.
    Config,
    /// A variable.
    Environment,
}

/// Where a setting or a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which source.
    pub source: Source,
    /// Counted from 1; 0 for a variable of its own.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

impl Place {
    pub(crate) fn of(source: Source, word: Word<'_>) -> Self {
        Self { source, line: word.line, column: word.column() }
    }
}

/// What is known of the process when its rules are settled.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The names by which it can be called: of its executable, and of a script that it runs.
    pub names: Vec<String>,
    /// Its effective user id.
    pub uid: u32,
}

impl Process {
    pub(crate) fn is(&self, program: &str) -> bool {
        self.names.iter().any(|name| glob(program, name))
    }

    #[cold]
    pub(crate) fn is_in(&self, scope: &Scope<'_>) -> bool {
        (scope.programs.is_empty() || scope.programs.iter().any(|program| self.is(program)))
            && (scope.uids.is_empty() || scope.uids.contains(&self.uid))
    }
}

/// The kernel's own keepalive times, which `USER_TIMEOUT=auto` needs where a setting does not say.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveDefaults {
    /// `net.ipv4.tcp_keepalive_time`, seconds.
    pub idle: i64,
    /// `net.ipv4.tcp_keepalive_intvl`, seconds.
    pub interval: i64,
    /// `net.ipv4.tcp_keepalive_probes`.
    pub count: i64,
}
