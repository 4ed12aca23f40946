//! Profiles: settings for a purpose, each with its reason, in the grammar of configuration files.

use std::fs;
use std::path::PathBuf;

use clap::Arg;
use clap_complete::engine::ArgValueCandidates;
use tcptune_core::options::table::{self, Own, Target};
use tcptune_core::settings::diagnostic::{Diagnostic, Subject};
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::grammar::{self, Entry};
use tcptune_core::settings::named::{self, Found, SUFFIX};
use tcptune_core::settings::source::Process;

use crate::screens::candidates;
use crate::screens::error::Error;
use crate::system::{kernel, variables};

/// A profile.
pub struct Profile {
    name: String,
    found: Found,
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
fn directories() -> impl Iterator<Item = PathBuf> {
    let variables = variables::own();
    named::directories(variables.xdg_config_home(), variables.home())
}

/// Every profile that can be named, by name.
pub fn all() -> Vec<Profile> {
    let files = directories().filter_map(|directory| fs::read_dir(directory).ok()).flatten();
    let own =
        files.filter_map(|entry| entry.ok()?.file_name().into_string().ok()?.strip_suffix(SUFFIX).map(str::to_owned));
    let mut names: Vec<_> = own.chain(named::names().map(str::to_owned)).collect();
    names.sort();
    names.dedup();
    let profile = |name: String| Some(Profile { found: named::find(&name, directories()).ok()??, name });
    names.into_iter().filter_map(profile).collect()
}

/// The profile of a name, as the library would find it in a program with this command's environment.
pub fn find(name: &str) -> Result<Found, Diagnostic> {
    named::find(name, directories())?.ok_or_else(|| {
        let all = all();
        named::unknown(name, all.iter().map(Profile::name))
    })
}

impl Profile {
    /// The profile of this name; an error if there is none, or something in it is wrong.
    pub fn load(name: &str) -> Result<Self, Error> {
        let found = match find(name) {
            Ok(found) => found,
            Err(Diagnostic { subject: Subject::File(path), problem, .. }) => {
                return Err(Error::failed(format!("{path} {problem}")));
            }
            Err(Diagnostic { problem, .. }) => return Err(Error::usage(format!("profile {name}: {problem}"))),
        };
        let profile = Self { name: name.to_owned(), found };
        let wrong = profile.wrong();
        if wrong.is_empty() { Ok(profile) } else { Err(Error::usage(wrong).hint("mend the profile")) }
    }

    /// Its name.
    pub fn name(&self) -> &str {
        &self.name
    }

    /// Where it comes from, for people.
    pub fn from(&self) -> &str {
        if self.found.is_file() { &self.found.source } else { "built in" }
    }

    /// As it is written.
    pub fn text(&self) -> &str {
        &self.found.text
    }

    /// What the first line says it is for.
    pub fn purpose(&self) -> &str {
        self.text().lines().next().and_then(|line| line.strip_prefix('#')).unwrap_or_default().trim()
    }

    /// The library's own messages about it.
    fn wrong(&self) -> Vec<String> {
        let mut draft = Draft::new::<&str>(&[]);
        draft.found(Ok(self.found.clone()));
        let (_, wrong) = draft.settle(Process::default, kernel::keepalive_defaults);
        wrong.iter().map(ToString::to_string).collect()
    }

    /// Its entries as text, each with the comment behind it.
    fn entries(&self) -> impl Iterator<Item = (&str, &str)> {
        self.text().lines().flat_map(|line| {
            let (entries, comment) = line.split_once('#').unwrap_or((line, ""));
            entries.split(';').map(move |entry| (entry.trim(), comment.trim()))
        })
    }

    /// Name as in the table, value and reason of each setting.
    pub fn settings(&self) -> Vec<(&'static str, &str, &str)> {
        let setting = |(text, reason)| match grammar::entries(text).next() {
            Some(Ok(Entry::Setting(setting))) => {
                let (_, opt) = table::find(&setting.name.to_ascii_uppercase())?;
                let is_of_a_file = matches!(opt.target, Target::Own(Own::Config | Own::Profile | Own::Rules));
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

    fn profile(name: &str, text: &str) -> Profile {
        Profile {
            name: name.to_owned(),
            found: Found { source: format!("profile {name}"), text: text.to_owned().into() },
        }
    }

    fn built_in() -> impl Iterator<Item = Profile> {
        named::names().map(|name| Profile { name: name.to_owned(), found: Found::built_in(name).expect("built in") })
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
        let text = "# For tests\nkeepidle = 5; nodelay=on # why\ndst=::1 : off # not there\n";
        let profile = profile("test", text);
        assert_eq!(profile.purpose(), "For tests");
        assert_eq!(profile.settings(), [("KEEPIDLE", "5", "why"), ("NODELAY", "on", "why")]);
        assert_eq!(profile.rules(), ["dst=::1 : off"]);
    }
}
