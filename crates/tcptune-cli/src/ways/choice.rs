//! By which way a program is reached, why, and what that way leaves out.

use std::fmt;

use tcptune_core::options::phase::Stages;
use tcptune_core::options::table::{DOCS, OPTIONS, Target};
use tcptune_core::options::ways::Ways;
use tcptune_core::settings::settled::{Backend, Settings};

use crate::program::{Obstacle, Program};
use crate::ways::cgroup::order::Order;

/// A way into a program that is to be started.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Way {
    /// The library, by `LD_PRELOAD`.
    Preload,
    /// A supervisor, by seccomp user notification.
    Notify,
    /// BPF programs of a cgroup.
    Cgroup,
}

impl Way {
    /// Its name, as a value of `BACKEND`.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Preload => "preload",
            Self::Notify => "notify",
            Self::Cgroup => "cgroup",
        }
    }

    const fn of_table(self) -> Ways {
        match self {
            Self::Preload => Ways::PRELOAD,
            Self::Notify => Ways::NOTIFY,
            Self::Cgroup => Ways::CGROUP,
        }
    }
}

impl fmt::Display for Way {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.name())
    }
}

/// The way, and the reasons.
#[derive(Clone, Debug)]
pub struct Choice {
    pub way: Way,
    /// Why this one.
    pub reason: String,
    /// What keeps this way, too, out of the program.
    pub obstacles: Vec<Obstacle>,
    /// The settings that hold and that it cannot set.
    pub left_out: Vec<String>,
}

impl Choice {
    /// For a program with these settings. `cgroup` is there if all of them can be set by that way, and this user may.
    pub fn new(program: &Program, settings: &Settings, cgroup: Option<&Order>) -> Self {
        let past_libc = program.obstacles.iter().find(|obstacle| obstacle.is_past_libc());
        let (way, reason) = match (settings.backend, past_libc) {
            (Backend::Preload, _) => (Way::Preload, "asked for".to_owned()),
            (Backend::Notify, _) => (Way::Notify, "asked for".to_owned()),
            (Backend::Cgroup, _) => (Way::Cgroup, "asked for".to_owned()),
            (Backend::Auto, None) => (Way::Preload, "a dynamic program, or one that starts such".to_owned()),
            (Backend::Auto, Some(obstacle)) if cgroup.is_some() => (Way::Cgroup, obstacle.to_string()),
            (Backend::Auto, Some(obstacle)) => (Way::Notify, obstacle.to_string()),
        };
        let obstacles = program.obstacles.iter().filter(|obstacle| obstacle.hinders(way)).cloned().collect();
        Self { way, reason, obstacles, left_out: left_out(way, settings) }
    }

    /// Another way, where this one turned out not to be open.
    pub fn instead(self, way: Way, settings: &Settings) -> Self {
        Self { way, left_out: left_out(way, settings), ..self }
    }
}

/// The settings that a way cannot set, and those that it cannot set on accepted sockets.
fn left_out(way: Way, settings: &Settings) -> Vec<String> {
    let of_rules = settings.profiles.iter().flat_map(|profile| profile.plan().into_iter().map(|planned| planned.row));
    let mut rows: Vec<_> = settings.in_force.iter().map(|setting| setting.row).chain(of_rules).collect();
    rows.sort_unstable();
    rows.dedup();
    rows.into_iter()
        .filter_map(|row| {
            let (opt, doc) = (OPTIONS.get(row)?, DOCS.get(row)?);
            // Accepted sockets inherit from their listener; what they do not inherit takes a hook of accept(2).
            let needs_accept = matches!(opt.target, Target::Socket(option) if option.stages.contains(Stages::ACCEPT));
            if !doc.ways.contains(way.of_table()) {
                Some(opt.name().to_owned())
            } else if way == Way::Notify && matches!(opt.name(), "RECV_TIMEOUT" | "SEND_TIMEOUT") {
                // There it is SO_RCVTIMEO or SO_SNDTIMEO alone, which only calls that block look at (socket(7)).
                Some(format!("{} of accepted sockets, nor in poll, select, epoll and Go", opt.name()))
            } else if way == Way::Notify && needs_accept {
                Some(format!("{} of accepted sockets", opt.name()))
            } else {
                None
            }
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcptune_core::settings::settle;

    fn choice(obstacles: &[Obstacle], variables: &[(&str, &str)]) -> Choice {
        let program = Program { chain: vec!["/p".into()], elf: None, obstacles: obstacles.to_vec() };
        Choice::new(&program, &settle::parse(variables, || unreachable!()).0, None)
    }

    #[test]
    fn a_program_past_libc_is_not_preloaded_unless_that_is_asked_for() {
        assert_eq!(choice(&[], &[]).way, Way::Preload);
        for obstacle in [Obstacle::Static, Obstacle::Go, Obstacle::DirectCalls] {
            let found = choice(std::slice::from_ref(&obstacle), &[("KEEPIDLE", "60")]);
            assert_eq!((found.way, found.reason), (Way::Notify, obstacle.to_string()));
            assert!(found.obstacles.is_empty() && found.left_out.is_empty());
            let forced = choice(std::slice::from_ref(&obstacle), &[("BACKEND", "preload")]);
            assert_eq!((forced.way, forced.obstacles), (Way::Preload, vec![obstacle]));
        }
        let missing = Obstacle::NoLoader("/nosuch".into());
        let refused = choice(std::slice::from_ref(&missing), &[("BACKEND", "notify")]);
        assert_eq!(refused.obstacles, [missing], "no way is open");
    }

    #[test]
    fn what_a_way_leaves_out_is_named() {
        let settings = [("KEEPIDLE", "60"), ("MPTCP", "on"), ("ACCEPT_TIMEOUT", "3"), ("PRIORITY", "2")];
        let found = choice(&[Obstacle::Static], &settings);
        assert_eq!(found.left_out, ["ACCEPT_TIMEOUT", "PRIORITY of accepted sockets", "MPTCP"]);
        assert!(choice(&[], &settings).left_out.is_empty());
        let waits = choice(&[Obstacle::Go], &[("RECV_TIMEOUT", "3")]).left_out;
        assert_eq!(waits, ["RECV_TIMEOUT of accepted sockets, nor in poll, select, epoll and Go"]);
        let rules = [("RULES", "dst=::1 : QUICKACK=on")];
        assert_eq!(choice(&[Obstacle::Go], &rules).left_out, ["QUICKACK of accepted sockets"]);
    }
}
