//! Puts settings on a socket.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::fmt;
use std::net::IpAddr;
use std::ptr;
use std::sync::atomic::{AtomicPtr, AtomicU64, Ordering};

use libc::{c_int, socklen_t};

use crate::options::phase::Stages;
use crate::options::table::{SOCKET_OPTIONS, Since, Sockopt};
use crate::options::value::Value;
use crate::options::wire::Wire;
use crate::settings::profile::{Planned, Precedence, Profile};
use crate::sockets::address;
use crate::sockets::descriptor::{Fact, Mark};
use crate::sockets::family::Family;
use crate::sockets::real::Real;
use crate::system::{errno, files, network};

/// Applies the options of a stage, except those that the program has set itself where its values win. Leaves `errno`
/// alone.
pub fn stage(real: &Real, profile: &Profile, fd: c_int, mark: Mark, stage: Stages) {
    if profile.is_changed() {
        stage_of_rule(real, profile, fd, mark, stage);
    } else {
        whole_stage(real, profile, fd, mark, stage);
    }
}

// Two functions, for the stack: a connect has little.

#[inline(never)]
fn stage_of_rule(real: &Real, profile: &Profile, fd: c_int, mark: Mark, stage: Stages) {
    whole_stage(real, profile, fd, mark, stage);
}

#[inline]
fn whole_stage(real: &Real, profile: &Profile, fd: c_int, mark: Mark, stage: Stages) {
    errno::preserved(|| {
        profile.at(stage, mark.passed(), |p| {
            if !is_programs(real, profile, fd, mark, p) {
                one(real, fd, mark, p);
            }
        });
    });
}

/// The same for the options of socket(2).
#[inline]
pub fn on_socket(real: &Real, profile: &Profile, fd: c_int, mark: Mark) {
    let Some(plan) = profile.on_socket() else { return stage(real, profile, fd, mark, Stages::SOCKET) };
    errno::preserved(|| {
        plan.iter().filter(|p| !is_programs(real, profile, fd, mark, p)).for_each(|p| one(real, fd, mark, p));
    });
}

/// Whether the program has set this option itself, and that counts: where its values win, or where it is a timeout that is
/// shorter than ours.
#[must_use]
#[inline]
pub fn is_programs(real: &Real, profile: &Profile, fd: c_int, mark: Mark, planned: &Planned) -> bool {
    mark.is(Fact::SET_BY_PROGRAM)
        && mark.is(Fact::set_by_program(planned.row))
        && (profile.precedence() == Precedence::Program || is_shorter(real, fd, planned))
}

/// Whether the socket has a timeout that is shorter than this one.
#[must_use]
pub fn is_shorter(real: &Real, fd: c_int, planned: &Planned) -> bool {
    let Value::Int(ours) = planned.value() else { return false };
    timeout(real, fd, planned).is_some_and(|on_socket| on_socket < ours)
}

/// The timeout that a socket has, in milliseconds: of a call that is to receive, or to send.
#[must_use]
pub fn timeout(real: &Real, fd: c_int, planned: &Planned) -> Option<i64> {
    let Sockopt { level, optname, wire: Wire::Timeval, .. } = planned.option else { return None };
    match Wire::Timeval.decode(&real.get(fd, level, optname).ok()?) {
        Value::Int(ms) if ms > 0 => Some(ms),
        _ => None,
    }
}

/// Applies one option. A refusal is a warning and never the program's business.
#[inline]
pub fn one(real: &Real, fd: c_int, mark: Mark, planned: &Planned) {
    let option = &planned.option;
    if option.level != libc::IPPROTO_IPV6 && option.v6.is_none() {
        at_level(real, fd, mark, planned, (option.level, option.optname));
    } else {
        of_both_families(real, fd, mark, planned);
    }
}

fn of_both_families(real: &Real, fd: c_int, mark: Mark, planned: &Planned) {
    let option = &planned.option;
    let v6 = mark.is(Fact::V6);
    if v6 || option.level != libc::IPPROTO_IPV6 {
        at_level(real, fd, mark, planned, (option.level, option.optname));
    }
    if let (true, Some(optname)) = (v6, option.v6) {
        at_level(real, fd, mark, planned, (libc::IPPROTO_IPV6, optname));
    }
}

#[inline]
fn at_level(real: &Real, fd: c_int, mark: Mark, planned: &Planned, option: (c_int, c_int)) {
    match real.set(fd, option.0, option.1, &planned.payload) {
        Ok(()) if log::log_enabled!(log::Level::Debug) => read_back(real, fd, planned, option),
        Ok(()) => {}
        Err(error) => refused(fd, mark, planned, error),
    }
}

/// Takes our `SO_SNDTIMEO` off.
pub fn no_send_timeout(real: &Real, fd: c_int) {
    if let Some(none) = Wire::Timeval.encode(&Value::Int(0)) {
        let _ = real.set(fd, libc::SOL_SOCKET, libc::SO_SNDTIMEO, &none);
    }
}

/// Binds a socket to the address that its connection shall come from. A refusal is a warning.
pub fn source(real: &Real, fd: c_int, mark: Mark, source: IpAddr) {
    static WARNED: Warned = Warned::none();
    // Without it bind would take a port that no other connection may use, whatever its peer.
    let _ = real.set_int(fd, libc::IPPROTO_IP, libc::IP_BIND_ADDRESS_NO_PORT, 1);
    match address::bind(fd, mark.is(Fact::V6), source) {
        Ok(()) => log::debug!("fd {fd}: comes from {source}"),
        Err(error) if WARNED.first_time(error) => {
            let named = errno::Named(error);
            log::warn!("TCPTUNE_SOURCE={source}: bind is refused with {named}; connects go on without it");
        }
        Err(_) => {}
    }
}

/// Whether a socket with `ETIMEDOUT` had never been connected: nothing ever came back, so no round-trip time is known.
#[must_use]
pub fn never_connected(real: &Real, fd: c_int) -> bool {
    // struct tcp_info: 8 bytes, then unsigned ints, of which the 16th is tcpi_rtt.
    let mut info = [u32::MAX; 18];
    let Ok(mut len) = socklen_t::try_from(size_of_val(&info)) else { return false };
    // SAFETY: live room and its length.
    let r = errno::preserved(|| unsafe {
        (real.getsockopt)(fd, libc::IPPROTO_TCP, libc::TCP_INFO, info.as_mut_ptr().cast(), &raw mut len)
    });
    r == 0 && info.last() == Some(&0)
}

/// Whether it neither is connected, nor connects, nor listens.
#[must_use]
pub fn is_closed(real: &Real, fd: c_int) -> bool {
    const TCP_CLOSE: u8 = 7; // netinet/tcp.h
    errno::preserved(|| real.tcp_state(fd).is_none_or(|state| state == TCP_CLOSE))
}

/// Whether it is a listener.
#[must_use]
pub fn listens(real: &Real, fd: c_int) -> bool {
    errno::preserved(|| real.get_int(fd, libc::SOL_SOCKET, libc::SO_ACCEPTCONN) == Ok(1))
}

/// Whether an accepted socket has what its listener has: it inherits all or nothing.
#[must_use]
pub fn inherited(real: &Real, profile: &Profile, listener: c_int, fd: c_int) -> bool {
    errno::preserved(|| {
        let value = |fd, p: &Planned| real.get(fd, p.option.level, p.option.optname);
        let mut same = None;
        profile.at(Stages::SOCKET, Stages::NONE, |p| {
            same = same.or_else(|| Some(value(fd, p) == value(listener, p)));
        });
        same.unwrap_or(true)
    })
}

/// What the descriptor is, asked of the kernel; `None` if it is no socket.
#[must_use]
pub fn mark(real: &Real, fd: c_int) -> Option<Mark> {
    errno::preserved(|| {
        let get = |name| real.get_int(fd, libc::SOL_SOCKET, name).ok();
        let protocol = get(libc::SO_PROTOCOL)?;
        if !matches!(protocol, libc::IPPROTO_TCP | libc::IPPROTO_MPTCP) {
            return Some(Mark::of(Family::Other));
        }
        let mark = Mark::of(Family::of_socket(get(libc::SO_TYPE)?, protocol));
        Some(if get(libc::SO_DOMAIN) == Some(libc::AF_INET6) { mark.with(Fact::V6) } else { mark })
    })
}

/// Whether the socket is the TCP or MPTCP socket that its mark says. Where a sandbox forbids the question, the mark is
/// believed.
#[must_use]
pub fn is(fd: c_int, mark: Mark) -> bool {
    let is = |level, name, value: Option<c_int>| match network::option_of(fd, level, name, 0) {
        Ok(found) => value.is_none_or(|value| found == value),
        Err(error) => !matches!(error, libc::EBADF | libc::ENOTSOCK | libc::EOPNOTSUPP | libc::ENOPROTOOPT),
    };
    if mark.family() == Some(Family::Mptcp) {
        return is(libc::SOL_SOCKET, libc::SO_PROTOCOL, Some(libc::IPPROTO_MPTCP))
            && is(libc::SOL_SOCKET, libc::SO_TYPE, Some(libc::SOCK_STREAM));
    }
    // One question: all of TCP have this option, and MPTCP and raw sockets refuse it.
    is(libc::IPPROTO_TCP, libc::TCP_LINGER2, None)
}

/// Reports what a socket has of the options that it was to inherit, and leaves `errno` alone.
#[cold]
pub fn show(real: &Real, profile: &Profile, fd: c_int) {
    errno::preserved(|| {
        profile.at(Stages::SOCKET, Stages::NONE, |planned| {
            read_back(real, fd, planned, (planned.option.level, planned.option.optname));
        });
    });
}

#[cold]
fn read_back(real: &Real, fd: c_int, planned: &Planned, (level, optname): (c_int, c_int)) {
    let Some(row) = planned.row() else { return };
    let v6 = if level == planned.option.level { "" } else { " for IPv6" };
    match real.get(fd, level, optname) {
        Ok(payload) => {
            let value = planned.option.wire.decode(&payload);
            let (name, ours) = (row.name(), planned.value());
            let (set, found) = (row.kind.show(&ours), row.kind.show(&value));
            log::debug!("fd {fd}: {name}={set}{v6}, the kernel says {found}");
        }
        Err(error) => log::debug!("fd {fd}: {}{v6} cannot be read back: {}", row.name(), errno::Named(error)),
    }
}

/// Errnos that were warned of; Linux has them up to 133.
struct Warned([AtomicU64; 3]);

impl Warned {
    const fn none() -> Self {
        Self([const { AtomicU64::new(0) }; 3])
    }

    /// Whether this errno has not been warned of yet.
    fn first_time(&self, error: c_int) -> bool {
        let error = usize::try_from(error).unwrap_or(0);
        let bit = 1 << (error % 64);
        self.0.get(error / 64).is_none_or(|word| word.fetch_or(bit, Ordering::Relaxed) & bit == 0)
    }
}

/// Where it is counted how many calls were refused, if it is.
// SAFETY: a section of initialised variables, in a page that start-up writes to anyway.
#[unsafe(link_section = ".data")]
static REFUSALS: AtomicPtr<AtomicU64> = AtomicPtr::new(ptr::null_mut());

/// From now on each option that the kernel refuses is counted there.
pub fn count_refusals(there: &'static AtomicU64) {
    REFUSALS.store(ptr::from_ref(there).cast_mut(), Ordering::Relaxed);
}

/// A row each.
static WARNED: [Warned; SOCKET_OPTIONS] = [const { Warned::none() }; SOCKET_OPTIONS];

/// Warns, once for each errno, that a connect goes on without its timeout because the kernel refused `call`.
#[cold]
pub fn no_timeout(fd: c_int, call: &str, error: c_int) {
    static WARNED: Warned = Warned::none();
    // These come of a mistake of the program's, which is told of it by its own call.
    if !matches!(error, libc::EBADF | libc::ENOTSOCK) && WARNED.first_time(error) {
        let error = errno::Named(error);
        log::warn!("fd {fd}: {call} is refused with {error}; connect has no timeout, and others may have none");
    }
}

#[cold]
fn refused(fd: c_int, mark: Mark, planned: &Planned, error: c_int) {
    let Some(row) = planned.row() else { return };
    let (name, value, named) = (row.name(), planned.value(), errno::Named(error));
    let value = row.kind.show(&value);
    if mark.family() == Some(Family::Mptcp) && matches!(error, libc::ENOPROTOOPT | libc::EOPNOTSUPP) {
        log::debug!("fd {fd}: MPTCP does not take TCPTUNE_{name}");
        return;
    }
    // SAFETY: null, or from a reference that is always good.
    if let Some(refusals) = unsafe { REFUSALS.load(Ordering::Relaxed).as_ref() } {
        refusals.fetch_add(1, Ordering::Relaxed);
    }
    if first_time(planned.row, error) {
        let why = Why { error, planned, since: row.since };
        log::warn!("TCPTUNE_{name}={value}: the kernel refused it with {named}{why}; sockets go on without it");
    }
}

/// Displays what an errno means for this option, where that can be said.
struct Why<'a> {
    error: c_int,
    planned: &'a Planned,
    since: Since,
}

impl fmt::Display for Why<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.error {
            libc::ENOPROTOOPT => write!(f, " (Linux {} has it)", self.since),
            libc::ENOENT if self.planned.option.is(libc::IPPROTO_TCP, libc::TCP_CONGESTION) => {
                let mut room = [0; 256];
                match files::short(c"/proc/sys/net/ipv4/tcp_available_congestion_control", &mut room) {
                    Some(offered) => write!(f, " (it offers {offered})"),
                    None => Ok(()),
                }
            }
            _ => Ok(()),
        }
    }
}

/// Whether this row has not been refused with this errno yet.
fn first_time(row: usize, error: c_int) -> bool {
    WARNED.get(row).is_none_or(|warned| warned.first_time(error))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_refusal_is_reported_once_for_each_row_and_errno() {
        assert!(first_time(0, libc::EPERM));
        assert!(!first_time(0, libc::EPERM));
        assert!(first_time(0, libc::ENOPROTOOPT));
        assert!(first_time(1, libc::EPERM));
        assert!(!first_time(0, libc::ENOPROTOOPT));
    }
}
