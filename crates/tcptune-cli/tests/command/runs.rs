//! `tcptune run` and `tcptune env`: the program is tuned, and otherwise as if started without them.

use std::fs;
use std::os::unix::process::CommandExt;
use std::process::Command;

use crate::harness::{TCPTUNE, clean, directory, library, python, said, script, tcptune};

/// SO_KEEPALIVE, TCP_KEEPIDLE, TCP_USER_TIMEOUT and TCP_NODELAY of both ends of a connection of its own.
const SOCKETS: &str = "
import socket
listener = socket.create_server(('127.0.0.1', 0))
client = socket.create_connection(listener.getsockname())
for s in client, listener.accept()[0]:
    print(s.getsockopt(1, 9), s.getsockopt(6, 4), s.getsockopt(6, 18), s.getsockopt(6, 1))
";

#[test]
fn a_python_program_has_the_options() {
    let plain = said(clean(&mut Command::new(python())).args(["-I", "-c", SOCKETS]));
    assert!(!plain.ok().contains("77"), "{plain:?}");
    let settings = ["--keepidle", "77", "--user-timeout=5s", "--nodelay", "on"];
    let program = [python(), "-I", "-c", SOCKETS];
    for run in [&["run"][..], &[], &["--color", "never"]] {
        let args = run.iter().chain(&settings).chain(&program);
        assert_eq!(said(&mut tcptune(args)).ok(), "1 77 5000 1\n1 77 5000 1", "{run:?}");
    }
}

#[test]
fn a_profile_holds_and_a_flag_wins_over_it() {
    let args = ["--profile", "fast-fail", "--keepidle", "6", python(), "-I", "-c", SOCKETS];
    // user_timeout = auto of the profile follows the flag: 6 s + 1 s × 5.
    assert_eq!(said(&mut tcptune(args)).ok(), "1 6 11000 0\n1 6 11000 0");
}

#[test]
fn a_flag_wins_over_a_profile_that_says_the_same_by_another_name() {
    let tos = "import socket; print(socket.socket().getsockopt(0, 1))";
    for (args, want) in [(&["--profile", "interactive"][..], "72"), (&["--profile", "interactive", "--tos", "8"], "8")]
    {
        let program = [python(), "-I", "-c", tos];
        assert_eq!(said(&mut tcptune(args.iter().chain(&program))).ok(), want, "{args:?}");
    }
}

#[test]
fn a_flag_wins_over_a_variable_be_it_by_another_name() {
    let args = ["--keepidle", "77", python(), "-I", "-c", SOCKETS];
    let said = said(tcptune(args).env("TCPTUNE_KEEPALIVE_TIME", "55").env("TCPTUNE_NODELAY", "on"));
    assert!(said.ok().starts_with("1 77 0 1\n"), "{said:?}");
}

#[test]
fn a_rule_of_the_command_line_holds() {
    let args =
        ["--rule", "dst=127.0.0.0/8 : keepidle=33", "--rule", "role=server : off", python(), "-I", "-c", SOCKETS];
    let said = said(&mut tcptune(args));
    assert!(said.ok().starts_with("1 33 "), "{said:?}");
}

#[test]
fn a_file_of_settings_is_found_from_wherever_the_program_goes() {
    let directory = directory();
    fs::write(directory.path().join("settings"), "keepidle = 44\n").expect("written");
    let script = format!("cd / && exec {} -I -c \"$0\"", python());
    let mut command = tcptune(["--config", "settings", "sh", "-c", &script, SOCKETS]);
    let said = said(command.current_dir(directory.path()));
    assert!(said.ok().starts_with("1 44 "), "{said:?}");
}

#[test]
fn node_is_tuned() {
    let directory = directory();
    let log = directory.path().join("log");
    let program = "const net = require('net');
        const server = net.createServer(s => s.end()).listen(0, '127.0.0.1', () =>
            net.connect(server.address().port, '127.0.0.1').on('close', () => server.close()).resume());";
    let log = log.to_str().expect("UTF-8");
    let args = ["--keepidle", "77", "--log", "debug", "--log-file", log, "node", "-e", program];
    assert_eq!(said(&mut tcptune(args)).ok(), "");
    let log = fs::read_to_string(log).expect("a log");
    assert!(log.contains("KEEPIDLE=77s, the kernel says 77s"), "{log}");
}

#[test]
fn what_env_prints_does_the_same() {
    let shell =
        format!("eval \"$({TCPTUNE} env --keepidle 77 --rule 'role=server : off')\" && exec {} -I -c \"$0\"", python());
    let mut command = Command::new("sh");
    clean(&mut command).env("TCPTUNE_LIBRARY", library()).env("TCPTUNE_KEEPALIVE_TIME", "55");
    let said = said(command.args(["-c", &shell, SOCKETS]));
    assert!(said.ok().starts_with("1 77 "), "{said:?}");
}

#[test]
fn what_a_dry_run_prints_does_the_same() {
    let args = ["--dry-run", "--keepidle", "77", "--bindtodevice", "lo", python(), "-I", "-c", SOCKETS];
    let lines = said(&mut tcptune(args));
    let said = said(clean(&mut Command::new("sh")).args(["-c", lines.ok()]));
    assert!(said.ok().starts_with("1 77 "), "{said:?}");
}

#[test]
fn the_exit_status_is_the_programs() {
    for code in [0, 1, 2, 78, 126, 255] {
        assert_eq!(said(&mut tcptune(["sh", "-c", &format!("exit {code}")])).code, Some(code));
    }
}

#[test]
fn a_signal_that_ends_the_program_ends_the_command() {
    for signal in [libc::SIGTERM, libc::SIGKILL, libc::SIGPIPE] {
        let said = said(&mut tcptune(["sh", "-c", &format!("kill -{signal} $$")]));
        assert_eq!((said.code, said.signal), (None, Some(signal)));
    }
}

#[test]
fn the_process_is_the_same_one() {
    let said = said(&mut tcptune(["sh", "-c", "echo $PPID"]));
    assert_eq!(said.ok(), std::process::id().to_string());
}

#[test]
fn arguments_pass_as_they_are() {
    let odd = ["--keepidle", "", "a b", "*", "--", "-x", "--help", "\u{e9}"];
    let args = ["--", "printf", "<%s>"].iter().chain(&odd);
    assert_eq!(said(&mut tcptune(args)).ok(), "<--keepidle><><a b><*><--><-x><--help><\u{e9}>");
}

/// The masks of a process that is started with `SIGPIPE` ignored or not, and another signal blocked.
fn masks(command: &mut Command, ignored: bool) -> String {
    // SAFETY: only calls that are async-signal-safe.
    let command = unsafe {
        command.pre_exec(move || {
            let action = if ignored { libc::SIG_IGN } else { libc::SIG_DFL };
            libc::signal(libc::SIGPIPE, action);
            let mut set = std::mem::zeroed();
            libc::sigemptyset(&raw mut set);
            libc::sigaddset(&raw mut set, libc::SIGUSR2);
            libc::sigprocmask(libc::SIG_BLOCK, &raw const set, std::ptr::null_mut());
            Ok(())
        })
    };
    said(command).ok().to_owned()
}

#[test]
fn signals_are_as_they_were_inherited() {
    let grep = ["grep", "-E", "^Sig(Blk|Ign|Cgt)", "/proc/self/status"];
    for ignored in [false, true] {
        let plain = masks(clean(Command::new(grep[0]).args(&grep[1..])), ignored);
        assert_eq!(masks(&mut tcptune(grep), ignored), plain, "SIGPIPE ignored: {ignored}");
    }
}

#[test]
fn closed_descriptors_stay_closed() {
    let script = format!("{TCPTUNE} ls /proc/self/fd <&-");
    let mut command = Command::new("sh");
    let said = said(clean(&mut command).env("TCPTUNE_LIBRARY", library()).args(["-c", &script]));
    // Number 0 is that of the listing itself; it would be another one if the command had left something there.
    assert_eq!(said.ok(), said_plain("ls /proc/self/fd <&-"));
}

fn said_plain(script: &str) -> String {
    said(clean(&mut Command::new("sh")).args(["-c", script])).ok().to_owned()
}

#[test]
fn the_library_is_in_the_list_once() {
    let library = library().to_str().expect("UTF-8");
    let preload = |existing: Option<&str>| {
        let mut command = tcptune(["run", TCPTUNE, "sh", "-c", "echo \"$LD_PRELOAD\""]);
        if let Some(existing) = existing {
            command.env("LD_PRELOAD", existing);
        }
        said(&mut command).stdout.trim_end().to_owned()
    };
    assert_eq!(preload(None), library);
    assert_eq!(preload(Some(library)), library);
    assert_eq!(preload(Some("libm.so.6 libdl.so.2")), format!("{library}:libm.so.6 libdl.so.2"));
    assert_eq!(preload(Some(&format!("libm.so.6:{library}"))), format!("libm.so.6:{library}"));
}

#[test]
fn scripts_run_with_and_without_an_interpreter_line() {
    let directory = directory();
    let with = script(directory.path(), "with", "#!/usr/bin/env sh\necho \"$1\"\n");
    let without = script(directory.path(), "without", "echo \"$1\"\n");
    for script in [with, without] {
        assert_eq!(said(tcptune([&script]).arg("an argument")).ok(), "an argument", "{}", script.display());
    }
}

#[test]
fn what_env_has_set_it_takes_away() {
    for shell in ["sh", "bash", "dash", "zsh", "fish"] {
        let (set, unset) = match shell {
            "fish" => ("env --shell fish --keepidle 7 | source", "env --shell fish --unset | source"),
            _ => ("\"$(T env --keepidle 7)\"", "\"$(T env --unset)\""),
        };
        let line = match shell {
            "fish" => format!("{TCPTUNE} {set}; {TCPTUNE} {unset}; env"),
            _ => format!("eval {set}; eval {unset}; env").replace("$(T ", &format!("$({TCPTUNE} ")),
        };
        let mut command = Command::new(shell);
        clean(&mut command).env("TCPTUNE_NODELAY", "on").args(["-c", &line]);
        let library = library().parent().expect("a directory").join("libtcptune.so");
        let said = said(command.env("TCPTUNE_LIBRARY", library));
        assert!(!said.stdout.contains("TCPTUNE_") && !said.stdout.contains("LD_PRELOAD"), "{shell}: {said:?}");
        assert!(said.stdout.contains("PATH="), "{shell}: {said:?}");
    }
    let other = said(tcptune(["env", "--unset"]).env("LD_PRELOAD", "libx.so /l/libtcptune.so:liby.so"));
    assert!(other.stdout.contains("export LD_PRELOAD=libx.so:liby.so"), "{other:?}");
}

#[test]
fn a_shell_whose_prompt_says_so() {
    for shell in ["bash", "zsh", "fish", "sh"] {
        let path = said(clean(&mut Command::new("sh")).args(["-c", &format!("command -v {shell}")])).ok().to_owned();
        let mut script = Command::new("script");
        let line = format!("{TCPTUNE} shell --keepidle 77");
        let home = directory();
        clean(&mut script).args(["-qec", &line, "/dev/null"]).env("SHELL", &path).env("TCPTUNE_LIBRARY", library());
        let mut child = script
            .env("TERM", "dumb")
            .env("HOME", home.path())
            .stdin(std::process::Stdio::piped())
            .stdout(std::process::Stdio::piped())
            .spawn()
            .expect("script runs");
        let mut stdin = child.stdin.take().expect("piped");
        std::io::Write::write_all(&mut stdin, b"echo idle=$TCPTUNE_KEEPIDLE\nexit\n").expect("written");
        let output = child.wait_with_output().expect("it ends");
        let text = String::from_utf8_lossy(&output.stdout);
        assert!(text.contains("idle=77") && text.contains("(tcptune)"), "{shell}: {text}");
        drop(stdin);
    }
}
