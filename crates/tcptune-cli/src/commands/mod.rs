//! The subcommands.

pub mod apply;
pub mod check;
pub mod completions;
pub mod env;
pub mod explain;
pub mod inspect;
pub mod profile;
pub mod run;
pub mod stats;
