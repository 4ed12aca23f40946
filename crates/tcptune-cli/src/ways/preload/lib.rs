//! `$LIB` of ld.so(8): the directory of a system's libraries, for programs of each kind another one. One path with it in
//! `LD_PRELOAD` serves programs of 64 and of 32 bits.

use std::ffi::OsStr;
use std::os::unix::ffi::{OsStrExt, OsStringExt};
use std::path::{Path, PathBuf};

const TOKENS: [&str; 2] = ["$LIB", "${LIB}"];

/// What a loader fills in: `lib/x86_64-linux-gnu`, `lib64`, `lib`. It was built into it as the directory for what belongs
/// to glibc, so the loader itself lies there. That of musl fills in nothing.
pub fn of(loader: &Path) -> Option<PathBuf> {
    let is_glibc = loader.file_name()?.as_bytes().starts_with(b"ld-linux");
    is_glibc.then(|| loader.canonicalize().ok()).flatten().and_then(|file| within(file.parent()?))
}

/// A directory of the system without `/` or `/usr` in front.
fn within(directory: &Path) -> Option<PathBuf> {
    let inner = directory.strip_prefix("/usr").or_else(|_| directory.strip_prefix("/")).ok()?;
    (!inner.as_os_str().is_empty()).then(|| inner.to_owned())
}

/// The token in a path, if there is one.
pub fn token(path: &Path) -> Option<&'static str> {
    let bytes = path.as_os_str().as_bytes();
    TOKENS.into_iter().find(|token| bytes.windows(token.len()).any(|window| window == token.as_bytes()))
}

/// The path with `lib` in place of the token.
pub fn filled_in(path: &Path, lib: &Path) -> PathBuf {
    let (mut rest, mut filled) = (path.as_os_str().as_bytes(), Vec::new());
    while !rest.is_empty() {
        if let Some(token) = TOKENS.iter().find(|token| rest.starts_with(token.as_bytes())) {
            filled.extend_from_slice(lib.as_os_str().as_bytes());
            rest = &rest[token.len()..];
        } else {
            filled.push(rest[0]);
            rest = &rest[1..];
        }
    }
    std::ffi::OsString::from_vec(filled).into()
}

/// The path of a file with `$LIB` in it, if it lies in such a directory.
pub fn with_token(file: &Path, lib: &Path) -> Option<PathBuf> {
    let directory = file.parent()?.as_os_str().as_bytes().strip_suffix(lib.as_os_str().as_bytes())?;
    let prefix = Path::new(OsStr::from_bytes(directory.strip_suffix(b"/")?));
    Some(prefix.join(TOKENS[0]).join(file.file_name()?))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_loader_lies_where_lib_leads() {
        for (directory, lib) in [
            ("/usr/lib/x86_64-linux-gnu", Some("lib/x86_64-linux-gnu")),
            ("/lib/i386-linux-gnu", Some("lib/i386-linux-gnu")),
            ("/usr/lib64", Some("lib64")),
            ("/lib32", Some("lib32")),
            ("/", None),
        ] {
            assert_eq!(within(Path::new(directory)), lib.map(PathBuf::from), "{directory}");
        }
        assert_eq!(of(Path::new("/lib/ld-musl-x86_64.so.1")), None);
        assert_eq!(of(Path::new("/nonexistent/ld-linux.so.2")), None);
    }

    #[test]
    fn lib_is_filled_in_and_put_back() {
        let lib = Path::new("lib/x86_64-linux-gnu");
        let file = Path::new("/opt/x/lib/x86_64-linux-gnu/libtcptune.so");
        for path in ["/opt/x/$LIB/libtcptune.so", "/opt/x/${LIB}/libtcptune.so"] {
            assert!(token(Path::new(path)).is_some());
            assert_eq!(filled_in(Path::new(path), lib), file);
        }
        assert_eq!(token(file), None);
        assert_eq!(with_token(file, lib), Some("/opt/x/$LIB/libtcptune.so".into()));
        assert_eq!(
            with_token(Path::new("/usr/lib64/libtcptune.so"), Path::new("lib64")),
            Some("/usr/$LIB/libtcptune.so".into())
        );
        for elsewhere in ["/opt/x/lib/libtcptune.so", "/opt/xlib/x86_64-linux-gnu/libtcptune.so", "libtcptune.so"] {
            assert_eq!(with_token(Path::new(elsewhere), lib), None, "{elsewhere}");
        }
    }
}
