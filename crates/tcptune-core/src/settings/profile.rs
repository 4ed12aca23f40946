//! What holds for a socket: its socket options as the kernel takes them, and what tcptune itself does.

use std::sync::Arc;

use libc::c_int;

use crate::options::names::Addresses;
use crate::options::phase::Stages;
use crate::options::rows::Rows;
use crate::options::table::{OPTIONS, Opt, Sockopt, Target, by_first_name, row};
use crate::options::value::Value;
use crate::options::wire::Payload;
pub use crate::settings::change::Change;
use crate::settings::change::{self, Changes, Part};
use crate::settings::source::Place;

/// A socket option with the value it is to have.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Index of its row in [`OPTIONS`].
    pub row: usize,
    /// The option.
    pub option: Sockopt,
    /// The value, as the kernel takes it.
    pub payload: Payload,
}

impl Planned {
    /// That row with this value; none if it is no socket option.
    fn new(row: usize, value: &Value) -> Option<Self> {
        let Target::Socket(option) = OPTIONS.get(row)?.target else { return None };
        Some(Self { row, option, payload: option.wire.encode(value)? })
    }

    /// Its row.
    #[must_use]
    pub fn row(&self) -> Option<&'static Opt> {
        OPTIONS.get(self.row)
    }

    /// The value.
    #[must_use]
    pub fn value(&self) -> Value {
        self.option.wire.value_of(&self.payload)
    }
}

/// Which value wins where the program sets an option that is set here.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Precedence {
    /// That of the environment: a program's own successful setsockopt is followed by ours.
    #[default]
    Env,
    /// The program's: ours are applied once, to the new socket.
    Program,
}

/// The queue of a listener.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Backlog {
    /// This, whatever the program asks for.
    Fixed(c_int),
    /// No less than this.
    AtLeast(c_int),
}

impl Backlog {
    /// In place of the program's number. The kernel takes a negative one for its own limit (listen(2)).
    #[must_use]
    pub fn instead_of(self, programs: c_int) -> c_int {
        match self {
            Self::Fixed(n) => n,
            Self::AtLeast(_) if programs < 0 => programs,
            Self::AtLeast(n) => programs.max(n),
        }
    }
}

/// For how long the program waits for a silent peer, in milliseconds.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Limits {
    /// For something to read.
    pub receive: Option<u32>,
    /// For room to write.
    pub send: Option<u32>,
    /// For something to read from a client, where it waits by poll(2) and its kin.
    pub client: Option<u32>,
    /// For a client to accept.
    pub accept: Option<u32>,
}

/// A setting that holds, for people.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct InForce {
    /// Index of its row in [`OPTIONS`].
    pub row: usize,
    /// Its value.
    pub value: Value,
    /// Where it was said.
    pub place: Place,
}

/// What holds for a socket. Nothing, for one that is left alone.
///
/// A rule is kept as what it changes: rules are many, and most change little.
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// What holds where the rule says nothing.
    under: Arc<Settled>,
    /// What the rule says, among what all rules say.
    over: Part,
    /// The rows that it says something of.
    changed: Rows,
    /// The rows for which something holds.
    set: Rows,
    /// The rule by which this holds; none for what holds without a rule.
    pub rule: Option<Place>,
}

/// How far a walk over the options of some stages has come: over what holds without a rule, and over what the rule says.
#[derive(Clone, Copy, Debug)]
pub struct Walk {
    stages: Stages,
    but: Stages,
    under: u16,
    over: u16,
}

impl Walk {
    /// Over what a stage applies to a socket that has passed these. What bind(2) has applied, listen(2) need not.
    #[must_use]
    #[inline]
    pub fn over(stage: Stages, passed: Stages) -> Self {
        let but = if stage == Stages::LISTEN && passed.contains(Stages::BIND) { Stages::BIND } else { Stages::NONE };
        Self { stages: stage, but, under: 0, over: 0 }
    }

    /// Whether an option is among them.
    #[must_use]
    #[inline]
    pub fn stops_at(&self, option: &Sockopt) -> bool {
        option.stages.contains(self.stages) && !option.stages.contains(self.but)
    }
}

/// A step of it.
#[derive(Clone, Copy, Debug)]
pub enum Step<'a> {
    /// A socket option that holds without the rule.
    Planned(&'a Planned),
    /// What the rule says of a row.
    Said(Change),
}

/// What holds without a rule, and what rules say.
#[derive(Debug, Default)]
pub(crate) struct Settled {
    /// The socket options, in the order of the table; those of socket(2) stand first.
    plan: Vec<Planned>,
    /// How many of them, from the first on, are set right after socket(2).
    on_socket: usize,
    own: OwnSettings,
    set: Rows,
    changes: Changes,
}

/// What tcptune itself does with a socket.
#[derive(Clone, Copy, Debug, Default)]
struct OwnSettings {
    connect_timeout: Option<c_int>,
    client_timeout: Option<u32>,
    backlog: Option<Backlog>,
    source: Addresses,
    mptcp: bool,
    precedence: Precedence,
}

// Rows of which something follows.
const RECV_TIMEOUT: usize = row("RECV_TIMEOUT");
const SEND_TIMEOUT: usize = row("SEND_TIMEOUT");
const ACCEPT_TIMEOUT: usize = row("ACCEPT_TIMEOUT");
const CLIENT_TIMEOUT: usize = row("CLIENT_TIMEOUT");
const CONNECT_TIMEOUT: usize = row("CONNECT_TIMEOUT");
const BACKLOG: usize = row("BACKLOG");
const SOURCE: usize = row("SOURCE");
const MPTCP: usize = row("MPTCP");
const PRECEDENCE: usize = row("PRECEDENCE");

impl Settled {
    /// Of these settings, and those that rules lay over them.
    pub fn new(in_force: &[InForce], changes: Changes) -> Self {
        let mut settled = Self { plan: Vec::with_capacity(in_force.len()), changes, ..Self::default() };
        for InForce { row, value, .. } in in_force {
            settled.set = holds(settled.set, *row, if let Value::Int(n) = value { Some(*n) } else { None });
            match Planned::new(*row, value) {
                Some(planned) if Rows::ON_SOCKET.has(*row) => {
                    settled.plan.insert(settled.on_socket, planned);
                    settled.on_socket += 1;
                }
                Some(planned) => settled.plan.push(planned),
                None => settled.own.set(*row, value),
            }
        }
        settled
    }

    fn value(&self, row: usize) -> Option<Value> {
        self.plan.iter().find(|planned| planned.row == row).map(Planned::value)
    }
}

/// The rows for which something holds, with a value of this one as well, by its number if it is one.
#[inline]
fn holds(set: Rows, row: usize, number: Option<i64>) -> Rows {
    match (row, number) {
        (PRECEDENCE, _) | (MPTCP, Some(0)) => set,
        _ => set.or(Rows::of(row)),
    }
}

impl OwnSettings {
    fn set(&mut self, row: usize, value: &Value) {
        match (row, value) {
            (CONNECT_TIMEOUT, Value::Int(ms)) => self.connect_timeout = (*ms).try_into().ok(),
            (CLIENT_TIMEOUT, Value::Int(ms)) => self.client_timeout = (*ms).try_into().ok(),
            (BACKLOG, Value::Int(n)) => self.backlog = (*n).try_into().ok().map(Backlog::Fixed),
            (BACKLOG, Value::AtLeast(n)) => self.backlog = (*n).try_into().ok().map(Backlog::AtLeast),
            (SOURCE, Value::Addresses(source)) => self.source = *source,
            (MPTCP, Value::Int(n)) => self.mptcp = *n != 0,
            (PRECEDENCE, Value::Int(0)) => self.precedence = Precedence::Env,
            (PRECEDENCE, Value::Int(_)) => self.precedence = Precedence::Program,
            _ => {} // not of a socket
        }
    }
}

impl Profile {
    /// What holds without a rule, or under one that says all of it.
    pub(crate) fn new(under: Arc<Settled>, rule: Option<Place>) -> Self {
        let set = under.set;
        Self { under, over: 0..0, changed: Rows::default(), set, rule }
    }

    /// Under a rule that changes this.
    pub(crate) fn under_rule(under: &Arc<Settled>, over: Part, rule: Place) -> Self {
        let (mut changed, mut set) = (Rows::default(), Rows::default());
        for change in under.changes.of(&over) {
            changed = changed.or(Rows::rivals(change.row()));
            if !change.is_default() {
                set = holds(set, change.row(), under.changes.int(*change));
            }
        }
        let set = under.set.without(changed).or(set);
        Self { under: under.clone(), over, changed, set, rule: Some(rule) }
    }

    /// The same settings, by the rule at this place.
    pub(crate) fn of_rule(&self, place: Place) -> Self {
        Self { rule: Some(place), ..self.clone() }
    }

    fn changes(&self) -> &[Change] {
        if self.changed.is_empty() { &[] } else { self.under.changes.of(&self.over) }
    }

    /// What the rule says of a row that it changes; none is the kernel's value.
    fn said(&self, row: usize) -> Option<Value> {
        let change = self.changes().iter().find(|change| change.row() == row)?;
        self.under.changes.value(*change)
    }

    /// What tcptune itself does, by a row of which the rule may say something.
    #[inline]
    fn own(&self, row: usize) -> OwnSettings {
        if self.changed.has(row) { self.own_of_rule(row) } else { self.under.own }
    }

    #[inline(never)]
    fn own_of_rule(&self, row: usize) -> OwnSettings {
        let mut own = OwnSettings::default();
        if let Some(value) = self.said(row) {
            own.set(row, &value);
        }
        own
    }

    /// Bound on establishing a connection, in milliseconds.
    #[must_use]
    #[inline]
    pub fn connect_timeout(&self) -> Option<c_int> {
        self.own(CONNECT_TIMEOUT).connect_timeout
    }

    /// Whether it bounds it.
    #[must_use]
    pub fn has_connect_timeout(&self) -> bool {
        self.set.has(CONNECT_TIMEOUT)
    }

    /// In place of the program's backlog.
    #[must_use]
    pub fn backlog(&self) -> Option<Backlog> {
        self.own(BACKLOG).backlog
    }

    /// Where connections come from.
    #[must_use]
    #[inline]
    pub fn source(&self) -> Addresses {
        if self.set.has(SOURCE) { self.own(SOURCE).source } else { Addresses::default() }
    }

    /// Whether it says where connections come from.
    #[must_use]
    pub fn has_source(&self) -> bool {
        self.set.has(SOURCE)
    }

    /// Whether MPTCP sockets are made.
    #[must_use]
    pub fn mptcp(&self) -> bool {
        self.set.has(MPTCP)
    }

    /// Which value wins.
    #[must_use]
    #[inline]
    pub fn precedence(&self) -> Precedence {
        self.own(PRECEDENCE).precedence
    }

    /// Bounds on waits for a peer.
    #[must_use]
    #[inline]
    pub fn limits(&self) -> Limits {
        const LIMITS: Rows =
            Rows::of(RECV_TIMEOUT).or(Rows::of(SEND_TIMEOUT)).or(Rows::of(ACCEPT_TIMEOUT)).or(Rows::of(CLIENT_TIMEOUT));
        if self.set.share(LIMITS) { self.some_limits() } else { Limits::default() }
    }

    #[inline(never)]
    fn some_limits(&self) -> Limits {
        let (receive, send) = (self.milliseconds(RECV_TIMEOUT), self.milliseconds(SEND_TIMEOUT));
        let client = if self.set.has(CLIENT_TIMEOUT) { self.own(CLIENT_TIMEOUT).client_timeout } else { None };
        Limits { receive, send, client, accept: self.milliseconds(ACCEPT_TIMEOUT) }
    }

    #[inline(never)]
    fn milliseconds(&self, row: usize) -> Option<u32> {
        if !self.set.has(row) {
            return None;
        }
        let value = if self.changed.has(row) { self.said(row) } else { self.under.value(row) };
        match value? {
            Value::Int(ms) => ms.try_into().ok(),
            _ => None,
        }
    }

    /// The socket options, in the order of the table; those of socket(2) stand first.
    #[must_use]
    #[allow(clippy::disallowed_types, reason = "for start-up and for people")]
    pub fn plan(&self) -> Vec<Planned> {
        let mut plan = Vec::with_capacity(self.under.plan.len());
        let mut walk = Walk::over(Stages::from_bits(u8::MAX), Stages::NONE);
        while let Some(step) = self.next(&mut walk) {
            plan.extend(match step {
                Step::Planned(planned) => Some(*planned),
                Step::Said(said) => self.planned_by(said),
            });
        }
        plan
    }

    /// All socket options, where a rule changes none.
    #[must_use]
    #[inline]
    pub fn unchanged(&self) -> Option<&[Planned]> {
        self.changed.is_empty().then_some(&self.under.plan)
    }

    /// The next step of a walk, in the order of the table. No iterator: a hook has little stack, and what it does with an option
    /// shall not need that of the walk as well.
    #[inline(never)]
    pub fn next(&self, walk: &mut Walk) -> Option<Step<'_>> {
        loop {
            let under = self.under.plan.get(usize::from(walk.under));
            let change = self.changes().get(usize::from(walk.over));
            match (under, change) {
                (Some(under), change)
                    if change.is_none_or(|change| change::order(under.row) < change::order(change.row())) =>
                {
                    walk.under += 1;
                    if walk.stops_at(&under.option) && !self.changed.has(under.row) {
                        return Some(Step::Planned(under));
                    }
                }
                (_, Some(change)) => {
                    walk.over += 1;
                    if change.option().is_some_and(|option| walk.stops_at(option)) {
                        return Some(Step::Said(*change));
                    }
                }
                (_, None) => return None,
            }
        }
    }

    /// What a rule says of a socket option; none is the kernel's value.
    #[must_use]
    #[inline(never)] // for the stack, as above
    pub fn planned_by(&self, said: Change) -> Option<Planned> {
        Planned::new(said.row(), &self.under.changes.value(said)?)
    }

    /// The options that socket(2) applies, those of [`Stages::SOCKET`]; none if a rule may say something of them.
    #[must_use]
    #[inline]
    pub fn on_socket(&self) -> Option<&[Planned]> {
        self.under.plan.get(..self.under.on_socket).filter(|_| self.changed.is_empty())
    }

    /// Whether a stage applies any option to a socket that has passed these.
    #[must_use]
    #[inline]
    pub fn has_at(&self, stage: Stages, passed: Stages) -> bool {
        let rows = match stage {
            Stages::LISTEN if passed.contains(Stages::BIND) => Rows::ON_LISTEN_ALONE,
            Stages::LISTEN => const { Rows::at(Stages::LISTEN) },
            Stages::BIND => const { Rows::at(Stages::BIND) },
            Stages::ACCEPT => const { Rows::at(Stages::ACCEPT) },
            Stages::CONNECT => const { Rows::at(Stages::CONNECT) },
            _ => Rows::ON_SOCKET,
        };
        self.set.share(rows) || (stage == Stages::ACCEPT && self.inherits_too_much())
    }

    /// Whether an accepted socket inherits an `ACCEPT_TIMEOUT` that is to be taken off (`RECV_TIMEOUT` does so as well).
    #[must_use]
    pub fn inherits_too_much(&self) -> bool {
        self.set.has(ACCEPT_TIMEOUT) && !self.set.has(RECV_TIMEOUT)
    }

    /// The plan for an option of a socket that has passed these stages, if it is set here.
    #[must_use]
    #[inline(never)]
    pub fn planned(&self, level: c_int, optname: c_int, passed: Stages) -> Option<Planned> {
        let (level, optname) = by_first_name(level, optname);
        let mut walk = Walk::over(passed, Stages::NONE);
        while let Some(step) = self.next(&mut walk) {
            match step {
                Step::Planned(planned) if planned.option.is(level, optname) => return Some(*planned),
                Step::Said(said) if said.option().is_some_and(|option| option.is(level, optname)) => {
                    return self.planned_by(said);
                }
                _ => {}
            }
        }
        None
    }

    /// Whether nothing holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.set.is_empty()
    }
}

/// Set on an accepted socket to take off the `ACCEPT_TIMEOUT` that it has inherited from its listener. It is not a value that
/// has to hold: what the program sets afterwards stays.
#[cold]
#[must_use]
pub fn none_on_accept() -> Option<Planned> {
    let none = Planned::new(ACCEPT_TIMEOUT, &Value::Int(0))?;
    Some(Planned { option: Sockopt { stages: Stages::ACCEPT, ..none.option }, ..none })
}
