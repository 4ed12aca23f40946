//! The environment of the command, or of a process that it looks at, as far as either is of interest: read here only.
//!
//! envy takes strings, and its own `from_env` panics at a variable that is no UTF-8. So it is fed with one character for
//! each byte, which every environment can be written in, and the bytes are put together again behind it.

use std::collections::HashSet;
use std::ffi::{OsStr, OsString};
use std::fmt;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::sync::LazyLock;

use serde::de::{Error as _, IgnoredAny, MapAccess, Visitor};
use serde::{Deserialize, Deserializer};
use tcptune_core::options::table::PREFIX;

/// The variables with a meaning of their own.
#[derive(Clone, Debug, Default, PartialEq, Eq, Deserialize)]
pub struct Variables {
    no_color: Option<Text>,
    term: Option<Text>,
    shell: Option<Text>,
    home: Option<Text>,
    xdg_config_home: Option<Text>,
    path: Option<Text>,
    ld_preload: Option<Text>,
    tcptune_library: Option<Text>,
    journal_stream: Option<Text>,
    /// All that begin with `TCPTUNE_`, in their order.
    #[serde(skip)]
    settings: Settings,
}

/// What `Variables` has fields for.
const NAMES: [&str; 9] =
    ["NO_COLOR", "TERM", "SHELL", "HOME", "XDG_CONFIG_HOME", "PATH", "LD_PRELOAD", "TCPTUNE_LIBRARY", "JOURNAL_STREAM"];

/// Those that the command was started with.
pub fn own() -> &'static Variables {
    static OWN: LazyLock<Variables> = LazyLock::new(|| {
        #[allow(clippy::disallowed_methods, reason = "the one place that reads it")]
        Variables::read(std::env::vars_os())
    });
    &OWN
}

impl Variables {
    /// Of an environment, be it another process's.
    pub fn read(environment: impl IntoIterator<Item = (OsString, OsString)>) -> Self {
        let mut seen = HashSet::new();
        let (mut named, mut settings) = (Vec::new(), Vec::new());
        for (name, value) in environment {
            let (name, value) = (characters(&name), characters(&value));
            if name.starts_with(PREFIX) {
                // envy gives names in lower case, so the value brings its own.
                settings.push((name.clone(), format!("{name}={value}")));
            }
            // The first one counts, as for getenv(3), and `path` is not PATH.
            if NAMES.contains(&name.as_str()) && seen.insert(name.clone()) {
                named.push((name, value));
            }
        }
        let settings = envy::from_iter(settings).unwrap_or_default();
        Self { settings, ..envy::from_iter(named).unwrap_or_default() }
    }

    /// Whether output shall have no colour (no-color.org).
    pub fn no_color(&self) -> bool {
        is_set(self.no_color.as_ref()).is_some()
    }

    /// The kind of terminal.
    pub fn term(&self) -> Option<&OsStr> {
        is_set(self.term.as_ref())
    }

    /// The user's shell.
    pub fn shell(&self) -> Option<&OsStr> {
        is_set(self.shell.as_ref())
    }

    /// The user's directory.
    pub fn home(&self) -> Option<&OsStr> {
        is_set(self.home.as_ref())
    }

    /// The directory of the user's configuration files, if not the usual one.
    pub fn xdg_config_home(&self) -> Option<&OsStr> {
        is_set(self.xdg_config_home.as_ref())
    }

    /// Where programs are looked for. An empty one is the working directory.
    pub fn path(&self) -> Option<&OsStr> {
        self.path.as_ref().map(|path| path.0.as_os_str())
    }

    /// The libraries that the loader preloads.
    pub fn ld_preload(&self) -> Option<&OsStr> {
        is_set(self.ld_preload.as_ref())
    }

    /// The library that the command shall take.
    pub fn library(&self) -> Option<&OsStr> {
        is_set(self.tcptune_library.as_ref())
    }

    /// The socket of the journal, where standard error is that (systemd.exec(5)).
    pub fn journal_stream(&self) -> Option<&OsStr> {
        is_set(self.journal_stream.as_ref())
    }

    /// Name, without `TCPTUNE_`, and value of each setting, in the order of the environment.
    pub fn settings(&self) -> impl Iterator<Item = (&OsStr, &OsStr)> {
        self.settings.0.iter().map(|(name, value)| (name.as_os_str(), value.as_os_str()))
    }
}

fn is_set(text: Option<&Text>) -> Option<&OsStr> {
    text.map(|text| text.0.as_os_str()).filter(|text| !text.is_empty())
}

/// One for each byte.
fn characters(bytes: &OsStr) -> String {
    bytes.as_bytes().iter().copied().map(char::from).collect()
}

/// The bytes behind such characters.
#[derive(Clone, Debug, PartialEq, Eq)]
struct Text(OsString);

impl<'de> Deserialize<'de> for Text {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        let bytes: Result<Vec<_>, _> = String::deserialize(deserializer)?.chars().map(u8::try_from).collect();
        bytes.map(|bytes| Self(OsString::from_vec(bytes))).map_err(D::Error::custom)
    }
}

/// Names without their prefix, and values.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
struct Settings(Vec<(OsString, OsString)>);

impl<'de> Deserialize<'de> for Settings {
    fn deserialize<D: Deserializer<'de>>(deserializer: D) -> Result<Self, D::Error> {
        struct Each;
        impl<'de> Visitor<'de> for Each {
            type Value = Settings;

            fn expecting(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                f.write_str("variables")
            }

            fn visit_map<A: MapAccess<'de>>(self, mut map: A) -> Result<Settings, A::Error> {
                let mut settings = Vec::new();
                while let Some((IgnoredAny, Text(line))) = map.next_entry()? {
                    let (name, value) = line
                        .as_bytes()
                        .split_at(line.as_bytes().iter().position(|byte| *byte == b'=').unwrap_or(line.len()));
                    let name = name.strip_prefix(PREFIX.as_bytes()).unwrap_or(name);
                    let value = value.strip_prefix(b"=").unwrap_or_default();
                    settings.push((OsStr::from_bytes(name).to_owned(), OsStr::from_bytes(value).to_owned()));
                }
                Ok(Settings(settings))
            }
        }
        deserializer.deserialize_map(Each)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn read(environment: &[(&[u8], &[u8])]) -> Variables {
        let text = |bytes: &[u8]| OsStr::from_bytes(bytes).to_owned();
        Variables::read(environment.iter().map(|(name, value)| (text(name), text(value))))
    }

    #[test]
    fn a_variable_that_is_no_utf_8_ends_nothing() {
        let variables = read(&[
            (b"A\xff", b"b"),
            (b"PATH", b"/bin:/caf\xe9"),
            (b"TCPTUNE_LOG_FILE", b"/tmp/\xfe=\xff"),
            (b"TCPTUNE_\xc3\xa9", "é".as_bytes()),
            (b"HOME", b"/root"),
        ]);
        assert_eq!(variables.path(), Some(OsStr::from_bytes(b"/bin:/caf\xe9")));
        assert_eq!(variables.home(), Some(OsStr::new("/root")));
        let settings: Vec<_> = variables.settings().map(|(name, value)| (name.as_bytes(), value.as_bytes())).collect();
        assert_eq!(settings, [(&b"LOG_FILE"[..], &b"/tmp/\xfe=\xff"[..]), (b"\xc3\xa9", b"\xc3\xa9")]);
    }

    #[test]
    fn every_field_is_read() {
        let all: Vec<_> = NAMES.iter().map(|name| (name.as_bytes(), name.as_bytes())).collect();
        let variables = read(&all);
        assert!(variables.no_color());
        let texts = [
            variables.term(),
            variables.shell(),
            variables.home(),
            variables.xdg_config_home(),
            variables.path(),
            variables.ld_preload(),
            variables.library(),
        ];
        assert_eq!(texts, [1, 2, 3, 4, 5, 6, 7].map(|i: usize| NAMES.get(i).map(OsStr::new)));
    }

    #[test]
    fn names_are_exact_and_the_first_of_a_name_counts() {
        let variables = read(&[
            (b"path", b"/lower"),
            (b"PATH", b"/first"),
            (b"PATH", b"/second"),
            (b"TCPTUNE_keepidle", b"1"),
            (b"TCPTUNE_KEEPIDLE", b"2"),
            (b"TCPTUNE_KEEPIDLE", b"3"),
        ]);
        assert_eq!(variables.path(), Some(OsStr::new("/first")));
        let settings: Vec<_> =
            variables.settings().filter_map(|(name, value)| name.to_str().zip(value.to_str())).collect();
        assert_eq!(settings, [("keepidle", "1"), ("KEEPIDLE", "2"), ("KEEPIDLE", "3")], "as they are, for the library");
    }

    #[test]
    fn what_is_empty_is_not_set_but_for_path() {
        let variables = read(&[(b"NO_COLOR", b""), (b"PATH", b""), (b"LD_PRELOAD", b"")]);
        assert!(!variables.no_color() && variables.ld_preload().is_none());
        assert_eq!(variables.path(), Some(OsStr::new("")));
    }
}
