//! `libtcptune.so`: tunes the TCP sockets of the program it is preloaded into.
//!
//! Only what must live inside the other program is here; what is parsed, decided and done to a socket is in
//! `tcptune-core`. A call takes this way: [`hooks`] (the exported functions) → [`tuning`] (which core function, on
//! which descriptor) → core → the real function.
//!
//! # Start-up order
//!
//! 1. ld.so relocates the library. From here on any other library's constructor may call a hook: no settings are
//!    published, so it is forwarded, and the real function is looked up on the spot.
//! 2. [`startup`] runs as a constructor, before main: it resolves every real function, so that no hook has to.
//! 3. It stops here in secure execution (`AT_SECURE`), or if no `TCPTUNE_` variable is there.
//! 4. It parses the settings and starts [`logging`]; allocations go to [`arena`], never to the program's malloc.
//! 5. It reports what is wrong; with `STRICT` it ends the process.
//! 6. It publishes the settings. From here on the hooks tune.

mod arena;
mod entry;
mod hooks;
mod logging;
mod lookup;
mod note;
mod plugins;
mod runtime;
mod startup;
mod tuning;
