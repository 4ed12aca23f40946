//! Programs that start another one: which one that is, or how they lose the variables on the way.

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::OsStrExt;
use std::path::{Path, PathBuf};

/// What a program does with those it starts.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Behind {
    /// It becomes this one, or starts it, with the environment as it is.
    Program(Vec<OsString>),
    /// The variables do not come through.
    Lost(Loss),
}

/// How the variables are lost.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Loss {
    /// It starts the program with an environment of its own. The command, for the message.
    Environment(String),
    /// It asks another process to start it.
    Manager(String),
    /// In a container, which has files of its own.
    Container(String),
    /// In a sandbox, which has files of its own.
    Sandbox(String),
    /// Another root directory, which lacks the library.
    Root(PathBuf),
}

/// A program whose arguments are options, a few operands, and then another program.
struct Wrapper {
    name: &'static str,
    /// Its short options that take a value.
    short: &'static str,
    /// Its long options whose value may be the next word.
    long: &'static [&'static str],
    /// So many operands stand before the program.
    operands: usize,
}

const fn wrapper(name: &'static str, short: &'static str, long: &'static [&'static str], operands: usize) -> Wrapper {
    Wrapper { name, short, long, operands }
}

const WRAPPERS: &[Wrapper] = &[
    wrapper("nice", "n", &["adjustment"], 0),
    wrapper("timeout", "ks", &["kill-after", "signal"], 1),
    wrapper("setsid", "", &[], 0),
    wrapper("nohup", "", &[], 0),
    wrapper("stdbuf", "ioe", &["input", "output", "error"], 0),
    wrapper("ionice", "cnpPu", &["class", "classdata"], 0),
    wrapper("chrt", "TPD", &["sched-runtime", "sched-period", "sched-deadline"], 1),
    wrapper("taskset", "", &[], 1),
    wrapper("time", "fo", &["format", "output"], 0),
    wrapper("env", "uCS", &["unset", "chdir", "split-string"], 0),
    wrapper(
        "xargs",
        "adEILnPs",
        &["arg-file", "delimiter", "max-lines", "max-args", "max-procs", "max-chars", "process-slot-var"],
        0,
    ),
    wrapper(
        "setpriv",
        "",
        &[
            "reuid",
            "regid",
            "groups",
            "inh-caps",
            "ambient-caps",
            "bounding-set",
            "securebits",
            "pdeathsig",
            "selinux-label",
            "apparmor-profile",
            "ruid",
            "euid",
            "rgid",
            "egid",
        ],
        0,
    ),
    wrapper("runuser", "ugG", &["user", "group", "supp-group"], 0),
    wrapper("chroot", "", &["groups", "userspec"], 1),
];

/// The words behind the options and operands, and the options themselves.
fn split<'a>(wrapper: &Wrapper, args: &'a [OsString]) -> (&'a [OsString], &'a [OsString]) {
    let mut at = 0;
    while let Some(arg) = args.get(at).map(|arg| arg.as_bytes()).filter(|arg| arg.starts_with(b"-")) {
        at += 1;
        let takes_next = match arg.strip_prefix(b"--") {
            Some(b"") => break,
            Some(long) => wrapper.long.iter().any(|name| name.as_bytes() == long),
            // The first letter that takes a value has the rest of the word, or the next word.
            None => {
                let valued = arg.iter().position(|letter| wrapper.short.as_bytes().contains(letter));
                valued.is_some_and(|at| at + 1 == arg.len())
            }
        };
        at += usize::from(takes_next);
    }
    args.split_at(at.min(args.len()))
}

impl Behind {
    /// None if the program starts no other, as far as its arguments say.
    pub fn of(program: &Path, args: &[OsString], library: Option<&Path>) -> Option<Self> {
        let name = program.file_name()?.to_str()?;
        let is = |word: &str| args.iter().any(|arg| arg == word);
        let lost = |loss| Some(Self::Lost(loss));
        match name {
            "sudo" | "doas" | "pkexec" if !args.is_empty() => lost(Loss::Environment(name.to_owned())),
            "su" | "runuser" if is("-") || is("-l") || is("--login") => {
                let how = if is("-l") { "-l" } else { "-" };
                lost(Loss::Environment(format!("{name} {how}")))
            }
            "setpriv" if is("--reset-env") => lost(Loss::Environment("setpriv --reset-env".to_owned())),
            "systemd-run" if !args.is_empty() && !is("--scope") => lost(Loss::Manager(name.to_owned())),
            "docker" | "podman" | "nerdctl" => {
                let how = ["run", "exec", "create", "start"].into_iter().find(|how| is(how))?;
                lost(Loss::Container(format!("{name} {how}")))
            }
            "flatpak" | "snap" if is("run") => lost(Loss::Sandbox(format!("{name} run"))),
            "sh" | "bash" | "dash" | "ash" | "ksh" | "zsh" => shell(args).map(Self::Program),
            _ => {
                let wrapper = WRAPPERS.iter().find(|wrapper| wrapper.name == name)?;
                let (options, rest) = split(wrapper, args);
                match name {
                    "env" => env(options, rest),
                    "chroot" => chroot(rest.first()?, library?),
                    "runuser" if !options.iter().any(|option| option.as_bytes().starts_with(b"-u")) => None,
                    _ => program_of(rest.get(wrapper.operands..)?),
                }
            }
        }
    }
}

fn program_of(words: &[OsString]) -> Option<Behind> {
    (!words.is_empty()).then(|| Behind::Program(words.to_vec()))
}

/// `sh -c 'exec program'`, without anything that a shell would expand.
fn shell(args: &[OsString]) -> Option<Vec<OsString>> {
    let at = args.iter().position(|arg| arg.as_bytes().starts_with(b"-") && arg.as_bytes().ends_with(b"c"))?;
    let text = args.get(at + 1)?.to_str()?;
    let words = shlex::split(text)?;
    let (first, words) = words.split_first()?;
    let plain = !text.contains(['$', '`', ';', '&', '|', '<', '>', '(', ')', '{', '*', '?', '[', '~', '\n']);
    (first == "exec" && plain && !words.is_empty()).then(|| words.iter().map(OsString::from).collect())
}

/// env(1): `env -i`, `env -u NAME`, `env NAME=VALUE… program`, `env -S 'NAME=VALUE program'`.
fn env(options: &[OsString], rest: &[OsString]) -> Option<Behind> {
    const PRELOAD: &str = "LD_PRELOAD";
    let mut words = Vec::new();
    let (mut empty, mut unset) = (false, false);
    let mut at = 0;
    while let Some(option) = options.get(at) {
        at += 1;
        let next = options.get(at);
        let (name, value) = match option.to_str()? {
            "-u" | "--unset" => ("u", next?.to_str()?),
            "-S" | "--split-string" => ("S", next?.to_str()?),
            "-" | "-i" | "--ignore-environment" => ("i", ""),
            word => match (word.strip_prefix("-u"), word.strip_prefix("-S"), word.strip_prefix("--unset=")) {
                (Some(name), ..) | (.., Some(name)) => ("u", name),
                (_, Some(words), _) => ("S", words),
                _ => continue,
            },
        };
        match name {
            "u" => unset |= value == PRELOAD,
            "S" => words.extend(shlex::split(value)?.into_iter().map(OsString::from)),
            _ => empty = true,
        }
    }
    let leading_options = words.iter().take_while(|word| word.as_bytes().starts_with(b"-")).count();
    words.drain(..leading_options);
    words.extend_from_slice(rest);
    let assignments = words.iter().take_while(|word| word.as_bytes().contains(&b'=')).count();
    let program: Vec<_> = words.drain(assignments..).collect();
    let preload = words.iter().rev().find_map(|word| word.as_bytes().strip_prefix(b"LD_PRELOAD="));
    let how = match preload {
        Some(list) if crate::ways::preload::has_library(OsStr::from_bytes(list)) => None,
        Some(_) => Some("env LD_PRELOAD=…"),
        None if empty => Some("env -i"),
        None if unset => Some("env -u LD_PRELOAD"),
        None => None,
    };
    match how {
        _ if program.is_empty() => None,
        Some(how) => Some(Behind::Lost(Loss::Environment(how.to_owned()))),
        None => Some(Behind::Program(program)),
    }
}

/// chroot(1): the library must be in the tree at the same path.
fn chroot(root: &OsStr, library: &Path) -> Option<Behind> {
    let inside = Path::new(root).join(library.strip_prefix("/").unwrap_or(library));
    (!inside.exists()).then(|| Behind::Lost(Loss::Root(root.into())))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn behind(line: &str) -> Option<Behind> {
        let words: Vec<OsString> = shlex::split(line).expect(line).into_iter().map(OsString::from).collect();
        Behind::of(Path::new(&words[0]), &words[1..], Some(Path::new("/nosuch/libtcptune.so")))
    }

    #[test]
    fn the_program_behind_is_found() {
        for line in [
            "/usr/bin/nice curl x",
            "nice -n 5 curl x",
            "nice -n5 curl x",
            "nice -5 curl x",
            "nice --adjustment 5 curl x",
            "nice --adjustment=5 curl x",
            "timeout 5 curl x",
            "timeout -k 1 -s INT 5 curl x",
            "timeout --kill-after=1 5 curl x",
            "setsid -w curl x",
            "stdbuf -oL -e 0 curl x",
            "nohup curl x",
            "taskset -c 0 curl x",
            "chrt -r 5 curl x",
            "env curl x",
            "env A=b C=d curl x",
            "env -u A -C / B=c curl x",
            "env -S 'A=b curl' x",
            "env -SA=b -- curl x",
            "env -i LD_PRELOAD=/l/libtcptune.so curl x",
            "xargs -n 1 -0 curl x",
            "setpriv --reuid 5 --no-new-privs curl x",
            "runuser -u nobody -- curl x",
            "sh -c 'exec curl x'",
            "bash -ec 'exec curl x'",
        ] {
            assert_eq!(behind(line), Some(Behind::Program(vec!["curl".into(), "x".into()])), "{line}");
        }
        for line in [
            "nice",
            "timeout 5",
            "env",
            "env A=b",
            "xargs",
            "sh x",
            "sh -c 'curl x'",
            "sh -c 'exec $x'",
            "curl -c exec",
        ] {
            assert_eq!(behind(line), None, "{line}");
        }
    }

    #[test]
    fn what_loses_the_variables_is_known() {
        let environment = |how: &str| Loss::Environment(how.to_owned());
        for (line, loss) in [
            ("sudo -u x curl", environment("sudo")),
            ("/usr/bin/doas curl", environment("doas")),
            ("pkexec curl", environment("pkexec")),
            ("su - nobody -c curl", environment("su -")),
            ("su nobody -l", environment("su -l")),
            ("runuser -l nobody -c curl", environment("runuser -l")),
            ("env -i curl", environment("env -i")),
            ("env - curl", environment("env -i")),
            ("env -u LD_PRELOAD curl", environment("env -u LD_PRELOAD")),
            ("env --unset=LD_PRELOAD curl", environment("env -u LD_PRELOAD")),
            ("env LD_PRELOAD=libx.so curl", environment("env LD_PRELOAD=…")),
            ("setpriv --reset-env --reuid 5 curl", environment("setpriv --reset-env")),
            ("systemd-run --user curl", Loss::Manager("systemd-run".to_owned())),
            ("docker run --rm image curl", Loss::Container("docker run".to_owned())),
            ("podman exec -it name curl", Loss::Container("podman exec".to_owned())),
            ("flatpak run org.example.App", Loss::Sandbox("flatpak run".to_owned())),
            ("snap run app", Loss::Sandbox("snap run".to_owned())),
            ("chroot --userspec=1:1 /srv curl", Loss::Root("/srv".into())),
        ] {
            assert_eq!(behind(line), Some(Behind::Lost(loss)), "{line}");
        }
        for line in ["sudo", "su nobody", "docker ps", "systemd-run --scope curl", "flatpak list"] {
            assert!(!matches!(behind(line), Some(Behind::Lost(_))), "{line}");
        }
    }
}
