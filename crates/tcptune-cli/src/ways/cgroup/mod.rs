//! The way by the kernel itself: BPF programs of a cgroup set options on each socket of the programs in it, whatever they
//! are written in, and whether they run already.
//!
//! The programs are made of the settings here, instruction by instruction: [`tuning`] says what is set, [`sock_ops`],
//! [`setsockopt`] and [`bind`] are the programs, [`attachment`] brings them into the kernel.

pub mod assembler;
pub mod attachment;
mod bind;
mod bpf;
mod comparisons;
mod layout;
mod setsockopt;
mod sock_ops;
mod steps;
pub mod tuning;

use assembler::{Assembler, TooLong};
use bpf::Kind;
use layout::Program;
use tuning::Tuning;

/// Where programs of ours may be attached.
const KINDS: [Kind; 4] = [sock_ops::KIND, setsockopt::KIND, bind::KINDS[0], bind::KINDS[1]];

/// The programs that these settings need.
pub fn programs(tuning: &Tuning<'_>) -> Result<Vec<(Kind, Program)>, TooLong> {
    let is_bound = tuning.slots.iter().any(tuning::Slot::is_of_bind);
    let is_set = tuning.has_timeouts || tuning.slots.iter().any(|slot| !slot.is_of_bind());
    let mut programs: Vec<(Kind, Program)> = Vec::new();
    let mut make = |kind: Kind, write: fn(&mut layout::Asm, &Tuning<'_>)| {
        let mut asm = Assembler::new();
        write(&mut asm, tuning);
        asm.finish().map(|code| programs.push((kind, code)))
    };
    make(sock_ops::KIND, sock_ops::program)?;
    if is_set {
        make(setsockopt::KIND, setsockopt::program)?;
    }
    if is_bound {
        make(bind::KINDS[0], bind::program)?;
        make(bind::KINDS[1], bind::program)?;
    }
    Ok(programs)
}
