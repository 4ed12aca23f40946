//! The run-time library of a sanitizer has to be loaded before any other.

use std::process::Command;

use crate::harness::{clean, compile, compiled, directory, library, said, tcptune};

fn runtime() -> String {
    let found = Command::new("cc").arg("-print-file-name=libasan.so").output().expect("cc runs");
    let path = String::from_utf8(found.stdout).expect("UTF-8");
    let path = std::fs::canonicalize(path.trim()).expect("the run-time library of -fsanitize=address is installed");
    path.file_name().and_then(|name| name.to_str()).expect("UTF-8").replace(".so.8.0.0", ".so.8")
}

#[test]
fn a_program_with_a_sanitizer_runs_with_the_library_behind_it() {
    let directory = directory();
    let program = compiled(directory.path(), "program", &["-fsanitize=address"]);
    let report = said(tcptune(["check", "--json"]).arg(&program));
    let report: serde_json::Value = serde_json::from_str(&report.stdout).expect("JSON");
    assert_eq!(report["reasons"][0]["name"], "sanitizer", "{report}");
    let refused = said(&mut tcptune([&program]));
    let runtime = runtime();
    assert!(refused.refused(126).contains(&format!("LD_PRELOAD={runtime} tcptune run")), "{refused:?}");
    // It is the sanitizer that would have ended it.
    let forced = said(tcptune(["--force"]).arg(&program));
    assert!(forced.code != Some(0) && forced.stderr.contains("ASan runtime does not come first"), "{forced:?}");

    assert_eq!(said(tcptune([&program]).env("LD_PRELOAD", &runtime)).ok(), "started");
    let lines = said(tcptune(["env"]).env("LD_PRELOAD", &runtime));
    assert_eq!(lines.ok(), format!("export LD_PRELOAD={runtime}:{}", library().display()));
}

/// Plugins with `RTLD_DEEPBIND` are none of ours there: the run-time library ends who loads one.
#[test]
fn a_sanitizer_refuses_plugins_as_it_does_without() {
    let directory = directory();
    let source = "#define _GNU_SOURCE\n#include <dlfcn.h>\n#include <stdio.h>\n\
                  int main(int argc, char **argv) {\n\
                  void *library = dlopen(\"libm.so.6\", argc > 1 ? RTLD_NOW | RTLD_DEEPBIND : RTLD_NOW);\n\
                  return puts(library ? \"loaded\" : \"none\") < 0;\n}\n";
    let program = compile(directory.path(), "loads", &["-fsanitize=address"], source);
    let tuned = |flag: &[&str]| {
        let mut command = tcptune(["--keepidle", "77", "--"]);
        said(command.arg(&program).args(flag).env("LD_PRELOAD", runtime()))
    };
    assert_eq!(tuned(&[]).ok(), "loaded");
    let (plain, with) = (said(clean(&mut Command::new(&program)).arg("flag")), tuned(&["flag"]));
    assert_eq!((plain.code, &plain.stdout), (with.code, &with.stdout), "{plain:?} {with:?}");
    for said in [plain, with] {
        assert!(said.code != Some(0) && said.stderr.contains("RTLD_DEEPBIND flag which is incompatible"), "{said:?}");
    }
}
