//! A cgroup for one program, which goes when the last process in it has ended.

use std::fs::{self, File};
use std::io::{self, Read};
use std::os::fd::{AsFd, AsRawFd, OwnedFd};
use std::path::Path;
use std::process;

use rustix::event::{PollFd, PollFlags, Timespec, poll};

use super::order::Order;
use super::place::{self, Cgroup, directories};
use crate::screens::error::Error;

const NAME: &str = "tcptune-run-";

/// How often a cgroup is looked at if the kernel does not tell of a change.
const LOOK: Timespec = Timespec { tv_sec: 10, tv_nsec: 0 };

/// Puts this process into a new cgroup below its own, with the programs of an order attached to it.
pub fn enter(order: &Order) -> Result<(), Error> {
    let around = Cgroup::of_process(process::id().cast_signed())?;
    sweep(&around.path);
    let path = around.path.join(format!("{NAME}{}", process::id()));
    let cannot = |what: &str, error: &io::Error| {
        Error::not_executable(format!("{}: {what}: {error}", path.display()))
            .hint("it takes the right to make a cgroup there: run this as root, and in a container with cgroups mounted writable")
    };
    fs::create_dir(&path).map_err(|error| cannot("the cgroup cannot be made", &error))?;
    let entered = into(&path, order).and_then(|()| {
        fs::write(path.join("cgroup.procs"), "0").map_err(|error| cannot("the cgroup cannot be entered", &error))
    });
    if entered.is_err() {
        let _ = fs::remove_dir(&path);
    }
    entered
}

fn into(path: &Path, order: &Order) -> Result<(), Error> {
    let cgroup = File::open(path).map_err(|error| Error::not_executable(format!("{}: {error}", path.display())))?;
    let failed = |error: io::Error| Error::not_executable(format!("{}: {error}", path.display()));
    place::lock(&cgroup)?;
    order.attach(&cgroup)?;
    keep(path).map_err(failed)
}

/// Starts the process that removes the cgroup. It is a grandchild, so that the program has no child that it does not
/// know, and in a session of its own, which no signal of a terminal reaches.
fn keep(path: &Path) -> io::Result<()> {
    let (reader, writer) = rustix::pipe::pipe_with(rustix::pipe::PipeFlags::CLOEXEC)?;
    let events = File::open(path.join("cgroup.events"))?;
    // SAFETY: this process has one thread.
    match unsafe { libc::fork() } {
        -1 => return Err(io::Error::last_os_error()),
        0 => {
            drop(writer);
            // SAFETY: as above.
            if rustix::process::setsid().is_ok() && unsafe { libc::fork() } == 0 {
                remove_when_empty(path, reader, &events);
            }
            // SAFETY: ends the process, and runs nothing of it.
            unsafe { libc::_exit(0) };
        }
        child => {
            let mut status = 0;
            // SAFETY: a child of its own.
            while unsafe { libc::waitpid(child, &raw mut status, 0) } < 0
                && io::Error::last_os_error().raw_os_error() == Some(libc::EINTR)
            {}
        }
    }
    // It closes when the program takes the place of this process, or when this process ends.
    std::mem::forget(writer);
    Ok(())
}

fn remove_when_empty(path: &Path, begun: OwnedFd, events: &File) {
    let _ = std::env::set_current_dir("/");
    let _ = rustix::thread::set_name(c"tcptune-cgroup");
    close_all_but([begun.as_raw_fd(), events.as_raw_fd()]);
    let _ = File::from(begun).read(&mut [0]);
    let mut text = String::new();
    loop {
        text.clear();
        let mut events = events;
        let is_empty = rustix::fs::seek(events, rustix::fs::SeekFrom::Start(0)).is_err()
            || events.read_to_string(&mut text).is_err()
            || text.contains("populated 0");
        if is_empty {
            remove(path);
            return;
        }
        let _ = poll(&mut [PollFd::new(&events.as_fd(), PollFlags::PRI)], Some(&LOOK));
    }
}

/// What reads the output of the program sees its end when the program ends.
fn close_all_but(mut kept: [i32; 2]) {
    kept.sort_unstable();
    let [first, second] = kept;
    for (from, to) in [(0, first - 1), (first + 1, second - 1), (second + 1, i32::MAX)] {
        if from <= to {
            // SAFETY: nothing in this process uses any other descriptor.
            unsafe { libc::syscall(libc::SYS_close_range, from, to, 0) };
        }
    }
}

/// With the cgroups that the program has made below it.
fn remove(path: &Path) {
    for below in directories(path) {
        remove(&below);
    }
    let _ = fs::remove_dir(path);
}

/// Removes what is left of programs whose keeper was killed.
fn sweep(around: &Path) {
    for path in directories(around) {
        let pid = path.file_name().and_then(|name| name.to_str()?.strip_prefix(NAME)?.parse::<u32>().ok());
        if pid.is_some_and(|pid| !Path::new(&format!("/proc/{pid}")).exists()) {
            remove(&path); // fails where processes are in it
        }
    }
}
