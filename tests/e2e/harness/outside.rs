//! Reads the options of another process's sockets: pidfd_getfd(2), Linux 5.6.

use std::fs;
use std::net::{SocketAddr, TcpStream};
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd, RawFd};

/// The socket of process `pid` that is connected to `peer`.
pub fn socket_to(pid: i32, peer: SocketAddr) -> Option<TcpStream> {
    // SAFETY: pidfd_open(2) touches no memory; the descriptor is new.
    let process = owned(unsafe { libc::syscall(libc::SYS_pidfd_open, pid, 0) })?;
    let fds = fs::read_dir(format!("/proc/{pid}/fd")).ok()?;
    fds.filter_map(|entry| {
        let entry = entry.ok()?;
        if !fs::read_link(entry.path()).ok()?.to_string_lossy().starts_with("socket:") {
            return None;
        }
        let fd: RawFd = entry.file_name().to_str()?.parse().ok()?;
        // SAFETY: as above.
        let copy = owned(unsafe { libc::syscall(libc::SYS_pidfd_getfd, process.as_raw_fd(), fd, 0) })?;
        Some(TcpStream::from(copy))
    })
    .find(|socket| socket.peer_addr().is_ok_and(|addr| addr == peer))
}

fn owned(fd: libc::c_long) -> Option<OwnedFd> {
    let fd = RawFd::try_from(fd).ok().filter(|fd| *fd >= 0)?;
    // SAFETY: the kernel has just made the descriptor.
    Some(unsafe { OwnedFd::from_raw_fd(fd) })
}

/// An `int` option.
pub fn option(socket: &impl AsRawFd, level: i32, name: i32) -> i32 {
    let mut value = 0i32;
    let mut len = 4;
    // SAFETY: a live int and its length.
    let r = unsafe { libc::getsockopt(socket.as_raw_fd(), level, name, (&raw mut value).cast(), &raw mut len) };
    assert_eq!(r, 0, "getsockopt({level}, {name}): {}", std::io::Error::last_os_error());
    value
}
