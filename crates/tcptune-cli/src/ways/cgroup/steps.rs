//! Steps that several programs share. All of them keep the context in `r6`, what lies beside the socket in `r8` and the
//! profile in `r9`; below the frame pointer are [`SCRATCH`], [`PHASE`] and the addresses that rules compare.

use super::assembler::{FP, Helper, Is, Label, Op, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Size};
use super::layout::{Asm, Count, Map, profile, socket, state};
use super::tuning::{Slot, Tuning};

/// The cookie of the socket.
pub const COOKIE: i16 = -56;
/// An attempt to connect, as [`Map::Attempts`] keeps it.
pub const ATTEMPT: i16 = -80;
/// A value for a helper, on the stack.
pub const SCRATCH: i16 = -8;
/// Where the counts of this phase of a trial lie behind the first ones.
pub const PHASE: i16 = -16;

/// `BPF_SK_STORAGE_GET_F_CREATE`.
const CREATE: i32 = 1;

/// Ends the program here: the kernel goes on as ever.
pub fn go_on(asm: &mut Asm, out: Label) {
    asm.here(out);
    asm.set(R0, 1);
    asm.exit();
}

/// Nothing new is begun while it is being detached.
pub fn unless_stopped(asm: &mut Asm, out: Label) {
    asm.note("is being detached").map_value(R1, Map::State, state::STOPPED);
    asm.load(Size::Word, R1, R1, 0);
    asm.jump_if(R1, Is::NotEqual, 0, out);
}

/// Which counts are counted: those of after the trial lie behind the others.
pub fn phase(asm: &mut Asm, at: &str) {
    let during = asm.label(format!("{at}_during"));
    asm.store_number(Size::Double, FP, PHASE, 0);
    asm.note("the end of the trial").map_value(R7, Map::State, state::UNTIL);
    asm.load(Size::Double, R7, R7, 0);
    asm.call(Helper::KtimeGetCoarseNs);
    asm.jump_if_both(R0, Is::Below, R7, during);
    asm.store_number(Size::Double, FP, PHASE, Count::BYTES);
    asm.here(during);
}

/// Jumps if the trial is over. It reads the precise clock: the coarse one is for socket operations only.
pub fn unless_over(asm: &mut Asm, over: Label) {
    asm.note("the end of the trial").map_value(R7, Map::State, state::UNTIL);
    asm.load(Size::Double, R7, R7, 0);
    asm.call(Helper::KtimeGetNs);
    asm.jump_if_both(R0, Is::AtLeast, R7, over);
}

/// What lies beside the socket in `r2` goes to `r8`.
pub fn beside(asm: &mut Asm, create: bool, none: Label) {
    asm.note("no socket").jump_if64(R2, Is::Equal, 0, none);
    asm.map(R1, Map::Sockets);
    asm.set(R3, 0);
    asm.set(R4, if create { CREATE } else { 0 });
    asm.call(Helper::SkStorageGet);
    asm.jump_if64(R0, Is::Equal, 0, none);
    asm.copy(R8, R0);
}

/// The socket's cookie goes to the stack.
pub fn cookie(asm: &mut Asm) {
    asm.copy(R1, R6);
    asm.call(Helper::GetSocketCookie);
    asm.store(Size::Double, FP, COOKIE, R0);
}

/// The arguments of a call about an attempt: the map and the cookie.
pub fn attempt(asm: &mut Asm) {
    asm.map(R1, Map::Attempts);
    asm.copy(R2, FP);
    asm.with(Op::Add, R2, COOKIE.into());
}

/// The arguments of bpf_setsockopt and bpf_getsockopt for the user timeout on the stack, but for the socket in `r1`.
pub fn user_timeout(asm: &mut Asm) {
    asm.set(R2, libc::IPPROTO_TCP);
    asm.note("TCP_USER_TIMEOUT").set(R3, libc::TCP_USER_TIMEOUT);
    asm.copy(R4, FP);
    asm.with(Op::Add, R4, SCRATCH.into());
    asm.set(R5, 4);
}

/// The profile of the socket's owner goes to `r9`; jumps if none of this attachment holds.
pub fn profile_of_socket(asm: &mut Asm, tuning: &Tuning<'_>, none: Label) {
    asm.note("the profile that holds").load(Size::Word, R9, R8, socket::OWNER);
    if tuning.count() == 1 {
        asm.jump_if(R9, Is::NotEqual, tuning.first_owner(), none);
    } else {
        asm.with32(Op::Sub, R9, tuning.first_owner());
        asm.jump_if(R9, Is::AtLeast, tuning.count(), none);
    }
    address_of_profile(asm, tuning);
}

/// From its index in `r9` to its address.
pub fn address_of_profile(asm: &mut Asm, tuning: &Tuning<'_>) {
    if tuning.count() == 1 {
        asm.map_value(R9, Map::Profiles, 0);
        return;
    }
    asm.with(Op::Lsh, R9, tuning.shift);
    asm.map_value(R1, Map::Profiles, 0);
    asm.both(Op::Add, R9, R1);
}

/// The slots that the profile sets go to `r7`; those that the program has set itself are not among them, if its values
/// win.
pub fn slots_to_set(asm: &mut Asm, tuning: &Tuning<'_>, has_socket: bool) {
    if !tuning.has_choice() {
        return;
    }
    asm.note("the slots to set").load(Size::Word, R7, R9, profile::SETS);
    if tuning.yields && has_socket {
        asm.load(Size::Word, R1, R8, socket::SET_BY_PROGRAM);
        asm.load(Size::Word, R2, R9, profile::YIELDS);
        asm.both32(Op::And, R1, R2);
        asm.with32(Op::Xor, R1, -1);
        asm.note("but those of the program").both32(Op::And, R7, R1);
    }
}

/// Sets an option, if the profile says so. `at` tells the labels of several places apart.
pub fn set(asm: &mut Asm, tuning: &Tuning<'_>, slot: &Slot, at: &str) {
    let name = slot.opt.name().to_lowercase();
    let done = asm.label(format!("{at}_{name}_done"));
    let bit = tuning.bit(slot);
    if tuning.has_choice() {
        let it = asm.label(format!("{at}_{name}"));
        asm.jump_if(R7, Is::AnyBit, bit, it);
        asm.jump(done);
        asm.here(it);
    }
    asm.note(&*slot.shown).copy(R1, R6);
    asm.set(R2, slot.option.level);
    asm.set(R3, slot.option.optname);
    if let Some(v6) = slot.option.v6 {
        let v4 = asm.label(format!("{at}_{name}_ipv4"));
        asm.load(Size::Word, R4, R6, super::sock_ops::FAMILY);
        asm.jump_if(R4, Is::NotEqual, libc::AF_INET6, v4);
        asm.set(R2, libc::IPPROTO_IPV6);
        asm.set(R3, v6);
        asm.here(v4);
    }
    asm.copy(R4, R9);
    asm.with(Op::Add, R4, slot.offset.into());
    asm.set(R5, slot.len());
    asm.call(Helper::Setsockopt);
    asm.jump_if64(R0, Is::Equal, 0, done);
    asm.note("refused").map_value(R1, Map::State, state::REFUSED);
    asm.set(R2, bit);
    asm.atomic_or(R1, 0, R2);
    asm.here(done);
}

/// Adds to a count what is in `r2`.
pub fn add(asm: &mut Asm, tuning: &Tuning<'_>, count: Count) {
    asm.map_value(R1, Map::State, count.offset());
    if tuning.is_trial {
        asm.load(Size::Double, R3, FP, PHASE);
        asm.both(Op::Add, R1, R3);
    }
    asm.note(format!("count: {count:?}")).atomic_add(R1, 0, R2);
}

/// Adds one.
pub fn count(asm: &mut Asm, tuning: &Tuning<'_>, count: Count) {
    asm.set(R2, 1);
    add(asm, tuning, count);
}
