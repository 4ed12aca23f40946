//! Memory for start-up, taken from the library's own pages: the program's malloc is not touched.
//!
//! Settings live as long as the process, and a hook never allocates, so nothing is given back but the newest block.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

/// Enough for all settings with ordinary values; larger ones come from mmap(2).
const SIZE: usize = 32 * 1024;

#[global_allocator]
static ARENA: Arena =
    Arena { memory: UnsafeCell::new([0; SIZE]), used: AtomicUsize::new(0), sealed: AtomicBool::new(false) };

struct Arena {
    memory: UnsafeCell<[u8; SIZE]>,
    used: AtomicUsize,
    sealed: AtomicBool,
}

// SAFETY: bytes of `memory` are handed out once, by the atomic `used`.
unsafe impl Sync for Arena {}

/// Start-up is over. A debug build aborts at any later allocation; the end-to-end tests run one.
pub fn seal() {
    ARENA.sealed.store(true, Ordering::Relaxed);
}

impl Arena {
    fn base(&self) -> *mut u8 {
        self.memory.get().cast()
    }

    fn offset_of(&self, block: *mut u8) -> Option<usize> {
        block.addr().checked_sub(self.base().addr()).filter(|offset| *offset < SIZE)
    }
}

// SAFETY: blocks do not overlap, are aligned, and stay valid until dealloc; a failed mmap gives null.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if cfg!(debug_assertions) && self.sealed.load(Ordering::Relaxed) {
            std::process::abort();
        }
        let place = |used: usize| {
            let start = (self.base().addr() + used).next_multiple_of(layout.align()) - self.base().addr();
            start.checked_add(layout.size()).filter(|end| *end <= SIZE).map(|end| (start, end))
        };
        let claimed =
            self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |used| place(used).map(|(_, end)| end));
        match claimed.ok().and_then(place) {
            // SAFETY: start is inside the memory, and the block ends inside it.
            Some((start, _)) => unsafe { self.base().add(start) },
            None => map(layout.size()),
        }
    }

    /// What comes from mmap(2) is zero, and stays untouched.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if self.offset_of(block).is_some() {
            // SAFETY: the block has just been handed out with this size.
            unsafe { ptr::write_bytes(block, 0, layout.size()) };
        }
        block
    }

    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        match self.offset_of(block) {
            Some(start) => {
                // Only the newest block can be given back; a string that grows is that.
                let end = start + layout.size();
                let _ = self.used.compare_exchange(end, start, Ordering::Relaxed, Ordering::Relaxed);
            }
            // SAFETY: what is not in the memory came from `map`, with this size.
            None => unsafe {
                libc::munmap(block.cast(), layout.size());
            },
        }
    }
}

fn map(size: usize) -> *mut u8 {
    let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
    // SAFETY: an anonymous mapping at an address of the kernel's choice.
    let block = unsafe { libc::mmap(ptr::null_mut(), size, protection, flags, -1, 0) };
    if block == libc::MAP_FAILED { ptr::null_mut() } else { block.cast() }
}
