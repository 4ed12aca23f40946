//! How the real functions are found, and what happens where one is missing.

use std::ffi::OsString;
use std::path::{Path, PathBuf};
use std::process::Command;
use std::{env, fs};

use tempfile::TempDir;

use crate::harness::{Program, debug_library, library, shared};

/// `tests/probes/behind.c`, with hash tables of one kind.
fn behind(directory: &TempDir, style: &str) -> PathBuf {
    let probes = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes");
    let file = directory.path().join(format!("libbehind-{style}.so"));
    let status = Command::new("cc")
        .args(["-std=gnu11", "-Wall", "-Wextra", "-Werror", "-fno-builtin", "-shared", "-fPIC", "-o"])
        .args([&file, &probes.join("behind.c")])
        .args([&format!("-Wl,--hash-style={style}"), &format!("-Wl,--version-script={}/behind.map", probes.display())])
        .status()
        .expect("cc runs");
    assert!(status.success(), "behind.c compiles");
    file
}

#[test]
fn a_library_behind_ours_is_called_as_dlsym_would_call_it() {
    let directory = TempDir::new().expect("temporary directory");
    for style in ["gnu", "sysv", "both"] {
        let behind = behind(&directory, style);
        for library in [library(), debug_library()] {
            let mut preload = library.clone().into_os_string();
            preload.push(":");
            preload.push(&behind);
            let ended =
                Program::probe("forwarded").tuned_by(library, &[("NODELAY", "on")]).env("LD_PRELOAD", preload).run();
            ended.succeeded();
            let found = ["getpeername", "listen", "dup3", "accept4", "bind", "socket", "recv"].map(|n| ended.number(n));
            assert_eq!(found, [1001, 1002, -1, 1004, -1, 1, -1], "{style}: {ended:#?}");
        }
    }
}

/// What dlsym with `RTLD_NEXT` finds in the same place, for the same names: the reference for the test above.
#[test]
fn dlsym_agrees() {
    let directory = TempDir::new().expect("temporary directory");
    let behind = behind(&directory, "gnu");
    let mut preload = shared("reference").into_os_string();
    preload.push(":");
    preload.push(&behind);
    let ended = Program::probe("forwarded").env("LD_PRELOAD", preload).run();
    ended.succeeded();
    let found = ["getpeername", "listen", "dup3", "accept4", "bind", "socket", "recv"].map(|n| ended.number(n));
    assert_eq!(found[..4], [1001, 1002, -1, 1004], "{ended:#?}");
}

#[test]
fn loaded_by_dlopen_it_finds_the_libc_before_it() {
    let script = "import ctypes, sys; library = ctypes.CDLL(sys.argv[1], use_errno=True); \
        print('recv=%d' % library.recv(-1, None, 0, 0)); print('errno=%d' % ctypes.get_errno())";
    let ended = Program::python(script).args([library()]).run();
    ended.succeeded();
    assert_eq!((ended.number("recv"), ended.number("errno")), (-1, libc::EBADF.into()), "{ended:#?}");
}

/// A copy of the library that looks for a function of another name, which no libc has.
fn without(function: &str, directory: &TempDir) -> OsString {
    let mut bytes = fs::read(library()).expect("the library");
    let position = |bytes: &[u8], text: &[u8]| {
        let found: Vec<_> =
            bytes.windows(text.len()).enumerate().filter(|(_, w)| *w == text).map(|(at, _)| at).collect();
        assert!(!found.is_empty(), "{:?} is in the library", String::from_utf8_lossy(text));
        found
    };
    let names = position(&bytes, b"\0splice\0read\0readv\0recv\0recvfrom\0");
    assert_eq!(names.len(), 1, "the list of names is there once");
    let at = names[0] + position(&bytes[names[0]..], format!("\0{function}\0").as_bytes())[0] + 1;
    bytes[at] = b'X';
    let file = directory.path().join(format!("without-{function}.so"));
    fs::write(&file, bytes).expect("a copy");
    file.into_os_string()
}

#[test]
fn a_libc_without_a_function_is_one_warning_and_the_program_runs() {
    let directory = TempDir::new().expect("temporary directory");
    let copy = without("recv", &directory);
    let plain = Program::probe("forwarded").run();
    let run = |program: Program| program.env("LD_PRELOAD", &copy).env("TCPTUNE_KEEPIDLE", "77").run();

    // The function itself answers ENOSYS, everything else is as without the library.
    let ended = run(Program::probe("forwarded"));
    let expected = plain.succeeded().replace(&format!("errno={}", libc::EBADF), &format!("errno={}", libc::ENOSYS));
    assert_ne!(expected, plain.stdout);
    assert_eq!(ended.succeeded(), expected);
    let (_, warning) = ended.stderr.split_once(": ").unwrap_or_else(|| panic!("{ended:#?}"));
    assert_eq!(warning, "warn: this libc has no Xecv: every socket is left alone\n");

    let args = ["1", "9", "6", "4"]; // SO_KEEPALIVE, TCP_KEEPIDLE
    let plain = Program::probe("options").args(args).run();
    assert_eq!(run(Program::probe("options").args(args)).succeeded(), plain.succeeded());

    // Who has set nothing need not know.
    let unset = Program::probe("options").args(args).env("LD_PRELOAD", &copy).run();
    assert_eq!((unset.succeeded(), unset.stderr.as_str()), (plain.succeeded(), ""));
}
