//! Names and addresses that stand in values.

use std::fmt;
use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

/// A name as the kernel takes it: `TCP_CA_NAME_MAX` and `IFNAMSIZ` are 16, with the null byte.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Name([u8; Self::SIZE]);

impl Name {
    /// Bytes of a name, with the null byte.
    pub const SIZE: usize = 16;

    /// The name in a text, if it can be one.
    #[must_use]
    pub fn new(text: &str) -> Option<Self> {
        let mut name = Self([0; Self::SIZE]);
        let fits = (1..Self::SIZE).contains(&text.len()) && text.bytes().all(|b| b.is_ascii_graphic() && b != b'/');
        name.0.get_mut(..text.len()).filter(|_| fits)?.copy_from_slice(text.as_bytes());
        Some(name)
    }

    /// What the kernel has written.
    #[must_use]
    pub const fn of_bytes(bytes: [u8; Self::SIZE]) -> Self {
        Self(bytes)
    }

    /// With the null byte.
    #[must_use]
    pub const fn bytes(&self) -> &[u8; Self::SIZE] {
        &self.0
    }

    /// The length without the null byte.
    #[must_use]
    pub fn len(&self) -> usize {
        self.0.iter().position(|b| *b == 0).unwrap_or(Self::SIZE)
    }

    /// Whether the kernel has written none.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

impl fmt::Display for Name {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let name = self.0.get(..self.len()).unwrap_or_default();
        f.write_str(std::str::from_utf8(name).unwrap_or("?"))
    }
}

/// At most one address of each family.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Addresses {
    /// The IPv4 one.
    pub v4: Option<Ipv4Addr>,
    /// The IPv6 one.
    pub v6: Option<Ipv6Addr>,
}

impl Addresses {
    #[cold]
    pub(crate) fn new(text: &str) -> Option<Self> {
        text.split(',').try_fold(Self::default(), |mut all, one| {
            let taken = match one.trim().parse().ok()? {
                IpAddr::V4(v4) => all.v4.replace(v4).is_some(),
                IpAddr::V6(v6) => all.v6.replace(v6).is_some(),
            };
            (!taken).then_some(all)
        })
    }
}

/// Code points by name (RFC 2474 class selectors, RFC 2597, RFC 3246, RFC 5865, RFC 8622). One text: each name of a table
/// would be a relocation at exec.
const CODE_POINTS: &str = "cs0=0 le=1 cs1=8 af11=10 af12=12 af13=14 cs2=16 af21=18 af22=20 af23=22 cs3=24 af31=26 af32=28 \
    af33=30 cs4=32 af41=34 af42=36 af43=38 cs5=40 va=44 ef=46 cs6=48 cs7=56";

fn code_points() -> impl Iterator<Item = (&'static str, i64)> {
    let named = CODE_POINTS.split_ascii_whitespace().filter_map(|named| named.split_once('='));
    named.filter_map(|(name, point)| Some((name, point.parse().ok()?)))
}

/// The code point of a name.
#[cold]
pub(crate) fn code_point(text: &str) -> Option<i64> {
    code_points().find(|(name, _)| name.eq_ignore_ascii_case(text)).map(|(_, point)| point)
}

/// The name of a code point, if it has one.
#[cold]
pub(crate) fn name_of_code_point(point: i64) -> Option<&'static str> {
    code_points().find(|(_, named)| *named == point).map(|(name, _)| name)
}
