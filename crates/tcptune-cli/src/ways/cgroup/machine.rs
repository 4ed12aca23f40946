//! A machine for the instructions that rules become, without calls and maps; and rules at random, which must find on it
//! what they find in the library.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr, SocketAddr};

use ipnet::IpNet;
use tcptune_core::settings::rules::{Conditions, Endpoint, Role, Rules};

use super::assembler::Assembler;
use super::comparisons::{client, server};
use super::sock_ops::{CLIENT, SERVER};
use super::tuning::Rulebook;

const CONTEXT: u64 = 0x1_0000;
const STACK: u64 = 0x2_0000;

/// Goes through a program, and gives `r9` at its end.
fn run(program: &[[u8; 8]], context: &[u8; 96]) -> u64 {
    let (mut r, mut stack, mut at) = ([0_u64; 11], [0_u8; 96], 0);
    (r[6], r[10]) = (CONTEXT, STACK);
    for _ in 0..100_000 {
        let [code, registers, low, high, immediate @ ..] = program[at];
        let (dst, src) = (usize::from(registers & 15), usize::from(registers >> 4));
        let offset = i16::from_le_bytes([low, high]);
        let immediate = i64::from(i32::from_le_bytes(immediate)).cast_unsigned();
        let operand = if code & 8 != 0 { r[src] } else { immediate };
        at += 1;
        match (code & 7, code & 0xf0) {
            (1, _) => {
                let from = r[src].wrapping_add_signed(offset.into());
                let word = if from < STACK - 96 {
                    context[(from - CONTEXT) as usize..].first_chunk()
                } else {
                    stack[(from + 96 - STACK) as usize..].first_chunk()
                };
                r[dst] = u32::from_le_bytes(*word.expect("a word")).into();
            }
            (3, _) => {
                let to = (r[dst].wrapping_add_signed(offset.into()) + 96 - STACK) as usize;
                stack[to..to + 4].copy_from_slice(&(r[src] as u32).to_le_bytes());
            }
            (4, 0x10) => r[dst] = u64::from((r[dst] as u32).wrapping_sub(operand as u32)),
            (4, 0x50) => r[dst] = u64::from(r[dst] as u32 & operand as u32),
            (4, 0xd0) => r[dst] = u64::from((r[dst] as u32).swap_bytes()),
            (7, 0xb0) => r[dst] = operand,
            (5, 0x00) => at = at.wrapping_add_signed(offset.into()),
            (5, 0x90) => return r[9],
            (6, is) => {
                let (a, b) = (r[dst] as u32, operand as u32);
                let jumps = match is {
                    0x10 => a == b,
                    0x50 => a != b,
                    0x20 => a > b,
                    0x30 => a >= b,
                    _ => panic!("a comparison {is:#x}"),
                };
                at = at.wrapping_add_signed(if jumps { offset.into() } else { 0 });
            }
            _ => panic!("an instruction {code:#x}"),
        }
    }
    panic!("it does not end")
}

/// Numbers that look like chance (Numerical Recipes has the constants).
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: u64) -> u64 {
        self.0 = self.0.wrapping_mul(6_364_136_223_846_793_005).wrapping_add(1_442_695_040_888_963_407);
        (self.0 >> 33) % below
    }

    /// Few, so that rules overlap.
    fn address(&mut self) -> IpAddr {
        let [a, b, c] = [self.roll(3), self.roll(3), self.roll(4)].map(|n| n as u8);
        if self.roll(2) == 0 {
            Ipv4Addr::new(10 + a, b, 0, c).into()
        } else {
            let mut ip = [0; 16];
            (ip[0], ip[1], ip[5], ip[9], ip[15]) = (0xfd, a, b, b ^ a, c);
            Ipv6Addr::from(ip).into()
        }
    }

    fn nets(&mut self) -> Vec<IpNet> {
        let count = self.roll(5).saturating_sub(2);
        let net = |_| {
            let ip = self.address();
            let sizes: &[u8] = if ip.is_ipv4() { &[0, 8, 16, 24, 32] } else { &[0, 16, 40, 48, 64, 96, 128] };
            IpNet::new(ip, sizes[self.roll(sizes.len() as u64) as usize]).expect("a size").trunc()
        };
        (0..count).map(net).collect()
    }

    fn ports(&mut self) -> Vec<(u16, u16)> {
        let count = self.roll(4).saturating_sub(1);
        (0..count)
            .map(|_| (self.roll(12), self.roll(3) * self.roll(4)))
            .map(|(a, more)| (a as u16, (a + more) as u16))
            .collect()
    }
}

fn context(peer: SocketAddr, own: SocketAddr) -> [u8; 96] {
    let mut bytes = [0; 96];
    let mut put = |at: usize, part: &[u8]| bytes[at..at + part.len()].copy_from_slice(part);
    put(20, &if peer.is_ipv4() { libc::AF_INET } else { libc::AF_INET6 }.to_le_bytes());
    for (v4, v6, ip) in [(24, 32, peer.ip()), (28, 48, own.ip())] {
        match (ip, ip.to_canonical()) {
            (IpAddr::V6(ip), _) => put(v6, &ip.octets()),
            (_, IpAddr::V4(_)) => {}
            (IpAddr::V4(_), IpAddr::V6(_)) => unreachable!("it is canonical"),
        }
        if let IpAddr::V4(ip) = ip.to_canonical() {
            put(v4, &ip.octets());
        }
    }
    put(64, &u32::from(peer.port()).to_be_bytes());
    put(68, &u32::from(own.port()).to_le_bytes());
    bytes
}

#[test]
fn rules_find_in_the_kernel_what_they_find_in_the_library() {
    let mut dice = Dice(1);
    let mut found = [0_usize; 60];
    for _ in 0..300 {
        let mut rules = Rules::default();
        for profile in 1..=dice.roll(40) {
            let role = [None, None, None, Some(Role::Client), Some(Role::Server)][dice.roll(5) as usize];
            let src = if dice.roll(3) == 0 { dice.nets() } else { Vec::new() };
            rules.push(&Conditions { dst: dice.nets(), src, ports: dice.ports(), role }, profile as u32);
        }
        rules.end(0);
        let book = Rulebook { uid: None, rules: &rules, first: 0 };
        let code = |is_client| {
            let mut asm = Assembler::new();
            if is_client {
                client(&mut asm, &book, &CLIENT, "c");
            } else {
                server(&mut asm, &book, &SERVER, "s");
            }
            asm.exit();
            asm.finish().expect("short").encode(|_| 0)
        };
        let (of_client, of_server) = (code(true), code(false));
        for _ in 0..200 {
            let peer = dice.address();
            let own = loop {
                let own = dice.address();
                if own.is_ipv4() == peer.is_ipv4() {
                    break own;
                }
            };
            let mapped = dice.roll(3) == 0;
            let [peer, own] = [peer, own].map(|ip| match ip {
                IpAddr::V4(ip) if mapped => ip.to_ipv6_mapped().into(),
                ip => ip,
            });
            let (peer, own) = (SocketAddr::new(peer, dice.roll(24) as u16), SocketAddr::new(own, dice.roll(24) as u16));
            let context = context(peer, own);
            let wanted = rules.find(&Endpoint::Client(peer), || Some(own.ip()));
            assert_eq!(run(&of_client, &context), u64::from(wanted), "{peer} from {own}: {rules:#?}");
            found[wanted as usize] += 1;
            let wanted = rules.find(&Endpoint::Server(own), || None);
            assert_eq!(run(&of_server, &context), u64::from(wanted), "at {own}: {rules:#?}");
        }
    }
    assert!(found[..10].iter().all(|times| *times > 100), "{found:?}");
}
