//! Pages, by system calls: a function of libc that is not used is a symbol less to look up at each exec.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use crate::system::files::answer;

/// On 32 bits, mmap(2) is another call with one struct (i386), or is not there (arm).
#[cfg(target_pointer_width = "64")]
const MMAP: libc::c_long = libc::SYS_mmap;
#[cfg(target_pointer_width = "32")]
const MMAP: libc::c_long = libc::SYS_mmap2;

/// Maps so many bytes, all zeroes (mmap(2)); null if there is no memory. A page takes memory once it is written to.
#[must_use]
pub fn map(size: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let no_address = ptr::null_mut::<u8>();
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let block = unsafe { libc::syscall(MMAP, no_address, size, protection, flags, -1, 0usize) };
    answer(block).ok().map_or(no_address, |block| ptr::with_exposed_provenance_mut(block.cast_unsigned() as usize))
}

/// Gives pages back (munmap(2)).
///
/// # Safety
/// They came from [`map`] with this size, and nothing refers to them any more.
pub unsafe fn unmap(block: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_munmap, block, size) };
}
