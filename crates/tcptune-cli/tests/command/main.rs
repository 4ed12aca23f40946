//! The command on real programs.

mod checks;
mod documents;
mod harness;
mod refusals;
mod runs;
mod screens;
