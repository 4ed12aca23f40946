//! What keeps a subcommand from its work, as one line for the operator, and the exit status that goes with it.

use std::fmt;
use std::io;
use std::process::ExitCode;

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
    message: String,
    hint: Option<String>,
    code: u8,
}

impl Error {
    /// Something was tried, and failed: exit status 1.
    pub fn failed(message: impl Into<String>) -> Self {
        Self { message: message.into(), hint: None, code: FAILED }
    }

    /// The command line or a setting is wrong: exit status 2.
    pub fn usage(message: impl Into<String>) -> Self {
        Self { code: USAGE, ..Self::failed(message) }
    }

    /// A program cannot be started or tuned: exit status 126.
    pub fn not_executable(message: impl Into<String>) -> Self {
        Self { code: NOT_EXECUTABLE, ..Self::failed(message) }
    }

    /// There is no such program: exit status 127.
    pub fn not_found(message: impl Into<String>) -> Self {
        Self { code: NOT_FOUND, ..Self::failed(message) }
    }

    /// With what to do next.
    pub fn hint(mut self, hint: impl Into<String>) -> Self {
        self.hint = Some(hint.into());
        self
    }

    /// Its exit status.
    pub fn code(&self) -> ExitCode {
        ExitCode::from(self.code)
    }
}

impl fmt::Display for Error {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.message)?;
        self.hint.as_ref().map_or(Ok(()), |hint| write!(f, "; {hint}"))
    }
}

impl From<io::Error> for Error {
    /// Of standard output: everything else says what it was about.
    fn from(error: io::Error) -> Self {
        Self::failed(format!("cannot write the output: {error}"))
    }
}
