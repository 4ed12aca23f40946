//! What rules compare of a client, many rules at a time: the hook path looks at all of them.
//!
//! Eight rules lie together, each kind of number in an array of its own, so that the compiler compares four or more of
//! them by one instruction of any x86-64 or AArch64.
#![deny(clippy::unwrap_used, clippy::expect_used, clippy::panic, clippy::indexing_slicing)]
#![deny(clippy::disallowed_types, clippy::disallowed_methods)]

use std::ops::{BitAnd, BitXor};

/// A network as address and mask, both in the machine's byte order; the default contains every address.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Prefix<A> {
    /// Its address.
    pub network: A,
    /// The bits that count.
    pub mask: A,
}

/// Ports from `first` on, and so many more.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Ports {
    /// The first.
    pub first: u16,
    /// How many follow.
    pub more: u16,
}

impl Ports {
    /// Any port.
    pub const ALL: Self = Self { first: 0, more: u16::MAX };

    /// From one port to another, both included.
    #[must_use]
    pub fn new((first, last): (u16, u16)) -> Self {
        Self { first, more: last.saturating_sub(first) }
    }

    /// Whether a port is one of them.
    #[must_use]
    #[inline]
    pub fn contains(self, port: u16) -> bool {
        port.wrapping_sub(self.first) <= self.more
    }
}

/// What a rule compares of a client of one address family, and the profile that then holds.
#[derive(Clone, Copy, Debug)]
pub struct Comparison<A> {
    /// Its peer.
    pub dst: Prefix<A>,
    /// Its peer's port.
    pub ports: Ports,
    /// Its own address.
    pub src: Prefix<A>,
    /// Index of the profile.
    pub profile: u32,
}

/// An address of so many words.
pub(crate) trait Address<const WORDS: usize>:
    Copy + Default + PartialEq + BitXor<Output = Self> + BitAnd<Output = Self>
{
    fn words(self) -> [u32; WORDS];
    fn of(words: [u32; WORDS]) -> Self;
}

impl Address<1> for u32 {
    fn words(self) -> [u32; 1] {
        [self]
    }

    fn of([word]: [u32; 1]) -> Self {
        word
    }
}

impl Address<4> for u128 {
    #[allow(clippy::cast_possible_truncation, reason = "32 bits of each")]
    fn words(self) -> [u32; 4] {
        [96, 64, 32, 0].map(|shift| (self >> shift) as u32)
    }

    fn of(words: [u32; 4]) -> Self {
        words.into_iter().fold(0, |address, word| address << 32 | Self::from(word))
    }
}

/// So many rules lie together.
const LANES: usize = 8;

/// For each rule, bits in which it differs from what it is compared with: none if it matches.
type Differences = [u32; LANES];

/// Whether one of them matches. Without a branch for each, of which one in a thousand is taken.
#[inline]
fn any_matches(differences: &Differences) -> bool {
    differences.iter().fold(0, |any, differs| any | u32::from(*differs == 0)) != 0
}

/// A condition of [`LANES`] rules.
trait Condition: Copy {
    type Of;
    /// That all of them match everything.
    const ALL: Self;
    fn set(&mut self, lane: usize, of: Self::Of);
    fn get(&self, lane: usize) -> Option<Self::Of>;
}

/// Networks.
#[derive(Clone, Copy, Debug)]
struct Networks<const WORDS: usize> {
    networks: [[u32; LANES]; WORDS],
    masks: [[u32; LANES]; WORDS],
}

impl<const WORDS: usize> Networks<WORDS> {
    /// Adds the differences of this condition. Whether any rule still matches.
    #[inline(never)] // for the stack, and so that the differences stay together
    fn compare(&self, address: &[u32; WORDS], differences: &mut Differences) -> bool {
        for ((networks, masks), word) in self.networks.iter().zip(&self.masks).zip(address) {
            for ((differs, network), mask) in differences.iter_mut().zip(networks).zip(masks) {
                *differs |= (network ^ word) & mask;
            }
        }
        any_matches(differences)
    }
}

impl<const WORDS: usize> Condition for Networks<WORDS> {
    type Of = Prefix<[u32; WORDS]>;
    const ALL: Self = Self { networks: [[0; LANES]; WORDS], masks: [[0; LANES]; WORDS] };

    fn set(&mut self, lane: usize, of: Self::Of) {
        let words = self.networks.iter_mut().zip(&mut self.masks).zip(of.network.into_iter().zip(of.mask));
        for ((networks, masks), (network, mask)) in words {
            if let (Some(to_network), Some(to_mask)) = (networks.get_mut(lane), masks.get_mut(lane)) {
                (*to_network, *to_mask) = (network, mask);
            }
        }
    }

    fn get(&self, lane: usize) -> Option<Self::Of> {
        let of = |words: &[[u32; LANES]; WORDS]| words.map(|lanes| lanes.get(lane).copied().unwrap_or(0));
        Some(Prefix { network: of(&self.networks), mask: of(&self.masks) })
    }
}

/// Ports from the first to the last. As signed numbers: SSE2 compares no others.
#[derive(Clone, Copy, Debug)]
struct PortRanges {
    first: [i32; LANES],
    last: [i32; LANES],
}

impl PortRanges {
    #[inline(never)] // as above
    fn compare(&self, port: u16, differences: &mut Differences) -> bool {
        let port = i32::from(port);
        for ((differs, first), last) in differences.iter_mut().zip(&self.first).zip(&self.last) {
            *differs |= u32::from(port < *first) | u32::from(port > *last);
        }
        any_matches(differences)
    }
}

impl Condition for PortRanges {
    type Of = Ports;
    const ALL: Self = Self { first: [0; LANES], last: [u16::MAX as i32; LANES] };

    fn set(&mut self, lane: usize, of: Ports) {
        if let (Some(first), Some(last)) = (self.first.get_mut(lane), self.last.get_mut(lane)) {
            *first = of.first.into();
            *last = *first + i32::from(of.more);
        }
    }

    fn get(&self, lane: usize) -> Option<Ports> {
        let (first, last) = (*self.first.get(lane)?, *self.last.get(lane)?);
        Some(Ports { first: first.try_into().ok()?, more: (last - first).try_into().ok()? })
    }
}

/// A condition of all rules; nothing while all of them match everything.
#[derive(Debug)]
#[allow(clippy::disallowed_types, reason = "made at start-up")]
struct Column<C>(Vec<C>);

#[allow(clippy::disallowed_types, reason = "made at start-up")]
impl<C> Default for Column<C> {
    fn default() -> Self {
        Self(Vec::default())
    }
}

impl<C: Condition> Column<C> {
    /// The condition of the rule at `at`, behind which there is none; `room` for so many is made.
    fn set(&mut self, room: usize, at: usize, of: C::Of) {
        if self.0.is_empty() {
            self.0.reserve_exact(room.div_ceil(LANES));
        }
        if self.0.len() <= at / LANES {
            self.0.resize(at / LANES + 1, C::ALL);
        }
        if let Some(lanes) = self.0.last_mut() {
            lanes.set(at % LANES, of);
        }
    }

    fn get(&self, at: usize) -> Option<C::Of> {
        self.0.get(at / LANES)?.get(at % LANES)
    }
}

/// The rules for clients of one address family, in order.
#[derive(Debug, Default)]
#[allow(clippy::disallowed_types, reason = "made at start-up")]
pub(crate) struct Table<A, const WORDS: usize> {
    dst: Column<Networks<WORDS>>,
    ports: Column<PortRanges>,
    src: Column<Networks<WORDS>>,
    profiles: Vec<u32>,
    family: std::marker::PhantomData<A>,
}

impl<A: Address<WORDS>, const WORDS: usize> Table<A, WORDS> {
    /// Adds a rule; `room` for so many is made before the first.
    pub fn push(&mut self, room: usize, rule: Comparison<A>) {
        let Comparison { dst, ports, src, profile } = rule;
        let at = self.profiles.len();
        if at == 0 {
            self.profiles.reserve_exact(room);
        }
        let words = |of: Prefix<A>| Prefix { network: of.network.words(), mask: of.mask.words() };
        if dst != Prefix::default() {
            self.dst.set(room, at, words(dst));
        }
        if ports != Ports::ALL {
            self.ports.set(room, at, ports);
        }
        if src != Prefix::default() {
            self.src.set(room, at, words(src));
        }
        self.profiles.push(profile);
    }

    /// Adds the rules of another table behind these.
    pub fn append(&mut self, other: &Self) {
        other.comparisons().for_each(|rule| self.push(other.profiles.len(), rule));
    }

    pub fn is_empty(&self) -> bool {
        self.profiles.is_empty()
    }

    /// The profiles of all rules.
    pub fn profiles(&mut self) -> impl Iterator<Item = &mut u32> {
        self.profiles.iter_mut()
    }

    /// What each rule compares.
    pub fn comparisons(&self) -> impl Iterator<Item = Comparison<A>> {
        let prefix = |column: &Column<Networks<WORDS>>, at| match column.get(at) {
            Some(Prefix { network, mask }) => Prefix { network: A::of(network), mask: A::of(mask) },
            None => Prefix::default(),
        };
        self.profiles.iter().enumerate().map(move |(at, profile)| Comparison {
            dst: prefix(&self.dst, at),
            ports: self.ports.get(at).unwrap_or(Ports::ALL),
            src: prefix(&self.src, at),
            profile: *profile,
        })
    }

    /// The profile of the first rule that matches.
    #[inline(never)] // for the stack: a connect has little
    pub fn find(&self, address: A, port: u16, src: A) -> Option<u32> {
        let (address, src) = (address.words(), src.words());
        for at in 0..self.profiles.len().div_ceil(LANES) {
            let mut differences = [0; LANES];
            if self.dst.0.get(at).is_none_or(|networks| networks.compare(&address, &mut differences))
                && self.ports.0.get(at).is_none_or(|ports| ports.compare(port, &mut differences))
                && self.src.0.get(at).is_none_or(|networks| networks.compare(&src, &mut differences))
            {
                // What is behind the last rule matches everything, and has no profile.
                let lane = differences.iter().position(|differs| *differs == 0)?;
                return self.profiles.get(at * LANES + lane).copied();
            }
        }
        None
    }
}
