//! Text of others, such as names of processes and of files, as it may be written to a terminal: here only.

use std::borrow::Cow;
use std::fmt::Write;

/// What a terminal obeys, or what lets text look like other text: control characters, C1 among them; line and paragraph
/// separators; and what changes the direction of writing.
const fn is_unsafe(c: char) -> bool {
    matches!(c,
        '\0'..='\x1f' | '\x7f'..='\u{9f}' | '\u{61c}' | '\u{200e}' | '\u{200f}' | '\u{2028}'..='\u{202e}'
        | '\u{2066}'..='\u{2069}' | '\u{feff}')
}

/// With each such character as `\x1b` or `\u{202e}`.
pub fn safe(text: &str) -> Cow<'_, str> {
    escaped(text, |_| 0)
}

/// The same, of lines of text, and of those that are coloured.
pub fn safe_lines(text: &str, coloured: bool) -> Cow<'_, str> {
    escaped(text, |rest| match rest.as_bytes() {
        [b'\n' | b'\t', ..] => 1,
        [b'\x1b', b'[', parameters @ ..] if coloured => {
            // SGR of ECMA-48: no more than colours.
            let length = parameters.iter().take_while(|byte| byte.is_ascii_digit() || **byte == b';').count();
            if parameters.get(length) == Some(&b'm') { length + 3 } else { 0 }
        }
        _ => 0,
    })
}

/// In JSON each such character stands in a string, where it has an escape.
pub fn safe_json(text: String) -> String {
    if text.bytes().all(|byte| matches!(byte, b'\n' | b' '..=b'~')) {
        return text;
    }
    let mut safe = String::with_capacity(text.len());
    for c in text.chars() {
        if is_unsafe(c) && c != '\n' {
            let _ = write!(safe, "\\u{:04x}", u32::from(c));
        } else {
            safe.push(c);
        }
    }
    safe
}

/// `keeps`: how many bytes at the start of the rest stay as they are.
fn escaped(text: &str, keeps: impl Fn(&str) -> usize) -> Cow<'_, str> {
    if !text.contains(is_unsafe) {
        return Cow::Borrowed(text);
    }
    let mut safe = String::with_capacity(text.len());
    let mut rest = text;
    while let Some(c) = rest.chars().next() {
        let kept = if is_unsafe(c) { keeps(rest) } else { c.len_utf8() };
        if let Some((kept, behind)) = rest.split_at_checked(kept).filter(|(kept, _)| !kept.is_empty()) {
            safe.push_str(kept);
            rest = behind;
            continue;
        }
        let code = u32::from(c);
        let _ = if code <= 0xff { write!(safe, "\\x{code:02x}") } else { write!(safe, "\\u{{{code:x}}}") };
        rest = rest.get(c.len_utf8()..).unwrap_or_default();
    }
    Cow::Owned(safe)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_terminal_obeys_none_of_it() {
        for (text, want) in [
            ("plain ×→é", "plain ×→é"),
            ("\x1b[2J", "\\x1b[2J"),
            ("a\nb\tc\r\0", "a\\x0ab\\x09c\\x0d\\x00"),
            ("\u{9b}2J\u{7f}", "\\x9b2J\\x7f"),
            ("\u{202e}txt.\u{2066}", "\\u{202e}txt.\\u{2066}"),
        ] {
            assert_eq!(safe(text), want);
        }
    }

    #[test]
    fn lines_keep_their_ends_and_colours() {
        let text = "\x1b[1mtitle\x1b[0m\n\x1b[38;5;9mred\x1b[m\t\x1b[2J\x1b]0;x\x07\x1b";
        assert_eq!(safe_lines(text, true), "\x1b[1mtitle\x1b[0m\n\x1b[38;5;9mred\x1b[m\t\\x1b[2J\\x1b]0;x\\x07\\x1b");
        assert!(!safe_lines(text, false).contains('\x1b'));
    }

    #[test]
    fn json_stays_json() {
        let name = "a\u{9b}b\u{202e}\u{7f}\n";
        let text = safe_json(serde_json::to_string_pretty(&[name]).expect("JSON"));
        assert!(text.chars().all(|c| c == '\n' || !is_unsafe(c)), "{text}");
        assert_eq!(serde_json::from_str::<Vec<String>>(&text).expect("JSON"), [name]);
    }
}
