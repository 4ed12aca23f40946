//! `tcptune inspect` and `tcptune apply` on real programs that are running already.

mod apply;
mod denied;
mod ending;
mod harness;
mod hidden;
mod inspect;
mod looking;
mod many;
mod odd;
mod screens;

#[path = "../../../../tests/e2e/harness/namespace.rs"]
#[allow(dead_code, reason = "the end-to-end tests of the library use more of it")]
mod namespace;
