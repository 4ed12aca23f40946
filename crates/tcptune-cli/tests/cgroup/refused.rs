//! Machines on which it cannot be: each is one line that says what to do, and status 126.

use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::group::{Group, mount};
use crate::harness::{Ended, TCPTUNE};

/// Whether it ended as it should where it cannot be, with these words.
fn assert_refused(ended: &Ended, says: &[&str]) {
    assert_eq!(ended.code, Some(126), "{ended:#?}");
    assert_eq!(ended.stdout, "", "{ended:#?}");
    assert_eq!(ended.stderr.lines().count(), 1, "{ended:#?}");
    for words in says {
        assert!(ended.stderr.contains(words), "{words}: {ended:#?}");
    }
}

/// `tcptune ARGS...` after these commands in a mount namespace of its own.
fn after(commands: &str, args: &[&str]) -> Ended {
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &format!("{commands}\nexec \"$@\""), "sh", TCPTUNE]).args(args);
    Ended::of(&mut command)
}

/// Each subcommand that needs cgroups, of a process or a program.
fn each_subcommand(mut check: impl FnMut(&[&str])) {
    let pid = std::process::id().to_string();
    check(&["attach", "--pid", &pid, "--yes", "--keepidle", "60"]);
    check(&["attach", "--unit", "nginx", "--keepidle", "60"]);
    check(&["attached"]);
    check(&["detach", "--all"]);
    check(&["run", "--backend", "cgroup", "--keepidle", "60", "--", "true"]);
}

#[test]
fn cgroups_of_version_1_only() {
    let Some(_group) = Group::or_skip("cgroups_of_version_1_only") else { return };
    let commands = "umount -R /sys/fs/cgroup\nmount -t tmpfs none /sys/fs/cgroup\nmkdir /sys/fs/cgroup/a\n\
                    mount -t cgroup -o none,name=tcptune-test none /sys/fs/cgroup/a";
    each_subcommand(|args| {
        assert_refused(&after(commands, args), &["version 1 only", "mount -t cgroup2"]);
    });
}

#[test]
fn no_cgroups_at_all() {
    let Some(_group) = Group::or_skip("no_cgroups_at_all") else { return };
    each_subcommand(|args| {
        assert_refused(
            &after("umount -R /sys/fs/cgroup", args),
            &["no cgroup file system is mounted here", "on the host"],
        );
    });
}

#[test]
fn unified_and_hybrid_hierarchies() {
    let Some(group) = Group::or_skip("unified_and_hybrid_hierarchies") else { return };
    let name = group.path().file_name().expect("a name").to_str().expect("UTF-8");
    let unified = "umount -R /sys/fs/cgroup\nmount -t cgroup2 none /sys/fs/cgroup";
    let hybrid = "umount -R /sys/fs/cgroup\nmount -t tmpfs none /sys/fs/cgroup\nmkdir /sys/fs/cgroup/a /sys/fs/cgroup/unified\n\
                  mount -t cgroup -o none,name=tcptune-test none /sys/fs/cgroup/a\n\
                  mount -t cgroup2 none /sys/fs/cgroup/unified";
    for (commands, below) in [(unified, ""), (hybrid, "unified/")] {
        let ended = after(commands, &["attach", "--cgroup", name, "--keepidle", "60"]);
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        assert!(ended.stdout.starts_with(&format!("/sys/fs/cgroup/{below}{name}: attached")), "{ended:#?}");
        let said = after(commands, &["attached", "--cgroup", name, "--json"]).json();
        assert_eq!(said[0]["settings"]["KEEPIDLE"], "60s", "{said:#}");
        assert_eq!(after(commands, &["detach", "--cgroup", name]).code, Some(0));
    }
}

/// The program finds that bpf(2) fails with this error.
fn without_bpf(command: &mut Command, errno: i32) {
    const LOAD_NUMBER: u16 = 0x20;
    const JUMP_IF_EQUAL: u16 = 0x15;
    const RETURN: u16 = 0x06;
    const ALLOW: u32 = 0x7fff_0000;
    let number = u32::try_from(libc::SYS_bpf).expect("a system call");
    let fails = 0x0005_0000 | errno.unsigned_abs();
    let step = |code, jt, jf, k| libc::sock_filter { code, jt, jf, k };
    let filter = [
        step(LOAD_NUMBER, 0, 0, 0),
        step(JUMP_IF_EQUAL, 0, 1, number),
        step(RETURN, 0, 0, fails),
        step(RETURN, 0, 0, ALLOW),
    ];
    let install = move || {
        let program = libc::sock_fprog { len: 4, filter: filter.as_ptr().cast_mut() };
        // SAFETY: the filter lives as long as the call, which copies it.
        match unsafe { libc::prctl(libc::PR_SET_SECCOMP, libc::SECCOMP_MODE_FILTER, &raw const program) } {
            0 => Ok(()),
            _ => Err(std::io::Error::last_os_error()),
        }
    };
    // SAFETY: prctl(2) is one system call; nothing is allocated between fork and exec.
    unsafe { command.pre_exec(install) };
}

#[test]
fn a_kernel_without_bpf_and_a_container_that_forbids_it() {
    let test = "a_kernel_without_bpf_and_a_container_that_forbids_it";
    let Some(group) = Group::or_skip(test) else { return };
    let place = ["--cgroup", group.word()];
    for (errno, says) in [
        (libc::ENOSYS, ["this kernel has no BPF (CONFIG_BPF_SYSCALL)", "`tcptune run`"]),
        (libc::EPERM, ["though this process has every capability", "seccomp filter or a security module"]),
    ] {
        for args in [
            &[&["attach"], &place[..], &["--keepidle", "60"]].concat()[..],
            &[&["attached"], &place[..]].concat(),
            &[&["detach"], &place[..]].concat(),
            &["run", "--backend", "cgroup", "--keepidle", "60", "--", "true"],
        ] {
            let mut command = Command::new(TCPTUNE);
            without_bpf(command.args(args), errno);
            assert_refused(&Ended::of(&mut command), &says);
        }
    }
}

#[test]
fn a_missing_capability_is_named() {
    let Some(group) = Group::or_skip("a_missing_capability_is_named") else { return };
    let without = |drop: &str, args: &[&str]| {
        let mut command = Command::new("setpriv");
        command.args(["--bounding-set", drop, "--inh-caps", drop, TCPTUNE]).args(args);
        Ended::of(&mut command)
    };
    let attach = ["attach", "--cgroup", group.word(), "--keepidle", "60"];
    for (drop, missing) in [
        ("-bpf,-sys_admin", "CAP_BPF is missing"),
        ("-net_admin,-sys_admin", "CAP_NET_ADMIN is missing"),
        ("-bpf,-net_admin,-sys_admin", "CAP_BPF and CAP_NET_ADMIN are missing"),
    ] {
        assert_refused(&without(drop, &attach), &[missing, "run this as root"]);
    }
    // With these two it can be attached, but not be found again.
    let ended = without("-sys_admin", &attach);
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    for args in [&attach[..], &["attached", "--cgroup", group.word()], &["detach", "--cgroup", group.word()]] {
        assert_refused(&without("-sys_admin", args), &["CAP_SYS_ADMIN is missing", "run this as root"]);
    }
    group.detach();
}

#[test]
fn root_of_a_user_namespace() {
    let Some(group) = Group::or_skip("root_of_a_user_namespace") else { return };
    let mut command = Command::new("unshare");
    command.args(["--user", "--map-root-user", TCPTUNE, "attach", "--cgroup", group.word(), "--keepidle", "60"]);
    assert_refused(&Ended::of(&mut command), &["those of a user namespace do not count", "on the host"]);
}

#[test]
fn cgroups_that_cannot_be_written_to() {
    let Some(_group) = Group::or_skip("cgroups_that_cannot_be_written_to") else { return };
    let commands = format!("mount -o remount,bind,ro {}", mount().expect("a mount").display());
    let run = ["run", "--backend", "cgroup", "--keepidle", "60", "--", "true"];
    assert_refused(&after(&commands, &run), &["the cgroup cannot be made", "mounted writable"]);
}
