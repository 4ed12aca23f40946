//! By what libtcptune.so is known, in a file and in a process: an ELF note (elf(5)).

/// The version of library and command.
pub const RELEASE: &str = env!("CARGO_PKG_VERSION");

/// Whose note it is.
pub const NAME: &[u8] = b"tcptune";

/// Its type: the version, as text.
pub const VERSION: u32 = 1;

/// Its type: how far behind the value `sockets::block` is, eight bytes.
pub const BLOCK: u32 = 2;

/// Room for the version.
const ROOM: usize = 16;

/// A note with the version.
#[repr(C, align(4))]
pub struct Note {
    name_size: u32,
    size: u32,
    kind: u32,
    name: [u8; 8],
    version: [u8; ROOM],
}

impl Note {
    /// Of this release.
    #[must_use]
    pub const fn new() -> Self {
        let (mut name, mut version) = ([0; 8], [0; ROOM]);
        name.split_at_mut(NAME.len()).0.copy_from_slice(NAME);
        version.split_at_mut(RELEASE.len()).0.copy_from_slice(RELEASE.as_bytes());
        Self { name_size: 8, size: 16, kind: VERSION, name, version }
    }
}

impl Default for Note {
    fn default() -> Self {
        Self::new()
    }
}
