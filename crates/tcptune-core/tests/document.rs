//! The tables of docs/settings.md are the option table. `BLESS=1 cargo test -p tcptune-core` writes them anew.

use std::fmt::Write;
use std::fs;

use tcptune_core::options::group::Group;
use tcptune_core::options::table::{DOCS, OPTIONS, PREFIX, Since};
use tcptune_core::options::ways::Ways;

const DOCUMENT: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../docs/settings.md");
const BEGIN: &str = "<!-- table: written by `BLESS=1 cargo test -p tcptune-core` -->\n";
const END: &str = "<!-- end of table -->";

fn table(group: Group) -> String {
    let mut table = String::from("| Variable | Value | Meaning | Ways | Source |\n| --- | --- | --- | --- | --- |\n");
    for (option, doc) in OPTIONS.iter().zip(&DOCS).filter(|(_, doc)| doc.group == group) {
        let aliases = option.names().skip(1).fold(String::new(), |text, alias| text + "<br>`" + PREFIX + alias + "`");
        let accepted = option.kind.accepted(option.range);
        let kernel = if option.since == Since::NONE { String::new() } else { format!(", Linux {}", option.since) };
        let ways = if doc.ways == Ways::ALL { "all".to_owned() } else { doc.ways.to_string() };
        let (name, help, source) = (option.name(), doc.help, doc.source);
        writeln!(table, "| `{PREFIX}{name}`{aliases} | {accepted} | {help} | {ways} | {source}{kernel} |")
            .expect("a string");
    }
    table
}

/// The document with its tables as they must be: each stands in the section of its group.
fn document(present: &str) -> String {
    let mut text = String::new();
    let mut rest = present;
    for group in Group::ALL {
        let heading = format!("\n## {}\n", group.title());
        let (before, section) = rest.split_once(&heading).unwrap_or_else(|| panic!("no section {}", group.title()));
        let (introduction, rest_of_it) = section.split_once(BEGIN).expect("the table's beginning");
        let (_, after) = rest_of_it.split_once(END).expect("the table's end");
        assert!(!introduction.contains("\n## "), "{}: the table is in another section", group.title());
        write!(text, "{before}{heading}{introduction}{BEGIN}{}{END}", table(group)).expect("a string");
        rest = after;
    }
    text + rest
}

#[test]
fn the_document_has_the_option_table() {
    let present = fs::read_to_string(DOCUMENT).expect("docs/settings.md");
    let wanted = document(&present);
    if std::env::var_os("BLESS").is_some() {
        fs::write(DOCUMENT, wanted).expect("written");
    } else {
        assert_eq!(present, wanted, "docs/settings.md is not in step: BLESS=1 cargo test -p tcptune-core");
    }
}

#[test]
fn each_group_has_settings() {
    for group in Group::ALL {
        assert!(DOCS.iter().any(|doc| doc.group == group), "{}", group.title());
    }
}
