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

use ipnet::{IpNet, Ipv4Net};

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
    pub(crate) const fn part(self, text: &'a str) -> Self {
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
            rest = after_spaces(rest);
            let (text, behind) = rest.split_at_checked(end_of_word(rest)).filter(|(text, _)| !text.is_empty())?;
            rest = behind;
            Some(self.part(text))
        })
    }
}

/// Whether it is in a word: ASCII, as nearly all is, is looked at byte by byte.
const fn is_plain(byte: u8) -> bool {
    byte > b' ' && byte.is_ascii()
}

/// The text from its first word on.
fn after_spaces(text: &str) -> &str {
    match text.as_bytes() {
        [first, ..] if is_plain(*first) => text,
        [b' ', second, ..] if is_plain(*second) => text.get(1..).unwrap_or_default(),
        _ => text.trim_start(),
    }
}

/// Where the first word ends.
fn end_of_word(text: &str) -> usize {
    let bytes = text.as_bytes();
    match bytes.iter().position(|byte| byte.cast_signed() <= b' '.cast_signed()) {
        None => bytes.len(),
        Some(at) if bytes.get(at) == Some(&b' ') => at,
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
    first: &'a str,
    /// Where its first word stands that is a colon.
    colon: Option<usize>,
}

/// The parts of a text in which something stands.
pub(crate) fn parts(text: &str) -> Parts<'_> {
    Parts { rest: Some(text), line: 1, column: 1 }
}

/// What has not been read of a text.
pub(crate) struct Parts<'a> {
    rest: Option<&'a str>,
    line: u32,
    column: u32,
}

impl<'a> Parts<'a> {
    /// What has not been read.
    pub fn rest(&self) -> Option<&'a str> {
        self.rest
    }

    /// Goes behind the part that ends there, and what ends it.
    pub fn take(&mut self, end: usize) -> Option<Word<'a>> {
        let (part, behind) = self.rest?.split_at_checked(end)?;
        let whole = Word::whole(part, self.line, self.column);
        let of_line = match behind.as_bytes().first() {
            Some(b'#') => halves(behind, b'\n').map(|(_, next)| (true, next)),
            end => behind.get(1..).map(|next| (end == Some(&b'\n'), next)),
        };
        self.rest = of_line.map(|(_, next)| next);
        if of_line.is_some_and(|(ends, _)| ends) {
            (self.line, self.column) = (self.line.saturating_add(1), 1);
        } else if self.rest.is_some() {
            let more = u32::try_from(part.chars().count() + 1).unwrap_or(u32::MAX);
            self.column = self.column.saturating_add(more);
        }
        Some(whole)
    }
}

impl<'a> Iterator for Parts<'a> {
    type Item = Part<'a>;

    fn next(&mut self) -> Option<Part<'a>> {
        loop {
            let (end, colon) = end_of_part(self.rest?);
            let whole = self.take(end)?;
            let first = after_spaces(whole.text);
            if let Some(first) = first.get(..end_of_word(first)).filter(|first| !first.is_empty()) {
                return Some(Part { whole, first, colon });
            }
        }
    }
}

/// Where the first part of a text ends, and its first word that is a colon.
fn end_of_part(text: &str) -> (usize, Option<usize>) {
    let bytes = text.as_bytes();
    let end = memchr::memchr3(b'\n', b';', b'#', bytes).unwrap_or(bytes.len());
    let mut colons = memchr::memchr_iter(b':', bytes.get(..end).unwrap_or_default());
    (end, colons.find(|at| stands_alone(text, *at)))
}

/// Whether there are spaces around the character there, which is of one byte.
fn stands_alone(text: &str, at: usize) -> bool {
    let (before, behind) = (text.get(..at).unwrap_or_default(), text.get(at + 1..).unwrap_or_default());
    before.chars().next_back().is_none_or(char::is_whitespace)
        && behind.chars().next().is_none_or(|c| c.is_whitespace() || matches!(c, ';' | '#'))
}

impl<'a> Part<'a> {
    /// Whether it is a rule, or meant to be one.
    pub fn is_rule(&self) -> bool {
        if self.colon.is_some() {
            return true;
        }
        let name = self.first.split_once('=').map_or(self.first, |(name, _)| name);
        MATCHES.split_ascii_whitespace().any(|m| name.eq_ignore_ascii_case(m))
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
        let Setting { word, name, value } = setting(self.whole.part(self.whole.text.trim()))?;
        Ok(Setting { word, name: name.trim_end(), value: value.trim_start() })
    }
}

fn setting(word: Word<'_>) -> Result<Setting<'_>, Wrong<'_>> {
    let Some((name, value)) = halves(word.text, b'=') else {
        let problem = "expected NAME = VALUE, or a rule: MATCH=VALUE ... : SETTING=VALUE ...".to_owned();
        return Err(Wrong { word, problem });
    };
    Ok(Setting { word, name, value })
}

/// What is before and behind the first of these, which are of ASCII.
fn halves(text: &str, separator: u8) -> Option<(&str, &str)> {
    let at = memchr::memchr(separator, text.as_bytes())?;
    Some((text.get(..at)?, text.get(at + 1..)?))
}

impl<'a> Rule<'a> {
    /// None yet. One is read after another, so that the room of their lists is taken once.
    pub(crate) const fn new() -> Self {
        let conditions = Conditions { dst: Vec::new(), src: Vec::new(), ports: Vec::new(), role: None };
        Self { word: Word::NONE, conditions, scope: Scope { programs: Vec::new(), uids: Vec::new() }, list: None }
    }

    /// Reads a rule in the place of the one before, all but its settings.
    pub(crate) fn read(&mut self, part: Part<'a>) -> Result<(), Wrong<'a>> {
        let Part { whole, first, colon } = part;
        let word = whole.part(first);
        let sides = colon.and_then(|at| Some((whole.text.get(..at)?, whole.text.get(at + 1..)?)));
        let Some((matches, list)) = sides else {
            let problem = "a rule needs \" : \", with spaces around it, and settings or off behind it".to_owned();
            return Err(Wrong { word: whole.words().last().unwrap_or(word), problem });
        };
        self.word = word;
        self.clear();
        let mut any = false;
        for word in whole.part(matches).words() {
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
        let list = whole.part(after_spaces(list).trim_end());
        if list.text.is_empty() {
            return Err(Wrong { word, problem: "expected settings, or off, behind \":\"".to_owned() });
        }
        self.says(list);
        Ok(())
    }

    pub(crate) fn says(&mut self, list: Word<'a>) {
        self.list = Some(list).filter(|list| !list.text.eq_ignore_ascii_case("off"));
    }

    pub(crate) fn clear(&mut self) {
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
        let (name, value) = halves(text, b'=').unwrap_or((text, ""));
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
    let several = memchr::memchr(b',', value.as_bytes()).is_some();
    if value.is_empty() || (several && has_an_empty_item(value)) {
        return Err("expected a value, or several with commas between".to_owned());
    }
    if !several {
        target.push(parse(value)?);
        return Ok(());
    }
    for item in value.split(',') {
        target.push(parse(item)?);
    }
    Ok(())
}

fn has_an_empty_item(value: &str) -> bool {
    value.split(',').any(str::is_empty)
}

pub(crate) fn network(text: &str) -> Result<IpNet, String> {
    let mapped = |net: IpNet| match net {
        // A v4-mapped IPv6 network is the IPv4 network (RFC 4291, section 2.5.5.2).
        IpNet::V6(v6) if v6.prefix_len() >= 96 => match v6.network().to_ipv4_mapped() {
            Some(v4) => IpNet::new(v4.into(), v6.prefix_len() - 96).unwrap_or(net),
            None => net,
        },
        _ => net,
    };
    let net =
        plain_v4(text).or_else(|| text.parse().ok()).or_else(|| text.parse::<std::net::IpAddr>().ok().map(IpNet::from));
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

/// An IPv4 address or network, as most are: the parser for both families takes four times as long.
fn plain_v4(text: &str) -> Option<IpNet> {
    let (address, length) = halves(text, b'/').unwrap_or((text, "32"));
    let length = length.parse().ok().filter(|_| length.len() <= 2 && !length.starts_with('+'))?;
    Ipv4Net::new(address.parse().ok()?, length).ok().map(IpNet::V4)
}

fn ports(text: &str) -> Result<(u16, u16), String> {
    let sides = halves(text, b'-');
    let first = sides.map_or(text, |(first, _)| first).parse();
    match (first.clone(), sides.map_or(first, |(_, last)| last.parse())) {
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
