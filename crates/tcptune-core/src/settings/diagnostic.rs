//! What is wrong with a setting, as one line for the operator.

use std::fmt;

use crate::options::table::{NAMED, PREFIX, find, no_setting};

/// Longest part of a value, a name or a path that a message repeats.
const SHOWN: usize = 40;

/// One wrong setting.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Diagnostic {
    /// Where it is.
    pub subject: Subject,
    /// What stands there, as far as it is text.
    pub text: String,
    /// What is wrong, and what is accepted.
    pub problem: String,
}

/// What a message is about.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Subject {
    /// A variable, with its prefix.
    Variable(String),
    /// A place in a text.
    Place {
        /// The variable or the file.
        source: String,
        /// Counted from 1.
        line: u32,
        /// Counted from 1, in characters.
        column: u32,
    },
    /// A file as a whole.
    File(String),
}

impl Diagnostic {
    /// A message about the variable `name` (without the prefix).
    pub(crate) fn variable(name: &str, value: &str, problem: String) -> Self {
        Self { subject: Subject::Variable(format!("{PREFIX}{name}")), text: value.to_owned(), problem }
    }
}

impl fmt::Display for Diagnostic {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let text = Clipped(&self.text);
        match &self.subject {
            Subject::Variable(name) => write!(f, "{}={text}", Clipped(name))?,
            Subject::Place { source, line, column } => write!(f, "{}:{line}:{column}: {text}", Tail(source))?,
            Subject::File(path) => write!(f, "{}", Tail(path))?,
        }
        write!(f, ": {}", self.problem)
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

/// The same, of the end of the text: a path tells more there.
struct Tail<'a>(&'a str);

impl fmt::Display for Tail<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self.0.char_indices().rev().nth(SHOWN - 1) {
            Some((start, _)) if start > 0 => write!(f, "…{}", Clipped(self.0.get(start..).unwrap_or_default())),
            _ => write!(f, "{}", Clipped(self.0)),
        }
    }
}

/// What is wrong with a name that no row has. `shown` is how the source writes names; `suggest`: with the nearest one.
pub(crate) fn unknown(name: &str, suggest: bool, shown: fn(&str) -> String) -> String {
    if let Some(why) = no_setting(&name.to_ascii_uppercase()) {
        return format!("no such setting: {why}");
    }
    // In a file names stand without it.
    let bare = name.to_ascii_uppercase();
    if let Some(known) = bare.strip_prefix(PREFIX).filter(|bare| find(bare).is_some()) {
        return format!("no such setting; without {PREFIX} it is {}", shown(known));
    }
    match Some(name.to_ascii_uppercase())
        .filter(|_| suggest)
        .and_then(|name| nearest(&name, NAMED.iter().map(|named| named.text())))
    {
        Some(near) => format!("no such setting; did you mean {}?", shown(near)),
        None => "no such setting".to_owned(),
    }
}

/// The one that differs least from `name`, if it could be a slip of the hand.
pub(crate) fn nearest<'a>(name: &str, known: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    if name.len() > SHOWN {
        return None; // the distance takes time with the product of the lengths
    }
    known
        .map(|candidate| (strsim::damerau_levenshtein(name, candidate), candidate))
        .min()
        .filter(|(distance, candidate)| *distance <= candidate.len().max(name.len()) / 3)
        .map(|(_, candidate)| candidate)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_typo_finds_the_right_name() {
        let near = |name| nearest(name, NAMED.iter().map(|named| named.text()));
        for (typo, want) in [
            ("KEEPIDEL", "KEEPIDLE"),
            ("KEEPALIV", "KEEPALIVE"),
            ("CONECT_TIMEOUT", "CONNECT_TIMEOUT"),
            ("CONNECTTIMEOUT", "CONNECT_TIMEOUT"),
            ("REUSE_ADDR", "REUSEADDR"),
            ("SYNCOUNT", "SYNCNT"),
            ("LOGFILE", "LOG_FILE"),
        ] {
            assert_eq!(near(typo), Some(want), "{typo}");
        }
        assert_eq!(near("COLOUR"), None);
        assert_eq!(near(""), None);
    }

    #[test]
    fn a_prefix_in_a_file_is_said() {
        let problem = unknown("tcptune_keepintvl", true, str::to_ascii_lowercase);
        assert_eq!(problem, "no such setting; without TCPTUNE_ it is keepintvl");
    }

    #[test]
    fn what_is_no_socket_option_says_so() {
        for name in ["RETRIES", "retries2"] {
            let problem = unknown(name, true, str::to_owned);
            assert!(problem.contains("no socket option") && problem.len() < 150, "{problem}");
        }
    }

    #[test]
    fn a_message_is_one_short_line() {
        let long = "a\nb\u{1b}[2J".repeat(100_000);
        let place = Subject::Place { source: long.clone(), line: u32::MAX, column: u32::MAX };
        for subject in [Subject::Variable(long.clone()), Subject::File(long.clone()), place] {
            let line = Diagnostic { subject, text: long.clone(), problem: "no".to_owned() }.to_string();
            assert!(!line.contains(char::is_control), "{line:?}");
            assert!(line.len() < 300, "{}", line.len());
        }
    }
}
