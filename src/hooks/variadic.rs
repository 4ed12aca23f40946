//! Functions with any number of arguments of any kind: all registers that may hold some are kept, and what is on the stack
//! is left where it is, so that the real function finds everything as the program has passed it.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;
use std::sync::atomic::{AtomicPtr, Ordering};

use libc::{c_int, c_void};
use tcptune_core::system::errno;

use super::{attempting, resolve};
use crate::lookup::{self, Wanted};

const NAMES: &str = "dprintf\0__dprintf_chk\0";
// In a page that start-up writes to.
// SAFETY: a section of initialised variables.
#[unsafe(link_section = ".data")]
static REAL: [AtomicPtr<c_void>; 2] = [const { AtomicPtr::new(ptr::null_mut()) }; 2];
pub const WANTED: Wanted = Wanted { names: NAMES, list: &const { lookup::list::<2>(NAMES) }, found: &REAL };

/// Before a call on `fd` of the function at `index`: the one to go on with.
extern "C" fn before(fd: c_int, index: usize) -> *const c_void {
    let Some(real) = REAL.get(index) else { return failed as *const c_void };
    if real.load(Ordering::Relaxed).is_null() {
        resolve();
    }
    let found = real.load(Ordering::Relaxed);
    if found.is_null() {
        errno::set(libc::ENOSYS);
    }
    if found.is_null() || attempting().is_some_and(|tuning| tuning.is_interrupted(fd, 0)) {
        return failed as *const c_void;
    }
    found
}

/// In the place of a call that fails.
extern "C" fn failed() -> c_int {
    -1
}

macro_rules! variadic {
    ($($name:ident = $index:literal)*) => {$(
        /// See libc's. The arguments are whatever the program has passed.
        #[cfg(target_arch = "x86_64")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            std::arch::naked_asm!(
                "push rdi", "push rsi", "push rdx", "push rcx", "push r8", "push r9",
                "push rax", // how many vector registers are used
                "sub rsp, 128",
                "movaps [rsp], xmm0", "movaps [rsp + 16], xmm1", "movaps [rsp + 32], xmm2", "movaps [rsp + 48], xmm3",
                "movaps [rsp + 64], xmm4", "movaps [rsp + 80], xmm5", "movaps [rsp + 96], xmm6",
                "movaps [rsp + 112], xmm7",
                concat!("mov esi, ", $index),
                "call {before}",
                "mov r11, rax",
                "movaps xmm0, [rsp]", "movaps xmm1, [rsp + 16]", "movaps xmm2, [rsp + 32]", "movaps xmm3, [rsp + 48]",
                "movaps xmm4, [rsp + 64]", "movaps xmm5, [rsp + 80]", "movaps xmm6, [rsp + 96]",
                "movaps xmm7, [rsp + 112]",
                "add rsp, 128",
                "pop rax", "pop r9", "pop r8", "pop rcx", "pop rdx", "pop rsi", "pop rdi",
                "jmp r11",
                before = sym before,
            )
        }

        /// See libc's. The arguments are whatever the program has passed.
        #[cfg(target_arch = "aarch64")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            std::arch::naked_asm!(
                "stp x29, x30, [sp, #-208]!",
                "stp x0, x1, [sp, #16]", "stp x2, x3, [sp, #32]", "stp x4, x5, [sp, #48]", "stp x6, x7, [sp, #64]",
                "stp q0, q1, [sp, #80]", "stp q2, q3, [sp, #112]", "stp q4, q5, [sp, #144]", "stp q6, q7, [sp, #176]",
                concat!("mov x1, #", $index),
                "bl {before}",
                "mov x16, x0",
                "ldp x0, x1, [sp, #16]", "ldp x2, x3, [sp, #32]", "ldp x4, x5, [sp, #48]", "ldp x6, x7, [sp, #64]",
                "ldp q0, q1, [sp, #80]", "ldp q2, q3, [sp, #112]", "ldp q4, q5, [sp, #144]", "ldp q6, q7, [sp, #176]",
                "ldp x29, x30, [sp], #208",
                "br x16",
                before = sym before,
            )
        }

        /// See libc's. The arguments are whatever the program has passed; its stack may be aligned to 4 bytes only.
        #[cfg(target_arch = "x86")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            std::arch::naked_asm!(
                "push ebp", "mov ebp, esp", "and esp, -16", "sub esp, 8",
                concat!("push ", $index),
                "push dword ptr [ebp + 8]",
                "call {before}",
                "leave",
                "jmp eax",
                before = sym before,
            )
        }

        /// See libc's. Arguments beyond the named ones are never in floating-point registers.
        #[cfg(target_arch = "riscv64")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            std::arch::naked_asm!(
                "addi sp, sp, -80", "sd ra, 64(sp)",
                "sd a0, 0(sp)", "sd a1, 8(sp)", "sd a2, 16(sp)", "sd a3, 24(sp)",
                "sd a4, 32(sp)", "sd a5, 40(sp)", "sd a6, 48(sp)", "sd a7, 56(sp)",
                concat!("li a1, ", $index),
                "call {before}",
                "mv t1, a0",
                "ld a0, 0(sp)", "ld a1, 8(sp)", "ld a2, 16(sp)", "ld a3, 24(sp)",
                "ld a4, 32(sp)", "ld a5, 40(sp)", "ld a6, 48(sp)", "ld a7, 56(sp)",
                "ld ra, 64(sp)", "addi sp, sp, 80",
                "jr t1",
                before = sym before,
            )
        }

        /// See libc's. Arguments beyond the named ones are never in floating-point registers.
        #[cfg(target_arch = "arm")]
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name() {
            std::arch::naked_asm!(
                "push {{r0, r1, r2, r3, r4, lr}}", // r4 aligns the stack
                concat!("mov r1, #", $index),
                "bl {before}",
                "mov r12, r0",
                "pop {{r0, r1, r2, r3, r4, lr}}",
                "bx r12",
                before = sym before,
            )
        }
    )*};
}

variadic! {
    dprintf = "0"
    __dprintf_chk = "1"
}
