//! The option table, and how values are written, stored and handed to the kernel.

pub mod group;
pub mod names;
pub mod phase;
pub mod rows;
pub mod table;
pub mod value;
pub mod ways;
pub mod wire;
pub mod words;
