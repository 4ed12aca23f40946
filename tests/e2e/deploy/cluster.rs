//! kubernetes.py, which does what a cluster would, and kubectl.

use std::ffi::OsStr;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};
use std::sync::OnceLock;

/// The repository.
pub fn repository() -> &'static Path {
    let here = Path::new(env!("CARGO_MANIFEST_DIR"));
    here.ancestors().find(|path| path.join("scripts/kubernetes").is_file()).expect("scripts/kubernetes")
}

/// Where python with what kubernetes.py needs is, and kubectl.
fn tools() -> &'static Path {
    static TOOLS: OnceLock<PathBuf> = OnceLock::new();
    TOOLS.get_or_init(|| {
        let output = Command::new(repository().join("scripts/kubernetes")).output().expect("it runs");
        assert!(output.status.success(), "{output:?}");
        String::from_utf8(output.stdout).expect("a path").trim().into()
    })
}

/// It with these arguments.
pub fn cluster<S: AsRef<OsStr>>(args: impl IntoIterator<Item = S>) -> Command {
    let mut command = Command::new(tools().join("python"));
    command.arg(repository().join("tests/e2e/deploy/kubernetes.py")).args(args);
    command
}

/// What a command prints, which succeeds.
pub fn said(command: &mut Command) -> String {
    let output: Output = command.output().expect("it runs");
    assert!(output.status.success(), "{command:?}: {output:?}");
    String::from_utf8(output.stdout).expect("text")
}

/// What `kubectl kustomize` makes of a directory.
pub fn built(kustomization: &Path) -> String {
    said(Command::new(tools().join("kubectl")).arg("kustomize").arg(kustomization))
}
