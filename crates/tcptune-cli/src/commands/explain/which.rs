//! Which rule holds for a destination, and why the ones before it do not.

use std::net::{IpAddr, SocketAddr};

use serde_json::{Value as Json, json};
use tcptune_core::settings::grammar::{self, Entry, Rule};
use tcptune_core::settings::rules::Role;
use tcptune_core::settings::source::{Place, Process, Source};

use super::source::Sources;
use crate::screens::error::Error;
use crate::screens::output::{Output, Tone};

/// The port where none was given.
pub const UNKNOWN: u16 = 0;

/// Why a rule holds or not.
enum Verdict {
    Wins,
    Not(String),
    NotReached,
}

/// A rule on the way.
struct Step {
    place: Place,
    text: String,
    verdict: Verdict,
}

/// All rules, in the order in which they are asked.
pub struct Which {
    peer: SocketAddr,
    steps: Vec<Step>,
}

impl Which {
    /// For a program that connects to this peer.
    pub fn new(sources: &Sources, process: &Process, peer: SocketAddr) -> Self {
        let mut steps: Vec<Step> = Vec::new();
        for source in [Source::Environment, Source::Profile, Source::Config, Source::System] {
            let rules = grammar::entries(sources.text(source)).filter_map(|entry| match entry {
                Ok(Entry::Rule(rule)) => Some(rule),
                _ => None,
            });
            for rule in rules {
                let place = Place { source, line: rule.word.line, column: rule.word.column() };
                let verdict = match why_not(&rule, process, peer) {
                    _ if steps.iter().any(|step| matches!(step.verdict, Verdict::Wins)) => Verdict::NotReached,
                    Some(why) => Verdict::Not(why),
                    None => Verdict::Wins,
                };
                steps.push(Step { place, text: sources.rule(place), verdict });
            }
        }
        Self { peer, steps }
    }

    /// Where the rule stands that wins.
    pub fn winner(&self) -> Option<Place> {
        self.steps.iter().find(|step| matches!(step.verdict, Verdict::Wins)).map(|step| step.place)
    }

    /// For people.
    pub fn print(&self, out: &Output) -> Result<(), Error> {
        out.print("")?;
        let peer = if self.peer.port() == UNKNOWN { self.peer.ip().to_string() } else { self.peer.to_string() };
        out.print(format!("{} {peer}", out.paint(Tone::Heading, "Connects to")))?;
        if self.steps.is_empty() {
            return out.print("  no rule: what holds without one");
        }
        let mut table = out.plain_table();
        for step in &self.steps {
            let (tone, verdict) = match &step.verdict {
                Verdict::Wins => (Tone::Good, "wins".to_owned()),
                Verdict::Not(why) => (Tone::Plain, format!("no: {why}")),
                Verdict::NotReached => (Tone::Faint, "not reached".to_owned()),
            };
            table.add_row(vec![out.cell(Tone::Plain, format!("  {}", step.text)), out.cell(tone, verdict)]);
        }
        out.print_table(&table)?;
        if self.winner().is_none() {
            out.print("  none of them: what holds without a rule")?;
        }
        Ok(())
    }

    /// For other programs.
    pub fn json(&self) -> Json {
        let steps = self.steps.iter().map(|step| {
            let (verdict, why) = match &step.verdict {
                Verdict::Wins => ("wins", None),
                Verdict::Not(why) => ("no", Some(why)),
                Verdict::NotReached => ("not_reached", None),
            };
            json!({ "rule": step.text, "verdict": verdict, "why": why })
        });
        json!({ "peer": self.peer, "rules": steps.collect::<Vec<_>>() })
    }
}

/// The first match of a rule that does not hold.
fn why_not(rule: &Rule, process: &Process, peer: SocketAddr) -> Option<String> {
    let Rule { conditions, scope, .. } = rule;
    if !scope.programs.is_empty() && !scope.programs.iter().any(|program| process.is(program)) {
        let name = process.names.first().map_or("none, see --program", String::as_str);
        return Some(format!("program is {name}"));
    }
    if !scope.uids.is_empty() && !scope.uids.contains(&process.uid) {
        return Some(format!("uid is {}", process.uid));
    }
    if conditions.role == Some(Role::Server) {
        return Some("role is client".to_owned());
    }
    let is_in = |ip: IpAddr| conditions.dst.iter().any(|net| net.contains(&ip));
    if !conditions.dst.is_empty() && !is_in(peer.ip()) {
        return Some(format!("dst is {}", peer.ip()));
    }
    if !conditions.ports.is_empty()
        && !conditions.ports.iter().any(|(first, last)| (*first..=*last).contains(&peer.port()))
    {
        let why = if peer.port() == UNKNOWN {
            "port is not known, see --port".into()
        } else {
            format!("port is {}", peer.port())
        };
        return Some(why);
    }
    (!conditions.src.is_empty()).then(|| "src is not known: the program would have to bind".to_owned())
}
