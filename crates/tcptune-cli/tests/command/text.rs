//! Text of others on the terminal, and the form of errors.

use std::ffi::OsString;
use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::process::{Command, Stdio};

use crate::harness::{clean, directory, said, script, tcptune};

/// ESC, newline, C1, DEL, and an override of the direction of writing.
const NASTY: &str = "n\x1b[2Ja\ns\u{9b}t\x7fy\u{202e}";

fn is_tame(text: &str) {
    let nasty = |c: char| (c.is_control() && c != '\n') || ('\u{202a}'..='\u{202e}').contains(&c);
    assert!(!text.contains(nasty), "{text:?}");
    assert!(text.contains("n\\x1b[2Ja\\x0as\\x9bt\\x7fy\\u{202e}"), "{text:?}");
}

#[test]
fn names_of_files_command_no_terminal() {
    let directory = directory();
    let program = script(directory.path(), NASTY, format!("#!/nosuch/{}\n", NASTY.replace('\n', "\\x0a")));
    is_tame(&said(tcptune(["check"]).arg(&program)).stdout);
    is_tame(&said(&mut tcptune([&program])).stderr);
    let missing = directory.path().join("nosuch").join(NASTY);
    is_tame(&said(tcptune(["run"]).arg(&missing)).stderr);
    is_tame(&said(tcptune(["check", "--library"]).arg(&missing).arg("/bin/true")).stdout);
    is_tame(&said(tcptune(["run", "--library"]).arg(&missing).arg("true")).stderr);
    is_tame(&said(tcptune(["run", "--profile"]).arg(NASTY).arg("true")).stderr);
    let json = said(tcptune(["check", "--json"]).arg(&program)).stdout;
    assert!(!json.contains(|c: char| c.is_control() && c != '\n'), "{json:?}");
    let report: serde_json::Value = serde_json::from_str(&json).expect("JSON");
    assert_eq!(report["program"][0].as_str(), program.to_str());
}

#[test]
fn a_name_of_a_process_may_be_any_bytes() {
    // Cut within a character: prctl(2) keeps 15 bytes.
    for name in ["b'\\xff\\xfe('", "'ääääääääää'.encode()", "b'a\\x1b[2J'"] {
        let program = format!(
            "import sys; open('/proc/self/comm', 'wb').write({name}); print('ready', flush=True); sys.stdin.read()"
        );
        let mut python = Command::new("python3");
        let mut child = clean(&mut python)
            .args(["-I", "-c", &program])
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .expect("it starts");
        let mut line = String::new();
        BufReader::new(child.stdout.take().expect("piped")).read_line(&mut line).expect("ready");
        for subcommand in ["check", "inspect"] {
            let said = said(&mut tcptune([subcommand, &child.id().to_string()]));
            assert!(said.code.is_some() && said.stderr.is_empty(), "{said:?}");
            assert!(!said.stdout.contains('\x1b') && !said.stdout.is_empty(), "{said:?}");
        }
        drop(child.stdin.take());
        child.wait().expect("it ends");
    }
}

#[test]
fn errors_have_one_form() {
    for (args, code) in [
        (&["run"][..], 2),
        (&["--keepidel", "60", "true"], 2),
        (&["--color", "sometimes", "explain"], 2),
        (&["completions"], 2),
        (&["run", "nosuchprogram"], 127),
        (&["--keepidle", "0", "true"], 2),
    ] {
        let plain = said(&mut tcptune(args));
        let message = plain.refused(code);
        assert_eq!(message.lines().count(), 1, "{message}");
        let json = said(&mut tcptune(["--json"].iter().chain(args)));
        assert_eq!((json.code, json.stdout.as_str()), (Some(code), ""), "{json:?}");
        let error: serde_json::Value = serde_json::from_str(&json.stderr).expect("JSON");
        assert_eq!(error["status"], code, "{error}");
        let whole = format!("{}{}", error["error"].as_str().expect("text"), error["hint"].as_str().unwrap_or_default());
        assert_eq!(message.replace("tcptune: ", "").replace("; ", ""), whole.replace("; ", ""), "{error}");
    }
}

#[test]
fn a_value_that_is_no_utf_8_names_its_flag() {
    let refused = said(tcptune(["run", "--log-file"]).arg(OsString::from_vec(b"/tmp/\xff".to_vec())).arg("true"));
    assert!(refused.refused(2).contains("--log-file"), "{refused:?}");
}

/// What a program that prints its environment has of ours, byte by byte. Of the library that is not there the loader
/// complains on standard error.
fn ours(command: &mut Command) -> Vec<u8> {
    let output = command.output().expect("it starts");
    let is_ours = |line: &&[u8]| line.starts_with(b"LD_PRELOAD") || line.starts_with(b"TCPTUNE_");
    let mut variables: Vec<_> = output.stdout.split(|byte| *byte == 0).filter(is_ours).collect();
    variables.sort_unstable();
    variables.join(&0)
}

#[test]
fn what_is_printed_for_a_shell_is_what_run_sets() {
    let before = OsString::from_vec(b"/x/caf\xe9's \\lib!.so".to_vec());
    let settings = ["--keepidle", "77", "--log-file", "/tmp/a 'b' \"c\" $d \\e !f `g`\nh*"];
    let with = |args: &[&str]| {
        let mut command = tcptune(args.iter().copied());
        command.env("LD_PRELOAD", &before).env_remove("TCPTUNE_LIBRARY");
        command.arg("--library").arg(crate::harness::library());
        command
    };
    let set = ours(with(&["run"]).args(settings).args(["env", "-0"]));
    assert!(set.windows(before.len()).any(|bytes| bytes == before.as_bytes()), "{:?}", String::from_utf8_lossy(&set));
    for shell in ["sh", "bash", "dash", "zsh", "fish"] {
        let directory = directory();
        let lines = directory.path().join("lines");
        let output = with(&["env", "--shell", shell]).args(settings).output().expect("it starts");
        fs::write(&lines, output.stdout).expect("written");
        let mut command = Command::new(shell);
        let found = ours(clean(&mut command).args(["-c", &format!(". {}; env -0", lines.display())]));
        assert_eq!(found, set, "{shell}: {:?}", String::from_utf8_lossy(&found));
    }
}
