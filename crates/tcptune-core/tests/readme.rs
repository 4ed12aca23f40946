//! The README's table of settings is the option table. `BLESS=1 cargo test -p tcptune-core` writes it anew.

use std::fmt::Write;
use std::fs;

use tcptune_core::options::table::{DOCS, OPTIONS, PREFIX, Since};

const README: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/../../README.md");
const BEGIN: &str = "<!-- settings: written by `BLESS=1 cargo test -p tcptune-core` -->\n";
const END: &str = "<!-- end of settings -->";

fn table() -> String {
    let mut table = String::from("| Variable | Value | Meaning | Source |\n| --- | --- | --- | --- |\n");
    for (option, doc) in OPTIONS.iter().zip(&DOCS) {
        let aliases = option.names().skip(1).fold(String::new(), |text, alias| text + "<br>`" + PREFIX + alias + "`");
        let accepted = option.kind.accepted(option.range);
        let kernel = if option.since == Since::NONE { String::new() } else { format!(", Linux {}", option.since) };
        let (name, help, source) = (option.name(), doc.help, doc.source);
        writeln!(table, "| `{PREFIX}{name}`{aliases} | {accepted} | {help} | {source}{kernel} |").expect("a string");
    }
    table
}

#[test]
fn the_readme_has_the_option_table() {
    let readme = fs::read_to_string(README).expect("README.md");
    let (before, rest) = readme.split_once(BEGIN).expect("the table's beginning");
    let (present, after) = rest.split_once(END).expect("the table's end");
    if std::env::var_os("BLESS").is_some() {
        fs::write(README, format!("{before}{BEGIN}{}{END}{after}", table())).expect("written");
    } else {
        assert_eq!(present, table(), "README.md is not in step: BLESS=1 cargo test -p tcptune-core");
    }
}
