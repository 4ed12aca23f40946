//! The library in a process: where it is, and what it says that it decided.
//!
//! All of it is read from the memory of the process (process_vm_readv(2)); no file that the process names is opened. What
//! is read is not trusted: another program may have written it.

use std::path::PathBuf;

use object::read::elf::{FileHeader, ProgramHeader};
use object::{Endianness, FileKind, elf};
use procfs::process::{MMapPath, MemoryMaps};
use rustix::io::Errno;
use tcptune_core::sockets::block::{Memory, Told};
use tcptune_core::system::note;

use super::process::Target;
use crate::screens::error::Error;

/// A library of a process.
pub struct Library {
    /// As the process has mapped it.
    pub path: PathBuf,
    /// Its version.
    pub version: String,
    /// What it says, if library and command are of the same version.
    pub told: Option<Told>,
}

/// The first bytes of a library: its headers and its notes lie there.
const HEAD: usize = 4096;

impl Library {
    /// Looks for it; none if it is not in the process.
    pub fn find(target: &Target) -> Result<Option<Self>, Error> {
        let maps = target.proc().maps().map_err(|error| target.cannot("reading /proc/PID/maps", &error))?;
        let memory = Process(target.pid());
        for (base, path) in files(&maps) {
            let head = match memory.read(base, HEAD) {
                Ok(head) => head,
                Err(Errno::PERM | Errno::SRCH) if target.has_ended() => return Ok(None),
                Err(errno @ (Errno::PERM | Errno::NOSYS)) => return Err(target.refused("process_vm_readv(2)", errno)),
                // It was unmapped meanwhile, or its file is shorter by now.
                Err(_) => continue,
            };
            let Some((version, block)) = notes(&head, base) else { continue };
            let told = block.filter(|_| version == note::RELEASE).and_then(|block| Told::read(&memory, block));
            return Ok(Some(Self { path, version, told }));
        }
        Ok(None)
    }
}

/// Where each file begins that is mapped.
fn files(maps: &MemoryMaps) -> impl Iterator<Item = (u64, PathBuf)> {
    maps.iter().filter(|map| map.offset == 0).filter_map(|map| match &map.pathname {
        MMapPath::Path(path) => Some((map.address.0, path.clone())),
        _ => None,
    })
}

/// The version of a library, and the address of its block, from its first bytes.
fn notes(head: &[u8], base: u64) -> Option<(String, Option<u64>)> {
    match FileKind::parse(head).ok()? {
        FileKind::Elf64 => notes_of::<elf::FileHeader64<Endianness>>(head, base),
        FileKind::Elf32 => notes_of::<elf::FileHeader32<Endianness>>(head, base),
        _ => None,
    }
}

fn notes_of<H: FileHeader<Endian = Endianness>>(head: &[u8], base: u64) -> Option<(String, Option<u64>)> {
    let header = H::parse(head).ok()?;
    let endian = header.endian().ok()?;
    let (mut version, mut block) = (None, None);
    for segment in header.program_headers(endian, head).ok()? {
        let Ok(Some(mut notes)) = segment.notes(endian, head) else { continue };
        while let Ok(Some(found)) = notes.next() {
            if found.name() != note::NAME {
                continue;
            }
            let value = found.desc();
            match found.n_type(endian).0 {
                note::VERSION => {
                    let text = value.split(|byte| *byte == 0).next().unwrap_or_default();
                    version = Some(String::from_utf8_lossy(text).into_owned());
                }
                note::BLOCK => {
                    // The note holds the distance from itself to the block.
                    let at = value.as_ptr().addr().checked_sub(head.as_ptr().addr())?;
                    let distance = i64::from_ne_bytes(value.try_into().ok()?);
                    block = base.checked_add(u64::try_from(at).ok()?)?.checked_add_signed(distance);
                }
                _ => {}
            }
        }
    }
    version.map(|version| (version, block))
}

/// The memory of the process with this number.
struct Process(i32);

impl Process {
    fn read(&self, address: u64, length: usize) -> Result<Vec<u8>, Errno> {
        let mut room = vec![0_u8; length];
        let local = libc::iovec { iov_base: room.as_mut_ptr().cast(), iov_len: length };
        let start = usize::try_from(address).map_err(|_| Errno::FAULT)?;
        let remote = libc::iovec { iov_base: std::ptr::without_provenance_mut(start), iov_len: length };
        // SAFETY: one live room of its length is written; the other address is of the process, and the kernel checks it.
        let read = unsafe { libc::process_vm_readv(self.0, &raw const local, 1, &raw const remote, 1, 0) };
        match usize::try_from(read) {
            Ok(read) if read == length => Ok(room),
            Ok(_) => Err(Errno::FAULT),
            Err(_) => Err(Errno::from_io_error(&std::io::Error::last_os_error()).unwrap_or(Errno::IO)),
        }
    }
}

impl Memory for Process {
    fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
        if length == 0 { Some(Vec::new()) } else { self.read(address, length).ok() }
    }
}
