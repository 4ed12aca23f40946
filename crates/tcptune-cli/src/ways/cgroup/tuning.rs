//! From settings to what the programs set: slots, one for each socket option, and their values in each profile.

use tcptune_core::options::phase::{Phases, Stages};
use tcptune_core::options::table::{DOCS, OPTIONS, Opt, Own, Sockopt, Target};
use tcptune_core::options::value::{Kind, Value};
use tcptune_core::options::ways::Ways;
use tcptune_core::options::wire::Wire;
use tcptune_core::settings::profile::{Planned, Precedence, Profile};
use tcptune_core::settings::rules::Rules;
use tcptune_core::settings::settled::Settings;
use tcptune_core::sockets::syn;

use super::layout::profile;

/// The value of a name takes that much room.
const NAME: i32 = 16;

/// Shortest connect timeout, in milliseconds: the kernel's clock ticks are as long as 10 ms.
pub const SHORTEST: i32 = 100;

/// A socket option that some profile sets.
#[derive(Clone, Debug)]
pub struct Slot {
    /// Of which row; that of `TOS` where `DSCP` is set.
    pub opt: &'static Opt,
    pub option: Sockopt,
    /// Where its value lies in a profile.
    pub offset: i16,
    /// Its name, and its value where it is the same for all sockets.
    pub shown: String,
}

impl Slot {
    /// How long its value is.
    pub fn len(&self) -> i32 {
        if self.option.wire == Wire::Name { NAME } else { 4 }
    }

    /// Whether it is set when a socket is in such a phase.
    pub fn is_of(&self, phase: Phases) -> bool {
        self.option.live.contains(phase)
    }

    /// Whether it is set at bind(2) only: it decides on the port.
    pub fn is_of_bind(&self) -> bool {
        self.option.stages.contains(Stages::BIND)
    }

    /// The values that the kernel takes from a program: what it refuses is the program's to see.
    pub fn accepted(&self) -> (i32, i32) {
        let int = |n: i64| i32::try_from(n).unwrap_or(i32::MAX);
        match (self.opt.name(), self.opt.kind) {
            (_, Kind::Bool | Kind::Bits | Kind::Name)
            | ("SNDBUF" | "RCVBUF" | "NOTSENT_LOWAT" | "MAX_PACING_RATE", _) => (i32::MIN, i32::MAX),
            ("USER_TIMEOUT" | "MAXSEG" | "WINDOW_CLAMP" | "TOS" | "DSCP", _) => (0, int(self.opt.range.1)),
            _ => (int(self.opt.range.0), int(self.opt.range.1)),
        }
    }
}

/// Settings for the sockets of one user, or of all others.
pub type OfUser = (Option<u32>, Settings);

/// The rules of such settings, and the index of their first profile.
#[derive(Debug)]
pub struct Rulebook<'a> {
    pub uid: Option<u32>,
    pub rules: &'a Rules,
    pub first: u32,
}

/// What the programs are made of.
#[derive(Debug)]
#[allow(clippy::struct_excessive_bools, reason = "each is asked for at another place")]
pub struct Tuning<'a> {
    pub slots: Vec<Slot>,
    /// The bytes of each profile.
    profiles: Vec<Vec<u8>>,
    /// Size of a profile, as a power of two.
    pub shift: i32,
    /// Of all others first.
    pub books: Vec<Rulebook<'a>>,
    /// Whether some profile has a connect timeout.
    pub has_timeouts: bool,
    /// Whether one is so short that the kernel's first retransmission would come too late.
    pub has_initial: bool,
    /// Whether some profile lets the program's own values win.
    pub yields: bool,
    /// Whether it ends by itself.
    pub is_trial: bool,
    /// Told apart from those of attachments before it.
    pub generation: u16,
}

/// A setting that the kernel cannot take there.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct LeftOut {
    pub name: &'static str,
    pub reason: String,
}

/// What a connect timeout becomes depends on the machine.
#[derive(Clone, Copy)]
pub struct Machine {
    /// Of the kernel's clock, in a second.
    pub ticks: u32,
    /// `tcp_syn_retries`.
    pub syn_retries: u32,
}

impl<'a> Tuning<'a> {
    /// Of these settings, those of all other users first.
    pub fn new(settings: &'a [OfUser], machine: Machine, generation: u16, is_trial: bool) -> Self {
        let mut slots: Vec<Slot> = Vec::new();
        let mut offset = profile::VALUES;
        let profiles: Vec<_> = settings.iter().flat_map(|(_, settings)| &settings.profiles).collect();
        for planned in profiles.iter().flat_map(|profile| profile.plan()).filter(is_taken) {
            let Some(opt) = planned.row() else { continue };
            if !slots.iter().any(|slot| is_same(&slot.option, &planned.option)) {
                let is_same_for_all = profiles.len() == 1;
                let value = is_same_for_all.then(|| format!("={}", opt.kind.show(&planned.value())));
                let shown = format!("{}{}", opt.name(), value.unwrap_or_default());
                let slot = Slot { opt, option: planned.option, offset, shown };
                offset += i16::try_from((slot.len() + 7) / 8 * 8).unwrap_or_default();
                slots.push(slot);
            }
        }
        // The kernel starts its timer anew with each time that is set of a socket that has keepalive on.
        let is_last = |slot: &Slot| slot.option.is(libc::SOL_SOCKET, libc::SO_KEEPALIVE);
        let row = |slot: &Slot| OPTIONS.iter().position(|opt| opt.name() == slot.opt.name());
        slots.sort_by_key(|slot| (is_last(slot), row(slot)));
        let size = offset.unsigned_abs().next_power_of_two();
        let mut first = 0;
        let books = settings.iter().map(|(uid, settings)| {
            let book = Rulebook { uid: *uid, rules: &settings.rules, first };
            first += u32::try_from(settings.profiles.len()).unwrap_or_default();
            book
        });
        Self {
            books: books.collect(),
            profiles: profiles.iter().map(|profile| bytes(profile, &slots, size.into(), machine)).collect(),
            shift: size.trailing_zeros().cast_signed(),
            has_timeouts: profiles.iter().any(|profile| profile.connect_timeout().is_some()),
            has_initial: profiles.iter().any(|profile| initial(profile, machine.ticks) != 0),
            yields: profiles.iter().any(|profile| profile.precedence() == Precedence::Program),
            slots,
            is_trial,
            generation,
        }
    }

    /// Whether nothing would be set.
    pub fn is_empty(&self) -> bool {
        self.slots.is_empty() && !self.has_timeouts
    }

    /// The only value of [`super::layout::Map::Profiles`].
    pub fn profiles(&self) -> Vec<u8> {
        self.profiles.concat()
    }

    /// How many profiles there are.
    pub fn count(&self) -> i32 {
        i32::try_from(self.profiles.len()).unwrap_or(i32::MAX)
    }

    /// What [`super::layout::socket::OWNER`] is for the first profile.
    pub fn first_owner(&self) -> i32 {
        i32::from(self.generation) << 16 | 1
    }

    /// The index of what holds where nothing is kept beside a socket: what no rule matches, of other users.
    pub fn fallback(&self) -> i32 {
        self.books.first().map_or(0, |book| book.rules.fallback().cast_signed())
    }

    /// Whether an accepted socket does not show by itself which rule its listener has: that may listen at all addresses,
    /// and nobody knows its user any more.
    pub fn listens_alone(&self) -> bool {
        let mut listeners = self.books.iter().flat_map(|book| book.rules.servers());
        self.books.len() > 1 || listeners.any(|listener| listener.src.is_some())
    }

    /// Whether the profile has to be asked which slots it sets: false if every profile sets all of them.
    pub fn has_choice(&self) -> bool {
        self.profiles.len() > 1 || self.yields
    }

    /// Whether a setting is one of those that the programs are made of.
    pub fn sets(&self, opt: &Opt) -> bool {
        match opt.target {
            Target::Socket(option) => self.slots.iter().any(|slot| is_same(&slot.option, &option)),
            Target::Own(own) => matches!(own, Own::ConnectTimeout | Own::Precedence),
        }
    }

    /// The bit of a slot.
    pub fn bit(&self, slot: &Slot) -> i32 {
        let at = self.slots.iter().position(|other| other.offset == slot.offset);
        1 << at.unwrap_or_default()
    }
}

fn is_same(a: &Sockopt, b: &Sockopt) -> bool {
    (a.level, a.optname) == (b.level, b.optname)
}

fn is_taken(planned: &Planned) -> bool {
    DOCS.get(planned.row).is_some_and(|doc| doc.ways.contains(Ways::CGROUP)) && why_not(planned).is_none()
}

/// Why a value is not taken though the option is.
fn why_not(planned: &Planned) -> Option<&'static str> {
    let is_long = planned.option.wire == Wire::Rate && planned.payload.socklen() != 4;
    is_long.then_some("a BPF program can set no more than 4 GiB a second")
}

/// The user timeout of an attempt, in milliseconds.
fn bound(profile: &Profile, ms: i32, syn_retries: u32) -> u32 {
    let retries = || {
        let planned = profile.plan().into_iter().find(|it| it.option.is(libc::IPPROTO_TCP, libc::TCP_SYNCNT));
        match planned.map(|planned| planned.value()) {
            Some(Value::Int(retries)) => retries.try_into().ok(),
            _ => Some(syn_retries),
        }
    };
    syn::within_retries(ms.max(SHORTEST).unsigned_abs(), retries)
}

/// The first retransmission timeout of a connect in ticks: half of the connect timeout, so that one lost SYN does no
/// harm; 0 where the kernel's own, a second (RFC 6298, section 2), is no later than that.
fn initial(profile: &Profile, ticks: u32) -> u32 {
    match profile.connect_timeout().map(|ms| u64::from(ms.unsigned_abs().max(SHORTEST.unsigned_abs()))) {
        Some(ms) if ms < 2000 => u32::try_from((ms * u64::from(ticks) / 2000).max(1)).unwrap_or_default(),
        _ => 0,
    }
}

fn bytes(profile: &Profile, slots: &[Slot], size: usize, machine: Machine) -> Vec<u8> {
    let mut bytes = vec![0; size];
    let mut put = |offset: i16, value: &[u8]| {
        bytes.iter_mut().skip(usize::from(offset.unsigned_abs())).zip(value).for_each(|(to, from)| *to = *from);
    };
    let mut sets = 0_u32;
    for (bit, slot) in slots.iter().enumerate() {
        if let Some(planned) =
            profile.plan().into_iter().filter(is_taken).find(|planned| is_same(&planned.option, &slot.option))
        {
            sets |= 1 << bit;
            put(slot.offset, planned.payload.bytes());
        }
    }
    put(profile::SETS, &sets.to_ne_bytes());
    put(profile::YIELDS, &if profile.precedence() == Precedence::Program { u32::MAX } else { 0 }.to_ne_bytes());
    let bound = profile.connect_timeout().map_or(0, |ms| bound(profile, ms, machine.syn_retries));
    put(profile::CONNECT_TIMEOUT, &bound.to_ne_bytes());
    put(profile::INITIAL, &initial(profile, machine.ticks).to_ne_bytes());
    bytes
}

/// What cannot be set by BPF programs of these settings, and why; each once.
pub fn left_out(settings: &[OfUser]) -> Vec<LeftOut> {
    let settings = settings.iter().map(|(_, settings)| settings);
    let mut all = Vec::new();
    let mut say = |row: usize, value: Option<&str>| {
        let Some((opt, doc)) = OPTIONS.get(row).zip(DOCS.get(row)) else { return };
        if value.is_none() && doc.ways.contains(Ways::CGROUP) {
            return;
        }
        let left_out = LeftOut { name: opt.name(), reason: value.unwrap_or(reason(opt.target)).to_owned() };
        if !all.contains(&left_out) {
            all.push(left_out);
        }
    };
    for in_force in settings.clone().flat_map(|settings| &settings.in_force) {
        say(in_force.row, None);
    }
    for profile in settings.flat_map(|settings| &settings.profiles) {
        for planned in profile.plan() {
            say(planned.row, why_not(&planned));
        }
        for (is_set, own) in [
            (profile.backlog().is_some(), Own::Backlog),
            (profile.has_source(), Own::Source),
            (profile.mptcp(), Own::Mptcp),
        ] {
            if let (true, Some(row)) = (is_set, OPTIONS.iter().position(|opt| opt.target == Target::Own(own))) {
                say(row, None);
            }
        }
    }
    all
}

fn reason(target: Target) -> &'static str {
    match target {
        Target::Socket(_) => "the kernel lets no BPF program set this option",
        Target::Own(Own::Backlog) => "listen(2) has its number before a BPF program sees the socket",
        Target::Own(Own::Source) => "not done by BPF programs",
        Target::Own(Own::Mptcp) => "socket(2) has its protocol before a BPF program sees the socket",
        Target::Own(Own::OnlyPrograms | Own::SkipPrograms) => "the cgroup says which programs are tuned",
        Target::Own(_) => "there is no library in the program that would do it",
    }
}

/// Of Debian.
#[cfg(test)]
pub const MACHINE: Machine = Machine { ticks: 250, syn_retries: 6 };

#[cfg(test)]
mod tests {
    use super::super::tests::settings;
    use super::*;

    /// A value that each option takes.
    fn some_value(opt: &Opt) -> String {
        match opt.kind {
            Kind::Name => "reno".to_owned(),
            Kind::Choice(choice) => choice.words().next().unwrap_or_default().to_owned(),
            Kind::Addresses => "127.0.0.1".to_owned(),
            _ => opt.range.1.min(1000).max(opt.range.0).to_string(),
        }
    }

    #[test]
    fn the_table_says_which_options_have_a_slot_and_the_others_are_left_out() {
        for (opt, doc) in OPTIONS.iter().zip(&DOCS) {
            let is_of_a_socket = match opt.target {
                Target::Socket(_) => true,
                Target::Own(own) => own.is_of_a_socket(),
            };
            if !is_of_a_socket {
                continue;
            }
            let value = if opt.name() == "DSCP" { "63".to_owned() } else { some_value(opt) };
            let settings = settings(&[(opt.name(), &value)]);
            let tuning = Tuning::new(&settings, MACHINE, 1, false);
            let is_taken = doc.ways.contains(Ways::CGROUP);
            assert_eq!(tuning.sets(opt), is_taken, "{}", opt.name());
            let left_out: Vec<_> = left_out(&settings).into_iter().map(|it| it.name).collect();
            assert_eq!(left_out.contains(&opt.name()), !is_taken, "{}: {left_out:?}", opt.name());
        }
    }

    #[test]
    fn a_profile_is_what_the_programs_read() {
        let rule = "dst=10.0.0.0/8 : keepidle=30 connect_timeout=400ms precedence=program";
        let settings = settings(&[("RULES", rule), ("KEEPCNT", "5"), ("CONGESTION", "reno")]);
        let tuning = Tuning::new(&settings, MACHINE, 1, false);
        let names: Vec<_> = tuning.slots.iter().map(|slot| (slot.opt.name(), slot.offset)).collect();
        let bytes = tuning.profiles();
        let size = 1 << tuning.shift;
        let word = |profile: usize, offset: i16| {
            let at = profile * size + usize::from(offset.unsigned_abs());
            u32::from_ne_bytes(bytes[at..at + 4].try_into().expect("four"))
        };
        assert_eq!(
            names.iter().map(|(name, _)| *name).collect::<Vec<_>>(),
            ["KEEPIDLE", "KEEPCNT", "CONGESTION", "KEEPALIVE"]
        );
        let offset = |name: &str| names.iter().find(|(of, _)| *of == name).expect("a slot").1;
        assert_eq!((word(0, profile::SETS), word(1, profile::SETS)), (0b1110, 0b1111));
        assert_eq!((word(0, profile::YIELDS), word(1, profile::YIELDS)), (0, u32::MAX));
        assert_eq!((word(0, profile::CONNECT_TIMEOUT), word(1, profile::CONNECT_TIMEOUT)), (0, 400));
        assert_eq!((word(0, profile::INITIAL), word(1, profile::INITIAL)), (0, 50), "half of it, in ticks of 4 ms");
        assert_eq!((word(0, offset("KEEPCNT")), word(1, offset("KEEPIDLE"))), (5, 30));
        assert_eq!(word(1, offset("CONGESTION")).to_ne_bytes(), *b"reno");
    }

    #[test]
    fn what_is_too_large_for_a_bpf_program_is_left_out() {
        let settings = settings(&[("MAX_PACING_RATE", "8G"), ("KEEPIDLE", "60")]);
        assert_eq!(left_out(&settings).len(), 1);
        assert_eq!(Tuning::new(&settings, MACHINE, 1, false).slots.len(), 2, "KEEPALIVE and KEEPIDLE");
    }
}
