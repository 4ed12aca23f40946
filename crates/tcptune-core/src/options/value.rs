//! Values as operators write them: boolean, count, size, duration, choice, name, address.

use std::fmt;

use crate::options::names::{Addresses, Name, code_point, name_of_code_point};
use crate::options::words::{Choice, Expected};

/// How the value of a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `1/0 on/off true/false yes/no`
    Bool,
    /// A whole number.
    Count,
    /// A whole number, decimal or with `0x`.
    Bits,
    /// Bytes, with `K M G` of 1024.
    Size,
    /// A number with `ms s m h`, fractions allowed, rounded up to the unit in which it is stored.
    Duration {
        /// The unit of a number without one.
        bare: Unit,
        /// The unit of the stored value: that of the kernel's option.
        stored: Unit,
        /// A word that is accepted as well.
        word: Option<Word>,
    },
    /// One of these words; stored is its index.
    Choice(Choice),
    /// A differentiated services code point by name or number; stored is the octet of the IP header (RFC 2474).
    TrafficClass {
        /// By how many bits a number is shifted to the left: 2 for a code point, 0 for the octet.
        shift: u8,
    },
    /// A name of at most 15 bytes.
    Name,
    /// A whole number, or `min:` and one.
    Backlog,
    /// An IPv4 address, an IPv6 address, or both with a comma between.
    Addresses,
    /// Any text; this says what is expected of it.
    Text(Expected),
}

/// A word that stands for a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Word {
    /// `auto`: derived from other settings.
    Auto,
    /// `off`: stored as [`OFF`].
    Off,
}

/// What a duration that is off is stored as.
pub const OFF: i64 = -1;

impl Word {
    const fn text(self) -> &'static str {
        match self {
            Self::Auto => "auto",
            Self::Off => "off",
        }
    }

    const fn value(self) -> Value {
        match self {
            Self::Auto => Value::Auto,
            Self::Off => Value::Int(OFF),
        }
    }
}

/// Unit of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `s`
    Second,
    /// `ms`
    Millisecond,
    /// `us`
    Microsecond,
}

impl Unit {
    #[inline]
    const fn nanoseconds(self) -> u64 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Millisecond => 1_000_000,
            Self::Microsecond => 1_000,
        }
    }

    /// As it is written behind a number.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
            Self::Microsecond => "us",
        }
    }
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number in the stored unit, 0 or 1, or the index of a choice.
    Int(i64),
    /// No less than this number.
    AtLeast(i64),
    /// A name.
    Name(Name),
    /// Addresses.
    Addresses(Addresses),
    /// To be derived from other settings.
    Auto,
    /// Text.
    Text(String),
}

/// Parses a duration into `stored` units, rounded up.
fn duration(text: &str, bare: Unit, stored: Unit) -> Option<i64> {
    let nanoseconds = nanoseconds(text, bare)?;
    // Divisions by numbers that the compiler knows are none.
    let number = match stored {
        Unit::Second => nanoseconds.div_ceil(const { Unit::Second.nanoseconds() }),
        Unit::Millisecond => nanoseconds.div_ceil(const { Unit::Millisecond.nanoseconds() }),
        Unit::Microsecond => nanoseconds.div_ceil(const { Unit::Microsecond.nanoseconds() }),
    };
    i64::try_from(number).ok()
}

/// A number with or without a unit, and with or without a fraction, in nanoseconds. By hand: a library for it was a fortieth of
/// the shim. It is what the tests compare this with.
fn nanoseconds(text: &str, bare: Unit) -> Option<u64> {
    let digits = |text: &str| text.bytes().take_while(u8::is_ascii_digit).count();
    let unsigned = text.strip_prefix(['+', '-']).unwrap_or(text);
    let (number, rest) = unsigned.split_at_checked(digits(unsigned))?;
    let (fraction, unit) = match rest.strip_prefix('.') {
        None => ("", rest),
        Some(rest) => rest.split_at_checked(digits(rest))?,
    };
    let unit = match unit {
        "" => bare.nanoseconds(),
        // Not behind a bare point, as the others may be.
        "us" if bare == Unit::Microsecond && (rest.len() == 2 || !fraction.is_empty()) => 1_000,
        "ms" => 1_000_000,
        "s" => 1_000_000_000,
        "m" => 60 * 1_000_000_000,
        "h" => 3600 * 1_000_000_000,
        _ => return None,
    };
    if number.is_empty() && fraction.is_empty() {
        return None;
    }
    let add = |number: u64, digit: u8| number.checked_mul(10)?.checked_add((digit - b'0').into());
    let whole = number.bytes().try_fold(0, add)?.checked_mul(unit)?;
    let all = if fraction.is_empty() { Some(whole) } else { whole.checked_add(of_fraction(fraction, unit)) };
    all.filter(|all| *all == 0 || !text.starts_with('-'))
}

/// So many nanoseconds as a fraction of a unit is, by its first 18 digits: in two halves, each of which fits 64 bits with the
/// microseconds of an hour.
#[cold]
fn of_fraction(digits: &str, unit: u64) -> u64 {
    let mut digits = digits.bytes().chain(std::iter::repeat(b'0'));
    let mut half = || digits.by_ref().take(9).fold(0, |half: u64, digit| half * 10 + u64::from(digit - b'0'));
    let (high, low) = (half(), half());
    let microseconds = unit / 1_000;
    (high * microseconds + low * microseconds / 1_000_000_000) / 1_000_000
}

#[inline(never)] // one copy for all kinds
fn whole(text: &str) -> Option<i64> {
    text.parse().ok()
}

fn size(text: &str) -> Option<i64> {
    let shift = match text.as_bytes().last()?.to_ascii_uppercase() {
        b'K' => 10,
        b'M' => 20,
        b'G' => 30,
        _ => return whole(text),
    };
    whole(text.get(..text.len() - 1)?)?.checked_mul(1 << shift)
}

fn bits(text: &str) -> Option<i64> {
    match text.strip_prefix("0x") {
        Some(hex) => u64::from_str_radix(hex, 16).ok()?.try_into().ok(),
        None => whole(text),
    }
}

/// Compared as numbers, which are in the code: a list of words would lie on a page that hardly anything else at start-up needs.
fn boolean(text: &str) -> Option<bool> {
    let text = if text.len() <= 5 { packed(text.as_bytes()) } else { return None };
    let is = |word: u64| text == word;
    if is(const { packed(b"1") })
        || is(const { packed(b"on") })
        || is(const { packed(b"yes") })
        || is(const { packed(b"true") })
    {
        return Some(true);
    }
    let off = is(const { packed(b"0") })
        || is(const { packed(b"off") })
        || is(const { packed(b"no") })
        || is(const { packed(b"false") });
    off.then_some(false)
}

/// Some bytes in lower case, and a one before them, as a number.
const fn packed(mut text: &[u8]) -> u64 {
    let mut all = 1;
    while let [first, rest @ ..] = text {
        all = all << 8 | first.to_ascii_lowercase() as u64;
        text = rest;
    }
    all
}

/// The place of a word in a list with spaces between.
fn place(words: impl Iterator<Item = &'static str>, text: &str) -> Option<i64> {
    words.zip(0..).find(|(word, _)| word.eq_ignore_ascii_case(text)).map(|(_, place)| place)
}

impl Kind {
    /// Parses `text`; `None` if it is not of this kind, or out of `range`.
    #[must_use]
    pub fn parse(self, text: &str, range: (i64, i64)) -> Option<Value> {
        let in_range = |n: &i64| (range.0..=range.1).contains(n);
        let number = match self {
            Self::Bool => boolean(text)?.into(),
            Self::Count => whole(text)?,
            Self::Bits => bits(text)?,
            Self::Size => size(text)?,
            Self::Duration { word: Some(word), .. } if text.eq_ignore_ascii_case(word.text()) => {
                return Some(word.value());
            }
            Self::Duration { bare, stored, .. } => duration(text, bare, stored)?,
            Self::Choice(choice) => place(choice.words(), text)?,
            Self::TrafficClass { shift } => match code_point(text) {
                Some(point) => point << 2,
                None => bits(text).filter(|n| n.unsigned_abs() < 256)? << shift,
            },
            Self::Name => return Name::new(text).map(Value::Name),
            Self::Backlog => match text.strip_prefix("min:") {
                Some(least) => return whole(least).filter(in_range).map(Value::AtLeast),
                None => whole(text)?,
            },
            Self::Addresses => return Addresses::new(text).map(Value::Addresses),
            Self::Text(_) => return Some(Value::Text(text.to_owned())),
        };
        Some(number).filter(in_range).map(Value::Int)
    }

    /// What is accepted, for a message or a table.
    #[must_use]
    pub fn accepted(self, range: (i64, i64)) -> Accepted {
        Accepted { kind: self, range }
    }

    /// The value as an operator would write it.
    #[must_use]
    pub fn show(self, value: &Value) -> Shown<'_> {
        Shown { kind: self, value }
    }
}

/// Displays what a kind and a range accept.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    kind: Kind,
    range: (i64, i64),
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.range;
        match self.kind {
            Kind::Bool => f.write_str("on or off (1/0, true/false, yes/no)"),
            Kind::Count => write!(f, "{low} to {high}"),
            Kind::Bits => write!(f, "{low} to {high} (or 0x…)"),
            Kind::Size => write!(f, "{low} to {high} bytes (K M G)"),
            Kind::Duration { bare, stored, word } => {
                let unit = stored.symbol();
                write!(f, "{low}{unit} to {high}{unit}")?;
                if let Some(word) = word {
                    write!(f, ", or {}", word.text())?;
                }
                let finest = if bare == Unit::Microsecond { "us ms s" } else { "ms s m h" };
                write!(f, " ({finest}; a bare number is {})", bare.symbol())
            }
            Kind::Choice(choice) => {
                for (i, word) in choice.words().enumerate() {
                    write!(f, "{}{word}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Kind::TrafficClass { shift } => {
                write!(
                    f,
                    "{} to {} (or 0x…), or a name: cs0 to cs7, af11 to af43, ef, va, le",
                    low >> shift,
                    high >> shift
                )
            }
            Kind::Name => f.write_str("a name of at most 15 bytes"),
            Kind::Backlog => write!(f, "{low} to {high}, or min:NUMBER"),
            Kind::Addresses => f.write_str("an IPv4 address, an IPv6 address, or both with a comma between"),
            Kind::Text(expected) => f.write_str(expected.text()),
        }
    }
}

/// Displays a value.
#[derive(Clone, Copy, Debug)]
pub struct Shown<'a> {
    kind: Kind,
    value: &'a Value,
}

impl fmt::Display for Shown<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match (self.kind, self.value) {
            (Kind::Bool, Value::Int(n)) => f.write_str(if *n == 0 { "off" } else { "on" }),
            (Kind::Duration { word: Some(word), .. }, value) if *value == word.value() => f.write_str(word.text()),
            (Kind::Duration { stored, .. }, Value::Int(n)) => write!(f, "{n}{}", stored.symbol()),
            (Kind::Choice(choice), Value::Int(n)) => {
                f.write_str(usize::try_from(*n).ok().and_then(|i| choice.words().nth(i)).unwrap_or("?"))
            }
            (Kind::TrafficClass { shift }, Value::Int(n)) => match name_of_code_point(n >> 2).filter(|_| n % 4 == 0) {
                Some(name) => f.write_str(name),
                None => write!(f, "{}", n >> shift),
            },
            (Kind::Bits, Value::Int(n)) => write!(f, "{n:#x}"),
            (_, Value::Int(n)) => write!(f, "{n}"),
            (_, Value::AtLeast(n)) => write!(f, "min:{n}"),
            (_, Value::Name(name)) => write!(f, "{name}"),
            (_, Value::Addresses(Addresses { v4, v6 })) => {
                let comma = if v4.is_some() && v6.is_some() { "," } else { "" };
                v4.map_or(Ok(()), |v4| write!(f, "{v4}"))?;
                f.write_str(comma)?;
                v6.map_or(Ok(()), |v6| write!(f, "{v6}"))
            }
            (_, Value::Auto) => f.write_str("auto"),
            (_, Value::Text(text)) => f.write_str(text),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use fundu::{DurationParser, TimeUnit};
    use proptest::prelude::*;
    use proptest::sample::select;

    const SECONDS: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Second, word: None };
    const TIMEOUT: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Millisecond, word: None };
    const MILLISECONDS: Kind =
        Kind::Duration { bare: Unit::Millisecond, stored: Unit::Millisecond, word: Some(Word::Auto) };
    const WIDE: (i64, i64) = (1, i32::MAX as i64);

    fn int(kind: Kind, text: &str) -> Option<i64> {
        match kind.parse(text, WIDE) {
            Some(Value::Int(n)) => Some(n),
            _ => None,
        }
    }

    #[test]
    fn booleans() {
        for (text, want) in [("1", 1), ("ON", 1), ("true", 1), ("Yes", 1), ("0", 0), ("off", 0), ("no", 0)] {
            assert_eq!(Kind::Bool.parse(text, (0, 1)), Some(Value::Int(want)), "{text}");
        }
        for text in ["2", "y", "enable", "", "on "] {
            assert_eq!(Kind::Bool.parse(text, (0, 1)), None, "{text}");
        }
    }

    #[test]
    fn durations_in_every_unit() {
        for (text, want) in [("60", 60), ("60s", 60), ("2m", 120), ("1h", 3600), ("1.5m", 90), ("0.5h", 1800)] {
            assert_eq!(int(SECONDS, text), Some(want), "{text}");
        }
        for (text, want) in [("3.5", 3500), ("300ms", 300), ("0.3", 300), ("1.5s", 1500), ("2", 2000)] {
            assert_eq!(int(TIMEOUT, text), Some(want), "{text}");
        }
        for (text, want) in [("1500", 1500), ("1.5s", 1500), ("1m", 60_000)] {
            assert_eq!(int(MILLISECONDS, text), Some(want), "{text}");
        }
    }

    /// What the package fundu makes of a duration.
    fn by_fundu(text: &str, bare: Unit) -> Option<u64> {
        const UNITS: [TimeUnit; 4] = [TimeUnit::MilliSecond, TimeUnit::Second, TimeUnit::Minute, TimeUnit::Hour];
        let (unit, text) = match bare {
            Unit::Second => (TimeUnit::Second, text),
            Unit::Millisecond => (TimeUnit::MilliSecond, text),
            // It has no `us`.
            Unit::Microsecond => {
                let number = text.strip_suffix("us").filter(|n| n.ends_with(|c: char| c.is_ascii_digit()));
                (TimeUnit::MicroSecond, number.unwrap_or(text))
            }
        };
        let parser =
            DurationParser::builder().time_units(&UNITS).default_unit(unit).disable_exponent().disable_infinity();
        let duration: std::time::Duration = parser.build().parse(text).ok()?.try_into().ok()?;
        u64::try_from(duration.as_nanos()).ok()
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn durations_are_what_fundu_makes_of_them(
            text in "[+-]?[0-9]{0,3}[.]?[0-9]{0,3}(ms|s|m|h|us| s|e1|ns)?|[0-9]{0,22}([.][0-9]{0,30})?(ms|s|m|h|us)?|[-+.0-9eEinf smhu]{0,8}",
            bare in select(vec![Unit::Second, Unit::Millisecond, Unit::Microsecond]),
        ) {
            prop_assert_eq!(nanoseconds(&text, bare), by_fundu(&text, bare), "{:?}", text);
        }
    }

    #[test]
    fn finer_than_the_unit_is_rounded_up() {
        assert_eq!(int(SECONDS, "1500ms"), Some(2));
        assert_eq!(int(SECONDS, "1ms"), Some(1));
        assert_eq!(int(TIMEOUT, "0.0001"), Some(1));
        assert_eq!(int(MILLISECONDS, "0.2"), Some(1));
    }

    #[test]
    fn what_is_no_duration_is_refused() {
        for text in ["", "abc", "-1", "1e3", "inf", "5 s", "5d", "1,5", "0", "0s", "s", "1s2", "99999999999999999999h"]
        {
            assert_eq!(int(SECONDS, text), None, "{text:?}");
        }
    }

    #[test]
    fn counts_and_ranges() {
        assert_eq!(Kind::Count.parse("127", (1, 127)), Some(Value::Int(127)));
        for text in ["0", "128", "3.5", "0x10", "99999999999999999999999", "", "3 "] {
            assert_eq!(Kind::Count.parse(text, (1, 127)), None, "{text:?}");
        }
    }

    #[test]
    fn auto_only_where_the_row_says_so() {
        assert_eq!(MILLISECONDS.parse("auto", WIDE), Some(Value::Auto));
        assert_eq!(SECONDS.parse("auto", WIDE), None);
    }

    #[test]
    fn choices_are_stored_as_their_index() {
        let kind = Kind::Choice(Choice::Precedence);
        assert_eq!(kind.parse("Program", (0, 1)), Some(Value::Int(1)));
        assert_eq!(kind.parse("prog", (0, 1)), None);
        assert_eq!(kind.show(&Value::Int(1)).to_string(), "program");
        assert_eq!(kind.accepted((0, 1)).to_string(), "env, program");
    }

    #[test]
    fn what_is_shown_parses_to_the_same() {
        for (kind, n) in [(SECONDS, 60), (TIMEOUT, 3500), (MILLISECONDS, 90_000), (Kind::Count, 5)] {
            assert_eq!(int(kind, &kind.show(&Value::Int(n)).to_string()), Some(n));
        }
    }

    #[test]
    fn sizes() {
        for (text, want) in [("4096", 4096), ("4K", 4096), ("1m", 1 << 20), ("1G", 1 << 30)] {
            assert_eq!(int(Kind::Size, text), Some(want), "{text}");
        }
        for text in ["", "K", "1.5M", "-1K", "4KB", "4 K", "2G", "99999999999999999999G"] {
            assert_eq!(int(Kind::Size, text), None, "{text:?}");
        }
    }

    #[test]
    fn bits_are_decimal_or_hexadecimal() {
        assert_eq!((int(Kind::Bits, "16"), int(Kind::Bits, "0x10")), (Some(16), Some(16)));
        for text in ["0x", "0xg", "x10", "0x-1", "0x1ffffffff"] {
            assert_eq!(int(Kind::Bits, text), None, "{text:?}");
        }
    }

    #[test]
    fn microseconds() {
        let kind = Kind::Duration { bare: Unit::Microsecond, stored: Unit::Microsecond, word: None };
        for (text, want) in [("50", 50), ("50us", 50), ("0.5us", 1), ("1.5ms", 1500), ("1s", 1_000_000)] {
            assert_eq!(int(kind, text), Some(want), "{text}");
        }
        for text in ["us", "1msus", "1uss", "5 us"] {
            assert_eq!(int(kind, text), None, "{text:?}");
        }
    }

    #[test]
    fn a_lingering_close_can_be_off() {
        let kind = Kind::Duration { bare: Unit::Second, stored: Unit::Second, word: Some(Word::Off) };
        assert_eq!(kind.parse("off", (0, 60)), Some(Value::Int(OFF)));
        assert_eq!(kind.parse("0", (0, 60)), Some(Value::Int(0)));
        assert_eq!(kind.show(&Value::Int(OFF)).to_string(), "off");
    }

    #[test]
    fn traffic_classes_by_name_and_number() {
        let (dscp, tos) = (Kind::TrafficClass { shift: 2 }, Kind::TrafficClass { shift: 0 });
        for (text, octet) in [("ef", 184), ("EF", 184), ("cs1", 32), ("af21", 72)] {
            assert_eq!(dscp.parse(text, (0, 255)), Some(Value::Int(octet)), "{text}");
            assert_eq!(tos.parse(text, (0, 255)), Some(Value::Int(octet)), "{text}");
        }
        assert_eq!(dscp.parse("46", (0, 255)), tos.parse("0xb8", (0, 255)));
        assert_eq!(tos.parse("99999999999999999999", (0, 255)), None);
        assert_eq!(dscp.parse("64", (0, 255)), None);
        assert_eq!(tos.parse("af44", (0, 255)), None);
        assert_eq!(
            (dscp.show(&Value::Int(184)).to_string(), dscp.show(&Value::Int(4)).to_string()),
            ("ef".into(), "le".into())
        );
        assert_eq!(tos.show(&Value::Int(16)).to_string(), "16");
    }

    #[test]
    fn names_backlogs_and_addresses() {
        assert_eq!(Kind::Name.parse("cubic", (0, 0)).map(|v| Kind::Name.show(&v).to_string()), Some("cubic".into()));
        for text in ["", "sixteen_bytes_xx", "a b", "a/b", "é"] {
            assert_eq!(Kind::Name.parse(text, (0, 0)), None, "{text:?}");
        }
        assert_eq!(Kind::Backlog.parse("min:128", (0, 999)), Some(Value::AtLeast(128)));
        assert_eq!(Kind::Backlog.parse("128", (0, 999)), Some(Value::Int(128)));
        assert_eq!(Kind::Backlog.parse("min:1000", (0, 999)), None);
        let both = Kind::Addresses.parse("127.0.0.1, ::1", (0, 0)).expect("two addresses");
        assert_eq!(Kind::Addresses.show(&both).to_string(), "127.0.0.1,::1");
        for text in ["", "127.0.0.1,127.0.0.2", "localhost", "127.0.0.1/8", "1.2.3.4,"] {
            assert_eq!(Kind::Addresses.parse(text, (0, 0)), None, "{text:?}");
        }
    }
}
