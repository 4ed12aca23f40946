//! End to end: real programs and C probes (`tests/probes`) under the preloaded library.

mod blocking;
mod cost;
mod differential;
mod documents;
mod exhaustion;
mod harness;
mod libraries;
mod lookup;
mod mptcp;
mod namespaces;
mod nonblocking;
mod options;
mod processes;
mod programs;
mod protocols;
mod rules;
mod security;
mod servers;
mod settings;
mod signals;
mod sources;
mod statistics;
mod threads;
mod timeouts;
mod transparent;
mod under_rules;
