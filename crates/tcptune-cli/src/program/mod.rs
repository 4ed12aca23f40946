//! Looks at a program before it is started: where it is, what runs it, and what keeps the library out of it.

pub mod elf;
mod find;
mod imports;
mod obstacle;
mod script;
mod wrapper;

use std::ffi::{CString, OsStr, OsString};
use std::fs;
use std::os::unix::fs::MetadataExt;
use std::path::{Path, PathBuf};

use rustix::fs::StatVfsMountFlags;
use tcptune_core::settings::source::Process;

use self::elf::{Elf, Unfit, is_sanitizer};
pub use self::find::{find, known};
pub use self::obstacle::Obstacle;
use self::obstacle::Privilege;
use self::script::Interpreter;
use self::wrapper::Behind;

/// So many interpreters and wrappers are looked through; the kernel takes about six interpreters (execve(2)).
const LONGEST_CHAIN: usize = 12;

/// A program, and what executes it.
#[derive(Debug)]
pub struct Program {
    /// The file; behind it, for a script, its interpreter, or the program that it starts, and so on.
    pub chain: Vec<PathBuf>,
    /// The last one of the chain, if it can be read.
    pub elf: Option<Elf>,
    /// What keeps the library out.
    pub obstacles: Vec<Obstacle>,
}

/// With what a program would be started.
#[derive(Clone, Copy, Debug, Default)]
pub struct Around<'a> {
    /// `PATH`.
    pub search: Option<&'a OsStr>,
    /// `LD_PRELOAD`, as inherited.
    pub preload: Option<&'a OsStr>,
    /// The library, and what it is.
    pub library: Option<(&'a Path, &'a Elf)>,
}

impl Program {
    /// Looks at a file, through `#!` at what interprets it, and through what only starts another one.
    pub fn look(path: PathBuf, args: &[OsString], around: Around) -> Self {
        let mut program = Self { chain: vec![path], elf: None, obstacles: Vec::new() };
        let mut args = args.to_vec();
        while program.chain.len() < LONGEST_CHAIN {
            let file = program.file().to_owned();
            program.obstacles.extend(privilege(&file).map(Obstacle::SecureExecution));
            match Behind::of(&file, &args, around.library.map(|(path, _)| path)) {
                Some(Behind::Program(words)) => {
                    let Some((next, rest)) = words.split_first() else { break };
                    let Ok(next) = find(next, around.search) else { break };
                    args = rest.to_vec();
                    program.chain.push(next);
                    continue;
                }
                Some(Behind::Lost(loss)) => {
                    program.obstacles.push(Obstacle::Lost(loss));
                    program.elf = Elf::read(program.file()).ok();
                    return program;
                }
                None => {}
            }
            if let Some(interpreter) = Interpreter::of(&file) {
                if interpreter.has_carriage_return() {
                    program.obstacles.push(Obstacle::CarriageReturn);
                    return program;
                }
                if !interpreter.path.exists() {
                    program.obstacles.push(Obstacle::NoInterpreter(interpreter.path));
                    return program;
                }
                args.splice(0..0, interpreter.argument.into_iter().chain([file.into_os_string()]));
                program.chain.push(interpreter.path);
            } else {
                break;
            }
        }
        match Elf::read(program.file()) {
            Ok(elf) => {
                program.obstacles.extend(obstacles(&elf, around.library.map(|(_, elf)| elf)));
                let sanitizer = elf.sanitizer().filter(|_| !has_sanitizer(around.preload));
                program.obstacles.extend(sanitizer.map(|library| Obstacle::Sanitizer(library.to_owned())));
                if elf.is_dynamic() && imports::past_libc(program.file(), &elf) {
                    program.obstacles.push(Obstacle::DirectCalls);
                }
                program.elf = Some(elf);
            }
            // Some may be executed, and not be read; what is no ELF file is a shell's (execvp(3)), or binfmt_misc's.
            Err(Unfit::Unreadable(_) | Unfit::NotElf) => {}
            Err(unfit) => program.obstacles.push(Obstacle::Unfit(unfit)),
        }
        program
    }

    /// By which names rules know it: of its executable, and of a script that it runs.
    pub fn process(&self) -> Process {
        let name = |path: &Path| path.file_name().map(|name| name.to_string_lossy().into_owned());
        let started = self.chain.first().and_then(|path| name(path));
        let names = name(self.file()).into_iter().chain(started).collect();
        Process { names, uid: rustix::process::geteuid().as_raw() }
    }

    /// What is executed in the end.
    pub fn file(&self) -> &Path {
        self.chain.last().map_or(Path::new(""), PathBuf::as_path)
    }
}

fn has_sanitizer(preload: Option<&OsStr>) -> bool {
    use std::os::unix::ffi::OsStrExt;
    preload.is_some_and(|list| list.as_bytes().split(|byte| matches!(byte, b' ' | b':')).any(is_sanitizer))
}

/// What an executable itself says.
pub fn obstacles(elf: &Elf, library: Option<&Elf>) -> Vec<Obstacle> {
    let mut obstacles = Vec::new();
    if elf.is_go {
        obstacles.push(Obstacle::Go); // whether static or not
    } else if elf.is_static() {
        obstacles.push(Obstacle::Static);
    }
    match (elf.machine, library.map(|library| library.machine)) {
        (program, Some(library)) if program != library => {
            obstacles.push(Obstacle::OtherMachine { program, library });
        }
        _ => obstacles.extend(elf.loader.clone().filter(|loader| !loader.exists()).map(Obstacle::NoLoader)),
    }
    obstacles
}

/// What execve(2) would give this user with the file, and so secure execution.
fn privilege(path: &Path) -> Option<Privilege> {
    const SETUID: u32 = 0o4000;
    const SETGID_AND_GROUP_EXECUTE: u32 = 0o2010;
    let metadata = fs::metadata(path).ok()?;
    let no_setuid = rustix::fs::statvfs(path).is_ok_and(|fs| fs.f_flag.contains(StatVfsMountFlags::NOSUID));
    if no_setuid || rustix::thread::no_new_privs().unwrap_or(false) {
        return None;
    }
    let (uid, gid) = (rustix::process::getuid().as_raw(), rustix::process::getgid().as_raw());
    let capabilities = || {
        let name = CString::from(c"security.capability");
        rustix::fs::getxattr(path, name, &mut [0_u8; 64]).is_ok()
    };
    if metadata.mode() & SETUID != 0 && metadata.uid() != uid {
        Some(Privilege::Setuid(metadata.uid()))
    } else if metadata.mode() & SETGID_AND_GROUP_EXECUTE == SETGID_AND_GROUP_EXECUTE && metadata.gid() != gid {
        Some(Privilege::Setgid(metadata.gid()))
    } else {
        (uid != 0 && capabilities()).then_some(Privilege::Capabilities)
    }
}
