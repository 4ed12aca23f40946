//! Settings as the command line gives them.

pub mod flags;
pub mod profile;
mod traps;
