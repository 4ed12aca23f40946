//! The command on real programs.

mod checks;
mod documents;
mod explains;
mod figures;
mod harness;
mod libraries;
mod memory;
mod profiles;
mod refusals;
mod row;
mod runs;
mod sanitizers;
mod screens;
mod scripts;
mod shells;
mod symptoms;
mod text;
mod units;
mod wrappers;
