//! What std asks of its surroundings, and what this library does not have: an unwinder, and std's way to report a panic.
//!
//! A panic here is a mistake in this library. std would print a backtrace, with names from debugging information; the
//! code for that is more than half of the library, and takes from libpthread and libdl. Here it is one line, then abort.
//! build.rs makes the linker take two functions of here instead of std's.

use core::panic::PanicInfo; // std has another type of this name
use std::arch::global_asm;

use crate::logging;

#[cfg(target_arch = "x86_64")]
macro_rules! jump {
    () => {
        "jmp {}"
    };
}
#[cfg(target_arch = "aarch64")]
macro_rules! jump {
    () => {
        "b {}"
    };
}

/// Symbols that only the linker sees: `no_mangle` would export them to the program.
macro_rules! hidden {
    ($function:ident: $($name:expr),*) => {
        global_asm!(
            $(concat!(".globl ", $name), concat!(".hidden ", $name), concat!(".type ", $name, ", @function"),
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

extern "C" fn unwinds() -> ! {
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}
