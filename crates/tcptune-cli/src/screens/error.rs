//! What keeps a subcommand from its work, as one line for the operator, and the exit status that goes with it.

use std::fmt;
use std::io;
use std::process::ExitCode;

use serde_json::json;

use super::text::{safe, safe_json};

/// Something was tried, and failed.
const FAILED: u8 = 1;
/// Wrong usage, or a wrong setting.
const USAGE: u8 = 2;
/// The program is there, but cannot be started or tuned.
const NOT_EXECUTABLE: u8 = 126;
/// There is no such program.
const NOT_FOUND: u8 = 127;

/// What went wrong, what to do next, and the exit status.
#[derive(Debug)]
pub struct Error {
    /// One for each thing that is wrong.
    messages: Vec<String>,
    hint: Option<String>,
    code: u8,
}

/// One message, or several.
pub struct Messages(Vec<String>);

impl From<String> for Messages {
    fn from(message: String) -> Self {
        Self(vec![message])
    }
}

impl From<&str> for Messages {
    fn from(message: &str) -> Self {
        Self(vec![message.to_owned()])
    }
}

impl From<Vec<String>> for Messages {
    fn from(messages: Vec<String>) -> Self {
        Self(messages)
    }
}

impl Error {
    /// Something was tried, and failed: exit status 1.
    pub fn failed(messages: impl Into<Messages>) -> Self {
        Self { messages: messages.into().0, hint: None, code: FAILED }
    }

    /// The command line or a setting is wrong: exit status 2.
    pub fn usage(messages: impl Into<Messages>) -> Self {
        Self { code: USAGE, ..Self::failed(messages) }
    }

    /// A program cannot be started or tuned: exit status 126.
    pub fn not_executable(messages: impl Into<Messages>) -> Self {
        Self { code: NOT_EXECUTABLE, ..Self::failed(messages) }
    }

    /// There is no such program: exit status 127.
    pub fn not_found(messages: impl Into<Messages>) -> Self {
        Self { code: NOT_FOUND, ..Self::failed(messages) }
    }

    /// With what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Says it on standard error; the exit status.
    pub fn tell(&self, json: bool) -> ExitCode {
        if json {
            let error = json!({ "error": self.messages.join("; "), "hint": self.hint, "status": self.code });
            write(&safe_json(error.to_string()));
        } else if let Some((last, others)) = self.messages.split_last() {
            for message in others {
                say(message);
            }
            say(&self.hint.as_ref().map_or(last.clone(), |hint| format!("{last}; {hint}")));
        }
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.messages.join("; "))?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

/// One line on standard error.
pub fn say(text: &str) {
    write(&format!("tcptune: {}", safe(text)));
}

#[allow(clippy::print_stderr, reason = "the one place that does, with text that is safe")]
fn write(line: &str) {
    eprintln!("{line}");
}

impl From<io::Error> for Error {
    /// Errors of standard output: all other errors are made with a message that says what they are about.
    fn from(error: io::Error) -> Self {
        Self::failed(format!("cannot write the output: {error}"))
    }
}
