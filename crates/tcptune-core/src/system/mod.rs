//! The kernel by hand: what a hook may ask of it without a function of libc that could be hooked, lock or allocate.

mod call;
pub mod clock;
pub mod errno;
pub mod files;
pub mod memory;
pub mod messages;
pub mod network;
pub mod note;
pub mod process;
pub mod signals;
