//! The ways into a program.

pub mod cgroup;
pub mod choice;
pub mod notify;
pub mod preload;
