//! What rules say, packed: a thousand of them shall not take much more memory than their text.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ops::Range;

use crate::options::names::{Addresses, Name};
use crate::options::rows::Rows;
use crate::options::value::Value;

/// What a rule says of a row: eight bytes, since a page that is touched costs an exec 3 us.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Change {
    number: i32,
    row: u8,
    what: What,
}

/// What a number is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum What {
    /// Nothing: `default`, the kernel's value.
    Default,
    /// A [`Value::Int`].
    Int,
    /// A [`Value::AtLeast`].
    AtLeast,
    /// [`Value::Auto`]: the index of where it stands.
    Auto,
    /// The index of a longer value.
    Longer,
}

/// A value that is longer than most numbers.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Longer {
    Int(i64),
    AtLeast(i64),
    /// Line and column.
    At(u32, u32),
    Name(Name),
    Addresses(Addresses),
}

impl Change {
    /// Index of its row.
    pub fn row(self) -> usize {
        self.row.into()
    }

    /// Whether it says nothing but the kernel's value.
    pub fn is_default(self) -> bool {
        matches!(self.what, What::Default | What::Auto)
    }

    /// Whether it says `auto`.
    pub fn is_auto(self) -> bool {
        self.what == What::Auto
    }
}

/// In which order options are applied: those of socket(2) first, then the others, as in the table.
pub(crate) fn order(row: usize) -> (bool, usize) {
    (!Rows::ON_SOCKET.has(row), row)
}

/// What all rules say, one after the other.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types, reason = "made at start-up")]
pub(crate) struct Changes {
    list: Vec<Change>,
    longer: Vec<Longer>,
}

/// Those of one rule.
pub(crate) type Part = Range<u32>;

impl Changes {
    /// Where the next part begins.
    pub fn end(&self) -> u32 {
        u32::try_from(self.list.len()).unwrap_or(u32::MAX)
    }

    /// Those of a rule, in the order in which options are applied.
    pub fn of(&self, part: &Part) -> &[Change] {
        let at = |index: u32| usize::try_from(index).unwrap_or(usize::MAX);
        self.list.get(at(part.start)..at(part.end)).unwrap_or_default()
    }

    /// Adds one to those of the last rule, which begin there.
    pub fn add(&mut self, start: u32, row: usize, value: Option<&Value>, place: (u32, u32)) {
        let (what, number) = match value {
            None | Some(Value::Text(_)) => (What::Default, 0), // no text is of a socket
            Some(Value::Int(n)) => self.number(What::Int, Longer::Int(*n), *n),
            Some(Value::AtLeast(n)) => self.number(What::AtLeast, Longer::AtLeast(*n), *n),
            Some(Value::Auto) => (What::Auto, self.longer(Longer::At(place.0, place.1))),
            Some(Value::Name(name)) => (What::Longer, self.longer(Longer::Name(*name))),
            Some(Value::Addresses(addresses)) => (What::Longer, self.longer(Longer::Addresses(*addresses))),
        };
        let Ok(row) = u8::try_from(row) else { return };
        self.insert(start, Change { number, row, what });
    }

    /// Forgets the last ones, from there on.
    pub fn cut(&mut self, start: u32) {
        self.list.truncate(usize::try_from(start).unwrap_or(usize::MAX));
    }

    /// Begins a new part with those of another one, but for these rows.
    pub fn copy(&mut self, part: &Part, but: Rows) -> u32 {
        let start = self.end();
        for index in part.clone() {
            let change = usize::try_from(index).ok().and_then(|index| self.list.get(index)).copied();
            self.list.extend(change.filter(|change| !but.has(change.row())));
        }
        start
    }

    fn insert(&mut self, start: u32, change: Change) {
        let start = usize::try_from(start).unwrap_or(usize::MAX).min(self.list.len());
        let part = self.list.get(start..).unwrap_or_default();
        match part.iter().rev().take_while(|other| order(other.row()) > order(change.row())).count() {
            0 => self.list.push(change),
            behind => self.list.insert(self.list.len() - behind, change),
        }
    }

    /// A number, or the index of one that is too long.
    #[inline]
    fn number(&mut self, what: What, longer: Longer, number: i64) -> (What, i32) {
        match number.try_into() {
            Ok(number) => (what, number),
            Err(_) => (What::Longer, self.longer(longer)),
        }
    }

    /// The index of a value; rules that follow each other often have the same one.
    #[inline(never)]
    fn longer(&mut self, longer: Longer) -> i32 {
        if self.longer.last() != Some(&longer) {
            self.longer.push(longer);
        }
        i32::try_from(self.longer.len().saturating_sub(1)).unwrap_or(i32::MAX)
    }

    fn longer_of(&self, change: Change) -> Option<Longer> {
        self.longer.get(usize::try_from(change.number).ok()?).copied()
    }

    /// Its number, if it is one.
    #[inline]
    pub fn int(&self, change: Change) -> Option<i64> {
        match change.what {
            What::Int => Some(change.number.into()),
            What::Longer => match self.longer_of(change)? {
                Longer::Int(n) => Some(n),
                _ => None,
            },
            _ => None,
        }
    }

    /// Where an `auto` stands, by line and column.
    pub fn auto(&self, change: Change) -> Option<(u32, u32)> {
        match self.longer_of(change).filter(|_| change.is_auto())? {
            Longer::At(line, column) => Some((line, column)),
            _ => None,
        }
    }

    /// The value that one says; none is the kernel's.
    pub fn value(&self, change: Change) -> Option<Value> {
        match change.what {
            What::Default | What::Auto => None,
            What::Int => Some(Value::Int(change.number.into())),
            What::AtLeast => Some(Value::AtLeast(change.number.into())),
            What::Longer => Some(match self.longer_of(change)? {
                Longer::Int(n) => Value::Int(n),
                Longer::AtLeast(n) => Value::AtLeast(n),
                Longer::Name(name) => Value::Name(name),
                Longer::Addresses(addresses) => Value::Addresses(addresses),
                Longer::At(..) => return None,
            }),
        }
    }
}
