//! The command on real programs.

mod checks;
mod documents;
mod explains;
mod figures;
mod harness;
mod profiles;
mod refusals;
mod row;
mod runs;
mod screens;
mod units;
