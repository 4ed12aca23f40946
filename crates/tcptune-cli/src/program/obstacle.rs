//! What keeps the library out of a program.

use std::fmt;
use std::path::PathBuf;

use rustix::thread::CapabilitySet;

use super::elf::{Machine, Unfit};
use super::wrapper::Loss;
use crate::ways::choice::Way;

/// Why a program cannot be tuned.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Obstacle {
    /// It has no loader.
    Static,
    /// The loader ignores the variable.
    SecureExecution(Privilege),
    /// The library is for another machine.
    OtherMachine { program: Machine, library: Machine },
    /// It does not call libc.
    Go,
    /// It calls libc, but not for sockets.
    DirectCalls,
    /// The loader it asks for is not there.
    NoLoader(PathBuf),
    /// The interpreter that a script asks for is not there.
    NoInterpreter(PathBuf),
    /// A script whose lines end as those of Windows do.
    CarriageReturn,
    /// No kernel would start it.
    Unfit(Unfit),
    /// It is linked with this run-time library of a sanitizer, which must be loaded before all others.
    Sanitizer(String),
    /// It starts others without the variable.
    Lost(Loss),
}

/// Why secure execution (getauxval(3), `AT_SECURE`).
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Privilege {
    Setuid(u32),
    Setgid(u32),
    Capabilities,
}

impl Obstacle {
    /// Whether the program reaches the kernel without the calls that the library hooks: other ways see them.
    pub const fn is_past_libc(&self) -> bool {
        matches!(self, Self::Static | Self::Go | Self::DirectCalls)
    }

    /// Whether this way cannot reach the program because of it.
    pub fn hinders(&self, way: Way) -> bool {
        match self {
            // A program that cannot be started at all, or that a service starts, which is no child of this process: no way
            // helps.
            Self::NoLoader(_)
            | Self::NoInterpreter(_)
            | Self::CarriageReturn
            | Self::Unfit(_)
            | Self::Lost(Loss::Manager(_) | Loss::Container(_)) => true,
            // A filter has the numbers of one machine's system calls.
            Self::OtherMachine { .. } => way != Way::Cgroup,
            // With CAP_SYS_ADMIN a filter does without no_new_privs, and those that gain rights are reached as well.
            Self::SecureExecution(_) | Self::Lost(Loss::Environment(_)) => {
                way == Way::Preload || (way == Way::Notify && !is_admin())
            }
            _ => way == Way::Preload,
        }
    }

    /// Its name for machines.
    pub const fn name(&self) -> &'static str {
        match self {
            Self::Static => "static",
            Self::SecureExecution(_) => "secure-execution",
            Self::OtherMachine { .. } => "other-machine",
            Self::Go => "go",
            Self::DirectCalls => "direct-calls",
            Self::NoLoader(_) => "no-loader",
            Self::NoInterpreter(_) => "no-interpreter",
            Self::CarriageReturn => "carriage-return",
            Self::Unfit(_) => "unfit",
            Self::Sanitizer(_) => "sanitizer",
            Self::Lost(Loss::Environment(_) | Loss::Manager(_)) => "fresh-environment",
            Self::Lost(Loss::Container(_)) => "container",
            Self::Lost(Loss::Sandbox(_)) => "sandbox",
            Self::Lost(Loss::Root(_)) => "other-root",
        }
    }

    /// What can be done instead.
    pub fn advice(&self) -> Option<String> {
        Some(match self {
            Self::Static | Self::Go | Self::DirectCalls => {
                "without --backend preload another way reaches it".to_owned()
            }
            Self::SecureExecution(_) => "run it as a user for whom it gains nothing".to_owned(),
            Self::OtherMachine { .. } => "name a library for its machine with --library".to_owned(),
            Self::CarriageReturn => "take them away: sed -i 's/\\r$//' FILE".to_owned(),
            Self::Sanitizer(library) => format!("put it in front: LD_PRELOAD={library} tcptune run …"),
            Self::Lost(Loss::Environment(how) | Loss::Manager(how)) => format!("put it in front: {how} tcptune run …"),
            Self::Lost(Loss::Container(_)) => {
                "bring the library in with -v, and what `tcptune env` prints with -e".to_owned()
            }
            Self::Lost(Loss::Sandbox(_)) => {
                "once it runs, `tcptune apply PID` can set options on its sockets".to_owned()
            }
            Self::Lost(Loss::Root(_)) => "copy the library to the same path in it".to_owned(),
            Self::NoLoader(_) | Self::NoInterpreter(_) | Self::Unfit(_) => return None,
        })
    }
}

impl fmt::Display for Obstacle {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let secure = "in secure execution the loader ignores LD_PRELOAD";
        match self {
            Self::Static => f.write_str("a static binary: it loads no library, so nothing can be preloaded into it"),
            Self::SecureExecution(Privilege::Setuid(owner)) => write!(f, "setuid of user {owner}: {secure}"),
            Self::SecureExecution(Privilege::Setgid(group)) => write!(f, "setgid of group {group}: {secure}"),
            Self::SecureExecution(Privilege::Capabilities) => write!(f, "has file capabilities: {secure}"),
            Self::OtherMachine { program, library } => {
                write!(f, "for {program}, and the library is for {library}: the loader cannot load it there")
            }
            Self::Go => f.write_str("a Go program: it makes its own system calls, past libc and past the library"),
            Self::DirectCalls => {
                f.write_str("makes its system calls itself: neither it nor a library of it imports connect")
            }
            Self::NoLoader(path) => write!(f, "needs the loader {}, which is not there", path.display()),
            Self::NoInterpreter(path) => write!(f, "needs the interpreter {}, which is not there", path.display()),
            Self::CarriageReturn => {
                f.write_str("its first line ends with a carriage return, which is taken for a part of the interpreter")
            }
            Self::Unfit(unfit) => write!(f, "{unfit}: it cannot be started"),
            Self::Sanitizer(library) => {
                write!(f, "linked with {library}, which ends it unless it is loaded before any other library")
            }
            Self::Lost(Loss::Environment(how)) => {
                write!(f, "{how} starts its program with an environment of its own, without LD_PRELOAD")
            }
            Self::Lost(Loss::Manager(how)) => {
                write!(f, "{how} has its program started by the service manager, without LD_PRELOAD")
            }
            Self::Lost(Loss::Container(how)) => {
                write!(f, "{how} starts its program in a container, without the library and without LD_PRELOAD")
            }
            Self::Lost(Loss::Sandbox(how)) => {
                write!(f, "{how} starts its program in a sandbox, without the library")
            }
            Self::Lost(Loss::Root(root)) => write!(f, "the library is not in the tree {}", root.display()),
        }
    }
}

/// Whether this process has CAP_SYS_ADMIN.
fn is_admin() -> bool {
    rustix::thread::capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_ADMIN))
}
