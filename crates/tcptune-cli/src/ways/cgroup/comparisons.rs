//! Rules as comparisons: the first that matches gives the index of its profile in `r9`.

use std::collections::BTreeMap;
use std::net::IpAddr;

use ipnet::IpNet;
use tcptune_core::settings::rules::{Comparison, Ports, Prefix};

use super::assembler::{FP, Is, Label, Op, R1, R2, R3, R4, R5, R6, R9, Reg, Size};
use super::layout::Asm;
use super::tuning::Tuning;

/// Where addresses and ports stand in a context.
pub struct Places {
    pub family: i16,
    /// Address of IPv4, and the first of four words of IPv6.
    pub dst: (i16, i16),
    pub src: (i16, i16),
    /// What loads the port to `r2`.
    pub port: fn(&mut Asm),
}

/// The words of IPv6 addresses on the stack.
const DST_V6: i16 = -32;
const SRC_V6: i16 = -48;

/// A socket that connects.
pub fn client(asm: &mut Asm, tuning: &Tuning<'_>, places: &Places) {
    let (v4, v6, found) = (asm.label("client_ipv4"), asm.label("client_ipv6"), asm.label("client_found"));
    (places.port)(asm);
    family(asm, places.family, places.dst.1, v4, v6);
    asm.here(v4);
    asm.note("the peer").load(Size::Word, R1, R6, places.dst.0);
    asm.note("the own address").load(Size::Word, R3, R6, places.src.0);
    let rules: Vec<_> = tuning.rules.clients_v4().collect();
    for (run, rules) in rules.chunk_by(|a, b| a.dst.mask == b.dst.mask).enumerate() {
        one_mask(asm, rules, run, found);
    }
    take(asm, tuning.rules.fallback(), found);
    asm.here(v6);
    words(asm, places.dst.1, DST_V6);
    words(asm, places.src.1, SRC_V6);
    for (rule, comparison) in tuning.rules.clients_v6().enumerate() {
        let next = asm.label(format!("client_ipv6_{}", rule + 1));
        let Comparison { dst, ports, src, profile } = comparison;
        unless_in_v6(asm, DST_V6, dst, next);
        unless_port(asm, ports, next);
        unless_in_v6(asm, SRC_V6, src, next);
        take(asm, profile, found);
        asm.here(next);
    }
    take(asm, tuning.rules.fallback(), found);
    asm.here(found);
}

/// Consecutive rules whose networks have the same prefix length: an address is in at most one of these networks, which a
/// binary search finds. The rules with that network are then compared in their order.
fn one_mask(asm: &mut Asm, rules: &[Comparison<u32>], run: usize, found: Label) {
    let Some(mask) = rules.first().map(|rule| rule.dst.mask) else { return };
    let behind = asm.label(format!("client_ipv4_{}", run + 1));
    let mut networks: BTreeMap<u32, Vec<&Comparison<u32>>> = BTreeMap::new();
    for rule in rules {
        // In the kernel's byte order, in which the instructions compare.
        networks.entry((rule.dst.network & mask).to_be()).or_default().push(rule);
    }
    let networks: Vec<_> = networks.into_iter().collect();
    asm.copy(R5, R1);
    if mask != u32::MAX {
        asm.note(format!("networks of {} bits", mask.count_ones())).with32(Op::And, R5, mask.to_be().cast_signed());
    }
    search(asm, &networks, found, behind);
    asm.here(behind);
}

/// The masked address is in `r5`.
fn search(asm: &mut Asm, networks: &[(u32, Vec<&Comparison<u32>>)], found: Label, behind: Label) {
    let Some((network, rules)) = networks.first() else { return asm.jump(behind) };
    if networks.len() > 1 {
        let (low, high) = networks.split_at(networks.len() / 2);
        let upper = asm.label(format!("from_{}", high.first().map_or(String::new(), |(network, _)| shown(*network))));
        asm.jump_if(R5, Is::AtLeast, high.first().map_or(0, |(network, _)| network.cast_signed()), upper);
        search(asm, low, found, behind);
        asm.here(upper);
        return search(asm, high, found, behind);
    }
    asm.note(shown(*network)).jump_if(R5, Is::NotEqual, network.cast_signed(), behind);
    for (at, Comparison { ports, src, profile, .. }) in rules.iter().enumerate() {
        let next = asm.label(format!("{}_{}", shown(*network), at + 1));
        unless_port(asm, *ports, next);
        unless_in_v4(asm, R3, *src, next);
        take(asm, *profile, found);
        asm.here(next);
    }
    asm.jump(behind);
}

/// A network as the kernel has it.
fn shown(network: u32) -> String {
    IpAddr::from(network.to_ne_bytes()).to_string()
}

/// A listener, or a socket that one has accepted. `of` tells their labels apart.
pub fn server(asm: &mut Asm, tuning: &Tuning<'_>, places: &Places, of: &str) {
    let label = |asm: &mut Asm, name: &str| asm.label(format!("{of}_{name}"));
    let (v4, v6, found) = (label(asm, "ipv4"), label(asm, "ipv6"), label(asm, "found"));
    (places.port)(asm);
    family(asm, places.family, places.src.1, v4, v6);
    asm.here(v4);
    asm.note("the own address").load(Size::Word, R1, R6, places.src.0);
    servers(asm, tuning, found, &format!("{of}_ipv4"), |asm, net, next| match net {
        IpNet::V4(net) => unless_in_v4(asm, R1, prefix(net.network().to_bits(), net.netmask().to_bits()), next),
        IpNet::V6(_) => asm.jump(next),
    });
    asm.here(v6);
    words(asm, places.src.1, SRC_V6);
    servers(asm, tuning, found, &format!("{of}_ipv6"), |asm, net, next| match net {
        IpNet::V6(net) => unless_in_v6(asm, SRC_V6, prefix(net.network().to_bits(), net.netmask().to_bits()), next),
        IpNet::V4(_) => asm.jump(next),
    });
    asm.here(found);
}

fn prefix<A>(network: A, mask: A) -> Prefix<A> {
    Prefix { network, mask }
}

fn servers(asm: &mut Asm, tuning: &Tuning<'_>, found: Label, of: &str, address: fn(&mut Asm, IpNet, Label)) {
    for (rule, listener) in tuning.rules.servers().enumerate() {
        let next = asm.label(format!("{of}_{}", rule + 1));
        unless_port(asm, listener.ports, next);
        if let Some(net) = listener.src {
            address(asm, net, next);
        }
        take(asm, listener.profile, found);
        asm.here(next);
    }
    take(asm, tuning.rules.fallback(), found);
}

/// By address: a v4-mapped IPv6 address is the IPv4 address (RFC 4291, section 2.5.5.2), which the kernel has beside it.
fn family(asm: &mut Asm, family: i16, v6_words: i16, v4: Label, v6: Label) {
    asm.note("the family").load(Size::Word, R1, R6, family);
    asm.jump_if(R1, Is::NotEqual, libc::AF_INET6, v4);
    asm.note("is it ::ffff:0:0/96?").load(Size::Word, R1, R6, v6_words);
    asm.jump_if(R1, Is::NotEqual, 0, v6);
    asm.load(Size::Word, R1, R6, v6_words + 4);
    asm.jump_if(R1, Is::NotEqual, 0, v6);
    asm.load(Size::Word, R1, R6, v6_words + 8);
    asm.jump_if(R1, Is::NotEqual, 0xffff_u32.to_be().cast_signed(), v6);
}

fn words(asm: &mut Asm, from: i16, to: i16) {
    for word in 0..4 {
        asm.load(Size::Word, R4, R6, from + 4 * word);
        asm.store(Size::Word, FP, to + 4 * word, R4);
    }
}

fn take(asm: &mut Asm, profile: u32, found: Label) {
    asm.set(R9, profile.cast_signed());
    asm.jump(found);
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

/// `address` is in the network's byte order.
fn unless_in_v4(asm: &mut Asm, address: Reg, network: Prefix<u32>, next: Label) {
    if network.mask == 0 {
        return;
    }
    let ip = IpAddr::from(network.network.to_be_bytes());
    asm.note(format!("{ip}/{}", network.mask.count_ones()));
    one_word(asm, address, network.network.to_be(), network.mask.to_be(), next);
}

fn unless_in_v6(asm: &mut Asm, address: i16, network: Prefix<u128>, next: Label) {
    let ip = IpAddr::from(network.network.to_be_bytes());
    let note = format!("{ip}/{}", network.mask.count_ones());
    for word in 0..4_i16 {
        let part = |all: u128| {
            let shifted = all >> (96 - 32 * word);
            u32::try_from(shifted & u128::from(u32::MAX)).unwrap_or_default().to_be()
        };
        if part(network.mask) != 0 {
            asm.note(note.as_str()).load(Size::Word, R5, FP, address + 4 * word);
            one_word(asm, R5, part(network.network), part(network.mask), next);
        }
    }
}

fn one_word(asm: &mut Asm, address: Reg, wanted: u32, mask: u32, next: Label) {
    if mask == u32::MAX {
        asm.jump_if(address, Is::NotEqual, wanted.cast_signed(), next);
    } else {
        asm.copy(R4, address);
        asm.with32(Op::And, R4, mask.cast_signed());
        asm.jump_if(R4, Is::NotEqual, wanted.cast_signed(), next);
    }
}
