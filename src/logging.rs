//! Log backend: a line is formatted in a page of its own and written by one system call.
//!
//! It calls the kernel directly: another library may interpose write(2), and no descriptor of the program may be
//! written to unless it is provably still the standard error of start-up.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ffi::CStr;
use std::fmt::{self, Write};
use std::slice;
use std::sync::atomic::{AtomicBool, Ordering};

use libc::c_int;
use log::{Level, LevelFilter, Log, Metadata, Record};
use once_cell::race::OnceBox;
use tcptune_core::system::clock::Date;
use tcptune_core::system::files::{self, File};
use tcptune_core::system::{errno, memory, network, process, signals};

/// Longest line; what is longer is cut.
const LINE: usize = 512;

// SAFETY: a section of initialised variables, in a page that start-up writes to anyway.
#[unsafe(link_section = ".data")]
static BACKEND: OnceBox<Backend> = OnceBox::new();

struct Backend {
    /// Appended to instead of standard error.
    file: Option<&'static CStr>,
    /// Whether it has been said that the file cannot be written to.
    complained: AtomicBool,
    /// Standard error as it was at start-up, if lines may go there.
    stderr: Option<Identity>,
}

/// Device and inode of an open file.
#[derive(Clone, Copy, PartialEq, Eq)]
struct Identity {
    device: libc::dev_t,
    inode: libc::ino64_t,
    mode: libc::mode_t,
}

/// What kind of file has this mode.
const fn kind(mode: libc::mode_t) -> libc::mode_t {
    mode & libc::S_IFMT
}

impl Identity {
    fn of(fd: c_int) -> Option<Self> {
        let status = files::status(fd).ok()?;
        Some(Self { device: status.st_dev, inode: status.st_ino, mode: status.st_mode })
    }

    fn is_socket(self) -> bool {
        kind(self.mode) == libc::S_IFSOCK
    }

    /// Whether `JOURNAL_STREAM` (systemd.exec(5)) names this file: `device:inode`.
    #[inline(never)] // few programs have a socket there
    fn is_journal(self, stream: &str) -> bool {
        stream
            .split_once(':')
            .is_some_and(|(device, inode)| device.parse() == Ok(self.device) && inode.parse() == Ok(self.inode))
    }
}

/// Starts logging at `level`. A socket as standard error belongs to a peer (inetd), unless it is the journal's.
pub fn start(level: LevelFilter, file: Option<&'static CStr>, journal_stream: Option<&str>) {
    let stderr = Identity::of(libc::STDERR_FILENO)
        .filter(|id| !id.is_socket() || journal_stream.is_some_and(|s| id.is_journal(s)));
    #[allow(clippy::disallowed_types, reason = "start-up is no hook path")]
    let backend = BACKEND.get_or_init(|| Box::new(Backend { file, complained: AtomicBool::new(false), stderr }));
    if log::set_logger(backend).is_ok() {
        log::set_max_level(level);
    }
}

/// A line that was asked for by a setting of its own, whatever the level.
pub fn always(text: fmt::Arguments) {
    if let Some(backend) = BACKEND.get() {
        backend.write(Level::Info, text);
    }
}

/// Writes a line of level error, whatever level is asked for, and ends the process.
pub fn last_words(text: fmt::Arguments) -> ! {
    match BACKEND.get() {
        Some(backend) => backend.write(Level::Error, text),
        // Before start-up: nobody has closed it yet.
        None => Line::lend(&mut |line| _ = write(libc::STDERR_FILENO, line.with(Level::Error, text))),
    }
    // SAFETY: ends the process.
    unsafe { libc::abort() }
}

impl Log for Backend {
    fn enabled(&self, metadata: &Metadata) -> bool {
        metadata.level() <= log::max_level()
    }

    fn log(&self, record: &Record) {
        if self.enabled(record.metadata()) {
            // What is shown may be asked of the kernel by functions of libc.
            errno::preserved(|| self.write(record.level(), *record.args()));
        }
    }

    fn flush(&self) {}
}

impl Backend {
    // A handler that connects may have little stack: what needs more room than formatting is done before it, or after.

    fn write(&self, level: Level, text: fmt::Arguments) {
        Line::lend(&mut |line| match self.file {
            None => self.to_stderr(line.with(level, text)),
            Some(path) => {
                if let Err(error) = append(path, line.dated().with(level, text))
                    && !self.complained.swap(true, Ordering::Relaxed)
                {
                    line.len = 0;
                    self.complain(path, errno::Named(error), line);
                }
            }
        });
    }

    #[cold]
    #[inline(never)]
    fn complain(&self, path: &CStr, error: errno::Named, line: &mut Line) {
        let path = std::str::from_utf8(path.to_bytes()).unwrap_or("?");
        let text = format_args!("TCPTUNE_LOG_FILE={path}: cannot be written to ({error}); messages are dropped");
        self.to_stderr(line.with(Level::Warn, text));
    }

    #[inline(never)]
    fn to_stderr(&self, line: &Line) {
        let Some(stderr) = self.stderr else { return };
        // A terminal that nobody reads says that there is room as long as there is a byte of it, and a line would wait: not on a
        // file description of our own.
        let own = Some(c"/proc/self/fd/2").filter(|_| kind(stderr.mode) == libc::S_IFCHR);
        let own = own.and_then(|path| File::open(path, libc::O_WRONLY | libc::O_NONBLOCK, 0).ok());
        let fd = own.as_ref().map_or(libc::STDERR_FILENO, File::fd);
        if Identity::of(fd) == Some(stderr) && takes_a_line(fd, stderr.mode) {
            let _ = write(fd, line);
        }
    }
}

/// A line that is put together.
struct Line<'a> {
    bytes: &'a mut [u8],
    len: usize,
}

impl Line<'_> {
    /// An empty one. It lies in a page of its own, not on the stack, of which a signal handler may have little; a static one
    /// would be in use where that handler has interrupted the thread that writes to it.
    fn lend(work: &mut dyn FnMut(&mut Line)) {
        let page = memory::map(LINE);
        if page.is_null() {
            return Self::lend_on_stack(work);
        }
        // SAFETY: so many bytes that nobody else knows.
        let bytes = unsafe { slice::from_raw_parts_mut(page, LINE) };
        work(&mut Line { bytes, len: 0 });
        // SAFETY: it was mapped with this size, and the line is gone.
        unsafe { memory::unmap(page, LINE) };
    }

    /// Without memory.
    #[cold]
    #[inline(never)]
    fn lend_on_stack(work: &mut dyn FnMut(&mut Line)) {
        work(&mut Line { bytes: &mut [0; LINE], len: 0 });
    }

    /// With the time, which a file does not keep as the journal does.
    #[inline(never)]
    fn dated(&mut self) -> &mut Self {
        let _ = write!(self, "{} ", Date::now());
        self
    }

    #[inline(never)]
    fn with(&mut self, level: Level, text: fmt::Arguments) -> &Self {
        let line = self;
        let level = match level {
            Level::Error => "error",
            Level::Warn => "warn",
            Level::Info => "info",
            Level::Debug => "debug",
            Level::Trace => "trace",
        };
        let pid = process::id();
        // A write that fails has filled the buffer: what fits is the line.
        let _ = write!(line, "tcptune[{pid}]: {level}: ");
        let _ = line.write_fmt(text);
        if let Some(last) = line.bytes.get_mut(line.len) {
            *last = b'\n';
            line.len += 1;
        }
        line
    }
}

impl Write for Line<'_> {
    fn write_str(&mut self, text: &str) -> fmt::Result {
        // One byte stays free for the newline.
        let room = LINE - 1 - self.len;
        let fits = (0..=text.len().min(room)).rev().find(|n| text.is_char_boundary(*n)).unwrap_or(0);
        let target = self.bytes.get_mut(self.len..self.len + fits).ok_or(fmt::Error)?;
        target.copy_from_slice(text.as_bytes().get(..fits).ok_or(fmt::Error)?);
        self.len += fits;
        if fits == text.len() { Ok(()) } else { Err(fmt::Error) }
    }
}

fn write(fd: c_int, line: &Line) -> Result<(), c_int> {
    // A write past RLIMIT_FSIZE raises SIGXFSZ, one that nobody reads SIGPIPE: either would end the program. SIGTTOU would stop one in
    // the background (termios(3), TOSTOP), and is not raised where it is blocked.
    let [too_large, no_reader, background] = [libc::SIGXFSZ, libc::SIGPIPE, libc::SIGTTOU].map(signals::bit);
    let before = signals::block(too_large | no_reader | background);
    let written = files::write(fd, line.bytes.get(..line.len).unwrap_or_default());
    let raised = match written {
        Err(libc::EFBIG) => too_large,
        Err(libc::EPIPE) => no_reader,
        _ => 0,
    };
    if raised & !before != 0 {
        signals::discard(raised);
    }
    signals::set_mask(before);
    if written? == line.len { Ok(()) } else { Err(libc::ENOSPC) }
}

/// Whether a write of a line to a file of this mode would not wait (pipe(7): `POLLOUT` means room for `PIPE_BUF`), as far
/// as the kernel tells: a sandbox that refuses the question lets the program write.
fn takes_a_line(fd: c_int, mode: libc::mode_t) -> bool {
    kind(mode) == libc::S_IFREG || network::ready(fd, libc::POLLOUT).unwrap_or(libc::POLLOUT) == libc::POLLOUT
}

/// Opened for each line: no descriptor is kept. `O_NONBLOCK` so that a FIFO without a reader is an error, not a wait.
#[inline(never)]
fn append(path: &CStr, line: &Line) -> Result<(), c_int> {
    let flags = libc::O_WRONLY | libc::O_CREAT | libc::O_APPEND | libc::O_NOFOLLOW | libc::O_NONBLOCK;
    let file = File::open(path, flags, 0o600)?;
    let mode = files::status(file.fd())?.st_mode;
    if takes_a_line(file.fd(), mode) { write(file.fd(), line) } else { Err(libc::ENXIO) }
}
