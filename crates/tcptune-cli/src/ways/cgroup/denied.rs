//! Why BPF programs cannot be loaded or attached here, as one line with what to do.

use std::io;

use rustix::thread::CapabilitySet;

use super::attachment::{ATTACHING, Failed};
use super::place::Cgroup;
use crate::screens::error::Error;

/// Since which kernel all that is needed is there: bpf_setsockopt for any option that setsockopt(2) has (6.0).
const SINCE: &str = "Linux 6.1";

impl From<Failed> for Error {
    fn from(failed: Failed) -> Self {
        match failed {
            Failed::TooMany => Self::usage("these are more rules than one BPF program can hold; nothing is attached")
                .hint(
                    "some 5000 comparisons are possible: a rule has one for each network, and for each list of ports",
                ),
            Failed::Verifier { program, error, says } => match error.raw_os_error() {
                Some(libc::EPERM | libc::EACCES) if says.is_empty() => not_allowed("loading a program", &error),
                // "program of this type cannot use helper", or, before that, "unknown func".
                _ if says.contains("bpf_get_current_uid_gid") => Self::usage(
                    "rules with uid= take Linux 6.16: this kernel tells no BPF program who connects or listens",
                )
                .hint("the cgroup says whose sockets are tuned; nothing is attached"),
                Some(libc::E2BIG) => {
                    Self::usage("these are more rules than the kernel's verifier goes through; nothing is attached")
                }
                _ => {
                    let mut last: Vec<_> = says.lines().rev().take(2).collect();
                    last.reverse();
                    Self::not_executable(format!(
                        "the kernel does not take the program {program} ({error}): {}",
                        last.join(": ")
                    ))
                    .hint(format!("it takes {SINCE}; nothing is attached"))
                }
            },
            Failed::Refused { step, error } => match error.raw_os_error() {
                Some(libc::EPERM) if step == ATTACHING => Self::failed(
                    "another tool has attached a program to this cgroup, or one around it, that allows no other",
                )
                .hint("detach that one first"),
                Some(libc::EPERM | libc::EACCES) => not_allowed(step, &error),
                Some(libc::ENOSYS) => Self::not_executable("this kernel has no BPF (CONFIG_BPF_SYSCALL)")
                    .hint(format!("it takes {SINCE}; `tcptune run` preloads a library instead")),
                Some(libc::EINVAL) => Self::not_executable(format!("{step}: the kernel does not know it ({error})"))
                    .hint(format!("it takes {SINCE} with CONFIG_CGROUP_BPF")),
                Some(libc::E2BIG | libc::ENOSPC) => {
                    Self::failed(format!("{step}: 64 programs are attached there already, no more are possible"))
                }
                _ => Self::failed(format!("{step}: {error}")),
            },
        }
    }
}

/// The capabilities that attaching takes; CAP_SYS_ADMIN stands for both (capabilities(7)).
const NEEDED: [(CapabilitySet, &str); 2] =
    [(CapabilitySet::BPF, "CAP_BPF"), (CapabilitySet::NET_ADMIN, "CAP_NET_ADMIN")];

/// Whether this user has them, and the cgroup file system.
pub fn may_attach() -> bool {
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    let has = |capability| effective.intersects(capability | CapabilitySet::SYS_ADMIN);
    NEEDED.iter().all(|(capability, _)| has(*capability))
        && Cgroup::of_process(std::process::id().cast_signed()).is_ok()
}

fn not_allowed(step: &str, error: &io::Error) -> Error {
    let effective = rustix::thread::capabilities(None).map_or(CapabilitySet::empty(), |sets| sets.effective);
    if !effective.contains(CapabilitySet::SYS_ADMIN) {
        let missing: Vec<_> =
            NEEDED.iter().filter(|(needed, _)| !effective.contains(*needed)).map(|(_, name)| *name).collect();
        let missing = match missing.as_slice() {
            [] => "CAP_SYS_ADMIN is missing, which finding out what is attached takes".to_owned(),
            [one] => format!("{one} is missing"),
            several => format!("{} are missing", several.join(" and ")),
        };
        return Error::not_executable(format!("{step}: not permitted: {missing}")).hint("run this as root");
    }
    let message = format!("{step}: refused ({error}), though this process has every capability that it takes");
    if is_in_user_namespace() {
        return Error::not_executable(message).hint("those of a user namespace do not count: run this on the host");
    }
    Error::not_executable(message)
        .hint("a container's seccomp filter or a security module forbids bpf(2): run this on the host")
}

/// Whether root here is not root of the machine (user_namespaces(7)).
fn is_in_user_namespace() -> bool {
    let map = std::fs::read_to_string("/proc/self/uid_map").unwrap_or_default();
    map.split_whitespace().collect::<Vec<_>>() != ["0", "0", "4294967295"]
}
