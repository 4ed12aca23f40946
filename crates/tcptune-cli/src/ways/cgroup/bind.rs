//! The programs for bind(2) (`BPF_PROG_TYPE_CGROUP_SOCK_ADDR`), one for each family. They set the options that have to be
//! there before the kernel chooses or refuses the port, such as `SO_REUSEADDR`.

use super::assembler::{Is, R1, R2, R6, Size};
use super::bpf::Kind;
use super::comparisons::{self, Places};
use super::layout::Asm;
use super::steps;
use super::tuning::Tuning;

pub const KINDS: [Kind; 2] =
    [Kind { program: 18, attach: 8, name: "tcptune_bind4" }, Kind { program: 18, attach: 9, name: "tcptune_bind6" }];

// struct bpf_sock_addr.
const USER_PORT: i16 = 24;
const FAMILY: i16 = 28;
const TYPE: i16 = 32;
const PROTOCOL: i16 = 36;
const SERVER: Places = Places { family: FAMILY, dst: (4, 8), src: (4, 8), port: user_port };

fn user_port(asm: &mut Asm) {
    asm.note("the port").load(Size::Word, R2, R6, USER_PORT);
    asm.network_order(R2, 16);
}

/// Either program.
pub fn program(asm: &mut Asm, tuning: &Tuning<'_>) {
    let out = asm.label("out");
    asm.copy(R6, R1);
    asm.note("TCP?").load(Size::Word, R1, R6, PROTOCOL);
    asm.jump_if(R1, Is::NotEqual, libc::IPPROTO_TCP, out);
    asm.load(Size::Word, R1, R6, TYPE);
    asm.jump_if(R1, Is::NotEqual, libc::SOCK_STREAM, out);
    steps::unless_stopped(asm, out);
    if tuning.is_trial {
        steps::unless_over(asm, out);
    }
    comparisons::choose(asm, tuning, comparisons::server, &SERVER, "bind", true);
    steps::any_index(asm, tuning, out);
    steps::address_of_profile(asm, tuning);
    steps::slots_to_set(asm, tuning, false);
    for slot in tuning.slots.iter().filter(|slot| slot.is_of_bind()) {
        steps::set(asm, tuning, slot, "bind");
    }
    steps::go_on(asm, out);
}
