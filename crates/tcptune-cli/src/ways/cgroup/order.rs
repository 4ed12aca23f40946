//! What is to be attached: settings, the programs of them, and what is told of them.

use std::collections::BTreeSet;
use std::fs::File;
use std::os::fd::AsFd;
use std::time::Duration;

use tcptune_core::options::table::{OPTIONS, Own, Target};
use tcptune_core::settings::config::{self, Trust};
use tcptune_core::settings::diagnostic::Diagnostic;
use tcptune_core::settings::grammar::{self, Entry};
use tcptune_core::settings::source::Process;

use super::about::{About, machine, now};
use super::attachment::{self, Attached, Failed};
use super::denied::may_attach;
use super::programs;
use super::tuning::{self, LeftOut, OfUser, SHORTEST, Tuning};
use crate::screens::error::{Error, say};
use crate::settings::flags::{self, Given};
use crate::settings::profile;

/// Settings to be attached.
pub struct Order {
    /// Those of all other users first.
    settings: Vec<OfUser>,
    rules: Vec<String>,
    left_out: Vec<LeftOut>,
    trial: Option<Duration>,
}

impl Order {
    /// Of what the command line gives. A mistake is an error.
    pub fn new(given: &Given, trial: Option<Duration>) -> Result<Self, Error> {
        let (order, wrong) = Self::of_the_rest(given, trial)?;
        if wrong.is_empty() { Ok(order) } else { Err(flags::refused(wrong)) }
    }

    /// For a program that is to be started, with all that it would find. Mistakes are left out, and said by whoever starts it.
    pub fn of_run(given: &Given) -> Result<Self, Error> {
        Ok(Self::of_the_rest(&given.clone().over_all(), None)?.0)
    }

    /// Of all but the mistakes, which are given as well.
    fn of_the_rest(given: &Given, trial: Option<Duration>) -> Result<(Self, Vec<Diagnostic>), Error> {
        let (others, wrong) = given.settings_of(Process::any(NOBODY));
        let mut texts = Texts::default();
        for said in given.iter().filter(|said| OPTIONS[said.row].target == Target::Own(Own::Rules)) {
            texts.add("--rule", &said.text)?;
        }
        // One of the environment: that of a flag has become settings.
        for said in given.iter().filter(|said| OPTIONS[said.row].target == Target::Own(Own::Profile)) {
            if let Ok(found) = profile::find(&said.text) {
                texts.add(&found.source, &found.text)?;
            }
        }
        if let Some(path) = &others.config
            && let Ok(Some(text)) = config::read(path, Trust::User)
        {
            texts.add(path, &text)?;
        }
        if let Ok(Some(text)) = given.system() {
            texts.add(config::SYSTEM, &text)?;
        }
        let Texts { rules, users } = texts;
        let mut settings = vec![(None, others)];
        for uid in users {
            settings.push((Some(uid), given.settings_of(Process::any(uid)).0));
        }
        let left_out = tuning::left_out(&settings);
        Ok((Self { settings, rules, left_out, trial }, wrong))
    }

    /// The same for a program that is to be started, if this user may, and all of it can be set there.
    pub fn that_sets_all(given: &Given) -> Option<Self> {
        let order = may_attach().then(|| Self::of_run(given).ok())??;
        // Who connects is not known on every kernel.
        let is_for_all = order.settings.len() == 1;
        (is_for_all && order.left_out.is_empty() && !order.tuning(0).is_empty()).then_some(order)
    }

    /// Of the environment alone.
    pub fn of_environment() -> Option<Self> {
        Self::that_sets_all(&Given::default())
    }

    /// What cannot be set.
    pub fn left_out(&self) -> &[LeftOut] {
        &self.left_out
    }

    fn tuning(&self, generation: u16) -> Tuning<'_> {
        Tuning::new(&self.settings, machine(), generation, self.trial.is_some())
    }

    /// Says what is left out, each a line; an error if that is not wanted, or nothing else is left.
    pub fn warn(&self) -> Result<(), Error> {
        let lines: Vec<_> = self.left_out.iter().map(|it| format!("{} is left out: {}", it.name, it.reason)).collect();
        let settings = || self.settings.iter().map(|(_, settings)| settings);
        if settings().any(|settings| settings.strict) && !lines.is_empty() {
            return Err(Error::usage(lines).hint("nothing is attached"));
        }
        if self.tuning(0).is_empty() {
            let nothing = "no setting that BPF programs could set; nothing is attached".to_owned();
            return Err(Error::usage(lines.into_iter().chain([nothing]).collect::<Vec<_>>()));
        }
        for line in lines {
            say(&line);
        }
        let shortest = settings()
            .flat_map(|settings| &settings.profiles)
            .filter_map(tcptune_core::settings::profile::Profile::connect_timeout)
            .min();
        if let Some(ms) = shortest.filter(|ms| *ms < SHORTEST) {
            say(&format!("CONNECT_TIMEOUT={ms}ms becomes {SHORTEST}ms, the least that the kernel keeps to"));
        }
        Ok(())
    }

    /// Name and listing of each program.
    pub fn listing(&self) -> Result<Vec<(&'static str, String)>, Error> {
        let programs = programs(&self.tuning(1)).map_err(|_| Failed::TooMany)?;
        Ok(programs.into_iter().map(|(kind, code)| (kind.name, code.to_string())).collect())
    }

    /// Attaches it to a cgroup that is locked; whether something of ours was there before.
    pub fn attach(&self, cgroup: &File) -> Result<(About, bool), Error> {
        let before = Attached::find(cgroup.as_fd())?;
        let generation = before.about().map_or(0, |about| about.generation).wrapping_add(1) & 0x7fff;
        let until = self.trial.map(|trial| now().saturating_add(u64::try_from(trial.as_nanos()).unwrap_or(u64::MAX)));
        let tuning = self.tuning(generation);
        let about = About::new(&self.settings, self.rules.clone(), &tuning, until);
        let text = serde_json::to_string(&about).map_err(std::io::Error::from)?;
        attachment::attach(cgroup.as_fd(), &tuning, &text, until, &before)?;
        Ok((about, !before.is_empty()))
    }
}

/// What no user is (chown(2)): the settings that it has are those of all whom no rule names.
const NOBODY: u32 = u32::MAX;

/// The rules of texts as they are written, and the users that they name.
#[derive(Default)]
struct Texts {
    rules: Vec<String>,
    users: BTreeSet<u32>,
}

impl Texts {
    /// One of programs is an error.
    fn add(&mut self, source: &str, text: &str) -> Result<(), Error> {
        for entry in grammar::entries(text).flatten() {
            let Entry::Rule(rule) = entry else { continue };
            if !rule.scope.programs.is_empty() {
                let place = format!("{source}:{}:{}", rule.word.line, rule.word.column());
                let why =
                    "the kernel tells a BPF program the name of a thread, which each may change, and not the program's";
                return Err(Error::usage(format!("{place}: program= is for the library only: {why}"))
                    .hint("the cgroup says whose sockets are tuned; nothing is attached"));
            }
            self.users.extend(&rule.scope.uids);
        }
        let lines = text.split(['\n', ';']).map(|line| line.split('#').next().unwrap_or_default().trim());
        self.rules.extend(lines.filter(|line| line.contains(" : ")).map(str::to_owned));
        Ok(())
    }
}
