//! Libraries that a program loads with `RTLD_DEEPBIND` (dlopen(3)): PHP's extensions, some database drivers and Apache
//! modules. They and what they need look for functions in themselves before the rest of the program, so their calls would
//! go to libc past the hooks.
//!
//! When the first one is loaded, the entries of libc's own symbol table that the hooks stand before are pointed to the
//! hooks. The loader then binds to them by itself, whatever way it takes: lazily, at once, for dependencies, in
//! constructors, by dlsym(3). The flag stays, so that all other names are found where they were.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ffi::CStr;
use std::sync::atomic::{AtomicBool, AtomicPtr, AtomicUsize, Ordering};
use std::{mem, ptr};

use libc::{PF_R, PF_W, PF_X, PROT_EXEC, PROT_READ, PROT_WRITE, c_char, c_int, c_void};
use tcptune_core::sockets::block::Plugins;
use tcptune_core::system::{errno, memory};

use crate::hooks;
use crate::lookup::{self, Object, Segments, Wanted, each_object};
use crate::note::BLOCK;
use crate::tuning::TUNING;

/// dlopen(3).
///
/// It jumps to the real function: that takes the caller's return address for the library whose `RUNPATH` and `$ORIGIN`
/// count (ld.so(8)).
///
/// # Safety
/// That of dlopen(3).
#[unsafe(no_mangle)]
#[unsafe(naked)]
pub unsafe extern "C" fn dlopen(file: *const c_char, flags: c_int) -> *mut c_void {
    #[cfg(target_arch = "x86_64")]
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push rdi",
        ".cfi_adjust_cfa_offset 8",
        "push rsi",
        ".cfi_adjust_cfa_offset 8",
        "push rax", // aligns the stack
        ".cfi_adjust_cfa_offset 8",
        "call {before}",
        "pop rsi",
        ".cfi_adjust_cfa_offset -8",
        "pop rsi",
        ".cfi_adjust_cfa_offset -8",
        "pop rdi",
        ".cfi_adjust_cfa_offset -8",
        "jmp rax",
        ".cfi_endproc",
        before = sym before,
    );
    #[cfg(target_arch = "aarch64")]
    std::arch::naked_asm!(
        ".cfi_startproc",
        "hint 34", // bti c
        "stp x29, x30, [sp, -32]!",
        ".cfi_adjust_cfa_offset 32",
        ".cfi_offset x30, -24",
        "stp x0, x1, [sp, 16]",
        "bl {before}",
        "mov x16, x0",
        "ldp x0, x1, [sp, 16]",
        "ldp x29, x30, [sp], 32",
        ".cfi_adjust_cfa_offset -32",
        ".cfi_restore x30",
        "br x16",
        ".cfi_endproc",
        before = sym before,
    );
    #[cfg(target_arch = "x86")]
    std::arch::naked_asm!(
        ".cfi_startproc",
        "push ebp",
        ".cfi_adjust_cfa_offset 4",
        ".cfi_offset ebp, -8",
        "mov ebp, esp",
        ".cfi_def_cfa_register ebp",
        "and esp, -16", // programs of old compilers align it to 4 bytes
        "sub esp, 8",
        "push dword ptr [ebp + 12]",
        "push dword ptr [ebp + 8]",
        "call {before}",
        "leave",
        ".cfi_def_cfa esp, 4",
        ".cfi_restore ebp",
        "jmp eax",
        ".cfi_endproc",
        before = sym before,
    );
    #[cfg(target_arch = "riscv64")]
    std::arch::naked_asm!(
        ".cfi_startproc",
        "addi sp, sp, -32",
        ".cfi_def_cfa_offset 32",
        "sd ra, 24(sp)",
        ".cfi_offset ra, -8",
        "sd a0, 0(sp)",
        "sd a1, 8(sp)",
        "call {before}",
        "mv t1, a0",
        "ld a0, 0(sp)",
        "ld a1, 8(sp)",
        "ld ra, 24(sp)",
        ".cfi_restore ra",
        "addi sp, sp, 32",
        ".cfi_def_cfa_offset 0",
        "jr t1",
        ".cfi_endproc",
        before = sym before,
    );
    // Nothing unwinds through it.
    #[cfg(target_arch = "arm")]
    std::arch::naked_asm!(
        "push {{r0, r1, r2, lr}}", // r2 aligns the stack
        "bl {before}",
        "mov r12, r0",
        "pop {{r0, r1, r2, lr}}",
        "bx r12",
        before = sym before,
    );
}

type Dlopen = unsafe extern "C" fn(*const c_char, c_int) -> *mut c_void;

const NAMES: &str = "dlopen\0";
static REAL: [AtomicPtr<c_void>; 1] = [const { AtomicPtr::new(ptr::null_mut()) }; 1];
/// Looked up when it is called for the first time: most programs never do.
const WANTED: Wanted = Wanted { names: NAMES, list: &const { lookup::list::<1>(NAMES) }, found: &REAL };

/// Before each dlopen(3): gives the real function.
extern "C" fn before(_: *const c_char, flags: c_int) -> Dlopen {
    let [real] = &REAL;
    if real.load(Ordering::Relaxed).is_null() {
        lookup::next(&[&[WANTED]]);
    }
    // SAFETY: null is None; any other is libc's dlopen.
    let found = unsafe { mem::transmute::<*mut c_void, Option<Dlopen>>(real.load(Ordering::Relaxed)) };
    let Some(real) = found else { return none };
    if flags & libc::RTLD_DEEPBIND != 0 && TUNING.get().is_some() {
        errno::preserved(|| reach(real));
    }
    real
}

/// Where no library has dlopen: a glibc before 2.34 without libdl.
unsafe extern "C" fn none(_: *const c_char, _: c_int) -> *mut c_void {
    ptr::null_mut()
}

/// Points libc's symbols to the hooks, once in a process.
fn reach(dlopen: Dlopen) {
    static REACHED: AtomicBool = AtomicBool::new(false);
    if REACHED.load(Ordering::Acquire) {
        return;
    }
    if !is_libc(dlopen as *const () as usize) {
        // A glibc before 2.34: libpthread has functions of the same names, and a plugin may be the first to need it.
        // SAFETY: a C string, and the program is calling dlopen anyway.
        unsafe { dlopen(c"libpthread.so.0".as_ptr(), libc::RTLD_LAZY) };
    }
    match lead_here() {
        Ok(0) => {} // musl ignores the flag
        Ok(count) => {
            BLOCK.tell_plugins(Plugins::Reached);
            log::debug!("plugins loaded with RTLD_DEEPBIND are reached: {count} functions of libc lead here");
        }
        Err(error) => {
            BLOCK.tell_plugins(Plugins::LeftAlone);
            let error = errno::Named(error);
            log::warn!("mprotect is refused with {error}: sockets of plugins loaded with RTLD_DEEPBIND are left alone");
        }
    }
    REACHED.store(true, Ordering::Release); // a second thread meanwhile has written the same
}

/// Whether glibc's libc has this address.
fn is_libc(address: usize) -> bool {
    let mut found = false;
    each_object(|segments| {
        found = segments.contain(address) && Object::new(segments).is_some_and(|object| object.name() == LIBC);
        found
    });
    found
}

const LIBC: &CStr = c"libc.so.6";
const LIBPTHREAD: &CStr = c"libpthread.so.0";

/// Writes the address of each hook over that of the function behind it, in the symbols of glibc's libraries; gives the
/// number of symbols. A function of another library, which looks for libc's with `RTLD_NEXT`, would call itself: where
/// there is one, the name stays as it is. The loader's lock is held meanwhile.
fn lead_here() -> Result<usize, c_int> {
    let (mut count, mut result, mut own) = (0, Ok(()), None);
    let this = before as *const () as usize;
    each_object(|segments| {
        own = if segments.contain(this) { Object::new(segments) } else { None };
        own.is_some()
    });
    each_object(|segments| {
        let object = Object::new(segments).filter(|object| [LIBC, LIBPTHREAD].contains(&object.name()));
        if let (Some(own), Some(object)) = (&own, object) {
            result = write(own, segments, &object, &mut count);
        }
        result.is_err()
    });
    result.map(|()| count)
}

fn write(own: &Object, segments: &Segments, object: &Object, count: &mut usize) -> Result<(), c_int> {
    let (mut first, mut end) = (usize::MAX, 0);
    each_symbol(own, object, |place, _| {
        (first, end) = (first.min(place.addr()), end.max(place.addr() + size_of::<usize>()));
        *count += 1;
    });
    if end == 0 {
        return Ok(());
    }
    let flags = segments.flags(first);
    let mut as_it_was = 0;
    for (flag, protection) in [(PF_R, PROT_READ), (PF_W, PROT_WRITE), (PF_X, PROT_EXEC)] {
        as_it_was |= if flags & flag == 0 { 0 } else { protection };
    }
    memory::protect(first, end - first, as_it_was | PROT_WRITE)?;
    each_symbol(own, object, |place, hook| {
        // SAFETY: an aligned word that can be written to now. Another thread that looks it up finds the old value or this.
        unsafe { AtomicUsize::from_ptr(place) }.store(hook.wrapping_sub(object.base), Ordering::Release);
    });
    memory::protect(first, end - first, as_it_was)
}

/// Where the value of each symbol is that stands for a hooked function of this object, and the hook.
fn each_symbol(own: &Object, object: &Object, mut visit: impl FnMut(*mut usize, usize)) {
    for (hashed, name, real) in hooks::all().flat_map(Wanted::each) {
        let hook = own.function(hashed, name, false).addr();
        // Whatever their versions: it is the same function.
        object.find(hashed, name, |symbol, _| {
            if hook != 0 && object.address(symbol) == real.addr() {
                visit((&raw const symbol.st_value).cast_mut().cast(), hook);
            }
            false
        });
    }
}
