//! In a container of runc, with the rights and the system calls that Docker gives one by default.

use std::fs;
use std::process::Command;

use serde_json::{Value as Json, json};

use crate::command::{directory, said};
use crate::harness::{NOBODY, Server, is_root, numbers, place, probe};
use crate::hole::BlackHole;

/// The calls that Docker allows whatever their arguments are, on x86-64 with Linux 4.8 and without more capabilities: its
/// profiles/seccomp/default.json of 2022, without io_uring, which later ones refuse, and with some calls of newer kernels. All
/// else gives `EPERM`.
const ALLOWED: &str = include_str!("programs/docker-default.txt");

/// The capabilities of its containers.
const CAPABILITIES: [&str; 14] = [
    "CAP_AUDIT_WRITE",
    "CAP_CHOWN",
    "CAP_DAC_OVERRIDE",
    "CAP_FOWNER",
    "CAP_FSETID",
    "CAP_KILL",
    "CAP_MKNOD",
    "CAP_NET_BIND_SERVICE",
    "CAP_NET_RAW",
    "CAP_SETFCAP",
    "CAP_SETGID",
    "CAP_SETPCAP",
    "CAP_SETUID",
    "CAP_SYS_CHROOT",
];

/// A container, and what differs from Docker's default.
#[derive(Clone, Copy, Default)]
struct Container {
    user: u32,
    /// Whether it has the network of the test.
    in_our_network: bool,
    /// `--cap-add SYS_PTRACE`.
    may_trace: bool,
}

impl Container {
    fn seccomp(self) -> Json {
        const NAMESPACES: u32 = 0x7e02_0000; // CLONE_NEW*
        let allow = |names: &[&str]| json!({"names": names, "action": "SCMP_ACT_ALLOW"});
        let only = |name: &str, op: &str, value: u32| {
            let argument = json!({"index": 0, "value": value, "op": op});
            json!({"names": [name], "action": "SCMP_ACT_ALLOW", "args": [argument]})
        };
        let mut calls = vec![
            allow(&ALLOWED.split_whitespace().collect::<Vec<_>>()),
            only("socket", "SCMP_CMP_NE", 40), // AF_VSOCK
            only("clone", "SCMP_CMP_MASKED_EQ", NAMESPACES),
            json!({"names": ["clone3"], "action": "SCMP_ACT_ERRNO", "errnoRet": libc::ENOSYS}),
        ];
        calls.extend([0, 8, 0x2_0000, 0x2_0008, u32::MAX].map(|kind| only("personality", "SCMP_CMP_EQ", kind)));
        if self.may_trace {
            calls.push(allow(&["kcmp", "pidfd_getfd", "process_madvise"]));
        }
        json!({"defaultAction": "SCMP_ACT_ERRNO", "defaultErrnoRet": libc::EPERM,
               "architectures": ["SCMP_ARCH_X86_64", "SCMP_ARCH_X86", "SCMP_ARCH_X32"], "syscalls": calls})
    }

    /// What `tcptune run` with these flags and the static program prints as its process 1.
    fn run(self, flags: &[&str], args: &[&str]) -> String {
        let bundle = directory();
        fs::create_dir(bundle.path().join("rootfs")).expect("made");
        let program = probe("static-glibc");
        let command = [place().join("tcptune").into_os_string(), "run".into()].into_iter();
        let command = command.chain(flags.iter().map(Into::into)).chain(["--".into(), program.into_os_string()]);
        let command = command.chain(args.iter().map(Into::into)).map(|word| word.into_string().expect("UTF-8"));
        let mut capabilities = CAPABILITIES.to_vec();
        capabilities.extend(self.may_trace.then_some("CAP_SYS_PTRACE"));
        let own: &[&str] = if self.user == 0 { &capabilities } else { &[] };
        let mut mounts = vec![json!({"destination": "/proc", "type": "proc", "source": "proc"})];
        for path in ["/usr", "/bin", "/lib", "/lib64", place().to_str().expect("UTF-8")] {
            mounts.push(json!({"destination": path, "type": "bind", "source": path, "options": ["rbind", "ro"]}));
        }
        let mut namespaces = vec!["pid", "mount", "ipc", "uts"];
        namespaces.extend((!self.in_our_network).then_some("network"));
        let configuration = json!({
            "ociVersion": "1.0.2",
            "root": {"path": "rootfs"},
            "process": {
                "cwd": "/", "user": {"uid": self.user, "gid": self.user}, "args": command.collect::<Vec<_>>(),
                "env": ["PATH=/usr/bin:/bin"],
                "capabilities": {"bounding": capabilities, "effective": own, "permitted": own},
            },
            "mounts": mounts,
            "linux": {
                "namespaces": namespaces.iter().map(|kind| json!({"type": kind})).collect::<Vec<_>>(),
                "seccomp": self.seccomp(),
            },
        });
        fs::write(bundle.path().join("config.json"), configuration.to_string()).expect("written");
        let name = bundle.path().file_name().expect("a name");
        said(Command::new("runc").args(["run", "--bundle"]).arg(bundle.path()).arg(name)).ok().to_owned()
    }
}

#[test]
fn in_a_container_as_docker_makes_it() {
    if !is_root() || !cfg!(target_arch = "x86_64") {
        println!("skipped: in_a_container_as_docker_makes_it: only root makes containers; the profile is of x86-64");
        return;
    }
    let (server, hole) = (Server::start(), BlackHole::v4());
    let flags = ["--keepidle", "77"];
    for user in [0, NOBODY] {
        let docker = Container { user, ..Container::default() };
        let listening = docker.run(&[&flags[..], &["--reuseaddr", "on"]].concat(), &["server"]);
        assert_eq!(numbers(&listening), [0, 6, 1, 77, 77], "as {user}");
        let near = Container { in_our_network: true, ..docker };
        assert_eq!(numbers(&near.run(&flags, &["forks", server.port(), "64"])), [0, 0], "as {user}");
        assert!(near.run(&flags, &["own", server.port()]).starts_with("77 0 77 "), "as {user}: its own are ignored");
        // In whole retransmissions, and never shorter.
        let dead = numbers(&near.run(&["--connect-timeout", "2s"], &["blocking", &hole.port()]));
        assert!(dead[0] == i64::from(libc::ETIMEDOUT) && (2000..20_000).contains(&dead[1]), "as {user}: {dead:?}");
    }
    // With the one capability more, as anywhere.
    let tracing = Container { may_trace: true, in_our_network: true, user: 0 };
    let dead = numbers(&tracing.run(&["--connect-timeout", "1s"], &["blocking", &hole.port()]));
    assert!(dead[0] == i64::from(libc::ETIMEDOUT) && (1000..4000).contains(&dead[1]), "{dead:?}");
    assert_eq!(tracing.run(&["--backlog", "9"], &["server"]).split(' ').nth(1), Some("9"));
}
