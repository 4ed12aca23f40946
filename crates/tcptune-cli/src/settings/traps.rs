//! Values that are accepted, and hardly what was meant.

use std::path::Path;

use tcptune_core::options::table::{OPTIONS, Own, Target};

use super::flags::{Given, Origin, name};

impl Given {
    /// A line about each, for people.
    pub fn traps(&self) -> Vec<String> {
        let flags = self.iter().filter(|said| said.origin == Origin::Flag);
        let traps = flags.filter_map(|said| {
            let opt = OPTIONS.get(said.row)?;
            let flag = name(opt);
            match opt.target {
                Target::Own(Own::LogFile) => Some(format!("--{flag}={}: {}", said.text, no_directory(&said.text)?)),
                _ => Some(format!("--{flag}={}: {}", said.text, bare(opt.name(), &said.text)?)),
            }
        });
        traps.collect()
    }
}

/// A number without a unit, far below what anyone wants.
fn bare(name: &str, text: &str) -> Option<String> {
    let number: i64 = text.trim().parse().ok().filter(|number| *number > 0)?;
    match name {
        "USER_TIMEOUT" if number < 1000 => Some(format!(
            "a bare number is in milliseconds, so connections end after {number} ms without an acknowledgement; was {number}s meant?"
        )),
        "KEEPIDLE" if number < 5 => Some(format!(
            "a bare number is in seconds, so each connection that idles for {number} s is probed; was {number}m meant?"
        )),
        _ => None,
    }
}

fn no_directory(file: &str) -> Option<String> {
    let directory = Path::new(file).parent().filter(|directory| !directory.as_os_str().is_empty())?;
    let missing = !directory.is_dir();
    missing.then(|| format!("there is no directory {}, so nothing would be logged", directory.display()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_bare_number_with_a_trap() {
        for (name, text, meant) in
            [("USER_TIMEOUT", "30", "30s"), ("USER_TIMEOUT", "999", "999s"), ("KEEPIDLE", "2", "2m")]
        {
            assert!(bare(name, text).is_some_and(|line| line.contains(meant)), "{name}={text}");
        }
        for (name, text) in [
            ("USER_TIMEOUT", "30s"),
            ("USER_TIMEOUT", "30ms"),
            ("USER_TIMEOUT", "1000"),
            ("USER_TIMEOUT", "auto"),
            ("USER_TIMEOUT", "0"),
            ("KEEPIDLE", "5"),
            ("KEEPIDLE", "1s"),
            ("KEEPCNT", "1"),
        ] {
            assert_eq!(bare(name, text), None, "{name}={text}");
        }
    }
}
