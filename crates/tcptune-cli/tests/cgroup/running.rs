//! Programs that run already, and those of `run --backend cgroup`.

use std::fs;
use std::path::PathBuf;
use std::process::Command;

use crate::group::{Group, Other, client, listener, mount};
use crate::harness::{Ended, Running, TCPTUNE, eventually, inspect, real_python, socket};

#[test]
fn a_server_that_runs_is_tuned_and_check_says_so() {
    let Some(group) = Group::or_skip("a_server_that_runs_is_tuned_and_check_says_so") else { return };
    let script = "import socket, sys\nl = socket.create_server(('127.0.0.1', 0))\nprint(l.getsockname()[1])\n\
                  for line in sys.stdin:\n  a, _ = l.accept()\n  print(a.getsockopt(6, 4))";
    let mut command = Command::new(real_python());
    command.args(["-I", "-u", "-c", script]);
    let mut server = Running::start(&mut command);
    let port: u16 = server.line().parse().expect("a port");
    group.take(server.pid());
    let pid = server.pid().to_string();
    let check = || Ended::of(Command::new(TCPTUNE).args(["check", "--json", &pid]));
    assert_eq!(check().any_json()["tuned"], false);
    let ended = Ended::of(Command::new(TCPTUNE).args(["attach", "--pid", &pid, "--keepidle", "60"]));
    assert_eq!(ended.code, Some(0), "{ended:#?}");
    let _connection = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connected");
    server.say("accept");
    assert_eq!(server.line(), "7200", "its socket was made when its listener was opened, before the process was moved");
    let checked = check().json();
    assert_eq!((&checked["tuned"], &checked["way"]), (&true.into(), &"cgroup".into()), "{checked:#}");
    assert!(checked["attached"].as_str().is_some_and(|text| text.contains("KEEPIDLE=60s")), "{checked:#}");
    assert!(checked["attached"].as_str().is_some_and(|text| text.contains(group.word())), "{checked:#}");
}

#[test]
fn check_says_that_another_version_has_attached_something() {
    let Some(group) = Group::or_skip("check_says_that_another_version_has_attached_something") else { return };
    let mut command = Command::new("sleep");
    command.arg("60");
    group.enter(&mut command);
    let mut sleeping = command.spawn().expect("sleep runs");
    let check = || Ended::of(Command::new(TCPTUNE).args(["check", "--json", &sleeping.id().to_string()])).any_json();
    assert!(check()["attached"].is_null());
    let other = Other::attach(&group);
    assert!(check()["attached"].is_null(), "of another tool");
    let version = Other::version(&group);
    let text = check()["attached"].as_str().unwrap_or_default().to_owned();
    assert!(text.contains(group.word()) && text.contains("by another version of tcptune"), "{text}");
    drop((other, version));
    sleeping.kill().and_then(|()| sleeping.wait()).expect("ended");
}

#[test]
fn variables_count_as_flags_do() {
    let Some(group) = Group::or_skip("variables_count_as_flags_do") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let profile = ("TCPTUNE_PROFILE", "cloud-nat");
    // What stands alone, or as a flag, wins over the profile.
    for (variables, flags, idle) in [
        (&[profile][..], &[][..], 120),
        (&[profile, ("TCPTUNE_KEEPIDLE", "33")], &[], 33),
        (&[profile], &["--keepidle", "44"], 44),
        (&[profile], &["--profile", "fast-fail"], 5),
        (&[("TCPTUNE_KEEPIDLE", "33")], &["--keepidle", "44"], 44),
    ] {
        let tcptune = |words: &[&str]| {
            let mut command = Command::new(TCPTUNE);
            command.args(words).args(flags).envs(variables.iter().copied());
            command
        };
        let attached = Ended::of(&mut tcptune(&["attach", "--cgroup", group.word()]));
        assert_eq!(attached.code, Some(0), "{attached:#?}");
        assert_eq!(group.client(&["127.0.0.1", &port])["keepidle"], idle, "attach: {variables:?} {flags:?}");
        group.detach();
        let mut run = tcptune(&["run", "--backend", "cgroup"]);
        let ran = Ended::of(run.arg(client()).args(["127.0.0.1", &port]));
        assert_eq!(ran.json()["keepidle"], idle, "run: {variables:?} {flags:?}");
    }
    let mut command = Command::new(TCPTUNE);
    command.args(["attach", "--cgroup", group.word()]).env("TCPTUNE_PROFILE", "cloudnat");
    let ended = Ended::of(&mut command);
    assert_eq!(ended.code, Some(2), "{ended:#?}");
    assert!(ended.stderr.contains("no such profile; did you mean cloud-nat?"), "{ended:#?}");
}

/// `run` as root takes cgroup for a static program: the system's file holds there as it does under notify.
#[test]
fn the_systems_file_holds_in_what_is_run() {
    let Some(_group) = Group::or_skip("the_systems_file_holds_in_what_is_run") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let run = |file: &str, flags: &[&str]| run_under(file, flags, &port, None).json();
    for flags in [&[][..], &["--backend", "cgroup"], &["--backend", "notify"]] {
        let said = run("keepidle = 33", flags);
        assert_eq!([&said["keepidle"], &said["keepcnt"]], [33, 3], "{flags:?}: {said:#}");
        let said = run(&format!("port={port} : keepidle=34"), flags);
        assert_eq!(said["keepidle"], 34, "{flags:?}: {said:#}");
    }
    // A list of programs is left out, and the rules are not.
    let listed = format!("only_programs = other\nport={port} : keepidle=34");
    let said = run_under(&listed, &["--backend", "cgroup"], &port, None).any_json();
    assert_eq!(said["keepidle"], 34, "{said:#}");
    // What BPF programs do not know is notify's.
    assert_eq!(run("skip_programs = other\nprogram=client* : keepidle=35", &[])["keepidle"], 35);
}

/// The client, run where this is the system's file.
fn run_under(file: &str, flags: &[&str], port: &str, variable: Option<(&str, &str)>) -> Ended {
    let mounted = format!(
        "mount -t tmpfs none /mnt && cp -a /etc/. /mnt && mount --bind /mnt /etc && echo '{file}' >/etc/tcptune.conf\n\
         exec \"$@\""
    );
    let mut command = Command::new("unshare");
    command.args(["--mount", "sh", "-ec", &mounted, "sh", TCPTUNE, "run", "--keepcnt", "3"]).args(flags);
    Ended::of(command.envs(variable).arg("--").arg(client()).args(["127.0.0.1", port]))
}

/// As under the library, whatever the way.
#[test]
fn a_mistake_is_one_line_and_the_rest_holds() {
    let Some(_group) = Group::or_skip("a_mistake_is_one_line_and_the_rest_holds") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let file = "keepidle = 33\nkeepintvl = many";
    let mistakes = ["/etc/tcptune.conf:2:1: keepintvl = many", "TCPTUNE_KEEPIDEL=9"];
    for flags in [&[][..], &["--backend", "cgroup"], &["--backend", "notify"]] {
        let run = |file: &str| run_under(file, flags, &port, Some(("TCPTUNE_KEEPIDEL", "9")));
        let ended = run(file);
        let said = ended.any_json();
        assert_eq!([&said["keepidle"], &said["keepcnt"]], [33, 3], "{flags:?}: {ended:#?}");
        for mistake in mistakes {
            let lines: Vec<_> = ended.stderr.lines().filter(|line| line.contains(mistake)).collect();
            assert!(matches!(lines[..], [line] if line.ends_with("; ignored")), "{flags:?}: {ended:#?}");
        }
        let ended = run(&format!("strict = on\n{file}"));
        assert_eq!((ended.code, &*ended.stdout), (Some(78), ""), "{flags:?}: {ended:#?}");
        let refused = ended.stderr.lines().filter(|line| line.ends_with("; the program is not started"));
        assert_eq!(refused.count(), mistakes.len(), "{flags:?}: {ended:#?}");
    }
}

#[test]
fn a_listener_that_is_open_already_accepts_tuned_connections() {
    let Some(group) = Group::or_skip("a_listener_that_is_open_already_accepts_tuned_connections") else { return };
    let script = "import socket, sys\nl = socket.create_server(('127.0.0.1', 0))\nprint(l.getsockname()[1])\n\
                  for line in sys.stdin:\n  a, _ = l.accept()\n  print(a.getsockopt(6, 4), l.getsockopt(6, 4))";
    let mut command = Command::new(real_python());
    command.args(["-I", "-u", "-c", script]);
    group.enter(&mut command);
    let mut server = Running::start(&mut command);
    let port: u16 = server.line().parse().expect("a port");
    for (settings, keepidle) in [("60", 60), ("90", 90)] {
        group.attach(&["--keepidle", settings]);
        let _connection = std::net::TcpStream::connect(("127.0.0.1", port)).expect("connected");
        server.say("accept");
        assert_eq!(server.line(), format!("{keepidle} 7200"), "also where settings take the place of others");
    }
}

fn cgroup_of_run(pid: u32) -> PathBuf {
    let groups = fs::read_to_string(format!("/proc/{pid}/cgroup")).expect("it runs");
    let name = groups.lines().find_map(|line| line.strip_prefix("0::/")).expect("a cgroup");
    mount().expect("a mount").join(name)
}

#[test]
fn a_program_in_a_cgroup_of_its_own_which_goes_with_it() {
    let Some(_group) = Group::or_skip("a_program_in_a_cgroup_of_its_own_which_goes_with_it") else { return };
    let (_v4, port) = listener("127.0.0.1");
    let run = |args: &[&str]| {
        let mut command = Command::new(TCPTUNE);
        command.args(["run", "--backend", "cgroup", "--keepidle", "60"]).args(args);
        command
    };
    let program = client();
    let program = program.to_str().expect("UTF-8");
    assert_eq!(Ended::of(&mut run(&[program, "127.0.0.1", &port])).json()["keepidle"], 60);
    assert_eq!(Ended::of(&mut run(&["sh", "-c", "exit 7"])).code, Some(7));
    assert_eq!(Ended::of(&mut run(&["no-such-program"])).code, Some(127));
    // The environment counts as well.
    let ended = Ended::of(run(&[program, "127.0.0.1", &port]).env("TCPTUNE_KEEPCNT", "3"));
    assert_eq!(ended.json()["keepcnt"], 3);
    // However it ends, and what it leaves running.
    for script in ["kill -9 $$", "sleep 0.3 & exit 0", "mkdir \"$0\"/below && exit 1"] {
        let mut running = Running::start(&mut run(&["sh", "-c", &format!("echo up; read line; {script}")]));
        assert_eq!(running.line(), "up");
        let path = cgroup_of_run(running.pid());
        assert!(path.file_name().is_some_and(|name| name.to_string_lossy().starts_with("tcptune-run-")), "{path:?}");
        if script.contains("below") {
            fs::create_dir(path.join("below")).expect("a cgroup below");
        }
        running.wait();
        eventually("the cgroup goes", || !path.exists());
    }
}

#[test]
fn a_client_that_runs_already_is_tuned_when_it_connects() {
    let Some(group) = Group::or_skip("a_client_that_runs_already_is_tuned_when_it_connects") else { return };
    let (listener, port) = listener("127.0.0.1");
    let script = format!(
        "import socket, sys\ns = socket.socket()\nprint('up')\nsys.stdin.readline()\ns.connect(('127.0.0.1', {port}))\n\
         print('connected')\nsys.stdin.read()"
    );
    let mut command = Command::new(real_python());
    command.args(["-I", "-u", "-c", &script]);
    group.enter(&mut command);
    let mut running = Running::start(&mut command);
    assert_eq!(running.line(), "up");
    group.attach(&["--keepidle", "60"]);
    running.say("connect");
    assert_eq!(running.line(), "connected");
    let all = inspect(running.pid());
    assert_eq!(socket(&all, "127.0.0.1", Some(&format!(":{port}")))["options"]["keepidle"], 60);
    drop(listener);
}
