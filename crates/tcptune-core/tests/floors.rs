//! Data goes one way: a file imports from its own floor or from a lower one, and no two files import each other, by
//! whatever way round. Unit tests may look anywhere.

use std::collections::{BTreeMap, BTreeSet};
use std::fs;
use std::path::Path;

/// From the top down.
const FLOORS: [&str; 4] = ["sockets", "settings", "options", "system"];

/// Which files each file of the tree imports.
type Imports = BTreeMap<String, BTreeSet<String>>;

/// The modules named in the code of a file, `crate::FLOOR::FILE`, without its unit tests and comments.
fn modules(text: &str) -> BTreeSet<String> {
    let code = text.split("#[cfg(test)]").next().unwrap_or_default();
    let code: String =
        code.lines().filter(|line| !line.trim_start().starts_with("//")).flat_map(|l| [l, "\n"]).collect();
    let part = |text: &str| text.chars().take_while(|c| c.is_alphanumeric() || *c == '_').collect::<String>();
    let of_path = |path: &str| {
        let floor = part(path);
        let file = path.get(floor.len()..)?.strip_prefix("::")?;
        Some(format!("{floor}/{}", part(file)))
    };
    code.split("crate::").skip(1).filter_map(of_path).collect()
}

/// Of a file, or of all that are in a folder.
fn code(path: &Path) -> String {
    if !path.is_dir() {
        return fs::read_to_string(path).expect("UTF-8");
    }
    fs::read_dir(path).expect("a folder").map(|entry| code(&entry.expect("an entry").path())).collect()
}

fn imports(root: &Path) -> Imports {
    let mut imports = Imports::new();
    for floor in FLOORS {
        for entry in fs::read_dir(root.join(floor)).expect("a floor") {
            let path = entry.expect("an entry").path();
            let stem = path.file_stem().expect("a file").to_string_lossy().into_owned();
            imports.insert(format!("{floor}/{stem}"), modules(&code(&path)));
        }
    }
    imports
}

fn height(file: &str) -> usize {
    let (floor, _) = file.split_once('/').expect("FLOOR/FILE");
    FLOORS.iter().rev().position(|name| *name == floor).unwrap_or_else(|| panic!("{file} is on no floor"))
}

/// Imports from a higher floor; options and system do not know each other.
fn upward(imports: &Imports) -> Vec<String> {
    let upward = |from: &str, to: &str| height(to) > height(from) || (from.starts_with("options/") && height(to) == 0);
    let of_file = |(from, to): (&String, &BTreeSet<String>)| {
        to.iter().filter(|to| upward(from, to)).map(|to| format!("{from} imports {to}")).collect::<Vec<_>>()
    };
    imports.iter().flat_map(of_file).collect()
}

/// A way from a file back to itself.
fn circle(imports: &Imports) -> Option<Vec<String>> {
    fn walk(imports: &Imports, way: &mut Vec<String>, done: &mut BTreeSet<String>) -> Option<Vec<String>> {
        let last = way.last()?.clone();
        for next in imports.get(&last).into_iter().flatten().filter(|next| **next != last) {
            if let Some(start) = way.iter().position(|file| file == next) {
                return Some(way[start..].to_vec());
            }
            if done.insert(next.clone()) {
                way.push(next.clone());
                if let Some(found) = walk(imports, way, done) {
                    return Some(found);
                }
                way.pop();
            }
        }
        None
    }
    let mut done = BTreeSet::new();
    imports.keys().find_map(|file| walk(imports, &mut vec![file.clone()], &mut done))
}

#[test]
fn a_file_imports_from_its_own_floor_or_from_below() {
    let imports = imports(&Path::new(env!("CARGO_MANIFEST_DIR")).join("src"));
    assert!(imports.values().map(BTreeSet::len).sum::<usize>() > 50, "the imports are found: {imports:#?}");
    assert_eq!(upward(&imports), [""; 0]);
    assert_eq!(circle(&imports), None, "these files import each other");
}

#[test]
fn the_top_has_few_entries() {
    let src = Path::new(env!("CARGO_MANIFEST_DIR")).join("src");
    assert!(fs::read_dir(src).expect("src").count() <= 10);
}

#[test]
fn what_goes_the_wrong_way_is_found() {
    let tree = |files: &[(&str, &str)]| files.iter().map(|(file, text)| ((*file).to_owned(), modules(text))).collect();
    let good: Imports = tree(&[
        ("sockets/apply", "use crate::settings::rules::Rules;\nuse crate::options::{self, table};"),
        (
            "settings/rules",
            "use crate::system::files;\n// crate::sockets::apply\n#[cfg(test)]\nuse crate::sockets::apply;",
        ),
    ]);
    assert_eq!((upward(&good), circle(&good)), (vec![], None));
    let up: Imports = tree(&[("settings/rules", "fn f() { crate::sockets::apply::f() }")]);
    assert_eq!(upward(&up), ["settings/rules imports sockets/apply"]);
    let round: Imports = tree(&[
        ("settings/a", "use crate::settings::b::B;"),
        ("settings/b", "use crate::settings::c::{C, D};"),
        ("settings/c", "use crate::settings::a::A;"),
    ]);
    assert_eq!(circle(&round), Some(["settings/a", "settings/b", "settings/c"].map(String::from).to_vec()));
}
