//! The library, preloaded: the list of `LD_PRELOAD`.

pub mod environment;
mod lib;
pub mod library;

use std::ffi::{OsStr, OsString};
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::Path;

use crate::program::elf::is_sanitizer;

/// Its name.
const FILE: &str = "libtcptune.so";

const fn separates(byte: u8) -> bool {
    matches!(byte, b' ' | b':')
}

/// Whether an entry of the list is the library, be it another copy: two would tune each socket twice.
fn is_library(entry: &[u8]) -> bool {
    Path::new(OsStr::from_bytes(entry)).file_name() == Some(OsStr::new(FILE))
}

/// The list with the library in it, once: in its old place, or in front of all but the run-time libraries of sanitizers,
/// which have to be the first. All else stays as it is.
pub fn list(existing: Option<&OsStr>, library: &Path) -> OsString {
    let existing = existing.unwrap_or_default().as_bytes();
    let library = library.as_os_str().as_bytes();
    let mut list = Vec::new();
    let mut there = false;
    let mut sanitizers = 0;
    // With the separator that follows each entry.
    for part in existing.split_inclusive(|byte| separates(*byte)) {
        let entry = part.strip_suffix(b" ").or(part.strip_suffix(b":")).unwrap_or(part);
        if !is_library(entry) {
            list.extend_from_slice(part);
        } else if !there {
            list.extend_from_slice(library);
            list.extend_from_slice(&part[entry.len()..]);
            there = true;
        }
        if is_sanitizer(entry) {
            sanitizers = list.len();
        }
    }
    if !there {
        let rest = list.split_off(sanitizers);
        if sanitizers > 0 && !list.last().copied().is_some_and(separates) {
            list.push(b':');
        }
        list.extend_from_slice(library);
        if rest.iter().any(|byte| !separates(*byte)) {
            list.push(b':');
            list.extend(rest);
        }
    }
    OsString::from_vec(list)
}

/// The list without the library.
pub fn without(list: &OsStr) -> OsString {
    let entries =
        list.as_bytes().split(|byte| separates(*byte)).filter(|entry| !entry.is_empty() && !is_library(entry));
    OsString::from_vec(entries.collect::<Vec<_>>().join(&b':'))
}

/// Whether the list has the library.
pub fn has_library(list: &OsStr) -> bool {
    list.as_bytes().split(|byte| separates(*byte)).any(is_library)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_existing_list_is_kept_and_the_library_is_in_it_once() {
        let library = Path::new("/l/libtcptune.so");
        for (existing, want) in [
            (None, "/l/libtcptune.so"),
            (Some(""), "/l/libtcptune.so"),
            (Some(" : "), "/l/libtcptune.so"),
            (Some("liba.so"), "/l/libtcptune.so:liba.so"),
            (Some("liba.so:/x/libb.so libc.so"), "/l/libtcptune.so:liba.so:/x/libb.so libc.so"),
            (Some("/l/libtcptune.so"), "/l/libtcptune.so"),
            (Some("liba.so /l/libtcptune.so:libb.so"), "liba.so /l/libtcptune.so:libb.so"),
            (Some("liba.so:libtcptune.so"), "liba.so:/l/libtcptune.so"),
            (Some("/old/libtcptune.so liba.so /older/libtcptune.so"), "/l/libtcptune.so liba.so "),
            (Some("/x/notlibtcptune.so"), "/l/libtcptune.so:/x/notlibtcptune.so"),
            (Some("libasan.so.8"), "libasan.so.8:/l/libtcptune.so"),
            (Some("/x/libtsan.so.2 libx.so"), "/x/libtsan.so.2 /l/libtcptune.so:libx.so"),
            (Some("libx.so:libasan.so.8"), "libx.so:libasan.so.8:/l/libtcptune.so"),
        ] {
            let once = list(existing.map(OsStr::new), library);
            assert_eq!(once, want, "{existing:?}");
            assert_eq!(list(Some(&once), library), want, "{existing:?}, again");
            assert!(has_library(&once), "{existing:?}");
            assert!(!has_library(&without(&once)), "{existing:?}");
        }
        assert!(!has_library(OsStr::new("/x/notlibtcptune.so:a b")));
        assert_eq!(without(OsStr::new("a.so:/l/libtcptune.so b.so")), "a.so:b.so");
    }
}
