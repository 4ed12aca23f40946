//! The program for socket operations (`BPF_PROG_TYPE_SOCK_OPS`): what is set at connect, listen and accept, and the
//! connect timeout.
//!
//! The kernel calls it when a SYN is about to be sent, after listen(2), when an accepted connection stands, and at each
//! change of state that is asked for. The connect timeout is the user timeout until then (tcp(7) `TCP_USER_TIMEOUT`,
//! which the kernel looks at in SYN-SENT as well), and is put back as soon as the attempt is over, however it ends.

use tcptune_core::options::phase::{Phases, Stages};

use super::assembler::{FP, Helper, Is, Label, Op, R0, R1, R2, R4, R6, R8, R9, Size};
use super::bpf::Kind;
use super::comparisons::{self, Compare, Places};
use super::layout::{Asm, Count, Map, attempt, profile, socket};
use super::steps::{self, ATTEMPT, CREATE, PHASE, SCRATCH, SET_BY_PROGRAM};
use super::tuning::{Slot, Tuning};

pub const KIND: Kind = Kind { program: 13, attach: 3, name: "tcptune_sockops" };

// struct bpf_sock_ops.
const OP: i16 = 0;
const REPLY: i16 = 4;
/// The second argument of `STATE_CB`: the new state.
const NEW_STATE: i16 = 8;
pub const FAMILY: i16 = 20;
const REMOTE_PORT: i16 = 64;
const LOCAL_PORT: i16 = 68;
const IS_FULLSOCK: i16 = 72;
const SRTT_US: i16 = 80;
const CB_FLAGS: i16 = 84;
/// Of the socket itself: during `STATE_CB` the old one.
const STATE: i16 = 88;
const SK: i16 = 184;

// enum of linux/bpf.h.
const TIMEOUT_INIT: i32 = 1;
const TCP_CONNECT_CB: i32 = 3;
const ACTIVE_ESTABLISHED_CB: i32 = 4;
const PASSIVE_ESTABLISHED_CB: i32 = 5;
const STATE_CB: i32 = 10;
const TCP_LISTEN_CB: i32 = 11;
const STATE_CB_FLAG: i32 = 4;

/// The longest tick of a kernel's clock, in nanoseconds.
const TICK: i32 = 10_000_000;

// netinet/tcp.h.
const ESTABLISHED: i32 = 1;
const SYN_SENT: i32 = 2;
const SYN_RECV: i32 = 3;

/// The mark by which an attachment to an inner cgroup, whose programs run first, says that the socket is its own. It is the
/// reply to a call whose reply the kernel ignores.
pub const TAKEN: i32 = 0x7463_7074;

pub const CLIENT: Places = Places { family: FAMILY, dst: (24, 32), src: (28, 48), port: remote_port };
pub const SERVER: Places = Places { port: local_port, ..CLIENT };

fn remote_port(asm: &mut Asm) {
    asm.note("the peer's port").load(Size::Word, R2, R6, REMOTE_PORT);
    asm.network_order(R2, 32);
}

fn local_port(asm: &mut Asm) {
    asm.note("the own port").load(Size::Word, R2, R6, LOCAL_PORT);
}

/// The whole program.
pub fn program(asm: &mut Asm, tuning: &Tuning<'_>) {
    let [out, connect, listen, accepted, state, initial, connected] =
        ["out", "connect", "listen", "accepted", "state", "initial", "connected"].map(|name| asm.label(name));
    asm.copy(R6, R1);
    asm.note("the operation").load(Size::Word, R2, R6, OP);
    asm.note("BPF_SOCK_OPS_STATE_CB").jump_if(R2, Is::Equal, STATE_CB, state);
    asm.note("BPF_SOCK_OPS_TCP_CONNECT_CB").jump_if(R2, Is::Equal, TCP_CONNECT_CB, connect);
    asm.note("BPF_SOCK_OPS_PASSIVE_ESTABLISHED_CB").jump_if(R2, Is::Equal, PASSIVE_ESTABLISHED_CB, accepted);
    asm.note("BPF_SOCK_OPS_TCP_LISTEN_CB").jump_if(R2, Is::Equal, TCP_LISTEN_CB, listen);
    if !tuning.has_timeouts {
        asm.note("BPF_SOCK_OPS_ACTIVE_ESTABLISHED_CB").jump_if(R2, Is::Equal, ACTIVE_ESTABLISHED_CB, connected);
    }
    if tuning.has_initial {
        asm.note("BPF_SOCK_OPS_TIMEOUT_INIT").jump_if(R2, Is::Equal, TIMEOUT_INIT, initial);
    }
    steps::go_on(asm, out);

    asm.here(connect);
    take(asm, tuning, Call::Connect, out);
    asm.here(listen);
    take(asm, tuning, Call::Listen, out);
    asm.here(accepted);
    take(asm, tuning, Call::Accept, out);
    asm.here(initial);
    first_retransmission(asm, tuning, out);
    asm.here(connected);
    count_connection(asm, tuning, out);
    asm.here(state);
    attempt_is_over(asm, tuning, out);
}

#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Call {
    Connect,
    Listen,
    Accept,
}

impl Call {
    const fn phase(self) -> Phases {
        match self {
            Self::Connect => Phases::UNCONNECTED.or(Phases::CONNECTING),
            Self::Listen => Phases::LISTENING,
            Self::Accept => Phases::CONNECTED,
        }
    }

    const fn name(self) -> &'static str {
        match self {
            Self::Connect => "connect",
            Self::Listen => "listen",
            Self::Accept => "accepted",
        }
    }
}

/// A socket that connects, listens, or has been accepted.
fn take(asm: &mut Asm, tuning: &Tuning<'_>, call: Call, out: Label) {
    let name = call.name();
    asm.note("an inner cgroup has it").load(Size::Word, R1, R6, REPLY);
    asm.jump_if(R1, Is::Equal, TAKEN, out);
    steps::unless_stopped(asm, out);
    let [counted, over, inherited, left] =
        ["counted", "after_the_trial", "inherited", "left"].map(|what| asm.label(format!("{name}_{what}")));
    if tuning.is_trial {
        steps::phase(asm, name);
        asm.load(Size::Word, R1, FP, PHASE);
        let is_counted_alone = call != Call::Connect || !tuning.has_timeouts;
        asm.note("left to outer cgroups").jump_if(R1, Is::NotEqual, 0, if is_counted_alone { counted } else { left });
    }
    steps::answer(asm, REPLY, TAKEN);
    asm.here(left);
    if tuning.has_choice() {
        if tuning.yields {
            asm.store_number(Size::Word, FP, SET_BY_PROGRAM, 0);
        }
        if call == Call::Accept {
            owner_of_listener(asm, tuning, inherited);
        }
        let (rules, places): (Compare, _) =
            if call == Call::Connect { (comparisons::client, CLIENT) } else { (comparisons::server, SERVER) };
        comparisons::choose(asm, tuning, rules, &places, name, call != Call::Accept);
        steps::any_index(asm, tuning, out);
        own(asm, tuning, call);
    }
    steps::address_of_profile(asm, tuning);
    if call == Call::Connect && tuning.has_timeouts {
        new_attempt(asm);
        if tuning.is_trial {
            asm.load(Size::Word, R1, FP, PHASE);
            asm.jump_if(R1, Is::NotEqual, 0, over);
        }
    }
    set_all(asm, tuning, name, |slot| slot.is_of(call.phase()));
    if call == Call::Connect && tuning.has_timeouts {
        lend(asm, tuning);
    }
    asm.here(over);
    if call == Call::Accept && tuning.has_choice() {
        asm.jump(counted);
        asm.here(inherited);
        let is_left = |slot: &Slot| slot.option.stages.contains(Stages::ACCEPT);
        if tuning.slots.iter().any(is_left) {
            steps::address_of_profile(asm, tuning);
            set_all(asm, tuning, "inherited", is_left);
        }
    }
    asm.here(counted);
    match call {
        Call::Connect => begin(asm, tuning, out),
        Call::Listen => steps::count(asm, tuning, Count::Listens),
        Call::Accept => steps::count(asm, tuning, Count::Accepts),
    }
    asm.jump(out);
}

/// What lies beside an accepted socket is what lay beside its listener: the index of that profile goes to `r9`.
fn owner_of_listener(asm: &mut Asm, tuning: &Tuning<'_>, inherited: Label) {
    let none = asm.label("accepted_none");
    asm.note("the socket").load(Size::Double, R2, R6, SK);
    asm.jump_if64(R2, Is::Equal, 0, none);
    asm.set(R4, 0);
    steps::beside(asm);
    asm.jump_if64(R0, Is::Equal, 0, none);
    set_by_program(asm, tuning);
    asm.note("as its listener is?").load(Size::Word, R9, R0, socket::OWNER);
    asm.with32(Op::Sub, R9, tuning.first_owner());
    asm.jump_if(R9, Is::Below, tuning.count(), inherited);
    asm.here(none);
}

/// The index in `r9` is kept beside the socket, unless it is the one that holds where nothing is kept: that costs most
/// sockets nothing.
fn own(asm: &mut Asm, tuning: &Tuning<'_>, call: Call) {
    let [made, none] = ["own", "none_beside"].map(|what| asm.label(format!("{}_{what}", call.name())));
    asm.note("the socket").load(Size::Double, R2, R6, SK);
    asm.jump_if64(R2, Is::Equal, 0, none);
    asm.set(R4, CREATE);
    if call != Call::Listen || !tuning.listens_alone() {
        asm.jump_if(R9, Is::NotEqual, tuning.fallback(), made);
        asm.set(R4, 0);
        asm.here(made);
    }
    steps::beside(asm);
    asm.jump_if64(R0, Is::Equal, 0, none);
    asm.copy(R1, R9);
    asm.with32(Op::Add, R1, tuning.first_owner());
    asm.store(Size::Word, R0, socket::OWNER, R1);
    set_by_program(asm, tuning);
    asm.here(none);
}

/// What lies beside the socket is at `r0`.
fn set_by_program(asm: &mut Asm, tuning: &Tuning<'_>) {
    if tuning.yields {
        asm.load(Size::Word, R1, R0, socket::SET_BY_PROGRAM);
        asm.store(Size::Word, FP, SET_BY_PROGRAM, R1);
    }
}

/// Sets the slots of the profile for which `is_meant` holds.
fn set_all(asm: &mut Asm, tuning: &Tuning<'_>, at: &str, is_meant: impl Fn(&Slot) -> bool) {
    steps::slots_to_set(asm, tuning, true);
    for slot in tuning.slots.iter().filter(|slot| is_meant(slot) && !slot.is_of_bind()) {
        let done = asm.numbered(at);
        if at == Call::Accept.name() && slot.option.is(libc::IPPROTO_TCP, libc::TCP_KEEPIDLE) {
            steps::unless_keepidle_is(asm, slot, done);
        }
        steps::set(asm, tuning, slot, at);
        asm.here(done);
    }
}

/// An attempt on the stack, without a loan.
fn new_attempt(asm: &mut Asm) {
    asm.store_number(Size::Double, FP, ATTEMPT + attempt::LIMIT, 0);
    asm.store_number(Size::Double, FP, ATTEMPT + attempt::USER_TIMEOUT, 0);
    asm.note("CONNECT_TIMEOUT").load(Size::Word, R1, R9, profile::CONNECT_TIMEOUT);
    asm.store(Size::Word, FP, ATTEMPT + attempt::LIMIT, R1);
}

/// The connect timeout takes the place of the user timeout, which is kept.
fn lend(asm: &mut Asm, tuning: &Tuning<'_>) {
    let [none, known] = ["no_timeout", "lent"].map(|name| asm.label(name));
    if tuning.has_choice() {
        asm.load(Size::Word, R1, FP, ATTEMPT + attempt::LIMIT);
        asm.jump_if(R1, Is::Equal, 0, none);
    }
    asm.store_number(Size::Word, FP, SCRATCH, 0);
    asm.copy(R1, R6);
    steps::user_timeout(asm);
    asm.note("the one to put back").call(Helper::Getsockopt);
    // Before Linux 6.1 it cannot be asked for, so that it could not be put back.
    asm.note("not known: nothing is lent").jump_if64(R0, Is::Equal, 0, known);
    steps::count(asm, tuning, Count::Unbounded);
    asm.jump(none);
    asm.here(known);
    asm.store_number(Size::Word, FP, ATTEMPT + attempt::IS_LENT, 1);
    asm.load(Size::Word, R1, FP, SCRATCH);
    asm.store(Size::Word, FP, ATTEMPT + attempt::USER_TIMEOUT, R1);
    if tuning.has_initial {
        asm.load(Size::Word, R1, R9, profile::INITIAL);
        asm.store(Size::Word, FP, ATTEMPT + attempt::INITIAL, R1);
    }
    asm.here(none);
}

/// An attempt begins. Without a connect timeout nothing has to be kept of it.
fn begin(asm: &mut Asm, tuning: &Tuning<'_>, out: Label) {
    let [kept, begun] = ["attempt_kept", "begun"].map(|name| asm.label(name));
    steps::count(asm, tuning, Count::Connects);
    if !tuning.has_timeouts {
        return;
    }
    asm.call(Helper::KtimeGetCoarseNs);
    asm.store(Size::Double, FP, ATTEMPT + attempt::BEGUN, R0);
    steps::places(asm, |asm| {
        asm.set(R0, 0);
        asm.compare_exchange(R9, attempt::COOKIE, R8);
        asm.note("it was free").jump_if64(R0, Is::Equal, 0, kept);
        asm.note("of this socket already").jump_if_both(R0, Is::Equal, R8, kept);
    });
    steps::count(asm, tuning, Count::Unbounded);
    asm.jump(out);
    asm.here(kept);
    for part in [attempt::BEGUN, attempt::LIMIT, attempt::USER_TIMEOUT] {
        asm.load(Size::Double, R1, FP, ATTEMPT + part);
        asm.store(Size::Double, R9, part, R1);
    }
    asm.note("tell of each change of state").copy(R1, R6);
    asm.load(Size::Word, R2, R6, CB_FLAGS);
    asm.with32(Op::Or, R2, STATE_CB_FLAG);
    asm.call(Helper::SockOpsCbFlagsSet);
    asm.load(Size::Word, R1, R9, attempt::IS_LENT);
    asm.jump_if(R1, Is::Equal, 0, begun);
    asm.load(Size::Word, R1, R9, attempt::LIMIT);
    asm.store(Size::Word, FP, SCRATCH, R1);
    asm.copy(R1, R6);
    steps::user_timeout(asm);
    asm.note("the connect timeout").call(Helper::Setsockopt);
    asm.here(begun);
}

/// A connection stands, and no attempt was kept that would tell.
fn count_connection(asm: &mut Asm, tuning: &Tuning<'_>, out: Label) {
    if tuning.has_timeouts {
        return;
    }
    asm.note("an inner cgroup has it").load(Size::Word, R1, R6, REPLY);
    asm.jump_if(R1, Is::Equal, TAKEN, out);
    let left = asm.label("connected_left");
    if tuning.is_trial {
        steps::phase(asm, "connected");
        asm.load(Size::Word, R1, FP, PHASE);
        asm.note("left to outer cgroups").jump_if(R1, Is::NotEqual, 0, left);
    }
    steps::answer(asm, REPLY, TAKEN);
    asm.here(left);
    asm.note("round trip, times 8").load(Size::Word, R2, R6, SRTT_US);
    asm.with(Op::Rsh, R2, 3);
    steps::add(asm, tuning, Count::Microseconds);
    steps::count(asm, tuning, Count::Established);
    asm.jump(out);
}

/// The first retransmission of a SYN comes early enough for a short timeout.
fn first_retransmission(asm: &mut Asm, tuning: &Tuning<'_>, out: Label) {
    if !tuning.has_initial {
        return;
    }
    asm.note("somebody else has answered").load(Size::Word, R1, R6, REPLY);
    asm.jump_if(R1, Is::NotEqual, 0, out);
    asm.note("of a SYN-ACK").load(Size::Word, R1, R6, IS_FULLSOCK);
    asm.jump_if(R1, Is::Equal, 0, out);
    steps::find_attempt(asm, out);
    asm.load(Size::Word, R1, R9, attempt::INITIAL);
    asm.jump_if(R1, Is::Equal, 0, out);
    asm.store(Size::Word, R6, REPLY, R1);
    asm.jump(out);
}

/// A change of state: out of SYN-SENT, an attempt is over.
fn attempt_is_over(asm: &mut Asm, tuning: &Tuning<'_>, out: Label) {
    let [attempting, returned, established, failed] =
        ["attempting", "returned", "established", "failed"].map(|name| asm.label(name));
    asm.note("the old state").load(Size::Word, R1, R6, STATE);
    asm.note("SYN-SENT").jump_if(R1, Is::Equal, SYN_SENT, attempting);
    asm.note("SYN-RECEIVED").jump_if(R1, Is::Equal, SYN_RECV, attempting);
    asm.jump(out);
    asm.here(attempting);
    asm.load(Size::Word, R1, R6, NEW_STATE);
    asm.note("both ends connect").jump_if(R1, Is::Equal, SYN_RECV, out);
    steps::find_attempt(asm, out);
    asm.load(Size::Double, R8, R9, attempt::BEGUN);
    asm.load(Size::Word, R1, R9, attempt::LIMIT);
    asm.store(Size::Word, FP, ATTEMPT + attempt::LIMIT, R1);
    // Also for an attempt that was begun by the attachment that this one replaced.
    asm.load(Size::Word, R1, R9, attempt::IS_LENT);
    asm.jump_if(R1, Is::Equal, 0, returned);
    put_back(asm, returned);
    asm.here(returned);
    asm.note("its place is free").store_number(Size::Double, R9, attempt::COOKIE, 0);
    if !tuning.has_timeouts {
        asm.jump(out);
        return;
    }
    if tuning.is_trial {
        let during = asm.label("during_the_trial");
        asm.store_number(Size::Double, FP, PHASE, 0);
        asm.map_value(R1, Map::State, super::layout::state::UNTIL);
        asm.load(Size::Double, R1, R1, 0);
        asm.jump_if_both(R8, Is::Below, R1, during);
        steps::after_the_trial(asm);
        asm.here(during);
    }
    asm.call(Helper::KtimeGetCoarseNs);
    asm.note("how long it took").both(Op::Sub, R0, R8);
    asm.note("the new state").load(Size::Word, R1, R6, NEW_STATE);
    asm.jump_if(R1, Is::Equal, ESTABLISHED, established);
    asm.note("milliseconds").load(Size::Word, R1, FP, ATTEMPT + attempt::LIMIT);
    asm.jump_if(R1, Is::Equal, 0, failed);
    asm.with(Op::Mul, R1, 1_000_000);
    asm.note("a tick").with(Op::Add, R0, TICK);
    asm.jump_if_both(R0, Is::Below, R1, failed);
    steps::count(asm, tuning, Count::TimedOut);
    asm.jump(out);
    asm.here(failed);
    steps::count(asm, tuning, Count::Failed);
    asm.jump(out);
    asm.here(established);
    let timed = asm.label("timed");
    asm.note("round trip, times 8").load(Size::Word, R2, R6, SRTT_US);
    asm.with(Op::Rsh, R2, 3);
    asm.jump_if(R2, Is::NotEqual, 0, timed);
    asm.note("not measured: a SYN was sent again").copy(R2, R0);
    asm.with(Op::Div, R2, 1000);
    asm.here(timed);
    steps::add(asm, tuning, Count::Microseconds);
    steps::count(asm, tuning, Count::Established);
    asm.jump(out);
}

/// The user timeout is what it was, or what the program has set meanwhile.
fn put_back(asm: &mut Asm, returned: Label) {
    let kept = asm.label("of_before");
    asm.store_number(Size::Word, FP, SCRATCH, 0);
    asm.copy(R1, R6);
    steps::user_timeout(asm);
    asm.call(Helper::Getsockopt);
    asm.load(Size::Word, R1, FP, SCRATCH);
    asm.load(Size::Word, R2, R9, attempt::LIMIT);
    asm.note("not the one that was lent").jump_if_both(R1, Is::NotEqual, R2, returned);
    asm.load(Size::Word, R1, R9, attempt::USER_TIMEOUT);
    asm.store(Size::Word, FP, SCRATCH, R1);
    asm.load(Size::Double, R2, R6, SK);
    asm.jump_if64(R2, Is::Equal, 0, kept);
    asm.set(R4, 0);
    steps::beside(asm);
    asm.jump_if64(R0, Is::Equal, 0, kept);
    asm.load(Size::Word, R1, R0, socket::IS_KEPT);
    asm.jump_if(R1, Is::Equal, 0, kept);
    asm.store_number(Size::Word, R0, socket::IS_KEPT, 0);
    asm.note("set by the program meanwhile").load(Size::Word, R1, R0, socket::USER_TIMEOUT);
    asm.store(Size::Word, FP, SCRATCH, R1);
    asm.here(kept);
    asm.copy(R1, R6);
    steps::user_timeout(asm);
    asm.note("put it back").call(Helper::Setsockopt);
}
