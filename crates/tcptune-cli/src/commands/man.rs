//! Man pages, made of the definition of the command line.

use std::fs;
use std::io;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use clap::{Arg, ArgMatches, Command, value_parser};
use clap_mangen::Man;
use clap_mangen::roff::{Roff, bold, italic, roman};

use crate::screens::error::Error;
use crate::screens::output::Output;

/// Flags of `man`, which the release is built with.
pub fn command() -> Command {
    Command::new("man")
        .about("Write the man pages, one for each subcommand")
        .hide(true)
        .arg(Arg::new("date").long("date").value_name("YYYY-MM-DD").default_value("").help("The date in them"))
        .arg(
            Arg::new("directory")
                .value_name("DIRECTORY")
                .required(true)
                .value_parser(value_parser!(PathBuf))
                .help("Where to"),
        )
}

/// Writes the man pages.
pub fn run(matches: &ArgMatches, _out: &Output) -> Result<ExitCode, Error> {
    let directory = matches.get_one::<PathBuf>("directory").ok_or_else(|| Error::usage("a directory is missing"))?;
    let date = matches.get_one::<String>("date").map_or("", String::as_str);
    // `help SUBCOMMAND` has nothing to say that the page of the subcommand does not.
    let mut whole = crate::command().disable_help_subcommand(true);
    whole = whole.mut_subcommands(|of_it| of_it.disable_help_subcommand(true));
    whole.build();
    pages(&whole, date, directory)
        .map_err(|error| Error::failed(format!("{}: cannot be written: {error}", directory.display())))?;
    Ok(ExitCode::SUCCESS)
}

/// What every part of a page begins with, and a page needs once.
const APOSTROPHE: &str = ".ie \\n(.g .ds Aq \\(aq\n.el .ds Aq '\n";

fn pages(command: &Command, date: &str, directory: &Path) -> io::Result<()> {
    let page =
        Man::new(command.clone().mut_args(with_aliases)).date(date).source(concat!("tcptune ", clap::crate_version!()));
    let mut text = Vec::new();
    page.render_title(&mut text)?;
    page.render_name_section(&mut text)?;
    page.render_synopsis_section(&mut text)?;
    page.render_description_section(&mut text)?;
    page.render_options_section(&mut text)?;
    if command.has_subcommands() {
        page.render_subcommands_section(&mut text)?;
    }
    let mut rest = Roff::new();
    Behind::of(command).write(&mut rest);
    files(command, &mut rest);
    see_also(command, &mut rest);
    rest.to_writer(&mut text)?;
    // mandoc(1) warns of the line breaks that the generator writes between paragraphs.
    let text = String::from_utf8_lossy(&text).replace("\n.br\n\n.br\n", "\n.sp\n").replace(APOSTROPHE, "");
    fs::write(directory.join(page.get_filename()), format!("{APOSTROPHE}{text}"))?;
    visible(command).try_for_each(|of_it| pages(of_it, date, directory))
}

fn visible(command: &Command) -> impl Iterator<Item = &Command> {
    command.get_subcommands().filter(|command| !command.is_hide_set())
}

/// The text behind the options of a help screen, by what it is about.
#[derive(Default)]
struct Behind {
    notes: Vec<String>,
    exit_status: Option<String>,
    examples: Vec<String>,
}

/// Where a command has nothing else to say.
const EXIT_STATUS: &str = "0, 1 (failed), 2 (wrong usage or a wrong setting).";

impl Behind {
    fn of(command: &Command) -> Self {
        let text = command.get_after_long_help().or_else(|| command.get_after_help());
        let text = text.map_or(String::new(), ToString::to_string);
        let mut behind = Self::default();
        for part in text.split("\n\n") {
            if let Some(status) = part.strip_prefix("Exit status: ") {
                behind.exit_status = Some(status.to_owned());
            } else if let Some(examples) = part.strip_prefix("Examples:\n") {
                behind.examples = examples.lines().map(|line| line.trim_start().to_owned()).collect();
            } else if !part.is_empty() {
                behind.notes.push(part.to_owned());
            }
        }
        behind
    }

    fn write(&self, roff: &mut Roff) {
        if !self.notes.is_empty() {
            roff.control("SH", ["NOTES"]);
            for (i, note) in self.notes.iter().enumerate() {
                if i > 0 {
                    roff.control("PP", []);
                }
                roff.text([roman(note)]);
            }
        }
        roff.control("SH", ["EXIT STATUS"]);
        roff.text([roman(self.exit_status.as_deref().unwrap_or(EXIT_STATUS))]);
        if !self.examples.is_empty() {
            roff.control("SH", ["EXAMPLES"]);
            roff.control("EX", []);
            for line in &self.examples {
                roff.text([roman(line)]);
            }
            roff.control("EE", []);
        }
    }
}

/// Those that the command reads and writes.
fn files(command: &Command, roff: &mut Roff) {
    let takes_settings = command.get_arguments().any(|arg| arg.get_id() == "profile");
    let name = command.get_name();
    let settings =
        ("/etc/tcptune.conf", "Settings and rules for every program that the library is in; see libtcptune(7).");
    let profiles = [
        ("~/.config/tcptune/NAME.conf", "A profile of the user's own, in $XDG_CONFIG_HOME/tcptune if that is set."),
        ("/etc/tcptune/NAME.conf", "A profile of the machine's."),
    ];
    let mut all = Vec::new();
    if takes_settings || name == "tcptune" {
        all.push(settings);
    }
    if takes_settings || matches!(name, "tcptune" | "profile" | "list" | "show") {
        all.extend(profiles);
    }
    match name {
        "enable" | "disable" => all.push((
            "/etc/systemd/system/UNIT.service.d/50-tcptune.conf",
            "What is written or taken away; below /run/systemd/system with --runtime.",
        )),
        "check" | "stats" | "inspect" | "apply" => {
            all.push(("/proc/PID/", "What the kernel shows of a process (proc(5))."));
        }
        "attach" | "attached" | "detach" => all.push(("/sys/fs/cgroup/", "The cgroups (cgroups(7)).")),
        "completions" => all.push((
            "/usr/share/bash-completion/completions/tcptune",
            "As the packages install it; zsh and fish have theirs in directories of their own.",
        )),
        _ => {}
    }
    if name == "tcptune" {
        all.push((
            "/usr/share/doc/tcptune/docs/troubleshooting.md",
            "What to do, by symptom, as the packages install it; the other pages are beside it.",
        ));
    }
    if all.is_empty() {
        return;
    }
    roff.control("SH", ["FILES"]);
    for (file, about) in all {
        roff.control("TP", []);
        roff.text([italic(file)]);
        roff.text([roman(about)]);
    }
}

fn see_also(command: &Command, roff: &mut Roff) {
    let name = |command: &Command| command.get_display_name().unwrap_or_else(|| command.get_name()).to_owned();
    let own = name(command);
    let mut pages: Vec<_> = own.rmatch_indices('-').map(|(at, _)| (own[..at].to_owned(), "1")).collect();
    pages.extend(visible(command).map(|of_it| (name(of_it), "1")));
    let others: &[_] = match command.get_name() {
        "run" | "shell" | "env" => &[("seccomp", "2"), ("ld.so", "8")],
        "check" => &[("proc", "5"), ("ld.so", "8")],
        "inspect" | "apply" => &[("pidfd_getfd", "2"), ("sock_diag", "7"), ("ss", "8")],
        "attach" | "attached" | "detach" => &[("bpf", "2"), ("cgroups", "7")],
        "enable" | "disable" => &[("systemctl", "1"), ("systemd.unit", "5")],
        _ => &[],
    };
    let general = [("libtcptune", "7"), ("socket", "7"), ("tcp", "7")];
    let mut others = [others, &general].concat();
    others.sort_by_key(|(name, section)| (*section, *name));
    pages.extend(others.iter().map(|(name, section)| ((*name).to_owned(), *section)));
    roff.control("SH", ["SEE ALSO"]);
    let last = pages.len() - 1;
    for (i, (page, section)) in pages.iter().enumerate() {
        let comma = if i == last { "" } else { "," };
        roff.text([bold(page), roman(format!("({section}){comma}"))]);
    }
}

/// Other names of a flag, which the generator leaves out.
fn with_aliases(arg: Arg) -> Arg {
    let aliases: Vec<_> =
        arg.get_visible_aliases().unwrap_or_default().iter().map(|name| format!("--{name}")).collect();
    match arg.get_help() {
        Some(help) if !aliases.is_empty() => {
            let help = format!("{help} Also {}.", aliases.join(", "));
            arg.long_help(help)
        }
        _ => arg,
    }
}
