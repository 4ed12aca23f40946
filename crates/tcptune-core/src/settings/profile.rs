//! What holds for a socket: its socket options as the kernel takes them, and what tcptune itself does.

use std::sync::Arc;

use libc::c_int;

use crate::options::names::Addresses;
use crate::options::phase::Stages;
use crate::options::table::{OPTIONS, Opt, Own, Sockopt, Target};
use crate::options::value::Value;
use crate::options::wire::Payload;
use crate::settings::source::Place;

/// A socket option with the value it is to have.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Planned {
    /// Index of its row in [`OPTIONS`].
    pub row: usize,
    /// The option.
    pub option: Sockopt,
    /// The value.
    pub value: Value,
    /// The same, as the kernel takes it.
    pub payload: Payload,
}

impl Planned {
    /// Its row.
    #[must_use]
    pub fn row(&self) -> Option<&'static Opt> {
        OPTIONS.get(self.row)
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
#[derive(Clone, Debug, Default)]
pub struct Profile {
    /// The socket options, in the order of the table; those of socket(2) stand first. Rules with the same settings share it.
    pub plan: Arc<[Planned]>,
    /// How many of them, from the first on, are set right after socket(2).
    on_socket: usize,
    /// Set on an accepted socket to take off the `ACCEPT_TIMEOUT` that it has inherited from its listener. It is not a value
    /// that has to hold: what the program sets afterwards stays.
    not_inherited: Option<Arc<Planned>>,
    /// Bound on establishing a connection, in milliseconds.
    pub connect_timeout: Option<c_int>,
    /// Bounds on waits for a peer.
    pub limits: Limits,
    /// In place of the program's backlog.
    pub backlog: Option<Backlog>,
    /// Where connections come from.
    pub source: Addresses,
    /// Whether MPTCP sockets are made.
    pub mptcp: bool,
    /// Which value wins.
    pub precedence: Precedence,
    /// The rule by which this holds; none for what holds without a rule.
    pub rule: Option<Place>,
}

impl Profile {
    /// What holds by these settings.
    #[must_use]
    pub fn new(in_force: &[InForce], rule: Option<Place>) -> Self {
        let mut profile = Self { rule, ..Self::default() };
        let mut plan = Vec::with_capacity(in_force.len());
        for InForce { row, value, .. } in in_force {
            match OPTIONS.get(*row).map(|opt| opt.target) {
                Some(Target::Socket(option)) => {
                    if let Some(payload) = option.wire.encode(value) {
                        let (row, value) = (*row, value.clone());
                        profile.limits.add(option, &value);
                        profile.add(&mut plan, Planned { row, option, value, payload });
                    }
                }
                Some(Target::Own(own)) => profile.set_own(own, value),
                None => {}
            }
        }
        if plan.iter().any(is_receive_timeout) {
            profile.not_inherited = not_inherited(&plan).map(Arc::new);
        }
        profile.plan = plan.into();
        profile
    }

    /// The same settings, by the rule at this place.
    pub(crate) fn of_rule(self, place: Place) -> Self {
        Self { rule: Some(place), ..self }
    }

    fn add(&mut self, plan: &mut Vec<Planned>, planned: Planned) {
        if planned.option.stages.contains(Stages::SOCKET) {
            plan.insert(self.on_socket, planned);
            self.on_socket += 1;
        } else {
            plan.push(planned);
        }
    }

    fn set_own(&mut self, own: Own, value: &Value) {
        let int = |n: &i64| c_int::try_from(*n).ok();
        match (own, value) {
            (Own::ConnectTimeout, Value::Int(ms)) => self.connect_timeout = int(ms),
            (Own::ClientTimeout, Value::Int(ms)) => self.limits.client = (*ms).try_into().ok(),
            (Own::Backlog, Value::Int(n)) => self.backlog = int(n).map(Backlog::Fixed),
            (Own::Backlog, Value::AtLeast(n)) => self.backlog = int(n).map(Backlog::AtLeast),
            (Own::Source, Value::Addresses(source)) => self.source = *source,
            (Own::Mptcp, Value::Int(n)) => self.mptcp = *n != 0,
            (Own::Precedence, Value::Int(0)) => self.precedence = Precedence::Env,
            (Own::Precedence, Value::Int(_)) => self.precedence = Precedence::Program,
            _ => {} // not of a socket
        }
    }

    /// The options that socket(2) applies: those of [`Stages::SOCKET`], without another look at each.
    #[must_use]
    #[inline]
    pub fn on_socket(&self) -> &[Planned] {
        self.plan.get(..self.on_socket).unwrap_or_default()
    }

    /// The options that a stage applies to a socket that has passed these. What bind(2) has applied, listen(2) need not.
    pub fn at(&self, stage: Stages, passed: Stages) -> impl Iterator<Item = &Planned> {
        let done = if stage == Stages::LISTEN && passed.contains(Stages::BIND) { Stages::BIND } else { Stages::NONE };
        self.plan
            .iter()
            .chain(self.not_inherited.as_deref())
            .filter(move |p| p.option.stages.contains(stage) && !p.option.stages.contains(done))
    }

    /// The plan for an option of a socket that has passed these stages, if it is set here.
    #[must_use]
    pub fn planned(&self, level: c_int, optname: c_int, passed: Stages) -> Option<&Planned> {
        self.plan.iter().find(|p| p.option.is(level, optname) && p.option.stages.contains(passed))
    }

    /// Whether nothing holds.
    #[must_use]
    pub fn is_empty(&self) -> bool {
        self.plan.is_empty()
            && self.connect_timeout.is_none()
            && self.limits.client.is_none()
            && self.backlog.is_none()
            && self.source == Addresses::default()
            && !self.mptcp
    }
}

impl Limits {
    fn add(&mut self, option: Sockopt, value: &Value) {
        let Value::Int(ms) = value else { return };
        let limit = match (option.level, option.optname) {
            (libc::SOL_SOCKET, libc::SO_SNDTIMEO) => &mut self.send,
            (libc::SOL_SOCKET, libc::SO_RCVTIMEO) if option.stages.contains(Stages::LISTEN) => &mut self.accept,
            (libc::SOL_SOCKET, libc::SO_RCVTIMEO) => &mut self.receive,
            _ => return,
        };
        *limit = (*ms).try_into().ok();
    }
}

fn is_receive_timeout(planned: &Planned) -> bool {
    planned.option.is(libc::SOL_SOCKET, libc::SO_RCVTIMEO)
}

/// What takes an `ACCEPT_TIMEOUT` off an accepted socket, which would inherit it (`RECV_TIMEOUT` does so as well).
#[cold]
fn not_inherited(plan: &[Planned]) -> Option<Planned> {
    let find = |stage| plan.iter().find(|p| is_receive_timeout(p) && p.option.stages.contains(stage));
    let (on_listener, None) = (find(Stages::LISTEN)?, find(Stages::ACCEPT)) else { return None };
    let value = Value::Int(0);
    let payload = on_listener.option.wire.encode(&value)?;
    let option = Sockopt { stages: Stages::ACCEPT, ..on_listener.option };
    Some(Planned { option, value, payload, ..*on_listener })
}
