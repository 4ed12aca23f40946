//! Finds the real functions: what dlsym(3) finds with `RTLD_NEXT`, by way of dl_iterate_phdr(3).
//!
//! dlsym itself is in libdl before glibc 2.34, and to need libdl costs each exec 20 to 40 µs, even where it is an empty
//! file. What is read here are the tables by which the loader finds symbols (elf(5)), of objects that it has relocated.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ffi::CStr;
use std::sync::atomic::{AtomicPtr, Ordering};
use std::{mem, ptr, slice};

#[cfg(target_pointer_width = "32")]
pub use libc::Elf32_Sym as Symbol;
#[cfg(target_pointer_width = "64")]
pub use libc::Elf64_Sym as Symbol;
#[cfg(target_pointer_width = "32")]
use libc::{Elf32_Addr as Addr, Elf32_Ehdr as Ehdr, Elf32_Phdr as Phdr};
#[cfg(target_pointer_width = "64")]
use libc::{Elf64_Addr as Addr, Elf64_Ehdr as Ehdr, Elf64_Phdr as Phdr};
use libc::{PT_DYNAMIC, PT_LOAD, c_int, c_void, dl_phdr_info, size_t};
use tcptune_core::system::clock;

/// Tags of the dynamic section.
mod tag {
    pub const NULL: usize = 0;
    pub const HASH: usize = 4;
    pub const STRTAB: usize = 5;
    pub const SYMTAB: usize = 6;
    pub const SONAME: usize = 14;
    pub const GNU_HASH: usize = 0x6fff_fef5;
    pub const VERSYM: usize = 0x6fff_fff0;
}

// Types and bindings of symbols: the low and the high half of `st_info`.
const NOTYPE: u8 = 0;
const FUNC: u8 = 2;
const GNU_IFUNC: u8 = 10;
const GLOBAL: u8 = 1;
const WEAK: u8 = 2;

/// Set in the version of a symbol that only programs linked long ago refer to.
const HIDDEN: u16 = 0x8000;

/// Functions to find, and where to store them, in the same order.
#[derive(Clone, Copy)]
pub struct Wanted<'a> {
    /// Their names, each ended by a null byte: a table of pointers would be relocated at each exec.
    pub names: &'static str,
    /// Where each name is.
    pub list: &'static [Name],
    pub found: &'a [AtomicPtr<c_void>],
}

/// A name in a list of names.
#[derive(Clone, Copy)]
pub struct Name {
    gnu_hash: u32,
    at: u16,
    len: u16,
}

impl Name {
    fn of(self, names: &'static str) -> &'static [u8] {
        let at = usize::from(self.at);
        names.as_bytes().get(at..at + usize::from(self.len)).unwrap_or_default()
    }
}

/// The names in a list, each ended by a null byte.
#[allow(clippy::indexing_slicing, clippy::cast_possible_truncation, reason = "evaluated by the compiler")]
pub const fn list<const COUNT: usize>(names: &str) -> [Name; COUNT] {
    let bytes = names.as_bytes();
    let mut list = [Name { gnu_hash: 0, at: 0, len: 0 }; COUNT];
    let (mut count, mut start, mut at, mut hash) = (0, 0, 0, 5381u32);
    while at < bytes.len() {
        if bytes[at] == 0 {
            list[count] = Name { gnu_hash: hash, at: start as u16, len: (at - start) as u16 };
            (count, start, hash) = (count + 1, at + 1, 5381);
        } else {
            hash = hash.wrapping_mul(33).wrapping_add(bytes[at] as u32);
        }
        at += 1;
    }
    assert!(count == COUNT && start == bytes.len() && start <= u16::MAX as usize);
    list
}

impl Wanted<'_> {
    /// The names, and where each one's function is kept.
    pub fn each(&self) -> impl Iterator<Item = (Name, &'static [u8], *mut c_void)> {
        self.list.iter().zip(self.found).map(|(name, slot)| (*name, name.of(self.names), slot.load(Ordering::Relaxed)))
    }

    /// Fills what is still missing from `object`; old versions will do too, or not.
    fn fill(&self, object: &Object, old: bool) {
        for (name, slot) in self.list.iter().zip(self.found) {
            if slot.load(Ordering::Relaxed).is_null() {
                slot.store(object.function(*name, name.of(self.names), old), Ordering::Relaxed);
            }
        }
    }

    /// The first that is missing.
    pub fn missing(&self) -> Option<&'static str> {
        let (name, _) = self.list.iter().zip(self.found).find(|(_, slot)| slot.load(Ordering::Relaxed).is_null())?;
        str::from_utf8(name.of(self.names)).ok()
    }
}

/// Looks up all that is wanted in the objects behind this one. What is not found stays null.
pub fn next(wanted: &[&[Wanted]]) {
    let fill = |segments: &Segments, old| {
        if let Some(object) = Object::new(segments) {
            for set in wanted {
                set.iter().for_each(|wanted| wanted.fill(&object, old));
            }
        }
    };
    let complete = || wanted.iter().all(|set| set.iter().all(|wanted| wanted.missing().is_none()));
    let (this, mut behind) = (next as *const () as usize, false);
    each_object(|segments| {
        if !behind {
            behind = segments.contain(this);
            return false;
        }
        fill(segments, false);
        complete()
    });
    if complete() {
        return;
    }
    // libc is not behind a library that was loaded by dlopen(3). Another object before this one would be wrong: its
    // functions may lead here. An old program may call what libc has for old programs alone, as __send on aarch64: this
    // library has it for all.
    in_libc(|segments| {
        fill(segments, false);
        fill(segments, true);
    });
}

/// Looks up all that is wanted in libc itself.
pub fn of_libc(wanted: &Wanted) {
    in_libc(|segments| {
        if let Some(object) = Object::new(segments) {
            wanted.fill(&object, false);
        }
    });
}

/// Calls `visit` for the object that is libc.
fn in_libc(mut visit: impl FnMut(&Segments)) {
    let libc = libc::getauxval as *const () as usize;
    each_object(|segments| {
        let found = segments.contain(libc);
        if found {
            visit(segments);
        }
        found
    });
}

/// The kernel's own clock_gettime(2), in the object that it maps into each process (vdso(7)), if it does.
pub fn vdso_clock() -> Option<clock::Vdso> {
    const NAMES: &str =
        if cfg!(target_arch = "aarch64") { "__kernel_clock_gettime\0" } else { "__vdso_clock_gettime\0" };
    // SAFETY: getauxval only reads the auxiliary vector.
    let start = word(unsafe { libc::getauxval(libc::AT_SYSINFO_EHDR) });
    let header = ptr::with_exposed_provenance::<Ehdr>(start);
    if header.is_null() {
        return None;
    }
    // SAFETY: there is an object, which begins with its ELF header; the program headers are behind it.
    let headers = unsafe {
        let headers = start.wrapping_add(word((*header).e_phoff));
        slice::from_raw_parts(ptr::with_exposed_provenance::<Phdr>(headers), (*header).e_phnum.into())
    };
    let first = headers.iter().find(|header| header.p_type == PT_LOAD)?;
    let base = start.wrapping_sub(word(first.p_vaddr));
    let [name] = const { list::<1>(NAMES) };
    let function = Object::new(&Segments { base, headers })?.function(name, name.of(NAMES), false);
    // SAFETY: null is None; under this name the vdso has a function of this type.
    unsafe { mem::transmute::<*mut c_void, Option<clock::Vdso>>(function) }
}

/// Where an object is in memory.
pub struct Segments<'a> {
    /// What is added to an address of the file.
    base: usize,
    headers: &'a [Phdr],
}

/// Calls `visit` for each object in the loader's order, until it returns true. The loader holds its lock meanwhile.
pub fn each_object(mut visit: impl FnMut(&Segments) -> bool) {
    // One for all visitors, whose own code lies with those who visit.
    type Visit<'a> = &'a mut dyn FnMut(&Segments) -> bool;
    unsafe extern "C" fn call(info: *mut dl_phdr_info, _: size_t, visit: *mut c_void) -> c_int {
        // SAFETY: dl_iterate_phdr passes a live description, and the closure that it was given.
        let (info, visit) = unsafe { (&*info, &mut *visit.cast::<Visit<'_>>()) };
        if info.dlpi_phdr.is_null() {
            return 0;
        }
        // SAFETY: the loader describes an object that is mapped, with its number of headers.
        let headers = unsafe { slice::from_raw_parts(info.dlpi_phdr, info.dlpi_phnum.into()) };
        c_int::from(visit(&Segments { base: word(info.dlpi_addr), headers }))
    }
    let mut visit: Visit<'_> = &mut visit;
    // SAFETY: `call` gets the closure back with its type, and is not kept.
    unsafe { libc::dl_iterate_phdr(Some(call), (&raw mut visit).cast()) };
}

/// A word of a file that this process has loaded.
#[allow(clippy::cast_possible_truncation, reason = "a usize is as large")]
const fn word(value: Addr) -> usize {
    const { assert!(size_of::<usize>() == size_of::<Addr>()) };
    value as usize
}

impl Segments<'_> {
    /// How the segment is mapped that has this address (`p_flags` of elf(5)).
    pub fn flags(&self, address: usize) -> u32 {
        self.headers.iter().find(|header| self.has(header, address)).map_or(0, |header| header.p_flags)
    }

    fn has(&self, header: &Phdr, address: usize) -> bool {
        let start = self.base.wrapping_add(word(header.p_vaddr));
        header.p_type == PT_LOAD && address.wrapping_sub(start) < word(header.p_memsz)
    }

    /// Whether one of its segments has this address.
    pub fn contain(&self, address: usize) -> bool {
        self.headers.iter().any(|header| self.has(header, address))
    }

    /// Where a table is. glibc has relocated most of these pointers, musl none; and no one those of the vdso.
    fn table<T>(&self, pointer: usize) -> Option<*const T> {
        let relative = self.base.wrapping_add(pointer);
        let address = if self.contain(pointer) { pointer } else { relative };
        let table = ptr::with_exposed_provenance::<T>(address);
        (self.contain(address) && table.is_aligned()).then_some(table)
    }
}

/// The tables of an object that has been loaded.
pub struct Object {
    /// What is added to an address of the file.
    pub base: usize,
    name: Option<usize>,
    symbols: *const Symbol,
    strings: *const libc::c_char,
    versions: Option<*const u16>,
    hash: Hash,
}

/// `DT_GNU_HASH`, or the older `DT_HASH`, which an object may have instead.
enum Hash {
    Gnu(*const u32),
    SysV(*const u32),
}

impl Object {
    pub fn new(segments: &Segments) -> Option<Self> {
        let dynamic = segments.headers.iter().find(|header| header.p_type == PT_DYNAMIC)?;
        let mut entry = segments.table::<[usize; 2]>(segments.base.wrapping_add(word(dynamic.p_vaddr)))?;
        let (mut symbols, mut strings, mut versions, mut gnu, mut sysv, mut name) =
            (None, None, None, None, None, None);
        loop {
            // SAFETY: the section is mapped, and ends with a null tag, where this ends.
            let [tag, pointer] = unsafe { *entry };
            match tag {
                tag::NULL => break,
                tag::SYMTAB => symbols = segments.table(pointer),
                tag::STRTAB => strings = segments.table(pointer),
                tag::VERSYM => versions = segments.table(pointer),
                tag::GNU_HASH => gnu = segments.table(pointer),
                tag::SONAME => name = Some(pointer),
                tag::HASH => sysv = segments.table(pointer),
                _ => {}
            }
            // SAFETY: this was not the last entry.
            entry = unsafe { entry.add(1) };
        }
        let hash = gnu.map(Hash::Gnu).or(sysv.map(Hash::SysV))?;
        Some(Self { base: segments.base, name, symbols: symbols?, strings: strings?, versions, hash })
    }

    /// The name by which other objects ask for it.
    pub fn name(&self) -> &CStr {
        // SAFETY: `DT_SONAME` is the place of a C string among the object's strings.
        self.name.map_or(c"", |at| unsafe { CStr::from_ptr(self.strings.add(at)) })
    }

    /// The function with this name in its default version, or if `old` in any; or null.
    pub fn function(&self, hashed: Name, name: &[u8], old: bool) -> *mut c_void {
        let found = self.find(hashed, name, |_, version| old || version & HIDDEN == 0);
        found.map_or(ptr::null_mut(), |symbol| {
            let address = ptr::with_exposed_provenance_mut::<c_void>(self.address(symbol));
            if symbol.st_info & 0xf != GNU_IFUNC {
                return address;
            }
            // SAFETY: such a symbol is a function without arguments that returns the function to use; the loader has
            // relocated its object.
            unsafe { mem::transmute::<*mut c_void, extern "C" fn() -> *mut c_void>(address)() }
        })
    }

    /// The address of a symbol.
    pub const fn address(&self, symbol: &Symbol) -> usize {
        self.base.wrapping_add(word(symbol.st_value))
    }

    /// The first function of this name that is accepted; it is shown with its version.
    pub fn find<F>(&self, hashed: Name, name: &[u8], accept: F) -> Option<&Symbol>
    where
        F: FnMut(&Symbol, u16) -> bool,
    {
        match self.hash {
            Hash::Gnu(table) => self.by_gnu_hash(table, hashed.gnu_hash, name, accept),
            Hash::SysV(table) => self.by_sysv_hash(table, name, accept),
        }
    }

    fn by_gnu_hash<F>(&self, table: *const u32, hash: u32, name: &[u8], mut accept: F) -> Option<&Symbol>
    where
        F: FnMut(&Symbol, u16) -> bool,
    {
        // SAFETY: the loader searches these tables itself in this way: a header of four words, the words of the filter,
        // the buckets, and one word for each symbol from `first` on, of which the last of a bucket is odd.
        unsafe {
            let [buckets, first, words, shift] = *table.cast::<[u32; 4]>();
            #[allow(clippy::cast_ptr_alignment, reason = "the table is aligned as its words are")]
            let filter = table.add(4).cast::<usize>();
            let bits = *filter.add((hash / usize::BITS).checked_rem(words)? as usize);
            if bits >> (hash % usize::BITS) & bits >> ((hash >> (shift % 32)) % usize::BITS) & 1 == 0 {
                return None;
            }
            let bucket = table.add(4 + size_of::<usize>() / size_of::<u32>() * words as usize);
            let chain = bucket.add(buckets as usize);
            let mut index = *bucket.add(hash.checked_rem(buckets)? as usize);
            while index >= first {
                let of_symbol = *chain.add((index - first) as usize);
                if of_symbol | 1 == hash | 1
                    && let Some((symbol, version)) = self.symbol(index, name)
                    && accept(symbol, version)
                {
                    return Some(symbol);
                }
                if of_symbol & 1 == 1 {
                    break;
                }
                index += 1;
            }
        }
        None
    }

    fn by_sysv_hash<F>(&self, table: *const u32, name: &[u8], mut accept: F) -> Option<&Symbol>
    where
        F: FnMut(&Symbol, u16) -> bool,
    {
        let hash = name.iter().fold(0u32, |hash, byte| {
            let hash = (hash << 4).wrapping_add((*byte).into());
            (hash ^ (hash >> 28 << 4)) & 0x0fff_ffff
        });
        // SAFETY: as above: two words, the buckets, and the index of the next symbol for each symbol; 0 ends a bucket.
        unsafe {
            let [buckets, _] = *table.cast::<[u32; 2]>();
            let bucket = table.add(2);
            let chain = bucket.add(buckets as usize);
            let mut index = *bucket.add(hash.checked_rem(buckets)? as usize);
            while index != 0 {
                if let Some((symbol, version)) = self.symbol(index, name)
                    && accept(symbol, version)
                {
                    return Some(symbol);
                }
                index = *chain.add(index as usize);
            }
        }
        None
    }

    /// The symbol at `index` with its version, if it is a function that the object defines under this name.
    ///
    /// # Safety
    /// The index is from the object's own hash table.
    unsafe fn symbol(&self, index: u32, name: &[u8]) -> Option<(&Symbol, u16)> {
        let index = index as usize;
        // SAFETY: symbols and versions have an entry for each index.
        let (symbol, version, own_name) = unsafe {
            let symbol = &*self.symbols.add(index);
            let version = self.versions.map_or(0, |versions| *versions.add(index));
            (symbol, version, self.strings.add(symbol.st_name as usize).cast::<u8>())
        };
        // SAFETY: names end with a null byte, and nothing behind the first difference is read.
        let byte_at = |at| unsafe { *own_name.add(at) };
        let is_named = || name.iter().enumerate().all(|(at, byte)| byte_at(at) == *byte) && byte_at(name.len()) == 0;
        let defined = symbol.st_shndx != 0 && symbol.st_value != 0;
        let is_function = matches!(symbol.st_info & 0xf, NOTYPE | FUNC | GNU_IFUNC);
        let is_visible = matches!(symbol.st_info >> 4, GLOBAL | WEAK);
        (defined && is_function && is_visible && is_named()).then_some((symbol, version))
    }
}
