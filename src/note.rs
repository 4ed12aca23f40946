//! Tells whoever looks at the file what it is, and of which version.

use tcptune_core::system::note::Note;

#[used]
#[unsafe(link_section = ".note.tcptune")]
static NOTE: Note = Note::new();
