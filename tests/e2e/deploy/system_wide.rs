//! `/etc/ld.so.preload` and `/etc/tcptune.conf`, in a root file system that is thrown away.

use std::fs;
use std::os::unix::process::ExitStatusExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Output};

use super::root::Root;
use crate::harness::mounts::{mount, with_own_mounts, write};
use crate::harness::{library, probe, shared};

const LIBRARY: &str = "usr/lib/x86_64-linux-gnu/libtcptune.so";

/// The commands of a section of docs/deploy.md, those of an indented block.
fn commands(section: &str, block: usize) -> String {
    // The file itself may be below what the test mounts something over.
    let page = include_str!("../../../docs/deploy.md");
    let (_, text) = page.split_once(&format!("\n## {section}\n")).expect("the section");
    let text = text.split("\n## ").next().unwrap_or_default();
    let blocks = text.split("\n\n").filter(|paragraph| paragraph.starts_with("    "));
    blocks.clone().nth(block).unwrap_or_else(|| panic!("{section} has {} blocks", blocks.count())).to_owned()
}

/// Runs a program in the root, as root or as nobody, with these variables alone.
fn run(root: &Path, user: u32, variables: &[(&str, &str)], words: &[&str]) -> Output {
    let mut command = Command::new("/usr/sbin/chroot");
    command.arg(format!("--userspec={user}:{user}")).arg(root).args(words);
    command.env_clear().envs(variables.iter().copied()).output().expect("chroot runs")
}

fn number(output: &Output, name: &str) -> i64 {
    assert!(output.status.success(), "{output:?}");
    let text = String::from_utf8_lossy(&output.stdout);
    let line = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix('='));
    line.unwrap_or_else(|| panic!("{name}: {output:?}")).parse().expect("a number")
}

/// A root with the library installed, a shell, a static busybox, and the probe: as it is, setuid, and as one to be skipped.
fn root(at: PathBuf, library: &Path, program: &Path) -> Root {
    let root = Root::at(at);
    for (program, name) in [(program, "bin/plain"), (program, "bin/setuid"), (program, "usr/sbin/sshd")] {
        root.put_program(program, name);
    }
    root.put_program(Path::new("/bin/sh"), "bin/sh");
    root.put(Path::new("/bin/busybox"), "bin/busybox");
    root.put(library, LIBRARY);
    fs::create_dir_all(root.path().join("etc")).expect("made");
    fs::create_dir_all(root.path().join("proc")).expect("made");
    write(&root.path().join("bin/setuid"), &fs::read(program).expect("read"), 0o4755);
    root
}

#[test]
fn every_program_of_a_system_is_tuned_and_it_can_be_taken_back() {
    let (library, program, crash) = (library(), probe("secure"), shared("crash"));
    with_own_mounts("every_program_of_a_system_is_tuned_and_it_can_be_taken_back", move || {
        // Where the bits of setuid count, and anybody may look.
        let directory = std::env::temp_dir();
        let outside = [library, program, crash].map(|path| (fs::read(&path).expect("read"), path));
        mount("tmpfs", &directory, "tmpfs", 0, "size=64m,mode=755");
        let [library, program, crash] = outside.map(|(bytes, path)| {
            let copy = directory.join(path.file_name().expect("a name"));
            write(&copy, &bytes, 0o755);
            copy
        });
        let root = root(directory.join("root"), &library, &program);
        let root = root.path();
        mount("proc", &root.join("proc"), "proc", 0, "");
        let idle =
            |user, variables: &[(&str, &str)], program: &str| number(&run(root, user, variables, &[program]), "idle");
        let kernels = idle(0, &[], "/bin/plain");
        assert_ne!(kernels, 60);

        // As the page says.
        let set_up = run(root, 0, &[], &["/bin/sh", "-e", "-c", &commands("The whole system", 0)]);
        assert!(set_up.status.success(), "{set_up:?}");
        assert_eq!(idle(0, &[], "/bin/plain"), 60);
        assert_eq!(idle(65534, &[("TCPTUNE_KEEPIDLE", "33")], "/bin/plain"), 33);
        let setuid = run(root, 65534, &[("TCPTUNE_KEEPIDLE", "33"), ("TCPTUNE_PROFILE", "server")], &["/bin/setuid"]);
        assert_eq!([number(&setuid, "secure"), number(&setuid, "idle")], [1, 60], "the file alone counts: {setuid:?}");
        assert_eq!(idle(0, &[], "/usr/sbin/sshd"), kernels, "skip_programs");
        let shell =
            run(root, 0, &[], &["/bin/sh", "-c", "while read -r line; do echo \"$line\"; done </proc/self/maps"]);
        assert!(String::from_utf8_lossy(&shell.stdout).contains("libtcptune.so"), "the shell, too: {shell:?}");

        // A file that is no library is only a warning of the loader's.
        fs::write(root.join(LIBRARY), "not a library\n").expect("written");
        let warned = run(root, 0, &[], &["/bin/plain"]);
        assert_eq!(number(&warned, "idle"), kernels);
        assert!(String::from_utf8_lossy(&warned.stderr).contains("cannot be preloaded"), "{warned:?}");

        // One that lets nothing start: what is static does, and takes it back.
        fs::copy(&crash, root.join(LIBRARY)).expect("copied");
        for words in [&["/bin/plain"][..], &["/bin/sh", "-c", ":"]] {
            let crashed = run(root, 0, &[], words);
            assert!(
                crashed.status.signal().is_some() || crashed.status.code().is_some_and(|code| code > 125),
                "{crashed:?}"
            );
        }
        let taken_back =
            run(root, 0, &[("PATH", "/bin")], &["/bin/busybox", "sh", "-e", "-c", &commands("The whole system", 1)]);
        assert!(taken_back.status.success(), "{taken_back:?}");
        assert_eq!(idle(0, &[], "/bin/plain"), kernels);
        assert_eq!(fs::read_to_string(root.join("etc/ld.so.preload")).expect("the file"), "");
    });
}
