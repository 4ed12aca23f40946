//! The files under examples/ and the ways of docs/deploy.md.

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{library, probe};

fn examples() -> std::path::PathBuf {
    Path::new(env!("CARGO_MANIFEST_DIR")).join("examples")
}

/// systemd's own tool reads the units with their drop-in files.
#[test]
fn drop_in_files_of_systemd() {
    let root = TempDir::new().expect("temporary directory");
    let units = root.path().join("etc/systemd/system");
    fs::create_dir_all(&units).expect("made");
    fs::create_dir_all(root.path().join("usr/bin")).expect("made");
    for program in ["usr/bin/sleep", "usr/bin/tcptune"] {
        fs::copy("/bin/true", root.path().join(program)).expect("copied");
    }
    let copied = Command::new("cp").arg("-r").arg(examples().join("systemd/.")).arg(&units).status();
    assert!(copied.expect("cp runs").success());
    for (unit, setting) in [("legacy", "TCPTUNE_CONNECT_TIMEOUT=3s"), ("attached", "attach --unit %n")] {
        let file = units.join(format!("{unit}.service"));
        let text = fs::read_to_string(&file).expect("the unit");
        fs::write(&file, text.replace("[Service]", "[Unit]\nDefaultDependencies=no\n[Service]")).expect("written");
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no", "--root"]).arg(root.path()).arg(format!("{unit}.service"));
        let output = verify.output().expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("50-tcptune.conf"), "{unit}: {said}");
        let drop_in = fs::read_to_string(units.join(format!("{unit}.service.d/50-tcptune.conf"))).expect("the drop-in");
        assert!(drop_in.contains(setting), "{drop_in}");
    }
}

/// A root file system of a dynamic program and what it is linked to, the library, and nothing else.
fn bundle(directory: &Path) {
    let root = directory.join("rootfs");
    let put = |from: &Path, to: &str| {
        let to = root.join(to.trim_start_matches('/'));
        fs::create_dir_all(to.parent().expect("a directory")).expect("made");
        fs::copy(from, to).unwrap_or_else(|error| panic!("{}: {error}", from.display()));
    };
    let program = probe("options");
    let linked = Command::new("ldd").arg(&program).output().expect("ldd runs");
    let linked = String::from_utf8(linked.stdout).expect("text");
    for path in linked.split_whitespace().filter(|word| word.starts_with('/')) {
        put(Path::new(path), path);
    }
    put(&program, "/probe");
    put(&library(), "/usr/lib/libtcptune.so");
    fs::create_dir_all(root.join("proc")).expect("made");
}

/// The configuration of a container: a user without rights, a read-only root, no capability, process 1.
fn configuration(environment: &str) -> String {
    format!(
        r#"{{"ociVersion": "1.0.2", "root": {{"path": "rootfs", "readonly": true}},
            "process": {{"terminal": false, "cwd": "/", "user": {{"uid": 65534, "gid": 65534}}, "noNewPrivileges": true,
                "args": ["/probe", "6", "4"], "env": ["PATH=/"{environment}]}},
            "mounts": [{{"destination": "/proc", "type": "proc", "source": "proc"}}],
            "linux": {{"namespaces": [{{"type": "pid"}}, {{"type": "mount"}}, {{"type": "network"}}, {{"type": "ipc"}}]}}}}"#
    )
}

#[test]
fn a_container_without_rights_is_tuned() {
    let directory = TempDir::new().expect("temporary directory");
    bundle(directory.path());
    let tuned = r#", "LD_PRELOAD=/usr/lib/libtcptune.so", "TCPTUNE_KEEPIDLE=77""#;
    for (environment, idle) in [("", "201c0000"), (tuned, "4d000000")] {
        fs::write(directory.path().join("config.json"), configuration(environment)).expect("written");
        let name = format!("tcptune-{}-{}", std::process::id(), environment.len());
        let mut runc = Command::new("runc");
        runc.args(["run", "--bundle"]).arg(directory.path()).arg(&name);
        let output = runc.output().expect("runc runs");
        let said = String::from_utf8_lossy(&output.stdout);
        assert!(output.status.success(), "{output:?}");
        let new = said.lines().find(|line| line.starts_with("new.6.4=")).unwrap_or_else(|| panic!("{output:?}"));
        assert!(new.contains(idle), "{new}, wanted {idle}");
    }
}
