//! "It has no effect", of docs/troubleshooting.md: each fault is staged, and the question that finds it is asked.

use std::fs;
use std::path::Path;
use std::process::{Command, Stdio};

use crate::checks::Waiting;
use crate::harness::{clean, compiled, directory, library, said, tcptune};

/// What a command says, whatever its status.
fn says(args: &[&str]) -> String {
    let said = said(&mut tcptune(args));
    said.stdout + &said.stderr
}

#[test]
fn each_question_of_no_effect_finds_its_fault() {
    let directory = directory();
    let check = |command: &mut Command| {
        let waiting = Waiting::start(command.stderr(Stdio::null()));
        says(&["check", &waiting.0.id().to_string()])
    };
    let cat = |list: &Path| {
        let mut command = Command::new("cat");
        clean(&mut command).env("LD_PRELOAD", list).env("TCPTUNE_KEEPIDLE", "60");
        command
    };

    // 1. It is not in the process.
    let fixed = compiled(directory.path(), "fixed", &["-static"]);
    assert!(says(&["check", fixed.to_str().expect("UTF-8")]).contains("static"));
    let lost = check(tcptune(["run", "--force", "--keepidle", "60", "env", "-u", "LD_PRELOAD", "cat"]).env("A", "b"));
    assert!(lost.contains("it was started without it in LD_PRELOAD, or has lost it since"), "{lost}");
    let missing = check(&mut cat(Path::new("/nosuch/libtcptune.so")));
    assert!(missing.contains("/nosuch/libtcptune.so, which its file system lacks"), "{missing}");

    // 2. The settings did not arrive, or have a typo.
    let none = check(cat(library()).env_remove("TCPTUNE_KEEPIDLE"));
    assert!(none.contains("no setting that is about sockets"), "{none}");
    let typo = check(cat(library()).env("TCPTUNE_KEEPCTN", "3"));
    assert!(typo.contains("did you mean TCPTUNE_KEEPCNT?") && typo.contains("KEEPIDLE=60s (environment)"), "{typo}");

    // 3. They mean something else.
    let explained = says(&["explain", "--user-timeout", "30"]);
    assert!(explained.contains("30ms") && explained.contains("was 30s meant?"), "{explained}");

    // 4. A rule leaves the peer out.
    let config = directory.path().join("rules.conf");
    fs::write(&config, "keepidle = 60\ndst=127.0.0.0/8 : off\n").expect("written");
    let config = config.to_str().expect("UTF-8");
    let which = says(&["explain", "--config", config, "--dst", "127.0.0.1", "--port", "80"]);
    assert!(which.contains("dst=127.0.0.0/8 : off  wins"), "{which}");

    // The page asks what is asked here.
    let page = Path::new(env!("CARGO_MANIFEST_DIR")).join("../../docs/troubleshooting.md");
    let page = fs::read_to_string(page).expect("the page");
    for command in
        ["tcptune check PID", "tcptune explain --config FILE --dst ADDRESS --port PORT", "tcptune inspect PID"]
    {
        assert!(page.contains(command), "{command}");
    }
}
