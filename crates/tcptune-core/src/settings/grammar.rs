//! The grammar of `TCPTUNE_RULES` and of configuration files:
//!
//! ```text
//! text     = entry { ( ";" | newline ) entry }          # a comment, to the end of the line
//! entry    = [ rule | setting ]
//! rule     = match { match } ":" ( "off" | setting { setting } )
//! match    = ( "dst" | "src" | "port" | "role" | "program" | "uid" ) "=" item { "," item }
//! setting  = name "=" value                             spaces around "=" only where it is the whole entry
//! ```
//!
//! Words have spaces between, so that `:` of an IPv6 address needs no quoting.

use ipnet::IpNet;

use crate::settings::rules::{Conditions, Role};

/// The words that begin a match.
const MATCHES: &str = "dst src port role program uid";

/// A part of the text, and where it begins.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Word<'a> {
    /// The part.
    pub text: &'a str,
    /// Counted from 1.
    pub line: u32,
    /// Counted from 1, in characters.
    pub column: u32,
}

/// One entry.
#[derive(Debug, PartialEq, Eq)]
pub enum Entry<'a> {
    /// `name = value`
    Setting(Setting<'a>),
    /// Matches and settings.
    Rule(Rule<'a>),
}

/// A setting as it is written.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Setting<'a> {
    /// The whole of it.
    pub word: Word<'a>,
    /// Its name.
    pub name: &'a str,
    /// Its value.
    pub value: &'a str,
}

/// A rule as it is written.
#[derive(Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Where it begins.
    pub word: Word<'a>,
    /// What must hold of a socket.
    pub conditions: Conditions,
    /// What must hold of the process.
    pub scope: Scope,
    /// What holds then; none: `off`.
    pub settings: Vec<Setting<'a>>,
}

/// What must hold of a process.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Scope {
    /// Its name matches one of these globs.
    pub programs: Vec<String>,
    /// Its user id is one of these.
    pub uids: Vec<u32>,
}

/// What is wrong with an entry; it is left out.
#[derive(Debug, PartialEq, Eq)]
pub struct Wrong<'a> {
    /// Where.
    pub word: Word<'a>,
    /// What is wrong, and what is expected.
    pub problem: String,
}

/// The entries of a text.
pub fn entries(text: &str) -> impl Iterator<Item = Result<Entry<'_>, Wrong<'_>>> {
    let lines = (1..).zip(text.split('\n'));
    let parts = lines.flat_map(|(line, text)| {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        split(Word { text, line, column: 1 }, |c| c == ';')
    });
    parts.filter_map(|part| {
        let words: Vec<_> = split(part, char::is_whitespace).filter(|word| !word.text.is_empty()).collect();
        entry(&words, part)
    })
}

/// The parts between separators.
fn split(whole: Word<'_>, separates: fn(char) -> bool) -> impl Iterator<Item = Word<'_>> {
    let mut column = whole.column;
    whole.text.split(separates).map(move |text| {
        let word = Word { text, line: whole.line, column };
        column = column.saturating_add(u32::try_from(text.chars().count() + 1).unwrap_or(u32::MAX));
        word
    })
}

fn entry<'a>(words: &[Word<'a>], part: Word<'a>) -> Option<Result<Entry<'a>, Wrong<'a>>> {
    let first = *words.first()?;
    let colon = words.iter().position(|word| word.text == ":");
    let is_match = |word: &Word<'_>| {
        let name = word.text.split_once('=').map_or(word.text, |(name, _)| name);
        MATCHES.split_ascii_whitespace().any(|m| name.eq_ignore_ascii_case(m))
    };
    Some(match colon {
        Some(at) => rule(first, &words[..at], &words[at + 1..]).map(Entry::Rule),
        None if is_match(&first) => {
            let problem = "a rule needs \" : \", with spaces around it, and settings or off behind it".to_owned();
            Err(Wrong { word: *words.last()?, problem })
        }
        None => setting(Word { text: part.text.trim(), ..first }).map(Entry::Setting),
    })
}

fn setting(word: Word<'_>) -> Result<Setting<'_>, Wrong<'_>> {
    let Some((name, value)) = word.text.split_once('=') else {
        let problem = "expected NAME = VALUE, or a rule: MATCH=VALUE ... : SETTING=VALUE ...".to_owned();
        return Err(Wrong { word, problem });
    };
    Ok(Setting { word, name: name.trim_end(), value: value.trim_start() })
}

fn rule<'a>(word: Word<'a>, matches: &[Word<'a>], settings: &[Word<'a>]) -> Result<Rule<'a>, Wrong<'a>> {
    let mut rule = Rule { word, conditions: Conditions::default(), scope: Scope::default(), settings: Vec::new() };
    if matches.is_empty() {
        let problem = format!("expected a match before \":\": one of {}=", MATCHES.replace(' ', "=, "));
        return Err(Wrong { word, problem });
    }
    for word in matches {
        condition(&mut rule, word.text).map_err(|problem| Wrong { word: *word, problem })?;
    }
    if rule.conditions.role == Some(Role::Server) && !rule.conditions.dst.is_empty() {
        let problem = "no socket has both dst and role=server: expected src, a listener's own address".to_owned();
        return Err(Wrong { word, problem });
    }
    match settings {
        [] => Err(Wrong { word, problem: "expected settings, or off, behind \":\"".to_owned() }),
        [off] if off.text.eq_ignore_ascii_case("off") => Ok(rule),
        _ => {
            rule.settings = settings.iter().map(|word| setting(*word)).collect::<Result<_, _>>().map_err(|wrong| {
                Wrong { problem: "expected SETTING=VALUE, without spaces, or off alone".to_owned(), ..wrong }
            })?;
            Ok(rule)
        }
    }
}

fn condition(rule: &mut Rule<'_>, text: &str) -> Result<(), String> {
    let (name, value) = text.split_once('=').unwrap_or((text, ""));
    let conditions = &mut rule.conditions;
    match name.to_ascii_lowercase().as_str() {
        "dst" => list(&mut conditions.dst, value, network),
        "src" => list(&mut conditions.src, value, network),
        "port" => list(&mut conditions.ports, value, ports),
        "program" => list(&mut rule.scope.programs, value, |item| Ok(item.to_owned())),
        "uid" => list(&mut rule.scope.uids, value, |item| item.parse().map_err(|_| "expected numbers".to_owned())),
        "role" => {
            let end = match value.to_ascii_lowercase().as_str() {
                "client" => Role::Client,
                "server" => Role::Server,
                _ => return Err("expected client or server".to_owned()),
            };
            if conditions.role.replace(end).is_some() { Err("stands twice".to_owned()) } else { Ok(()) }
        }
        _ => Err(format!("no such match; there are {}", MATCHES.replace(' ', ", "))),
    }
}

fn list<T>(target: &mut Vec<T>, value: &str, parse: fn(&str) -> Result<T, String>) -> Result<(), String> {
    if !target.is_empty() {
        return Err("stands twice; several values have commas between".to_owned());
    }
    if has_an_empty_item(value) {
        return Err("expected a value, or several with commas between".to_owned());
    }
    for item in value.split(',') {
        target.push(parse(item)?);
    }
    Ok(())
}

fn has_an_empty_item(value: &str) -> bool {
    value.split(',').any(str::is_empty)
}

fn network(text: &str) -> Result<IpNet, String> {
    let mapped = |net: IpNet| match net {
        // A v4-mapped IPv6 network is the IPv4 network (RFC 4291, section 2.5.5.2).
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), v6.prefix_len() - 96).unwrap_or(net),
            None => net,
        },
        _ => net,
    };
    let net = text.parse::<IpNet>().ok().or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
    net.map(mapped).ok_or_else(|| {
        let is_name = text.contains(|c: char| c.is_ascii_alphabetic()) && !text.contains([':', '/']);
        if is_name {
            "a host name is resolved before connect, which sees addresses only; expected one, or a network (10.0.0.0/8)"
        } else {
            "expected an address, or a network such as 10.0.0.0/8 or fd00::/8"
        }
        .to_owned()
    })
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let (first, last) = text.split_once('-').unwrap_or((text, text));
    match (first.parse(), last.parse()) {
        (Ok(first), Ok(last)) if first <= last => Ok((first, last)),
        _ => Err("expected ports from 0 to 65535, or ranges such as 5432-5439".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn one(text: &str) -> Result<Entry<'_>, Wrong<'_>> {
        let mut all = entries(text);
        let first = all.next().expect("an entry");
        assert!(all.next().is_none(), "one entry: {text:?}");
        first
    }

    fn one_rule(text: &str) -> Rule<'_> {
        match one(text) {
            Ok(Entry::Rule(rule)) => rule,
            other => panic!("{text:?}: {other:?}"),
        }
    }

    #[test]
    fn a_rule_with_every_match() {
        let rule = one_rule(
            "dst=10.0.0.0/8,fd00::/8 src=127.0.0.1 port=80,5432-5439 role=client program=curl,py* uid=0,33 : \
             connect_timeout=2s keepidle=30",
        );
        assert_eq!(rule.conditions.dst.len(), 2);
        assert_eq!(rule.conditions.ports, [(80, 80), (5432, 5439)]);
        assert_eq!(rule.conditions.role, Some(Role::Client));
        assert_eq!((rule.scope.programs.len(), rule.scope.uids.len()), (2, 2));
        let settings: Vec<_> = rule.settings.iter().map(|s| (s.name, s.value)).collect();
        assert_eq!(settings, [("connect_timeout", "2s"), ("keepidle", "30")]);
    }

    #[test]
    fn entries_end_at_semicolons_and_lines_and_comments_are_none() {
        let text = "# first\nkeepidle = 60 # a minute\n\n dst=::1 : off ; ;role=server : nodelay=on\nlog_file=/a b\n";
        let all: Vec<_> = entries(text).map(|entry| entry.expect("right")).collect();
        let Entry::Setting(keepidle) = &all[0] else { panic!("{all:?}") };
        assert_eq!((keepidle.name, keepidle.value, keepidle.word.line), ("keepidle", "60", 2));
        let (Entry::Rule(off), Entry::Rule(server)) = (&all[1], &all[2]) else { panic!("{all:?}") };
        assert_eq!((off.settings.len(), off.word.line, off.word.column), (0, 4, 2));
        assert_eq!((server.word.column, server.settings[0].word.column), (19, 33));
        let Entry::Setting(log_file) = &all[3] else { panic!("{all:?}") };
        assert_eq!((log_file.value, all.len()), ("/a b", 4));
    }

    #[test]
    fn a_mapped_network_is_the_ipv4_one() {
        let rule = one_rule("dst=::ffff:10.0.0.0/104,::ffff:1.2.3.4,::/0,10.1.2.3/8 : off");
        let nets: Vec<_> = rule.conditions.dst.iter().map(|net| net.trunc().to_string()).collect();
        assert_eq!(nets, ["10.0.0.0/8", "1.2.3.4/32", "::/0", "10.0.0.0/8"]);
    }

    #[test]
    fn what_is_wrong_is_pointed_at() {
        for (text, at, column, expected) in [
            ("dst=db.example.com : off", "dst=db.example.com", 1, "host name"),
            ("port=80 dst=10.0.0.0/33 : off", "dst=10.0.0.0/33", 9, "10.0.0.0/8"),
            ("port=9-8 : off", "port=9-8", 1, "5432-5439"),
            ("port=65536 : off", "port=65536", 1, "65535"),
            ("port= : off", "port=", 1, "a value"),
            ("port=1 port=2 : off", "port=2", 8, "twice"),
            ("role=both : off", "role=both", 1, "client or server"),
            ("role=client role=client : off", "role=client", 13, "twice"),
            ("uid=root : off", "uid=root", 1, "numbers"),
            ("host=x : off", "host=x", 1, "dst, src"),
            (": off", ":", 1, "a match"),
            ("dst=::1 :", "dst=::1", 1, "settings"),
            ("dst=::1: off", "off", 10, "spaces"),
            ("dst=::1", "dst=::1", 1, "spaces"),
            ("dst=::1 : keepidle = 5", "keepidle", 11, "without spaces"),
            ("dst=::1 : off nodelay=on", "off", 11, "off alone"),
            ("dst=::1 : off : off", "off", 11, "off alone"),
            ("dst=::1 role=server : off", "dst=::1", 1, "expected src"),
            ("hello world", "hello world", 1, "NAME = VALUE"),
        ] {
            match one(text) {
                Err(wrong) => {
                    assert_eq!((wrong.word.text, wrong.word.column), (at, column), "{text}: {wrong:?}");
                    assert!(wrong.problem.contains(expected), "{text}: {}", wrong.problem);
                }
                right => panic!("{text}: {right:?}"),
            }
        }
    }
}
