//! Sockets, where the kernel itself is meant and not what other libraries make of a call.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::{c_int, c_short, pollfd, sockaddr, socklen_t, timespec};

use crate::system::call::call;

/// connect(2).
///
/// # Errors
/// The kernel's errno; it checks the pointer.
pub fn connect(fd: c_int, address: *const sockaddr, len: socklen_t) -> Result<(), c_int> {
    // SAFETY: the kernel reads the address, if it can.
    unsafe { call!(connect, fd, address, len) }.map(drop)
}

/// The same, to an address of a C type.
///
/// # Errors
/// The kernel's errno.
pub fn connect_to<T>(fd: c_int, address: &T) -> Result<(), c_int> {
    connect(fd, ptr::from_ref(address).cast(), size_of::<T>().try_into().unwrap_or(0))
}

/// shutdown(2), of both directions.
///
/// # Errors
/// The kernel's errno.
pub fn shut_down(fd: c_int) -> Result<(), c_int> {
    // SAFETY: touches no memory.
    unsafe { call!(shutdown, fd, libc::SHUT_RDWR) }.map(drop)
}

/// How many bytes are in a queue of a connection: an ioctl(2) of tcp(7).
///
/// # Errors
/// The kernel's errno.
pub fn queued(fd: c_int, which: c_int) -> Result<c_int, c_int> {
    let mut bytes: c_int = 0;
    // SAFETY: a live int.
    unsafe { call!(ioctl, fd, which, &raw mut bytes) }.map(|_| bytes)
}

/// bind(2), to an address of a C type.
///
/// # Errors
/// The kernel's errno.
pub fn bind<T>(fd: c_int, address: &T) -> Result<(), c_int> {
    // SAFETY: a live address and its length.
    unsafe { call!(bind, fd, ptr::from_ref(address), size_of::<T>()) }.map(drop)
}

/// getsockname(2): the length of the address.
///
/// # Errors
/// The kernel's errno.
pub fn own_name(fd: c_int, room: &mut [u8]) -> Result<usize, c_int> {
    let mut len = room_of(room);
    // SAFETY: live room, and its length.
    unsafe { call!(getsockname, fd, room.as_mut_ptr(), &raw mut len) }.map(|_| len as usize)
}

/// getpeername(2): the length of the address.
///
/// # Errors
/// The kernel's errno.
pub fn peer_name(fd: c_int, room: &mut [u8]) -> Result<usize, c_int> {
    let mut len = room_of(room);
    // SAFETY: live room, and its length.
    unsafe { call!(getpeername, fd, room.as_mut_ptr(), &raw mut len) }.map(|_| len as usize)
}

/// An option of any socket (`SOL_SOCKET`), as long as `value`.
///
/// # Errors
/// The kernel's errno.
pub fn option<T: Copy>(fd: c_int, name: c_int, value: T) -> Result<T, c_int> {
    option_of(fd, libc::SOL_SOCKET, name, value)
}

/// An option of a level; what is in `value` stays where the kernel knows less.
///
/// # Errors
/// The kernel's errno.
pub fn option_of<T: Copy>(fd: c_int, level: c_int, name: c_int, mut value: T) -> Result<T, c_int> {
    let mut len = socklen_t::try_from(size_of::<T>()).unwrap_or(0);
    // SAFETY: a live value, and its length.
    unsafe { call!(getsockopt, fd, level, name, &raw mut value, &raw mut len) }.map(|_| value)
}

fn room_of(room: &[u8]) -> socklen_t {
    room.len().try_into().unwrap_or(0)
}

/// What poll(2) says of a descriptor at once: the events, none if nothing is ready.
///
/// # Errors
/// The kernel's errno.
pub fn ready(fd: c_int, events: c_short) -> Result<c_short, c_int> {
    let mut poll = pollfd { fd, events, revents: 0 };
    let now = timespec { tv_sec: 0, tv_nsec: 0 };
    // SAFETY: one live pollfd, a live time, no signal mask.
    unsafe { call!(ppoll, &raw mut poll, 1, &raw const now, ptr::null::<u8>(), 0) }?;
    Ok(poll.revents)
}
