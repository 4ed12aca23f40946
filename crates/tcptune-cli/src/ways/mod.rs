//! The ways into a program.

pub mod cgroup;
pub mod preload;
