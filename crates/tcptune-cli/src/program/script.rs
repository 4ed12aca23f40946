//! The first line of a script, as execve(2) reads it.

use std::ffi::{OsStr, OsString};
use std::io::Read;
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

use super::elf;

/// What runs a script.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Interpreter {
    pub path: PathBuf,
    /// All that stands behind the path: one argument.
    pub argument: Option<OsString>,
}

impl Interpreter {
    /// None if the file is no script that names one.
    pub fn of(script: &Path) -> Option<Self> {
        let mut start = Vec::new();
        elf::open(script).ok()?.take(256).read_to_end(&mut start).ok()?;
        Self::parse(&start)
    }

    fn parse(start: &[u8]) -> Option<Self> {
        let blank = |byte: &u8| matches!(byte, b' ' | b'\t');
        let line = start.strip_prefix(b"#!")?.split(|byte| *byte == b'\n').next()?;
        let trimmed = |text: &[u8]| {
            let first = text.iter().position(|byte| !blank(byte)).unwrap_or(text.len());
            let last = text.iter().rposition(|byte| !blank(byte)).map_or(first, |last| last + 1);
            text.get(first..last).unwrap_or_default().to_vec()
        };
        let line = trimmed(line);
        let end = line.iter().position(blank).unwrap_or(line.len());
        let (path, argument) = line.split_at_checked(end)?;
        let argument = Some(trimmed(argument)).filter(|argument| !argument.is_empty());
        (!path.is_empty()).then(|| Self {
            path: OsStr::from_bytes(path).into(),
            argument: argument.map(|argument| OsStr::from_bytes(&argument).to_owned()),
        })
    }

    /// Whether the line ends as those of Windows do, so that a carriage return is taken for a part of it.
    pub fn has_carriage_return(&self) -> bool {
        let last = self.argument.as_deref().unwrap_or(self.path.as_os_str());
        last.as_bytes().ends_with(b"\r")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn first_lines() {
        for (line, path, argument) in [
            ("#!/bin/sh", "/bin/sh", None),
            ("#! /bin/sh -e \nmore", "/bin/sh", Some("-e")),
            ("#!/usr/bin/env -S A=b c\n", "/usr/bin/env", Some("-S A=b c")),
            ("#!/bin/sh\r\n", "/bin/sh\r", None),
            ("#!/bin/sh -e\r\n", "/bin/sh", Some("-e\r")),
        ] {
            let found = Interpreter::parse(line.as_bytes()).expect(line);
            assert_eq!((found.path.to_str(), found.argument.as_ref().and_then(|a| a.to_str())), (Some(path), argument));
            assert_eq!(found.has_carriage_return(), line.contains('\r'), "{line:?}");
        }
        for line in ["", "#", "#!", "#! \n", "/bin/sh"] {
            assert_eq!(Interpreter::parse(line.as_bytes()), None, "{line:?}");
        }
    }
}
