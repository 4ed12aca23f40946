//! What is done at a call that the supervisor is told of. The same core decides and applies as in the library; what it
//! remembers there of a descriptor is asked of the kernel here, and what the kernel does not tell is remembered by the
//! socket's cookie.

use std::net::SocketAddr;
use std::os::fd::{AsRawFd, OwnedFd, RawFd};
use std::sync::atomic::{AtomicBool, Ordering};

use libc::{c_int, socklen_t};
use rustix::io::Errno;
use tcptune_core::options::phase::Stages;
use tcptune_core::settings::profile::{Planned, Precedence, Profile};
use tcptune_core::settings::rules::Endpoint;
use tcptune_core::settings::settled::Settings;
use tcptune_core::sockets::decision::{self, Bound, Reason};
use tcptune_core::sockets::descriptor::{Fact, Mark};
use tcptune_core::sockets::family::Family;
use tcptune_core::sockets::{address, apply};
use tcptune_core::system::files;

use super::attempts::{Attempts, Begin};
use super::found;
use super::journal;
use super::listener::{Answer, Listener};
use super::made;
use super::policy::Policy;
use super::shared::Shared;
use super::threads::{self, Threads};
use crate::system::kernel::KERNEL;

/// What the supervisor works with.
pub struct Calls {
    pub listener: Listener,
    pub shared: &'static mut Shared,
    pub policy: Policy,
    pub attempts: Attempts,
    pub threads: Threads,
    /// Whether it is told of socket(2).
    pub makes_sockets: bool,
    /// The supervisor before this one was killed, and the line that says so is still to be written.
    pub taken_over: bool,
}

/// A TCP socket of the program.
struct Socket {
    /// A duplicate, for as long as the call is worked on.
    fd: OwnedFd,
    mark: Mark,
    cookie: u64,
    /// Its number in the program.
    number: c_int,
    thread: i32,
}

impl Socket {
    fn raw(&self) -> RawFd {
        self.fd.as_raw_fd()
    }
}

impl Calls {
    /// Does what there is to do at the call that has been received, and answers it.
    pub fn handle(&mut self) {
        journal::speak_for(self.shared.call.thread());
        if std::mem::take(&mut self.taken_over) {
            log::warn!("the supervisor was killed; another one goes on");
        }
        let answer = self.decide();
        self.listener.answer(&self.shared.call, answer);
    }

    fn decide(&mut self) -> Answer {
        let call = &self.shared.call;
        let (fd, thread) = (call.int(0), call.thread());
        match call.number() {
            libc::SYS_connect => self.connect(fd, (call.argument(1), call.int(2))),
            libc::SYS_sendto => self.connect(fd, (call.argument(4), call.int(5))),
            libc::SYS_sendmsg => self.connect(fd, destination(thread, call.argument(1))),
            libc::SYS_bind => self.bind(fd, (call.argument(1), call.int(2))),
            libc::SYS_listen => self.listen(fd, call.int(1)),
            libc::SYS_setsockopt => self.setsockopt(fd, call.int(1), call.int(2)),
            libc::SYS_socket => made::socket(self, call.int(0), call.int(1), call.int(2)),
            _ => Answer::GoOn,
        }
    }

    /// The TCP socket that a call is about; none if it is another file, or cannot be had.
    fn socket(&mut self, number: c_int) -> Option<Socket> {
        let (listener, call) = (&self.listener, &self.shared.call);
        let thread = call.thread();
        let fd = match self.threads.descriptor(thread, number, || listener.waits(call)) {
            Ok(fd) => fd,
            Err(error) => {
                self.cannot(thread, error);
                return None;
            }
        };
        let mark = apply::mark(&KERNEL, fd.as_raw_fd()).filter(|mark| is_tcp(*mark))?;
        let mut socket = Socket { cookie: found::cookie(&fd)?, fd, mark, number, thread };
        if let Some(known) = self.shared.get(socket.cookie) {
            socket.mark = socket.mark.and_set_on(known.set);
        }
        Some(socket)
    }

    /// What holds for a socket with this endpoint.
    fn choose(&mut self, socket: &Socket, settings: &'static Settings, endpoint: Endpoint) -> Option<Held> {
        if let Some(held) = everywhere(settings) {
            return Some(held);
        }
        let index = settings.rules.find(&endpoint, || address::local(socket.raw()).map(|local| local.ip()));
        let profile = settings.profile(index)?;
        if let Some(place) = self.shared.place(socket.cookie) {
            place.profile = index + 1;
        }
        match profile.rule {
            Some(rule) => log::debug!("fd {}: {endpoint}: the rule at {}", socket.number, settings.at(rule)),
            None => log::debug!("fd {}: {endpoint}: no rule matches", socket.number),
        }
        Some((index, profile))
    }

    /// Before connect(2), or what connects: options, source and timeout. The program's own call follows, so that
    /// blocking, signals and errors are the kernel's.
    fn connect(&mut self, number: c_int, to: (u64, c_int)) -> Answer {
        let Some(socket) = self.socket(number) else { return Answer::GoOn };
        let raw = socket.raw();
        if !apply::is_closed(&KERNEL, raw) {
            return Answer::GoOn; // a connect that goes on or is over, or a listener
        }
        let settings = self.policy.of(socket.thread);
        if settings.leaves_all_alone() {
            return Answer::GoOn;
        }
        let looks = |profile: &Profile| profile.has_source();
        let peer = if settings.only_profile().is_none_or(looks) {
            address_of(socket.thread, to).and_then(|bytes| bytes.address())
        } else {
            None
        };
        let held = match peer {
            Some(peer) => self.choose(&socket, settings, Endpoint::Client(peer)),
            None => everywhere(settings),
        };
        let Some((index, profile)) = held else { return Answer::GoOn };
        apply::stage(&KERNEL, profile, raw, socket.mark, Stages::SOCKET);
        if let Some(source) =
            peer.and_then(|peer| address::source_for(peer, socket.mark.is(Fact::V6), &profile.source()))
            && address::local(raw).is_some_and(|own| own.port() == 0 && own.ip().is_unspecified())
        {
            apply::source(&KERNEL, raw, socket.mark, source);
        }
        let later = at_connect(profile, &socket);
        let bound = bound(&socket, profile);
        let Socket { cookie, number: fd, thread, .. } = socket;
        let begin = Begin { socket: raw, cookie, index, bound, later, thread, fd };
        self.attempts.begin(self.shared, &begin);
        Answer::GoOn
    }

    /// Before bind(2).
    fn bind(&mut self, number: c_int, to: (u64, c_int)) -> Answer {
        let Some(socket) = self.socket(number) else { return Answer::GoOn };
        let settings = self.policy.of(socket.thread);
        if settings.leaves_all_alone() {
            return Answer::GoOn;
        }
        let address = match settings.only_profile() {
            Some(_) => None,
            None => address_of(socket.thread, to).and_then(|bytes| bytes.address_to_bind()),
        };
        let held = match address {
            Some(own) => self.choose(&socket, settings, Endpoint::Server(own)),
            None => everywhere(settings),
        };
        if let Some((_, profile)) = held {
            apply::stage(&KERNEL, profile, socket.raw(), socket.mark, Stages::BIND);
        }
        Answer::GoOn
    }

    /// In place of listen(2), where the backlog is another; else before it. What is accepted inherits.
    fn listen(&mut self, number: c_int, backlog: c_int) -> Answer {
        let Some(socket) = self.socket(number) else { return Answer::GoOn };
        let raw = socket.raw();
        let again = apply::listens(&KERNEL, raw);
        if !again && !apply::is_closed(&KERNEL, raw) {
            return Answer::GoOn;
        }
        let settings = self.policy.of(socket.thread);
        if settings.leaves_all_alone() {
            return Answer::GoOn;
        }
        let own = address::local(raw);
        let held = match own {
            Some(own) => self.choose(&socket, settings, Endpoint::Server(own)),
            None => everywhere(settings),
        };
        let Some((_, profile)) = held else { return Answer::GoOn };
        if !again {
            apply::stage(&KERNEL, profile, raw, socket.mark, Stages::SOCKET);
            let bound = own.is_some_and(|own| own.port() != 0);
            let passed = if bound { Fact::passed(Stages::BIND) } else { Fact::passed(Stages::NONE) };
            apply::stage(&KERNEL, profile, raw, socket.mark.with(passed), Stages::LISTEN);
        }
        let Some(ours) = profile.backlog().filter(|_| profile.precedence() == Precedence::Env) else {
            return Answer::GoOn;
        };
        let ours = ours.instead_of(backlog);
        log::debug!("fd {number}: listen: backlog {ours} in place of {backlog}");
        // SAFETY: touches no memory.
        let r = unsafe { libc::listen(raw, ours) };
        Answer::Done(if r == 0 { Ok(()) } else { Err(tcptune_core::system::errno::get()) })
    }

    /// In place of a program's own setsockopt(2) of a row that is set: its value first, so that a wrong argument gets
    /// the kernel's error, and then ours.
    fn setsockopt(&mut self, number: c_int, level: c_int, name: c_int) -> Answer {
        let Some(socket) = self.socket(number) else { return Answer::GoOn };
        let settings = self.policy.of(socket.thread);
        if settings.leaves_all_alone() {
            return Answer::GoOn;
        }
        let profile = self.profile_of(&socket, settings);
        if profile.is_none_or(|profile| profile.precedence() == Precedence::Program) {
            if let Some(place) = self.shared.place(socket.cookie) {
                place.set = place.set.and_program_set(level, name);
            }
            return self.own_user_timeout(&socket, level, name, None);
        }
        let follow_up = profile.and_then(|profile| decision::follow_up(profile, level, name, passed(&socket)));
        self.own_user_timeout(&socket, level, name, follow_up)
    }

    /// The program's value, and ours after it where there is one. While an attempt goes on, its user timeout stays, and
    /// what is put back after it is what should hold.
    fn own_user_timeout(&mut self, socket: &Socket, level: c_int, name: c_int, ours: Option<Planned>) -> Answer {
        let raw = socket.raw();
        let attempt = self.shared.get(socket.cookie).map(|known| known.attempt).filter(|attempt| {
            (level, name) == (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT) && attempt.is_some() && attempt.during != 0
        });
        if ours.is_none() && attempt.is_none() {
            return Answer::GoOn;
        }
        let call = &self.shared.call;
        let (at, len) = (call.argument(3), call.int(4));
        let mut value = [0; LONGEST_VALUE];
        let length = usize::try_from(len).unwrap_or(0).min(LONGEST_VALUE);
        if threads::read(socket.thread, at, &mut value[..length]).is_err() {
            return Answer::GoOn; // EFAULT is the kernel's to say
        }
        // SAFETY: so many live bytes, or a length that the kernel refuses.
        let r = unsafe {
            let len = if len < 0 { len } else { c_int::try_from(length).unwrap_or(0) };
            libc::setsockopt(raw, level, name, value.as_ptr().cast(), len.cast_unsigned())
        };
        if r != 0 {
            return Answer::Done(Err(tcptune_core::system::errno::get()));
        }
        if let Some(ours) = ours {
            let row = ours.row().map_or("", |row| row.name());
            log::debug!("fd {}: the program set {row}; the environment wins", socket.number);
            apply::one(&KERNEL, raw, socket.mark, &ours);
        }
        if let Some(attempt) = attempt
            && let Ok(after) = KERNEL.get_int(raw, level, name)
            && let Some(place) = self.shared.place(socket.cookie)
        {
            place.attempt.after = after.cast_unsigned();
            let _ = KERNEL.set_int(raw, level, name, attempt.during.cast_signed());
        }
        Answer::Done(Ok(()))
    }

    /// What holds for a socket that is known, or was accepted; none for one that has not been connected yet, where
    /// rules look at addresses.
    fn profile_of(&mut self, socket: &Socket, settings: &'static Settings) -> Option<&'static Profile> {
        if let Some(profile) = settings.only_profile() {
            return Some(profile);
        }
        if let Some(known) = self.shared.get(socket.cookie).filter(|known| known.profile != 0) {
            return settings.profile(known.profile - 1);
        }
        if apply::is_closed(&KERNEL, socket.raw()) {
            return None;
        }
        let own = address::local(socket.raw())?;
        self.choose(socket, settings, Endpoint::Server(own)).map(|(_, profile)| profile)
    }

    /// Says once that a program's descriptors cannot be had. What it does wrong itself is its own affair, and sockets
    /// that were made for it have their options.
    fn cannot(&self, thread: i32, error: Errno) {
        static WARNED: AtomicBool = AtomicBool::new(false);
        let is_its_own = matches!(error, Errno::BADF | Errno::SRCH);
        if !is_its_own && !self.makes_sockets && !WARNED.swap(true, Ordering::Relaxed) {
            let process = threads::process(thread).unwrap_or(thread);
            log::warn!(
                "process {process}: its descriptors cannot be taken (pidfd_getfd(2): {error}), for it is protected or \
                 another user's; its sockets are left alone, and those of others like it"
            );
        }
    }

    /// Looks at the attempts that are due.
    pub fn look(&mut self) {
        let Self { shared, policy, attempts, threads, .. } = self;
        attempts.look(shared, threads, &mut |thread, index| policy.of(thread).profile(index));
    }
}

/// How many milliseconds connecting may take. A blocking connect waits in the kernel as well, so that both kinds are
/// bounded there.
fn bound(socket: &Socket, profile: &Profile) -> Option<c_int> {
    let family = socket.mark.family().unwrap_or(Family::Other);
    match decision::bound(Some(profile), family, || Some(libc::O_NONBLOCK)) {
        Bound::Kernel(ms) => {
            let (fd, s) = (socket.number, ms / 1000);
            log::debug!("fd {fd}: connect: connect timeout {s}.{:03} s by TCP_USER_TIMEOUT", ms % 1000);
            Some(ms)
        }
        Bound::Leave(Reason::MptcpNonblocking) => {
            log::debug!("fd {}: connect: left alone, MPTCP has no TCP_USER_TIMEOUT", socket.number);
            None
        }
        Bound::Leave(_) | Bound::Poll { .. } => None,
    }
}

/// Longest value that is read: the longest of the table is a name of 16 bytes, and the kernel looks at no more of others.
const LONGEST_VALUE: usize = 64;

/// A profile and its number.
type Held = (u32, &'static Profile);

/// What holds for every socket, where no rule looks at addresses.
fn everywhere(settings: &'static Settings) -> Option<Held> {
    Some((settings.rules.fallback(), settings.only_profile()?))
}

fn is_tcp(mark: Mark) -> bool {
    matches!(mark.family(), Some(Family::Tcp | Family::Mptcp))
}

/// The stages whose options are on a socket: what a later one applies need not follow the program's.
fn passed(socket: &Socket) -> Stages {
    let raw = socket.raw();
    if apply::is_closed(&KERNEL, raw) {
        Stages::NONE
    } else if apply::listens(&KERNEL, raw) {
        Stages::SOCKET.or(Stages::BIND).or(Stages::LISTEN)
    } else {
        Stages::SOCKET.or(Stages::CONNECT)
    }
}

/// Sets the options of the time after connect that may be set before it. Returns whether others have to wait until it is
/// over.
fn at_connect(profile: &Profile, socket: &Socket) -> bool {
    if !profile.has_at(Stages::CONNECT, Stages::NONE) {
        return false;
    }
    let waits = files::status_flags(socket.raw()).is_ok_and(|flags| flags & libc::O_NONBLOCK == 0);
    let mut later = false;
    apply::each(profile, Stages::CONNECT, |planned| {
        let option = &planned.option;
        // SO_SNDTIMEO bounds a connect that waits (socket(7)), and the handshake undoes TCP_QUICKACK.
        if option.is(libc::IPPROTO_TCP, libc::TCP_QUICKACK) || (waits && option.is(libc::SOL_SOCKET, libc::SO_SNDTIMEO))
        {
            later = true;
        } else if !(profile.precedence() == Precedence::Program && socket.mark.is(Fact::set_by_program(planned.row))) {
            apply::one(&KERNEL, socket.raw(), socket.mark, planned);
        }
    });
    later
}

/// The bytes of an address that a thread has in its memory.
struct AddressBytes {
    bytes: [u8; 28],
    len: socklen_t,
}

impl AddressBytes {
    fn address(&self) -> Option<SocketAddr> {
        address::of_program(self.bytes.as_ptr().cast(), self.len)
    }

    fn address_to_bind(&self) -> Option<SocketAddr> {
        address::to_bind(self.bytes.as_ptr().cast(), self.len)
    }
}

fn address_of(thread: i32, (at, len): (u64, c_int)) -> Option<AddressBytes> {
    let mut address = AddressBytes { bytes: [0; 28], len: 0 };
    let room = address.bytes.len().min(usize::try_from(len).ok()?);
    threads::read(thread, at, &mut address.bytes[..room]).ok()?;
    address.len = socklen_t::try_from(room).ok()?;
    Some(address)
}

/// Where sendmsg(2) sends to: the first two fields of `struct msghdr`.
fn destination(thread: i32, message: u64) -> (u64, c_int) {
    let mut fields = [0; 12];
    if threads::read(thread, message, &mut fields).is_err() {
        return (0, 0);
    }
    let (name, len) = fields.split_at(8);
    let name = name.try_into().map_or(0, u64::from_ne_bytes);
    (name, len.try_into().map_or(0, c_int::from_ne_bytes))
}
