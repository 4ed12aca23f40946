//! Reads texts of settings and rules: the files, and `TCPTUNE_RULES`.

use crate::options::rows::Rows;
use crate::options::table::{self, OPTIONS, Own, Target};
use crate::options::value::Value;
use crate::settings::chosen::{Chosen, Values, is_unset};
use crate::settings::draft::{Draft, DraftRule, Says};
use crate::settings::grammar::{self, Entry, Rule, Setting, Wrong};
use crate::settings::plain;
use crate::settings::source::{Place, Process, Source};

/// So many mistakes in one text are reported; then it is not what it is taken for, and may be large.
const MISTAKES: usize = 100;

/// So many lists of settings are known at a time; of a short text, no more than it has entries.
const KNOWN: usize = 256;

impl Draft {
    #[cold]
    pub(super) fn text<'p>(&mut self, source: Source, text: &str, process: &dyn Fn() -> &'p Process) {
        let before = self.wrong.len();
        let (mut rule, mut reader, mut parts) = (Rule::new(), Reader::new(text), grammar::parts(text));
        loop {
            let may_be_wrong = self.wrong.len() - before < MISTAKES;
            let read = if may_be_wrong && plain::rule(&mut parts, &mut rule) {
                self.rule(source, &rule, &mut reader, process)
            } else if plain::skip(&mut parts) {
                continue;
            } else if may_be_wrong && let Some(setting) = plain::setting(&mut parts) {
                self.of_file(source, setting);
                Ok(())
            } else if parts.rest().is_none_or(str::is_empty) {
                return;
            } else {
                let Some(part) = parts.next() else { return };
                if !may_be_wrong {
                    let word = match part.entry() {
                        Ok(Entry::Rule(rule)) => rule.word,
                        Ok(Entry::Setting(setting)) => setting.word,
                        Err(wrong) => wrong.word,
                    };
                    let problem = format!("{MISTAKES} mistakes before this; nothing from here on counts");
                    return self.complain(source, word, problem);
                }
                if part.is_rule() {
                    rule.read(part).and_then(|()| self.rule(source, &rule, &mut reader, process))
                } else {
                    part.setting().map(|setting| self.of_file(source, setting))
                }
            };
            if let Err(wrong) = read {
                self.complain(source, wrong.word, wrong.problem);
            }
        }
    }

    #[cold]
    fn of_file(&mut self, source: Source, setting: Setting<'_>) {
        if source == Source::Environment {
            let problem = "expected a rule: MATCH=VALUE ... : SETTING=VALUE ...".to_owned();
            return self.complain(source, setting.word, problem);
        }
        let mut values = std::mem::take(&mut self.layer(source).values);
        self.setting(source, setting, &mut values, Stands::File);
        self.layer(source).values = values;
    }

    #[cold]
    fn setting(&mut self, source: Source, setting: Setting<'_>, values: &mut Values, stands: Stands) {
        let problem = match table::find_in_any_case(setting.name) {
            None => Some(self.unknown(&setting.name.to_ascii_uppercase(), str::to_ascii_lowercase)),
            Some((row, opt)) => {
                let place = |value: Option<&Value>| match (stands, value) {
                    (Stands::Rule, Some(Value::Auto)) | (Stands::File | Stands::RuleOfAll, _) => {
                        Place::of(source, setting.word)
                    }
                    (Stands::Rule, _) => Place { source, line: 0, column: 0 }, // nobody is told
                };
                let refused = stands.refuses(opt.target).map(str::to_owned);
                refused.or_else(|| values.assign(row, opt, setting.value, &place).err())
            }
        };
        if let Some(problem) = problem {
            self.complain(source, setting.word, problem);
        }
    }

    /// A rule. Its settings are read unless the same list of them has been found right before: many rules of a long text
    /// have one of a few. One for every socket is read nevertheless, because it is told where its settings stand.
    #[cold]
    fn rule<'a, 'p>(
        &mut self,
        source: Source,
        rule: &Rule<'a>,
        reader: &mut Reader<'a>,
        process: &dyn Fn() -> &'p Process,
    ) -> Result<(), Wrong<'a>> {
        if reader.lists.is_empty() {
            reader.begin();
        }
        let of_all = rule.conditions.is_empty();
        let layer = self.layer(source);
        let number = u32::try_from(layer.rules.len()).unwrap_or(u32::MAX);
        let met = layer.last.is_none() && (rule.scope.is_empty() || process().is_in(&rule.scope));
        let says = match rule.list {
            Some(_) if of_all => return self.rule_of_all(source, rule, met, reader),
            Some(list) => {
                let place = reader.place(list.text);
                match reader.known(place, list.text, false) {
                    Some(_) if !met => return Ok(()),
                    Some(Known::SaidBy(number)) => Says::TheSame(number),
                    _ => {
                        let start = self.changes.end();
                        let right = self.is_plain(list.text, &mut reader.names) || self.list(source, rule)?;
                        if !met {
                            self.changes.cut(start);
                        }
                        if right {
                            reader.add(place, list.text, false, if met { Known::SaidBy(number) } else { Known::Right });
                        }
                        Says::Changes(start..self.changes.end())
                    }
                }
            }
            None => Says::Off,
        };
        if !met {
            return Ok(());
        }
        let place = Place::of(source, rule.word);
        let layer = self.layer(source);
        if of_all {
            layer.last = Some((place, None));
            return Ok(());
        }
        if layer.rules.is_empty() {
            layer.rules.reserve_exact(reader.entries);
            layer.conditions.reserve(reader.entries);
        }
        layer.rules.push(DraftRule { place, says });
        layer.conditions.push(&rule.conditions, number);
        Ok(())
    }

    /// A rule for every socket.
    #[cold]
    fn rule_of_all<'a>(
        &mut self,
        source: Source,
        rule: &Rule<'a>,
        met: bool,
        reader: &mut Reader<'a>,
    ) -> Result<(), Wrong<'a>> {
        let Some(list) = rule.list else { return Ok(()) };
        let place = reader.place(list.text);
        if !met && reader.known(place, list.text, true).is_some() {
            return Ok(());
        }
        let (values, right) = self.values(source, rule, Stands::RuleOfAll)?;
        if right {
            reader.add(place, list.text, true, Known::Right);
        }
        if met {
            self.layer(source).last = Some((Place::of(source, rule.word), Some(values)));
        }
        Ok(())
    }

    /// Adds a rule's list of settings to the changes, if all of them are right, and none of them is something special.
    #[cold]
    fn is_plain<'a>(&mut self, list: &'a str, names: &mut plain::Names<'a>) -> bool {
        let (start, mut rows, mut rest) = (self.changes.end(), Rows::default(), list);
        for place in 0.. {
            if rest.is_empty() {
                break;
            }
            let setting = names.setting(rest, place);
            let Some((row, value, behind)) =
                setting.and_then(|(row, value, behind)| Some((row, usual(row, value, rows)?, behind)))
            else {
                self.changes.cut(start);
                return false;
            };
            self.changes.add(start, row, Some(&value), (0, 0));
            (rows, rest) = (rows.or(Rows::of(row)), behind);
        }
        true
    }

    /// The same of any settings. Returns whether they are right wherever they stand.
    #[cold]
    fn list<'a>(&mut self, source: Source, rule: &Rule<'a>) -> Result<bool, Wrong<'a>> {
        let (values, right) = self.values(source, rule, Stands::Rule)?;
        let start = self.changes.end();
        for Chosen { row, value, place } in &values.0 {
            self.changes.add(start, *row, value.as_ref(), (place.line, place.column));
        }
        // What `auto` comes to may be a mistake, which is reported where it stands.
        Ok(right && values.0.iter().all(|chosen| chosen.value != Some(Value::Auto)))
    }

    /// The settings of a rule, and whether all of them are right.
    #[cold]
    fn values<'a>(&mut self, source: Source, rule: &Rule<'a>, stands: Stands) -> Result<(Values, bool), Wrong<'a>> {
        rule.settings().try_for_each(|setting| setting.map(drop))?;
        let (mistakes, mut values) = (self.wrong.len(), Values::none());
        for setting in rule.settings().flatten() {
            self.setting(source, setting, &mut values, stands);
        }
        Ok((values, self.wrong.len() == mistakes))
    }
}

/// The value of a setting of a rule beside those of `rows`, if it is right, and neither `default` nor `auto`.
#[inline]
fn usual(row: usize, value: &str, rows: Rows) -> Option<Value> {
    let opt = OPTIONS.get(row)?;
    let takes = Stands::Rule.refuses(opt.target).is_none() && !rows.share(Rows::rivals(row)) && !is_unset(value);
    let value = if takes { opt.kind.parse(value, opt.range) } else { None };
    value.filter(|value| *value != Value::Auto)
}

/// What is known of a list of settings.
#[derive(Clone, Copy)]
enum Known {
    /// It is right.
    Right,
    /// It is what the rule of this number says.
    SaidBy(u32),
}

/// What is remembered while a text is read.
struct Reader<'a> {
    /// Lists that are known, by what is written and by whether it is in a rule for every socket; a later one may take the
    /// place of an earlier one.
    lists: Vec<(&'a str, bool, Known)>,
    names: plain::Names<'a>,
    text: &'a str,
    /// So many entries the text may have.
    entries: usize,
}

impl<'a> Reader<'a> {
    fn new(text: &'a str) -> Self {
        Self { lists: Vec::new(), names: plain::Names::default(), text, entries: 0 }
    }

    /// At the first rule: a text without any needs no memory for lists.
    #[cold]
    fn begin(&mut self) {
        let count = |byte| memchr::memchr_iter(byte, self.text.as_bytes()).count();
        // One a line, or all in one: that of a variable.
        self.entries = 1 + Some(count(b'\n')).filter(|lines| *lines > 1).unwrap_or_else(|| count(b';'));
        self.lists = vec![("", false, Known::Right); self.entries.next_power_of_two().min(KNOWN)];
    }

    /// Where a list would be: FNV-1a, eight bytes at a time.
    fn place(&self, text: &str) -> usize {
        let (words, rest) = text.as_bytes().as_chunks::<8>();
        let words = words.iter().map(|word| u64::from_ne_bytes(*word)).chain(rest.iter().map(|byte| (*byte).into()));
        let hash = words.fold(0xcbf2_9ce4_8422_2325, |hash: u64, word| (hash ^ word).wrapping_mul(0x100_0000_01b3));
        usize::try_from(hash >> 56).unwrap_or(0) & (self.lists.len() - 1)
    }

    fn known(&self, place: usize, text: &str, of_all: bool) -> Option<Known> {
        let (known, known_of_all, list) = self.lists.get(place)?;
        (*known == text && *known_of_all == of_all).then_some(*list)
    }

    fn add(&mut self, place: usize, text: &'a str, of_all: bool, list: Known) {
        if let Some(known) = self.lists.get_mut(place) {
            *known = (text, of_all, list);
        }
    }
}

/// Where a setting stands.
#[derive(Clone, Copy)]
enum Stands {
    /// On a line of a file.
    File,
    /// In a rule that looks at sockets.
    Rule,
    /// In a rule that does not.
    RuleOfAll,
}

impl Stands {
    /// Why a setting must not stand there.
    fn refuses(self, target: Target) -> Option<&'static str> {
        let Target::Own(own) = target else { return None };
        match (self, own) {
            (Self::File, Own::Rules) => {
                Some("rules stand on lines of their own here: MATCH=VALUE ... : SETTING=VALUE ...")
            }
            (Self::File, Own::Config | Own::Profile) => Some("only as a variable: a file names no other"),
            (Self::Rule, Own::Mptcp) => {
                Some("not beside dst, src, port or role: a socket is made before they are known")
            }
            (Self::Rule | Self::RuleOfAll, own) if !own.is_of_a_socket() => {
                Some("holds for the whole process, not in a rule")
            }
            _ => None,
        }
    }
}
