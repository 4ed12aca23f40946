//! Steps that several programs share. All of them keep the context in `r6` and the profile in `r9`; below the frame
//! pointer are [`SCRATCH`], [`PHASE`], the addresses that rules compare, [`SET_BY_PROGRAM`] and [`ATTEMPT`].

use super::assembler::{FP, Helper, Is, Label, Op, R0, R1, R2, R3, R4, R5, R6, R7, R8, R9, Size};
use super::layout::{Asm, Count, Map, attempt, profile, socket, state};
use super::tuning::{Slot, Tuning};

/// The slots that the program has set itself before, where its values win.
pub const SET_BY_PROGRAM: i16 = -56;
/// An attempt to connect, as [`Map::Attempts`] keeps it, without the cookie.
pub const ATTEMPT: i16 = -80;
/// A value for a helper, on the stack.
pub const SCRATCH: i16 = -8;
/// Where the counts of this phase of a trial lie behind the first ones.
pub const PHASE: i16 = -16;

/// Ends the program here: the kernel goes on as ever.
pub fn go_on(asm: &mut Asm, out: Label) {
    asm.here(out);
    asm.set(R0, 1);
    asm.exit();
}

/// Stores a number in the context, by `r1`: before Linux 6.4 the verifier takes it there from a register only.
pub fn answer(asm: &mut Asm, offset: i16, number: i32) {
    asm.set(R1, number);
    asm.store(Size::Word, R6, offset, R1);
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
    asm.call(Helper::KtimeGetCoarseNs);
    asm.note("the end of the trial").map_value(R1, Map::State, state::UNTIL);
    asm.load(Size::Double, R1, R1, 0);
    asm.jump_if_both(R0, Is::Below, R1, during);
    after_the_trial(asm);
    asm.here(during);
}

/// By a register: of a number that is stored at once, the verifier forgets before Linux 6.3 which it is.
pub fn after_the_trial(asm: &mut Asm) {
    asm.set(R1, Count::BYTES);
    asm.store(Size::Double, FP, PHASE, R1);
}

/// Jumps if the trial is over. It reads the precise clock: the coarse one is for socket operations only.
pub fn unless_over(asm: &mut Asm, over: Label) {
    asm.call(Helper::KtimeGetNs);
    asm.note("the end of the trial").map_value(R1, Map::State, state::UNTIL);
    asm.load(Size::Double, R1, R1, 0);
    asm.jump_if_both(R0, Is::AtLeast, R1, over);
}

/// `BPF_SK_STORAGE_GET_F_CREATE`.
pub const CREATE: i32 = 1;

/// What lies beside the socket in `r2`, or null, goes to `r0`. `r4`: 0, or [`CREATE`].
pub fn beside(asm: &mut Asm) {
    asm.map(R1, Map::Sockets);
    asm.set(R3, 0);
    asm.call(Helper::SkStorageGet);
}

/// The places that the socket's attempt may have, one after the other: `look` has the address of one in `r9`, and the
/// cookie in `r8`.
pub fn places(asm: &mut Asm, mut look: impl FnMut(&mut Asm)) {
    /// 2^32 divided by the golden ratio: its multiples are spread evenly (Knuth, The Art of Computer Programming, 6.4).
    const SPREAD: i32 = 0x9e37_79b1_u32.cast_signed();
    asm.copy(R1, R6);
    asm.call(Helper::GetSocketCookie);
    asm.copy(R8, R0);
    asm.copy(R7, R0);
    for place in 0..attempt::PLACES {
        if place > 0 {
            asm.with(Op::Mul, R7, SPREAD);
        }
        asm.copy(R1, R7);
        if place > 0 {
            asm.with(Op::Rsh, R1, 16);
        }
        asm.with(Op::And, R1, attempt::ALL - 1);
        asm.with(Op::Lsh, R1, attempt::SHIFT);
        asm.map_value(R9, Map::Attempts, 0);
        asm.both(Op::Add, R9, R1);
        look(asm);
    }
}

/// The socket's attempt goes to `r9`; jumps if there is none.
pub fn find_attempt(asm: &mut Asm, none: Label) {
    let found = asm.numbered("found");
    places(asm, |asm| {
        asm.load(Size::Double, R1, R9, attempt::COOKIE);
        asm.jump_if_both(R1, Is::Equal, R8, found);
    });
    asm.jump(none);
    asm.here(found);
}

/// The arguments of bpf_setsockopt and bpf_getsockopt for the user timeout on the stack, but for the socket in `r1`.
pub fn user_timeout(asm: &mut Asm) {
    on_stack(asm, "TCP_USER_TIMEOUT", libc::TCP_USER_TIMEOUT);
}

fn on_stack(asm: &mut Asm, name: &str, option: i32) {
    asm.set(R2, libc::IPPROTO_TCP);
    asm.note(name).set(R3, option);
    asm.copy(R4, FP);
    asm.with(Op::Add, R4, SCRATCH.into());
    asm.set(R5, 4);
}

/// Jumps if an accepted socket has its listener's keepalive time, and that is the right one: the kernel would start its
/// timer anew.
pub fn unless_keepidle_is(asm: &mut Asm, slot: &Slot, same: Label) {
    asm.store_number(Size::Word, FP, SCRATCH, 0);
    asm.copy(R1, R6);
    on_stack(asm, "TCP_KEEPIDLE", libc::TCP_KEEPIDLE);
    asm.call(Helper::Getsockopt);
    asm.load(Size::Word, R1, FP, SCRATCH);
    asm.load(Size::Word, R2, R9, slot.offset);
    asm.note("its listener has it").jump_if_both(R1, Is::Equal, R2, same);
}

/// The profile that holds for the socket in `r2` goes to `r9`.
pub fn profile_of_socket(asm: &mut Asm, tuning: &Tuning<'_>) {
    if tuning.count() > 1 {
        let known = asm.numbered("known");
        asm.note("where nothing lies beside it").set(R9, tuning.fallback());
        asm.set(R4, 0);
        beside(asm);
        asm.jump_if64(R0, Is::Equal, 0, known);
        asm.load(Size::Word, R1, R0, socket::OWNER);
        asm.with32(Op::Sub, R1, tuning.first_owner());
        asm.jump_if(R1, Is::AtLeast, tuning.count(), known);
        asm.note("the profile that holds").copy(R9, R1);
        asm.here(known);
    }
    address_of_profile(asm, tuning);
}

/// To the verifier the index in `r9` is any from here on, so that it goes through what follows once, not once for each
/// rule.
pub fn any_index(asm: &mut Asm, tuning: &Tuning<'_>, out: Label) {
    if tuning.count() > 1 {
        asm.map_value(R1, Map::State, state::ZERO);
        asm.note("nothing").load(Size::Word, R1, R1, 0);
        asm.both32(Op::Add, R9, R1);
        asm.jump_if(R9, Is::AtLeast, tuning.count(), out);
    }
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
        asm.load(Size::Word, R1, FP, SET_BY_PROGRAM);
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
