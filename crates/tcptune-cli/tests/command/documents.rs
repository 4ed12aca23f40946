//! Help and man pages have every row of the option table.

use std::fs;
use std::process::Command;

use tcptune_core::options::table::{OPTIONS, Opt};

use crate::harness::{directory, said, tcptune};

/// The flags of all rows, with their aliases.
fn flags() -> Vec<String> {
    let names = OPTIONS.iter().flat_map(Opt::names);
    let names = names.map(|name| if name == "RULES" { "RULE" } else { name });
    names.map(|name| name.to_ascii_lowercase().replace('_', "-")).collect()
}

fn has_all(what: &str, text: &str, before: &str) {
    for flag in flags() {
        let flag = format!("{before}{flag}");
        let is_there = text.match_indices(&flag).any(|(at, _)| {
            let next = text[at + flag.len()..].chars().next();
            next.is_none_or(|next| !next.is_ascii_alphanumeric() && next != '-')
        });
        assert!(is_there, "{what} lacks {flag}");
    }
}

#[test]
fn help_has_every_setting() {
    for subcommand in ["run", "env", "explain"] {
        has_all(subcommand, said(&mut tcptune([subcommand, "--help"])).ok(), "--");
    }
}

#[test]
fn man_pages_have_every_setting_and_no_fault() {
    let directory = directory();
    assert_eq!(said(tcptune(["man", "--date", "2026-01-31"]).arg(directory.path())).ok(), "");
    let mut names: Vec<_> = fs::read_dir(directory.path())
        .expect("pages")
        .map(|page| page.expect("a page").file_name().into_string().expect("UTF-8"))
        .collect();
    names.sort();
    for name in ["tcptune.1", "tcptune-run.1", "tcptune-inspect.1", "tcptune-profile-show.1"] {
        assert!(names.iter().any(|there| there == name), "{name}: {names:?}");
    }
    assert!(!names.iter().any(|name| name.starts_with("tcptune-help")), "{names:?}");
    for name in &names {
        let path = directory.path().join(name);
        let page = fs::read_to_string(&path).expect("a page");
        assert!(page.contains("2026-01-31") && page.contains("libtcptune\\fR(7)"), "{name}: {page}");
        assert_eq!(said(Command::new("mandoc").args(["-T", "lint", "-W", "warning"]).arg(&path)).ok(), "", "{name}");
        assert_eq!(page.matches(".ds Aq '").count(), 1, "{name}");
        for section in ["EXIT STATUS", "EXAMPLES", "SEE ALSO"] {
            let is_there = page.lines().any(|line| line.replace('"', "") == format!(".SH {section}"));
            let is_part = matches!(name.as_str(), "tcptune-profile-list.1" | "tcptune-profile-show.1");
            assert!(is_there || (is_part && section == "EXAMPLES"), "{name}: {section}");
        }
        assert!(page.contains(".SH FILES"), "{name}");
        // What it refers to is there.
        let words = page.replace("\\-", "-").replace("\\fB", "").replace("\\fR", "");
        for (at, _) in words.match_indices("(1)") {
            let start =
                words[..at].rfind(|c: char| !c.is_ascii_alphanumeric() && c != '-').map_or(0, |before| before + 1);
            let page = format!("{}.1", &words[start..at]);
            assert!(!page.starts_with("tcptune") || names.contains(&page), "{name} refers to {page}");
        }
        if matches!(name.as_str(), "tcptune-run.1" | "tcptune-env.1" | "tcptune-explain.1") {
            has_all(name, &page.replace("\\-", "-"), "--");
        }
    }
}

#[test]
fn help_is_short_or_long_and_has_examples() {
    let all = said(&mut tcptune(["--help"]));
    let (_, list) = all.ok().split_once("Commands:\n").expect("a list");
    let subcommands = list.lines().map_while(|line| line.strip_prefix("  ")?.split(' ').next());
    let mut seen = 0;
    for subcommand in subcommands.filter(|name| !matches!(*name, "help" | "")) {
        for help in ["-h", "--help"] {
            let text = said(&mut tcptune([subcommand, help]));
            assert!(text.ok().contains("Examples:\n  "), "{subcommand} {help}: {text:?}");
        }
        seen += 1;
    }
    assert!(seen >= 10, "{seen}: {list}");
    let short = said(&mut tcptune(["run", "-h"]));
    assert!(short.ok().lines().count() <= 45, "{}", short.stdout);
    for line in ["Keepalive            --keepidle 60  --keepcnt 4", "Packets              --dscp ef  --ttl 9"] {
        assert!(short.stdout.contains(line), "{line}: {}", short.stdout);
    }
    // Each of them is right.
    for line in
        short.stdout.lines().skip_while(|line| !line.starts_with("Settings (")).take_while(|line| !line.is_empty())
    {
        let Some((_, flags)) = line.split_once("  --") else { continue };
        for example in format!("--{flags}").split("  ") {
            let shell = format!("{} env {example} 2>&1 || true", crate::harness::TCPTUNE);
            let mut sh = Command::new("sh");
            let lines = said(
                crate::harness::clean(&mut sh).env("TCPTUNE_LIBRARY", crate::harness::library()).args(["-c", &shell]),
            );
            assert!(
                lines.ok().contains("export TCPTUNE_") && !lines.stdout.contains("tcptune:"),
                "{example}: {lines:?}"
            );
        }
    }
}
