//! `tcptune run`: starts a program with its sockets tuned, by the way that reaches it.

use std::convert::Infallible;
use std::ffi::{CString, OsStr, OsString};
use std::io;
use std::os::unix::ffi::OsStrExt;
use std::path::Path;
use std::process::ExitCode;
use std::ptr;

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use tcptune_core::options::ways::Ways;
use tcptune_core::settings::settled::Backend;

use crate::commands::attach;
use crate::program::{self, Around, Obstacle, Program};
use crate::screens::candidates;
use crate::screens::error::{Error, say};
use crate::screens::output::Output;
use crate::settings::flags::{self, Given};
use crate::system::{inherited, variables};
use crate::ways::cgroup::order::Order;
use crate::ways::cgroup::own;
use crate::ways::choice::{Choice, Way};
use crate::ways::notify::{self, policy::Policy};
use crate::ways::preload::environment::{Environment, Shell};
use crate::ways::preload::library::{self, Library};

const EXAMPLES: &str = "  \
  tcptune run --connect-timeout 3s --keepidle 60 -- legacy-server --port 80
  tcptune --profile fast-fail curl https://example.com
  tcptune run --dry-run --rule 'dst=10.0.0.0/8 : connect_timeout=1' psql";

const EXIT_STATUS: &str = "\
Exit status: that of the program; 1 (failed), 2 (wrong usage or a wrong setting), 126 (the program cannot be started or \
tuned), 127 (no such program).";

/// Its flags.
pub fn command() -> Command {
    let command =
        Command::new("run")
            .about("Run a program with its TCP sockets tuned")
            .override_usage(
                "tcptune run [OPTIONS] [--] COMMAND [ARGUMENT]...\n       tcptune [OPTIONS] [--] COMMAND [ARGUMENT]...",
            )
            .arg(
                Arg::new("command")
                    .value_name("COMMAND")
                    .required(true)
                    .num_args(1..)
                    .trailing_var_arg(true)
                    .value_parser(value_parser!(OsString))
                    .add(candidates::completed(program::known))
                    .help("The program, and its arguments"),
            )
            .arg(
                Arg::new("force")
                    .long("force")
                    .action(ArgAction::SetTrue)
                    .help("Run the program also if the way that is taken does not reach it"),
            )
            .arg(
                Arg::new("dry-run")
                    .long("dry-run")
                    .action(ArgAction::SetTrue)
                    .help("Print what would be run, as lines for a shell, and run nothing"),
            )
            .arg(
                Arg::new("io-uring").long("io-uring").value_name("WORD").value_parser(["allow", "deny"]).help(
                    "With --backend notify: deny lets io_uring_setup fail, so that programs use calls that are seen",
                ),
            )
            .arg(library::arg())
            .after_long_help(EXIT_STATUS);
    flags::with(command, |_| true, Ways::ALL, EXAMPLES)
}

/// Flags of `shell`.
pub fn shell_command() -> Command {
    let command = Command::new("shell")
        .about("Start an interactive shell in which every program is tuned; its prompt says so")
        .long_about("Starts $SHELL, or /bin/sh, with the library and these settings in its environment.")
        .arg(library::arg());
    flags::with(
        command,
        |_| true,
        Ways::ALL,
        "  tcptune shell --connect-timeout 3s\n  tcptune shell --profile fast-fail --log info",
    )
}

/// Does it.
pub fn run_shell(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let shell = variables::own().shell().unwrap_or(OsStr::new("/bin/sh"));
    let name = Path::new(shell).file_name().and_then(OsStr::to_str).unwrap_or_default();
    let mut words = vec![shell.to_owned()];
    // The prompt is set after the shell has read its own files, which set one as well.
    let prompt = match name {
        "fish" => {
            words.push("-C".into());
            words.push("functions -c fish_prompt _tcptune_prompt; function fish_prompt; echo -n '(tcptune) '; _tcptune_prompt; end".into());
            None
        }
        "bash" => Some(("PROMPT_COMMAND", "PS1=\"(tcptune) $PS1\"; unset PROMPT_COMMAND")),
        _ => Some(("PS1", "(tcptune) $ ")),
    };
    start(&words, prompt, false, matches, out)
}

/// Starts the program: if all goes well, it takes the place of this process and this never returns.
pub fn run(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let words: Vec<OsString> = matches.get_many("command").unwrap_or_default().cloned().collect();
    start(&words, None, matches.get_flag("dry-run"), matches, out)
}

/// Starts a program, with one more variable perhaps.
fn start(
    words: &[OsString],
    variable: Option<(&str, &str)>,
    dry: bool,
    matches: &ArgMatches,
    out: &Output,
) -> Result<ExitCode, Error> {
    let given = Given::new(matches)?;
    given.settings()?;
    for trap in given.traps() {
        say(&trap);
    }
    let (name, args) = words.split_first().ok_or_else(|| Error::usage("a program is missing"))?;
    let search = variables::own().path();
    let path = program::find(name, search).map_err(|error| or_subcommand(name, error))?;
    let mut around = Around { search, preload: variables::own().ld_preload(), library: None };
    let library = Library::find(matches, Program::look(path.clone(), args, around).elf.as_ref());
    around.library = library.as_ref().ok().map(|library| (library.file.as_path(), &library.elf));
    let program = Program::look(path.clone(), args, around);
    let environment = Environment::of(&given);
    let (policy, wrong) = Policy::new(environment.settings(), &program.process());
    let mut choice = Choice::new(&program, policy.first(), Order::that_sets_all(&given).as_ref());
    refuse(&program, &choice, matches!(matches.try_get_one("force"), Ok(Some(true))))?;
    if choice.way != Way::Preload && !dry {
        notify::heed(&wrong, policy.first());
    }
    if choice.way == Way::Cgroup
        && !dry
        && let Err(error) = in_a_cgroup(&given)
    {
        if policy.first().backend != Backend::Auto {
            return Err(error);
        }
        say(&format!("{error}; notify in its place"));
        choice = choice.instead(Way::Notify, policy.first());
    }
    let also = library.as_ref().ok().filter(|_| choice.way == Way::Preload).and_then(Library::also_leads_to);
    let mut environment = match choice.way {
        Way::Preload => environment.preloading(&library?.path),
        Way::Notify | Way::Cgroup => environment.announcing(choice.way.name()),
    };
    if let Some((name, value)) = variable {
        environment.set(name, value);
    }
    if dry {
        if choice.way == Way::Cgroup {
            return attach::dry_run(&Order::of_run(&given)?, out);
        }
        return dry_run(&environment, &choice, also.as_deref(), &path, words, out).map(|()| ExitCode::SUCCESS);
    }
    if !choice.left_out.is_empty() && choice.way != Way::Cgroup {
        say(&format!("{} does not set {}", choice.way, choice.left_out.join(", ")));
    }
    if choice.way == Way::Notify {
        let no_io_uring = matches!(matches.try_get_one::<String>("io-uring"), Ok(Some(word)) if word == "deny");
        notify::enter(program.file(), policy, no_io_uring)?;
    }
    environment.put();
    Err(become_it(&path, words, program.elf.is_none()))
}

/// Puts this process into a cgroup that tunes it; says what is left out there.
fn in_a_cgroup(given: &Given) -> Result<(), Error> {
    let order = Order::of_run(given)?;
    order.warn()?;
    own::enter(&order)
}

/// What would be run, as lines for a shell.
fn dry_run(
    environment: &Environment,
    choice: &Choice,
    also: Option<&str>,
    path: &Path,
    words: &[OsString],
    out: &Output,
) -> Result<(), Error> {
    if out.is_json() {
        let words: Vec<_> = words.iter().map(|word| word.to_string_lossy()).collect();
        return out.print_json(&json!({
            "way": choice.way.name(),
            "reason": choice.reason,
            "left_out": choice.left_out,
            "environment": environment.json(),
            "other_kinds": also,
            "program": path.to_string_lossy(),
            "command": words,
        }));
    }
    out.print(format!("# {}: {}", choice.way, choice.reason))?;
    if !choice.left_out.is_empty() {
        out.print(format!("# does not set {}", choice.left_out.join(", ")))?;
    }
    if let Some(also) = also {
        out.print(format!("# {also}"))?;
    }
    let words: Vec<_> = words.iter().map(|word| Shell::Posix.quoted(word)).collect();
    let run: &[u8] = if choice.way == Way::Preload { b"exec " } else { b"exec tcptune run -- " };
    out.print_bytes(&environment.lines(Shell::Posix))?;
    out.print_bytes(&[run, words.join(&b' ').as_slice()].concat())
}

/// Returns only if the program cannot be started.
fn become_it(path: &Path, words: &[OsString], may_be_script: bool) -> Error {
    let Err(error) = execute(path, words, may_be_script);
    let message = format!("{}: cannot be started: {error}", path.display());
    match error.raw_os_error() {
        Some(libc::ENOENT) => Error::not_found(message),
        _ => Error::not_executable(message),
    }
}

/// Refuses a program that the chosen way does not reach, before anything is started.
fn refuse(program: &Program, choice: &Choice, force: bool) -> Result<(), Error> {
    if choice.obstacles.is_empty() {
        return Ok(());
    }
    let shown: Vec<_> = program.chain.iter().map(|path| path.display().to_string()).collect();
    let shown = shown.join(" → ");
    let mut messages: Vec<_> = choice.obstacles.iter().map(|obstacle| format!("{shown}: {obstacle}")).collect();
    if force {
        for message in messages {
            say(&format!("{message}; started all the same"));
        }
        return Ok(());
    }
    if let Some(last) = messages.last_mut() {
        last.push_str("; not started");
    }
    let advice = choice.obstacles.iter().find_map(Obstacle::advice);
    messages.push(advice.map_or(String::new(), |advice| advice + "; ") + "--force starts it all the same");
    Err(Error::not_executable(messages))
}

/// A program that is not there may have been meant as a subcommand.
fn or_subcommand(name: &OsStr, error: Error) -> Error {
    let whole = crate::command();
    let names = whole.get_subcommands().filter(|subcommand| !subcommand.is_hide_set()).map(Command::get_name);
    let name = name.to_string_lossy();
    let near = names.map(|known| (strsim::damerau_levenshtein(&name, known), known)).min();
    if near.is_some_and(|(distance, _)| distance == 0) {
        return error.hint(format!("a subcommand comes before its flags: tcptune {name} …"));
    }
    match near.filter(|(distance, known)| *distance <= known.len() / 3) {
        Some((_, known)) => error.hint(format!("did you mean the subcommand {known}?")),
        None => error,
    }
}

/// Becomes the program, with its signals and descriptors as they were inherited. std's `exec` would change signals.
fn execute(path: &Path, words: &[OsString], may_be_script: bool) -> io::Result<Infallible> {
    let text = |word: &OsStr| CString::new(word.as_bytes()).map_err(io::Error::from);
    let file = text(path.as_os_str())?;
    let mut arguments: Vec<_> = words.iter().map(|word| text(word)).collect::<Result<_, _>>()?;
    inherited::close_again();
    let error = replace(&file, &arguments);
    if error.raw_os_error() != Some(libc::ENOEXEC) || !may_be_script {
        return Err(error);
    }
    // A script without `#!` is the shell's (execvp(3)).
    let shell = c"/bin/sh";
    arguments.splice(0..1, [shell.to_owned(), file]);
    Err(replace(shell, &arguments))
}

fn replace(file: &std::ffi::CStr, arguments: &[CString]) -> io::Error {
    let pointers: Vec<_> = arguments.iter().map(|argument| argument.as_ptr()).chain([ptr::null()]).collect();
    // SAFETY: C strings and a null-terminated list of them, which live until the call fails.
    unsafe { libc::execv(file.as_ptr(), pointers.as_ptr()) };
    io::Error::last_os_error()
}

/// The arguments, with `run` put in where the first that is no flag is not a subcommand either.
pub fn without_run(mut args: Vec<OsString>, whole: &Command) -> Vec<OsString> {
    let of_run: Vec<_> = command().get_arguments().cloned().collect();
    let known: Vec<_> = of_run.iter().chain(whole.get_arguments()).cloned().collect();
    let at = behind_flags(&args, 1, &known);
    let long = |arg: &OsString| arg.to_str().map(|arg| arg.split('=').next().unwrap_or(arg).to_owned());
    let flags = args.get(1..at).unwrap_or_default();
    let mut is_run = flags.iter().filter_map(long).any(|long| of_run.iter().any(|arg| is_named(arg, &long)));
    if let Some(long) = args.get(at).and_then(long) {
        // A mistyped flag is most likely one of `run`, whose parser then suggests the right one.
        is_run |= long.starts_with("--") && !matches!(&*long, "--help" | "--version");
    }
    // clap adds `help` itself, when it parses.
    let is_subcommand = |arg: &OsString| arg == "help" || whole.find_subcommand(arg).is_some();
    let is_flag = |arg: &OsString| arg.as_bytes().starts_with(b"-");
    if is_run || args.get(at).is_some_and(|arg| !is_subcommand(arg) && !is_flag(arg)) {
        args.insert(1, "run".into());
    }
    args
}

/// Where the first word is that is none of these flags, nor the value of one.
pub fn behind_flags(args: &[OsString], mut at: usize, known: &[Arg]) -> usize {
    while let Some(arg) = args.get(at).and_then(|arg| arg.to_str()) {
        let (long, has_value) = arg.split_once('=').map_or((arg, false), |(long, _)| (long, true));
        let Some(found) = known.iter().find(|known| is_named(known, long)) else { break };
        let takes_value = matches!(found.get_action(), ArgAction::Set | ArgAction::Append);
        at += if takes_value && !has_value { 2 } else { 1 };
    }
    at
}

fn is_named(arg: &Arg, flag: &str) -> bool {
    let Some(long) = flag.strip_prefix("--") else { return false };
    arg.get_long_and_visible_aliases().is_some_and(|names| names.contains(&long))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn completed(line: &str) -> String {
        let args = ["tcptune"].into_iter().chain(line.split_whitespace()).map(OsString::from).collect();
        let args = without_run(args, &crate::command());
        args[1..].iter().map(|arg| arg.to_string_lossy()).collect::<Vec<_>>().join(" ")
    }

    #[test]
    fn run_may_be_left_out() {
        for line in [
            "curl -v",
            "--keepidle 60 curl --keepcnt 5",
            "--keepidle=60 --keepalive-intvl 5 explain",
            "--json --keepidle run",
            "--color never curl",
            "-- explain",
            "--force curl",
            "--keepidle 60",
            "--keepidle 60 --help",
            "--rule dst=::1 --nosuch curl",
            "--keepidel 60 curl",
        ] {
            assert_eq!(completed(line), format!("run {line}"));
        }
    }

    #[test]
    fn what_is_for_a_subcommand_or_wrong_stays() {
        for line in [
            "",
            "run curl",
            "explain --keepidle 60",
            "--json explain",
            "help run",
            "--color never check 1",
            "--color=never check 1",
            "--help",
            "--version",
            "-V",
            "-x",
        ] {
            assert_eq!(completed(line), line);
        }
    }
}
