//! Rules as comparisons: the first that matches gives the index of its profile in `r9`.
//!
//! Rules in a row that exclude each other are not compared one after the other, but searched by halves: no more than one
//! can match, whatever their order.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tcptune_core::settings::matches::{Comparison, Ports, Prefix};
use tcptune_core::settings::rules::Listener;

use super::assembler::{FP, Helper, Is, Label, Op, R0, R1, R2, R4, R5, R6, R9, Reg, Size};
use super::layout::Asm;
use super::tuning::{Rulebook, Tuning};

/// Where addresses and ports stand in a context.
pub struct Places {
    pub family: i16,
    /// Address of IPv4, and the first of four words of IPv6.
    pub dst: (i16, i16),
    pub src: (i16, i16),
    /// What loads the port to `r2`.
    pub port: fn(&mut Asm),
}

/// A network: its words and masks, as the kernel has them. No masks: every address.
struct Net {
    words: Vec<u32>,
    masks: Vec<u32>,
    shown: String,
}

impl Net {
    fn new(network: &[u8], mask: &[u8], ip: IpAddr) -> Self {
        let word = |bytes: &[u8; 4]| u32::from_ne_bytes(*bytes);
        let masks: Vec<_> = mask.as_chunks().0.iter().map(word).take_while(|mask| *mask != 0).collect();
        let words = network.as_chunks().0.iter().map(word).zip(&masks).map(|(word, mask)| word & mask).collect();
        let bits: u32 = masks.iter().map(|mask| mask.count_ones()).sum();
        Self { words, masks, shown: format!("{ip}/{bits}") }
    }

    fn v4(Prefix { network, mask }: Prefix<u32>) -> Self {
        let network = network.to_be_bytes();
        Self::new(&network, &mask.to_be_bytes(), network.into())
    }

    fn v6(Prefix { network, mask }: Prefix<u128>) -> Self {
        let network = network.to_be_bytes();
        Self::new(&network, &mask.to_be_bytes(), network.into())
    }
}

struct Rule {
    dst: Net,
    ports: Ports,
    src: Net,
    profile: u32,
}

impl Rule {
    fn client<A>(rule: Comparison<A>, net: fn(Prefix<A>) -> Net) -> Self {
        Self { dst: net(rule.dst), ports: rule.ports, src: net(rule.src), profile: rule.profile }
    }

    /// None if it is for listeners of the other family.
    fn server<A: Default>(
        rule: Listener,
        net: fn(Prefix<A>) -> Net,
        prefix: fn(IpNet) -> Option<Prefix<A>>,
    ) -> Option<Self> {
        let src = rule.src.map_or(Some(Prefix::default()), prefix)?;
        Some(Self { dst: net(Prefix::default()), ports: rule.ports, src: net(src), profile: rule.profile })
    }
}

/// The index of the profile that holds goes to `r9`. `of` tells the labels of several calls apart. Whose socket it is can
/// be known while its program calls connect, bind or listen: for the network's own work no user does.
pub fn choose(asm: &mut Asm, tuning: &Tuning<'_>, rules: Compare, places: &Places, of: &str, is_user_known: bool) {
    if tuning.count() == 1 {
        asm.set(R9, 0);
        return;
    }
    let chosen = asm.label(format!("{of}_chosen"));
    let (others, users): (Vec<_>, Vec<_>) = tuning.books.iter().partition(|book| book.uid.is_none());
    let users: Vec<_> = if is_user_known { users } else { Vec::new() };
    let labels: Vec<_> =
        users.iter().map(|book| asm.label(format!("{of}_uid_{}", book.uid.unwrap_or_default()))).collect();
    if !users.is_empty() {
        asm.call(Helper::GetCurrentUidGid);
    }
    for (book, label) in users.iter().zip(&labels) {
        let uid = book.uid.unwrap_or_default();
        asm.note(format!("uid {uid}")).jump_if(R0, Is::Equal, uid.cast_signed(), *label);
    }
    for book in others {
        rules(asm, book, places, of);
        asm.jump(chosen);
    }
    for (book, label) in users.iter().zip(labels) {
        asm.here(label);
        rules(asm, book, places, &format!("{of}_uid_{}", book.uid.unwrap_or_default()));
        asm.jump(chosen);
    }
    asm.here(chosen);
}

/// [`client`] or [`server`].
pub type Compare = fn(&mut Asm, &Rulebook<'_>, &Places, &str);

/// A socket that connects.
pub fn client(asm: &mut Asm, book: &Rulebook<'_>, places: &Places, of: &str) {
    let v4: Vec<_> = book.rules.clients_v4().map(|rule| Rule::client(rule, Net::v4)).collect();
    let v6: Vec<_> = book.rules.clients_v6().map(|rule| Rule::client(rule, Net::v6)).collect();
    by_family(asm, book, places, places.dst.1, of, [v4, v6]);
}

/// A listener, or a socket that one has accepted.
pub fn server(asm: &mut Asm, book: &Rulebook<'_>, places: &Places, of: &str) {
    let v4 = |net| match net {
        IpNet::V4(net) => Some(Prefix { network: net.network().to_bits(), mask: net.netmask().to_bits() }),
        IpNet::V6(_) => None,
    };
    let v6 = |net| match net {
        IpNet::V6(net) => Some(Prefix { network: net.network().to_bits(), mask: net.netmask().to_bits() }),
        IpNet::V4(_) => None,
    };
    let of_v4 = book.rules.servers().filter_map(|rule| Rule::server(rule, Net::v4, v4)).collect();
    let of_v6 = book.rules.servers().filter_map(|rule| Rule::server(rule, Net::v6, v6)).collect();
    by_family(asm, book, places, places.src.1, of, [of_v4, of_v6]);
}

/// By address: a v4-mapped IPv6 address is the IPv4 address (RFC 4291, section 2.5.5.2), which the kernel has beside it.
fn by_family(asm: &mut Asm, book: &Rulebook<'_>, places: &Places, mapped: i16, of: &str, rules: [Vec<Rule>; 2]) {
    let [v4, v6, found] = ["ipv4", "ipv6", "found"].map(|name| asm.label(format!("{of}_{name}")));
    (places.port)(asm);
    asm.note("the family").load(Size::Word, R1, R6, places.family);
    asm.jump_if(R1, Is::NotEqual, libc::AF_INET6, v4);
    asm.note("is it ::ffff:0:0/96?").load(Size::Word, R1, R6, mapped);
    asm.jump_if(R1, Is::NotEqual, 0, v6);
    asm.load(Size::Word, R1, R6, mapped + 4);
    asm.jump_if(R1, Is::NotEqual, 0, v6);
    asm.load(Size::Word, R1, R6, mapped + 8);
    asm.jump_if(R1, Is::NotEqual, 0xffff_u32.to_be().cast_signed(), v6);
    let [of_v4, of_v6] = rules;
    for (here, name, rules, [dst, src], words) in
        [(v4, "ipv4", of_v4, [places.dst.0, places.src.0], 1), (v6, "ipv6", of_v6, [places.dst.1, places.src.1], 4)]
    {
        asm.here(here);
        for (note, which, from) in [("the peer", Which::Dst, dst), ("the own address", Which::Src, src)] {
            if rules.iter().any(|rule| !which.net(rule).masks.is_empty()) {
                asm.note(note);
                for at in (0..4 * words).step_by(4) {
                    asm.load(Size::Word, R4, R6, from + at);
                    asm.store(Size::Word, FP, which.words() + at, R4);
                }
            }
        }
        let search = Search { of: &format!("{of}_{name}"), first: book.first, found };
        search.networks(asm, &rules.iter().collect::<Vec<_>>(), Which::Dst);
        search.take(asm, book.rules.fallback());
    }
    asm.here(found);
}

#[derive(Clone, Copy)]
enum Which {
    /// The peer's address.
    Dst,
    /// The own one.
    Src,
}

impl Which {
    const fn net(self, rule: &Rule) -> &Net {
        match self {
            Self::Dst => &rule.dst,
            Self::Src => &rule.src,
        }
    }

    /// Where its words are on the stack.
    const fn words(self) -> i16 {
        match self {
            Self::Dst => -32,
            Self::Src => -48,
        }
    }
}

/// What the labels of a search begin with, the index of the first profile, and where to go with it.
struct Search<'a> {
    of: &'a str,
    first: u32,
    found: Label,
}

impl Search<'_> {
    /// By the peer's network, then by port, then by the own address. Networks of one size exclude each other.
    fn networks(&self, asm: &mut Asm, rules: &[&Rule], which: Which) {
        for rules in rules.chunk_by(|a, b| which.net(a).masks == which.net(b).masks) {
            let mut networks: BTreeMap<&[u32], Vec<&Rule>> = BTreeMap::new();
            for rule in rules {
                networks.entry(&which.net(rule).words).or_default().push(rule);
            }
            let behind = asm.numbered(self.of);
            self.word(asm, &networks.into_iter().collect::<Vec<_>>(), which, 0, behind);
            asm.here(behind);
        }
    }

    /// Networks that have the words before this one in common, as the address has them.
    fn word(&self, asm: &mut Asm, networks: &[(&[u32], Vec<&Rule>)], which: Which, word: i16, behind: Label) {
        let Some((rule, rules)) = networks.first().and_then(|(_, rules)| Some((rules.first()?, rules))) else { return };
        let at = usize::from(word.unsigned_abs());
        let Some(mask) = which.net(rule).masks.get(at) else {
            return match which {
                Which::Dst => self.ports(asm, rules, behind),
                Which::Src => self.take(asm, rule.profile),
            };
        };
        asm.load(Size::Word, R5, FP, which.words() + 4 * word);
        if *mask != u32::MAX {
            asm.with32(Op::And, R5, mask.cast_signed());
        }
        let of_word = |(words, _): &(&[u32], _)| words.get(at).copied().unwrap_or_default();
        let groups: Vec<_> = networks.chunk_by(|a, b| of_word(a) == of_word(b)).collect();
        let firsts: Vec<_> = groups.iter().map(|group| group.first().map_or(0, of_word)).collect();
        halves(asm, self.of, R5, &firsts, &mut |asm, at| {
            let (Some(group), Some(value)) = (groups.get(at), firsts.get(at)) else { return };
            let shown = group.first().and_then(|(_, rules)| Some(which.net(rules.first()?).shown.clone()));
            asm.note(shown.unwrap_or_default()).jump_if(R5, Is::NotEqual, value.cast_signed(), behind);
            self.word(asm, group, which, word + 1, behind);
        });
    }

    /// Ports exclude each other if they do not overlap.
    fn ports(&self, asm: &mut Asm, rules: &[&Rule], behind: Label) {
        let mut runs: Vec<BTreeMap<u16, Vec<&Rule>>> = Vec::new();
        for rule in rules {
            let Ports { first, more } = rule.ports;
            let below = |run: &BTreeMap<u16, Vec<&Rule>>| {
                let (_, rules) = run.range(..=first.saturating_add(more)).next_back()?;
                rules.first().map(|rule| rule.ports)
            };
            let is_apart = |other: Ports| other == rule.ports || other.first.saturating_add(other.more) < first;
            if runs.last().is_none_or(|run| below(run).is_some_and(|other| !is_apart(other))) {
                runs.push(BTreeMap::new());
            }
            if let Some(run) = runs.last_mut() {
                run.entry(first).or_default().push(rule);
            }
        }
        for run in &runs {
            let next = asm.numbered(self.of);
            let (firsts, groups): (Vec<_>, Vec<_>) =
                run.iter().map(|(first, rules)| (u32::from(*first), rules)).unzip();
            halves(asm, self.of, R2, &firsts, &mut |asm, at| {
                let Some(rules) = groups.get(at) else { return };
                if let Some(rule) = rules.first() {
                    unless_port(asm, rule.ports, next);
                }
                self.networks(asm, rules, Which::Src);
                asm.jump(next);
            });
            asm.here(next);
        }
        asm.jump(behind);
    }

    fn take(&self, asm: &mut Asm, profile: u32) {
        asm.set(R9, (self.first + profile).cast_signed());
        asm.jump(self.found);
    }
}

/// Goes to the last one whose first number is not above what is in the register; below all of them, to the first.
fn halves(asm: &mut Asm, of: &str, reg: Reg, firsts: &[u32], leaf: &mut dyn FnMut(&mut Asm, usize)) {
    fn part(asm: &mut Asm, of: &str, reg: Reg, firsts: &[u32], at: usize, leaf: &mut dyn FnMut(&mut Asm, usize)) {
        let (low, high) = firsts.split_at(firsts.len() / 2);
        let Some(first) = high.first().filter(|_| !low.is_empty()) else { return leaf(asm, at) };
        let upper = asm.numbered(of);
        asm.jump_if(reg, Is::AtLeast, first.cast_signed(), upper);
        part(asm, of, reg, low, at, leaf);
        asm.here(upper);
        part(asm, of, reg, high, at + low.len(), leaf);
    }
    part(asm, of, reg, firsts, 0, leaf);
}

fn unless_port(asm: &mut Asm, ports: Ports, next: Label) {
    let Ports { first, more } = ports;
    if ports == Ports::ALL {
        return;
    }
    asm.note(if more == 0 { format!("port {first}") } else { format!("ports {first}-{}", first.saturating_add(more)) });
    if more == 0 {
        asm.jump_if(R2, Is::NotEqual, first.into(), next);
    } else {
        asm.copy(R4, R2);
        asm.with32(Op::Sub, R4, first.into());
        asm.jump_if(R4, Is::Above, more.into(), next);
    }
}
