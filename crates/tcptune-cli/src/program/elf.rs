//! What an ELF file says about who can be preloaded into it.

use std::ffi::OsStr;
use std::fmt;
use std::fs::File;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use object::read::elf::{Dyn, FileHeader, ProgramHeader};
use object::{Endianness, FileKind, ReadCache, ReadRef, elf};

/// An executable or a library.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Elf {
    pub machine: Machine,
    /// The loader that it asks for (`PT_INTERP`).
    pub loader: Option<PathBuf>,
    /// Whether it has a name as a library: the loader itself, which can be started like a program, has one.
    pub is_library: bool,
    /// Whether Go's compiler made it.
    pub is_go: bool,
}

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    code: elf::Machine,
    bits: u8,
    little: bool,
}

impl fmt::Display for Machine {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.code {
            elf::EM_X86_64 => f.write_str("x86-64")?,
            elf::EM_386 => f.write_str("i386")?,
            elf::EM_AARCH64 => f.write_str("aarch64")?,
            elf::EM_ARM => f.write_str("arm")?,
            elf::EM_RISCV => f.write_str("riscv")?,
            elf::EM_PPC64 => f.write_str("ppc64")?,
            elf::EM_S390 => f.write_str("s390")?,
            elf::EM_LOONGARCH => f.write_str("loongarch")?,
            other => write!(f, "machine {}", other.0)?,
        }
        write!(f, ", {} bit", self.bits)?;
        if self.little { Ok(()) } else { f.write_str(", big-endian") }
    }
}

impl Elf {
    /// Of a file; none if it is none of this format, or broken.
    pub fn read(path: &Path) -> std::io::Result<Option<Self>> {
        let cache = ReadCache::new(File::open(path)?);
        let parsed = match FileKind::parse(&cache) {
            Ok(FileKind::Elf64) => Self::parse::<elf::FileHeader64<Endianness>, _>(&cache, 64),
            Ok(FileKind::Elf32) => Self::parse::<elf::FileHeader32<Endianness>, _>(&cache, 32),
            _ => return Ok(None),
        };
        Ok(parsed.ok())
    }

    fn parse<'data, H, R>(data: R, bits: u8) -> object::Result<Self>
    where
        H: FileHeader<Endian = Endianness>,
        R: ReadRef<'data>,
    {
        let header = H::parse(data)?;
        let endian = header.endian()?;
        let machine = Machine { code: header.e_machine(endian), bits, little: endian == Endianness::Little };
        let mut loader = None;
        let mut is_library = false;
        for segment in header.program_headers(endian, data)? {
            if let Some(path) = segment.interpreter(endian, data)? {
                loader = Some(PathBuf::from(OsStr::from_bytes(path)));
            }
            let entries = segment.dynamic(endian, data)?.unwrap_or_default();
            is_library |= entries.iter().any(|entry| entry.tag(endian) == elf::DT_SONAME);
        }
        let sections = header.sections(endian, data)?;
        let is_go = [&b".go.buildinfo"[..], b".note.go.buildid"]
            .iter()
            .any(|name| sections.section_by_name(endian, name).is_some());
        Ok(Self { machine, loader, is_library, is_go })
    }

    /// Whether it runs without a loader.
    pub fn is_static(&self) -> bool {
        self.loader.is_none() && !self.is_library
    }
}
