//! A cgroup of a test's own, programs in it, and a BPF program of another tool.

use std::fs::{self, File};
use std::io::{self, Write};
use std::net::TcpListener;
use std::os::fd::{AsRawFd, FromRawFd, OwnedFd};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicU32, Ordering};

use serde_json::Value as Json;

use crate::harness::{Ended, TCPTUNE, compiled_from, eventually};

/// Removed when dropped.
pub struct Group(PathBuf);

impl Group {
    /// A new one, or says why the test is skipped.
    pub fn or_skip(test: &str) -> Option<Self> {
        static WHY_NOT: OnceLock<Option<String>> = OnceLock::new();
        match WHY_NOT.get_or_init(|| Self::new().err().or_else(no_bpf)) {
            Some(why) => {
                println!("skipped: {test}: {why}");
                None
            }
            None => Some(Self::new().unwrap_or_else(|why| panic!("{why}"))),
        }
    }

    fn new() -> Result<Self, String> {
        static NUMBER: AtomicU32 = AtomicU32::new(0);
        let name = format!("tcptune-test-{}-{}", std::process::id(), NUMBER.fetch_add(1, Ordering::Relaxed));
        let path = mount()?.join(name);
        fs::create_dir(&path).map_err(|e| format!("{}: {e}", path.display()))?;
        Ok(Self(path))
    }

    pub fn path(&self) -> &Path {
        &self.0
    }

    /// The path as a word of a command line.
    pub fn word(&self) -> &str {
        self.0.to_str().expect("UTF-8")
    }

    /// One below it.
    pub fn below(&self, name: &str) -> Self {
        let path = self.0.join(name);
        fs::create_dir(&path).expect("a cgroup");
        Self(path)
    }

    /// Lets the command begin in it.
    pub fn enter(&self, command: &mut Command) {
        let procs = File::options().write(true).open(self.0.join("cgroup.procs")).expect("cgroup.procs");
        // SAFETY: write(2) is one system call; nothing is allocated between fork and exec.
        unsafe { command.pre_exec(move || (&procs).write_all(b"0")) };
    }

    /// Moves a process into it.
    pub fn take(&self, pid: u32) {
        fs::write(self.0.join("cgroup.procs"), pid.to_string()).expect("moved");
    }

    /// `tcptune attach --cgroup THIS ...`, which succeeds.
    pub fn attach(&self, args: &[&str]) {
        let ended = self.tcptune("attach", args);
        assert_eq!(ended.code, Some(0), "{args:?}: {ended:#?}");
    }

    pub fn detach(&self) {
        let ended = self.tcptune("detach", &[]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
    }

    /// `tcptune SUBCOMMAND --cgroup THIS ...`.
    pub fn tcptune(&self, subcommand: &str, args: &[&str]) -> Ended {
        Ended::of(Command::new(TCPTUNE).args([subcommand, "--cgroup", self.word()]).args(args))
    }

    /// What `tcptune attached` says of it alone.
    pub fn attached(&self) -> Option<Json> {
        let all = self.tcptune("attached", &["--json"]).json();
        let of_it = |it: &&Json| it["cgroup"] == self.word();
        all.as_array().expect("a list").iter().find(of_it).cloned()
    }

    /// One of its counts.
    pub fn count(&self, name: &str) -> u64 {
        let attached = self.attached().expect("attached");
        attached["counts"][name].as_u64().unwrap_or_else(|| panic!("{name}: {attached:#}"))
    }

    /// What the C client says, which runs in it.
    pub fn client(&self, args: &[&str]) -> Json {
        let mut command = Command::new(client());
        command.args(args);
        self.enter(&mut command);
        Ended::of(&mut command).json()
    }

    /// Kills each process in it.
    fn empty(&self) {
        for pid in fs::read_to_string(self.0.join("cgroup.procs")).unwrap_or_default().lines() {
            if let Ok(pid) = pid.parse() {
                // SAFETY: a process of the test.
                unsafe { libc::kill(pid, libc::SIGKILL) };
            }
        }
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        self.empty();
        if std::thread::panicking() {
            let _ = fs::remove_dir(&self.0);
        } else {
            eventually("the cgroup can be removed", || fs::remove_dir(&self.0).is_ok());
        }
    }
}

/// Where the hierarchy of version 2 is.
pub fn mount() -> Result<PathBuf, String> {
    let mounts = fs::read_to_string("/proc/self/mounts").map_err(|e| e.to_string())?;
    let mount = mounts.lines().find_map(|line| {
        let fields: Vec<_> = line.split(' ').collect();
        (fields.get(2) == Some(&"cgroup2")).then(|| PathBuf::from(fields[1]))
    });
    mount.ok_or_else(|| "no cgroup file system of version 2 is mounted".to_owned())
}

/// Why no BPF program can be attached here.
fn no_bpf() -> Option<String> {
    let group = Group::new().ok()?;
    let ended = group.tcptune("attach", &["--keepidle", "60"]);
    (ended.code == Some(126)).then(|| ended.stderr.trim().to_owned())
}

/// The C client, static.
pub fn client() -> PathBuf {
    compiled_from(&source("client.c"), "client-static", "cc", &["-O1", "-static"])
}

/// A file of `tests/cgroup/programs`.
pub fn source(name: &str) -> PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/cgroup/programs").join(name)
}

/// A listener of the test, which accepts by the queue of the kernel.
pub fn listener(address: &str) -> (TcpListener, String) {
    let listener = TcpListener::bind((address, 0)).expect("a loopback port");
    let port = listener.local_addr().expect("its address").port().to_string();
    (listener, port)
}

/// A BPF program as another tool may have attached it.
pub struct Other {
    cgroup: File,
    program: OwnedFd,
    kind: i32,
}

/// r0 = 1; exit
const NOTHING: [[u8; 8]; 2] = [[0xb7, 0, 0, 0, 1, 0, 0, 0], [0x95, 0, 0, 0, 0, 0, 0, 0]];

impl Other {
    /// For socket operations, and does nothing.
    pub fn attach(group: &Group) -> Self {
        Self::of(group, *b"another_tool\0\0\0\0", 13, 3, &NOTHING)
    }

    /// The same of another version of tcptune.
    pub fn version(group: &Group) -> Self {
        Self::of(group, *b"tcptune_sockops\0", 13, 3, &NOTHING)
    }

    /// Refuses each setsockopt(2) whose value the kernel has shown to programs in part only.
    pub fn refuses_long_values(group: &Group) -> Self {
        let instructions = [
            [0x61, 0x12, 32, 0, 0, 0, 0, 0], // r2 = the length
            [0xb7, 0, 0, 0, 1, 0, 0, 0],     // r0 = 1
            [0xb5, 2, 1, 0, 0, 0x10, 0, 0],  // if r2 <= 4096 skip
            [0xb7, 0, 0, 0, 0, 0, 0, 0],     // r0 = 0
            [0x95, 0, 0, 0, 0, 0, 0, 0],     // exit
        ];
        Self::of(group, *b"another_tool\0\0\0\0", 25, 22, &instructions)
    }

    fn of(group: &Group, name: [u8; 16], program: u32, kind: i32, instructions: &[[u8; 8]]) -> Self {
        #[repr(C)]
        #[derive(Default)]
        struct Load {
            program: u32,
            count: u32,
            instructions: u64,
            licence: u64,
            log: [u32; 6],
            name: [u8; 16],
            more: [u32; 2],
        }
        let licence = c"GPL";
        let mut load = Load {
            program,
            count: u32::try_from(instructions.len()).expect("few"),
            instructions: instructions.as_ptr().addr() as u64,
            licence: licence.as_ptr().addr() as u64,
            name,
            more: [0, if program == 13 { 0 } else { kind.cast_unsigned() }],
            ..Load::default()
        };
        let fd = bpf(5, &mut load).expect("loaded");
        // SAFETY: the call has made it.
        let program = unsafe { OwnedFd::from_raw_fd(fd) };
        let cgroup = File::open(group.path()).expect("the cgroup");
        bpf(8, &mut [cgroup.as_raw_fd(), fd, kind, 2]).expect("attached");
        Self { cgroup, program, kind }
    }

    /// Whether it is attached still.
    pub fn is_there(&self) -> bool {
        let again = bpf(8, &mut [self.cgroup.as_raw_fd(), self.program.as_raw_fd(), self.kind, 2]);
        again.is_err_and(|error| error.raw_os_error() == Some(libc::EINVAL))
    }
}

impl Drop for Other {
    fn drop(&mut self) {
        let _ = bpf(9, &mut [self.cgroup.as_raw_fd(), self.program.as_raw_fd(), self.kind, 0]);
    }
}

fn bpf<A>(command: i32, attributes: &mut A) -> io::Result<i32> {
    // SAFETY: the attributes of the command, whose pointers are to memory of the caller.
    let result = unsafe { libc::syscall(libc::SYS_bpf, command, std::ptr::from_mut(attributes), size_of::<A>()) };
    i32::try_from(result).ok().filter(|fd| *fd >= 0).ok_or_else(io::Error::last_os_error)
}

/// How many programs of each kind are attached to the cgroup itself.
pub fn programs_of(group: &Group) -> Vec<u32> {
    let cgroup = File::open(group.path()).expect("the cgroup");
    let count = |kind: u32| {
        let mut query = [cgroup.as_raw_fd().cast_unsigned(), kind, 0, 0, 0, 0, 0, 0];
        bpf(16, &mut query).map(|_| query[6]).expect("a count")
    };
    [3, 22, 8, 9].map(count).to_vec()
}
