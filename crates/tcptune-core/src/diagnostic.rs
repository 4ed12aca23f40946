//! What is wrong with a setting, as one line for the operator.

use std::fmt;

use crate::option::OPTIONS;

/// Longest part of a value or name that a message repeats.
const SHOWN: usize = 40;

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// The variable, with its prefix.
    pub variable: String,
    /// Its value, as far as it is text.
    pub value: String,
    /// What is wrong, and what is accepted.
    pub problem: String,
}

impl Diagnostic {
    /// A message about `name` (without the prefix).
    pub(crate) fn new(name: &str, value: &str, problem: String) -> Self {
        Self { variable: format!("{}{name}", crate::settings::PREFIX), value: value.to_owned(), problem }
    }

    /// A name that no row has; `suggest`: with the nearest one that a row has.
    pub(crate) fn unknown(name: &str, value: &str, suggest: bool) -> Self {
        let problem = match Some(name).filter(|_| suggest).and_then(nearest) {
            Some(near) => format!("no such setting; did you mean {}{near}?", crate::settings::PREFIX),
            None => "no such setting".to_owned(),
        };
        Self::new(name, value, problem)
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}={}: {}", Clipped(&self.variable), Clipped(&self.value), self.problem)
    }
}

/// The text without control characters, which would make more than one line of it, and not longer than a line needs.
struct Clipped<'a>(&'a str);

impl fmt::Display for Clipped<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        for c in chars.by_ref().take(SHOWN) {
            if c.is_control() { write!(f, "{}", c.escape_default())? } else { write!(f, "{c}")? }
        }
        if chars.next().is_some() { f.write_str("…") } else { Ok(()) }
    }
}

/// The name or alias that differs least from `name`, if it could be a slip of the hand.
fn nearest(name: &str) -> Option<&'static str> {
    if name.len() > SHOWN {
        return None; // the distance takes time with the product of the lengths
    }
    let name = &*name.to_ascii_uppercase();
    OPTIONS
        .iter()
        .flat_map(|o| std::iter::once(&o.name).chain(o.aliases))
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), *candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()) / 3)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_right_name() {
        for (typo, want) in [
            ("KEEPIDEL", "KEEPIDLE"),
            ("KEEPALIV", "KEEPALIVE"),
            ("CONECT_TIMEOUT", "CONNECT_TIMEOUT"),
            ("CONNECTTIMEOUT", "CONNECT_TIMEOUT"),
            ("REUSE_ADDR", "REUSEADDR"),
            ("SYNCOUNT", "SYNCNT"),
            ("LOGFILE", "LOG_FILE"),
        ] {
            assert_eq!(nearest(typo), Some(want), "{typo}");
        }
        assert_eq!(nearest("COLOUR"), None);
        assert_eq!(nearest(""), None);
    }

    #[test]
    fn a_message_is_one_short_line() {
        let d = Diagnostic::new("KEEPIDLE", &"a\nb\u{1b}[2J".repeat(100_000), "no".to_owned());
        let line = d.to_string();
        assert!(!line.contains(char::is_control), "{line:?}");
        assert!(line.len() < 200, "{}", line.len());
    }
}
