//! Tells whoever looks at the file what it is, and whoever looks at a process where to read on.

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

// Where the block is, from this word on: known to the linker, so that it costs no relocation. The upper half of what has 32
// bits is zero, as the block is behind the note.
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
