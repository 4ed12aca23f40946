//! Pages, by system calls: a function of libc that is not used is a symbol less to look up at each exec.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;

use libc::c_int;

use crate::system::files::answer;

/// Maps so many bytes, all zeroes (mmap(2)); null if there is no memory. A page takes memory once it is written to.
#[must_use]
pub fn map(size: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let no_address = ptr::null_mut::<u8>();
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let block = unsafe { libc::syscall(libc::SYS_mmap, no_address, size, protection, flags, -1, 0usize) };
    answer(block)
        .ok()
        .and_then(|block| usize::try_from(block).ok())
        .map_or(no_address, ptr::with_exposed_provenance_mut)
}

/// Gives pages back (munmap(2)).
///
/// # Safety
/// They came from [`map`] with this size, and nothing refers to them any more.
pub unsafe fn unmap(block: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    unsafe { libc::syscall(libc::SYS_munmap, block, size) };
}

/// Changes how the pages of these bytes may be used (mprotect(2)).
///
/// # Errors
/// The kernel's errno.
pub fn protect(address: usize, size: usize, protection: c_int) -> Result<(), c_int> {
    // SAFETY: getauxval only reads the auxiliary vector.
    let page = usize::try_from(unsafe { libc::getauxval(libc::AT_PAGESZ) }).unwrap_or(4096).max(4096);
    let before = address % page;
    // SAFETY: the kernel checks the address; what is taken from the pages is the caller's affair.
    answer(unsafe { libc::syscall(libc::SYS_mprotect, address - before, before + size, protection) }).map(drop)
}
