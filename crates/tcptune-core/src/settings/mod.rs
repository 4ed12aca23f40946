//! From text to [`settled::Settings`]: the sources, their grammar, and what holds for a socket.

mod change;
mod chosen;
pub mod config;
pub mod diagnostic;
pub mod draft;
pub mod grammar;
pub mod named;
mod plain;
pub mod profile;
pub mod rules;
pub mod settle;
pub mod settled;
pub mod source;
mod texts;
