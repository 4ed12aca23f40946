//! What `libtcptune.so` and the `tcptune` command share, in three floors. A file imports from its own floor or from below
//! (tests/floors.rs holds that):
//!
//! - [`sockets`]: a hooked call. What the descriptor is, what is decided, what is set, how long a connect may take.
//! - [`settings`]: from text (environment, files, rules) to what holds for a socket.
//! - [`options`]: the option table; and [`system`]: system calls, made without libc.
//!
//! This crate never defines a libc name, and never calls one that the shim hooks: the real functions reach it as
//! [`sockets::real::Real`]. So tests and the command are not interposed.

pub mod options;
pub mod settings;
pub mod sockets;
pub mod system;
