//! What is kept in the kernel of an attachment, so that it can be told who has made it and what holds.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use rustix::time::{ClockId, clock_gettime};
use serde::{Deserialize, Serialize};
use tcptune_core::options::table::{OPTIONS, Own, Target};
use tcptune_core::options::value::Value;

use super::layout::{Count, state};
use super::tuning::{Machine, OfUser, SHORTEST, Tuning};
use crate::system::kernel::Kernel;

/// One attachment.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct About {
    /// Of the command that has made it.
    pub version: String,
    /// Seconds since 1970.
    pub since: u64,
    /// Who: user id, and the name where it is known.
    pub uid: u32,
    pub by: String,
    /// Name and value of what holds for all sockets that no rule matches.
    pub settings: Vec<(String, String)>,
    /// The rules, as they were written.
    pub rules: Vec<String>,
    /// The names of the programs.
    pub programs: Vec<String>,
    /// The names of the slots, in the order of their bits.
    pub slots: Vec<String>,
    /// The longest connect timeout, in milliseconds.
    pub longest: u64,
    /// When a trial ends, on the clock of the programs.
    pub until: Option<u64>,
    /// Told apart from the attachment that it replaced, whose number is one less.
    pub generation: u16,
}

impl About {
    /// Of settings that are about to be attached, as rules were written.
    pub fn new(settings: &[OfUser], rules: Vec<String>, tuning: &Tuning<'_>, until: Option<u64>) -> Self {
        let settings = || settings.iter().map(|(_, settings)| settings);
        let shown = |row: usize, value: &Value| {
            let opt = OPTIONS.get(row)?;
            let held = match (opt.target, value) {
                (Target::Own(Own::ConnectTimeout), Value::Int(ms)) => Value::Int((*ms).max(SHORTEST.into())),
                _ => value.clone(),
            };
            tuning.sets(opt).then(|| (opt.name().to_owned(), opt.kind.show(&held).to_string()))
        };
        let uid = rustix::process::getuid().as_raw();
        let longest = settings()
            .flat_map(|settings| &settings.profiles)
            .filter_map(tcptune_core::settings::profile::Profile::connect_timeout)
            .max();
        let in_force = settings().next().into_iter().flat_map(|of_others| &of_others.in_force);
        Self {
            version: env!("CARGO_PKG_VERSION").to_owned(),
            since: SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs(),
            uid,
            by: user(uid).unwrap_or_else(|| uid.to_string()),
            settings: in_force.filter_map(|it| shown(it.row, &it.value)).collect(),
            rules,
            programs: super::kinds(tuning).map(|kind| kind.name.to_owned()).collect(),
            slots: tuning.slots.iter().map(|slot| slot.opt.name().to_owned()).collect(),
            longest: longest.map_or(0, |ms| ms.unsigned_abs().into()),
            until,
            generation: tuning.generation,
        }
    }

    /// Whether a program of this name belongs to it.
    pub fn has(&self, program: &str) -> bool {
        self.programs.iter().any(|name| name == program)
    }

    /// How much is left of a trial; nothing once it is over.
    pub fn left(&self) -> Option<Duration> {
        self.until.map(|until| Duration::from_nanos(until.saturating_sub(now())))
    }
}

/// The clock of the programs, in nanoseconds.
pub fn now() -> u64 {
    let now = clock_gettime(ClockId::Monotonic);
    now.tv_sec.unsigned_abs() * 1_000_000_000 + now.tv_nsec.unsigned_abs()
}

/// Its name in /etc/passwd.
fn user(uid: u32) -> Option<String> {
    let text = std::fs::read_to_string("/etc/passwd").ok()?;
    text.lines().find_map(|line| {
        let mut fields = line.split(':');
        let name = fields.next()?;
        (fields.nth(1)?.parse() == Ok(uid)).then(|| name.to_owned())
    })
}

/// This machine. Ticks of its clock (`CONFIG_HZ`): the coarse clocks go with them.
pub fn machine() -> Machine {
    let resolution = rustix::time::clock_getres(ClockId::MonotonicCoarse);
    Machine {
        ticks: u32::try_from(1_000_000_000 / resolution.tv_nsec.max(1)).unwrap_or(100),
        syn_retries: Kernel::read().syn_retries.unsigned_abs().try_into().unwrap_or(u32::MAX),
    }
}

/// What the programs have counted.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
pub struct Counts {
    pub connects: u64,
    pub established: u64,
    /// These two are counted where there is a connect timeout.
    pub timed_out: Option<u64>,
    pub failed: Option<u64>,
    /// From connect to connection, on average.
    pub mean_microseconds: u64,
    pub listens: u64,
    pub accepts: u64,
    pub left_out: u64,
    pub unbounded: u64,
}

/// What changes while it is attached.
#[derive(Clone, Debug)]
pub struct State {
    bytes: Vec<u8>,
}

impl State {
    pub const fn new(bytes: Vec<u8>) -> Self {
        Self { bytes }
    }

    fn number(&self, offset: i32) -> u64 {
        let bytes = usize::try_from(offset).ok().and_then(|at| self.bytes.get(at..)?.first_chunk());
        bytes.map_or(0, |bytes| u64::from_ne_bytes(*bytes))
    }

    /// Whether it is being detached, or a detach has not come to its end.
    pub fn is_stopped(&self) -> bool {
        self.number(state::STOPPED) != 0
    }

    /// The slots that the kernel has refused.
    pub fn refused<'a>(&self, slots: &'a [String]) -> impl Iterator<Item = &'a str> {
        let bits = self.number(state::REFUSED);
        slots.iter().enumerate().filter(move |(slot, _)| bits >> slot & 1 != 0).map(|(_, name)| name.as_str())
    }

    /// The counts; of a trial those of its time, or of after it.
    pub fn counts(&self, has_timeouts: bool, is_after: bool) -> Counts {
        let get = |count: Count| self.number(count.offset() + if is_after { Count::BYTES } else { 0 });
        let established = get(Count::Established);
        Counts {
            connects: get(Count::Connects),
            established,
            timed_out: has_timeouts.then(|| get(Count::TimedOut)),
            failed: has_timeouts.then(|| get(Count::Failed)),
            mean_microseconds: get(Count::Microseconds).checked_div(established).unwrap_or_default(),
            listens: get(Count::Listens),
            accepts: get(Count::Accepts),
            left_out: get(Count::LeftOut),
            unbounded: get(Count::Unbounded),
        }
    }
}
