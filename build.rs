//! How the library is linked, so that it costs little at each exec.

use std::path::PathBuf;
use std::process::Command;
use std::{env, fs};

fn main() {
    println!("cargo:rerun-if-changed=build.rs");
    // std links to libgcc_s for unwinding, which a library built with `panic = "abort"` never does; loading it costs an
    // exec more than all the rest together. rustc asks for `-lgcc_s`; the linker finds this script first, which names the
    // static library for the tests, that do unwind. The library takes nothing from it: src/runtime.rs is before it.
    let dir = PathBuf::from(env::var_os("OUT_DIR").expect("cargo sets OUT_DIR"));
    fs::write(dir.join("libgcc_s.so"), "INPUT(-lgcc_eh -lgcc)\n").expect("OUT_DIR is writable");
    println!("cargo:rustc-link-search=native={}", dir.display());
    // crtbegin.o would run code on pages of its own at start and at exit, which a library without C code does not need.
    link("-nostartfiles");
    // RELRO costs a system call and a page at each exec, and protects nothing here: the pointers worth protecting, to
    // the real functions, are found after relocation.
    link("-Wl,-z,norelro");
    // Every segment begins with a page: what is written to at each exec takes two pages, and never a third. zig's linker
    // knows no such option (scripts/package): there it is as it comes.
    let linker = env::var_os("RUSTC_LINKER").unwrap_or_default();
    if !linker.to_string_lossy().contains("zig") {
        link("-Wl,-z,separate-loadable-segments");
    }

    // src/runtime.rs in place of std's panic handler and all that it would print: the linker takes a reference to NAME
    // as one to __wrap_NAME.
    for (function, variable) in
        [("rust_begin_unwind", "WRAP_PANIC"), ("__rust_alloc_error_handler", "WRAP_OUT_OF_MEMORY")]
    {
        let name = mangled(function).unwrap_or_else(|| {
            println!("cargo:warning=std has no {function}: the library is twice as large");
            function.to_owned()
        });
        link(&format!("-Wl,--wrap={name}"));
        println!("cargo:rustc-env={variable}=__wrap_{name}");
    }
}

fn link(argument: &str) {
    println!("cargo:rustc-cdylib-link-arg={argument}");
}

/// The linker's name of a function in std's crate `__rustc`, which has a hash of the compiler's version in it.
fn mangled(function: &str) -> Option<String> {
    let target = env::var("TARGET").ok()?;
    let rustc = env::var_os("RUSTC")?;
    let dir = Command::new(rustc).args(["--print", "target-libdir", "--target", &target]).output().ok()?;
    let dir = PathBuf::from(String::from_utf8(dir.stdout).ok()?.trim());
    let std = fs::read_dir(dir).ok()?.filter_map(|entry| Some(entry.ok()?.path())).find(|path| {
        let name = path.file_name().unwrap_or_default().to_string_lossy();
        name.starts_with("libstd-") && name.ends_with(".rlib")
    })?;
    let bytes = fs::read(std).ok()?;
    let end = format!("_7___rustc{}{}{function}\0", function.len(), if function.starts_with('_') { "_" } else { "" });
    // A symbol's name in the string table: `\0_RNvCs…_7___rustc17rust_begin_unwind\0`.
    let at = bytes.windows(end.len()).position(|window| window == end.as_bytes())?;
    let start = bytes[..at].iter().rposition(|byte| *byte == 0)? + 1;
    let name = std::str::from_utf8(&bytes[start..at + end.len() - 1]).ok()?;
    name.rfind("_RNvC").map(|start| name[start..].to_owned())
}
