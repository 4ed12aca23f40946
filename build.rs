//! How the library is linked, so that it costs little at each exec.

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
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
    oldest_libc(&dir);
    // crtbegin.o would run code on pages of its own at start and at exit, which a library without C code does not need.
    link("-nostartfiles");
    // RELRO costs a system call and a page at each exec, and protects nothing here: the pointers worth protecting, to
    // the real functions, are found after relocation.
    link("-Wl,-z,norelro");
    // Symbols of libc may lead here (src/plugins.rs): this library stays, even if a program loads it itself and closes it.
    link("-Wl,-z,nodelete");
    if is("PROFILE", "release") {
        println!("cargo:rerun-if-changed=src/layout.ld");
        link(&format!("-Wl,-T,{}/src/layout.ld", env::var("CARGO_MANIFEST_DIR").expect("cargo sets it")));
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

/// What the release library takes from libc. musl has all of it. What is not here is linked without a version, which
/// scripts/package refuses.
const LIBC: &str = "__errno_location abort bcmp dl_iterate_phdr environ getauxval memcmp memcpy memmove memset strlen";

/// The version of a function in the oldest glibc for this library that the machine has.
fn version(arch: &str, function: &str) -> Option<&'static str> {
    Some(match (arch, function) {
        ("aarch64", _) | ("x86_64" | "x86" | "arm", "clock_gettime") => "GLIBC_2.17",
        ("riscv64", _) => "GLIBC_2.27",
        ("x86_64" | "x86" | "arm", "getauxval") => "GLIBC_2.16",
        ("x86_64", "memcpy") => "GLIBC_2.14",
        ("x86_64", _) => "GLIBC_2.2.5",
        ("x86", "dl_iterate_phdr") => "GLIBC_2.2.4",
        ("x86", _) => "GLIBC_2.0",
        ("arm", _) => "GLIBC_2.4",
        _ => return None,
    })
}

/// Makes the linker see a libc.so that has these symbols and nothing else, so that one file loads wherever it is built. For
/// another machine, that needs a linker of its own.
fn oldest_libc(dir: &Path) {
    let linker = env::var_os("RUSTC_LINKER");
    let has_linker = linker.is_some() || env::var_os("HOST") == env::var_os("TARGET");
    let arch = env::var("CARGO_CFG_TARGET_ARCH").unwrap_or_default();
    let mut versions = BTreeMap::<_, Vec<_>>::new();
    for name in LIBC.split_whitespace() {
        let Some(version) = version(&arch, name) else { return };
        versions.entry(version).or_default().push(name);
    }
    if !(is("PROFILE", "release") && is("CARGO_CFG_TARGET_ENV", "gnu") && has_linker) {
        return;
    }
    let versions = versions.iter().map(|(version, names)| format!("{version} {{ {}; }};\n", names.join("; ")));
    let symbols = LIBC.split_whitespace().map(|name| format!(".globl {name}\n{name}:\n"));
    let (versions, symbols) = (versions.collect::<Vec<_>>().concat(), symbols.collect::<Vec<_>>().concat());
    let dir = dir.join("libc");
    let (source, script, library) = (dir.join("libc.s"), dir.join("versions"), dir.join("libc.so"));
    fs::create_dir_all(&dir).expect("OUT_DIR is writable");
    fs::write(&source, symbols).expect("OUT_DIR is writable");
    fs::write(&script, versions).expect("OUT_DIR is writable");
    let mut linker = Command::new(linker.unwrap_or_else(|| "cc".into()));
    linker.args(["-shared", "-nostdlib", "-Wl,-soname,libc.so.6", "-o"]).arg(&library).arg(&source);
    let made = linker.arg(format!("-Wl,--version-script={}", script.display())).status();
    if made.is_ok_and(|status| status.success()) {
        link(&format!("-L{}", dir.display()));
    } else {
        println!("cargo:warning=no assembler: the library is for the libc of this machine only");
    }
}

/// Whether cargo says so of this build.
fn is(variable: &str, value: &str) -> bool {
    env::var(variable).is_ok_and(|found| found == value)
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
