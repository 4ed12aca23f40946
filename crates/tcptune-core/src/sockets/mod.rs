//! A hooked call: what the descriptor is, what is decided, and what is done to it.

pub mod address;
pub mod apply;
pub mod attempt;
pub mod block;
pub mod connect;
pub mod decision;
pub mod descriptor;
pub mod family;
pub mod identity;
pub mod real;
pub mod signal;
pub mod silence;
pub mod slots;
pub mod stats;
pub mod syn;
