//! What rules say, packed: a thousand of them shall not take much more memory than their text.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ops::Range;

use crate::options::names::{Addresses, Name};
use crate::options::rows::Rows;
use crate::options::table::{OPTIONS, Sockopt, Target};
use crate::options::value::Value;

/// What a rule says of a row.
#[derive(Clone, Copy, Debug)]
pub struct Change {
    number: i64,
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
    /// For [`Value::Auto`], line and column of where it stands.
    Auto,
    /// The index of a longer value.
    Longer,
}

/// A value that is longer than a number.
#[derive(Clone, Copy, Debug, PartialEq)]
enum Longer {
    Name(Name),
    Addresses(Addresses),
}

impl Change {
    /// Index of its row.
    pub fn row(self) -> usize {
        self.row.into()
    }

    /// Its row as a socket option, if it is one.
    pub fn option(self) -> Option<&'static Sockopt> {
        match &OPTIONS.get(self.row())?.target {
            Target::Socket(option) => Some(option),
            Target::Own(_) => None,
        }
    }

    /// Its number, if it is one.
    pub fn int(self) -> Option<i64> {
        (self.what == What::Int).then_some(self.number)
    }

    /// Where an `auto` stands, by line and column.
    pub fn auto(self) -> Option<(u32, u32)> {
        let word = |shift: u32| u32::try_from(self.number >> shift & i64::from(u32::MAX)).ok();
        if self.what == What::Auto { word(32).zip(word(0)) } else { None }
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
            Some(Value::Int(n)) => (What::Int, *n),
            Some(Value::AtLeast(n)) => (What::AtLeast, *n),
            Some(Value::Auto) => (What::Auto, i64::from(place.0) << 32 | i64::from(place.1)),
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
        let behind = part.iter().rev().take_while(|other| order(other.row()) > order(change.row())).count();
        self.list.insert(self.list.len() - behind, change);
    }

    /// The index of a value; rules that follow each other often have the same one.
    fn longer(&mut self, longer: Longer) -> i64 {
        if self.longer.last() != Some(&longer) {
            self.longer.push(longer);
        }
        i64::try_from(self.longer.len().saturating_sub(1)).unwrap_or(i64::MAX)
    }

    fn longer_of(&self, change: Change) -> Option<Longer> {
        let index = usize::try_from(change.number).ok().filter(|_| change.what == What::Longer)?;
        self.longer.get(index).copied()
    }

    /// The value that one says; none is the kernel's.
    #[inline(never)] // for the stack: a connect has little
    pub fn value(&self, change: Change) -> Option<Value> {
        match change.what {
            What::Default | What::Auto => None,
            What::Int => Some(Value::Int(change.number)),
            What::AtLeast => Some(Value::AtLeast(change.number)),
            What::Longer => Some(match self.longer_of(change)? {
                Longer::Name(name) => Value::Name(name),
                Longer::Addresses(addresses) => Value::Addresses(addresses),
            }),
        }
    }
}
