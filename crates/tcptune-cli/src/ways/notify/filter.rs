//! The seccomp filter: which system calls the supervisor is told of. All others pass at once.
//!
//! Classic BPF, made of what the settings need. A system call that no instruction looks into the arguments of costs a
//! bit in the kernel's table (Linux 5.11) and no run of the filter.

use libc::{c_long, sock_filter};
use tcptune_core::options::phase::Stages;
use tcptune_core::options::table::{OPTIONS, SECOND_NAMES, Sockopt, Target};
use tcptune_core::settings::profile::{Precedence, Profile};
use tcptune_core::settings::settled::Settings;

/// What the supervisor is told of.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
#[allow(clippy::struct_excessive_bools, reason = "each is a system call")]
pub struct Wanted {
    /// socket(2) of a stream of IPv4 or IPv6: where the supervisor cannot take descriptors, it makes them.
    pub socket: bool,
    /// connect(2), and sendto(2) and sendmsg(2) with `MSG_FASTOPEN`.
    pub connect: bool,
    /// bind(2).
    pub bind: bool,
    /// listen(2).
    pub listen: bool,
    /// setsockopt(2) of these options: level and name.
    pub options: Vec<(i32, i32)>,
    /// setsockopt(2) of these options succeeds without doing anything: where nobody could put ours back. They are
    /// options of TCP alone.
    pub ignored: Vec<(i32, i32)>,
    /// Whether io_uring_setup(2) answers `ENOSYS`.
    pub no_io_uring: bool,
}

impl Wanted {
    /// What these settings need.
    pub fn of(settings: &Settings) -> Self {
        let mut wanted = Self::default();
        if settings.leaves_all_alone() {
            return wanted;
        }
        let profiles = match settings.only_profile() {
            Some(profile) => std::slice::from_ref(profile),
            None => &settings.profiles,
        };
        for profile in profiles.iter().filter(|profile| !profile.is_empty()) {
            wanted.add(profile);
        }
        wanted.options.sort_unstable();
        wanted.options.dedup();
        wanted
    }

    /// All that any settings need.
    pub fn everything() -> Self {
        let options = OPTIONS.iter().filter_map(|opt| match opt.target {
            Target::Socket(option) => Some(option),
            Target::Own(_) => None,
        });
        let mut options: Vec<_> = options.flat_map(names).collect();
        options.sort_unstable();
        options.dedup();
        Self { connect: true, bind: true, listen: true, options, ..Self::default() }
    }

    /// The same, where no descriptor can be taken: sockets get their options when they are made, and what the program
    /// sets itself is ignored where it can be told to be of TCP.
    pub fn without_descriptors(self, settings: &Settings) -> Self {
        let ours = settings.only_profile().is_some_and(|profile| profile.precedence() == Precedence::Env);
        let ignored = self.options.into_iter().filter(|(level, _)| ours && *level == libc::IPPROTO_TCP);
        Self { socket: self.connect, ignored: ignored.collect(), no_io_uring: self.no_io_uring, ..Self::default() }
    }

    fn add(&mut self, profile: &Profile) {
        let has = |stage| profile.has_at(stage, Stages::NONE);
        let is_of_connects = profile.connect_timeout().is_some() || profile.has_source();
        self.connect |= is_of_connects || has(Stages::SOCKET) || has(Stages::CONNECT);
        self.bind |= has(Stages::BIND);
        self.listen |= has(Stages::SOCKET) || has(Stages::LISTEN) || profile.backlog().is_some();
        self.options.extend(profile.plan().into_iter().flat_map(|planned| names(planned.option)));
        if profile.connect_timeout().is_some() {
            self.options.push((libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT));
        }
    }

    /// Whether a program can be left to itself.
    pub fn is_empty(&self) -> bool {
        *self == Self::default()
    }
}

/// By which a program may set it.
fn names(option: Sockopt) -> impl Iterator<Item = (i32, i32)> {
    let v6 = option.v6.map(|name| (libc::IPPROTO_IPV6, name));
    let first = (option.level, option.optname);
    let second = SECOND_NAMES.iter().filter(move |(_, of)| *of == first).map(|(second, _)| *second);
    [first].into_iter().chain(v6).chain(second)
}

/// `AUDIT_ARCH_*` of linux/audit.h: the ELF machine, 64 bits, little-endian.
#[cfg(target_arch = "x86_64")]
const ARCHITECTURE: u32 = 0xc000_003e;
#[cfg(target_arch = "aarch64")]
const ARCHITECTURE: u32 = 0xc000_00b7;
#[cfg(target_arch = "riscv64")]
const ARCHITECTURE: u32 = 0xc000_00f3;

// Offsets in struct seccomp_data. Of an argument, the lower half.
const NUMBER: u32 = 0;
const ARCH: u32 = 4;
const fn argument(index: u32) -> u32 {
    16 + 8 * index
}

const LOAD: u16 = 0x20; // BPF_LD | BPF_W | BPF_ABS
const RETURN: u16 = 0x06; // BPF_RET | BPF_K
const EQUAL: u16 = 0x15; // BPF_JMP | BPF_JEQ | BPF_K
const AT_LEAST: u16 = 0x35; // BPF_JMP | BPF_JGE | BPF_K
const ANY_OF: u16 = 0x45; // BPF_JMP | BPF_JSET | BPF_K
const AND: u16 = 0x54; // BPF_ALU | BPF_AND | BPF_K

/// Shortest address of TCP: `struct sockaddr_in`.
const SHORTEST_ADDRESS: u32 = 16;
/// The bits of socket(2)'s type that are the type (linux/net.h).
const TYPE_MASK: u32 = 0xf;

const fn load(at: u32) -> sock_filter {
    sock_filter { code: LOAD, jt: 0, jf: 0, k: at }
}

const fn answer(action: u32) -> sock_filter {
    sock_filter { code: RETURN, jt: 0, jf: 0, k: action }
}

/// Goes on with the next instruction if it holds, else past as many.
const fn unless(code: u16, k: u32, past: u8) -> sock_filter {
    sock_filter { code, jt: 0, jf: past, k }
}

const PASS: sock_filter = answer(libc::SECCOMP_RET_ALLOW);
const TELL: sock_filter = answer(libc::SECCOMP_RET_USER_NOTIF);
const SUCCEED: sock_filter = answer(libc::SECCOMP_RET_ERRNO); // with errno 0
#[allow(clippy::cast_sign_loss, reason = "an errno")]
const NO_SUCH_CALL: sock_filter = answer(libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32);

/// The instructions.
pub fn program(wanted: &Wanted) -> Vec<sock_filter> {
    let mut calls: Vec<(c_long, Vec<sock_filter>)> = Vec::new();
    if wanted.connect {
        let address = vec![load(argument(2)), unless(AT_LEAST, SHORTEST_ADDRESS, 1), TELL, PASS];
        let fast_open = |index| vec![load(argument(index)), unless(ANY_OF, FAST_OPEN, 1), TELL, PASS];
        calls.push((libc::SYS_connect, address));
        calls.push((libc::SYS_sendto, fast_open(3)));
        calls.push((libc::SYS_sendmsg, fast_open(2)));
    }
    if !wanted.options.is_empty() {
        calls.push((libc::SYS_setsockopt, of_options(&wanted.options, TELL)));
    }
    if !wanted.ignored.is_empty() {
        calls.push((libc::SYS_setsockopt, of_options(&wanted.ignored, SUCCEED)));
    }
    if wanted.bind {
        calls.push((libc::SYS_bind, vec![TELL]));
    }
    if wanted.listen {
        calls.push((libc::SYS_listen, vec![TELL]));
    }
    if wanted.socket {
        calls.push((libc::SYS_socket, of_socket()));
    }
    if wanted.no_io_uring {
        calls.push((libc::SYS_io_uring_setup, vec![NO_SUCH_CALL]));
    }
    let mut program = vec![load(ARCH), sock_filter { jt: 1, ..unless(EQUAL, ARCHITECTURE, 0) }, PASS, load(NUMBER)];
    for (number, block) in calls {
        program.push(unless(EQUAL, number.try_into().unwrap_or(u32::MAX), length(&block)));
        program.extend(block);
    }
    program.push(PASS);
    program
}

#[allow(clippy::cast_sign_loss, reason = "a bit")]
const FAST_OPEN: u32 = libc::MSG_FASTOPEN as u32;

/// A jump past these instructions; the longest block has two for each option of the table, about 100.
fn length(block: &[sock_filter]) -> u8 {
    u8::try_from(block.len()).unwrap_or(u8::MAX)
}

/// `options` is sorted, so that those of a level stand together.
fn of_options(options: &[(i32, i32)], answer: sock_filter) -> Vec<sock_filter> {
    let mut block = Vec::new();
    for of_level in options.chunk_by(|a, b| a.0 == b.0) {
        let mut names = vec![load(argument(2))];
        for (_, name) in of_level {
            names.extend([unless(EQUAL, name.cast_unsigned(), 1), answer]);
        }
        names.push(PASS);
        let level = of_level.first().map_or(0, |(level, _)| level.cast_unsigned());
        block.extend([load(argument(1)), unless(EQUAL, level, length(&names))]);
        block.extend(names);
    }
    block.push(PASS);
    block
}

#[allow(clippy::cast_sign_loss, reason = "small constants")]
fn of_socket() -> Vec<sock_filter> {
    let stream = [
        load(argument(1)),
        sock_filter { code: AND, jt: 0, jf: 0, k: TYPE_MASK },
        unless(EQUAL, libc::SOCK_STREAM as u32, 1),
        TELL,
        PASS,
    ];
    let domain = load(argument(0));
    let v4 = sock_filter { jt: 1, ..unless(EQUAL, libc::AF_INET as u32, 0) };
    let v6 = unless(EQUAL, libc::AF_INET6 as u32, length(&stream));
    [domain, v4, v6].into_iter().chain(stream).chain([PASS]).collect()
}

#[cfg(test)]
mod tests {
    use super::*;
    use tcptune_core::settings::settle;

    const ALLOW: u32 = libc::SECCOMP_RET_ALLOW;
    const NOTIFY: u32 = libc::SECCOMP_RET_USER_NOTIF;

    /// As the kernel runs it.
    fn run(program: &[sock_filter], arch: u32, number: c_long, args: [u64; 6]) -> u32 {
        let mut data = Vec::new();
        data.extend(u32::try_from(number).expect("a number").to_le_bytes());
        data.extend(arch.to_le_bytes());
        data.extend(0u64.to_le_bytes());
        data.extend(args.iter().flat_map(|arg| arg.to_le_bytes()));
        let (mut at, mut value) = (0, 0u32);
        loop {
            let instruction = program[at];
            at += 1;
            let jump = |holds: bool| usize::from(if holds { instruction.jt } else { instruction.jf });
            let k = instruction.k;
            match instruction.code {
                LOAD => value = u32::from_le_bytes(data[k as usize..][..4].try_into().expect("four bytes")),
                AND => value &= k,
                EQUAL => at += jump(value == k),
                AT_LEAST => at += jump(value >= k),
                ANY_OF => at += jump(value & k != 0),
                RETURN => return k,
                other => panic!("{other:#x}"),
            }
        }
    }

    fn wanted(variables: &[(&str, &str)]) -> Wanted {
        Wanted::of(&settle::parse(variables, || unreachable!()).0)
    }

    fn verdict(wanted: &Wanted, number: c_long, args: [u64; 6]) -> u32 {
        run(&program(wanted), ARCHITECTURE, number, args)
    }

    #[test]
    fn what_no_setting_needs_passes() {
        assert!(wanted(&[]).is_empty());
        let all = Wanted { socket: true, no_io_uring: true, ..Wanted::everything() };
        for number in [libc::SYS_read, libc::SYS_accept4, libc::SYS_getsockopt, libc::SYS_close, libc::SYS_ppoll] {
            assert_eq!(verdict(&all, number, [u64::MAX; 6]), ALLOW);
        }
        let other = run(&program(&all), 0x4000_0003, libc::SYS_connect, [3, 0, 16, 0, 0, 0]);
        assert_eq!(other, ALLOW, "i386 has other numbers");
        assert!(program(&all).len() < 256 && program(&wanted(&[("KEEPIDLE", "60")])).len() < 40);
    }

    #[test]
    fn connects_and_fast_opens() {
        let w = wanted(&[("CONNECT_TIMEOUT", "3")]);
        for (length, expected) in [(16, NOTIFY), (28, NOTIFY), (128, NOTIFY), (15, ALLOW), (2, ALLOW)] {
            assert_eq!(verdict(&w, libc::SYS_connect, [3, 0, length, 0, 0, 0]), expected, "{length}");
        }
        let flags = u64::from(FAST_OPEN);
        assert_eq!(verdict(&w, libc::SYS_sendto, [3, 0, 0, flags, 0, 16]), NOTIFY);
        assert_eq!(verdict(&w, libc::SYS_sendto, [3, 0, 0, 0x4000, 0, 16]), ALLOW);
        assert_eq!(verdict(&w, libc::SYS_sendmsg, [3, 0, flags | 0x4000, 0, 0, 0]), NOTIFY);
        assert_eq!(verdict(&w, libc::SYS_bind, [3, 0, 16, 0, 0, 0]), ALLOW);
        assert_eq!(verdict(&w, libc::SYS_listen, [3, 5, 0, 0, 0, 0]), ALLOW);
    }

    #[test]
    #[allow(clippy::cast_sign_loss, reason = "small constants")]
    fn a_programs_own_setsockopt_of_a_row_that_is_set() {
        let w = wanted(&[
            ("KEEPIDLE", "60"),
            ("TOS", "16"),
            ("REUSEADDR", "on"),
            ("SNDBUF", "64K"),
            ("CONNECT_TIMEOUT", "3"),
        ]);
        let set = |level: i32, name: i32| verdict(&w, libc::SYS_setsockopt, [3, level as u64, name as u64, 0, 4, 0]);
        for (level, name) in [
            (libc::IPPROTO_TCP, libc::TCP_KEEPIDLE),
            (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT),
            (libc::SOL_SOCKET, libc::SO_KEEPALIVE),
            (libc::SOL_SOCKET, libc::SO_REUSEADDR),
            (libc::SOL_SOCKET, libc::SO_SNDBUFFORCE),
            (libc::IPPROTO_IP, libc::IP_TOS),
            (libc::IPPROTO_IPV6, libc::IPV6_TCLASS),
        ] {
            assert_eq!(set(level, name), NOTIFY, "{level} {name}");
            assert_eq!(set(level, name + 100), ALLOW, "{level} {name}");
        }
        assert_eq!(set(libc::SOL_SOCKET, libc::TCP_KEEPIDLE + 2), ALLOW);
        assert_eq!(set(libc::SOL_UDP, 4), ALLOW);
        assert_eq!((w.bind, w.listen), (true, true));
    }

    #[test]
    #[allow(clippy::cast_sign_loss, reason = "small constants")]
    fn without_descriptors_only_what_is_of_tcp_alone_is_ignored() {
        let settings = settle::parse(&[("KEEPIDLE", "60"), ("CONNECT_TIMEOUT", "3")], || unreachable!()).0;
        let w = Wanted::of(&settings).without_descriptors(&settings);
        let set = |level: i32, name: i32| verdict(&w, libc::SYS_setsockopt, [3, level as u64, name as u64, 0, 4, 0]);
        assert_eq!(set(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE), libc::SECCOMP_RET_ERRNO);
        assert_eq!(set(libc::SOL_SOCKET, libc::SO_KEEPALIVE), ALLOW, "UDP has it, too");
        assert_eq!(verdict(&w, libc::SYS_connect, [3, 0, 16, 0, 0, 0]), ALLOW);
        let program = settle::parse(&[("KEEPIDLE", "60"), ("PRECEDENCE", "program")], || unreachable!()).0;
        let w = Wanted::of(&program).without_descriptors(&program);
        assert!(w.socket && w.ignored.is_empty());
    }

    #[test]
    fn rules_count_as_well() {
        let w = wanted(&[("RULES", "dst=10.0.0.0/8 : NODELAY=on; role=server : BACKLOG=7")]);
        assert!(w.connect && w.listen && w.options == [(libc::IPPROTO_TCP, libc::TCP_NODELAY)]);
    }

    #[test]
    #[allow(clippy::cast_sign_loss, reason = "small constants")]
    fn sockets_and_io_uring_where_it_is_asked_for() {
        let w = Wanted { socket: true, no_io_uring: true, ..Wanted::default() };
        let socket = |domain: i32, kind: i32| verdict(&w, libc::SYS_socket, [domain as u64, kind as u64, 0, 0, 0, 0]);
        assert_eq!(socket(libc::AF_INET, libc::SOCK_STREAM | libc::SOCK_CLOEXEC | libc::SOCK_NONBLOCK), NOTIFY);
        assert_eq!(socket(libc::AF_INET6, libc::SOCK_STREAM), NOTIFY);
        assert_eq!(socket(libc::AF_INET, libc::SOCK_DGRAM), ALLOW);
        assert_eq!(socket(libc::AF_UNIX, libc::SOCK_STREAM), ALLOW);
        let refused = libc::SECCOMP_RET_ERRNO | libc::ENOSYS as u32;
        assert_eq!(verdict(&w, libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0]), refused);
        assert_eq!(verdict(&Wanted::everything(), libc::SYS_io_uring_setup, [8, 0, 0, 0, 0, 0]), ALLOW);
    }
}
