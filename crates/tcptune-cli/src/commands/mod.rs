//! The subcommands.

pub mod apply;
pub mod attach;
pub mod attached;
pub mod check;
pub mod completions;
pub mod detach;
pub mod env;
pub mod explain;
pub mod inspect;
pub mod man;
pub mod profile;
pub mod run;
pub mod stats;
pub mod unit;
