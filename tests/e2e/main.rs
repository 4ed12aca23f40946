//! End to end: real programs and C probes (`tests/probes`) under the preloaded library.

mod blocking;
mod harness;
mod namespaces;
mod nonblocking;
mod options;
mod programs;
mod servers;
mod settings;
mod transparent;
