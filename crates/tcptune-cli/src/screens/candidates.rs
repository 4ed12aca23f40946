//! What a shell offers in place of a value.

use clap_complete::engine::{ArgValueCandidates, ArgValueCompleter, CompletionCandidate};

/// Stands for the names of files.
const FILES: &str = "files";

/// These words, each with what it means.
pub fn words(list: fn() -> Vec<(String, String)>) -> ArgValueCandidates {
    let candidate = |(word, help): (String, String)| CompletionCandidate::new(word).help(Some(help.into()));
    ArgValueCandidates::new(move || list().into_iter().map(candidate).collect())
}

/// What depends on the word as it is so far. A shell lists files itself.
pub fn completed(list: fn(&str) -> Vec<(String, String)>) -> ArgValueCompleter {
    ArgValueCompleter::new(move |word: &std::ffi::OsStr| {
        let Some(word) = word.to_str().filter(|word| !word.contains('/')) else { return vec![all_files()] };
        let candidate = |(word, help): (String, String)| CompletionCandidate::new(word).help(Some(help.into()));
        list(word).into_iter().filter(|(known, _)| known.starts_with(word)).map(candidate).collect()
    })
}

/// Files.
pub fn files() -> ArgValueCompleter {
    ArgValueCompleter::new(|_: &std::ffi::OsStr| vec![all_files()])
}

fn all_files() -> CompletionCandidate {
    CompletionCandidate::new("").tag(Some(FILES.into()))
}

/// Whether it stands for them.
pub fn is_files(candidate: &CompletionCandidate) -> bool {
    candidate.get_tag().is_some_and(|tag| tag.to_string() == FILES)
}
