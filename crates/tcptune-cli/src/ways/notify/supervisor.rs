//! The supervisor: two processes, of which one works. When it is killed, the other one answers the call that it was at,
//! goes on, and starts another one to watch: a program whose supervisor is gone would get `ENOSYS` for each connect.

use std::mem;
use std::os::fd::OwnedFd;
use std::process;
use std::ptr;
use std::time::Duration;

use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::process::{Pid, PidfdFlags};
use tcptune_core::system::clock;

use super::attempts::Attempts;
use super::calls::Calls;
use super::listener::Answer;

/// Works until the last program under the filter has ended. `ready` is called once the other process watches.
pub fn run(mut calls: Calls, ready: impl FnOnce()) {
    let mut watcher = Watcher::start(&mut calls);
    ready();
    loop {
        match next(&mut calls, watcher.as_ref()) {
            Next::Call => calls.handle(),
            Next::Look => calls.look(),
            Next::Watcher => {
                if let Some(watcher) = watcher {
                    watcher.bury();
                }
                watcher = Watcher::start(&mut calls);
            }
            Next::End => return,
        }
    }
}

/// What is to be done next.
enum Next {
    Call,
    Look,
    /// It has been killed.
    Watcher,
    End,
}

fn next(calls: &mut Calls, watcher: Option<&Watcher>) -> Next {
    let left = calls.attempts.next().map(|due| Duration::from_nanos(due.saturating_sub(clock::nanoseconds())));
    if left.is_some_and(|left| left.is_zero()) {
        return Next::Look;
    }
    let timeout = left.and_then(|left| Timespec::try_from(left).ok());
    let mut fds = vec![PollFd::new(&calls.listener, PollFlags::IN)];
    fds.extend(watcher.map(|watcher| PollFd::new(&watcher.pidfd, PollFlags::IN)));
    if rustix::event::poll(&mut fds, timeout.as_ref()).is_err() {
        return Next::Look;
    }
    let (of_listener, of_watcher) = (fds[0].revents(), fds.get(1).map_or(PollFlags::empty(), PollFd::revents));
    if of_listener.contains(PollFlags::IN) {
        match calls.listener.receive(&mut calls.shared.call) {
            Ok(()) => Next::Call,
            Err(_) => Next::Look, // its program has been killed in between
        }
    } else if of_listener.contains(PollFlags::HUP) {
        Next::End
    } else if of_watcher.is_empty() {
        Next::Look
    } else {
        Next::Watcher
    }
}

/// No signal but SIGKILL ends or disturbs a supervisor: a system that goes down sends SIGTERM to all, and the program may
/// connect until it has ended.
pub fn hold_signals() {
    // SAFETY: a live set, and a constant.
    unsafe {
        let mut all = mem::zeroed();
        libc::sigfillset(&raw mut all);
        libc::sigprocmask(libc::SIG_SETMASK, &raw const all, ptr::null_mut());
        libc::signal(libc::SIGCHLD, libc::SIG_DFL);
    }
}

/// The process that watches the one that works.
struct Watcher {
    process: Pid,
    pidfd: OwnedFd,
}

impl Watcher {
    /// Starts one. In that one it returns when the one that works has been killed: it works from then on, and has
    /// another one that watches.
    fn start(calls: &mut Calls) -> Option<Self> {
        loop {
            let worker = rustix::process::pidfd_open(rustix::process::getpid(), PidfdFlags::empty()).ok()?;
            // SAFETY: this process has one thread.
            match unsafe { libc::fork() } {
                0 => {
                    if !watch(&worker, calls) {
                        process::exit(0);
                    }
                    take_over(calls);
                }
                child => {
                    // It cannot have another's number before it is waited for.
                    let watcher = Pid::from_raw(child).filter(|_| child > 0).and_then(|process| {
                        let pidfd = rustix::process::pidfd_open(process, PidfdFlags::empty()).ok()?;
                        Some(Self { process, pidfd })
                    });
                    if watcher.is_none() {
                        log::warn!("no second supervisor can be started; if the first is killed, connects will fail");
                    }
                    return watcher;
                }
            }
        }
    }

    fn bury(self) {
        let _ = rustix::process::waitpid(Some(self.process), rustix::process::WaitOptions::empty());
        log::warn!("the process that watches the supervisor was killed; another one watches");
    }
}

/// Waits for the end of the one that works; whether there is still something to do.
fn watch(worker: &OwnedFd, calls: &Calls) -> bool {
    loop {
        let mut fds = [PollFd::new(worker, PollFlags::IN), PollFd::new(&calls.listener, PollFlags::empty())];
        if rustix::event::poll(&mut fds, None).is_err() {
            continue;
        }
        let [worker_ended, programs_ended] = fds.map(|fd| !fd.revents().is_empty());
        return worker_ended && !programs_ended;
    }
}

/// Goes on where the other one was: what it knew is in memory that both share.
fn take_over(calls: &mut Calls) {
    calls.attempts = Attempts::recovered(calls.shared);
    calls.taken_over = true;
    let id = calls.shared.call.id();
    if id == 0 || !calls.listener.waits(&calls.shared.call) {
        return;
    }
    if calls.shared.interrupted == id {
        calls.listener.answer(&calls.shared.call, Answer::GoOn);
    } else {
        calls.shared.interrupted = id;
        calls.handle();
    }
}
