//! `tcptune check` on programs and processes.

use std::fs;
use std::io::{Read, Write};
use std::os::unix::fs::{PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::Path;
use std::process::{Child, Command, Stdio};

use serde_json::Value;

use crate::harness::{TCPTUNE, clean, compiled, directory, installed, library, said, tcptune};

/// The reasons and the verdict.
fn check(what: &str) -> (Value, Option<i32>) {
    let said = said(&mut tcptune(["check", "--json", what]));
    (serde_json::from_str(&said.stdout).unwrap_or_else(|error| panic!("{error}: {said:?}")), said.code)
}

#[test]
fn programs() {
    let directory = directory();
    let dynamic = compiled(directory.path(), "dynamic", &[]);
    let (report, code) = check(dynamic.to_str().expect("UTF-8"));
    assert_eq!((&report["tunable"], code), (&Value::Bool(true), Some(0)), "{report}");
    assert_eq!(report["library"], library().to_str().expect("UTF-8"));
    let fixed = compiled(directory.path(), "static", &["-static"]);
    let preload = said(tcptune(["check", "--json"]).arg(&fixed).env("TCPTUNE_BACKEND", "preload"));
    let report: Value = serde_json::from_str(&preload.stdout).expect("JSON");
    assert_eq!((&report["tunable"], preload.code), (&Value::Bool(false), Some(1)), "{report}");
    assert_eq!(report["reasons"][0]["name"], "static");
    assert_eq!(said(&mut tcptune(["check", "nosuch"])).code, Some(127));
}

/// A process that waits, and is killed when dropped.
pub struct Waiting(pub Child);

impl Waiting {
    pub fn start(command: &mut Command) -> Self {
        let mut waiting = Self(command.stdin(Stdio::piped()).stdout(Stdio::piped()).spawn().expect("it starts"));
        // It answers, so it is the program that runs, and no more its loader.
        waiting.0.stdin.as_mut().expect("piped").write_all(b"?").expect("written");
        let mut answer = [0];
        waiting.0.stdout.as_mut().expect("piped").read_exact(&mut answer).expect("an answer");
        waiting
    }

    pub fn check(&self) -> (Value, Option<i32>) {
        check(&self.0.id().to_string())
    }
}

impl Drop for Waiting {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

#[test]
fn processes() {
    for (args, env, tuned, reason, setting) in [
        (&["--keepidle", "77", "cat"][..], ("A", "b"), true, Value::Null, Some("77s")),
        (&["cat"], ("A", "b"), false, "no-settings".into(), None),
        (&["--keepidle", "77", "--disable=on", "cat"], ("A", "b"), false, "disabled".into(), Some("77s")),
        (&["--keepidle", "77", "--skip-programs", "c*", "cat"], ("A", "b"), false, "out-of-scope".into(), Some("77s")),
        (&["cat"], ("TCPTUNE_KEEPIDEL", "77"), false, "no-settings".into(), None),
    ] {
        let waiting = Waiting::start(tcptune(args).env(env.0, env.1).stderr(Stdio::null()));
        let (report, code) = waiting.check();
        assert_eq!((&report["tuned"], code), (&Value::Bool(tuned), Some(i32::from(!tuned))), "{args:?}: {report}");
        assert_eq!(report["reasons"][0]["name"], reason, "{report}");
        assert_eq!(report["settings"]["KEEPIDLE"].as_str(), setting, "{report}");
        assert_eq!(report["library"], library().to_str().expect("UTF-8"));
        let complains =
            report["wrong"][0].as_str().is_some_and(|wrong| wrong.contains("did you mean TCPTUNE_KEEPIDLE?"));
        assert_eq!(complains, env.0 == "TCPTUNE_KEEPIDEL", "{report}");
    }
}

/// PHP loads its extensions with `RTLD_DEEPBIND`.
#[test]
fn plugins_of_a_process() {
    let php = ["--keepidle", "77", "--", "php", "-r", "echo fread(STDIN, 1); sleep(60);"];
    for (args, plugins) in [(&["--keepidle", "77", "cat"][..], Value::Null), (&php, true.into())] {
        let (report, _) = Waiting::start(&mut tcptune(args)).check();
        assert_eq!((&report["plugins"], &report["tuned"]), (&plugins, &Value::Bool(true)), "{report}");
    }
}

#[test]
fn processes_without_the_library() {
    let plain = Waiting::start(clean(&mut Command::new("cat")));
    let (report, code) = plain.check();
    assert_eq!((&report["reasons"][0]["name"], code), (&Value::from("not-preloaded"), Some(1)), "{report}");
    let missing = Waiting::start(
        clean(&mut Command::new("cat")).env("LD_PRELOAD", "/nosuch/libtcptune.so").stderr(Stdio::null()),
    );
    let (report, code) = missing.check();
    assert_eq!((&report["reasons"][0]["name"], code), (&Value::from("no-library"), Some(1)), "{report}");
    let gone = said(&mut tcptune(["check", "4194304"])); // above the largest there can be
    assert!(gone.refused(1).contains("there is no process 4194304"), "{gone:?}");
}

#[test]
fn a_process_in_secure_execution() {
    // SAFETY: cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return; // only root can give files away
    }
    let directory = directory();
    let cat = installed(Path::new("/bin/cat"), &directory.path().join("cat"));
    chown(&cat, Some(65534), None).expect("chown");
    fs::set_permissions(&cat, fs::Permissions::from_mode(0o4755)).expect("chmod");
    let mut command = Command::new(cat);
    clean(&mut command).env("LD_PRELOAD", library()).env("TCPTUNE_KEEPIDLE", "77");
    let (report, code) = Waiting::start(&mut command).check();
    assert_eq!((&report["reasons"][0]["name"], code), (&Value::from("secure-execution"), Some(1)), "{report}");
    assert!(report["settings"].is_null(), "nothing is decided there: {report}");
}

#[test]
fn a_process_of_somebody_else() {
    // SAFETY: cannot fail.
    if unsafe { libc::geteuid() } != 0 {
        return; // only root has processes of somebody else
    }
    let directory = directory();
    let command = installed(Path::new(TCPTUNE), &directory.path().join("tcptune"));
    let waiting = Waiting::start(&mut tcptune(["--keepidle", "77", "cat"]));
    let mut as_nobody = Command::new(command);
    clean(&mut as_nobody).env("TCPTUNE_LIBRARY", "/nosuch").current_dir("/").uid(65534).gid(65534);
    let denied = said(as_nobody.args(["check", &waiting.0.id().to_string()]));
    assert!(denied.refused(1).contains("it belongs to user 0, tcptune runs as user 65534"), "{denied:?}");
}
