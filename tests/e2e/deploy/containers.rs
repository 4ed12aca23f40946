//! Containers, run by runc.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};
use std::time::Duration;

use tempfile::TempDir;

use super::examples;
use super::root::Root;
use crate::harness::{assert_on_time, library, probe};

/// What is run in a container: variables, and files of this machine that are mounted.
#[derive(Default)]
struct Run<'a> {
    environment: &'a [&'a str],
    mounts: &'a [(&'a Path, &'a str)],
}

impl Run<'_> {
    /// A user without rights, a read-only root, no capability, process 1.
    fn configuration(&self, words: &[&str]) -> String {
        let variables = self.environment.iter().map(|variable| format!(", \"{variable}\""));
        let environment = variables.collect::<Vec<_>>().concat();
        let mount = |(from, to): &(&Path, &str)| {
            let from = from.display();
            format!(r#", {{"destination": "{to}", "type": "bind", "source": "{from}", "options": ["bind", "ro"]}}"#)
        };
        let mounts = self.mounts.iter().map(mount).collect::<Vec<_>>().concat();
        format!(
            r#"{{"ociVersion": "1.0.2", "root": {{"path": "rootfs", "readonly": true}},
                "process": {{"terminal": false, "cwd": "/", "user": {{"uid": 65534, "gid": 65534}}, "noNewPrivileges": true,
                    "args": {words:?}, "env": ["PATH=/"{environment}]}},
                "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}}{mounts}],
                "linux": {{"namespaces":
                    [{{"type": "pid"}}, {{"type": "mount"}}, {{"type": "network"}}, {{"type": "ipc"}}]}}}}"#
        )
    }

    fn output(&self, bundle: &Path, words: &[&str]) -> Output {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        fs::write(bundle.join("config.json"), self.configuration(words)).expect("written");
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut runc = Command::new("runc");
        runc.args(["run", "--bundle"]).arg(bundle).arg(format!("tcptune-{}-{number}", std::process::id()));
        runc.output().expect("runc runs")
    }

    /// The idle time of a new socket in it.
    fn idle(&self, bundle: &Path) -> u32 {
        let output = self.output(bundle, &["/options", "6", "4"]);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        let new = said.lines().find_map(|line| line.strip_prefix("new.6.4=")).unwrap_or_else(|| panic!("{output:?}"));
        u32::from_str_radix(new.get(..8).expect("an int"), 16).expect("bytes").swap_bytes()
    }
}

const PROGRAMS: [&str; 2] = ["options", "unanswered"];

/// A root file system for a container, and places to mount something at.
fn bundle() -> (TempDir, Root) {
    let directory = TempDir::new().expect("temporary directory");
    let root = Root::at(directory.path().join("rootfs"));
    for name in ["proc", "usr/lib"] {
        fs::create_dir_all(root.path().join(name)).expect("made");
    }
    fs::write(root.path().join("usr/lib/libtcptune.so"), "").expect("a place for a mount");
    (directory, root)
}

/// One with programs, and what they are linked to.
fn of_glibc() -> TempDir {
    let (directory, root) = bundle();
    for name in PROGRAMS {
        root.put_program(&probe(name), name);
    }
    directory
}

/// The same for musl, which is its loader as well.
fn of_musl() -> TempDir {
    let (directory, root) = bundle();
    for name in PROGRAMS {
        let source = Path::new(env!("CARGO_MANIFEST_DIR")).join(format!("tests/probes/{name}.c"));
        let mut compiler = Command::new("musl-gcc");
        compiler.args(["-O1", "-o"]).arg(root.path().join(name)).arg(source);
        assert!(compiler.status().expect("musl-gcc runs").success());
    }
    let loader = Path::new("/lib").join(format!("ld-musl-{}.so.1", std::env::consts::ARCH));
    root.put(&loader, loader.to_str().expect("UTF-8"));
    directory
}

const PRELOAD: &str = "LD_PRELOAD=/usr/lib/libtcptune.so";

/// scripts/test-containers does the same with images of Debian of three ages.
#[test]
fn a_container_without_rights_is_tuned() {
    for bundle in [of_glibc(), of_musl()] {
        let bundle = bundle.path();
        let plain = Run::default().idle(bundle);
        assert_ne!(plain, 77);
        fs::copy(library(), bundle.join("rootfs/usr/lib/libtcptune.so")).expect("copied");
        for (setting, idle) in [("TCPTUNE_KEEPIDLE=77", 77), ("TCPTUNE_PROFILE=cloud-nat", 120)] {
            assert_eq!(Run { environment: &[PRELOAD, setting], mounts: &[] }.idle(bundle), idle, "{setting}");
        }
        let environment: &[_] = &[PRELOAD, "TCPTUNE_CONNECT_TIMEOUT=0.5", "TCPTUNE_LOG=info"];
        let output = Run { environment, mounts: &[] }.output(bundle, &["/unanswered"]);
        let took = String::from_utf8_lossy(&output.stdout).trim().parse().map(Duration::from_millis);
        assert_on_time(
            took.unwrap_or_else(|_| panic!("{output:?}")),
            Duration::from_millis(500),
            Duration::from_secs(9),
        );
        assert!(String::from_utf8_lossy(&output.stderr).starts_with("tcptune[1]: info: in force: "), "{output:?}");
    }
}

/// The mount and the environment of compose.yaml, whose image stays as it is.
#[test]
fn a_library_that_is_mounted_is_enough() {
    let text = fs::read_to_string(examples().join("containers/compose.yaml")).expect("the file");
    assert!(text.contains("- ./libtcptune.so:/usr/lib/libtcptune.so:ro"), "{text}");
    let (_, environment) = text.split_once("    environment:\n").expect("an environment");
    let variables: Vec<_> = environment.lines().map(|line| line.trim().replacen(": ", "=", 1)).collect();
    let variables: Vec<_> = variables.iter().map(String::as_str).collect();
    assert!(variables.contains(&PRELOAD) && variables.len() > 1, "{variables:?}");
    let bundle = of_glibc();
    let library = library();
    let mounts: &[(&Path, &str)] = &[(&library, "/usr/lib/libtcptune.so")];
    assert_eq!(Run { environment: &variables, mounts }.idle(bundle.path()), 120);
}
