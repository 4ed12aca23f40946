//! Addresses on a hook path: the program's own pointers, and the kernel's answers.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::mem;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};
use std::ptr;

use libc::{c_int, msghdr, sa_family_t, sockaddr, sockaddr_in, sockaddr_in6, socklen_t};

use crate::options::names::Addresses;
use crate::system::memory::is_readable;
use crate::system::network;

/// Longest address that is looked at.
const ROOM: usize = size_of::<sockaddr_in6>();

/// What the kernel takes for an IPv6 address: without the scope of RFC 2553 (`SIN6_LEN_RFC2133`).
const V6_LEN: usize = 24;

/// The bytes of a socket address.
#[repr(C, align(8))]
struct Bytes([u8; ROOM]);

impl Bytes {
    fn part<const N: usize>(&self, at: usize) -> Option<[u8; N]> {
        self.0.get(at..at + N)?.try_into().ok()
    }

    /// As socket calls take `len` bytes of it; `None` if it is of another family, or too short for its own.
    fn address(&self, len: usize) -> Option<SocketAddr> {
        let family = c_int::from(u16::from_ne_bytes(self.part(0)?));
        let port = u16::from_be_bytes(self.part(mem::offset_of!(sockaddr_in, sin_port))?);
        let ip: IpAddr = match family {
            libc::AF_INET if len >= size_of::<sockaddr_in>() => {
                self.part::<4>(mem::offset_of!(sockaddr_in, sin_addr))?.into()
            }
            libc::AF_INET6 if len >= V6_LEN => self.part::<16>(mem::offset_of!(sockaddr_in6, sin6_addr))?.into(),
            _ => return None,
        };
        Some(SocketAddr::new(ip.to_canonical(), port))
    }

    /// `AF_UNSPEC` with the wildcard address of IPv4.
    fn wildcard(&self) -> Option<SocketAddr> {
        let family = c_int::from(u16::from_ne_bytes(self.part(0)?));
        let port = u16::from_be_bytes(self.part(mem::offset_of!(sockaddr_in, sin_port))?);
        let ip = Ipv4Addr::from(self.part::<4>(mem::offset_of!(sockaddr_in, sin_addr))?);
        (family == libc::AF_UNSPEC && ip.is_unspecified()).then_some(SocketAddr::new(ip.into(), port))
    }
}

/// The address behind a program's pointer; `None` where it is not one of TCP, or cannot be read: the kernel has the
/// answer to that.
#[must_use]
pub fn of_program(addr: *const sockaddr, len: socklen_t) -> Option<SocketAddr> {
    read(addr, len, Bytes::address)
}

/// The same, for bind(2), which takes `AF_UNSPEC` with the wildcard address for IPv4, since old programs do not say.
#[must_use]
pub fn to_bind(addr: *const sockaddr, len: socklen_t) -> Option<SocketAddr> {
    read(addr, len, |bytes, len| bytes.address(len).or_else(|| bytes.wildcard()))
}

/// The address in a message of sendmsg(2), as the kernel finds it; none where it is null, or the message cannot be read.
#[must_use]
#[inline(never)] // for the stack: its frame is gone before the call connects
pub fn of_message(message: *const msghdr) -> Option<(*const sockaddr, socklen_t)> {
    let bytes = message.cast::<u8>();
    let (name, len) = (mem::offset_of!(msghdr, msg_name), mem::offset_of!(msghdr, msg_namelen));
    if message.is_null() || !is_readable(bytes, len + size_of::<socklen_t>()) {
        return None;
    }
    // SAFETY: all up to there can be read, though a program's pointer may not be aligned.
    let (name, len) = unsafe {
        (
            bytes.add(name).cast::<*const sockaddr>().read_unaligned(),
            bytes.add(len).cast::<socklen_t>().read_unaligned(),
        )
    };
    (!name.is_null()).then_some((name, len))
}

/// What is taken from the bytes that a program's pointer points to, and their number, as far as they are looked at.
fn read<T>(addr: *const sockaddr, len: socklen_t, take: impl FnOnce(&Bytes, usize) -> Option<T>) -> Option<T> {
    let len = usize::try_from(len).ok()?.min(ROOM);
    if len < size_of::<sockaddr_in>() {
        return None;
    }
    let from = addr.cast::<u8>();
    if from.is_null() || !is_readable(from, len) {
        return None;
    }
    let mut bytes = Bytes([0; ROOM]);
    // SAFETY: so many bytes can be read.
    unsafe { ptr::copy_nonoverlapping(from, bytes.0.as_mut_ptr(), len) };
    take(&bytes, len)
}

/// The address that a call has written to its room.
fn asked(call: impl FnOnce(&mut [u8]) -> Result<usize, c_int>) -> Option<SocketAddr> {
    let mut bytes = Bytes([0; ROOM]);
    let len = call(&mut bytes.0).ok()?;
    bytes.address(len)
}

/// The address that `fd` is bound to; unspecified where it is not.
#[must_use]
pub fn local(fd: c_int) -> Option<SocketAddr> {
    asked(|room| network::own_name(fd, room))
}

/// The same without the port.
#[must_use]
#[inline(never)] // for the stack: a connect has little
pub fn local_ip(fd: c_int) -> Option<IpAddr> {
    local(fd).map(|local| local.ip())
}

/// The peer of `fd`, if it is connected.
#[must_use]
pub fn peer(fd: c_int) -> Option<SocketAddr> {
    asked(|room| network::peer_name(fd, room))
}

/// The source of the same family as `peer`, for a socket of IPv6 or not; none where connect(2) goes to the source itself, or
/// has no such peer.
#[must_use]
pub fn source_for(peer: SocketAddr, v6: bool, sources: &Addresses) -> Option<IpAddr> {
    match peer.ip() {
        peer if peer.is_unspecified() || peer.is_ipv6() && !v6 => None,
        IpAddr::V4(_) => sources.v4.map(IpAddr::V4),
        IpAddr::V6(_) => sources.v6.map(IpAddr::V6),
    }
}

/// Binds a socket, IPv6 or not, to an address with a port of the kernel's choice.
///
/// # Errors
/// The kernel's errno.
pub fn bind(fd: c_int, v6: bool, source: IpAddr) -> Result<(), c_int> {
    match (v6, source) {
        (false, IpAddr::V4(source)) => bind_v4(fd, source),
        (false, IpAddr::V6(_)) => Err(libc::EAFNOSUPPORT),
        (true, IpAddr::V4(source)) => bind_v6(fd, source.to_ipv6_mapped()),
        (true, IpAddr::V6(source)) => bind_v6(fd, source),
    }
}

#[allow(clippy::cast_possible_truncation, reason = "2 and 10")]
const FAMILIES: (sa_family_t, sa_family_t) = (libc::AF_INET as sa_family_t, libc::AF_INET6 as sa_family_t);

fn bind_v4(fd: c_int, source: Ipv4Addr) -> Result<(), c_int> {
    let sin_addr = libc::in_addr { s_addr: u32::from_ne_bytes(source.octets()) };
    let address = sockaddr_in { sin_family: FAMILIES.0, sin_port: 0, sin_addr, sin_zero: [0; 8] };
    network::bind(fd, &address)
}

fn bind_v6(fd: c_int, source: Ipv6Addr) -> Result<(), c_int> {
    let address = sockaddr_in6 {
        sin6_family: FAMILIES.1,
        sin6_port: 0,
        sin6_flowinfo: 0,
        sin6_addr: libc::in6_addr { s6_addr: source.octets() },
        sin6_scope_id: 0,
    };
    network::bind(fd, &address)
}

#[cfg(test)]
#[allow(clippy::expect_used, clippy::disallowed_types, reason = "not on a hook path")]
mod tests {
    use super::*;

    fn v4(port: u16) -> sockaddr_in {
        let sin_addr = libc::in_addr { s_addr: u32::from_ne_bytes([127, 0, 0, 1]) };
        sockaddr_in { sin_family: FAMILIES.0, sin_port: port.to_be(), sin_addr, sin_zero: [0; 8] }
    }

    fn shown<T>(address: &T, len: usize) -> Option<String> {
        of_program((&raw const *address).cast(), socklen_t::try_from(len).expect("short")).map(|a| a.to_string())
    }

    #[test]
    fn reads_both_families_as_the_kernel_does() {
        assert_eq!(shown(&v4(80), 16).as_deref(), Some("127.0.0.1:80"));
        assert_eq!(shown(&v4(80), 15), None);
        assert_eq!(shown(&v4(80), 16).as_deref(), Some("127.0.0.1:80"));
        // SAFETY: all zeroes is a valid address.
        let mut v6: sockaddr_in6 = unsafe { mem::zeroed() };
        assert_eq!(shown(&v6, 28), None, "AF_UNSPEC");
        v6.sin6_family = FAMILIES.1;
        v6.sin6_port = 443u16.to_be();
        v6.sin6_addr.s6_addr = Ipv6Addr::LOCALHOST.octets();
        for (len, want) in [(28, Some("[::1]:443")), (24, Some("[::1]:443")), (23, None)] {
            assert_eq!(shown(&v6, len).as_deref(), want, "{len}");
        }
        v6.sin6_addr.s6_addr = Ipv4Addr::LOCALHOST.to_ipv6_mapped().octets();
        assert_eq!(shown(&v6, 28).as_deref(), Some("127.0.0.1:443"));
    }

    #[test]
    fn a_source_is_for_peers_that_are_somewhere_else() {
        let both = Addresses { v4: Some(Ipv4Addr::new(192, 0, 2, 9)), v6: Some(Ipv6Addr::LOCALHOST) };
        let source = |peer: &str, v6| {
            source_for(SocketAddr::new(peer.parse().expect("an address"), 80), v6, &both).map(|it| it.to_string())
        };
        for (peer, on_v4, on_v6) in [
            ("127.0.0.1", Some("192.0.2.9"), Some("192.0.2.9")),
            ("2001:db8::1", None, Some("::1")),
            ("0.0.0.0", None, None),
            ("::", None, None),
        ] {
            assert_eq!((source(peer, false).as_deref(), source(peer, true).as_deref()), (on_v4, on_v6), "{peer}");
        }
    }

    #[test]
    fn bind_takes_the_wildcard_without_a_family() {
        let address = |family, ip| {
            let sin_addr = libc::in_addr { s_addr: u32::from_ne_bytes(ip) };
            let address = sockaddr_in { sin_family: family, sin_addr, ..v4(80) };
            to_bind((&raw const address).cast(), 16).map(|a| a.to_string())
        };
        assert_eq!(address(0, [0; 4]).as_deref(), Some("0.0.0.0:80"));
        assert_eq!(address(0, [127, 0, 0, 1]), None);
        assert_eq!(address(FAMILIES.0, [127, 0, 0, 1]).as_deref(), Some("127.0.0.1:80"));
    }

    #[test]
    fn pointers_to_nowhere_are_the_kernels_affair() {
        for bad in [0usize, 8, 4096, usize::MAX - 8, usize::MAX] {
            assert_eq!(of_program(bad as *const sockaddr, 16), None, "{bad:#x}");
            assert_eq!(of_program(bad as *const sockaddr, 28), None, "{bad:#x}");
        }
        let page = 4096;
        // SAFETY: two pages of our own, of which the second becomes inaccessible; the address fits before it.
        unsafe {
            let (protection, flags) = (libc::PROT_READ | libc::PROT_WRITE, libc::MAP_PRIVATE | libc::MAP_ANONYMOUS);
            let pages = libc::mmap(ptr::null_mut(), 2 * page, protection, flags, -1, 0);
            assert_eq!(libc::mprotect(pages.add(page), page, libc::PROT_NONE), 0);
            let at = pages.add(page - 16).cast::<sockaddr_in>();
            at.write(v4(7));
            assert_eq!(of_program(at.cast(), 16).map(|a| a.port()), Some(7));
            assert_eq!(of_program(at.cast(), 28), None, "its end is on the second page");
        }
    }
}
