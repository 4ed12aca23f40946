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
    /// What it was taken from, and where that begins, counted from 1 in characters.
    whole: (&'a str, u32),
}

impl<'a> Word<'a> {
    /// Of no text.
    pub(crate) const NONE: Self = Self::whole("", 0, 0);

    /// That begins there.
    pub(crate) const fn whole(text: &'a str, line: u32, column: u32) -> Self {
        Self { text, line, whole: (text, column) }
    }

    /// A part of it.
    const fn part(self, text: &'a str) -> Self {
        Self { text, ..self }
    }

    /// Where it begins: counted from 1, in characters. Counted only where it is asked for, as few are.
    #[must_use]
    pub fn column(&self) -> u32 {
        let (whole, column) = self.whole;
        let offset = self.text.as_ptr().addr().saturating_sub(whole.as_ptr().addr());
        let before = whole.get(..offset).map_or(0, |before| before.chars().count());
        column.saturating_add(u32::try_from(before).unwrap_or(u32::MAX))
    }

    /// The words in it.
    fn words(self) -> impl Iterator<Item = Self> {
        let mut rest = self.text;
        std::iter::from_fn(move || {
            rest = rest.trim_start();
            let text = rest.get(..end_of_word(rest)).filter(|text| !text.is_empty())?;
            rest = rest.get(text.len()..)?;
            Some(self.part(text))
        })
    }
}

/// Where the first word ends. ASCII, as nearly all is, is looked at byte by byte.
fn end_of_word(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.iter().position(|byte| *byte <= b' ' || !byte.is_ascii()) {
        None => bytes.len(),
        Some(at) if matches!(bytes.get(at), Some(b' ' | b'\t' | b'\r')) => at,
        Some(_) => text.find(char::is_whitespace).unwrap_or(bytes.len()),
    }
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
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Rule<'a> {
    /// Where it begins.
    pub word: Word<'a>,
    /// What must hold of a socket.
    pub conditions: Conditions,
    /// What must hold of the process.
    pub scope: Scope<'a>,
    /// What holds then, as it is written; none: `off`.
    pub list: Option<Word<'a>>,
}

/// What must hold of a process.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Scope<'a> {
    /// Its name matches one of these globs.
    pub programs: Vec<&'a str>,
    /// Its user id is one of these.
    pub uids: Vec<u32>,
}

impl Scope<'_> {
    /// Whether it holds of every process.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty() && self.uids.is_empty()
    }
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
    parts(text).map(|part| part.entry())
}

/// An entry that has not been looked into.
#[derive(Clone, Copy, Debug)]
pub(crate) struct Part<'a> {
    /// All of it.
    whole: Word<'a>,
    /// Its first word.
    pub first: Word<'a>,
    /// What is before and behind `:`, if it has one.
    sides: Option<(Word<'a>, Word<'a>)>,
}

/// The parts of a text in which something stands.
pub(crate) fn parts(text: &str) -> impl Iterator<Item = Part<'_>> {
    let lines = (1..).zip(text.split('\n'));
    lines.flat_map(|(line, text)| {
        let text = text.split_once('#').map_or(text, |(before, _)| before);
        let whole = Word::whole(text, line, 1);
        let mut rest = Some(text);
        let mut column = 1_u32;
        let words = std::iter::from_fn(move || {
            let (text, behind) = rest?.split_once(';').map_or((rest?, None), |(text, behind)| (text, Some(behind)));
            let part = Word { whole: (text, column), ..whole.part(text) };
            if behind.is_some() {
                column = column.saturating_add(u32::try_from(text.chars().count() + 1).unwrap_or(u32::MAX));
            }
            rest = behind;
            Some(part)
        });
        words.filter_map(Part::new)
    })
}

impl<'a> Part<'a> {
    fn new(whole: Word<'a>) -> Option<Self> {
        let first = whole.words().next()?;
        Some(Self { whole, first, sides: sides(whole) })
    }

    /// Whether it is a rule, or meant to be one.
    pub fn is_rule(&self) -> bool {
        let name = self.first.text.split_once('=').map_or(self.first.text, |(name, _)| name);
        self.sides.is_some() || MATCHES.split_ascii_whitespace().any(|m| name.eq_ignore_ascii_case(m))
    }

    /// All that it says.
    pub fn entry(&self) -> Result<Entry<'a>, Wrong<'a>> {
        if !self.is_rule() {
            return self.setting().map(Entry::Setting);
        }
        let mut rule = Rule::new();
        rule.read(*self)?;
        rule.settings().try_for_each(|setting| setting.map(drop))?;
        Ok(Entry::Rule(rule))
    }

    /// As a setting.
    pub fn setting(&self) -> Result<Setting<'a>, Wrong<'a>> {
        setting(self.whole.part(self.whole.text.trim()))
    }
}

/// What is before and behind the first word that is a colon.
fn sides(whole: Word<'_>) -> Option<(Word<'_>, Word<'_>)> {
    for (at, _) in whole.text.match_indices(':') {
        let (before, behind) = (whole.text.get(..at)?, whole.text.get(at + 1..)?);
        if !before.ends_with(|c: char| !c.is_whitespace()) && !behind.starts_with(|c: char| !c.is_whitespace()) {
            return Some((whole.part(before), whole.part(behind)));
        }
    }
    None
}

fn setting(word: Word<'_>) -> Result<Setting<'_>, Wrong<'_>> {
    let Some((name, value)) = word.text.split_once('=') else {
        let problem = "expected NAME = VALUE, or a rule: MATCH=VALUE ... : SETTING=VALUE ...".to_owned();
        return Err(Wrong { word, problem });
    };
    Ok(Setting { word, name: name.trim_end(), value: value.trim_start() })
}

impl<'a> Rule<'a> {
    /// None yet. One is read after another, so that the room of their lists is taken once.
    pub(crate) const fn new() -> Self {
        let conditions = Conditions { dst: Vec::new(), src: Vec::new(), ports: Vec::new(), role: None };
        Self { word: Word::NONE, conditions, scope: Scope { programs: Vec::new(), uids: Vec::new() }, list: None }
    }

    /// Reads a rule in the place of the one before, all but its settings.
    pub(crate) fn read(&mut self, part: Part<'a>) -> Result<(), Wrong<'a>> {
        let word = part.first;
        let Some((matches, list)) = part.sides else {
            let problem = "a rule needs \" : \", with spaces around it, and settings or off behind it".to_owned();
            return Err(Wrong { word: part.whole.words().last().unwrap_or(word), problem });
        };
        self.word = word;
        self.clear();
        let mut any = false;
        for word in matches.words() {
            any = true;
            self.condition(word.text).map_err(|problem| Wrong { word, problem })?;
        }
        if !any {
            let problem = format!("expected a match before \":\": one of {}=", MATCHES.replace(' ', "=, "));
            return Err(Wrong { word, problem });
        }
        if self.conditions.role == Some(Role::Server) && !self.conditions.dst.is_empty() {
            let problem = "no socket has both dst and role=server: expected src, a listener's own address".to_owned();
            return Err(Wrong { word, problem });
        }
        let list = list.part(list.text.trim());
        if list.text.is_empty() {
            return Err(Wrong { word, problem: "expected settings, or off, behind \":\"".to_owned() });
        }
        self.list = Some(list).filter(|list| !list.text.eq_ignore_ascii_case("off"));
        Ok(())
    }

    fn clear(&mut self) {
        let Self { conditions, scope, .. } = self;
        conditions.dst.clear();
        conditions.src.clear();
        conditions.ports.clear();
        conditions.role = None;
        scope.programs.clear();
        scope.uids.clear();
    }

    /// Its settings; if one of them is none, the rule is left out.
    pub(crate) fn settings(&self) -> impl Iterator<Item = Result<Setting<'a>, Wrong<'a>>> + use<'a> {
        self.list.into_iter().flat_map(Word::words).map(|word| {
            setting(word).map_err(|wrong| Wrong {
                problem: "expected SETTING=VALUE, without spaces, or off alone".to_owned(),
                ..wrong
            })
        })
    }

    fn condition(&mut self, text: &'a str) -> Result<(), String> {
        let (name, value) = text.split_once('=').unwrap_or((text, ""));
        let (conditions, scope) = (&mut self.conditions, &mut self.scope);
        let is = |wanted: &str| name.eq_ignore_ascii_case(wanted);
        if is("dst") {
            list(&mut conditions.dst, value, network)
        } else if is("src") {
            list(&mut conditions.src, value, network)
        } else if is("port") {
            list(&mut conditions.ports, value, ports)
        } else if is("program") {
            list(&mut scope.programs, value, Ok)
        } else if is("uid") {
            list(&mut scope.uids, value, |item| item.parse().map_err(|_| "expected numbers".to_owned()))
        } else if is("role") {
            let end = match value {
                _ if value.eq_ignore_ascii_case("client") => Role::Client,
                _ if value.eq_ignore_ascii_case("server") => Role::Server,
                _ => return Err("expected client or server".to_owned()),
            };
            if conditions.role.replace(end).is_some() { Err("stands twice".to_owned()) } else { Ok(()) }
        } else {
            Err(format!("no such match; there are {}", MATCHES.replace(' ', ", ")))
        }
    }
}

fn list<'a, T>(
    target: &mut Vec<T>,
    value: &'a str,
    parse: impl Fn(&'a str) -> Result<T, String>,
) -> Result<(), String> {
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
        let settings: Vec<_> = rule.settings().map(|s| s.expect("right")).map(|s| (s.name, s.value)).collect();
        assert_eq!(settings, [("connect_timeout", "2s"), ("keepidle", "30")]);
    }

    #[test]
    fn entries_end_at_semicolons_and_lines_and_comments_are_none() {
        let text = "# first\nkeepidle = 60 # a minute\n\n dst=::1 : off ; ;role=server : nodelay=on\nlog_file=/a b\n";
        let all: Vec<_> = entries(text).map(|entry| entry.expect("right")).collect();
        let Entry::Setting(keepidle) = &all[0] else { panic!("{all:?}") };
        assert_eq!((keepidle.name, keepidle.value, keepidle.word.line), ("keepidle", "60", 2));
        let (Entry::Rule(off), Entry::Rule(server)) = (&all[1], &all[2]) else { panic!("{all:?}") };
        assert_eq!((off.list, off.word.line, off.word.column()), (None, 4, 2));
        let nodelay = server.settings().next().and_then(Result::ok).expect("a setting");
        assert_eq!((server.word.column(), nodelay.word.column()), (19, 33));
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
                    assert_eq!((wrong.word.text, wrong.word.column()), (at, column), "{text}: {wrong:?}");
                    assert!(wrong.problem.contains(expected), "{text}: {}", wrong.problem);
                }
                right => panic!("{text}: {right:?}"),
            }
        }
    }
}
