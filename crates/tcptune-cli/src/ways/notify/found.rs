//! Sockets that are no longer where they were: moved to another number, or passed to another process.

use std::collections::{HashMap, HashSet};
use std::fs;
use std::os::fd::{AsRawFd, BorrowedFd, OwnedFd, RawFd};
use std::os::unix::fs::MetadataExt;

use libc::socklen_t;
use procfs::process::Process;

use super::shared::Socket;
use super::threads;
use crate::live::diag::Sockets;

/// One that was found.
pub struct Found {
    /// What is remembered of it.
    pub socket: Socket,
    pub process: i32,
    /// Its descriptor there.
    pub number: i32,
    /// A duplicate of it.
    pub fd: OwnedFd,
}

/// `SO_COOKIE` (Linux 4.12).
pub fn cookie(socket: &impl AsRawFd) -> Option<u64> {
    let (mut cookie, mut len) = (0u64, socklen_t::try_from(size_of::<u64>()).ok()?);
    let value = (&raw mut cookie).cast();
    // SAFETY: eight live bytes, and their number.
    let r = unsafe { libc::getsockopt(socket.as_raw_fd(), libc::SOL_SOCKET, libc::SO_COOKIE, value, &raw mut len) };
    (r == 0 && cookie != 0).then_some(cookie)
}

/// A descriptor that somebody else closes.
pub fn borrow(fd: RawFd) -> BorrowedFd<'static> {
    // SAFETY: those who call hold it open as long as they use this.
    unsafe { BorrowedFd::borrow_raw(fd) }
}

/// Searches in the processes that they were in, each of which is looked through once.
pub fn at_home(lost: &[Socket]) -> Vec<Found> {
    let mut by_inode: HashMap<_, _> = lost.iter().map(|socket| (socket.attempt.inode, *socket)).collect();
    let homes: HashSet<_> = lost.iter().map(|socket| socket.attempt.thread).collect();
    homes.into_iter().flat_map(|home| in_process(home, &mut by_inode)).collect()
}

/// Searches in all processes, but only for those that are still open somewhere: the tables of their network namespaces
/// tell, and nearly all have been closed.
pub fn anywhere(lost: &[Socket]) -> Vec<Found> {
    let mut open = open_among(lost);
    let mut found = Vec::new();
    let all = fs::read_dir("/proc").into_iter().flatten().flatten();
    for process in all.filter_map(|entry| entry.file_name().to_str()?.parse().ok()) {
        if open.is_empty() {
            break;
        }
        found.extend(in_process(process, &mut open));
    }
    for socket in open.values() {
        let (fd, during) = (socket.attempt.fd, socket.attempt.during);
        log::debug!("fd {fd}: its socket is out of reach now, and keeps a user timeout of {during}ms");
    }
    found
}

/// Those that some process still has open, by the number of their file.
fn open_among(lost: &[Socket]) -> HashMap<u64, Socket> {
    let namespace =
        |process: &Process| fs::metadata(format!("/proc/{}/net/tcp", process.pid)).map(|net| net.ino()).ok();
    let mut tables = HashMap::new();
    let mut open = HashMap::new();
    for socket in lost {
        // Of one that has ended, the supervisor's own namespace is as good a guess as any.
        let Ok(process) = Process::new(socket.attempt.thread).or_else(|_| Process::myself()) else { continue };
        let read = || Sockets::of_process(&process).unwrap_or_else(|(listed, _)| listed);
        let table: &Sockets = tables.entry(namespace(&process)).or_insert_with(read);
        if table.get(socket.attempt.inode).is_some() {
            open.insert(socket.attempt.inode, *socket);
        }
    }
    open
}

fn in_process(process: i32, open: &mut HashMap<u64, Socket>) -> Vec<Found> {
    let mut found = Vec::new();
    for entry in fs::read_dir(format!("/proc/{process}/fd")).into_iter().flatten().flatten() {
        let Ok(link) = fs::read_link(entry.path()) else { continue };
        let inode = link.to_str().and_then(|link| link.strip_prefix("socket:[")?.strip_suffix(']')?.parse().ok());
        let Some(socket) = inode.and_then(|inode: u64| open.get(&inode).copied()) else { continue };
        let number = entry.file_name().to_str().and_then(|name| name.parse().ok());
        let Some(number): Option<i32> = number else { continue };
        let fd = threads::open(process).and_then(|pidfd| threads::duplicate(&pidfd, number));
        if let Some(fd) = fd.ok().filter(|fd| cookie(fd) == Some(socket.cookie)) {
            open.remove(&socket.attempt.inode);
            found.push(Found { socket, process, number, fd });
        }
    }
    found
}
