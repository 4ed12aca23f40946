//! Messages of the supervisor: as the library's, in the program's name. Nothing of the program is kept open: its standard
//! error is taken for each line, if it is still what it was at start.

use std::fmt::Arguments;
use std::fs::{self, OpenOptions};
use std::io::Write;
use std::os::fd::{AsFd, OwnedFd};
use std::os::unix::fs::OpenOptionsExt;
use std::path::PathBuf;
use std::sync::OnceLock;
use std::sync::atomic::{AtomicI32, Ordering};

use log::{LevelFilter, Log, Metadata, Record};
use rustix::event::{PollFd, PollFlags, Timespec};
use rustix::fs::{FileType, Stat};

use super::threads;
use crate::system::variables;

static JOURNAL: OnceLock<Journal> = OnceLock::new();

/// The thread that lines are about; 0: this process.
static ABOUT: AtomicI32 = AtomicI32::new(0);

struct Journal {
    file: Option<PathBuf>,
    /// Standard error at start, by device and inode, if lines may go there.
    stderr: Option<(u64, u64)>,
    /// Its path, for programs whose descriptors cannot be taken.
    path: Option<PathBuf>,
}

/// Begins: lines of this level go to the file, or to the standard error of now.
pub fn start(level: LevelFilter, file: Option<PathBuf>) {
    let stderr = rustix::fs::fstat(std::io::stderr()).ok().filter(|stat| !is_a_peers(stat));
    let path = fs::read_link("/proc/self/fd/2").ok();
    let stderr = stderr.map(|stat| (stat.st_dev, stat.st_ino));
    let journal = JOURNAL.get_or_init(|| Journal { file, stderr, path });
    if log::set_logger(journal).is_ok() {
        log::set_max_level(level);
    }
}

/// A socket as standard error belongs to a peer (inetd), unless it is the journal's (systemd.exec(5)).
fn is_a_peers(stat: &Stat) -> bool {
    let journal = variables::own().journal_stream().and_then(|stream| stream.to_str());
    FileType::from_raw_mode(stat.st_mode) == FileType::Socket
        && journal.is_none_or(|stream| stream != format!("{}:{}", stat.st_dev, stat.st_ino))
}

/// From now on lines are about this thread.
pub fn speak_for(thread: i32) {
    ABOUT.store(thread, Ordering::Relaxed);
}

impl Log for Journal {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            self.write(&record.level().as_str().to_ascii_lowercase(), *record.args());
        }
    }

    fn flush(&self) {}
}

impl Journal {
    fn write(&self, level: &str, text: Arguments) {
        let about = ABOUT.load(Ordering::Relaxed);
        let process = threads::process(about).map_or_else(std::process::id, i32::cast_unsigned);
        let line = format!("tcptune[{process}]: {level}: {text}\n");
        // A line that cannot be written is lost: there is nobody to tell.
        if let Some(path) = &self.file {
            if let Ok(mut file) = appendable().create(true).open(path)
                && takes_a_line(&file)
            {
                let _ = file.write_all(line.as_bytes());
            }
        } else if let Some(stderr) = self.stderr_of(about)
            && takes_a_line(&stderr)
        {
            let _ = rustix::io::write(stderr, line.as_bytes());
        }
    }

    /// Standard error, if it is what it was.
    fn stderr_of(&self, thread: i32) -> Option<OwnedFd> {
        let stderr = if thread == 0 {
            std::io::stderr().as_fd().try_clone_to_owned().ok()?
        } else {
            let taken = threads::open(thread).and_then(|pidfd| threads::duplicate(&pidfd, libc::STDERR_FILENO));
            taken.ok().or_else(|| Some(appendable().open(self.path.as_ref()?).ok()?.into()))?
        };
        let stat = rustix::fs::fstat(&stderr).ok()?;
        (self.stderr == Some((stat.st_dev, stat.st_ino))).then_some(stderr)
    }
}

fn appendable() -> OpenOptions {
    let mut options = OpenOptions::new();
    options.append(true).mode(0o600).custom_flags(libc::O_NOFOLLOW | libc::O_NONBLOCK | libc::O_NOCTTY);
    options
}

/// Whether a write of a line would not wait (pipe(7): `POLLOUT` means room for `PIPE_BUF`).
fn takes_a_line(file: &impl AsFd) -> bool {
    let mut poll = [PollFd::new(file, PollFlags::OUT)];
    let now = Timespec { tv_sec: 0, tv_nsec: 0 };
    rustix::event::poll(&mut poll, Some(&now)).is_ok_and(|ready| ready == 1) && poll[0].revents() == PollFlags::OUT
}
