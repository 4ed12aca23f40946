//! Pages.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ptr;
use std::sync::atomic::{AtomicUsize, Ordering};

use libc::c_int;

use crate::system::call::call;

/// Maps so many bytes, all zeroes (mmap(2)); null if there is no memory. A page takes memory once it is written to.
#[must_use]
pub fn map(size: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    let (anywhere, no_file): (*mut u8, c_int) = (ptr::null_mut(), -1);
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    #[cfg(target_pointer_width = "64")]
    let block = unsafe { call!(mmap, anywhere, size, protection, flags, no_file, 0) };
    // SAFETY: as above. mmap(2) itself takes a struct on i386, and is not there on arm.
    #[cfg(target_pointer_width = "32")]
    let block = unsafe { call!(mmap2, anywhere, size, protection, flags, no_file, 0) };
    block.map_or(anywhere, ptr::with_exposed_provenance_mut)
}

/// Gives pages back (munmap(2)).
///
/// # Safety
/// They came from [`map`] with this size, and nothing refers to them any more.
pub unsafe fn unmap(block: *mut u8, size: usize) {
    // SAFETY: the caller's promise.
    let _ = unsafe { call!(munmap, block, size) };
}

/// Lets a forked child find zeroes in pages that [`map`] gave. Not before Linux 4.14 (madvise(2), `MADV_WIPEONFORK`).
pub fn wipe_on_fork(block: *mut u8, size: usize) {
    // SAFETY: the advice changes nothing here.
    let _ = unsafe { call!(madvise, block, size, libc::MADV_WIPEONFORK) };
}

/// Whether 8 bytes can be read there. signalfd4(2) copies them as a set of signals, and then refuses flags that it does not
/// have; every program may call it, and valgrind knows it.
#[must_use]
pub fn readable(at: *const u8) -> bool {
    let (no_descriptor, unknown_flags): (c_int, c_int) = (-1, -1);
    // SAFETY: the kernel checks the pointer, and changes nothing.
    let refused = unsafe { call!(signalfd4, no_descriptor, at, 8, unknown_flags) };
    refused == Err(libc::EINVAL)
}

/// Whether so many bytes of a program's can be read, 8 or more and no more than a page: the first and the last 8 are asked
/// about, since valgrind complains of a look below the stack pointer, on the same page.
///
/// Most lie on the stack, in frames that are still there: pages of it that could be read once are not asked about again.
#[must_use]
#[inline]
pub fn is_readable(at: *const u8, len: usize) -> bool {
    let last = at.addr().wrapping_add(len.saturating_sub(1));
    let pages = pages_of_stack(at.addr(), last);
    is_known(&READABLE, pages)
        || (readable(at)
            && (at.addr() / PAGE == last / PAGE || readable(last_8(at, len)))
            && remember(&READABLE, pages))
}

/// The same of several pointers of a program, of which null ones have no bytes.
#[must_use]
pub fn are_readable(parts: &[(*const u8, usize)]) -> bool {
    let there = || parts.iter().filter(|(at, _)| !at.is_null());
    let (mut low, mut high) = (usize::MAX, 0);
    for (at, len) in there() {
        low = low.min(at.addr());
        high = high.max(at.addr().saturating_add(len.saturating_sub(1)));
    }
    let pages = pages_of_stack(low, high);
    if is_known(&READABLE, pages) {
        return true;
    }
    let mut asked = usize::MAX;
    there().all(|(at, len)| {
        [*at, last_8(*at, *len)].into_iter().all(|at| {
            let (page, end) = (at.addr() / PAGE, at.addr().saturating_add(7) / PAGE);
            let known = (page == asked && end == asked) || readable(at);
            asked = end;
            known
        })
    }) && remember(&READABLE, pages)
}

fn last_8(at: *const u8, len: usize) -> *const u8 {
    at.wrapping_add(len.saturating_sub(8))
}

/// The last pages of a stack that could be read: the number of the first one, and a bit for a second one.
static READABLE: AtomicUsize = AtomicUsize::new(0);

/// The same of those that could be written to.
static WRITABLE: AtomicUsize = AtomicUsize::new(0);

/// Whether these pages, or two that they are among, are known.
#[inline]
fn is_known(known: &AtomicUsize, pages: usize) -> bool {
    let known = known.load(Ordering::Relaxed);
    pages != 0 && (known == pages || known & 1 != 0 && (pages == known - 1 || pages == known + 1))
}

/// The pages of these addresses as in [`READABLE`], if they are on the stack in the frames of callers; 0 if not.
#[inline]
fn pages_of_stack(first: usize, last: usize) -> usize {
    let frame = 0u8;
    // An address below the frame wraps around, and is no small number then.
    let near = first.wrapping_sub((&raw const frame).addr()) < FRAMES && last.wrapping_sub(first) < PAGE;
    if near { ((first / PAGE) << 1) | (last / PAGE - first / PAGE) } else { 0 }
}

fn remember(known: &AtomicUsize, pages: usize) -> bool {
    if pages != 0 {
        known.store(pages, Ordering::Relaxed);
    }
    true
}

/// How far above the current frame the frames of callers are looked for.
const FRAMES: usize = 64 * 1024;

/// Whether so many bytes, 8 or more, can be written to: the first and the last 8 are overwritten. The kernel copies the
/// thread's signal mask there (rt_sigprocmask(2)).
#[must_use]
pub fn is_writable(at: *mut u8, len: usize) -> bool {
    let takes_8 = |at: *mut u8| {
        // SAFETY: the kernel checks the pointer; no mask is set.
        unsafe { call!(rt_sigprocmask, libc::SIG_BLOCK, ptr::null::<u64>(), at, 8) }.is_ok()
    };
    let pages = pages_of_stack(at.addr(), at.addr().wrapping_add(len - 1));
    is_known(&WRITABLE, pages) || (takes_8(at) && takes_8(at.wrapping_add(len - 8)) && remember(&WRITABLE, pages))
}

/// Bytes of a page of this machine.
#[must_use]
pub fn page_size() -> usize {
    // SAFETY: getauxval only reads the auxiliary vector.
    usize::try_from(unsafe { libc::getauxval(libc::AT_PAGESZ) }).unwrap_or(PAGE).max(PAGE)
}

/// Smallest page: what lies within so much, aligned, is there as a whole or not at all.
const PAGE: usize = 4096;

/// Changes how the pages of these bytes may be used (mprotect(2)).
///
/// # Errors
/// The kernel's errno.
pub fn protect(address: usize, size: usize, protection: c_int) -> Result<(), c_int> {
    let before = address % page_size();
    // SAFETY: the kernel checks the address; what is taken from the pages is the caller's affair.
    unsafe { call!(mprotect, address - before, before + size, protection) }.map(drop)
}
