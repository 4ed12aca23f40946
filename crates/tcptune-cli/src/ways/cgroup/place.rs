//! Which cgroup: a path, a unit of systemd, or that of a process.

use std::fmt;
use std::fs::{self, File};
use std::path::{Component, Path, PathBuf};
use std::time::{Duration, Instant};

use procfs::process::{MountInfo, Process};
use rustix::fs::FlockOperation;
use rustix::io::Errno;

use crate::screens::error::Error;

/// A detach waits for attempts to connect, and others for it.
const LONGEST: Duration = Duration::from_secs(70);
const PAUSE: Duration = Duration::from_millis(5);

/// A cgroup of version 2.
#[derive(Debug)]
pub struct Cgroup {
    /// Its directory.
    pub path: PathBuf,
    pub is_root: bool,
}

/// Where the version 2 hierarchy is mounted; in a hybrid one below the others.
pub fn mount() -> Result<PathBuf, Error> {
    let mounts = Process::myself().and_then(|me| me.mountinfo());
    let mounts =
        mounts.map_err(|error| Error::not_executable(format!("/proc/self/mountinfo cannot be read: {error}")))?;
    let of_version = |version: &str| mounts.0.iter().find(|mount: &&MountInfo| mount.fs_type == version);
    match (of_version("cgroup2"), of_version("cgroup")) {
        (Some(mount), _) => Ok(mount.mount_point.clone()),
        (None, Some(_)) => {
            Err(Error::not_executable("this machine has cgroups of version 1 only, which BPF cannot tune")
                .hint("mount version 2 beside them: mount -t cgroup2 none DIR; programs are in its root then"))
        }
        (None, None) => Err(Error::not_executable("no cgroup file system is mounted here")
            .hint("mount -t cgroup2 none /sys/fs/cgroup; in a container: run this on the host")),
    }
}

/// Its directory, whose name may be that of a user: on one line, whatever is in it.
impl fmt::Display for Cgroup {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = self.path.to_string_lossy();
        text.chars()
            .try_for_each(|c| if c.is_control() { write!(f, "{}", c.escape_default()) } else { write!(f, "{c}") })
    }
}

impl Cgroup {
    fn of(mount: &Path, path: PathBuf) -> Self {
        Self { is_root: path == mount, path }
    }

    /// A directory, or one below the mount.
    pub fn named(name: &Path) -> Result<Self, Error> {
        let mount = mount()?;
        // `.` is the directory of the shell, and never the root by this.
        let is_name = |part| matches!(part, Component::RootDir | Component::Normal(_));
        let below = name.components().all(is_name).then(|| mount.join(name.strip_prefix("/").unwrap_or(name)));
        let known = [Some(name.to_owned()), below].into_iter().filter_map(|path| path?.canonicalize().ok());
        match known.into_iter().find(|path| path.starts_with(&mount) && path.is_dir()) {
            Some(path) => Ok(Self::of(&mount, path)),
            None => Err(Error::failed(format!("{}: no cgroup of version 2", name.display()))
                .hint(format!("expected a directory below {}", mount.display()))),
        }
    }

    /// The one that systemd has made for a service, a slice or a scope.
    pub fn of_unit(unit: &str) -> Result<Self, Error> {
        let mount = mount()?;
        let unit = if unit.contains('.') { unit.to_owned() } else { format!("{unit}.service") };
        let mut found: Vec<_> = below(&mount).filter(|path| path.ends_with(&unit)).collect();
        match (found.pop(), found.is_empty()) {
            (Some(path), true) => Ok(Self::of(&mount, path)),
            (Some(path), false) => {
                found.push(path);
                let paths: Vec<_> = found.into_iter().map(|path| Self::of(&mount, path).to_string()).collect();
                Err(Error::failed(format!("{unit}: several cgroups have this name: {}", paths.join(", ")))
                    .hint("choose one with --cgroup"))
            }
            (None, _) => {
                Err(Error::failed(format!("{unit}: there is no cgroup of this name below {}", mount.display()))
                    .hint("a unit has one while it is running; `systemctl status` names it"))
            }
        }
    }

    /// That of a process.
    pub fn of_process(pid: i32) -> Result<Self, Error> {
        let mount = mount()?;
        let groups = Process::new(pid).and_then(|process| process.cgroups());
        let groups = groups.map_err(|error| match error {
            procfs::ProcError::NotFound(_) => Error::failed(format!("process {pid}: not there")),
            other => Error::failed(format!("process {pid}: its cgroup cannot be read: {other}")),
        })?;
        let Some(group) = groups.0.iter().find(|group| group.hierarchy == 0) else {
            return Err(Error::not_executable(format!("process {pid} is in no cgroup of version 2")));
        };
        // `/../…`: above the root that this cgroup namespace has.
        let below = Path::new(group.pathname.trim_start_matches('/'));
        let path: PathBuf = mount.join(below).components().collect(); // without a slash at the end
        if below.starts_with("..") || !path.is_dir() {
            let name = Self::of(&mount, group.pathname.clone().into());
            return Err(Error::failed(format!("process {pid}: its cgroup {name} cannot be seen from here"))
                .hint("run this on the host, outside of the container's cgroup namespace"));
        }
        Ok(Self::of(&mount, path))
    }

    /// All of them, the root first.
    pub fn all() -> Result<impl Iterator<Item = Self>, Error> {
        let mount = mount()?;
        Ok(std::iter::once(mount.clone()).chain(below(&mount)).map(move |path| Self::of(&mount, path)))
    }

    /// This one, then those around it, up to the root.
    pub fn with_ancestors(&self) -> Result<impl Iterator<Item = Self>, Error> {
        let mount = mount()?;
        let path = self.path.clone();
        let paths: Vec<_> = path.ancestors().take_while(|path| path.starts_with(&mount)).map(Path::to_owned).collect();
        Ok(paths.into_iter().map(move |path| Self::of(&mount, path)))
    }

    /// A descriptor of it.
    pub fn open(&self) -> Result<File, Error> {
        File::open(&self.path).map_err(|error| Error::failed(format!("{self}: {error}")))
    }

    /// The processes in it, without those of cgroups below.
    pub fn processes(&self) -> Vec<i32> {
        let text = fs::read_to_string(self.path.join("cgroup.procs")).unwrap_or_default();
        text.lines().filter_map(|line| line.parse().ok()).collect()
    }

    /// Why it holds more than an operator may mean by one process of it.
    pub fn is_wide(&self) -> Option<&'static str> {
        let last = self.path.file_name().unwrap_or_default().to_string_lossy();
        let (stem, kind) = last.rsplit_once('.').unwrap_or((&last, ""));
        if self.is_root {
            Some("the root: all programs of the machine")
        } else if stem.starts_with("session-") && kind == "scope" {
            Some("a user's whole session")
        } else if stem.starts_with("user@") || (stem.starts_with("user-") && kind == "slice") {
            Some("all programs of a user")
        } else {
            None
        }
    }
}

/// Keeps others of ours from changing what is attached to a cgroup; ends with the descriptor. Whoever can read the
/// directory can lock it, so that this does not wait for ever.
pub fn lock(cgroup: &File) -> Result<(), Error> {
    let deadline = Instant::now() + LONGEST;
    loop {
        match rustix::fs::flock(cgroup, FlockOperation::NonBlockingLockExclusive) {
            Ok(()) => return Ok(()),
            Err(Errno::WOULDBLOCK) if Instant::now() < deadline => std::thread::sleep(PAUSE),
            Err(Errno::WOULDBLOCK) => {
                let message = format!("another process has locked the cgroup for {} s", LONGEST.as_secs());
                return Err(Error::failed(message).hint("is another attach or detach waiting?"));
            }
            Err(error) => return Err(Error::failed(format!("the cgroup cannot be locked: {error}"))),
        }
    }
}

/// All directories below one.
fn below(directory: &Path) -> impl Iterator<Item = PathBuf> + use<> {
    let mut left = directories(directory);
    std::iter::from_fn(move || {
        let next = left.pop()?;
        left.extend(directories(&next));
        Some(next)
    })
}

/// The directories in one.
pub fn directories(of: &Path) -> Vec<PathBuf> {
    let Ok(entries) = fs::read_dir(of) else { return Vec::new() };
    let mut directories: Vec<_> = entries
        .flatten()
        .filter(|entry| entry.file_type().is_ok_and(|kind| kind.is_dir()))
        .map(|entry| entry.path())
        .collect();
    directories.sort_by(|a, b| b.cmp(a)); // the last is taken first
    directories
}
