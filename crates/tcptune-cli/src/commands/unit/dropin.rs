//! The text of a drop-in file.

use std::ffi::OsStr;

/// The longest name of a unit (systemd.unit(5)).
const LONGEST: usize = 255;

/// Other kinds of units, which start no program of their own, or not by `Environment=` (systemd.unit(5)).
const OTHERS: [&str; 9] =
    [".socket", ".device", ".mount", ".automount", ".swap", ".target", ".path", ".timer", ".slice"];

/// The name of a service with its suffix, if it can be one (systemd.unit(5)).
pub fn service(name: &str) -> Option<String> {
    if OTHERS.iter().any(|kind| name.ends_with(kind)) {
        return None;
    }
    let name = if name.ends_with(".service") { name.to_owned() } else { format!("{name}.service") };
    let is_of_a_name = |c: char| c.is_ascii_alphanumeric() || ":-_.\\@".contains(c);
    let begins = name.starts_with(|c: char| c.is_ascii_alphanumeric() || c == '_');
    (begins && name != ".service" && name.len() <= LONGEST && name.chars().all(is_of_a_name)).then_some(name)
}

/// A value of `Environment=`: in quotes, where `\` and `"` stand for themselves only behind a `\` (systemd.syntax(7)), and
/// `%` begins a specifier.
fn assignment(name: &str, value: &OsStr) -> String {
    let mut text = format!("Environment=\"{name}=");
    for c in value.to_string_lossy().chars() {
        match c {
            '"' | '\\' => text.extend(['\\', c]),
            '%' => text.push_str("%%"),
            '\n' => text.push_str("\\n"),
            c => text.push(c),
        }
    }
    text + "\"\n"
}

/// The whole file.
pub fn text<'a>(preload: &OsStr, settings: impl Iterator<Item = (&'a str, &'a OsStr)>) -> String {
    let mut text = String::from("# Written by `tcptune enable`; `tcptune disable` takes it away.\n[Service]\n");
    text += &assignment("LD_PRELOAD", preload);
    for (name, value) in settings {
        text += &assignment(name, value);
    }
    text
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_of_services() {
        for (name, service_name) in [
            ("nginx", Some("nginx.service")),
            ("nginx.service", Some("nginx.service")),
            ("getty@tty1", Some("getty@tty1.service")),
            ("nginx.timer", None),
            ("", None),
            ("../etc", None),
            ("a/b", None),
            ("a b", None),
            (".hidden", None),
        ] {
            assert_eq!(service(name).as_deref(), service_name, "{name}");
        }
        assert_eq!(service(&"x".repeat(300)), None);
    }

    #[test]
    fn values_are_taken_as_they_are() {
        let settings = [
            ("TCPTUNE_RULES", OsStr::new("dst=::1 : off ; program=a\"b : ttl=9")),
            ("TCPTUNE_LOG_FILE", OsStr::new("/a\\b/100%")),
        ];
        let text = text(OsStr::new("/l/libtcptune.so"), settings.into_iter());
        assert!(text.contains("Environment=\"LD_PRELOAD=/l/libtcptune.so\"\n"), "{text}");
        assert!(text.contains("Environment=\"TCPTUNE_RULES=dst=::1 : off ; program=a\\\"b : ttl=9\"\n"), "{text}");
        assert!(text.contains("Environment=\"TCPTUNE_LOG_FILE=/a\\\\b/100%%\"\n"), "{text}");
    }
}
