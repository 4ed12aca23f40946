//! The files under examples/ and the ways of docs/deploy.md.

mod cluster;
mod containers;
mod kubernetes;
mod postfix;
mod root;
mod services;
mod system_wide;

use std::fs;
use std::path::Path;
use std::process::Command;

use tempfile::TempDir;

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
    for (unit, instance, setting) in [
        ("legacy", "legacy", "TCPTUNE_CONNECT_TIMEOUT=3s"),
        ("attached", "attached", "attach --unit %n"),
        ("worker@", "worker@1", "TCPTUNE_PROFILE=cloud-nat"),
    ] {
        let file = units.join(format!("{unit}.service"));
        let text = fs::read_to_string(&file).expect("the unit");
        fs::write(&file, text.replace("[Service]", "[Unit]\nDefaultDependencies=no\n[Service]")).expect("written");
        let mut verify = Command::new("systemd-analyze");
        verify.args(["verify", "--man=no", "--root"]).arg(root.path()).arg(format!("{instance}.service"));
        let output = verify.output().expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(output.status.success() && !said.contains("50-tcptune.conf"), "{unit}: {said}");
        let drop_in = fs::read_to_string(units.join(format!("{unit}.service.d/50-tcptune.conf"))).expect("the drop-in");
        assert!(drop_in.contains(setting), "{drop_in}");
        // It is read: a directive that there is not is complained of.
        let place = units.join(format!("{unit}.service.d/50-tcptune.conf"));
        fs::write(&place, drop_in + "NoSuchDirective=1\n").expect("written");
        let output = verify.output().expect("systemd-analyze runs");
        let said = String::from_utf8_lossy(&output.stderr);
        assert!(said.contains("50-tcptune.conf") && said.contains("NoSuchDirective"), "{unit}: {said}");
    }
}
