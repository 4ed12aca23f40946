//! What std asks of its surroundings, and what this library does not have: an unwinder, and std's way to report a panic.
//!
//! A panic here is a mistake in this library. std would print a backtrace, with names from debugging information; the
//! code for that is more than half of the library, and takes from libpthread and libdl. Here it is one line, then abort.
//! build.rs makes the linker take two functions of here instead of std's.

use core::panic::PanicInfo; // std has another type of this name
use std::arch::global_asm;

use crate::logging;

#[cfg(any(target_arch = "x86_64", target_arch = "x86"))]
macro_rules! jump {
    () => {
        "jmp {}"
    };
}
#[cfg(any(target_arch = "aarch64", target_arch = "arm"))]
macro_rules! jump {
    () => {
        "b {}"
    };
}

#[cfg(target_arch = "riscv64")]
macro_rules! jump {
    () => {
        "tail {}"
    };
}

/// Symbols that only the linker sees: `no_mangle` would export them to the program.
macro_rules! hidden {
    ($function:ident: $($name:expr),*) => {
        global_asm!(
            $(concat!(".globl ", $name), concat!(".hidden ", $name), concat!(".type ", $name, ", %function"),
            concat!($name, ":"),)*
            jump!(),
            sym $function
        );
    };
}

hidden!(panicked: env!("WRAP_PANIC"));
hidden!(out_of_memory: env!("WRAP_OUT_OF_MEMORY"));

// Code of std that was built for unwinding refers to these. With `panic = "abort"` nothing unwinds from here; thread
// cancellation passes through the hooks by means of the program's own unwinder, and their frames have nothing to run.
hidden!(unwinds: "_Unwind_Backtrace", "_Unwind_DeleteException", "_Unwind_FindEnclosingFunction", "_Unwind_GetCFA",
    "_Unwind_GetDataRelBase", "_Unwind_GetIP", "_Unwind_GetIPInfo", "_Unwind_GetLanguageSpecificData",
    "_Unwind_GetRegionStart", "_Unwind_GetTextRelBase", "_Unwind_RaiseException", "_Unwind_Resume", "_Unwind_SetGR",
    "_Unwind_SetIP");
// A std that a distribution has built may have stack protectors; on aarch64 their guard would be one of the loader's.
hidden!(smashed: "__stack_chk_fail");
#[cfg(target_arch = "aarch64")]
global_asm!(
    ".section .rodata",
    ".globl __stack_chk_guard",
    ".hidden __stack_chk_guard",
    ".balign 8",
    "__stack_chk_guard:",
    ".quad 0x00ff0a0d5a17c0de",
    ".text"
);
#[cfg(target_arch = "arm")]
hidden!(unwinds_on_arm: "__aeabi_unwind_cpp_pr0", "__aeabi_unwind_cpp_pr1", "__aeabi_unwind_cpp_pr2", "__gnu_unwind_frame",
    "_Unwind_Complete", "_Unwind_VRS_Get", "_Unwind_VRS_Set");

/// In place of std's panic handler.
extern "C" fn panicked(info: &PanicInfo) -> ! {
    match info.location() {
        Some(place) => logging::last_words(format_args!("internal error at {place}: {}", info.message())),
        None => logging::last_words(format_args!("internal error: {}", info.message())),
    }
}

/// In place of std's handler of a failed allocation.
extern "C" fn out_of_memory(size: usize, _align: usize) -> ! {
    logging::last_words(format_args!("out of memory, {size} bytes"))
}

#[cfg(target_arch = "arm")]
extern "C" fn unwinds_on_arm() -> ! {
    unwinds()
}

extern "C" fn smashed() -> ! {
    logging::last_words(format_args!("internal error: stack smashed"))
}

extern "C" fn unwinds() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}
