//! The program for setsockopt(2) (`BPF_PROG_TYPE_CGROUP_SOCKOPT`): what is set here stays when the program sets it as
//! well, or the other way round.
//!
//! Where our value wins, the program's call is left out and succeeds. A call with a wrong argument goes to the kernel, so
//! that the program gets its error. So does each call before the socket connects or listens: our values are set then.

use tcptune_core::options::wire::Wire;

use super::assembler::{FP, Helper, Is, Label, Op, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Size};
use super::bpf::Kind;
use super::layout::{Asm, Count, profile, socket};
use super::steps::{self, CREATE, PHASE, SCRATCH};
use super::tuning::{Slot, Tuning};

pub const KIND: Kind = Kind { program: 25, attach: 22, name: "tcptune_setopt" };

// struct bpf_sockopt.
const SK: i16 = 0;
const OPTVAL: i16 = 8;
const OPTVAL_END: i16 = 16;
const LEVEL: i16 = 24;
const OPTNAME: i16 = 28;
const OPTLEN: i16 = 32;

// struct bpf_sock, and its states (netinet/tcp.h).
const PROTOCOL: i16 = 12;
const STATE: i16 = 72;
const SYN_SENT: i32 = 2;
const CLOSE: i32 = 7;

// On the stack: the program's value, and the length of ours.
const VALUE: i16 = -24;
const LENGTH: i16 = -32;

/// The mark by which an attachment to an inner cgroup, whose programs run first, says that the socket is its own: a word
/// behind the program's value, for which the kernel always has room (16 bytes at least).
const TAKEN: i32 = super::sock_ops::TAKEN;
const ROOM: i32 = 16;
const MARK: i16 = 12;

/// What the kernel shows a program of a value: its smallest page.
const SHOWN: i32 = 4096;

const LEVELS: [i32; 4] = [libc::SOL_SOCKET, libc::IPPROTO_TCP, libc::IPPROTO_IP, libc::IPPROTO_IPV6];

/// The whole program.
pub fn program(asm: &mut Asm, tuning: &Tuning<'_>) {
    let [pass, ours, during] = ["pass", "ours", "during_an_attempt"].map(|name| asm.label(name));
    asm.copy(R6, R1);
    unless_taken(asm, tuning, pass);
    let slots: Vec<_> = tuning.slots.iter().filter(|slot| !slot.is_of_bind()).collect();
    let labels: Vec<_> = slots.iter().map(|slot| asm.label(slot.opt.name().to_lowercase())).collect();
    let of_user_timeout = slots.iter().zip(&labels).find(|(slot, _)| is_user_timeout(slot));
    asm.note("level").load(Size::Word, R2, R6, LEVEL);
    asm.note("option").load(Size::Word, R3, R6, OPTNAME);
    for level in LEVELS {
        let here = |slot: &Slot| match slot.option.v6 {
            Some(v6) if level == libc::IPPROTO_IPV6 => Some(v6),
            _ => (slot.option.level == level).then_some(slot.option.optname),
        };
        let of_level = slots.iter().zip(&labels).filter_map(|(slot, label)| Some((here(slot)?, *slot, *label)));
        let of_level: Vec<_> = of_level.collect();
        let lends = tuning.has_timeouts && level == libc::IPPROTO_TCP;
        if of_level.is_empty() && !lends {
            continue;
        }
        let next = asm.label(format!("not_{level}"));
        asm.jump_if(R2, Is::NotEqual, level, next);
        if lends {
            asm.note("USER_TIMEOUT").jump_if(R3, Is::Equal, libc::TCP_USER_TIMEOUT, during);
        }
        for (optname, slot, label) in of_level.into_iter().filter(|(_, slot, _)| !(lends && is_user_timeout(slot))) {
            asm.note(slot.opt.name()).jump_if(R3, Is::Equal, optname, label);
        }
        asm.here(next);
    }
    asm.here(pass);
    whole(asm);

    asm.here(during);
    if tuning.has_timeouts {
        during_an_attempt(asm, of_user_timeout.map(|(slot, label)| (*slot, *label)), tuning, pass);
    }
    for (slot, label) in slots.iter().zip(&labels) {
        asm.here(*label);
        accepted(asm, slot.accepted(), slot.option.wire, pass);
        asm.note(&*slot.shown).set(R7, tuning.bit(slot));
        asm.note("where its value is").set(R8, slot.offset.into());
        asm.note("and its length").set(R1, slot.len());
        asm.store(Size::Double, FP, LENGTH, R1);
        asm.jump(ours);
    }
    asm.here(ours);
    leave_out(asm, tuning, pass);
}

fn is_user_timeout(slot: &Slot) -> bool {
    slot.option.is(libc::IPPROTO_TCP, libc::TCP_USER_TIMEOUT)
}

/// The kernel goes on as ever. Of a longer value than it shows it would take that part alone, and before Linux 6.5 it fails
/// with `EFAULT` (iptables sets such ones); a length of 0 stands for all that the program has given.
fn whole(asm: &mut Asm) {
    let out = asm.label("out");
    asm.load(Size::Word, R1, R6, OPTLEN);
    asm.note("-1: it is left out").with32(Op::Add, R1, 1);
    asm.note("all of it was shown").jump_if(R1, Is::Below, SHOWN + 2, out);
    asm.note("the program's own");
    steps::answer(asm, OPTLEN, 0);
    steps::go_on(asm, out);
}

/// Programs of inner cgroups run first, and mark the call, unless they set nothing any more.
fn unless_taken(asm: &mut Asm, tuning: &Tuning<'_>, pass: Label) {
    let free = asm.label("free");
    asm.load(Size::Word, R1, R6, OPTLEN);
    asm.note("left out already").jump_if(R1, Is::Equal, -1, pass);
    asm.note("no room for a mark").jump_if(R1, Is::Above, MARK.into(), free);
    asm.load(Size::Double, R7, R6, OPTVAL);
    asm.load(Size::Double, R3, R6, OPTVAL_END);
    asm.copy(R1, R7);
    asm.with(Op::Add, R1, ROOM);
    asm.jump_if_both(R1, Is::Above, R3, free);
    asm.load(Size::Word, R1, R7, MARK);
    asm.note("an inner cgroup has it").jump_if(R1, Is::Equal, TAKEN, pass);
    steps::unless_stopped(asm, free);
    if tuning.is_trial {
        steps::unless_over(asm, free);
    }
    asm.store_number(Size::Word, R7, MARK, TAKEN);
    asm.here(free);
}

/// Checks that the kernel would take the value, and copies it to the stack. Of a name only the length is checked.
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
    asm.store(Size::Word, FP, VALUE, R1);
    if (low, high) != (i32::MIN, i32::MAX) {
        if low != 0 {
            asm.with32(Op::Sub, R1, low);
        }
        asm.note("out of range: the kernel says so").jump_if(R1, Is::Above, high.wrapping_sub(low), pass);
    }
}

/// A program sets its user timeout while the connect timeout is in its place: it is kept, and put back later.
fn during_an_attempt(asm: &mut Asm, slot: Option<(&Slot, Label)>, tuning: &Tuning<'_>, pass: Label) {
    let [not_lent, keep] = ["not_lent", "keep"].map(|name| asm.label(name));
    accepted(asm, (0, i32::MAX), Wire::Int, pass);
    asm.load(Size::Double, R8, R6, SK);
    asm.note("no socket").jump_if64(R8, Is::Equal, 0, pass);
    asm.load(Size::Word, R1, R8, STATE);
    asm.note("it does not connect").jump_if(R1, Is::NotEqual, SYN_SENT, not_lent);
    asm.copy(R2, R8);
    steps::profile_of_socket(asm, tuning);
    asm.copy(R1, R8);
    steps::user_timeout(asm);
    asm.store_number(Size::Word, FP, SCRATCH, 0);
    asm.call(Helper::Getsockopt);
    asm.load(Size::Word, R1, FP, SCRATCH);
    asm.load(Size::Word, R2, R9, profile::CONNECT_TIMEOUT);
    asm.note("is it lent?").jump_if_both(R1, Is::NotEqual, R2, not_lent);
    steps::answer(asm, OPTLEN, -1);
    if let Some((slot, _)) = slot {
        // Our own value for the user timeout is what will be put back: where it wins, the program's is dropped.
        winning(asm);
        asm.with32(Op::And, R1, tuning.bit(slot));
        asm.jump_if(R1, Is::Equal, 0, keep);
        asm.jump(pass);
    }
    asm.here(keep);
    asm.copy(R2, R8);
    asm.set(R4, CREATE);
    steps::beside(asm);
    asm.jump_if64(R0, Is::Equal, 0, pass);
    asm.load(Size::Word, R1, FP, VALUE);
    asm.note("to be put back").store(Size::Word, R0, socket::USER_TIMEOUT, R1);
    asm.store_number(Size::Word, R0, socket::IS_KEPT, 1);
    asm.jump(pass);
    asm.here(not_lent);
    asm.jump(slot.map_or(pass, |(_, label)| label));
}

/// The slots whose values win over the program's go to `r1`.
fn winning(asm: &mut Asm) {
    asm.load(Size::Word, R1, R9, profile::SETS);
    asm.load(Size::Word, R2, R9, profile::YIELDS);
    asm.with32(Op::Xor, R2, -1);
    asm.both32(Op::And, R1, R2);
}

/// What is set here stays. `r7` is the bit of the option, `r8` where its value is in a profile.
fn leave_out(asm: &mut Asm, tuning: &Tuning<'_>, pass: Label) {
    let taken = asm.label("taken");
    steps::unless_stopped(asm, pass);
    if tuning.is_trial {
        asm.store_number(Size::Double, FP, PHASE, 0);
        steps::unless_over(asm, pass);
    }
    asm.load(Size::Double, R2, R6, SK);
    asm.note("no socket").jump_if64(R2, Is::Equal, 0, pass);
    asm.load(Size::Word, R1, R2, PROTOCOL);
    asm.note("not TCP").jump_if(R1, Is::NotEqual, libc::IPPROTO_TCP, pass);
    asm.load(Size::Word, R1, R2, STATE);
    asm.jump_if(R1, Is::NotEqual, CLOSE, taken);
    if tuning.yields {
        remember(asm, pass);
    }
    asm.note("what is set here follows").jump(pass);
    asm.here(taken);
    steps::profile_of_socket(asm, tuning);
    if tuning.has_choice() {
        winning(asm);
        asm.both32(Op::And, R1, R7);
        asm.jump_if(R1, Is::Equal, 0, pass);
    }
    // It may not have the value yet: it may be older than the attachment.
    asm.load(Size::Double, R1, R6, SK);
    asm.jump_if64(R1, Is::Equal, 0, pass);
    asm.load(Size::Word, R2, R6, LEVEL);
    asm.load(Size::Word, R3, R6, OPTNAME);
    asm.copy(R4, R9);
    asm.both(Op::Add, R4, R8);
    asm.load(Size::Double, R5, FP, LENGTH);
    asm.call(Helper::Setsockopt);
    asm.note("refused").jump_if64(R0, Is::NotEqual, 0, pass);
    asm.note("done, as far as the program sees");
    steps::answer(asm, OPTLEN, -1);
    steps::count(asm, tuning, Count::LeftOut);
    asm.jump(pass);
}

/// The program has set it itself, which counts when the socket connects or listens. The socket is in `r2`.
fn remember(asm: &mut Asm, pass: Label) {
    asm.set(R4, CREATE);
    steps::beside(asm);
    asm.jump_if64(R0, Is::Equal, 0, pass);
    asm.load(Size::Word, R1, R0, socket::SET_BY_PROGRAM);
    asm.both32(Op::Or, R1, R7);
    asm.store(Size::Word, R0, socket::SET_BY_PROGRAM, R1);
}
