//! An ELF note of the library. In the file it tells the command which library and release this is; in a process it tells
//! where the block lies in which the library has laid down what it decided.

use std::arch::global_asm;

use tcptune_core::sockets::block::Block;
use tcptune_core::system::note::Note;

#[used]
#[unsafe(link_section = ".note.tcptune")]
static NOTE: Note = Note::new();

/// What was decided.
// SAFETY: a section of initialised variables, in a page that start-up writes to anyway.
#[unsafe(link_section = ".data")]
pub static BLOCK: Block = Block::new();

// The distance from this word to the block: the linker knows it, so no relocation is needed. On a 32-bit machine the upper
// half is zero, because the block comes after the note.
#[cfg(target_pointer_width = "64")]
global_asm!(
    ".pushsection .note.tcptune,\"a\",%note",
    ".balign 4",
    ".long 8, 8, 2",
    ".asciz \"tcptune\"",
    ".quad {block} - .",
    ".popsection",
    block = sym BLOCK,
);
#[cfg(target_pointer_width = "32")]
global_asm!(
    ".pushsection .note.tcptune,\"a\",%note",
    ".balign 4",
    ".long 8, 8, 2",
    ".asciz \"tcptune\"",
    ".long {block} - .",
    ".long 0",
    ".popsection",
    block = sym BLOCK,
);
