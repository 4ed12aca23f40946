//! Values as operators write them: boolean, count, duration, choice, path.

use std::fmt;

use fundu::{DurationParser, TimeUnit};

/// How the value of a setting is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// `1/0 on/off true/false yes/no`
    Bool,
    /// A whole number.
    Count,
    /// A number with `ms s m h`, fractions allowed, rounded up to the unit in which it is stored.
    Duration {
        /// The unit of a number without one.
        bare: Unit,
        /// The unit of the stored value: that of the kernel's option.
        stored: Unit,
        /// `auto` is accepted as well.
        auto: bool,
    },
    /// One of these words; stored is its index.
    Choice(&'static [&'static str]),
    /// A path, taken as it is.
    Path,
}

/// Unit of a duration.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Unit {
    /// `s`
    Second,
    /// `ms`
    Millisecond,
}

impl Unit {
    const fn nanoseconds(self) -> u128 {
        match self {
            Self::Second => 1_000_000_000,
            Self::Millisecond => 1_000_000,
        }
    }

    /// As it is written behind a number.
    #[must_use]
    pub const fn symbol(self) -> &'static str {
        match self {
            Self::Second => "s",
            Self::Millisecond => "ms",
        }
    }
}

/// A parsed value.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Value {
    /// A number in the stored unit, 0 or 1, or the index of a choice.
    Int(i32),
    /// To be derived from other settings.
    Auto,
    /// A path.
    Path(String),
}

const UNITS: [TimeUnit; 4] = [TimeUnit::MilliSecond, TimeUnit::Second, TimeUnit::Minute, TimeUnit::Hour];

const fn duration_parser(bare: TimeUnit) -> DurationParser<'static> {
    DurationParser::builder().time_units(&UNITS).default_unit(bare).disable_exponent().disable_infinity().build()
}

const BARE_SECONDS: DurationParser<'static> = duration_parser(TimeUnit::Second);
const BARE_MILLISECONDS: DurationParser<'static> = duration_parser(TimeUnit::MilliSecond);

impl Kind {
    /// Parses `text`; `None` if it is not of this kind, or out of `range`.
    #[must_use]
    pub fn parse(self, text: &str, range: (i32, i32)) -> Option<Value> {
        let in_range = |n: i128| i32::try_from(n).ok().filter(|n| (range.0..=range.1).contains(n)).map(Value::Int);
        match self {
            Self::Bool => match text.to_ascii_lowercase().as_str() {
                "1" | "on" | "true" | "yes" => Some(Value::Int(1)),
                "0" | "off" | "false" | "no" => Some(Value::Int(0)),
                _ => None,
            },
            Self::Count => in_range(text.parse().ok()?),
            Self::Duration { auto: true, .. } if text.eq_ignore_ascii_case("auto") => Some(Value::Auto),
            Self::Duration { bare, stored, .. } => {
                let parser = match bare {
                    Unit::Second => BARE_SECONDS,
                    Unit::Millisecond => BARE_MILLISECONDS,
                };
                let duration: std::time::Duration = parser.parse(text).ok()?.try_into().ok()?;
                in_range(i128::try_from(duration.as_nanos().div_ceil(stored.nanoseconds())).ok()?)
            }
            Self::Choice(words) => {
                words.iter().position(|w| w.eq_ignore_ascii_case(text)).and_then(|i| in_range(i128::try_from(i).ok()?))
            }
            Self::Path => Some(Value::Path(text.to_owned())),
        }
    }

    /// What is accepted, for a message or a table.
    #[must_use]
    pub fn accepted(self, range: (i32, i32)) -> Accepted {
        Accepted { kind: self, range }
    }

    /// The stored value `n` as an operator would write it.
    #[must_use]
    pub fn show(self, n: i32) -> Shown {
        Shown { kind: self, n }
    }
}

/// Displays what a kind and a range accept.
#[derive(Clone, Copy, Debug)]
pub struct Accepted {
    kind: Kind,
    range: (i32, i32),
}

impl fmt::Display for Accepted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (low, high) = self.range;
        match self.kind {
            Kind::Bool => f.write_str("on or off (1/0, true/false, yes/no)"),
            Kind::Count => write!(f, "{low} to {high}"),
            Kind::Duration { bare, stored, auto } => {
                let unit = stored.symbol();
                write!(f, "{low}{unit} to {high}{unit}{}", if auto { ", or auto" } else { "" })?;
                write!(f, " (ms s m h; a bare number is {})", bare.symbol())
            }
            Kind::Choice(words) => {
                for (i, word) in words.iter().enumerate() {
                    write!(f, "{}{word}", if i == 0 { "" } else { ", " })?;
                }
                Ok(())
            }
            Kind::Path => f.write_str("a path"),
        }
    }
}

/// Displays a stored value.
#[derive(Clone, Copy, Debug)]
pub struct Shown {
    kind: Kind,
    n: i32,
}

impl fmt::Display for Shown {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.kind {
            Kind::Bool => f.write_str(if self.n == 0 { "off" } else { "on" }),
            Kind::Count | Kind::Path => write!(f, "{}", self.n),
            Kind::Duration { stored, .. } => write!(f, "{}{}", self.n, stored.symbol()),
            Kind::Choice(words) => f.write_str(usize::try_from(self.n).ok().and_then(|i| words.get(i)).unwrap_or(&"?")),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const SECONDS: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Second, auto: false };
    const TIMEOUT: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Millisecond, auto: false };
    const MILLISECONDS: Kind = Kind::Duration { bare: Unit::Millisecond, stored: Unit::Millisecond, auto: true };
    const WIDE: (i32, i32) = (1, i32::MAX);

    fn int(kind: Kind, text: &str) -> Option<i32> {
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
        let kind = Kind::Choice(&["env", "program"]);
        assert_eq!(kind.parse("Program", (0, 1)), Some(Value::Int(1)));
        assert_eq!(kind.parse("prog", (0, 1)), None);
        assert_eq!(kind.show(1).to_string(), "program");
        assert_eq!(kind.accepted((0, 1)).to_string(), "env, program");
    }

    #[test]
    fn what_is_shown_parses_to_the_same() {
        for (kind, n) in [(SECONDS, 60), (TIMEOUT, 3500), (MILLISECONDS, 90_000), (Kind::Count, 5)] {
            assert_eq!(int(kind, &kind.show(n).to_string()), Some(n));
        }
    }
}
