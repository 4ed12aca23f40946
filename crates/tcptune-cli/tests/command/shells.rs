//! Completion in bash, zsh and fish, each in a terminal, with the files as the packages install them.

use std::fs;
use std::os::unix::fs::symlink;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use crate::harness::{TCPTUNE, clean, directory, installed, said, tcptune};

/// A program that is in PATH, has a completion of its own, and runs.
const PROGRAM: &str = "quaintprogram";

/// A shell in a terminal of tmux(1), whose screen can be read.
struct Terminal {
    home: TempDir,
    program: Child,
}

impl Terminal {
    /// `file` is where the completion is installed, and `setup` the shell's own file.
    fn start(shell: &str, command: &str, file: &str, setup: (&str, &str)) -> Self {
        let home = directory();
        let put = |name: &str, text: &str| {
            let path = home.path().join(name);
            fs::create_dir_all(path.parent().expect("a directory")).expect("made");
            fs::write(path, text).expect("written");
        };
        put(file, said(&mut tcptune(["completions", shell])).ok());
        put(setup.0, setup.1);
        put("a file.conf", "keepidle = 60\n");
        let bin = home.path().join("bin");
        fs::create_dir(&bin).expect("made");
        symlink(TCPTUNE, bin.join("tcptune")).expect("linked");
        let sleep = PathBuf::from(said(Command::new("sh").args(["-c", "command -v sleep"])).ok());
        let program = installed(&sleep, &bin.join(PROGRAM));
        let program = Command::new(program).arg("60").stdin(Stdio::null()).spawn().expect("it starts");
        let terminal = Self { home, program };
        terminal.tmux(&["-f", "/dev/null", "new-session", "-d", "-x", "150", "-y", "60", command]);
        terminal.shows("a prompt", &["ready>"]);
        terminal
    }

    fn tmux(&self, args: &[&str]) -> String {
        let home = self.home.path();
        let path = std::env::join_paths(
            std::iter::once(home.join("bin")).chain(std::env::split_paths(&std::env::var_os("PATH").expect("set"))),
        );
        let mut tmux = Command::new("tmux");
        clean(&mut tmux).arg("-S").arg(home.join("socket")).args(args).current_dir(home).env("HOME", home);
        tmux.env("ZDOTDIR", home)
            .env("XDG_CONFIG_HOME", home)
            .env("XDG_DATA_HOME", home)
            .env("PATH", path.expect("a path"));
        said(&mut tmux).ok().to_owned()
    }

    /// Types this on an empty line.
    fn types(&self, keys: &str) {
        // No C-c: it would end a completion that still goes on, or be taken for later.
        self.tmux(&["send-keys", "C-u"]);
        self.tmux(&["send-keys", "C-l"]);
        self.shows("an empty screen", &["ready>"]);
        self.tmux(&["send-keys", "-l", keys]);
    }

    fn screen(&self) -> String {
        self.tmux(&["capture-pane", "-p", "-J"])
    }

    /// Waits for a screen with all of these.
    fn shows(&self, what: &str, wanted: &[&str]) {
        let deadline = Instant::now() + Duration::from_secs(30);
        loop {
            let screen = self.screen();
            if wanted.iter().all(|text| screen.contains(text)) {
                return;
            }
            assert!(Instant::now() < deadline, "{what}: {wanted:?} in\n{screen}");
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Terminal {
    fn drop(&mut self) {
        let socket = self.home.path().join("socket");
        let _ = Command::new("tmux").arg("-S").arg(socket).arg("kill-server").stderr(Stdio::null()).status();
        let _ = self.program.kill();
        let _ = self.program.wait();
    }
}

/// What is possible is offered, whichever shell asks.
fn completes(terminal: &Terminal) {
    let pid = terminal.program.id().to_string();
    let (most_of_it, _) = pid.split_at(pid.len() - 1);
    let file = terminal.home.path().join("a").display().to_string();
    for (keys, wanted) in [
        // Short form
        ("tcptune --keepi\t\t", &["--keepidle", "--keepintvl"][..]),
        ("tcptune --keepidle 60 --keepc\t", &["--keepcnt"]),
        ("tcptune quaintp\t", &["tcptune quaintprogram"]),
        ("tcptune insp\t", &["tcptune inspect"]),
        // Values
        ("tcptune --profile fast\t", &["--profile fast-fail"]),
        ("tcptune --profile=fast\t", &["--profile=fast-fail"]),
        ("tcptune explain --congestion ren\t", &["--congestion reno"]),
        ("tcptune run --precedence pro\t", &["--precedence program"]),
        (&*format!("tcptune --config {file}\t"), &["a\\ file.conf"]),
        // Programs, their own arguments, and processes
        ("tcptune run quaintp\t", &["tcptune run quaintprogram"]),
        ("tcptune --keepidle=60 quaintprogram --stra\t", &["quaintprogram --strange-flag"]),
        ("tcptune run -- quaintprogram --stra\t", &["run -- quaintprogram --strange-flag"]),
        ("tcptune inspect quaintp\t", &["tcptune inspect quaintprogram"]),
        (&*format!("tcptune check {most_of_it}\t\t"), &[&pid]),
    ] {
        terminal.types(keys);
        terminal.shows(keys, wanted);
    }
}

#[test]
fn bash_completes() {
    let setup =
        format!("PS1='ready> '\n. /usr/share/bash-completion/bash_completion\ncomplete -W --strange-flag {PROGRAM}\n");
    assert!(Path::new("/usr/share/bash-completion/bash_completion").exists(), "bash-completion is there");
    completes(&Terminal::start(
        "bash",
        "bash --noprofile --rcfile .bashrc -i",
        "bash-completion/completions/tcptune",
        (".bashrc", &setup),
    ));
}

#[test]
fn zsh_completes() {
    let setup = format!(
        "PS1='ready> '\nfpath=($HOME/site-functions $fpath)\nautoload -Uz compinit\ncompinit -u -d $HOME/dump\n\
         _quaint() {{ compadd -- --strange-flag }}\ncompdef _quaint {PROGRAM}\n"
    );
    completes(&Terminal::start("zsh", "zsh -d -i", "site-functions/_tcptune", (".zshrc", &setup)));
}

#[test]
fn fish_completes() {
    let setup = format!(
        "set fish_greeting\nfunction fish_prompt; echo -n 'ready> '; end\ncomplete -c {PROGRAM} -l strange-flag\n"
    );
    completes(&Terminal::start(
        "fish",
        "fish -i",
        "fish/vendor_completions.d/tcptune.fish",
        ("fish/config.fish", &setup),
    ));
}
