//! Profiles: settings for a purpose, each with its reason, in the grammar of configuration files.

use std::ffi::OsStr;
use std::fs;
use std::path::PathBuf;

use clap::Arg;
use clap_complete::engine::ArgValueCandidates;
use tcptune_core::options::table::{self, Own, Target};
use tcptune_core::settings::config::{self, Trust};
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::grammar::{self, Entry};
use tcptune_core::settings::source::{Process, Source};

use crate::screens::candidates;
use crate::screens::error::Error;
use crate::system::{kernel, variables};

const SUFFIX: &str = ".conf";
const SYSTEM: &str = "/etc/tcptune";

macro_rules! built_in {
    ($($name:literal)*) => {
        &[$(($name, include_str!(concat!("../../profiles/", $name, ".conf")))),*]
    };
}

const BUILT_IN: &[(&str, &str)] = built_in! { "cloud-nat" "database-client" "fast-fail" "interactive" "server" };

/// Where a profile comes from.
#[derive(Clone, Debug, PartialEq, Eq)]
enum Origin {
    BuiltIn,
    File(PathBuf),
}

/// A profile.
pub struct Profile {
    name: String,
    origin: Origin,
    text: String,
}

/// The flag that names one.
pub fn arg() -> Arg {
    Arg::new("profile")
        .long("profile")
        .value_name("NAME")
        .help("Settings for a purpose, see `tcptune profile list`; those that stand as flags win over it")
        .add(named())
}

/// Their names, for a shell.
pub fn named() -> ArgValueCandidates {
    candidates::words(|| {
        all().into_iter().map(|profile| (profile.name.clone(), profile.purpose().to_owned())).collect()
    })
}

/// The directories of the operator's own, the first one first.
fn directories() -> Vec<PathBuf> {
    let absolute = |text: Option<&OsStr>| text.map(PathBuf::from).filter(|path| path.is_absolute());
    let variables = variables::own();
    let own = absolute(variables.xdg_config_home()).or_else(|| Some(absolute(variables.home())?.join(".config")));
    own.map(|own| own.join("tcptune")).into_iter().chain([PathBuf::from(SYSTEM)]).collect()
}

/// Every profile that can be named, by name.
pub fn all() -> Vec<Profile> {
    let files = directories().into_iter().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let own =
        files.filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(SUFFIX).map(str::to_owned));
    let mut names: Vec<_> = own.chain(BUILT_IN.iter().map(|(name, _)| (*name).to_owned())).collect();
    names.sort();
    names.dedup();
    names.iter().filter_map(|name| Profile::find(name).ok()?).collect()
}

impl Profile {
    /// The profile of this name; an error if there is none, or something in it is wrong.
    pub fn load(name: &str) -> Result<Self, Error> {
        let Some(profile) = Self::find(name)? else {
            let names: Vec<_> = all().into_iter().map(|profile| profile.name).collect();
            return Err(Error::usage(format!("no profile \"{name}\"; there are {}", names.join(", "))));
        };
        let wrong = profile.wrong();
        if wrong.is_empty() { Ok(profile) } else { Err(Error::usage(wrong).hint("mend the profile")) }
    }

    fn find(name: &str) -> Result<Option<Self>, Error> {
        if name.is_empty() || name.contains('/') {
            return Err(
                Error::usage(format!("\"{name}\" is no name of a profile")).hint("a file is named with --config")
            );
        }
        for directory in directories() {
            let path = directory.join(format!("{name}{SUFFIX}"));
            match config::read(&path.to_string_lossy(), Trust::User) {
                Ok(Some(text)) => return Ok(Some(Self { name: name.to_owned(), origin: Origin::File(path), text })),
                Ok(None) => {}
                Err(problem) => return Err(Error::failed(format!("{} {problem}", path.display()))),
            }
        }
        Ok(BUILT_IN.iter().find(|(built_in, _)| *built_in == name).map(|(_, text)| Self {
            name: name.to_owned(),
            origin: Origin::BuiltIn,
            text: (*text).to_owned(),
        }))
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it comes from, for people.
    pub fn from(&self) -> String {
        match &self.origin {
            Origin::BuiltIn => "built in".to_owned(),
            Origin::File(path) => path.display().to_string(),
        }
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.text
    }

    /// What the first line says it is for.
    pub fn purpose(&self) -> &str {
        self.text.lines().next().and_then(|line| line.strip_prefix('#')).unwrap_or_default().trim()
    }

    /// The library's own messages about it.
    fn wrong(&self) -> Vec<String> {
        let name = match &self.origin {
            Origin::BuiltIn => format!("profile {}", self.name),
            Origin::File(path) => path.to_string_lossy().into_owned(),
        };
        let mut draft = Draft::new(&[("CONFIG", &name)]);
        draft.file(Source::Config, Ok(Some(self.text.clone())));
        let (_, wrong) = draft.settle(Process::default, kernel::keepalive_defaults);
        wrong.iter().map(ToString::to_string).collect()
    }

    /// Its entries as text, each with the comment behind it.
    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text.lines().flat_map(|line| {
            let (entries, comment) = line.split_once('#').unwrap_or((line, ""));
            entries.split(';').map(move |entry| (entry.trim(), comment.trim()))
        })
    }

    /// Name as in the table, value and reason of each setting.
    pub fn settings(&self) -> Vec<(&'static str, &str, &str)> {
        let setting = |(text, reason)| match grammar::entries(text).next() {
            Some(Ok(Entry::Setting(setting))) => {
                let (_, opt) = table::find(&setting.name.to_ascii_uppercase())?;
                let is_of_a_file = matches!(opt.target, Target::Own(Own::Config | Own::Rules));
                (!is_of_a_file).then_some((opt.name(), setting.value, reason))
            }
            _ => None,
        };
        self.entries().filter_map(setting).collect()
    }

    /// Its rules.
    pub fn rules(&self) -> Vec<&str> {
        let is_rule = |text: &&str| matches!(grammar::entries(text).next(), Some(Ok(Entry::Rule(_))));
        self.entries().map(|(text, _)| text).filter(is_rule).collect()
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn built_in() -> impl Iterator<Item = Profile> {
        BUILT_IN.iter().map(|(name, text)| Profile {
            name: (*name).to_owned(),
            origin: Origin::BuiltIn,
            text: (*text).to_owned(),
        })
    }

    #[test]
    fn built_in_ones_are_as_they_should_be() {
        for profile in built_in() {
            assert_eq!(profile.wrong(), [""; 0], "{}", profile.name);
            assert!(profile.purpose().len() > 20, "{}: purpose", profile.name);
            assert!(profile.settings().len() >= 4, "{}: settings", profile.name);
            for (setting, _, reason) in profile.settings() {
                assert!(reason.len() > 20, "{}: {setting} needs a reason", profile.name);
            }
        }
    }

    #[test]
    fn every_file_is_built_in() {
        let directory = concat!(env!("CARGO_MANIFEST_DIR"), "/profiles");
        let mut files: Vec<_> = fs::read_dir(directory)
            .expect("profiles")
            .map(|entry| entry.expect("a file").file_name().into_string().expect("UTF-8"))
            .collect();
        files.sort();
        let built_in: Vec<_> = built_in().map(|profile| profile.name + SUFFIX).collect();
        assert_eq!(files, built_in);
    }

    #[test]
    fn clouds_do_not_forget_what_cloud_nat_keeps() {
        const SHORTEST: i64 = 240; // Azure's
        let cloud_nat = built_in().find(|profile| profile.name == "cloud-nat").expect("built in");
        let number = |wanted| {
            let settings = cloud_nat.settings();
            let (_, value, _) = settings.iter().find(|(name, ..)| *name == wanted).expect(wanted);
            value.parse::<i64>().expect("a number")
        };
        assert!(number("KEEPIDLE") + number("KEEPINTVL") < SHORTEST, "also if one probe is lost");
    }

    #[test]
    fn entries_of_a_profile() {
        let text = "# For tests\nkeepidle = 5; nodelay=on # why\ndst=::1 : off # not there\n".to_owned();
        let profile = Profile { name: "test".to_owned(), origin: Origin::BuiltIn, text };
        assert_eq!(profile.purpose(), "For tests");
        assert_eq!(profile.settings(), [("KEEPIDLE", "5", "why"), ("NODELAY", "on", "why")]);
        assert_eq!(profile.rules(), ["dst=::1 : off"]);
    }
}
