//! Why the kernel does not let tcptune look into a process, and what would let it.

use std::fs;
use std::os::unix::fs::MetadataExt;

use procfs::process::{Process, Status};
use procfs::sys::kernel::Version;
use rustix::io::Errno;

use super::process::status;
use crate::screens::error::Error;

/// capabilities(7): the bit of `CAP_SYS_PTRACE`.
const CAP_SYS_PTRACE: u64 = 1 << 19;

/// The bits of `CAP_DAC_OVERRIDE` and `CAP_DAC_READ_SEARCH`.
const CAP_DAC: u64 = 0b110;

/// seccomp(2): `SECCOMP_MODE_FILTER`, as /proc/PID/status has it.
const SECCOMP_FILTER: u32 = 2;

/// What is known of the two processes, as far as access depends on it.
#[derive(Clone, Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is a fact of its own")]
struct Situation {
    kernel: Option<Version>,
    /// Real, effective and saved user and group ids of the process.
    target_ids: Option<([u32; 3], [u32; 3])>,
    /// Real user and group id of tcptune.
    own_ids: (u32, u32),
    /// Whether tcptune has `CAP_SYS_PTRACE` in its user namespace.
    capable: bool,
    /// Whether it may read the directories of other users.
    reads_all: bool,
    /// Whether the process is in another user namespace, where that cannot be told as well.
    other_user_namespace: bool,
    /// Whether the process has permitted capabilities that tcptune lacks.
    more_capabilities: bool,
    /// Whether /proc says by its owner that the process is not dumpable (prctl(2), `PR_SET_DUMPABLE`).
    not_dumpable: bool,
    /// `kernel.yama.ptrace_scope`; 0 without Yama.
    yama: u8,
    /// Whether tcptune runs under a seccomp filter.
    seccomp: bool,
}

/// The error for a call that was refused.
pub fn error(call: &str, pid: i32, target: Option<&Process>, errno: Errno) -> Error {
    let named = tcptune_core::system::errno::Named(errno.raw_os_error());
    let (why, hint) = Situation::of(pid, target).reason(errno);
    Error::failed(format!("process {pid}: {call} is refused with {named}: {why}")).hint(hint)
}

impl Situation {
    fn of(pid: i32, target: Option<&Process>) -> Self {
        let own = status(std::process::id().cast_signed());
        let status = target.and_then(|process| status(process.pid));
        let permitted = |status: &Status| status.capprm;
        let namespace = |pid: &str| fs::read_link(format!("/proc/{pid}/ns/user")).ok();
        let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
        // proc(5): what is in the directory of a process that is not dumpable belongs to root.
        let owner = fs::metadata(format!("/proc/{pid}/fd")).map(|metadata| metadata.uid()).ok();
        Self {
            kernel: Version::current().ok(),
            target_ids: status.as_ref().map(|s| ([s.ruid, s.euid, s.suid], [s.rgid, s.egid, s.sgid])),
            own_ids: own.as_ref().map_or((u32::MAX, u32::MAX), |s| (s.ruid, s.rgid)),
            capable: own.as_ref().is_some_and(|s| s.capeff & CAP_SYS_PTRACE != 0),
            reads_all: own.as_ref().is_some_and(|s| s.capeff & CAP_DAC != 0),
            other_user_namespace: namespace(&pid.to_string()) != namespace("self"),
            more_capabilities: status
                .as_ref()
                .zip(own.as_ref())
                .is_some_and(|(target, own)| permitted(target) & !permitted(own) != 0),
            not_dumpable: status.as_ref().zip(owner).is_some_and(|(s, owner)| owner != s.euid),
            yama: yama.ok().and_then(|text| text.trim().parse().ok()).unwrap_or(0),
            seccomp: own.and_then(|s| s.seccomp) == Some(SECCOMP_FILTER),
        }
    }

    /// What is missing, and what to do.
    fn reason(&self, errno: Errno) -> (String, &'static str) {
        const ROOT: &str = "run tcptune as root, or with CAP_SYS_PTRACE";
        const CONTAINER: &str =
            "run tcptune outside of the container, or give it CAP_SYS_PTRACE (docker run --cap-add)";
        if errno == Errno::NOSYS {
            return match self.kernel {
                Some(kernel) if kernel < Version::new(5, 6, 0) => {
                    ("this kernel is older than 5.6, which has it".to_owned(), "a newer kernel is needed")
                }
                _ => ("the kernel has it, so a seccomp filter refuses it".to_owned(), CONTAINER),
            };
        }
        if !matches!(errno, Errno::PERM | Errno::ACCESS) {
            return ("nothing more is known".to_owned(), ROOT);
        }
        // In the order of ptrace(2), "Ptrace access mode checking": PTRACE_MODE_ATTACH_REALCREDS.
        let (uid, gid) = self.own_ids;
        let needs = "needs CAP_SYS_PTRACE (PTRACE_MODE_ATTACH_REALCREDS, ptrace(2))";
        if !self.capable {
            return match self.target_ids {
                Some((uids, _)) if uids != [uid; 3] => {
                    let whose = uids.iter().find(|id| **id != uid).unwrap_or(&uid);
                    (format!("it belongs to user {whose}, tcptune runs as user {uid}, which {needs}"), ROOT)
                }
                Some((_, gids)) if gids != [gid; 3] => {
                    let whose = gids.iter().find(|id| **id != gid).unwrap_or(&gid);
                    (format!("it has group {whose}, tcptune has group {gid}, which {needs}"), ROOT)
                }
                _ if self.not_dumpable => (format!("it is not dumpable (prctl(2)), which {needs}"), ROOT),
                _ if self.more_capabilities => (format!("it has capabilities that tcptune lacks, which {needs}"), ROOT),
                _ => (format!("{}, which {needs}", self.restriction()), ROOT),
            };
        }
        if self.yama == 3 {
            let why = "kernel.yama.ptrace_scope is 3: no process may look into another one";
            return (why.to_owned(), "it can be lowered by a reboot only");
        }
        if self.other_user_namespace {
            let why = "it is in another user namespace, where tcptune's CAP_SYS_PTRACE does not count";
            return (why.to_owned(), "run tcptune as root of the initial user namespace, outside of the container");
        }
        if errno == Errno::ACCESS && !self.reads_all {
            let why =
                "its directory belongs to another user, and tcptune has CAP_SYS_PTRACE, but not CAP_DAC_READ_SEARCH";
            return (why.to_owned(), "run tcptune as root, or with both of them");
        }
        (format!("tcptune has CAP_SYS_PTRACE, but {}", self.restriction()), CONTAINER)
    }

    /// What restricts processes of one user among each other.
    fn restriction(&self) -> String {
        match (self.yama, self.seccomp) {
            (0, true) => "a seccomp filter is in force".to_owned(),
            (0, false) => "a security module (LSM) forbids it".to_owned(),
            (1, _) => "kernel.yama.ptrace_scope is 1: only children may be looked into".to_owned(),
            (scope, _) => format!("kernel.yama.ptrace_scope is {scope}"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn mine() -> Situation {
        Situation {
            kernel: Some(Version::new(6, 1, 0)),
            target_ids: Some(([7; 3], [7; 3])),
            own_ids: (7, 7),
            capable: false,
            reads_all: false,
            other_user_namespace: false,
            more_capabilities: false,
            not_dumpable: false,
            yama: 0,
            seccomp: false,
        }
    }

    #[test]
    fn each_missing_permission_is_named() {
        let old = Version::new(5, 5, 19);
        for (situation, errno, word) in [
            (Situation { kernel: Some(old), ..mine() }, Errno::NOSYS, "older than 5.6"),
            (mine(), Errno::NOSYS, "seccomp"),
            (Situation { target_ids: Some(([7, 0, 7], [7; 3])), ..mine() }, Errno::ACCESS, "belongs to user 0"),
            (Situation { target_ids: Some(([7; 3], [7, 8, 7])), ..mine() }, Errno::PERM, "has group 8"),
            (Situation { not_dumpable: true, ..mine() }, Errno::PERM, "not dumpable"),
            (Situation { more_capabilities: true, ..mine() }, Errno::PERM, "capabilities that tcptune lacks"),
            (Situation { yama: 1, ..mine() }, Errno::PERM, "ptrace_scope is 1: only children"),
            (Situation { yama: 2, ..mine() }, Errno::PERM, "ptrace_scope is 2, which needs CAP_SYS_PTRACE"),
            (Situation { seccomp: true, ..mine() }, Errno::PERM, "a seccomp filter is in force"),
            (mine(), Errno::PERM, "security module"),
            (Situation { capable: true, yama: 3, ..mine() }, Errno::PERM, "ptrace_scope is 3"),
            (Situation { capable: true, other_user_namespace: true, ..mine() }, Errno::PERM, "user namespace"),
            (Situation { capable: true, ..mine() }, Errno::ACCESS, "not CAP_DAC_READ_SEARCH"),
            (Situation { capable: true, seccomp: true, ..mine() }, Errno::PERM, "but a seccomp filter"),
        ] {
            let (why, hint) = situation.reason(errno);
            assert!(why.contains(word) && !hint.is_empty(), "{situation:?}: {why}");
            assert!(why.len() < 160, "one line: {why}");
        }
    }
}
