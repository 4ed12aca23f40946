//! The way by the kernel itself: BPF programs of a cgroup set options on each socket of the programs in it, whatever they
//! are written in, and whether they run already.
//!
//! The programs are made of the settings here, instruction by instruction: [`tuning`] says what is set, [`sock_ops`],
//! [`setsockopt`] and [`bind`] are the programs, [`attachment`] brings them into the kernel.

pub mod about;
mod assembler;
pub mod attachment;
mod bind;
mod bpf;
mod comparisons;
mod denied;
mod layout;
pub mod order;
pub mod own;
pub mod place;
mod setsockopt;
mod sock_ops;
mod steps;
mod tuning;

use assembler::{Assembler, TooLong};
use bpf::Kind;
use layout::Program;
use tuning::Tuning;

/// Where programs of ours may be attached.
const KINDS: [Kind; 4] = [sock_ops::KIND, setsockopt::KIND, bind::KINDS[0], bind::KINDS[1]];

/// Which programs these settings need.
fn kinds(tuning: &Tuning<'_>) -> impl Iterator<Item = Kind> {
    let is_bound = tuning.slots.iter().any(tuning::Slot::is_of_bind);
    let is_set = tuning.has_timeouts || tuning.slots.iter().any(|slot| !slot.is_of_bind());
    let is_needed = move |kind: &Kind| match *kind {
        sock_ops::KIND => true,
        setsockopt::KIND => is_set,
        _ => is_bound,
    };
    KINDS.into_iter().filter(is_needed)
}

/// The programs that these settings need.
fn programs(tuning: &Tuning<'_>) -> Result<Vec<(Kind, Program)>, TooLong> {
    let make = |kind: Kind| {
        let mut asm = Assembler::new();
        match kind {
            sock_ops::KIND => sock_ops::program(&mut asm, tuning),
            setsockopt::KIND => setsockopt::program(&mut asm, tuning),
            _ => bind::program(&mut asm, tuning),
        }
        Ok((kind, asm.finish()?))
    };
    kinds(tuning).map(make).collect()
}
