//! Starts a supervisor, and puts this process under it: what it becomes keeps its number, parent, terminal and signals.

use std::fs;
use std::io::{self, IoSlice, IoSliceMut};
use std::mem::MaybeUninit;
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process;

use rustix::fs::Access;
use rustix::net::{
    AddressFamily, RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, SocketFlags, SocketType, recvmsg, sendmsg,
};
use rustix::thread::CapabilitySet;

use super::attempts::Attempts;
use super::calls::Calls;
use super::filter::{self, Wanted};
use super::listener::Listener;
use super::policy::Policy;
use super::shared::Shared;
use super::supervisor;
use super::threads::{self, Threads};

/// Why there is no supervisor.
#[derive(Debug)]
pub enum Refused {
    /// The filter of another one listens already, and the kernel allows one.
    Outer,
    /// The kernel lacks something.
    TooOld,
    /// A step, and its error.
    Failed(&'static str, io::Error),
}

/// Puts this process under a supervisor with these settings.
///
/// # Errors
/// The program must not be started then, but for [`Refused::Outer`].
pub fn start(policy: Policy, wanted: &Wanted) -> Result<(), Refused> {
    let failed = |what| move |error: rustix::io::Errno| Refused::Failed(what, error.into());
    let kind = (AddressFamily::UNIX, SocketType::SEQPACKET, SocketFlags::CLOEXEC);
    let (ours, theirs) = rustix::net::socketpair(kind.0, kind.1, kind.2, None).map_err(failed("socketpair(2)"))?;
    fork([&ours, &theirs], policy, wanted.socket).map_err(|error| Refused::Failed("fork(2)", error))?;
    drop(theirs);
    let supervisor = hello(&ours).map_err(failed("the supervisor"))?;
    // Yama lets only descendants and those that are named here look into a process; EINVAL without Yama.
    // SAFETY: takes its argument by value.
    unsafe { libc::prctl(libc::PR_SET_PTRACER, libc::c_ulong::from(supervisor), 0, 0, 0) };
    let listener = install(wanted)?;
    if !listener.is_complete() {
        return Err(Refused::TooOld);
    }
    hand_over(&ours, &listener).map_err(failed("sendmsg(2)"))?;
    hello(&ours).map_err(failed("the supervisor"))?;
    Ok(())
}

fn install(wanted: &Wanted) -> Result<Listener, Refused> {
    let filter = filter::program(wanted);
    let listener = match Listener::install(&filter) {
        Err(error) if error.raw_os_error() == Some(libc::EACCES) => {
            // Without CAP_SYS_ADMIN nothing below may gain rights by exec, sudo included (seccomp(2)).
            rustix::thread::set_no_new_privs(true).map_err(|e| Refused::Failed("prctl(2)", e.into()))?;
            log::info!("no_new_privs is set: setuid programs such as sudo gain nothing below this one");
            Listener::install(&filter)
        }
        result => result,
    };
    listener.map_err(|error| match error.raw_os_error() {
        Some(libc::EBUSY) => Refused::Outer,
        _ => Refused::Failed("seccomp(2)", error),
    })
}

/// Starts the supervisor where the program will never wait for it, nor get its signals.
fn fork([ours, theirs]: [&OwnedFd; 2], policy: Policy, makes_sockets: bool) -> io::Result<()> {
    // Orphans go to process 1 or to a subreaper. If that is what this process is, the supervisor stays its child, of
    // a kind that wait(2) does not report.
    let is_reaper = process::id() == 1 || {
        let mut subreaper: libc::c_int = 0;
        // SAFETY: writes an int to a live one.
        unsafe { libc::prctl(libc::PR_GET_CHILD_SUBREAPER, &raw mut subreaper) };
        subreaper != 0
    };
    let child = without_signal()?;
    if child == 0 {
        // It is to notice when the program's process closes it.
        // SAFETY: this process does not use its copy.
        unsafe { libc::close(ours.as_raw_fd()) };
        if is_reaper || without_signal().is_ok_and(|grandchild| grandchild == 0) {
            supervise(theirs, policy, makes_sockets);
        }
        process::exit(0);
    }
    if !is_reaper {
        // SAFETY: waits for this child; the status is of no interest.
        unsafe { libc::waitpid(child, std::ptr::null_mut(), libc::__WCLONE) };
    }
    Ok(())
}

/// fork(2), but that the child's end sends no signal: the program would find one that it does not know of.
fn without_signal() -> io::Result<libc::pid_t> {
    // SAFETY: this process has one thread; the child has a copy of everything, and goes on from here.
    let child = unsafe { libc::syscall(libc::SYS_clone, 0, 0, 0, 0, 0) };
    if child < 0 { Err(io::Error::last_os_error()) } else { Ok(child.try_into().unwrap_or(0)) }
}

/// A nice value (setpriority(2)).
const PRIORITY: i32 = -10;

fn supervise(theirs: &OwnedFd, policy: Policy, makes_sockets: bool) {
    supervisor::hold_signals();
    let _ = rustix::process::setsid();
    // Programs wait for it: where it may, it comes before them.
    let _ = rustix::process::setpriority_process(None, PRIORITY);
    let shared = Shared::map();
    let socket = theirs.as_fd();
    let said = rustix::net::send(socket, &process::id().to_ne_bytes(), SendFlags::NOSIGNAL);
    let (Ok(shared), Ok(_)) = (shared, said) else { return };
    // The program may fail to start, or not be let under the filter.
    let Some(listener) = take(theirs) else { return };
    listener.wake_on_the_same_processor();
    keep_nothing_but(&[theirs.as_raw_fd(), listener.as_fd().as_raw_fd()]);
    let calls = Calls {
        listener,
        shared,
        policy,
        attempts: Attempts::default(),
        threads: Threads::default(),
        makes_sockets,
        taken_over: false,
    };
    supervisor::run(calls, || {
        let _ = rustix::net::send(socket, &process::id().to_ne_bytes(), SendFlags::NOSIGNAL);
        // SAFETY: nobody uses it any more; what drops it at the end finds it closed.
        unsafe { libc::close(socket.as_raw_fd()) };
    });
}

/// Lets go of all that was inherited: a pipe whose reader waits for its end, a directory that is to be unmounted.
fn keep_nothing_but(kept: &[i32]) {
    let _ = rustix::process::chdir("/");
    let null = rustix::fs::open("/dev/null", rustix::fs::OFlags::RDWR, rustix::fs::Mode::empty());
    for fd in 0..=2 {
        match &null {
            // SAFETY: the standard descriptors of this process are nobody's.
            Ok(null) => unsafe { libc::dup2(null.as_raw_fd(), fd) },
            // SAFETY: as above.
            Err(_) => unsafe { libc::close(fd) },
        };
    }
    drop(null);
    let mut kept = kept.to_vec();
    kept.sort_unstable();
    let mut first = 3;
    for last in kept.iter().map(|fd| fd - 1).chain([i32::MAX]) {
        if first <= last {
            // SAFETY: nobody in this process uses what is between.
            unsafe { libc::syscall(libc::SYS_close_range, first, last, 0) };
        }
        first = last.saturating_add(2);
    }
}

/// The number of the process at the other end, which is ready.
fn hello(socket: &OwnedFd) -> rustix::io::Result<u32> {
    let mut number = [0; 4];
    match rustix::io::retry_on_intr(|| rustix::net::recv(socket, &mut number[..], RecvFlags::empty()))? {
        (4, _) => Ok(u32::from_ne_bytes(number)),
        _ => Err(rustix::io::Errno::PIPE),
    }
}

fn hand_over(socket: &OwnedFd, listener: &Listener) -> rustix::io::Result<()> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = SendAncillaryBuffer::new(&mut space);
    let fds = [listener.as_fd()];
    control.push(SendAncillaryMessage::ScmRights(&fds));
    sendmsg(socket, &[IoSlice::new(b"l")], &mut control, SendFlags::NOSIGNAL).map(drop)
}

fn take(socket: &OwnedFd) -> Option<Listener> {
    let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
    let mut control = RecvAncillaryBuffer::new(&mut space);
    let mut byte = [0];
    recvmsg(socket, &mut [IoSliceMut::new(&mut byte)], &mut control, RecvFlags::CMSG_CLOEXEC).ok()?;
    control.drain().find_map(|message| match message {
        RecvAncillaryMessage::ScmRights(mut fds) => fds.next().map(Listener::from),
        _ => None,
    })
}

/// Which descriptors of the programs the supervisor will be able to take.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Reach {
    All,
    /// Not those of programs that protect themselves, change their user, or are kept apart by Yama.
    Some,
    /// A filter around this process forbids it, such as Docker's default one.
    None,
}

impl Reach {
    /// For this program. What it does later is not known: where anything may hide descriptors, all sockets are watched.
    pub fn of(program: &Path) -> Self {
        let own = threads::open(process::id().cast_signed());
        if !own.is_ok_and(|own| threads::can_take(&own)) {
            return Self::None;
        }
        if rustix::thread::capabilities(None).is_ok_and(|own| own.effective.contains(CapabilitySet::SYS_PTRACE)) {
            return Self::All;
        }
        let yama = fs::read_to_string("/proc/sys/kernel/yama/ptrace_scope");
        let is_apart = yama.is_ok_and(|scope| scope.trim() != "0");
        let may_change_user = rustix::process::geteuid().is_root();
        // What its user cannot read, nobody looks into (ptrace(2), "dumpable").
        let is_unreadable = rustix::fs::access(program, Access::READ_OK).is_err();
        if is_apart || may_change_user || is_unreadable { Self::Some } else { Self::All }
    }
}
