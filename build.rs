//! How the library is linked, so that it costs little at each exec.
//!
//! libgcc_s stays out of `NEEDED`: loading it costs an exec more than all the rest together.
//! std links to it for unwinding, which a library built with `panic = "abort"` never does. rustc asks for `-lgcc_s`;
//! the linker finds this script first, which names the static library with the same functions.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(dir.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n").expect("OUT_DIR is writable");
    // crtbegin.o would run code on pages of its own at start and at exit, which a library without C code does not need.
    println!("cargo:rustc-cdylib-link-arg=-nostartfiles");
    // RELRO costs a system call and a page at each exec, and protects nothing here: the pointers worth protecting, to
    // the real functions, are found after relocation.
    println!("cargo:rustc-cdylib-link-arg=-Wl,-z,norelro");
    println!("cargo:rustc-link-search=native={}", dir.display());
}
