//! `tcptune enable` and `tcptune disable`: settings of a systemd service, in a drop-in file (systemd.unit(5)).

mod dropin;

use std::io::{self, ErrorKind};
use std::path::{Path, PathBuf};
use std::process::{self, ExitCode};

use clap::{Arg, ArgAction, ArgMatches, Command, value_parser};
use serde_json::json;
use tcptune_core::options::ways::Ways;

use crate::screens::error::{Error, say};
use crate::screens::output::Output;
use crate::settings::flags::{self, Given};
use crate::system::root;
use crate::ways::preload;
use crate::ways::preload::environment::Environment;
use crate::ways::preload::library::{self, Library};

/// Below the directory of a unit.
const FILE: &str = "50-tcptune.conf";
/// Where a drop-in file stays, and (`--runtime`) where it is gone after the next start of the machine.
const PERSISTENT: &str = "etc/systemd/system";
const RUNTIME: &str = "run/systemd/system";
/// Where unit files are, the generated ones among them (systemd.unit(5)).
const UNITS: [&str; 9] = [
    PERSISTENT,
    RUNTIME,
    "run/systemd/transient",
    "run/systemd/generator",
    "run/systemd/generator.early",
    "run/systemd/generator.late",
    "usr/local/lib/systemd/system",
    "usr/lib/systemd/system",
    "lib/systemd/system",
];

fn unit() -> Arg {
    Arg::new("unit").value_name("UNIT").required(true).help("The service, with or without .service")
}

fn root() -> Arg {
    Arg::new("root")
        .long("root")
        .value_name("DIR")
        .value_parser(value_parser!(PathBuf))
        .default_value("/")
        .help("Write below this directory, for the image of another machine")
}

/// Flags of `enable`.
pub fn enable_command() -> Command {
    let runtime =
        Arg::new("runtime").long("runtime").action(ArgAction::SetTrue).help("Only until the machine restarts");
    let dry_run =
        Arg::new("dry-run").long("dry-run").action(ArgAction::SetTrue).help("Print the file, and write nothing");
    let command = Command::new("enable")
        .about("Tune a systemd service from its next start on")
        .after_help(
            "Writes a drop-in file, UNIT.service.d/50-tcptune.conf, with LD_PRELOAD and the settings as environment of the \
             service; `tcptune disable UNIT` takes it away. The service itself is not restarted.",
        )
        .arg(unit())
        .args([runtime, dry_run, root()]);
    let examples = "  \
  tcptune enable legacy --keepidle 60 --connect-timeout 3s
  tcptune enable legacy --profile cloud-nat --runtime && systemctl restart legacy";
    flags::with(command.arg(library::arg()), |_| true, Ways::ALL, examples)
}

/// Flags of `disable`.
pub fn disable_command() -> Command {
    Command::new("disable")
        .about("Take away what `enable` has written")
        .after_help("Examples:\n  tcptune disable legacy && systemctl restart legacy")
        .arg(unit())
        .arg(root())
}

/// Writes the drop-in file of a unit.
pub fn enable(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let unit = Unit::named(matches)?;
    let given = Given::new(matches)?;
    given.settings()?;
    if given.iter().next().is_none() {
        return Err(Error::usage("no setting is given").hint("see tcptune enable --help"));
    }
    let library = Library::find(matches, None)?.path;
    let environment = Environment::of(&given);
    let list = preload::list(unit.preload().as_deref(), &library);
    let text = dropin::text(&list, environment.variables());
    let directory = if matches.get_flag("runtime") { RUNTIME } else { PERSISTENT };
    let file = unit.file(directory);
    if !matches.get_flag("dry-run") {
        unit.write(directory, &text).map_err(|error| cannot("written", &file, &error))?;
        unit.reload();
        if !unit.is_known() {
            say(&format!(
                "no unit file of {} is there: what is written holds once there is one; systemctl list-unit-files lists \
                 those there are",
                unit.name
            ));
        }
        if !unit.has(&library) {
            say(&format!(
                "{} has no {}: put the library there, or name it by --library",
                unit.root.display(),
                library.display()
            ));
        }
    }
    if out.is_json() {
        out.print_json(&json!({ "file": file, "text": text }))?;
    } else if matches.get_flag("dry-run") {
        out.print(format!("{}:\n{}", file.display(), text.trim_end()))?;
    } else {
        out.print(format!(
            "{} is written; it holds from the next start on: systemctl restart {}",
            file.display(),
            unit.name
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// Takes it away.
pub fn disable(matches: &ArgMatches, out: &Output) -> Result<ExitCode, Error> {
    let unit = Unit::named(matches)?;
    let mut removed = Vec::new();
    for directory in [PERSISTENT, RUNTIME] {
        let file = unit.file(directory);
        match unit.remove(directory) {
            Ok(()) => removed.push(file),
            Err(error) if error.kind() == ErrorKind::NotFound => {}
            Err(error) => return Err(cannot("removed", &file, &error)),
        }
    }
    let Some(file) = removed.first() else {
        return Err(Error::failed(format!("{} is not enabled: it has no {FILE}", unit.name)));
    };
    unit.reload();
    if out.is_json() {
        out.print_json(&json!({ "removed": removed }))?;
    } else {
        out.print(format!(
            "{} is removed; it holds until the next start: systemctl restart {}",
            file.display(),
            unit.name
        ))?;
    }
    Ok(ExitCode::SUCCESS)
}

/// A service, below the root of a machine.
struct Unit {
    name: String,
    root: PathBuf,
}

impl Unit {
    fn named(matches: &ArgMatches) -> Result<Self, Error> {
        let given = matches.get_one::<String>("unit").map_or("", String::as_str);
        let root = matches.get_one::<PathBuf>("root").cloned().unwrap_or_else(|| "/".into());
        let name = dropin::service(given).ok_or_else(|| {
            Error::usage(format!("{given:?} is no service")).hint("a name such as nginx or getty@tty1.service")
        })?;
        Ok(Self { name, root })
    }

    fn file(&self, directory: &str) -> PathBuf {
        self.root.join(self.directory(directory)).join(FILE)
    }

    fn directory(&self, directory: &str) -> PathBuf {
        Path::new(directory).join(format!("{}.d", self.name))
    }

    fn write(&self, directory: &str, text: &str) -> io::Result<()> {
        let directory = root::make(root::open(&self.root)?, &self.directory(directory))?;
        root::write(directory, FILE, text)
    }

    fn remove(&self, directory: &str) -> io::Result<()> {
        Ok(root::remove(root::open(&self.root)?, &self.directory(directory).join(FILE))?)
    }

    /// Whether the machine has a file, or a link, of this name. A name with `$LIB` is the loader's to complete.
    fn has(&self, file: &Path) -> bool {
        file.to_string_lossy().contains('$') || root::open(&self.root).is_ok_and(|root| root::has(root, file))
    }

    /// Whether it has a unit file, or (`NAME@INSTANCE`) its template has one.
    fn is_known(&self) -> bool {
        let template = self.name.split_once('@').map(|(name, _)| format!("{name}@.service"));
        let names = [Some(self.name.clone()), template];
        let mut files = UNITS.iter().flat_map(|directory| names.iter().flatten().map(move |name| (directory, name)));
        files.any(|(directory, name)| self.has(&Path::new(directory).join(name)))
    }

    /// Whether it is one of the machine that runs now.
    fn is_live(&self) -> bool {
        self.root == Path::new("/") && Path::new("/run/systemd/system").is_dir()
    }

    /// The `LD_PRELOAD` that the service has already, which ours would take the place of.
    fn preload(&self) -> Option<std::ffi::OsString> {
        let output = self.is_live().then(|| {
            let show = ["show", "--property=Environment", "--value", &self.name];
            process::Command::new("systemctl").args(show).output()
        });
        let environment = String::from_utf8(output?.ok()?.stdout).ok()?;
        let words = shlex::split(environment.trim())?;
        words.iter().find_map(|word| word.strip_prefix("LD_PRELOAD=")).map(Into::into)
    }

    /// Lets systemd read its files again.
    fn reload(&self) {
        if self.is_live() {
            let _ = process::Command::new("systemctl").arg("daemon-reload").status();
        }
    }
}

fn cannot(done: &str, file: &Path, error: &io::Error) -> Error {
    let failed = Error::failed(format!("{} cannot be {done}: {error}", file.display()));
    if error.kind() == ErrorKind::PermissionDenied { failed.hint("be root") } else { failed }
}
