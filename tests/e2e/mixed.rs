//! Programs of 32 and of 64 bits on one system. scripts/test-machines makes one: an i386 root file system with the shell and
//! libc of x86-64 beside its own, in which the packages of both libraries and of the command are installed.

use std::fs;
use std::path::{Path, PathBuf};

use crate::harness::{Ended, Program, probe};

/// What the packages' documentation says to write into `LD_PRELOAD`.
const LIBRARY: &str = "/usr/$LIB/libtcptune.so";
/// Two of an i386 program, two of an x86-64 one.
const SHELLS: [(&str, u8); 2] = [("/usr/bin/bash", 32), ("/usr/bin/dash", 64)];

/// A program, its bits, and what `$LIB` is in it.
fn programs() -> [(PathBuf, u8, &'static str); 2] {
    let narrow = probe("options");
    let wide = narrow.with_file_name("wide").join("options");
    [(narrow, 32, "lib/i386-linux-gnu"), (wide, 64, "lib/x86_64-linux-gnu")]
        .map(|(program, bits, lib)| (of_bits(program, bits), bits, lib))
}

/// The program, which is of so many bits (`EI_CLASS`, elf(5)).
fn of_bits(program: PathBuf, bits: u8) -> PathBuf {
    let image = fs::read(&program).unwrap_or_else(|e| panic!("{}: {e}", program.display()));
    assert_eq!(image[4] * 32, bits, "{}", program.display());
    program
}

fn path(program: &Path) -> &str {
    program.to_str().expect("UTF-8")
}

/// The command, with the settings that [`is_tuned`] looks for.
fn tcptune(args: &[&str]) -> Ended {
    Program::new("tcptune").args(args).run()
}

/// So many programs that print TCP_KEEPIDLE of their sockets have had 77 s (4d) in each, and no loader has complained.
fn is_tuned(ended: &Ended, programs: usize) {
    ended.succeeded();
    assert_eq!(ended.stdout.matches("connected.6.4=4d000000").count(), programs, "{ended:#?}");
    assert_eq!(ended.stdout.matches(".6.4=").count(), programs * 5, "{ended:#?}");
    assert_eq!(ended.stderr, "", "{ended:#?}");
}

#[test]
#[ignore = "takes a system with programs of two machines: scripts/test-machines makes one"]
fn children_of_the_other_kind_are_tuned() {
    let both = programs().map(|(program, ..)| format!("{} 6 4", path(&program))).join(" && ");
    for (shell, bits) in SHELLS {
        let shell = of_bits(shell.into(), bits);
        let run = |tuned: fn(Program) -> Program| tuned(Program::new(&shell).args(["-c", &both])).run();
        assert!(!run(|plain| plain).succeeded().contains("=4d0"), "without the library");
        is_tuned(&run(|program| program.tuned_by(LIBRARY.into(), &[("KEEPIDLE", "77")])), 2);
        is_tuned(&tcptune(&["run", "--keepidle", "77", path(&shell), "-c", &both]), 2);
    }
}

#[test]
#[ignore = "takes a system with programs of two machines: scripts/test-machines makes one"]
fn run_takes_the_library_of_the_programs_machine() {
    let libraries = programs().map(|(.., lib)| format!("/usr/{lib}/libtcptune.so"));
    for (program, _, lib) in programs() {
        let program = path(&program);
        for named in [&[][..], &["--library", LIBRARY], &["--library", "/usr/${LIB}/libtcptune.so"]] {
            let args =
                |more: &[&'static str]| [&["run"], named, more, &["--keepidle", "77", program, "6", "4"]].concat();
            is_tuned(&tcptune(&args(&[])), 1);
            let dry = tcptune(&args(&["--dry-run"]));
            let preload = format!("export LD_PRELOAD='{}'\n", named.last().unwrap_or(&LIBRARY));
            let (own, other) = if lib == programs()[0].2 { (0, 1) } else { (1, 0) };
            let also = format!(
                "# $LIB leads to {} here, and to {} in programs of other kinds\n",
                libraries[own],
                programs()[other].2
            );
            assert!(dry.succeeded().contains(&preload) && dry.stdout.contains(&also), "{dry:#?}");
        }
        // One library alone serves one kind.
        let own = format!("/usr/{lib}/libtcptune.so");
        let dry = tcptune(&["run", "--dry-run", "--library", &own, "--keepidle", "77", program]);
        assert!(dry.succeeded().contains(&format!("export LD_PRELOAD={own}\n")), "{dry:#?}");
        assert!(!dry.stdout.contains("$LIB"), "{dry:#?}");
    }
}

#[test]
#[ignore = "takes a system with programs of two machines: scripts/test-machines makes one"]
fn check_looks_at_the_library_of_the_programs_machine() {
    let [(narrow, ..), (wide, ..)] = programs();
    for (program, own, other) in [
        (&narrow, "/usr/lib/i386-linux-gnu/libtcptune.so", "/usr/lib/x86_64-linux-gnu/libtcptune.so"),
        (&wide, "/usr/lib/x86_64-linux-gnu/libtcptune.so", "/usr/lib/i386-linux-gnu/libtcptune.so"),
    ] {
        for named in [&[][..], &["--library", LIBRARY]] {
            let check = tcptune(&[&["check"], named, &[path(program)]].concat());
            let said = check.succeeded();
            assert!(said.lines().any(|line| line == format!("Library       {own}")), "{check:#?}");
            assert!(said.ends_with("Can be tuned  yes\n"), "{check:#?}");
        }
        let check = tcptune(&["check", "--library", other, path(program)]);
        assert_eq!(check.code(), Some(1), "{check:#?}");
        assert!(check.stdout.contains("and the library is for"), "{check:#?}");
    }
    let check = tcptune(&["check", "--library", "/nosuch/$LIB/libtcptune.so", path(&narrow)]);
    assert_eq!(check.code(), Some(1), "{check:#?}");
    assert!(check.stdout.contains("no such file: $LIB is lib/i386-linux-gnu there"), "{check:#?}");
}
