//! Containers, run by runc.

use std::fs;
use std::path::Path;
use std::process::{Command, Output};

use tempfile::TempDir;

use super::examples;
use super::root::Root;
use crate::harness::{library, probe};

/// What is run in a container: variables, and files of this machine that are mounted.
struct Run<'a> {
    environment: &'a [&'a str],
    mounts: &'a [(&'a Path, &'a str)],
}

impl Run<'_> {
    /// A user without rights, a read-only root, no capability, process 1.
    fn configuration(&self) -> String {
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
                    "args": ["/probe", "6", "4"], "env": ["PATH=/"{environment}]}},
                "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}}{mounts}],
                "linux": {{"namespaces":
                    [{{"type": "pid"}}, {{"type": "mount"}}, {{"type": "network"}}, {{"type": "ipc"}}]}}}}"#
        )
    }

    fn output(&self, bundle: &Path) -> Output {
        static NUMBER: std::sync::atomic::AtomicU32 = std::sync::atomic::AtomicU32::new(0);
        fs::write(bundle.join("config.json"), self.configuration()).expect("written");
        let number = NUMBER.fetch_add(1, std::sync::atomic::Ordering::Relaxed);
        let mut runc = Command::new("runc");
        runc.args(["run", "--bundle"]).arg(bundle).arg(format!("tcptune-{}-{number}", std::process::id()));
        runc.output().expect("runc runs")
    }

    /// The idle time of a new socket in it.
    fn idle(&self, bundle: &Path) -> u32 {
        let output = self.output(bundle);
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        let new = said.lines().find_map(|line| line.strip_prefix("new.6.4=")).unwrap_or_else(|| panic!("{output:?}"));
        u32::from_str_radix(new.get(..8).expect("an int"), 16).expect("bytes").swap_bytes()
    }
}

/// A dynamic program, what it is linked to, and places to mount something at.
fn bundle() -> TempDir {
    let directory = TempDir::new().expect("temporary directory");
    let root = Root::at(directory.path().join("rootfs"));
    root.put_program(&probe("options"), "/probe");
    fs::create_dir_all(root.path().join("proc")).expect("made");
    fs::create_dir_all(root.path().join("usr/lib")).expect("made");
    fs::write(root.path().join("usr/lib/libtcptune.so"), "").expect("a place for a mount");
    directory
}

const PRELOAD: &str = "LD_PRELOAD=/usr/lib/libtcptune.so";

#[test]
fn a_container_without_rights_is_tuned() {
    let bundle = bundle();
    let plain = Run { environment: &[], mounts: &[] }.idle(bundle.path());
    assert_ne!(plain, 77);
    fs::copy(library(), bundle.path().join("rootfs/usr/lib/libtcptune.so")).expect("copied");
    for (setting, idle) in [("TCPTUNE_KEEPIDLE=77", 77), ("TCPTUNE_PROFILE=cloud-nat", 120)] {
        assert_eq!(Run { environment: &[PRELOAD, setting], mounts: &[] }.idle(bundle.path()), idle, "{setting}");
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
    let bundle = bundle();
    let library = library();
    let mounts: &[(&Path, &str)] = &[(&library, "/usr/lib/libtcptune.so")];
    assert_eq!(Run { environment: &variables, mounts }.idle(bundle.path()), 120);
}
