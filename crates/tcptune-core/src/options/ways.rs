//! The ways into a program, and which of them can set an option.

use std::fmt;

/// A set of ways into a program.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ways(u8);

impl Ways {
    /// The preloaded library: the program's own calls.
    pub const PRELOAD: Self = Self(1);
    /// A supervisor that seccomp tells of the program's system calls (`seccomp_unotify(2)`).
    pub const NOTIFY: Self = Self(2);
    /// BPF programs of a cgroup: what bpf_setsockopt takes (`bpf-helpers(7)`).
    pub const CGROUP: Self = Self(4);
    /// `tcptune apply`: sockets that are there already, by pidfd_getfd(2).
    pub const APPLY: Self = Self(8);
    /// All of them.
    pub const ALL: Self = Self(15);

    /// Both sets.
    #[must_use]
    pub const fn or(self, other: Self) -> Self {
        Self(self.0 | other.0)
    }

    /// All of this set that are not in the other.
    #[must_use]
    pub const fn but(self, other: Self) -> Self {
        Self(self.0 & !other.0)
    }

    /// Whether the sets share a way.
    #[must_use]
    pub const fn contains(self, way: Self) -> bool {
        self.0 & way.0 != 0
    }
}

impl fmt::Display for Ways {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let names =
            [(Self::PRELOAD, "preload"), (Self::NOTIFY, "notify"), (Self::CGROUP, "cgroup"), (Self::APPLY, "apply")];
        let mut between = "";
        for (_, name) in names.iter().filter(|(way, _)| self.contains(*way)) {
            write!(f, "{between}{name}")?;
            between = ", ";
        }
        Ok(())
    }
}
