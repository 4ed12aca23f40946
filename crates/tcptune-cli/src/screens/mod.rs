//! What is written for people and for machines.

pub mod candidates;
pub mod error;
pub mod output;
pub mod text;
pub mod usage;
