//! Keeps libgcc_s out of the library's `NEEDED`: loading it costs each exec about as much as all the rest together.
//!
//! std links to it for unwinding, which a library built with `panic = "abort"` never does. rustc asks for `-lgcc_s`;
//! the linker finds this script first, which names the static library with the same functions.

use std::path::PathBuf;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    let dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(dir.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n").expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={}", dir.display());
}
