//! One row of the option table is all that a new option takes: a row that is added to a copy of the table is found in
//! everything that is made of it.

use std::fs;
use std::path::{Path, PathBuf};
use std::process::Command;

use crate::harness::{clean, directory, library, said};

const TABLE: &str = "crates/tcptune-core/src/options/table.rs";

/// A socket option that no row has: `SO_RCVLOWAT`.
const ROW: &str = r#"    {
        "FICTITIOUS" or "INVENTED", Kind::Count, (1, 9), socket(libc::SO_RCVLOWAT, Stages::SOCKET),
        since: Since(2, 4, 0), source: "socket(7) SO_RCVLOWAT", ways: Ways::ALL, group: Group::Sending,
        "What no other row of the table does."
    }
"#;

/// The first setting that is no socket option: those stand last.
const FIRST_OWN: &str = "    {\n        \"CONNECT_TIMEOUT\"";

/// The files that git knows, with one row more, and what cargo makes of them.
struct Copy {
    root: PathBuf,
    made: PathBuf,
}

impl Copy {
    fn new(directory: &Path) -> Self {
        let project = Path::new(env!("CARGO_MANIFEST_DIR")).join("../..");
        let target = Path::new(env!("CARGO_TARGET_TMPDIR")).parent().expect("target directory");
        let (root, made) = (directory.join("project"), target.join("row"));
        let listed = Command::new("git").args(["ls-files", "-z"]).current_dir(&project).output().expect("git runs");
        for file in String::from_utf8(listed.stdout).expect("UTF-8").split_terminator('\0') {
            let (from, to) = (project.join(file), root.join(file));
            if from.is_file() {
                fs::create_dir_all(to.parent().expect("a directory")).expect("made");
                fs::copy(from, to).expect("copied");
            }
        }
        let table = fs::read_to_string(root.join(TABLE)).expect("the table");
        let (before, after) = table.split_once(FIRST_OWN).expect("the place for another socket option");
        fs::write(root.join(TABLE), format!("{before}{}{FIRST_OWN}{after}", ROW.trim_start_matches('\n')))
            .expect("written");
        Self { root, made }
    }

    /// cargo in the copy. What it makes of dependencies is kept for the next time; in the directory of this build it would
    /// take the place of what this build has made.
    fn cargo(&self, args: &[&str]) -> Command {
        let mut cargo = Command::new(env!("CARGO"));
        cargo.args(args).current_dir(&self.root).env("CARGO_TARGET_DIR", &self.made);
        cargo
    }

    fn run(&self, args: &[&str]) -> String {
        let ended = said(&mut self.cargo(args));
        assert_eq!(ended.code, Some(0), "{ended:#?}");
        ended.stdout
    }
}

#[test]
fn a_new_option_is_one_row() {
    let directory = directory();
    let copy = Copy::new(directory.path());
    copy.run(&["build", "--quiet", "--offline", "--locked", "--package", "tcptune-cli"]);
    let tcptune = |args: &[&str]| {
        said(clean(Command::new(copy.made.join("debug/tcptune")).args(args)).env("TCPTUNE_LIBRARY", library()))
            .ok()
            .to_owned()
    };

    let help = tcptune(&["run", "--help"]);
    assert!(help.contains("--fictitious <"), "{help}");
    let explained = tcptune(&["explain", "--invented", "3"]);
    assert!(
        explained.lines().any(|line| line.starts_with("FICTITIOUS ") && line.ends_with("--fictitious")),
        "{explained}"
    );
    let said_env = tcptune(&["env", "--fictitious", "3"]);
    assert!(said_env.contains("TCPTUNE_FICTITIOUS=3"), "{said_env}");
    assert!(tcptune(&["complete", "--", "tcptune", "run", "--fict"]).contains("--fictitious"));

    let man = copy.run(&[
        "run",
        "--quiet",
        "--offline",
        "--locked",
        "--package",
        "tcptune-core",
        "--example",
        "man",
        "2000-01-01",
    ]);
    assert!(man.contains("TCPTUNE_FICTITIOUS") && man.contains("What no other row"), "{man}");

    // The document is out of step, and is written anew.
    let document = ["test", "--quiet", "--offline", "--locked", "--package", "tcptune-core", "--test", "document"];
    assert_ne!(said(&mut copy.cargo(&document)).code, Some(0), "a row that the document lacks is noticed");
    assert_eq!(said(copy.cargo(&document).env("BLESS", "1")).code, Some(0));
    let settings = fs::read_to_string(copy.root.join("docs/settings.md")).expect("the document");
    let rows = settings.lines().filter(|line| line.contains("`TCPTUNE_FICTITIOUS`")).collect::<Vec<_>>();
    let [row] = rows.try_into().expect("one row");
    assert!(row.contains("1 to 9") && row.contains("socket(7) SO_RCVLOWAT"), "{row}");
}
