//! What `libtcptune.so` and the `tcptune` command share.
//!
//! Data goes one way: environment → [`settings`] → hook (in the shim) → [`decision`] → [`apply`] or [`connect`] →
//! the real libc call. The [`option`] table feeds all of them.
//!
//! This crate never defines a libc name, and never calls one that the shim hooks: the real functions reach it as
//! [`real::Real`]. So tests and the command are not interposed.

pub mod address;
pub mod apply;
pub mod attempt;
mod chosen;
pub mod clock;
pub mod config;
pub mod connect;
pub mod decision;
pub mod descriptor;
pub mod diagnostic;
pub mod draft;
pub mod errno;
pub mod files;
pub mod grammar;
pub mod memory;
pub mod names;
pub mod option;
pub mod phase;
pub mod real;
pub mod rules;
pub mod settings;
pub mod signal;
pub mod stats;
pub mod syn;
pub mod value;
pub mod wire;
