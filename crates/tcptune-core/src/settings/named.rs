//! Profiles that have a name: settings for a purpose, in the grammar of configuration files. Some are built in, others are
//! files of the operator, which take the place of built-in ones of the same name.

use std::borrow::Cow;
use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

use crate::settings::config;
use crate::settings::diagnostic::{Diagnostic, Subject, nearest};

/// What the name of a file ends with.
pub const SUFFIX: &str = ".conf";

/// The system's directory.
pub const SYSTEM: &str = "/etc/tcptune";

macro_rules! built_in {
    ($($name:literal)*) => {
        /// The names of the built-in ones, with spaces between: a list would be pointers, each a relocation at exec.
        const NAMES: &str = concat!($($name, " "),*);

        fn text_of_built_in(name: &str) -> Option<&'static str> {
            match name {
                $($name => Some(include_str!(concat!("../../profiles/", $name, ".conf"))),)*
                _ => None,
            }
        }
    };
}

built_in! { "cloud-nat" "database-client" "fast-fail" "interactive" "server" }

/// The names of the built-in ones.
pub fn names() -> impl Iterator<Item = &'static str> + Clone {
    NAMES.split_ascii_whitespace()
}

/// A profile that was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Its file, or `profile NAME` of a built-in one.
    pub source: String,
    /// What it says: text of the library itself, or of a file.
    pub text: Cow<'static, str>,
}

impl Found {
    /// A built-in one.
    #[must_use]
    pub fn built_in(name: &str) -> Option<Self> {
        text_of_built_in(name).map(|text| Self { source: ["profile ", name].concat(), text: text.into() })
    }

    /// Whether it is a file of the operator's.
    #[must_use]
    pub fn is_file(&self) -> bool {
        matches!(self.text, Cow::Owned(_))
    }
}

/// The directories of the operator's own, the first one first: the user's (XDG Base Directory Specification), then the
/// system's.
pub fn directories(xdg_config_home: Option<&OsStr>, home: Option<&OsStr>) -> impl Iterator<Item = PathBuf> {
    // Without Path::join, whose code an exec would have to load.
    let own = |text: Option<&OsStr>, below: &str| {
        let root = text.filter(|path| path.as_bytes().first() == Some(&b'/'))?;
        let mut path = OsString::with_capacity(root.len() + 32);
        path.push(root);
        path.push(below);
        Some(path)
    };
    let own = own(xdg_config_home, "/tcptune").or_else(|| own(home, "/.config/tcptune"));
    own.into_iter().chain([OsString::from(SYSTEM)]).map(PathBuf::from)
}

/// The profile of a name; none if there is none. A name leads to no other directory than these.
///
/// # Errors
/// A name that is none, and a file that is there and cannot be read.
pub fn find(name: &str, directories: impl IntoIterator<Item = PathBuf>) -> Result<Option<Found>, Diagnostic> {
    if name.contains('/') {
        return Err(diagnostic(name, "the name of a profile has no /; TCPTUNE_CONFIG takes a path".to_owned()));
    }
    for directory in directories {
        let mut path = directory.into_os_string();
        for part in ["/", name, SUFFIX] {
            path.push(part);
        }
        let text = config::read_if_there(Path::new(&path)).transpose();
        let Some(text) = text else { continue };
        let source = config::lossy(path.into_vec());
        return match text {
            Ok(text) => Ok(Some(Found { source, text: text.into() })),
            Err(problem) => Err(Diagnostic { subject: Subject::File(source), text: String::new(), problem }),
        };
    }
    Ok(Found::built_in(name))
}

/// That there is no profile of this name, but these.
#[must_use]
pub fn unknown<'a>(name: &str, known: impl Iterator<Item = &'a str> + Clone) -> Diagnostic {
    let near = nearest(name, known.clone()).map_or(String::new(), |near| format!("did you mean {near}? "));
    let known = known.collect::<Vec<_>>().join(", ");
    diagnostic(name, format!("no such profile; {near}there are {known}, and files NAME{SUFFIX} in {SYSTEM}"))
}

fn diagnostic(name: &str, problem: String) -> Diagnostic {
    Diagnostic::variable("PROFILE", name, problem)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::options::words::Expected;
    use crate::settings::draft::Draft;
    use crate::settings::source::{KeepaliveDefaults, Process};
    use std::fs;

    #[test]
    fn every_file_is_built_in() {
        let directory = Path::new(env!("CARGO_MANIFEST_DIR")).join("profiles");
        let files = fs::read_dir(&directory).expect("profiles");
        let mut files: Vec<_> =
            files.map(|entry| entry.expect("a file").file_name().into_string().expect("UTF-8")).collect();
        files.sort();
        assert_eq!(files, names().map(|name| name.to_owned() + SUFFIX).collect::<Vec<_>>());
        for name in names() {
            let text = fs::read_to_string(directory.join(name.to_owned() + SUFFIX)).expect("a profile");
            assert_eq!(text_of_built_in(name), Some(&*text));
        }
    }

    #[test]
    fn the_option_table_names_them() {
        let told: Vec<_> = Expected::Profile.text().split([' ', ',']).collect();
        assert!(names().all(|name| told.contains(&name)), "{told:?}");
    }

    /// They are read without the grammar of files, which an exec would have to load.
    #[test]
    fn built_in_ones_say_what_a_file_with_their_text_would() {
        for name in names() {
            let Found { source, text } = Found::built_in(name).expect("built in");
            let [built_in, of_a_file] = [text.clone(), Cow::Owned(text.into_owned())].map(|text| {
                let mut draft = Draft::new::<&str>(&[]);
                draft.found(Ok(Found { source: source.clone(), text }));
                let kernel = || KeepaliveDefaults { idle: 1, interval: 1, count: 1 };
                let (settings, wrong) = draft.settle(Process::default, kernel);
                assert_eq!(wrong, [], "{name}");
                assert_eq!(settings.profiles.len(), 1, "{name}: a rule");
                settings.in_force.into_iter().map(|s| (s.row, s.value, s.place.line)).collect::<Vec<_>>()
            });
            assert!(built_in.len() >= 4, "{name}");
            assert_eq!(built_in, of_a_file, "{name}");
        }
    }

    #[test]
    fn where_the_operators_own_are() {
        let at = |xdg: Option<&str>, home: Option<&str>| {
            let directories = directories(xdg.map(OsStr::new), home.map(OsStr::new));
            directories.map(|path| path.to_string_lossy().into_owned()).collect::<Vec<_>>()
        };
        assert_eq!(at(Some("/x"), Some("/home/op")), ["/x/tcptune", SYSTEM]);
        for none in [None, Some(""), Some("x"), Some("./x")] {
            assert_eq!(at(none, Some("/home/op")), ["/home/op/.config/tcptune", SYSTEM], "{none:?}");
            assert_eq!(at(none, none), [SYSTEM], "{none:?}");
        }
    }

    #[test]
    fn the_first_file_wins_and_a_name_stays_in_its_directory() {
        let root = std::env::temp_dir().join(format!("tcptune-named-{}", std::process::id()));
        let [first, second] = ["first", "second"].map(|name| root.join(name));
        for directory in [&first, &second] {
            fs::create_dir_all(directory).expect("made");
        }
        let found = |name: &str| find(name, [first.clone(), second.clone()]);
        let text = |name: &str| found(name).expect("readable").map(|named| named.text);
        fs::write(root.join("outside.conf"), "keepidle = 1\n").expect("written");
        assert_eq!(text("mine"), None);
        fs::write(second.join("mine.conf"), "keepidle = 2\n").expect("written");
        assert_eq!(text("mine"), Some("keepidle = 2\n".into()));
        fs::write(first.join("mine.conf"), "keepidle = 3\n").expect("written");
        assert_eq!(text("mine"), Some("keepidle = 3\n".into()));
        assert_eq!(found("server"), Ok(Found::built_in("server")));
        fs::write(second.join("server.conf"), "nodelay = on\n").expect("written");
        assert_eq!(text("server"), Some("nodelay = on\n".into()));
        for name in ["../outside", "/etc/passwd", "x/../mine", "."] {
            assert!(!matches!(found(name), Ok(Some(_))), "{name}");
        }
        fs::create_dir(first.join("directory.conf")).expect("made");
        let wrong = found("directory").expect_err("no file").to_string();
        assert!(wrong.ends_with("directory.conf: is not a regular file"), "{wrong}");
        // What is no directory, or too long for a name, has no files.
        fs::write(root.join("file"), "").expect("written");
        assert_eq!(find("mine", [root.join("file")]), Ok(None));
        assert_eq!(found(&"x".repeat(300)), Ok(None));
        fs::remove_dir_all(&root).expect("removed");
    }

    #[test]
    fn an_unknown_name_gets_the_nearest_and_all_others() {
        let said = unknown("cloudnat", names()).to_string();
        assert!(
            said.starts_with("TCPTUNE_PROFILE=cloudnat: no such profile; did you mean cloud-nat? there are "),
            "{said}"
        );
        assert!(names().all(|name| said.contains(name)), "{said}");
        let said = unknown("tuesday", names()).to_string();
        assert!(said.contains("no such profile; there are cloud-nat, "), "{said}");
    }
}
