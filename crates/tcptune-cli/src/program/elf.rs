//! What an ELF file says about who can be preloaded into it.

use std::ffi::{OsStr, OsString};
use std::fmt;
use std::fs::File;
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};

use object::read::elf::{Dyn, FileHeader, ProgramHeader, Sym};
use object::{Endianness, FileKind, ReadCache, ReadRef, elf};
use tcptune_core::system::errno::Named;
use tcptune_core::system::note;

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
    /// Of [`WAITS`], those that it takes from its libraries itself.
    pub waits: Vec<&'static str>,
    /// The libraries that it is linked with.
    pub needed: Vec<String>,
    /// What it takes from them, and how it calls the kernel.
    pub imports: Imports,
    /// The version of the library, if it is libtcptune.so.
    pub tcptune: Option<String>,
}

/// Functions in which a program waits for something to read, as libc has them.
const WAITS: [&str; 12] = [
    "read",
    "recv",
    "recvfrom",
    "recvmsg",
    "poll",
    "ppoll",
    "__poll_chk",
    "select",
    "pselect",
    "epoll_wait",
    "epoll_pwait",
    "epoll_pwait2",
];
/// What an ELF file takes from its libraries, as far as it tells how it calls the kernel.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Imports {
    /// Where libraries are looked for first (`DT_RUNPATH`, `DT_RPATH`).
    pub search: Vec<OsString>,
    /// Whether connect(2) is among its imports.
    pub connect: bool,
    /// Whether dlopen(3) is.
    pub dlopen: bool,
    /// Whether the machine's instruction for a system call is in it.
    pub makes_calls: bool,
}

/// What it is for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Machine {
    code: elf::Machine,
    bits: u8,
    little: bool,
}

/// Machines that glibc has a loader for, what Debian calls the directory of their libraries, and the path of the loader.
pub const LOADERS: [(elf::Machine, &str, &str); 4] = [
    (elf::EM_X86_64, "x86_64-linux-gnu", "/lib64/ld-linux-x86-64.so.2"),
    (elf::EM_386, "i386-linux-gnu", "/lib/ld-linux.so.2"),
    (elf::EM_AARCH64, "aarch64-linux-gnu", "/lib/ld-linux-aarch64.so.1"),
    (elf::EM_ARM, "arm-linux-gnueabihf", "/lib/ld-linux-armhf.so.3"),
];

impl Machine {
    pub fn is(self, code: elf::Machine) -> bool {
        self.code == code
    }

    /// The directory for its libraries, below that for all.
    pub fn directory(self) -> Option<&'static str> {
        LOADERS.iter().find(|(code, ..)| self.is(*code)).map(|(_, directory, _)| *directory)
    }

    /// The loader of glibc.
    pub fn loader(self) -> Option<&'static str> {
        LOADERS.iter().find(|(code, ..)| self.is(*code)).map(|(.., loader)| *loader)
    }
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

/// Why a file is no ELF file.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unfit {
    /// The errno.
    Unreadable(i32),
    NotRegular,
    Empty,
    NotElf,
    Broken,
}

impl fmt::Display for Unfit {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Unreadable(errno) => write!(f, "cannot be read ({})", Named(*errno)),
            Self::NotRegular => f.write_str("is not a regular file"),
            Self::Empty => f.write_str("is empty"),
            Self::NotElf => f.write_str("is no ELF file"),
            Self::Broken => f.write_str("is a truncated or broken ELF file"),
        }
    }
}

/// Opens a regular file: another kind is not waited for, and may do something when it is opened.
pub fn open(path: &Path) -> Result<File, Unfit> {
    let unreadable = |error: std::io::Error| Unfit::Unreadable(error.raw_os_error().unwrap_or(0));
    let is_file = |metadata: std::fs::Metadata| if metadata.is_file() { Ok(()) } else { Err(Unfit::NotRegular) };
    is_file(path.metadata().map_err(unreadable)?)?;
    let file = File::options().read(true).custom_flags(libc::O_NONBLOCK).open(path).map_err(unreadable)?;
    is_file(file.metadata().map_err(unreadable)?)?;
    Ok(file)
}

impl Elf {
    /// Of a file.
    pub fn read(path: &Path) -> Result<Self, Unfit> {
        let mut file = open(path)?;
        let mut magic = Vec::new();
        let read = file.by_ref().take(4).read_to_end(&mut magic);
        read.map_err(|error| Unfit::Unreadable(error.raw_os_error().unwrap_or(0)))?;
        match magic.as_slice() {
            [] => return Err(Unfit::Empty),
            magic if *magic != elf::ELFMAG => return Err(Unfit::NotElf),
            _ => {}
        }
        let cache = ReadCache::new(file);
        let parsed = match FileKind::parse(&cache) {
            Ok(FileKind::Elf64) => Self::parse::<elf::FileHeader64<Endianness>, _>(&cache, 64),
            Ok(FileKind::Elf32) => Self::parse::<elf::FileHeader32<Endianness>, _>(&cache, 32),
            _ => return Err(Unfit::Broken),
        };
        parsed.ok().flatten().ok_or(Unfit::Broken)
    }

    /// None if a segment is not there as a whole.
    fn parse<'data, H, R>(data: R, bits: u8) -> object::Result<Option<Self>>
    where
        H: FileHeader<Endian = Endianness>,
        R: ReadRef<'data>,
    {
        let header = H::parse(data)?;
        let endian = header.endian()?;
        let machine = Machine { code: header.e_machine(endian), bits, little: endian == Endianness::Little };
        let mut found = Self {
            machine,
            loader: None,
            is_library: false,
            is_go: false,
            needed: Vec::new(),
            imports: Imports::default(),
            tcptune: None,
            waits: Vec::new(),
        };
        let length = data.len().unwrap_or(0);
        let segments = header.program_headers(endian, data)?;
        if segments.is_empty() {
            return Ok(None);
        }
        for segment in segments {
            let (offset, size) = segment.file_range(endian);
            if offset.saturating_add(size) > length {
                return Ok(None);
            }
            if let Some(path) = segment.interpreter(endian, data)? {
                found.loader = Some(PathBuf::from(OsStr::from_bytes(path)));
            }
            let entries = segment.dynamic(endian, data)?.unwrap_or_default();
            found.is_library |= entries.iter().any(|entry| entry.tag(endian) == elf::DT_SONAME);
            let value = |tag| entries.iter().find(|entry| entry.tag(endian) == tag).map(|entry| entry.val(endian));
            if let Some((at, size)) = value(elf::DT_STRTAB).zip(value(elf::DT_STRSZ)) {
                let strings = segments.iter().find_map(|segment| segment.data_range(endian, data, at, size).ok()?);
                for entry in entries {
                    let at = usize::try_from(entry.val(endian)).ok();
                    let text = at.and_then(|at| strings?.get(at..)?.split(|byte| *byte == 0).next());
                    match (entry.tag(endian), text) {
                        (elf::DT_NEEDED, Some(name)) => found.needed.push(String::from_utf8_lossy(name).into_owned()),
                        (elf::DT_RUNPATH | elf::DT_RPATH, Some(list)) => {
                            let list = list.split(|byte| *byte == b':');
                            found.imports.search.extend(list.map(|directory| OsStr::from_bytes(directory).to_owned()));
                        }
                        _ => {}
                    }
                }
            }
            let is_code = segment.p_type(endian) == elf::PT_LOAD && (segment.p_flags(endian) & elf::PF_X).0 != 0;
            found.imports.makes_calls |=
                is_code && has_call(machine.code, segment.data(endian, data).unwrap_or_default());
            let mut notes = segment.notes(endian, data)?;
            while let Some(Ok(Some(note))) = notes.as_mut().map(object::read::elf::NoteIterator::next) {
                if note.name() == note::NAME && note.n_type(endian).0 == note::VERSION {
                    let version = note.desc().split(|byte| *byte == 0).next().unwrap_or_default();
                    found.tcptune = Some(String::from_utf8_lossy(version).into_owned());
                }
            }
        }
        let sections = header.sections(endian, data)?;
        found.is_go = [&b".go.buildinfo"[..], b".note.go.buildid"]
            .iter()
            .any(|name| sections.section_by_name(endian, name).is_some());
        let symbols = sections.symbols(endian, data, elf::SHT_DYNSYM)?;
        for symbol in symbols.iter().filter(|symbol| symbol.is_undefined(endian)) {
            let Ok(name) = symbol.name(endian, symbols.strings()) else { continue };
            match name {
                b"connect" => found.imports.connect = true,
                b"dlopen" => found.imports.dlopen = true,
                _ => found.waits.extend(WAITS.into_iter().filter(|wait| wait.as_bytes() == name)),
            }
        }
        found.waits.sort_unstable();
        Ok(Some(found))
    }

    /// Whether it runs without a loader.
    pub fn is_static(&self) -> bool {
        self.loader.is_none() && !self.is_library
    }

    /// Whether a loader puts it together, with libc.
    pub fn is_dynamic(&self) -> bool {
        self.loader.is_some() && !self.is_go
    }

    /// The run-time library of a sanitizer that it is linked with: it must be the first that is loaded.
    pub fn sanitizer(&self) -> Option<&str> {
        self.needed.iter().map(String::as_str).find(|name| is_sanitizer(name.as_bytes()))
    }
}

/// Whether a library is the run-time library of a sanitizer, of GCC or of LLVM.
pub fn is_sanitizer(name: &[u8]) -> bool {
    let name = name.rsplit(|byte| *byte == b'/').next().unwrap_or(name);
    [&b"libasan."[..], b"libhwasan.", b"liblsan.", b"libtsan.", b"libubsan.", b"libclang_rt."]
        .iter()
        .any(|prefix| name.starts_with(prefix))
}

/// Whether an instruction for a system call is in the code; also where that cannot be told.
fn has_call(machine: elf::Machine, code: &[u8]) -> bool {
    match machine {
        elf::EM_X86_64 => code.windows(2).any(|two| two == [0x0f, 0x05]), // syscall
        elf::EM_AARCH64 => code.chunks_exact(4).any(|four| four == [0x01, 0x00, 0x00, 0xd4]), // svc #0
        _ => true,
    }
}
