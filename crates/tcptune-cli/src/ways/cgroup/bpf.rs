//! bpf(2): the few commands that are needed here, each as the kernel's header has it (linux/bpf.h).

use std::ffi::c_int;
use std::io;
use std::os::fd::{AsRawFd, BorrowedFd, FromRawFd, OwnedFd, RawFd};

/// Of a program: when the kernel runs it, and what it is given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Kind {
    /// `BPF_PROG_TYPE_…`
    pub program: u32,
    /// `BPF_CGROUP_…`
    pub attach: u32,
    /// How the kernel and people call it.
    pub name: &'static str,
}

const MAP_CREATE: c_int = 0;
const MAP_LOOKUP_ELEM: c_int = 1;
const MAP_UPDATE_ELEM: c_int = 2;
const PROG_LOAD: c_int = 5;
const PROG_ATTACH: c_int = 8;
const PROG_DETACH: c_int = 9;
const PROG_GET_FD_BY_ID: c_int = 13;
const MAP_GET_FD_BY_ID: c_int = 14;
const OBJ_GET_INFO_BY_FD: c_int = 15;
const PROG_QUERY: c_int = 16;
const BTF_LOAD: c_int = 18;
const PROG_BIND_MAP: c_int = 35;

const ALLOW_MULTI: u32 = 2;
const REPLACE: u32 = 4;

const MAP_TYPE_ARRAY: u32 = 2;
const MAP_TYPE_SK_STORAGE: u32 = 24;
/// No memory for entries before they are made.
const NO_PREALLOC: u32 = 1;
/// An accepted socket gets a copy of its listener's.
const CLONE: u32 = 512;

/// Names are that long, with a null byte at the end.
const NAME: usize = 16;

/// No helper that is called here asks for the GPL.
const LICENCE: &std::ffi::CStr = c"MIT OR Apache-2.0";

/// Room for what the verifier says: its last lines tell what is wrong.
const LOG: usize = 1 << 20;

/// One call; what a command returns is a descriptor, or 0.
fn bpf<A>(command: c_int, attributes: &mut A) -> io::Result<c_int> {
    // SAFETY: each caller gives the attributes of its command, whose pointers are to live memory of the length beside.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(c_int::try_from(result).unwrap_or_default()) }
}

fn descriptor<A>(command: c_int, attributes: &mut A) -> io::Result<OwnedFd> {
    let fd = bpf(command, attributes)?;
    // SAFETY: the command has made it; the kernel opens them with O_CLOEXEC.
    Ok(unsafe { OwnedFd::from_raw_fd(fd) })
}

fn pointer<T: ?Sized>(to: *const T) -> u64 {
    to.cast::<u8>().addr() as u64
}

fn len<T>(of: &[T]) -> u32 {
    u32::try_from(of.len()).unwrap_or(u32::MAX)
}

fn named(name: &str) -> [u8; NAME] {
    let mut bytes = [0; NAME];
    bytes.iter_mut().take(NAME - 1).zip(name.bytes()).for_each(|(to, from)| *to = from);
    bytes
}

fn name(bytes: &[u8]) -> String {
    let end = bytes.iter().position(|byte| *byte == 0).unwrap_or(bytes.len());
    String::from_utf8_lossy(&bytes[..end]).into_owned()
}

#[repr(C)]
#[derive(Default)]
struct MapCreate {
    map_type: u32,
    key_size: u32,
    value_size: u32,
    max_entries: u32,
    map_flags: u32,
    inner_map_fd: u32,
    numa_node: u32,
    map_name: [u8; NAME],
    map_ifindex: u32,
    btf_fd: i32,
    btf_key_type_id: u32,
    btf_value_type_id: u32,
}

/// An array of one value.
pub fn array(name: &str, value_size: usize) -> io::Result<OwnedFd> {
    let value_size = u32::try_from(value_size).map_err(|_| io::ErrorKind::InvalidInput)?;
    let map_name = named(name);
    let (map_type, key_size, max_entries) = (MAP_TYPE_ARRAY, 4, 1);
    descriptor(
        MAP_CREATE,
        &mut MapCreate { map_type, key_size, value_size, max_entries, map_name, ..MapCreate::default() },
    )
}

/// A value of so many words beside each socket, for as long as the socket is there.
pub fn storage(name: &str, words: u32) -> io::Result<OwnedFd> {
    let types = descriptor(BTF_LOAD, &mut BtfLoad::of(&btf(words)))?;
    let mut attributes = MapCreate {
        map_type: MAP_TYPE_SK_STORAGE,
        key_size: 4,
        value_size: words * 4,
        map_flags: NO_PREALLOC | CLONE,
        map_name: named(name),
        btf_fd: types.as_raw_fd(),
        btf_key_type_id: 1,
        btf_value_type_id: 2,
        ..MapCreate::default()
    };
    descriptor(MAP_CREATE, &mut attributes)
}

#[repr(C)]
struct BtfLoad {
    btf: u64,
    log_buf: u64,
    size: u32,
    log_size: u32,
    log_level: u32,
    true_log_size: u32,
}

impl BtfLoad {
    fn of(types: &[u8]) -> Self {
        Self { btf: pointer(types), log_buf: 0, size: len(types), log_size: 0, log_level: 0, true_log_size: 0 }
    }
}

/// The types that a storage has to have (Documentation/bpf/btf.rst): 1 is `int`, 2 an array of so many.
fn btf(words: u32) -> Vec<u8> {
    const MAGIC_AND_VERSION: u32 =
        u32::from_ne_bytes(if cfg!(target_endian = "little") { [0x9f, 0xeb, 1, 0] } else { [0xeb, 0x9f, 1, 0] });
    const NAMES: &[u8] = b"\0int\0";
    const INT: u32 = 1 << 24;
    const ARRAY: u32 = 3 << 24;
    let types = [1, INT, 4, 1 << 24 | 32, /* of 32 bits with a sign */ 0, ARRAY, 0, 1, 1, words];
    let types_len = len(&types) * 4;
    let header = [MAGIC_AND_VERSION, 24, 0, types_len, types_len, len(NAMES)];
    header.iter().chain(&types).flat_map(|word| word.to_ne_bytes()).chain(NAMES.iter().copied()).collect()
}

#[repr(C)]
#[derive(Default)]
struct Element {
    map_fd: u32,
    reserved: u32,
    key: u64,
    value: u64,
    flags: u64,
}

impl Element {
    fn of<K>(map: BorrowedFd<'_>, key: &K, value: *const [u8]) -> Self {
        let map_fd = map.as_raw_fd().cast_unsigned();
        Self { map_fd, key: pointer(key), value: pointer(value), ..Self::default() }
    }
}

/// The value of an array.
pub fn read(map: BorrowedFd<'_>) -> io::Result<Vec<u8>> {
    let mut value = vec![0; value_size(map)?];
    bpf(MAP_LOOKUP_ELEM, &mut Element::of(map, &0_u32, &raw mut *value))?;
    Ok(value)
}

/// Sets it; it is as long as the array's values are.
pub fn write(map: BorrowedFd<'_>, value: &[u8]) -> io::Result<()> {
    bpf(MAP_UPDATE_ELEM, &mut Element::of(map, &0_u32, value)).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct ProgLoad {
    prog_type: u32,
    insn_cnt: u32,
    insns: u64,
    license: u64,
    log_level: u32,
    log_size: u32,
    log_buf: u64,
    kern_version: u32,
    prog_flags: u32,
    prog_name: [u8; NAME],
    prog_ifindex: u32,
    expected_attach_type: u32,
}

/// Loads a program; with the error, what the verifier had to say.
pub fn load(kind: Kind, instructions: &[[u8; 8]]) -> Result<OwnedFd, (io::Error, String)> {
    let mut attributes = ProgLoad {
        prog_type: kind.program,
        insn_cnt: len(instructions),
        insns: pointer(instructions),
        license: pointer(LICENCE.to_bytes_with_nul()),
        prog_name: named(kind.name),
        expected_attach_type: kind.attach,
        ..ProgLoad::default()
    };
    let error = match descriptor(PROG_LOAD, &mut attributes) {
        Ok(program) => return Ok(program),
        Err(error) => error,
    };
    // Once more, for the words of the verifier: asking for them costs much more than the check itself.
    let mut log = vec![0; LOG];
    attributes.log_level = 1;
    attributes.log_size = len(&log);
    attributes.log_buf = pointer(&raw mut *log);
    descriptor(PROG_LOAD, &mut attributes).map_err(|_| (error, name(&log)))
}

#[repr(C)]
#[derive(Default)]
struct Attach {
    target_fd: u32,
    bpf_fd: u32,
    kind: u32,
    flags: u32,
    replace_bpf_fd: u32,
}

impl Attach {
    fn of(kind: Kind, cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> Self {
        let unsigned = |fd: RawFd| fd.cast_unsigned();
        let (target_fd, bpf_fd) = (unsigned(cgroup.as_raw_fd()), unsigned(program.as_raw_fd()));
        Self { target_fd, bpf_fd, kind: kind.attach, ..Self::default() }
    }
}

/// Attaches it beside those of others, or in the place of `before`.
pub fn attach(
    kind: Kind,
    cgroup: BorrowedFd<'_>,
    program: BorrowedFd<'_>,
    before: Option<BorrowedFd<'_>>,
) -> io::Result<()> {
    let mut attributes = Attach { flags: ALLOW_MULTI, ..Attach::of(kind, cgroup, program) };
    if let Some(before) = before {
        attributes.flags |= REPLACE;
        attributes.replace_bpf_fd = before.as_raw_fd().cast_unsigned();
    }
    bpf(PROG_ATTACH, &mut attributes).map(drop)
}

pub fn detach(kind: Kind, cgroup: BorrowedFd<'_>, program: BorrowedFd<'_>) -> io::Result<()> {
    bpf(PROG_DETACH, &mut Attach::of(kind, cgroup, program)).map(drop)
}

#[repr(C)]
#[derive(Default)]
struct Query {
    target_fd: u32,
    attach_type: u32,
    flags: u32,
    attach_flags: u32,
    prog_ids: u64,
    prog_cnt: u32,
    reserved: u32,
}

/// The ids of the programs that are attached to a cgroup itself.
pub fn attached(kind: Kind, cgroup: BorrowedFd<'_>) -> io::Result<Vec<u32>> {
    // The kernel takes no more than 64 for a cgroup (BPF_CGROUP_MAX_PROGS).
    let mut ids = vec![0_u32; 64];
    let mut query = Query {
        target_fd: cgroup.as_raw_fd().cast_unsigned(),
        attach_type: kind.attach,
        prog_ids: pointer(&raw mut *ids),
        prog_cnt: len(&ids),
        ..Query::default()
    };
    bpf(PROG_QUERY, &mut query)?;
    ids.truncate(query.prog_cnt as usize);
    Ok(ids)
}

#[repr(C)]
#[derive(Default)]
struct ById {
    id: u32,
    next_id: u32,
    open_flags: u32,
}

/// A program; an error if it is gone.
pub fn program(id: u32) -> io::Result<OwnedFd> {
    descriptor(PROG_GET_FD_BY_ID, &mut ById { id, ..ById::default() })
}

/// A map.
pub fn map(id: u32) -> io::Result<OwnedFd> {
    descriptor(MAP_GET_FD_BY_ID, &mut ById { id, ..ById::default() })
}

#[repr(C)]
#[derive(Default)]
struct Info {
    bpf_fd: u32,
    len: u32,
    to: u64,
}

/// The first part of `struct bpf_prog_info`.
#[repr(C)]
#[derive(Default)]
struct ProgInfo {
    before: [u32; 13],
    nr_map_ids: u32,
    map_ids: u64,
    name: [u8; NAME],
}

/// The first part of `struct bpf_map_info`.
#[repr(C)]
#[derive(Default)]
struct MapInfo {
    before: [u32; 3],
    value_size: u32,
    more: [u32; 2],
    name: [u8; NAME],
}

fn info<I>(of: BorrowedFd<'_>, info: &mut I) -> io::Result<()> {
    let len = u32::try_from(size_of::<I>()).unwrap_or(u32::MAX);
    let to = pointer(std::ptr::from_mut(info));
    bpf(OBJ_GET_INFO_BY_FD, &mut Info { bpf_fd: of.as_raw_fd().cast_unsigned(), len, to }).map(drop)
}

/// The name of a program, and the ids of its maps.
pub fn program_info(program: BorrowedFd<'_>) -> io::Result<(String, Vec<u32>)> {
    let mut maps = vec![0_u32; 16];
    let mut of = ProgInfo { nr_map_ids: len(&maps), map_ids: pointer(&raw mut *maps), ..ProgInfo::default() };
    info(program, &mut of)?;
    maps.truncate(of.nr_map_ids as usize);
    Ok((name(&of.name), maps))
}

fn map_info(map: BorrowedFd<'_>) -> io::Result<MapInfo> {
    let mut of = MapInfo::default();
    info(map, &mut of)?;
    Ok(of)
}

/// The size of a map's values.
pub fn value_size(map: BorrowedFd<'_>) -> io::Result<usize> {
    Ok(map_info(map)?.value_size as usize)
}

/// The name of a map.
pub fn map_name(map: BorrowedFd<'_>) -> io::Result<String> {
    Ok(name(&map_info(map)?.name))
}

#[repr(C)]
struct BindMap {
    prog_fd: u32,
    map_fd: u32,
    flags: u32,
}

/// The map stays as long as the program does, also one that the program does not use.
pub fn bind_map(program: BorrowedFd<'_>, map: BorrowedFd<'_>) -> io::Result<()> {
    let (prog_fd, map_fd) = (program.as_raw_fd().cast_unsigned(), map.as_raw_fd().cast_unsigned());
    bpf(PROG_BIND_MAP, &mut BindMap { prog_fd, map_fd, flags: 0 }).map(drop)
}
