//! Where settings come from, and what is asked of the process and the kernel to settle them.

use crate::settings::grammar::{Scope, Word};
use crate::settings::rules::glob;

/// Where settings come from, in the order in which they are laid over each other.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub enum Source {
    /// `/etc/tcptune.conf`.
    System,
    /// The file of `TCPTUNE_CONFIG`.
    Config,
    /// The profile of `TCPTUNE_PROFILE`.
    Profile,
    /// A variable.
    Environment,
}

/// Where a setting or a rule stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Place {
    /// In which source.
    pub source: Source,
    /// Counted from 1; 0 for a variable of its own.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

impl Place {
    pub(crate) fn of(source: Source, word: Word<'_>) -> Self {
        Self { source, line: word.line, column: word.column() }
    }
}

/// What is known of the process when its rules are settled.
#[derive(Clone, Debug, Default)]
pub struct Process {
    /// The names by which it can be called: of its executable, and of a script that it runs. They are paths where these are
    /// known.
    pub names: Vec<String>,
    /// Its effective user id.
    pub uid: u32,
}

impl Process {
    /// A process that runs this executable, was started as `started` (`AT_EXECFN`: of a script it is its own name), and has
    /// these arguments. Relative names are meant from `directory`.
    #[must_use]
    pub fn new<'a>(
        executable: &str,
        started: &str,
        arguments: impl IntoIterator<Item = &'a str>,
        directory: &str,
        uid: u32,
    ) -> Self {
        let absolute = |name: &str| match name.strip_prefix("./").unwrap_or(name) {
            name if name.starts_with('/') => name.to_owned(),
            name => format!("{}/{name}", directory.trim_end_matches('/')),
        };
        let mut names = vec![executable.to_owned(), absolute(started)];
        // `#!/usr/bin/env python3` and `python3 script.py` leave the script's name in the arguments only.
        if is_interpreter(base_name(executable)) {
            names.extend(script(arguments.into_iter().skip(1)).map(absolute));
        }
        Self { names, uid }
    }

    /// Any program of this user: no list of programs leaves it alone.
    #[must_use]
    pub fn any(uid: u32) -> Self {
        Self { names: vec![String::new()], uid }
    }

    /// Whether it is that.
    #[cold]
    pub(crate) fn is_any(&self) -> bool {
        matches!(&self.names[..], [name] if name.is_empty())
    }

    /// Whether the process is meant by `program`: a path must be the whole path, a bare name that of the file.
    #[must_use]
    pub fn is(&self, program: &str) -> bool {
        let by_path = program.contains('/');
        self.names.iter().any(|name| glob(program, if by_path { name } else { base_name(name) }))
    }

    #[cold]
    pub(crate) fn is_in(&self, scope: &Scope<'_>) -> bool {
        (scope.programs.is_empty() || scope.programs.iter().any(|program| self.is(program)))
            && (scope.uids.is_empty() || scope.uids.contains(&self.uid))
    }
}

/// Byte by byte: it is short, and asked for at each rule.
fn base_name(path: &str) -> &str {
    path.bytes().rposition(|byte| byte == b'/').and_then(|slash| path.get(slash + 1..)).unwrap_or(path)
}

/// Whether it runs scripts: `python3.11` is python.
#[cold]
fn is_interpreter(name: &str) -> bool {
    let name = name.trim_end_matches(|c: char| c.is_ascii_digit() || matches!(c, '.' | '-'));
    let all =
        "python pypy perl ruby node nodejs php php-cgi lua luajit tclsh Rscript sh bash dash ash ksh mksh zsh fish";
    all.split(' ').any(|known| known == name)
}

/// The first argument that is no option, unless the program is an argument itself.
#[cold]
fn script<'a>(mut arguments: impl Iterator<Item = &'a str>) -> Option<&'a str> {
    while let Some(argument) = arguments.next() {
        match argument {
            "-" | "-c" | "-e" | "-m" | "-p" | "--eval" | "--print" => return None,
            "-W" | "-X" | "-r" | "--require" => drop(arguments.next()),
            _ if argument.starts_with('-') => {}
            _ => return Some(argument),
        }
    }
    None
}

/// The kernel's own keepalive times, which `USER_TIMEOUT=auto` needs where a setting does not say.
#[derive(Clone, Copy, Debug)]
pub struct KeepaliveDefaults {
    /// `net.ipv4.tcp_keepalive_time`, seconds.
    pub idle: i64,
    /// `net.ipv4.tcp_keepalive_intvl`, seconds.
    pub interval: i64,
    /// `net.ipv4.tcp_keepalive_probes`.
    pub count: i64,
}

#[cfg(test)]
mod tests {
    use super::*;

    fn process(executable: &str, started: &str, line: &str) -> Process {
        Process::new(executable, started, line.split(' '), "/srv", 0)
    }

    #[test]
    fn a_path_is_meant_as_a_whole() {
        let curl = process("/usr/bin/curl", "curl", "curl http://x/y.py");
        for program in ["curl", "c*l", "/usr/bin/curl", "/usr/*", "*/curl", "/srv/curl"] {
            assert!(curl.is(program), "{program}");
        }
        for program in ["*bin*", "usr", "/usr/bin/c", "/bin/curl", "y.py", "bin/curl"] {
            assert!(!curl.is(program), "{program}");
        }
    }

    #[test]
    fn a_script_is_known_by_its_name_however_it_was_started() {
        for (started, line) in [
            ("./job.py", "python3 ./job.py -v"),
            ("/usr/bin/python3", "python3 job.py"),
            ("/usr/bin/python3", "python3 -u -W ignore ./job.py x"),
            ("/usr/bin/python3", "/usr/bin/python3 /srv/job.py"),
        ] {
            let job = process("/usr/bin/python3.11", started, line);
            for program in ["job.py", "/srv/job.py", "python3.11", "/usr/bin/python3*", "*.py"] {
                assert!(job.is(program), "{program}: {line}");
            }
        }
        for line in ["python3 -c job.py", "python3 -m job.py", "python3", "python3 - job.py"] {
            assert!(!process("/usr/bin/python3.11", "/usr/bin/python3", line).is("job.py"), "{line}");
        }
    }
}
