//! Memory for start-up, taken from the library's own pages: the program's malloc is not touched.
//!
//! Settings live as long as the process, and a hook never allocates, so nothing is given back but the newest block, and large
//! ones. Start-up runs in one thread, under the loader's lock.

use std::alloc::{GlobalAlloc, Layout};
use std::cell::UnsafeCell;
use std::ptr;
use std::sync::atomic::{AtomicBool, AtomicUsize, Ordering};

use tcptune_core::system::memory;

/// Enough for all settings with ordinary values.
const SIZE: usize = 32 * 1024;

/// Thousands of rules need more: it is mapped by so much at a time.
const MORE: usize = 1024 * 1024;

#[global_allocator]
static ARENA: Arena = Arena {
    next: AtomicUsize::new(0),
    end: AtomicUsize::new(0),
    spare: [const { AtomicUsize::new(0) }; 2],
    sealed: AtomicBool::new(false),
    memory: UnsafeCell::new([0; SIZE]),
};

/// The order of the fields matters: the first ones share a page with other variables that start-up writes to; a field
/// behind `memory` would be on a page of its own.
#[repr(C)]
struct Arena {
    /// Where the next block begins: in `memory` at first, then in what is mapped.
    next: AtomicUsize,
    end: AtomicUsize,
    /// Address and size of a large block that was given back, the text of a file: settings take its pages again, and a page
    /// that is touched first costs an exec 3 us.
    spare: [AtomicUsize; 2],
    sealed: AtomicBool,
    memory: UnsafeCell<[u8; SIZE]>,
}

// SAFETY: bytes are handed out once, by the atomic `next`; see `alloc` for a second thread.
unsafe impl Sync for Arena {}

/// Start-up is over. A debug build aborts at any later allocation; the end-to-end tests run one.
pub fn seal() {
    if ARENA.spare.iter().any(|word| word.load(Ordering::Relaxed) != 0) {
        ARENA.give_back();
    }
    ARENA.sealed.store(true, Ordering::Relaxed);
}

impl Arena {
    /// A block between `next` and `end`, if there is room.
    fn place(&self, layout: Layout) -> Option<*mut u8> {
        let place = |next: usize| {
            let start = next.checked_next_multiple_of(layout.align())?;
            let end = start.checked_add(layout.size())?;
            (next != 0 && end <= self.end.load(Ordering::Relaxed)).then_some((start, end))
        };
        let claimed =
            self.next.fetch_update(Ordering::Relaxed, Ordering::Relaxed, |next| place(next).map(|(_, end)| end));
        claimed.ok().and_then(place).map(|(start, _)| ptr::with_exposed_provenance_mut(start))
    }

    /// A block of pages, which are not all zeroes.
    #[cold]
    #[inline(never)]
    fn pages(&self, size: usize) -> *mut u8 {
        let [start, spare] = &self.spare;
        let left = spare.load(Ordering::Relaxed).checked_sub(size);
        let Some(left) = left.filter(|_| start.load(Ordering::Relaxed) != 0) else { return memory::map(size) };
        let taken = start.load(Ordering::Relaxed);
        let used = size.next_multiple_of(memory::page_size());
        start.store(taken + used, Ordering::Relaxed);
        spare.store((left + size).saturating_sub(used), Ordering::Relaxed);
        ptr::with_exposed_provenance_mut(taken)
    }

    /// Gives the spare pages back.
    #[cold]
    #[inline(never)]
    fn give_back(&self) {
        let [start, size] = self.spare.each_ref().map(|word| word.swap(0, Ordering::Relaxed));
        if size != 0 {
            // SAFETY: nobody has them, and they came from `map`.
            unsafe { memory::unmap(ptr::with_exposed_provenance_mut(start), size) };
        }
    }

    /// Keeps a block of pages for the next one.
    #[cold]
    #[inline(never)]
    fn keep(&self, block: *mut u8, size: usize) {
        self.give_back();
        if self.sealed.load(Ordering::Relaxed) {
            // SAFETY: it came from `map`, and is not used any more.
            return unsafe { memory::unmap(block, size) };
        }
        let [start, spare] = &self.spare;
        start.store(block.expose_provenance(), Ordering::Relaxed);
        spare.store(size, Ordering::Relaxed);
    }

    fn begin(&self, memory: *mut u8, size: usize) {
        let start = memory.expose_provenance();
        self.end.store(start + size, Ordering::Relaxed);
        self.next.store(start, Ordering::Relaxed);
    }
}

// SAFETY: blocks do not overlap, are aligned, and stay valid until dealloc; a failed mmap gives null.
unsafe impl GlobalAlloc for Arena {
    unsafe fn alloc(&self, layout: Layout) -> *mut u8 {
        if cfg!(debug_assertions) && self.sealed.load(Ordering::Relaxed) {
            std::process::abort();
        }
        // A large block gets a mapping of its own, which can be given back; the small ones stay close together.
        if layout.size() > SIZE / 2 {
            return self.pages(layout.size());
        }
        if self.next.load(Ordering::Relaxed) == 0 {
            self.begin(self.memory.get().cast(), SIZE);
        }
        if let Some(block) = self.place(layout) {
            return block;
        }
        let more = memory::map(MORE);
        if more.is_null() {
            return memory::map(layout.size()); // there may still be room for this block alone
        }
        self.begin(more, MORE);
        self.place(layout).unwrap_or(ptr::null_mut())
    }

    #[inline(never)] // it is called at many places
    unsafe fn dealloc(&self, block: *mut u8, layout: Layout) {
        if layout.size() > SIZE / 2 {
            return self.keep(block, layout.size());
        }
        // Only the newest block can be given back: most often a string that grows.
        let (start, end) = (block.addr(), block.addr() + layout.size());
        let _ = self.next.compare_exchange(end, start, Ordering::Relaxed, Ordering::Relaxed);
    }

    /// What comes from mmap(2) is zero, and stays untouched.
    unsafe fn alloc_zeroed(&self, layout: Layout) -> *mut u8 {
        if layout.size() > SIZE / 2 {
            return memory::map(layout.size());
        }
        // SAFETY: the caller's promise.
        let block = unsafe { self.alloc(layout) };
        if !block.is_null() {
            // SAFETY: the block has just been handed out with this size.
            unsafe { ptr::write_bytes(block, 0, layout.size()) };
        }
        block
    }

    /// The newest block grows where it is: a list that grows would touch twice as many pages.
    unsafe fn realloc(&self, block: *mut u8, layout: Layout, size: usize) -> *mut u8 {
        let (end, new_end) = (block.addr() + layout.size(), block.addr().saturating_add(size));
        if layout.size().max(size) <= SIZE / 2
            && new_end <= self.end.load(Ordering::Relaxed)
            && self.next.compare_exchange(end, new_end, Ordering::Relaxed, Ordering::Relaxed).is_ok()
        {
            return block;
        }
        // SAFETY: the caller's promise: this size is right for the alignment.
        let new = unsafe { self.alloc(Layout::from_size_align_unchecked(size, layout.align())) };
        if !new.is_null() {
            // SAFETY: both blocks are live, and have so many bytes.
            unsafe { ptr::copy_nonoverlapping(block, new, layout.size().min(size)) };
            // SAFETY: the caller's promise.
            unsafe { self.dealloc(block, layout) };
        }
        new
    }
}
