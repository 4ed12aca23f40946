//! Any bytes as a whole environment.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/tcptune-core/tests/invariants/mod.rs"]
mod invariants;

fuzz_target!(|environment: &[u8]| invariants::hold(&invariants::variables(environment), invariants::KERNEL));
