//! Sockets that the supervisor makes, for programs whose descriptors it cannot take: those that protect themselves
//! (prctl(2), `PR_SET_DUMPABLE`), that have changed their user, or that Yama or a container's own filter keeps apart.
//!
//! They have their options from the start, and nobody can change them later. The connect timeout becomes a number of
//! SYN retransmissions, which is never shorter and needs nothing to be put back.

use std::fs;
use std::os::fd::{AsFd, AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::fs::MetadataExt;

use libc::c_int;
use rustix::io::Errno;
use tcptune_core::options::phase::Stages;
use tcptune_core::settings::profile::Profile;
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::{apply, syn};

use super::calls::Calls;
use super::listener::Answer;
use crate::system::kernel::{KERNEL, Kernel};

/// In place of socket(2), where the program is one of those.
pub fn socket(calls: &mut Calls, domain: c_int, kind: c_int, protocol: c_int) -> Answer {
    let (listener, call) = (&calls.listener, &calls.shared.call);
    let thread = call.thread();
    let taken = calls.threads.descriptor(thread, -1, || listener.waits(call)); // -1 is no descriptor, which the kernel finds out after it has checked the permission
    if !matches!(taken, Err(Errno::PERM | Errno::NOSYS)) || !is_in_our_namespace(thread) {
        return Answer::GoOn;
    }
    // Where rules look at addresses, nobody knows which one holds.
    let Some(profile) = calls.policy.of(thread).only_profile().filter(|profile| !profile.is_empty()) else {
        return Answer::GoOn;
    };
    // SAFETY: touches no memory.
    let fd = unsafe { libc::socket(domain, kind | libc::SOCK_CLOEXEC, protocol) };
    if fd < 0 {
        return Answer::GoOn; // the program gets the same error
    }
    // SAFETY: a new descriptor, of nobody else.
    let fd = unsafe { OwnedFd::from_raw_fd(fd) };
    tune(profile, &fd);
    match calls.listener.give(&calls.shared.call, fd.as_fd(), kind & libc::SOCK_CLOEXEC != 0) {
        Ok(()) => Answer::Given,
        Err(_) => Answer::GoOn, // no room for one more descriptor
    }
}

/// Sets all that a new socket takes.
fn tune(profile: &Profile, fd: &OwnedFd) {
    let raw = fd.as_raw_fd();
    let Some(mark) = apply::mark(&KERNEL, raw).filter(|mark| mark.family() != Some(Family::Other)) else { return };
    apply::stage(&KERNEL, profile, raw, mark, Stages::SOCKET);
    apply::stage(&KERNEL, profile, raw, mark, Stages::BIND);
    let synced = profile.planned(libc::IPPROTO_TCP, libc::TCP_SYNCNT, Stages::SOCKET).is_some();
    if let Some(ms) = profile.connect_timeout().filter(|_| !synced) {
        let retries = retries(ms.cast_unsigned());
        log::debug!("connect timeout {ms}ms becomes {retries} SYN retransmissions");
        let _ = KERNEL.set_int(raw, libc::IPPROTO_TCP, libc::TCP_SYNCNT, retries);
    }
}

/// The fewest SYN retransmissions that take no less time.
fn retries(ms: u32) -> c_int {
    let linear = u32::try_from(Kernel::read().syn_linear_timeouts).unwrap_or(0);
    let takes = |retries: &u32| syn::gives_up_after(*retries, linear) * 1000;
    let most = 127; // the largest that the kernel takes
    let fewest = (1..most).find(|retries| takes(retries) >= u64::from(ms)).unwrap_or(most);
    fewest.cast_signed()
}

/// Whether a socket of ours would be one of the same network namespace. The link in /proc is not readable of such a
/// process; the tables below are, and each namespace has files of its own.
fn is_in_our_namespace(thread: i32) -> bool {
    let file = |of: &str| fs::metadata(format!("/proc/{of}/net/tcp")).map(|metadata| metadata.ino()).ok();
    file(&thread.to_string()).is_some_and(|theirs| file("self") == Some(theirs))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_connect_timeout_is_never_shorter_in_retransmissions() {
        let linear = u32::try_from(Kernel::read().syn_linear_timeouts).expect("a number");
        for ms in [1, 1000, 3000, 3100, 10_000, 60_000, 600_000] {
            let retries = retries(ms).cast_unsigned();
            assert!(syn::gives_up_after(retries, linear) * 1000 >= u64::from(ms), "{ms}");
            assert!(retries == 1 || syn::gives_up_after(retries - 1, linear) * 1000 < u64::from(ms), "{ms}");
        }
    }
}
