//! What the library decided in a process, laid down where the command finds it from outside (process_vm_readv(2)): a
//! program may overwrite its environment, and files may have changed since.
//!
//! Writer and reader are of one release, which a note in the library says (`system::note`), so the layout is nobody else's.

use std::net::SocketAddr;
use std::sync::atomic::{AtomicU64, Ordering};

use crate::options::table::OPTIONS;
use crate::options::value::Value;
use crate::settings::diagnostic::Diagnostic;
use crate::settings::profile::{InForce, Profile};
use crate::settings::settled::Settings;
use crate::settings::source::{Place, Source};
use crate::sockets::stats;

/// How far start-up came.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum State {
    /// No setting was there, or secure execution leaves none; or start-up is not over.
    #[default]
    Nothing,
    /// `ONLY_PROGRAMS`, `SKIP_PROGRAMS`.
    OutOfScope,
    /// `DISABLE`.
    Disabled,
    /// No setting is about sockets.
    NoneOfSockets,
    /// This libc lacks a function.
    NoFunction,
    /// Sockets are tuned.
    Tuning,
    /// `BACKEND`: sockets are tuned another way.
    Elsewhere,
}

const STATES: [State; 7] = [
    State::Nothing,
    State::OutOfScope,
    State::Disabled,
    State::NoneOfSockets,
    State::NoFunction,
    State::Tuning,
    State::Elsewhere,
];

/// What became of the libraries that the process loads with `RTLD_DEEPBIND` (dlopen(3)).
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Plugins {
    /// It has loaded none.
    #[default]
    None,
    /// Their calls lead to the hooks.
    Reached,
    /// libc's symbols could not be written to.
    LeftAlone,
}

/// In the order of their numbers in the block.
const PLUGINS: [Plugins; 3] = [Plugins::None, Plugins::Reached, Plugins::LeftAlone];

/// All of it. Addresses and lengths are of the process.
#[derive(Debug)]
#[repr(C)]
pub struct Block {
    state: AtomicU64,
    entries: [AtomicU64; 2],
    /// The file of `TCPTUNE_CONFIG`.
    config: [AtomicU64; 2],
    /// Where the profile of `TCPTUNE_PROFILE` was found.
    profile: [AtomicU64; 2],
    /// Lines.
    wrong: [AtomicU64; 2],
    /// Of `STATS`; 0: those below count.
    counts: AtomicU64,
    /// How many rules there are.
    rules: AtomicU64,
    plugins: AtomicU64,
    /// By its number, the process that has laid this down: not its children, which find a copy.
    process: AtomicU64,
    /// What is counted without `STATS`.
    totals: stats::Totals,
}

/// For how many rules the settings are laid down as well: for a thousand they would take more memory than the rules.
const RULES_TOLD: usize = 32;

/// A setting, or the rule to which those that follow belong.
#[derive(Clone, Copy, Debug)]
#[repr(C)]
struct Entry {
    kind: u32,
    row: u32,
    source: u32,
    line: u32,
    column: u32,
    padding: u32,
    value: i64,
    text: [u64; 2],
}

const NUMBER: u32 = 0;
const AT_LEAST: u32 = 1;
const TEXT: u32 = 2;
const RULE: u32 = 3;

/// Words of an entry.
const WORDS: usize = size_of::<Entry>() / size_of::<u64>();

/// Larger ones are not believed: the memory is another process's.
const LONGEST: u64 = 1 << 20;

fn address<T: ?Sized>(of: &T) -> u64 {
    u64::try_from(std::ptr::from_ref(of).cast::<u8>().expose_provenance()).unwrap_or(0)
}

fn put(words: &[AtomicU64; 2], text: &str) {
    let [start, length] = words;
    start.store(address(text), Ordering::Relaxed);
    length.store(u64::try_from(text.len()).unwrap_or(0), Ordering::Relaxed);
}

impl Entry {
    fn new(place: Place, row: usize, value: &Value) -> Self {
        let (kind, value, text) = match value {
            Value::Int(n) => (NUMBER, *n, [0, 0]),
            Value::AtLeast(n) => (AT_LEAST, *n, [0, 0]),
            other => {
                // Rare: a name, an address, a path.
                let text = match other {
                    Value::Text(text) => text.clone(),
                    other => OPTIONS.get(row).map_or_else(String::new, |opt| opt.kind.show(other).to_string()),
                };
                let text: &'static str = text.leak();
                (TEXT, 0, [address(text), u64::try_from(text.len()).unwrap_or(0)])
            }
        };
        let source = match place.source {
            Source::System => 0,
            Source::Config => 1,
            Source::Profile => 2,
            Source::Environment => 3,
        };
        let row = u32::try_from(row).unwrap_or(u32::MAX);
        Self { kind, row, source, line: place.line, column: place.column, padding: 0, value, text }
    }

    fn place(self) -> Place {
        let source = match self.source {
            0 => Source::System,
            1 => Source::Config,
            2 => Source::Profile,
            _ => Source::Environment,
        };
        Place { source, line: self.line, column: self.column }
    }

    fn of_words(words: [u64; WORDS]) -> Self {
        // SAFETY: both are as large, and any bits are an Entry: it has integers only.
        unsafe { std::mem::transmute(words) }
    }
}

impl Default for Block {
    fn default() -> Self {
        Self::new()
    }
}

impl Block {
    /// Nothing decided yet.
    #[must_use]
    pub const fn new() -> Self {
        let [entries, config, profile, wrong] = [const { [const { AtomicU64::new(0) }; 2] }; 4];
        let [state, counts, rules, plugins, process] = [const { AtomicU64::new(0) }; 5];
        let totals = stats::Totals::none();
        Self { state, entries, config, profile, wrong, counts, rules, plugins, process, totals }
    }

    /// Lays down what was decided. What it refers to stays as long as the process.
    pub fn tell(&self, state: State, settings: &'static Settings) {
        let rules = settings.profiles.iter().filter(|profile| profile.rule.is_some());
        self.rules.store(u64::try_from(rules.clone().count()).unwrap_or(0), Ordering::Relaxed);
        let rules = rules.take(RULES_TOLD);
        let of_rules = rules.clone().map(|profile| profile.plan().len() + 2).sum::<usize>();
        let mut entries = Vec::with_capacity(settings.in_force.len() + of_rules);
        entries.extend(settings.in_force.iter().map(|InForce { row, value, place }| Entry::new(*place, *row, value)));
        for profile in rules {
            rule(profile, &mut entries);
        }
        let entries: &'static [Entry] = entries.leak();
        let [start, count] = &self.entries;
        start.store(address(entries), Ordering::Relaxed);
        count.store(u64::try_from(entries.len()).unwrap_or(0), Ordering::Relaxed);
        if let Some(config) = &settings.config {
            put(&self.config, config);
        }
        if let Some(profile) = &settings.profile_source {
            put(&self.profile, profile);
        }
        let state = STATES.iter().position(|known| *known == state).unwrap_or(0);
        self.state.store(u64::try_from(state).unwrap_or(0), Ordering::Release);
    }

    /// Says what became of plugins.
    pub fn tell_plugins(&self, plugins: Plugins) {
        let plugins = PLUGINS.iter().position(|known| *known == plugins).unwrap_or(0);
        self.plugins.store(u64::try_from(plugins).unwrap_or(0), Ordering::Relaxed);
    }

    /// Lays down what was wrong with the settings.
    #[cold]
    pub fn tell_wrong(&self, wrong: &[Diagnostic]) {
        let lines = wrong.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n");
        put(&self.wrong, lines.leak());
    }

    /// Lays down who counts, and where; gives what is counted always.
    pub fn tell_counts(&'static self, process: usize, stats: Option<&'static stats::Stats>) -> &'static stats::Totals {
        self.process.store(u64::try_from(process).unwrap_or(0), Ordering::Relaxed);
        let totals = stats.map_or(&self.totals, stats::Stats::totals);
        totals.begin();
        if let Some(stats) = stats {
            self.counts.store(address(stats.counts()), Ordering::Release);
        }
        totals
    }
}

fn rule(profile: &Profile, entries: &mut Vec<Entry>) {
    let Some(place) = profile.rule else { return };
    entries.push(Entry { kind: RULE, ..Entry::new(place, 0, &Value::Int(0)) });
    if let Some(ms) = profile.connect_timeout()
        && let Some(row) = crate::options::table::find("CONNECT_TIMEOUT").map(|(row, _)| row)
    {
        entries.push(Entry::new(place, row, &Value::Int(ms.into())));
    }
    entries.extend(profile.plan().iter().map(|planned| Entry::new(place, planned.row, &planned.value())));
}

/// A setting as it was found.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Found {
    /// Index of its row.
    pub row: usize,
    /// As people write it.
    pub value: String,
    /// Where it was said.
    pub place: Place,
}

/// What a process was found to have decided.
#[derive(Clone, Debug, Default)]
pub struct Told {
    /// How far start-up came.
    pub state: State,
    /// What holds without a rule.
    pub settings: Vec<Found>,
    /// How many rules there are.
    pub all_rules: u64,
    /// What holds by each of the first rules, in their order.
    pub rules: Vec<(Place, Vec<Found>)>,
    /// The file of `TCPTUNE_CONFIG`.
    pub config: String,
    /// Where the profile of `TCPTUNE_PROFILE` was found.
    pub profile: String,
    /// What was wrong, a line each.
    pub wrong: Vec<String>,
    /// What is counted, where sockets are tuned.
    pub counted: Option<Counted>,
    /// What became of plugins.
    pub plugins: Plugins,
}

/// Counts of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Counted {
    /// TCP sockets that were seen.
    pub seen: u64,
    /// Those for which something holds.
    pub tuned: u64,
    /// Connects.
    pub connects: u64,
    /// Those that timed out.
    pub timed_out: u64,
    /// Options that the kernel refused.
    pub refused: u64,
    /// With `STATS`, whom connects timed out to: how often, and milliseconds of the slowest one.
    pub peers: Option<Vec<(SocketAddr, u64, u64)>>,
    /// The process that has begun to count, by its number: of another one it is a parent, whose counts are in these.
    pub since: u64,
}

/// Reads words of a process; none if they are not there.
pub trait Memory {
    /// So many bytes from an address.
    fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>>;

    /// The same as words.
    fn words(&self, address: u64, count: usize) -> Option<Vec<u64>> {
        let bytes = self.bytes(address, count.checked_mul(size_of::<u64>())?)?;
        bytes.chunks_exact(size_of::<u64>()).map(|word| Some(u64::from_ne_bytes(word.try_into().ok()?))).collect()
    }
}

impl Told {
    /// From the block at this address.
    pub fn read(memory: &impl Memory, block: u64) -> Option<Self> {
        let words = memory.words(block, size_of::<Block>() / size_of::<u64>())?;
        let (words, totals) = words.split_at_checked(words.len().checked_sub(stats::TOTALS)?)?;
        let [
            state,
            entries,
            count,
            config,
            config_length,
            profile,
            profile_length,
            wrong,
            wrong_length,
            counts,
            all_rules,
            plugins,
            process,
        ] = words.try_into().ok()?;
        let mut told = Self {
            state: *STATES.get(usize::try_from(state).ok()?)?,
            plugins: *PLUGINS.get(usize::try_from(plugins).ok()?)?,
            all_rules,
            config: text(memory, config, config_length)?,
            profile: text(memory, profile, profile_length)?,
            wrong: text(memory, wrong, wrong_length)?.lines().map(str::to_owned).collect(),
            ..Self::default()
        };
        if count > LONGEST / 64 {
            return None;
        }
        let words = memory.words(entries, usize::try_from(count).ok()? * WORDS)?;
        for words in words.chunks_exact(WORDS) {
            let entry = Entry::of_words(words.try_into().ok()?);
            if entry.kind == RULE {
                told.rules.push((entry.place(), Vec::new()));
                continue;
            }
            let row = usize::try_from(entry.row).ok()?;
            let kind = OPTIONS.get(row)?.kind;
            let value = match entry.kind {
                NUMBER => kind.show(&Value::Int(entry.value)).to_string(),
                AT_LEAST => kind.show(&Value::AtLeast(entry.value)).to_string(),
                _ => text(memory, entry.text[0], entry.text[1])?,
            };
            let found = Found { row, value, place: entry.place() };
            told.rules.last_mut().map_or(&mut told.settings, |(_, settings)| settings).push(found);
        }
        if counts != 0 {
            told.counted = Some(Counted::read(memory, counts)?);
        } else if told.state == State::Tuning {
            told.counted = Some(Counted { since: process, ..Counted::of(totals)? });
        }
        Some(told)
    }

    /// The name of a source.
    #[must_use]
    pub fn source(&self, place: Place) -> String {
        match place.source {
            Source::System => format!("{}:{}", crate::settings::config::SYSTEM, place.line),
            Source::Config => format!("{}:{}", self.config, place.line),
            Source::Profile => format!("{}:{}", self.profile, place.line),
            Source::Environment => "environment".to_owned(),
        }
    }
}

impl Counted {
    fn of(totals: &[u64]) -> Option<Self> {
        let [seen, tuned, connects, timed_out, refused] = totals.try_into().ok()?;
        Some(Self { seen, tuned, connects, timed_out, refused, peers: None, since: 0 })
    }

    fn read(memory: &impl Memory, counts: u64) -> Option<Self> {
        let words = memory.words(counts, stats::WORDS)?;
        let (totals, of_peers) = words.split_at_checked(stats::TOTALS)?;
        let mut peers = Vec::<(SocketAddr, u64, u64)>::new();
        for peer in of_peers.chunks_exact(stats::PEER) {
            let [port, high, low, times, worst] = peer.try_into().ok()?;
            if port & stats::READY == 0 {
                continue;
            }
            let peer = stats::socket_address(high, low, port & 0xffff)?;
            match peers.iter_mut().find(|(known, ..)| *known == peer) {
                // Two threads may have entered one at the same time.
                Some((_, all, slowest)) => (*all, *slowest) = (*all + times, worst.max(*slowest)),
                None => peers.push((peer, times, worst)),
            }
        }
        peers.sort_by_key(|(_, times, worst)| std::cmp::Reverse((*worst, *times)));
        Some(Self { peers: Some(peers), ..Self::of(totals)? })
    }
}

fn text(memory: &impl Memory, address: u64, length: u64) -> Option<String> {
    if address == 0 || length == 0 {
        return Some(String::new());
    }
    let length = usize::try_from(length.min(LONGEST)).ok()?;
    Some(String::from_utf8_lossy(&memory.bytes(address, length)?).into_owned())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::settings::draft::Draft;
    use crate::settings::source::{KeepaliveDefaults, Process};
    use crate::system::clock;

    /// The memory of this process.
    struct Own;

    impl Memory for Own {
        fn bytes(&self, address: u64, length: usize) -> Option<Vec<u8>> {
            let start: *const u8 = std::ptr::with_exposed_provenance(usize::try_from(address).ok()?);
            // SAFETY: the block under test refers to what lives as long as the process.
            Some(unsafe { std::slice::from_raw_parts(start, length) }.to_vec())
        }
    }

    #[test]
    fn what_is_told_is_read() {
        let variables = [
            ("KEEPIDLE", "77"),
            ("CONNECT_TIMEOUT", "3"),
            ("CONGESTION", "reno"),
            ("BACKLOG", "min:7"),
            ("RULES", "dst=::1 : keepidle=5 connect_timeout=1 ; port=80 : off"),
            ("KEEPIDEL", "7"),
            ("CONFIG", "/x.conf"),
        ];
        let mut draft = Draft::new(&variables);
        draft.file(Source::Config, Ok(Some("\nnodelay = on\n".to_owned())));
        let kernel = || KeepaliveDefaults { idle: 7200, interval: 75, count: 9 };
        let (settings, wrong) = draft.settle(Process::default, kernel);
        let block: &'static Block = Box::leak(Box::default());
        block.tell_wrong(&wrong);
        block.tell(State::Tuning, Box::leak(Box::new(settings)));
        block.tell_counts(7, None).seen();
        block.tell_plugins(Plugins::LeftAlone);
        let told = Told::read(&Own, address(block)).expect("it is there");
        assert_eq!(told.state, State::Tuning);
        assert!(told.wrong.iter().any(|line| line.contains("did you mean TCPTUNE_KEEPIDLE")), "{told:?}");
        let value = |name: &str| {
            let found = told.settings.iter().find(|found| OPTIONS[found.row].name() == name).expect(name);
            (found.value.as_str(), told.source(found.place))
        };
        let environment = || "environment".to_owned();
        assert_eq!(value("KEEPIDLE"), ("77s", environment()));
        assert_eq!(value("CONGESTION"), ("reno", environment()));
        assert_eq!(value("BACKLOG"), ("min:7", environment()));
        assert_eq!(value("NODELAY"), ("on", "/x.conf:2".to_owned()));
        assert_eq!((told.rules.len(), told.all_rules), (2, 2));
        let names: Vec<_> = told.rules[0].1.iter().map(|found| OPTIONS[found.row].name()).collect();
        assert!(names.contains(&"CONNECT_TIMEOUT") && names.contains(&"KEEPIDLE"), "{names:?}");
        assert!(told.rules[1].1.is_empty() && told.rules[1].0.column > 1, "off");
        assert_eq!(told.counted, Some(Counted { seen: 1, since: 7, ..Counted::default() }));
        assert_eq!(told.plugins, Plugins::LeftAlone);
        let stats: &'static stats::Stats = Box::leak(Box::default());
        block.tell_counts(7, Some(stats)).tuned();
        let told = Told::read(&Own, address(block)).expect("it is there");
        assert_eq!(told.counted, Some(Counted { tuned: 1, peers: Some(Vec::new()), ..Counted::default() }));
    }

    #[test]
    fn peers_that_time_out_are_counted() {
        let stats: &'static stats::Stats = Box::leak(Box::default());
        let peer = |n: u8| Some(SocketAddr::from(([10, 0, 0, n], 80)));
        for (n, seconds) in [(1, 3), (2, 9), (1, 5)] {
            let start = clock::nanoseconds() - seconds * 1_000_000_000;
            stats.connected(7, start, peer(n), Err(libc::ETIMEDOUT));
        }
        let counted = Counted::read(&Own, address(stats.counts())).expect("it is there");
        assert_eq!((counted.connects, counted.timed_out), (3, 3));
        let peers: Vec<_> =
            counted.peers.iter().flatten().map(|(peer, times, ms)| (peer.to_string(), *times, ms / 1000)).collect();
        assert_eq!(peers, [("10.0.0.2:80".to_owned(), 1, 9), ("10.0.0.1:80".to_owned(), 2, 5)]);
    }

    #[test]
    fn memory_that_is_not_there_or_makes_no_sense() {
        struct Nowhere(Option<u64>);
        impl Memory for Nowhere {
            fn bytes(&self, _: u64, length: usize) -> Option<Vec<u8>> {
                Some(self.0?.to_ne_bytes().into_iter().cycle().take(length).collect())
            }
        }
        for memory in [None, Some(u64::MAX), Some(7), Some(1 << 40)] {
            assert!(Told::read(&Nowhere(memory), 0).is_none(), "{memory:?}");
        }
    }
}
