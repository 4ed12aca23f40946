//! Rules and settings as nearly all are written, read in one pass over their bytes: in lower case and ASCII, with single spaces.
//! Whatever is written in another way, or is wrong, is left to the grammar, which says why. A test compares the two.

use ipnet::{IpNet, Ipv4Net};

use crate::options::table;
use crate::settings::grammar::{self, Parts, Rule, Setting};
use crate::settings::rules::Role;

/// Goes behind empty lines, and lines that are comments. Whether there were any.
pub(crate) fn skip(parts: &mut Parts<'_>) -> bool {
    let mut any = false;
    while let Some(text) = parts.rest() {
        let spaces = text.bytes().take_while(|byte| *byte == b' ').count();
        if !matches!(text.as_bytes().get(spaces), Some(b'\n' | b'#')) {
            break;
        }
        parts.take(spaces);
        any = true;
    }
    any
}

/// Reads what is next, if it is such a setting: `name = value`, with a comment behind it or not.
pub(crate) fn setting<'a>(parts: &mut Parts<'a>) -> Option<Setting<'a>> {
    let text = parts.rest()?;
    let bytes = text.as_bytes();
    let name = bytes.iter().position(|byte| !matches!(byte, b'a'..=b'z' | b'_')).filter(|length| *length > 0)?;
    let mut words = Words(bytes.get(name..)?);
    while words.skip(b" ") {}
    if !words.skip(b"=") {
        return None;
    }
    while words.skip(b" ") {}
    let start = bytes.len() - words.0.len();
    let mut before = b' ';
    let ends = |byte: &u8| {
        let colon = *byte == b':' && before == b' '; // of a rule
        before = *byte;
        colon || !matches!(byte, b' '..=b'~') || matches!(byte, b'#' | b';')
    };
    let end = start + words.0.iter().position(ends).unwrap_or(words.0.len());
    if !matches!(bytes.get(end), None | Some(b'\n' | b'#' | b';')) {
        return None;
    }
    let name = text.get(..name).filter(|name| !matches!(*name, "dst" | "src" | "port" | "role" | "program" | "uid"))?;
    let value = text.get(start..end)?.trim_ascii_end();
    let word = parts.take(end)?.part(text.get(..start + value.len())?.trim_ascii_end());
    Some(Setting { word, name, value })
}

/// Reads what is next, if it is such a rule: all but its settings, in the place of the one before.
pub(crate) fn rule<'a>(parts: &mut Parts<'a>, rule: &mut Rule<'a>) -> bool {
    let Some(read) = parts.rest().and_then(|text| read(text, rule)) else { return false };
    let Some(whole) = parts.take(read.end) else { return false };
    rule.word = whole.part(read.first);
    rule.says(whole.part(read.list));
    true
}

/// A rule that has been read.
struct Read<'a> {
    /// Its first word.
    first: &'a str,
    /// What stands behind the colon.
    list: &'a str,
    /// Where it ends in its text.
    end: usize,
}

/// Reads the rule at the start of a text.
fn read<'a>(text: &'a str, rule: &mut Rule<'a>) -> Option<Read<'a>> {
    rule.clear();
    let (conditions, scope) = (&mut rule.conditions, &mut rule.scope);
    let mut words = Words(text.as_bytes());
    while words.skip(b" ") {}
    let start = words.0.len();
    let mut first = None;
    while !words.skip(b": ") {
        if words.skip(b"dst=") {
            words.items(&mut conditions.dst, |words| words.network(text))?;
        } else if words.skip(b"port=") {
            words.items(&mut conditions.ports, Words::ports)?;
        } else if words.skip(b"program=") {
            words.items(&mut scope.programs, |words| words.name(text))?;
        } else if words.skip(b"src=") {
            words.items(&mut conditions.src, |words| words.network(text))?;
        } else if words.skip(b"uid=") {
            words.items(&mut scope.uids, |words| words.number(u32::MAX))?;
        } else if words.skip(b"role=") && conditions.role.is_none() {
            conditions.role = Some(match () {
                () if words.skip(b"client ") => Role::Client,
                () if words.skip(b"server ") => Role::Server,
                () => return None,
            });
        } else {
            return None;
        }
        first = first.or(Some(words.0.len() + 1));
    }
    if conditions.role == Some(Role::Server) && !conditions.dst.is_empty() {
        return None;
    }
    let at = |rest: usize| text.len() - rest;
    let first = text.get(at(start)..at(first?))?;
    let (list, end) = words.list()?;
    let start = at(words.0.len());
    Some(Read { first, list: text.get(start..start + list)?, end: start + end })
}

/// The names of the settings in the list before: most lists have the same ones, in the same order.
#[derive(Default)]
pub(crate) struct Names<'a>([(&'a str, usize); 8]);

impl<'a> Names<'a> {
    /// The setting at the start of a list, the one at this place in it: its row, its value, and what is behind it.
    pub fn setting(&mut self, list: &'a str, place: usize) -> Option<(usize, &'a str, &'a str)> {
        let mut unknown = ("", 0);
        let known = self.0.get_mut(place).unwrap_or(&mut unknown);
        if known.0.is_empty() || !list.starts_with(known.0) {
            let name = list.get(..=memchr::memchr(b'=', list.as_bytes())?)?;
            let (row, _) = table::find_in_any_case(name.strip_suffix('=')?)?;
            *known = (name, row);
        }
        let value = list.get(known.0.len()..)?;
        let length = value.bytes().position(|byte| !byte.is_ascii_graphic()).unwrap_or(value.len());
        let (value, behind) = value.split_at_checked(length)?;
        let behind = if behind.is_empty() { behind } else { behind.strip_prefix(' ')? };
        Some((known.1, value, behind))
    }
}

/// A text from a word on, or from within one.
#[derive(Clone, Copy)]
struct Words<'a>(&'a [u8]);

impl<'a> Words<'a> {
    /// Goes behind this, if it is next.
    #[inline]
    fn skip(&mut self, next: &[u8]) -> bool {
        let behind = self.0.strip_prefix(next);
        self.0 = behind.unwrap_or(self.0);
        behind.is_some()
    }

    /// A list with commas between, to the space behind it.
    #[inline]
    fn items<T>(&mut self, list: &mut Vec<T>, item: impl Fn(&mut Self) -> Option<T>) -> Option<()> {
        if !list.is_empty() {
            return None;
        }
        loop {
            list.push(item(self)?);
            let (end, behind) = self.0.split_first()?;
            self.0 = behind;
            match end {
                b' ' => return Some(()),
                b',' => {}
                _ => return None,
            }
        }
    }

    /// A decimal number of at most nine digits, up to this one.
    #[inline]
    fn number(&mut self, most: u32) -> Option<u32> {
        let (mut rest, mut number) = (self.0, 0_u32);
        while let [digit @ b'0'..=b'9', behind @ ..] = rest {
            number = number.wrapping_mul(10).wrapping_add((digit - b'0').into());
            rest = behind;
        }
        let digits = self.0.len() - rest.len();
        self.0 = rest;
        ((1..=9).contains(&digits) && number <= most).then_some(number)
    }

    #[inline]
    fn ports(&mut self) -> Option<(u16, u16)> {
        let first = self.number(u16::MAX.into())?;
        let last = if self.skip(b"-") { self.number(u16::MAX.into())? } else { first };
        (first <= last).then_some((first.try_into().ok()?, last.try_into().ok()?))
    }

    /// What stands before a comma or a space.
    #[inline]
    fn name(&mut self, text: &'a str) -> Option<&'a str> {
        let end =
            self.0.iter().position(|byte| matches!(byte, b',' | b' ' | b';' | b'#') || !byte.is_ascii_graphic())?;
        let start = text.len() - self.0.len();
        self.0 = self.0.get(end..)?;
        text.get(start..start + end).filter(|name| !name.is_empty())
    }

    #[inline]
    fn network(&mut self, text: &'a str) -> Option<IpNet> {
        let mut v4 = *self;
        if let Some(network) = v4.v4() {
            *self = v4;
            return Some(network);
        }
        grammar::network(self.name(text)?).ok()
    }

    /// Of IPv4, as most are.
    #[inline]
    fn v4(&mut self) -> Option<IpNet> {
        let mut address = 0_u32;
        for dot in [&b""[..], b".", b".", b"."] {
            let is_next = self.skip(dot);
            if !is_next || matches!(self.0, [b'0', b'0'..=b'9', ..]) {
                return None; // in some places, that would be an octal number
            }
            address = address << 8 | self.number(u8::MAX.into())?;
        }
        let length = if self.skip(b"/") { self.number(32)? } else { 32 };
        Ipv4Net::new(address.into(), length.try_into().ok()?).ok().map(IpNet::V4)
    }

    /// How long the list of settings is that is next, and how far away what ends the rule.
    #[inline]
    fn list(&self) -> Option<(usize, usize)> {
        let end = memchr::memchr3(b'\n', b';', b'#', self.0).unwrap_or(self.0.len());
        let mut list = self.0.get(..end)?;
        while let [before @ .., b' '] = list {
            list = before;
        }
        let as_it_is = list.first()?.is_ascii_graphic() && list.last()?.is_ascii_graphic();
        as_it_is.then_some((list.len(), end))
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::collection::vec;
    use proptest::prelude::*;
    use proptest::sample::select;
    use proptest::strategy::ValueTree;

    use crate::options::table::OPTIONS;
    use crate::settings::grammar::{Entry, parts};

    /// What the grammar makes of the first entry of a text.
    fn by_grammar(text: &str) -> Option<Rule<'_>> {
        match parts(text).next()?.entry() {
            Ok(Entry::Rule(rule)) => Some(rule),
            _ => None,
        }
    }

    /// What stands on after it, as both count its lines and columns.
    fn behind(mut parts: Parts<'_>) -> Option<(String, u32, u32)> {
        let word = match parts.next()?.entry() {
            Ok(Entry::Rule(rule)) => rule.word,
            Ok(Entry::Setting(setting)) => setting.word,
            Err(wrong) => wrong.word,
        };
        Some((word.text.to_owned(), word.line, word.column()))
    }

    /// Whether it is read as a plain rule; if so, as the grammar reads it.
    fn is_taken(text: &str) -> bool {
        let (mut rule, mut plain, mut all) = (Rule::new(), parts(text), parts(text));
        if !super::rule(&mut plain, &mut rule) {
            return false;
        }
        let settings: Vec<_> = rule.settings().collect();
        if settings.iter().all(Result::is_ok) {
            assert_eq!(Some(&rule), by_grammar(text).as_ref(), "{text:?}");
        } else {
            assert_eq!(by_grammar(text), None, "{text:?}");
        }
        all.next();
        assert_eq!(behind(plain), behind(all), "{text:?}");
        true
    }

    /// The settings of a list by the grammar, in which each row may stand once.
    fn settings_by_grammar(list: &str) -> Option<Vec<(usize, String)>> {
        let rule = format!("port=1 : {list}");
        let settings = by_grammar(&rule)?.settings().map(|setting| {
            let setting = setting.ok()?;
            Some((table::find_in_any_case(setting.name)?.0, setting.value.to_owned()))
        });
        settings.collect()
    }

    fn settings<'a>(names: &mut Names<'a>, list: &'a str) -> Option<Vec<(usize, String)>> {
        let (mut rest, mut all) = (list, Vec::new());
        while !rest.is_empty() {
            let (row, value, behind) = names.setting(rest, all.len())?;
            all.push((row, value.to_owned()));
            rest = behind;
        }
        Some(all)
    }

    /// Whether it is read as a plain setting; if so, as the grammar reads it.
    fn is_taken_as_setting(text: &str) -> bool {
        let (mut plain, mut all) = (parts(text), parts(text));
        super::skip(&mut plain);
        let Some(setting) = super::setting(&mut plain) else { return false };
        let by_grammar = all.next().map(|part| part.entry());
        let Some(Ok(Entry::Setting(expected))) = by_grammar else { panic!("{text:?}: {by_grammar:?}") };
        assert_eq!((setting, setting.word.column()), (expected, expected.word.column()), "{text:?}");
        assert_eq!(behind(plain), behind(all), "{text:?}");
        true
    }

    #[test]
    fn settings_that_operators_write_are_taken() {
        for text in [
            "keepidle = 60",
            "keepidle=60 # idle: 60 s\nkeepcnt = 3",
            "# one\n\n# two; three\nuser_timeout = auto   \nport=1 : off",
            "only_programs = a, b;keepcnt = 3",
            "backlog = min:128",
            "keepidle =",
        ] {
            assert!(is_taken_as_setting(text), "{text}");
        }
        for text in [
            "",
            "#",
            "KEEPIDLE = 60",
            " keepidle = 60",
            "keepidle = 60 : off",
            "= 60",
            "port = 1",
            "keepidle\t= 1",
            "keepidle = 6\r\n",
        ] {
            assert!(!is_taken_as_setting(text), "{text}");
        }
    }

    #[test]
    fn what_operators_write_is_taken() {
        for text in [
            "dst=10.0.0.0/8 port=5432 : keepidle=30 connect_timeout=2s",
            "dst=10.0.0.0/8,127.0.0.1,fd00::/8 port=80,5432-5439 role=client : off",
            "  src=127.0.0.1 program=nginx,py* uid=0,33 : user_timeout=auto   # a comment\nkeepidle = 3",
            "port=1 : keepidle=3; port=2 : off",
            "role=server port=0-65535 : backlog=min:128\n",
        ] {
            assert!(is_taken(text), "{text}");
        }
        for text in [
            "",
            "\n",
            "keepidle = 60",
            "port=1 port=2 : off",
            ": off",
            "port=1 :",
            "dst=::1 role=server : off",
            "dst=010.0.0.1 : off",
        ] {
            assert!(!is_taken(text), "{text}");
        }
    }

    fn network() -> impl Strategy<Value = String> {
        prop_oneof![
            4 => "(10|0|127|255|256|01)(\\.[0-9]{1,2}){3}(/[1-3]?[0-9])?",
            2 => select(vec!["10.0.0.0/8", "127.0.0.1", "::1", "fd00::/8", "::ffff:10.0.0.0/104", "0.0.0.0/0", "1.2.3.4/+8"])
                .prop_map(str::to_owned),
        ]
    }

    fn list(item: impl Strategy<Value = String>) -> impl Strategy<Value = String> {
        prop_oneof![9 => vec(item, 1..3), 1 => Just(Vec::new())].prop_map(|items| items.join(","))
    }

    fn condition() -> impl Strategy<Value = String> {
        let with =
            |name: &'static str, list: BoxedStrategy<String>| list.prop_map(move |list| format!("{name}={list}"));
        prop_oneof![
            3 => with("dst", list(network()).boxed()),
            1 => with("src", list(network()).boxed()),
            3 => with("port", list("[0-9]{1,4}(-[0-9]{5})?|[+]?[0-9]{5,6}".prop_map(|port| port)).boxed()),
            1 => with("program", list("[a-z*/.]{1,5}[;#é\t]?".prop_map(|name| name)).boxed()),
            1 => with("uid", list("[0-9]{1,10}".prop_map(|uid| uid)).boxed()),
            1 => select(vec!["role=client", "role=server", "role=both", "ROLE=client", "x=1", "role"]).prop_map(str::to_owned),
        ]
    }

    fn setting() -> impl Strategy<Value = String> {
        let name = select(OPTIONS.iter().flat_map(crate::options::table::Opt::names).collect::<Vec<_>>());
        let value = prop_oneof![4 => "[0-9]{1,4}(ms|s)?", 1 => "[ -~é\t=]{0,4}"];
        (name, any::<bool>(), value).prop_map(|(name, lower, value)| {
            let name = if lower { name.to_lowercase() } else { name.to_owned() };
            format!("{name}={value}")
        })
    }

    fn line() -> impl Strategy<Value = String> {
        let space = || prop_oneof![12 => Just(" ".to_owned()), 1 => select(vec!["", "  ", "\t", "\u{a0}"]).prop_map(str::to_owned)];
        let settings =
            prop_oneof![4 => vec(setting(), 0..4).prop_map(|all| all.join(" ")), 1 => Just("off".to_owned())];
        let end = select(vec!["", "\n", ";", " # x", "# y\n", " ; port=1 : off", "\nkeepidle = 3\n", "\r\n", "  "]);
        let matches = vec((condition(), space()), 1..3);
        (space(), matches, prop_oneof![9 => Just(": "), 1 => select(vec![":", ":  ", " : "])], settings, end).prop_map(
            |(space, matches, colon, settings, end)| {
                let matches: String = matches.into_iter().map(|(condition, space)| condition + &space).collect();
                format!("{}{matches}{colon}{settings}{end}", if space == " " { "" } else { &space })
            },
        )
    }

    fn setting_on_a_line() -> impl Strategy<Value = String> {
        let space = || prop_oneof![8 => Just(" "), 1 => select(vec!["", "  ", "\t", "\u{a0}"])];
        let before = prop_oneof![4 => Just(""), 1 => select(vec!["# x\n", "\n", "  # x\n", " ", "#", ";"])];
        let name = prop_oneof![6 => setting(), 1 => select(vec!["port=1", "dst = ::1", "src=::1", "role=client", "program=x", "uid=0", "x=1", "uid", "=1"]).prop_map(str::to_owned)];
        let end = prop_oneof![
            2 => select(vec!["", "\n", " # x\nkeepcnt = 3", " ; keepcnt=1"]),
            1 => select(vec![" : off", ":", ";port=1 : off", "\r\n", " é"]),
        ];
        (before, name, space(), space(), end).prop_map(|(before, setting, left, right, end)| {
            let setting = setting.replacen('=', &format!("{left}={right}"), 1);
            format!("{before}{setting}{end}")
        })
    }

    proptest! {
        #![proptest_config(ProptestConfig { cases: 5_000, failure_persistence: None, ..ProptestConfig::default() })]

        #[test]
        fn a_rule_is_read_as_the_grammar_reads_it(text in line()) {
            is_taken(&text);
        }

        #[test]
        fn a_setting_is_read_as_the_grammar_reads_it(text in setting_on_a_line()) {
            is_taken_as_setting(&text);
        }

        #[test]
        fn settings_are_read_as_the_grammar_reads_them(lists in vec(vec(setting(), 0..4), 1..4)) {
            let lists: Vec<_> = lists.into_iter().map(|list| list.join(" ").replace([';', '#'], "")).collect();
            let mut names = Names::default();
            for list in &lists {
                let read = settings(&mut names, list);
                prop_assert!(read.is_none() || list.is_empty() || read == settings_by_grammar(list), "{list:?}: {read:?}");
            }
        }
    }

    /// Most of what the properties try is taken, so that something is compared.
    #[test]
    fn many_lines_are_taken() {
        let mut runner = proptest::test_runner::TestRunner::deterministic();
        let taken = (0..1000).filter(|_| is_taken(&line().new_tree(&mut runner).expect("a line").current())).count();
        assert!(taken > 100, "{taken} of 1000");
        let setting = |runner: &mut _| setting_on_a_line().new_tree(runner).expect("a line").current();
        let taken = (0..1000).filter(|_| is_taken_as_setting(&setting(&mut runner))).count();
        assert!(taken > 100, "{taken} of 1000");
    }
}
