//! System calls, made on the spot. A function of libc is a name that another preloaded library may take (torsocks has a
//! `syscall`, libfaketime a `clock_gettime`), a symbol to look up at each exec, and it sets `errno`, which these leave alone.
//!
//! docs/system-calls.md lists all of them, for whoever writes a seccomp filter.

/// Makes a system call: the result, or the kernel's errno.
macro_rules! call {
    ($name:ident $(, $argument:expr)*) => {
        ::syscalls::syscall!(::syscalls::Sysno::$name $(, $argument)*).map_err(::syscalls::Errno::into_raw)
    };
}
pub(crate) use call;
