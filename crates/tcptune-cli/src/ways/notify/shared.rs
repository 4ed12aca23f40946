//! Memory that the supervisor shares with the process that takes over when it is killed: the call that it works on, and
//! what it knows of sockets. Only one of them uses it at a time.

use std::io;
use std::ptr::{self, NonNull};

use tcptune_core::sockets::descriptor::Mark;

use super::listener::Notification;

/// So many sockets are remembered; a page of them takes memory once one of it is.
const SOCKETS: usize = 32_768;
/// So many places are looked at for one. Cookies are given in turn, so that few meet.
const PROBES: usize = 64;

/// What is remembered of a socket. All zeroes: nothing.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Socket {
    /// `SO_COOKIE`: no other socket ever has the same. 0 is none.
    pub cookie: u64,
    /// What the program has set itself.
    pub set: Mark,
    /// Which profile holds, counted from 1; 0 if that is not known.
    pub profile: u32,
    /// The connect that goes on, if one does.
    pub attempt: Attempt,
}

/// A connect that goes on, and what is to be done after it.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
#[repr(C)]
pub struct Attempt {
    /// `TCP_USER_TIMEOUT` while it lasts, in milliseconds; 0 if it has none of ours.
    pub during: u32,
    /// The value that is to hold afterwards.
    pub after: u32,
    /// The thread that called connect(2); 0: none goes on.
    pub thread: i32,
    /// The descriptor, by its number in that thread.
    pub fd: i32,
    /// Number of the socket's file (stat(2)): /proc shows it.
    pub inode: u64,
    /// When it is looked at next, in nanoseconds of the monotonic clock.
    pub due: u64,
    /// How long after that it is looked at again.
    pub pause: u64,
    /// Counted from 1: the profile whose options of the time after connect are still to be set; 0: none are.
    pub later: u32,
}

impl Attempt {
    /// Whether it goes on.
    pub fn is_some(&self) -> bool {
        self.thread != 0
    }
}

/// The memory.
#[repr(C)]
pub struct Shared {
    /// The call that is worked on: the kernel writes it here, and it stays until it is answered.
    pub call: Notification,
    /// The call that was worked on when a supervisor ended: it is tried once more, and no third time.
    pub interrupted: u64,
    sockets: [Socket; SOCKETS],
}

impl Shared {
    /// Maps it. It is there for this process and for those that it forks.
    pub fn map() -> io::Result<&'static mut Self> {
        let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_SHARED | libc::MAP_ANONYMOUS);
        // SAFETY: new memory, at an address of the kernel's choice.
        let memory = unsafe { libc::mmap(ptr::null_mut(), size_of::<Self>(), protection, flags, -1, 0) };
        let memory = NonNull::new(memory).filter(|memory| memory.as_ptr() != libc::MAP_FAILED);
        let memory = memory.ok_or_else(io::Error::last_os_error)?;
        // SAFETY: aligned memory of this size, which nothing unmaps; all zeroes is valid. Another process writes to it
        // only when this one has ended, or waits for that one's end.
        Ok(unsafe { memory.cast::<Self>().as_mut() })
    }

    /// What is remembered of a socket.
    pub fn get(&self, cookie: u64) -> Option<&Socket> {
        places(cookie).map(|at| &self.sockets[at]).find(|socket| socket.cookie == cookie)
    }

    /// A place to remember it in: its own, or one of a socket on which no connect goes on. None if all are taken.
    pub fn place(&mut self, cookie: u64) -> Option<&mut Socket> {
        let of = |wanted: fn(&Socket, u64) -> bool| places(cookie).find(|at| wanted(&self.sockets[*at], cookie));
        let at = of(|socket, cookie| socket.cookie == cookie)
            .or_else(|| of(|socket, _| socket.cookie == 0))
            .or_else(|| of(|socket, _| !socket.attempt.is_some()))?;
        let socket = &mut self.sockets[at];
        if socket.cookie != cookie {
            *socket = Socket { cookie, ..Socket::default() };
        }
        Some(socket)
    }

    /// All that a connect goes on on.
    pub fn pending(&self) -> impl Iterator<Item = &Socket> {
        self.sockets.iter().filter(|socket| socket.cookie != 0 && socket.attempt.is_some())
    }
}

fn places(cookie: u64) -> impl Iterator<Item = usize> {
    let first = usize::try_from(cookie % SOCKETS as u64).unwrap_or(0);
    (first..).take(PROBES).map(|at| at % SOCKETS)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_socket_is_remembered_until_its_place_is_needed() {
        let shared = Shared::map().expect("memory");
        assert!(shared.get(7).is_none());
        shared.place(7).expect("room").profile = 1;
        assert_eq!(shared.get(7).map(|socket| socket.profile), Some(1));
        assert_eq!(shared.pending().count(), 0);
        let far = |n: usize| 7 + (n * SOCKETS) as u64;
        for n in 1..PROBES {
            shared.place(far(n)).expect("room").attempt.thread = 1;
        }
        assert!(shared.get(7).is_some(), "there was room");
        shared.place(far(PROBES)).expect("the place of a socket without a connect").attempt.thread = 1;
        assert!(shared.get(7).is_none());
        assert!(shared.place(far(PROBES + 1)).is_none(), "each place has a connect that goes on");
        assert_eq!(shared.pending().count(), PROBES);
    }
}
