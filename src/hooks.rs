//! The exported functions. Each has libc's signature, pinned at compile time, and is a few lines.
//!
//! Until settings are published a hook forwards with the same arguments and no system call of its own. The hooks by
//! which a program can notice that a connect is over cost one relaxed load while no nonblocking connect goes on.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::{mem, ptr};

use libc::{
    c_int, c_void, epoll_event, fd_set, iovec, msghdr, nfds_t, off_t, off64_t, pollfd, sigset_t, size_t, sockaddr,
    socklen_t, ssize_t, timespec, timeval,
};
use tcptune_core::sockets::connect::Call;
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::real::{Cleanup, CleanupBuffer, Real};
use tcptune_core::system::errno;

use crate::lookup::{self, Name, Wanted};
use crate::tuning::{TUNING, Tuning};

/// The signature in libc is that of the hook.
macro_rules! pin {
    (required, $name:ident, $type:ty) => {
        const _: $type = libc::$name;
    };
    (optional, $name:ident, $type:ty) => {};
}

/// Hooks, which redhook exports. In the body, `$forward()` is the real function with the program's own arguments.
///
/// redhook would find the real one by dlsym(3), and panic over one that is missing; here [`lookup`] finds it, or [`missing`]
/// names it.
macro_rules! hooks {
    ($set:ident; $(fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty { |$forward:ident| $body:expr })*) => {
        /// The real functions of this set.
        mod $set {
            use super::*;

            #[allow(non_camel_case_types, reason = "names of functions")]
            pub enum Hook { $($name,)* }

            const COUNT: usize = [$(stringify!($name)),*].len();
            const NAMES: &str = concat!($(stringify!($name), "\0",)*);
            // In a page that relocation has written to, as all that start-up writes: behind the arena it would be one more.
            // SAFETY: a section of initialised variables.
            #[unsafe(link_section = ".data")]
            pub static REAL: [AtomicPtr<c_void>; COUNT] = [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];
            static LIST: [Name; COUNT] = lookup::list(NAMES);
            pub const WANTED: Wanted = Wanted { names: NAMES, list: &LIST, found: &REAL };
        }

        $(#[allow(clippy::disallowed_types, reason = "redhook names a Once, which is never called")]
        pub mod $name {
            #[allow(clippy::wildcard_imports, reason = "whatever types the signature names")]
            use super::*;

            type Function = unsafe extern "C" fn($($type),*) -> $ret;
            pin!($set, $name, Function);

            redhook::hook! {
                unsafe fn $name($($arg: $type),*) -> $ret => hook {
                    // SAFETY: the program's own call, with its arguments.
                    let $forward = || unsafe { real()($($arg),*) };
                    $body
                }
            }

            /// The real function.
            #[inline]
            pub fn real() -> Function {
                let found = $set::REAL[$set::Hook::$name as usize].load(Ordering::Relaxed);
                // SAFETY: null is None; any other is the function of this name, with libc's signature.
                unsafe { mem::transmute::<*mut c_void, Option<Function>>(found) }.unwrap_or(unresolved)
            }

            /// In its place before start-up, and where this libc has none: `ENOSYS` then.
            #[cold]
            unsafe extern "C" fn unresolved($($arg: $type),*) -> $ret {
                resolve();
                let found = $set::REAL[$set::Hook::$name as usize].load(Ordering::Relaxed);
                // SAFETY: as above.
                let Some(real) = (unsafe { mem::transmute::<*mut c_void, Option<Function>>(found) }) else {
                    errno::set(libc::ENOSYS);
                    return -1;
                };
                // SAFETY: the program's own call, with its arguments.
                unsafe { real($($arg),*) }
            }
        })*
    };
}

/// The macros of `pthread_cleanup_push(3)` call these, in glibc and in musl. A glibc before 2.34 has them in libpthread,
/// which a program without threads may not have loaded.
const CLEANUP_NAMES: &str = "_pthread_cleanup_push\0_pthread_cleanup_pop\0";
// SAFETY: as with REAL.
#[unsafe(link_section = ".data")]
static CLEANUP: [AtomicPtr<c_void>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];

/// Looks up every real function, once, so that no hook has to.
pub fn resolve() {
    // SAFETY: as with REAL.
    #[unsafe(link_section = ".data")]
    static RESOLVED: AtomicBool = AtomicBool::new(false);
    if !RESOLVED.load(Ordering::Acquire) {
        let cleanup =
            Wanted { names: CLEANUP_NAMES, list: &const { lookup::list::<2>(CLEANUP_NAMES) }, found: &CLEANUP };
        lookup::next(&[required::WANTED, optional::WANTED, cleanup]);
        RESOLVED.store(true, Ordering::Release); // a second thread meanwhile finds the same
    }
}

/// A function that this libc should have, and has not.
pub fn missing() -> Option<&'static str> {
    required::WANTED.missing()
}

/// What runs when a thread is cancelled inside connect.
fn cleanup() -> Option<Cleanup> {
    type Push = unsafe extern "C" fn(*mut CleanupBuffer, unsafe extern "C" fn(*mut c_void), *mut c_void);
    type Pop = unsafe extern "C" fn(*mut CleanupBuffer, c_int);
    let [push, pop] = CLEANUP.each_ref().map(|function| function.load(Ordering::Relaxed));
    // SAFETY: null is None; under these names both glibc and musl have functions of these types.
    unsafe {
        Some(Cleanup {
            push: mem::transmute::<*mut c_void, Option<Push>>(push)?,
            pop: mem::transmute::<*mut c_void, Option<Pop>>(pop)?,
        })
    }
}

/// The real functions that core calls; `waits` if it is to wait for connections.
pub fn real(waits: bool) -> Real {
    Real {
        connect: connect::real(),
        setsockopt: setsockopt::real(),
        getsockopt: getsockopt::real(),
        poll: poll::real(),
        ppoll: ppoll::real(),
        cleanup: if waits { cleanup() } else { None },
    }
}

// glibc 2.17 and musl 1.2 have all of these; where one is missing, nothing is tuned.
hooks! {
    required;

    fn socket(domain: c_int, kind: c_int, protocol: c_int) -> c_int {
        |forward| {
            let Some(tuning) = TUNING.get() else { return forward() };
            match Family::of_arguments(domain, kind, protocol) {
                Family::Other => Tuning::other_socket(domain, kind, protocol, tuning),
                Family::Tcp if tuning.mptcp => Tuning::multipath_socket(domain, kind, protocol, tuning),
                Family::Tcp | Family::Mptcp => Tuning::tcp_socket(domain, kind, protocol, tuning),
            }
        }
    }

    fn connect(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
        |forward| match TUNING.get() {
            Some(tuning) => tuning.connect(&Call { real: &tuning.real, descriptors: &tuning.descriptors, fd, addr, len }),
            None => forward(),
        }
    }

    fn bind(fd: c_int, addr: *const sockaddr, len: socklen_t) -> c_int {
        |forward| {
            if let Some(tuning) = TUNING.get() {
                tuning.before_bind(fd, addr, len);
            }
            forward()
        }
    }

    fn listen(fd: c_int, backlog: c_int) -> c_int {
        |forward| {
            let Some(tuning) = TUNING.get() else { return forward() };
            let backlog = tuning.before_listen(fd, backlog);
            // SAFETY: the program's own call, but for the backlog.
            unsafe { real()(fd, backlog) }
        }
    }

    fn accept(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
        |forward| accepting(fd, forward)
    }

    fn accept4(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t, flags: c_int) -> c_int {
        |forward| accepting(fd, forward)
    }

    fn setsockopt(fd: c_int, level: c_int, name: c_int, value: *const c_void, len: socklen_t) -> c_int {
        |forward| {
            let Some(tuning) = TUNING.get() else { return forward() };
            tuning.seen(fd);
            let r = forward();
            if r == 0 {
                tuning.set_by_program(fd, level, name);
            }
            r
        }
    }

    fn getsockopt(fd: c_int, level: c_int, name: c_int, value: *mut c_void, len: *mut socklen_t) -> c_int {
        |forward| {
            let Some(tuning) = TUNING.get() else { return forward() };
            tuning.seen(fd);
            tuning.attempts.settle(&tuning.real, fd);
            let r = forward();
            if r == 0 && (level, name) == (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) && tuning.attempts.any() {
                // SAFETY: the call has just succeeded.
                unsafe { tuning.attempts.conceal(fd, value, len) };
            }
            if r == 0 && tuning.stats.is_some() && (level, name) == (libc::SOL_SOCKET, libc::SO_ERROR) {
                // SAFETY: the call has just succeeded; what it wrote is an int, or less of one.
                let error = unsafe { if *len == 4 { value.cast::<c_int>().read_unaligned() } else { 0 } };
                tuning.told(fd, error);
            }
            r
        }
    }

    fn close(fd: c_int) -> c_int {
        |forward| {
            if let Some(tuning) = TUNING.get() {
                tuning.descriptors.forget(fd);
            }
            forward()
        }
    }

    fn dup(fd: c_int) -> c_int {
        |forward| duplicated(fd, forward())
    }

    fn dup2(fd: c_int, new: c_int) -> c_int {
        |forward| duplicated(fd, forward())
    }

    fn dup3(fd: c_int, new: c_int, flags: c_int) -> c_int {
        |forward| duplicated(fd, forward())
    }

    // A wait that reports something: any attempt may be over.

    fn poll(fds: *mut pollfd, count: nfds_t, timeout: c_int) -> c_int {
        |forward| waited(forward())
    }

    fn ppoll(fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t) -> c_int {
        |forward| waited(forward())
    }

    fn select(count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *mut timeval) -> c_int {
        |forward| waited(forward())
    }

    fn pselect(
        count: c_int, read: *mut fd_set, write: *mut fd_set, except: *mut fd_set, time: *const timespec,
        mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }

    fn epoll_wait(fd: c_int, events: *mut epoll_event, count: c_int, timeout: c_int) -> c_int {
        |forward| waited(forward())
    }

    fn epoll_pwait(
        fd: c_int, events: *mut epoll_event, count: c_int, timeout: c_int, mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }

    // A call on the descriptor: its own attempt may be over, and no byte shall be sent before the value is put back.

    fn getpeername(fd: c_int, addr: *mut sockaddr, len: *mut socklen_t) -> c_int {
        |forward| settled(fd, forward)
    }

    fn write(fd: c_int, bytes: *const c_void, count: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn writev(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn send(fd: c_int, bytes: *const c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn sendto(
        fd: c_int, bytes: *const c_void, count: size_t, flags: c_int, addr: *const sockaddr, len: socklen_t
    ) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn sendmsg(fd: c_int, message: *const msghdr, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn sendfile(fd: c_int, from: c_int, offset: *mut off_t, count: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn read(fd: c_int, bytes: *mut c_void, count: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn readv(fd: c_int, parts: *const iovec, count: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn recv(fd: c_int, bytes: *mut c_void, count: size_t, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn recvfrom(
        fd: c_int, bytes: *mut c_void, count: size_t, flags: c_int, addr: *mut sockaddr, len: *mut socklen_t
    ) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn recvmsg(fd: c_int, message: *mut msghdr, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }
}

// Not every libc has these. What is missing answers `ENOSYS`, to a program that looked only for the name.
hooks! {
    optional;

    // not in musl from 1.2.4 on
    fn sendfile64(fd: c_int, from: c_int, offset: *mut off64_t, count: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    // glibc 2.35
    fn epoll_pwait2(
        fd: c_int, events: *mut epoll_event, count: c_int, timeout: *const timespec, mask: *const sigset_t
    ) -> c_int {
        |forward| waited(forward())
    }

    // What glibc's headers call in programs built with _FORTIFY_SOURCE (feature_test_macros(7)).

    fn __poll_chk(fds: *mut pollfd, count: nfds_t, timeout: c_int, room: size_t) -> c_int {
        |forward| waited(forward())
    }

    fn __ppoll_chk(
        fds: *mut pollfd, count: nfds_t, timeout: *const timespec, mask: *const sigset_t, room: size_t
    ) -> c_int {
        |forward| waited(forward())
    }

    fn __read_chk(fd: c_int, bytes: *mut c_void, count: size_t, room: size_t) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn __recv_chk(fd: c_int, bytes: *mut c_void, count: size_t, room: size_t, flags: c_int) -> ssize_t {
        |forward| settled(fd, forward)
    }

    fn __recvfrom_chk(
        fd: c_int, bytes: *mut c_void, count: size_t, room: size_t, flags: c_int, addr: *mut sockaddr,
        len: *mut socklen_t
    ) -> ssize_t {
        |forward| settled(fd, forward)
    }
}

/// accept(2) and accept4(2).
fn accepting(listener: c_int, forward: impl FnOnce() -> c_int) -> c_int {
    let Some(tuning) = TUNING.get() else { return forward() };
    let mark = tuning.seen(listener);
    let fd = forward();
    if fd >= 0 {
        tuning.accepted(listener, mark, fd);
    }
    fd
}

/// After dup(2) and its kin.
fn duplicated(old: c_int, new: c_int) -> c_int {
    if new >= 0
        && new != old
        && let Some(tuning) = TUNING.get()
    {
        tuning.duplicated(old, new);
    }
    new
}

/// The settings, while a nonblocking connect goes on.
#[inline]
fn attempting() -> Option<&'static Tuning> {
    TUNING.get().filter(|tuning| tuning.attempts.any())
}

/// After a wait with this result.
#[inline]
fn waited(result: c_int) -> c_int {
    if result > 0
        && let Some(tuning) = attempting()
    {
        tuning.attempts.sweep(&tuning.real);
    }
    result
}

/// Before a call on `fd`.
#[inline]
fn settled<T>(fd: c_int, forward: impl FnOnce() -> T) -> T {
    if let Some(tuning) = attempting() {
        tuning.attempts.settle(&tuning.real, fd);
    }
    forward()
}
