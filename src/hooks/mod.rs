//! The exported functions. Each has libc's signature, pinned at compile time, and is a few lines.
//!
//! Until settings are published a hook forwards with the same arguments and no system call of its own. The hooks by
//! which a program can notice that a connect is over cost one relaxed load while no nonblocking connect goes on.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::sync::atomic::{AtomicBool, AtomicPtr, Ordering};
use std::{mem, ptr};

use libc::{c_int, c_void};
use tcptune_core::sockets::real::{Cleanup, CleanupBuffer, Real};
use tcptune_core::system::errno;

use crate::lookup::{self, Wanted};
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
        pub mod $set {
            use std::ptr;
            use std::sync::atomic::AtomicPtr;

            use libc::c_void;

            use $crate::lookup::{self, Name, Wanted};

            #[allow(non_camel_case_types, reason = "names of functions")]
            pub enum Hook { $($name,)* }

            const COUNT: usize = [$(stringify!($name)),*].len();
            const NAMES: &str = concat!($(stringify!($name), "\0",)*);
            // In .data, on a page that relocation has written to already: in .bss, behind the arena, it would be one page
            // more.
            // SAFETY: a section of initialised variables.
            #[unsafe(link_section = ".data")]
            pub static REAL: [AtomicPtr<c_void>; COUNT] = [const { AtomicPtr::new(ptr::null_mut()) }; COUNT];
            static LIST: [Name; COUNT] = lookup::list(NAMES);
            pub const WANTED: Wanted = Wanted { names: NAMES, list: &LIST, found: &REAL };
        }

        $(#[allow(clippy::disallowed_types, reason = "redhook names a Once, which is never called")]
        #[allow(non_snake_case, reason = "names of functions")]
        pub mod $name {
            use std::mem;
            use std::sync::atomic::Ordering;

            #[allow(clippy::wildcard_imports, reason = "whatever types the signature names")]
            use super::*;

            type Function = unsafe extern "C" fn($($type),*) -> $ret;
            pin!($set, $name, Function);

            $crate::entry::export! {
                unsafe fn $name($($arg: $type),*) -> $ret => hook {
                    // SAFETY: the program's own call, with its arguments.
                    let $forward = || unsafe { real()($($arg),*) };
                    $body
                }
            }

            /// The real function.
            #[inline]
            pub fn real() -> Function {
                let real = &$set::REAL[$set::Hook::$name as usize];
                let mut found = real.load(Ordering::Relaxed);
                if found.is_null() {
                    found = $crate::hooks::resolved(real, $crate::hooks::missing_function::<$ret>);
                }
                // SAFETY: the function of this name, with libc's signature, or one that looks at no argument.
                unsafe { mem::transmute::<*mut libc::c_void, Function>(found) }
            }
        })*
    };
}

/// What a function of libc returns where it fails.
trait Failure {
    const FAILURE: Self;
}

impl Failure for c_int {
    const FAILURE: Self = -1;
}

impl Failure for libc::ssize_t {
    const FAILURE: Self = -1;
}

impl Failure for *mut libc::FILE {
    const FAILURE: Self = ptr::null_mut();
}

/// In the place of a function that this libc does not have.
extern "C" fn missing_function<T: Failure>() -> T {
    errno::set(libc::ENOSYS);
    T::FAILURE
}

/// A real function before start-up has looked it up, or where this libc has none.
#[cold]
fn resolved<T>(real: &AtomicPtr<c_void>, missing: extern "C" fn() -> T) -> *mut c_void {
    resolve();
    let found = real.load(Ordering::Relaxed);
    if found.is_null() { missing as *mut c_void } else { found }
}

mod aliases;
pub mod calls;
mod descriptors;
mod parts;
mod select;
mod silent;
pub mod time;
#[cfg(target_pointer_width = "32")]
mod time64;
mod transfers;
mod variadic;
mod waits;

/// What every supported libc has: glibc 2.17 and musl 1.2. Where one is missing, nothing is tuned.
const REQUIRED: [Wanted; 4] =
    [calls::required::WANTED, descriptors::required::WANTED, waits::required::WANTED, transfers::required::WANTED];
/// Functions that a libc may lack. A hook without its real function answers `ENOSYS`: only a program that looked the name
/// up by itself can call it.
const OPTIONAL: &[Wanted] = &[
    descriptors::optional::WANTED,
    variadic::WANTED,
    calls::optional::WANTED,
    waits::optional::WANTED,
    transfers::optional::WANTED,
    aliases::optional::WANTED,
    #[cfg(target_pointer_width = "32")]
    time64::optional::WANTED,
    CLEANUP_WANTED,
];

/// The macros of `pthread_cleanup_push(3)` call these, in glibc and in musl. A glibc before 2.34 has them in libpthread,
/// which a program without threads may not have loaded.
const CLEANUP_NAMES: &str = "_pthread_cleanup_push\0_pthread_cleanup_pop\0";
// SAFETY: as with REAL.
#[unsafe(link_section = ".data")]
static CLEANUP: [AtomicPtr<c_void>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];
const CLEANUP_WANTED: Wanted =
    Wanted { names: CLEANUP_NAMES, list: &const { lookup::list::<2>(CLEANUP_NAMES) }, found: &CLEANUP };

/// The functions by which connect waits. libc's own, because libfaketime interposes these names and stretches the waits;
/// functions and not system calls, because connect is a cancellation point (pthreads(7)).
const OWN_WAITS_NAMES: &str = "poll\0ppoll\0";
// SAFETY: as with REAL.
#[unsafe(link_section = ".data")]
static OWN_WAITS: [AtomicPtr<c_void>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];
const OWN_WAITS_WANTED: Wanted =
    Wanted { names: OWN_WAITS_NAMES, list: &const { lookup::list::<2>(OWN_WAITS_NAMES) }, found: &OWN_WAITS };

/// Looks up every real function, once, so that no hook has to.
pub fn resolve() {
    // SAFETY: as with REAL.
    #[unsafe(link_section = ".data")]
    static RESOLVED: AtomicBool = AtomicBool::new(false);
    if !RESOLVED.load(Ordering::Acquire) {
        lookup::next(&[&REQUIRED, OPTIONAL]);
        RESOLVED.store(true, Ordering::Release); // a second thread meanwhile finds the same
    }
}

/// All hooked functions, and those of pthread_cleanup_push(3), which have no hook.
pub fn all() -> impl Iterator<Item = &'static Wanted<'static>> {
    REQUIRED.iter().chain(OPTIONAL)
}

/// A function that this libc should have, and has not.
pub fn missing() -> Option<&'static str> {
    REQUIRED.iter().find_map(Wanted::missing)
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
    if waits {
        lookup::of_libc(&OWN_WAITS_WANTED);
    }
    let [plain, masked] = OWN_WAITS.each_ref().map(|function| function.load(Ordering::Relaxed));
    // SAFETY: null is None; these are libc's functions, whose types the hooks pin.
    let (plain, masked) =
        unsafe { (mem::transmute::<*mut c_void, Option<_>>(plain), mem::transmute::<*mut c_void, Option<_>>(masked)) };
    Real {
        connect: calls::connect::real(),
        setsockopt: calls::setsockopt::real(),
        getsockopt: calls::getsockopt::real(),
        poll: plain.unwrap_or(waits::poll::real()),
        ppoll: masked.unwrap_or(waits::ppoll::real()),
        cleanup: if waits { cleanup() } else { None },
    }
}

/// The settings, while a nonblocking connect goes on.
#[inline]
fn attempting() -> Option<&'static Tuning> {
    TUNING.get().filter(|tuning| tuning.attempts.any())
}

/// Makes a call on `fd`; if an attempt on it is over by now, its user timeout is put back before.
#[inline]
fn settled<T>(fd: c_int, forward: impl FnOnce() -> T) -> T {
    if let Some(tuning) = attempting() {
        tuning.settle_one(fd);
    }
    forward()
}

/// The same for a call that sends or receives with these flags, and may wait.
#[inline]
fn transferring<T: Failure>(fd: c_int, flags: c_int, forward: impl FnOnce() -> T) -> T {
    match attempting() {
        Some(tuning) if tuning.is_interrupted(fd, flags) => T::FAILURE,
        _ => forward(),
    }
}

/// The same for a call that receives.
#[inline]
fn receiving<T: Failure + PartialEq>(fd: c_int, flags: c_int, forward: impl Fn() -> T) -> T {
    silent::received(fd, silent::bounded(fd, true, flags, || transferring(fd, flags, &forward)))
}

/// The same for a call that sends.
#[inline]
fn sending<T: Failure + PartialEq>(fd: c_int, flags: c_int, forward: impl Fn() -> T) -> T {
    silent::bounded(fd, false, flags, || transferring(fd, flags, &forward))
}

/// The same for a call that sends, and cannot be made again: its list of arguments is used up.
#[inline]
fn sending_once(fd: c_int, forward: impl FnOnce() -> c_int) -> c_int {
    silent::bounded_once(fd, || transferring(fd, 0, forward))
}
