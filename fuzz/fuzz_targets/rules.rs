//! Any text as rules, and as a configuration file.
#![no_main]

use libfuzzer_sys::fuzz_target;

#[path = "../../crates/tcptune-core/tests/invariants/mod.rs"]
#[allow(dead_code, reason = "the rest is of the other target")]
mod invariants;

fuzz_target!(|text: &str| invariants::text_holds(text));
