//! The run-time library of a sanitizer has to be loaded before any other.

use std::process::Command;

use crate::harness::{compiled, directory, library, said, tcptune};

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
