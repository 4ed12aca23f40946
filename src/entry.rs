//! The way in for calls of the program's.
//!
//! On i386, programs of old compilers keep the stack aligned to 4 bytes only, where code with SSE takes 16 for granted.

#[cfg(not(target_arch = "x86"))]
pub use redhook::hook as export;

/// As redhook exports a hook.
#[cfg(target_arch = "x86")]
macro_rules! export {
    (unsafe fn $name:ident($($arg:ident: $type:ty),*) -> $ret:ty => $hook:ident $body:block) => {
        #[unsafe(no_mangle)]
        #[unsafe(naked)]
        pub unsafe extern "C" fn $name($($arg: $type),*) -> $ret {
            $crate::entry::realigned!($hook)
        }

        unsafe extern "C" fn $hook($($arg: $type),*) -> $ret $body
    };
}
#[cfg(target_arch = "x86")]
pub(crate) use export;

/// The body of a function. On i386 it is a naked one that aligns the stack and calls another function with the caller's
/// arguments, eight words at most; unwinding (thread cancellation) still finds the caller's frame.
#[cfg(target_arch = "x86")]
macro_rules! realigned {
    ($function:ident) => {
        std::arch::naked_asm!(
            ".cfi_startproc",
            "push ebp", ".cfi_def_cfa_offset 8", ".cfi_offset ebp, -8",
            "mov ebp, esp", ".cfi_def_cfa_register ebp",
            "and esp, -16",
            "push dword ptr [ebp + 36]", "push dword ptr [ebp + 32]", "push dword ptr [ebp + 28]",
            "push dword ptr [ebp + 24]", "push dword ptr [ebp + 20]", "push dword ptr [ebp + 16]",
            "push dword ptr [ebp + 12]", "push dword ptr [ebp + 8]",
            "call {}",
            "leave", ".cfi_def_cfa esp, 4",
            "ret",
            ".cfi_endproc",
            sym $function
        )
    };
}
#[cfg(not(target_arch = "x86"))]
macro_rules! realigned {
    ($function:ident) => {
        $function()
    };
}
pub(crate) use realigned;
