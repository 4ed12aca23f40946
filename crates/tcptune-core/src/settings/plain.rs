//! Rules as nearly all are written, read in one pass over their bytes: in lower case and ASCII, with single spaces.
//! Whatever is written in another way, or is wrong, is left to the grammar, which says why. A test compares the two.

use ipnet::{IpNet, Ipv4Net};

use crate::options::table;
use crate::settings::grammar::{self, Rule};
use crate::settings::rules::Role;

/// A rule that has been read, as far as the grammar would have to look for it.
pub(crate) struct Plain<'a> {
    /// Its first word.
    pub first: &'a str,
    /// What stands behind the colon.
    pub list: &'a str,
    /// Where it ends in its text.
    pub end: usize,
}

/// Reads the rule at the start of a text, all but its settings, in the place of the one before.
pub(crate) fn rule<'a>(text: &'a str, rule: &mut Rule<'a>) -> Option<Plain<'a>> {
    rule.clear();
    let (conditions, scope) = (&mut rule.conditions, &mut rule.scope);
    let mut words = Words(text.as_bytes());
    while words.skip(b" ") {}
    let start = words.0.len();
    let mut first = None;
    while !words.skip(b": ") {
        if words.skip(b"dst=") {
            words.items(&mut conditions.dst, |words| words.network(text))?;
        } else if words.skip(b"port=") {
            words.items(&mut conditions.ports, Words::ports)?;
        } else if words.skip(b"program=") {
            words.items(&mut scope.programs, |words| words.name(text))?;
        } else if words.skip(b"src=") {
            words.items(&mut conditions.src, |words| words.network(text))?;
        } else if words.skip(b"uid=") {
            words.items(&mut scope.uids, |words| words.number(u32::MAX))?;
        } else if words.skip(b"role=") && conditions.role.is_none() {
            conditions.role = Some(match () {
                () if words.skip(b"client ") => Role::Client,
                () if words.skip(b"server ") => Role::Server,
                () => return None,
            });
        } else {
            return None;
        }
        first = first.or(Some(words.0.len() + 1));
    }
    if conditions.role == Some(Role::Server) && !conditions.dst.is_empty() {
        return None;
    }
    let at = |rest: usize| text.len() - rest;
    let first = text.get(at(start)..at(first?))?;
    let (list, end) = words.list()?;
    let start = at(words.0.len());
    Some(Plain { first, list: text.get(start..start + list)?, end: start + end })
}

/// The names of the settings in the list before: most lists have the same ones, in the same order.
#[derive(Default)]
pub(crate) struct Names<'a>([(&'a str, usize); 8]);

impl<'a> Names<'a> {
    /// The setting at the start of a list, the one at this place in it: its row, its value, and what is behind it.
    pub fn setting(&mut self, list: &'a str, place: usize) -> Option<(usize, &'a str, &'a str)> {
        let mut unknown = ("", 0);
        let known = self.0.get_mut(place).unwrap_or(&mut unknown);
        if known.0.is_empty() || !list.starts_with(known.0) {
            let name = list.get(..=memchr::memchr(b'=', list.as_bytes())?)?;
            let (row, _) = table::find_in_any_case(name.strip_suffix('=')?)?;
            *known = (name, row);
        }
        let value = list.get(known.0.len()..)?;
        let length = value.bytes().position(|byte| !byte.is_ascii_graphic()).unwrap_or(value.len());
        let (value, behind) = value.split_at_checked(length)?;
        let behind = if behind.is_empty() { behind } else { behind.strip_prefix(' ')? };
        Some((known.1, value, behind))
    }
}

/// A text from a word on, or from within one.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Goes behind this, if it is next.
    #[inline]
    fn skip(&mut self, next: &[u8]) -> bool {
        let behind = self.0.strip_prefix(next);
        self.0 = behind.unwrap_or(self.0);
        behind.is_some()
    }

    /// A list with commas between, to the space behind it.
    #[inline]
    fn items<T>(&mut self, list: &mut Vec<T>, item: impl Fn(&mut Self) -> Option<T>) -> Option<()> {
        if !list.is_empty() {
            return None;
        }
        loop {
            list.push(item(self)?);
            let (end, behind) = self.0.split_first()?;
            self.0 = behind;
            match end {
                b' ' => return Some(()),
                b',' => {}
                _ => return None,
            }
        }
    }

    /// A decimal number of at most nine digits, up to this one.
    #[inline]
    fn number(&mut self, most: u32) -> Option<u32> {
        let (mut rest, mut number) = (self.0, 0_u32);
        while let [digit @ b'0'..=b'9', behind @ ..] = rest {
            number = number.wrapping_mul(10).wrapping_add((digit - b'0').into());
            rest = behind;
        }
        let digits = self.0.len() - rest.len();
        self.0 = rest;
        ((1..=9).contains(&digits) && number <= most).then_some(number)
    }

    #[inline]
    fn ports(&mut self) -> Option<(u16, u16)> {
        let first = self.number(u16::MAX.into())?;
        let last = if self.skip(b"-") { self.number(u16::MAX.into())? } else { first };
        (first <= last).then_some((first.try_into().ok()?, last.try_into().ok()?))
    }

    /// What stands before a comma or a space.
    #[inline]
    fn name(&mut self, text: &'a str) -> Option<&'a str> {
        let end =
            self.0.iter().position(|byte| matches!(byte, b',' | b' ' | b';' | b'#') || !byte.is_ascii_graphic())?;
        let start = text.len() - self.0.len();
        self.0 = self.0.get(end..)?;
        text.get(start..start + end).filter(|name| !name.is_empty())
    }

    #[inline]
    fn network(&mut self, text: &'a str) -> Option<IpNet> {
        let mut v4 = *self;
        if let Some(network) = v4.v4() {
            *self = v4;
            return Some(network);
        }
        grammar::network(self.name(text)?).ok()
    }

    /// Of IPv4, as most are.
    #[inline]
    fn v4(&mut self) -> Option<IpNet> {
        let mut address = 0_u32;
        for dot in [&b""[..], b".", b".", b"."] {
            let is_next = self.skip(dot);
            if !is_next || matches!(self.0, [b'0', b'0'..=b'9', ..]) {
                return None; // in some places, that would be an octal number
            }
            address = address << 8 | self.number(u8::MAX.into())?;
        }
        let length = if self.skip(b"/") { self.number(32)? } else { 32 };
        Ipv4Net::new(address.into(), length.try_into().ok()?).ok().map(IpNet::V4)
    }

    /// How long the list of settings is that is next, and how far away what ends the rule.
    #[inline]
    fn list(&self) -> Option<(usize, usize)> {
        let end = memchr::memchr3(b'\n', b';', b'#', self.0).unwrap_or(self.0.len());
        let mut list = self.0.get(..end)?;
        while let [before @ .., b' '] = list {
            list = before;
        }
        let as_it_is = list.first()?.is_ascii_graphic() && list.last()?.is_ascii_graphic();
        as_it_is.then_some((list.len(), end))
    }
}
