//! Programs that start another one: that one is looked at, and it is said where the variables would be lost.

use std::path::Path;

use crate::harness::{compiled, directory, installed, library, said, script, tcptune};

#[test]
fn what_starts_others_without_the_environment() {
    let directory = directory();
    for (name, args, reason, advice) in [
        ("sudo", &["true"][..], "sudo starts its program with an environment of its own", "sudo tcptune run …"),
        ("doas", &["true"], "without LD_PRELOAD", "doas tcptune run …"),
        ("pkexec", &["true"], "without LD_PRELOAD", "pkexec tcptune run …"),
        ("su", &["-", "nobody"], "without LD_PRELOAD", "su - tcptune run …"),
        ("runuser", &["-l", "nobody"], "without LD_PRELOAD", "runuser -l tcptune run …"),
        ("setpriv", &["--reset-env", "true"], "without LD_PRELOAD", "setpriv --reset-env tcptune run …"),
        ("env", &["-i", "true"], "without LD_PRELOAD", "env -i tcptune run …"),
        ("env", &["-u", "LD_PRELOAD", "true"], "without LD_PRELOAD", "env -u LD_PRELOAD tcptune run …"),
        ("systemd-run", &["true"], "by the service manager", "systemd-run tcptune run …"),
        ("docker", &["run", "image"], "in a container", "`tcptune env`"),
        ("podman", &["run", "image"], "in a container", "`tcptune env`"),
        ("flatpak", &["run", "app"], "in a sandbox", "tcptune apply PID"),
        ("snap", &["run", "app"], "in a sandbox", "tcptune apply PID"),
    ] {
        let program = script(directory.path(), name, "#!/bin/sh\necho started\n");
        let refused = said(tcptune([&program]).args(args));
        let message = refused.refused(126);
        assert!(message.contains(reason) && message.contains(advice), "{name}: {message}");
        assert_eq!(message.lines().count(), 2, "one line with the reason, one with what to do: {message}");
        let check = said(tcptune(["check"]).arg(&program).args(args));
        assert!(check.code == Some(1) && check.stdout.contains(reason), "{check:?}");
        if name != "env" {
            assert_eq!(said(&mut tcptune([&program])).ok(), "started", "{name} starts nothing");
        }
    }
}

#[test]
fn a_tree_without_the_library() {
    let directory = directory();
    let chroot = Path::new("/usr/sbin/chroot");
    if !chroot.exists() {
        println!("skipped: no chroot(8)");
        return;
    }
    let refused = said(tcptune([chroot, directory.path()]).arg("/bin/true"));
    assert!(refused.refused(126).contains("the library is not in the tree"), "{refused:?}");
    installed(library(), &directory.path().join(library().strip_prefix("/").expect("absolute")));
    let started = said(tcptune([chroot, directory.path()]).arg("/nosuch"));
    assert_eq!(started.code, Some(127), "chroot looks for it: {started:?}");
}

#[test]
fn the_program_behind_is_what_is_looked_at() {
    let directory = directory();
    let fixed = compiled(directory.path(), "fixed", &["-static"]);
    let dynamic = compiled(directory.path(), "dynamic", &[]);
    let text = |path: &Path| path.to_str().expect("UTF-8").to_owned();
    for wrapper in [
        &["nice", "-n", "1"][..],
        &["timeout", "-k", "1", "5"],
        &["setsid", "-w"],
        &["stdbuf", "-oL"],
        &["env", "A=b"],
        &["nohup"],
        &["nice", "timeout", "5", "env", "A=b"],
    ] {
        let refused = said(tcptune(["run", "--backend", "preload"].iter().chain(wrapper)).arg(&fixed));
        assert!(refused.refused(126).contains(&format!("→ {}: a static binary", fixed.display())), "{refused:?}");
        let started = said(tcptune(["run"].iter().chain(wrapper)).arg(&dynamic));
        assert_eq!(started.stdout, "started\n", "{started:?}");
    }
    for shell in ["sh", "bash"] {
        let refused = said(tcptune(["--backend", "preload", shell, "-c"]).arg(format!("exec {}", text(&fixed))));
        assert!(refused.refused(126).contains("a static binary"), "{refused:?}");
    }
    let refused = said(tcptune(["--backend", "preload", "xargs", "-n", "1"]).arg(&fixed));
    assert!(refused.refused(126).contains("a static binary"), "{refused:?}");
}
