//! The kernel's interface: seccomp(2) with a listener, and its ioctls (seccomp_unotify(2)).

use std::io;
use std::mem;
use std::os::fd::{AsFd, AsRawFd, BorrowedFd, FromRawFd, OwnedFd};

use libc::{c_int, c_long, seccomp_notif, seccomp_notif_addfd, seccomp_notif_resp, sock_filter, sock_fprog};

/// linux/seccomp.h, Linux 6.6; not in the libc crate yet.
const SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP: libc::c_ulong = 1;

/// A call of the program, which waits for the answer.
#[repr(C)]
pub struct Notification {
    call: seccomp_notif,
    /// A later kernel's may be longer.
    _room: [u64; 16],
}

impl Notification {
    /// Names the call for this listener; 0 is none.
    pub fn id(&self) -> u64 {
        self.call.id
    }

    /// The thread that makes it, as its number is here.
    pub fn thread(&self) -> i32 {
        self.call.pid.cast_signed()
    }

    /// The system call.
    pub fn number(&self) -> c_long {
        self.call.data.nr.into()
    }

    /// An argument, as the kernel takes an `int`: its lower half.
    pub fn int(&self, index: usize) -> c_int {
        #[allow(clippy::cast_possible_truncation, reason = "the lower half is what is wanted")]
        let low = self.argument(index) as u32;
        low.cast_signed()
    }

    /// An argument.
    pub fn argument(&self, index: usize) -> u64 {
        self.call.data.args.get(index).copied().unwrap_or(0)
    }
}

/// What a call is answered.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The kernel does it, as if nobody had been told.
    GoOn,
    /// It was done in the program's place: 0, or the errno.
    Done(Result<(), c_int>),
    /// It was answered already.
    Given,
}

/// Where the calls of the programs under a filter arrive.
#[derive(Debug)]
pub struct Listener(OwnedFd);

impl AsFd for Listener {
    fn as_fd(&self) -> BorrowedFd<'_> {
        self.0.as_fd()
    }
}

impl From<OwnedFd> for Listener {
    fn from(fd: OwnedFd) -> Self {
        Self(fd)
    }
}

impl Listener {
    /// Puts the filter on this process, and all that come from it.
    ///
    /// # Errors
    /// `EBUSY` where one of an outer filter listens already, `EACCES` where `no_new_privs` is to be set before.
    pub fn install(filter: &[sock_filter]) -> io::Result<Self> {
        let program = sock_fprog {
            len: filter.len().try_into().map_err(|_| io::Error::from_raw_os_error(libc::EINVAL))?,
            filter: filter.as_ptr().cast_mut(), // it is only read
        };
        // Without SPEC_ALLOW kernels before 5.16 slow the whole program down, and nobody is kept from anything here.
        let flags = libc::SECCOMP_FILTER_FLAG_NEW_LISTENER | libc::SECCOMP_FILTER_FLAG_SPEC_ALLOW;
        let wait_killable = flags | libc::SECCOMP_FILTER_FLAG_WAIT_KILLABLE_RECV; // Linux 5.19
        for flags in [wait_killable, flags] {
            // SAFETY: a live program of its length.
            let fd =
                unsafe { libc::syscall(libc::SYS_seccomp, libc::SECCOMP_SET_MODE_FILTER, flags, &raw const program) };
            let error = io::Error::last_os_error();
            if let Ok(fd @ 0..) = c_int::try_from(fd) {
                // SAFETY: a new descriptor, of nobody else.
                return Ok(Self(unsafe { OwnedFd::from_raw_fd(fd) }));
            }
            if error.raw_os_error() != Some(libc::EINVAL) {
                return Err(error);
            }
        }
        Err(io::Error::from_raw_os_error(libc::EINVAL))
    }

    /// Whether this kernel tells the end of the last program (`POLLHUP`) and takes descriptors (Linux 5.9): both came
    /// together, and the second can be asked for.
    pub fn is_complete(&self) -> bool {
        // SAFETY: all zeroes is a valid one.
        let mut add = unsafe { mem::zeroed::<seccomp_notif_addfd>() };
        add.srcfd = u32::MAX;
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut add) == Err(libc::EBADF)
    }

    /// Where the kernel can (6.6), the program and its supervisor change places on one processor: 38 to 11 µs a call.
    pub fn wake_on_the_same_processor(&self) {
        // SAFETY: takes its flags by value.
        unsafe {
            libc::ioctl(self.0.as_raw_fd(), libc::SECCOMP_IOCTL_NOTIF_SET_FLAGS, SECCOMP_USER_NOTIF_FD_SYNC_WAKE_UP)
        };
    }

    /// Takes the next call. The program then waits for the answer, which another supervisor may give as well if this one is
    /// killed: it needs the call's id only.
    ///
    /// After poll(2) has told of a call this never waits, even if the program has been killed in between: the kernel counts
    /// calls up as programs make them and down as supervisors take them, so that the killed program's call still counts.
    ///
    /// # Errors
    /// `ENOENT` where the program has been killed meanwhile.
    pub fn receive(&self, notification: &mut Notification) -> Result<(), c_int> {
        // SAFETY: all zeroes is a valid one, and what the kernel wants to find.
        *notification = unsafe { mem::zeroed() };
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_RECV, &raw mut *notification)
    }

    /// Whether it still waits for the answer, so that its thread is what it was when it called.
    pub fn waits(&self, notification: &Notification) -> bool {
        let mut id = notification.id();
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ID_VALID, &raw mut id).is_ok()
    }

    /// Answers it. A program that has been killed meanwhile needs none.
    pub fn answer(&self, notification: &Notification, answer: Answer) {
        // SAFETY: all zeroes is a valid one.
        let mut response = unsafe { mem::zeroed::<(seccomp_notif_resp, [u64; 8])>() };
        response.0.id = notification.id();
        match answer {
            #[allow(clippy::cast_possible_truncation, reason = "a bit")]
            Answer::GoOn => response.0.flags = libc::SECCOMP_USER_NOTIF_FLAG_CONTINUE as u32,
            Answer::Done(Ok(())) => {}
            Answer::Done(Err(error)) => response.0.error = -error,
            Answer::Given => return,
        }
        let _ = self.ioctl(libc::SECCOMP_IOCTL_NOTIF_SEND, &raw mut response);
    }

    /// Puts a copy of a descriptor into the program, whose call is answered with its number.
    pub fn give(&self, notification: &Notification, fd: BorrowedFd<'_>, close_on_exec: bool) -> Result<(), c_int> {
        // SAFETY: all zeroes is a valid one.
        let mut add = unsafe { mem::zeroed::<seccomp_notif_addfd>() };
        add.id = notification.id();
        add.srcfd = fd.as_raw_fd().cast_unsigned();
        #[allow(clippy::cast_possible_truncation, reason = "a bit")]
        let flags = libc::SECCOMP_ADDFD_FLAG_SEND as u32; // Linux 5.14
        add.flags = flags;
        add.newfd_flags = if close_on_exec { libc::O_CLOEXEC.cast_unsigned() } else { 0 };
        self.ioctl(libc::SECCOMP_IOCTL_NOTIF_ADDFD, &raw mut add)
    }

    fn ioctl<T>(&self, request: libc::Ioctl, argument: *mut T) -> Result<(), c_int> {
        // SAFETY: the argument is live, and of the request's type or longer.
        let r = unsafe { libc::ioctl(self.0.as_raw_fd(), request, argument) };
        if r < 0 { Err(tcptune_core::system::errno::get()) } else { Ok(()) }
    }
}
