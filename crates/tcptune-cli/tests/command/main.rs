//! The command on real programs.

mod checks;
mod documents;
mod figures;
mod harness;
mod profiles;
mod refusals;
mod runs;
mod screens;
