//! The program for setsockopt(2) (`BPF_PROG_TYPE_CGROUP_SOCKOPT`): what is set here stays when the program sets it as
//! well, or the other way round.
//!
//! A call that is left out succeeds for the program. A wrong one goes to the kernel, whose errors it gets; so does each
//! call before the socket connects or listens, where what is set here follows.

use super::assembler::{FP, Is, Label, Op, R1, R2, R3, R6, R7, R8, R9, Size};
use super::bpf::Kind;
use super::layout::{Asm, Count, profile, socket};
use super::steps::{self, PHASE, SCRATCH};
use super::tuning::{Slot, Tuning};
use tcptune_core::options::wire::Wire;

pub const KIND: Kind = Kind { program: 25, attach: 22, name: "tcptune_setopt" };

// struct bpf_sockopt.
const SK: i16 = 0;
const OPTVAL: i16 = 8;
const OPTVAL_END: i16 = 16;
const LEVEL: i16 = 24;
const OPTNAME: i16 = 28;
const OPTLEN: i16 = 32;
/// In struct bpf_sock.
const PROTOCOL: i16 = 12;

const LEVELS: [i32; 4] = [libc::SOL_SOCKET, libc::IPPROTO_TCP, libc::IPPROTO_IP, libc::IPPROTO_IPV6];

/// The whole program.
pub fn program(asm: &mut Asm, tuning: &Tuning<'_>) {
    let [pass, ours] = ["pass", "ours"].map(|name| asm.label(name));
    let user_timeout = asm.label("user_timeout");
    asm.copy(R6, R1);
    asm.note("level").load(Size::Word, R2, R6, LEVEL);
    asm.note("option").load(Size::Word, R3, R6, OPTNAME);
    let slots: Vec<_> = tuning.slots.iter().filter(|slot| !slot.is_of_bind()).collect();
    let labels: Vec<_> = slots.iter().map(|slot| asm.label(slot.opt.name().to_lowercase())).collect();
    let is_user_timeout =
        |slot: &Slot| (slot.option.level, slot.option.optname) == (libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT);
    for level in LEVELS {
        let here = |slot: &Slot| match slot.option.v6 {
            Some(v6) if level == libc::IPPROTO_IPV6 => Some(v6),
            _ => (slot.option.level == level).then_some(slot.option.optname),
        };
        let of_level: Vec<_> =
            slots.iter().zip(&labels).filter_map(|(slot, label)| Some((here(slot)?, *slot, *label))).collect();
        let lends = tuning.has_timeouts && level == libc::IPPROTO_TCP;
        if of_level.is_empty() && !lends {
            continue;
        }
        let next = asm.label(format!("not_{level}"));
        asm.jump_if(R2, Is::NotEqual, level, next);
        for (optname, slot, label) in of_level {
            let label = if lends && is_user_timeout(slot) { user_timeout } else { label };
            asm.note(slot.opt.name()).jump_if(R3, Is::Equal, optname, label);
        }
        if lends && !slots.iter().any(|slot| is_user_timeout(slot)) {
            asm.note("USER_TIMEOUT").jump_if(R3, Is::Equal, libc::TCP_USER_TIMEOUT, user_timeout);
        }
        asm.here(next);
    }
    steps::go_on(asm, pass);

    asm.here(user_timeout);
    if tuning.has_timeouts {
        during_an_attempt(asm, slots.iter().copied().find(|slot| is_user_timeout(slot)), tuning, ours, pass);
    }
    for (slot, label) in slots.iter().zip(&labels) {
        asm.here(*label);
        if !(tuning.has_timeouts && is_user_timeout(slot)) {
            accepted(asm, slot.accepted(), slot.option.wire, pass);
            asm.set(R7, tuning.bit(slot));
            asm.jump(ours);
        }
    }

    asm.here(ours);
    if !slots.is_empty() {
        leave_out(asm, tuning, pass);
    }
}

/// The value, if the kernel takes it, goes to the stack; of a name, nothing.
fn accepted(asm: &mut Asm, (low, high): (i32, i32), wire: Wire, pass: Label) {
    let least = if wire == Wire::Name { 1 } else { 4 };
    asm.load(Size::Word, R1, R6, OPTLEN);
    asm.note("too short").jump_if(R1, Is::Below, least, pass);
    if wire == Wire::Name {
        return;
    }
    asm.load(Size::Double, R2, R6, OPTVAL);
    asm.load(Size::Double, R3, R6, OPTVAL_END);
    asm.copy(R1, R2);
    asm.with(Op::Add, R1, 4);
    asm.jump_if_both(R1, Is::Above, R3, pass);
    asm.note("the program's value").load(Size::Word, R1, R2, 0);
    asm.store(Size::Word, FP, SCRATCH, R1);
    if (low, high) != (i32::MIN, i32::MAX) {
        if low != 0 {
            asm.with32(Op::Sub, R1, low);
        }
        asm.note("out of range: the kernel says so").jump_if(R1, Is::Above, high.wrapping_sub(low), pass);
    }
}

/// A program sets its user timeout while the connect timeout is in its place: it is what is put back.
fn during_an_attempt(asm: &mut Asm, slot: Option<&Slot>, tuning: &Tuning<'_>, ours: Label, pass: Label) {
    let not_lent = asm.label("user_timeout_not_lent");
    accepted(asm, (0, i32::MAX), Wire::Int, pass);
    asm.set(R7, slot.map_or(0, |slot| tuning.bit(slot)));
    asm.load(Size::Double, R2, R6, SK);
    steps::beside(asm, false, if slot.is_some() { ours } else { pass });
    asm.load(Size::Word, R1, R8, socket::LENT);
    asm.jump_if(R1, Is::Equal, 0, not_lent);
    asm.store_number(Size::Word, R6, OPTLEN, -1);
    if slot.is_some() {
        // The one that is set here has been kept to be put back, and wins.
        let keep = asm.label("user_timeout_kept");
        steps::profile_of_socket(asm, tuning, keep);
        asm.load(Size::Word, R1, R9, profile::SETS);
        asm.load(Size::Word, R2, R9, profile::YIELDS);
        asm.with32(Op::Xor, R2, -1);
        asm.both32(Op::And, R1, R2);
        asm.jump_if(R1, Is::AnyBit, slot.map_or(0, |slot| tuning.bit(slot)), pass);
        asm.here(keep);
    }
    asm.load(Size::Word, R1, FP, SCRATCH);
    asm.note("to be put back").store(Size::Word, R8, socket::USER_TIMEOUT, R1);
    asm.jump(pass);
    asm.here(not_lent);
    if slot.is_some() {
        asm.jump(ours);
    } else {
        asm.jump(pass);
    }
}

/// The bit of the option is in `r7`.
fn leave_out(asm: &mut Asm, tuning: &Tuning<'_>, pass: Label) {
    let first = asm.label("not_ours_yet");
    steps::unless_stopped(asm, pass);
    if tuning.is_trial {
        asm.store_number(Size::Double, FP, PHASE, 0);
        asm.copy(R9, R7);
        steps::unless_over(asm, pass);
        asm.copy(R7, R9);
    }
    asm.load(Size::Double, R2, R6, SK);
    if tuning.yields {
        asm.note("no socket").jump_if64(R2, Is::Equal, 0, pass);
        asm.load(Size::Word, R1, R2, PROTOCOL);
        asm.note("not TCP").jump_if(R1, Is::NotEqual, libc::IPPROTO_TCP, pass);
    }
    steps::beside(asm, tuning.yields, pass);
    steps::profile_of_socket(asm, tuning, first);
    if tuning.has_choice() {
        asm.load(Size::Word, R1, R9, profile::SETS);
        asm.load(Size::Word, R2, R9, profile::YIELDS);
        asm.with32(Op::Xor, R2, -1);
        asm.both32(Op::And, R1, R2);
        asm.both32(Op::And, R1, R7);
        asm.note("the program's value wins").jump_if(R1, Is::Equal, 0, pass);
    }
    asm.note("done, as far as the program sees").store_number(Size::Word, R6, OPTLEN, -1);
    steps::count(asm, tuning, Count::LeftOut);
    asm.jump(pass);
    asm.here(first);
    if tuning.yields {
        asm.note("set by the program itself").load(Size::Word, R1, R8, socket::SET_BY_PROGRAM);
        asm.both32(Op::Or, R1, R7);
        asm.store(Size::Word, R8, socket::SET_BY_PROGRAM, R1);
    }
    asm.jump(pass);
}
