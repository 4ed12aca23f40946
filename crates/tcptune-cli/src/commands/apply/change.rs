//! Sets options on a live socket, and reads them back.

use std::fmt;

use serde_json::{Value as Json, json};
use tcptune_core::options::phase::Phases;
use tcptune_core::options::table::{OPTIONS, Sockopt, Target};
use tcptune_core::options::value::Value;
use tcptune_core::settings::profile::InForce;
use tcptune_core::system::errno::Named;

use crate::live::snapshot::{json_value, key};
use crate::live::socket::{Facts, Socket, shown};

/// What became of one setting on one socket.
#[derive(Clone, Debug)]
pub struct Change {
    /// Its row.
    pub row: usize,
    /// The value that the socket had; none where the kernel does not tell.
    pub before: Option<Value>,
    /// What was done.
    pub outcome: Outcome,
}

/// What was done.
#[derive(Clone, Debug)]
pub enum Outcome {
    /// It was set; this is what the kernel then said.
    Set(Option<Value>),
    /// It would be set to this, without `--dry-run`.
    WouldSet(Value),
    /// Too late or too early in this socket's life: the phases in which the option can be set.
    TooLate(Phases),
    /// Of IPv6 sockets only.
    OtherFamily,
    /// The kernel refused it.
    Failed(Refused),
}

/// Why the kernel refused an option.
#[derive(Clone, Copy, Debug)]
pub struct Refused {
    row: usize,
    errno: i32,
    mptcp: bool,
}

impl fmt::Display for Refused {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}", Named(self.errno))?;
        let (name, since) = (OPTIONS[self.row].name(), OPTIONS[self.row].since);
        match (self.errno, name) {
            (libc::ENOPROTOOPT | libc::EOPNOTSUPP, _) if self.mptcp => f.write_str(": MPTCP does not take it"),
            (libc::ENOPROTOOPT, _) => write!(f, ": Linux {since} has it"),
            (libc::ENOENT, "CONGESTION") => f.write_str(": not in net.ipv4.tcp_available_congestion_control"),
            (libc::EPERM, "CONGESTION") => f.write_str(": not in net.ipv4.tcp_allowed_congestion_control"),
            (libc::ENODEV, _) => f.write_str(": no such device"),
            (libc::EPERM, _) => f.write_str(": tcptune needs CAP_NET_ADMIN"),
            _ => Ok(()),
        }
    }
}

impl Change {
    /// Sets one option, unless it is only to be said what would be done.
    pub fn make(socket: &Socket, facts: &Facts, setting: &InForce, dry_run: bool) -> Option<Self> {
        let opt = &OPTIONS[setting.row];
        let Target::Socket(option) = opt.target else { return None };
        let read = socket.get(opt, &option, facts);
        let refused = |errno| Outcome::Failed(Refused { row: setting.row, errno, mptcp: facts.mptcp });
        let outcome = if option.level == libc::IPPROTO_IPV6 && !facts.v6 {
            Outcome::OtherFamily
        } else if !option.live.contains(facts.phase()) {
            Outcome::TooLate(option.live)
        } else {
            match read {
                // The kernel refuses to read it, so it would refuse to set it.
                Err(errno) if dry_run => refused(errno),
                _ if dry_run => Outcome::WouldSet(setting.value.clone()),
                _ => match set(socket, facts, setting, &option) {
                    Ok(()) => Outcome::Set(socket.get(opt, &option, facts).ok()),
                    Err(errno) => refused(errno),
                },
            }
        };
        Some(Self { row: setting.row, before: read.ok(), outcome })
    }

    /// Whether the socket could have taken it.
    pub fn fits(&self) -> bool {
        !matches!(self.outcome, Outcome::TooLate(_) | Outcome::OtherFamily)
    }

    /// Whether the kernel refused it.
    pub fn has_failed(&self) -> bool {
        matches!(self.outcome, Outcome::Failed(_))
    }

    /// Whether the socket had this value before.
    pub fn is_same(&self) -> bool {
        match &self.outcome {
            Outcome::Set(after) => *after == self.before,
            Outcome::WouldSet(value) => self.before.as_ref() == Some(value),
            _ => false,
        }
    }

    /// The value before, as an operator would write it.
    pub fn before(&self) -> String {
        self.shown(self.before.as_ref())
    }

    /// The value after, or why there is none.
    pub fn after(&self) -> String {
        match &self.outcome {
            Outcome::Set(after) => self.shown(after.as_ref()),
            Outcome::WouldSet(value) => self.shown(Some(value)),
            Outcome::TooLate(live) => format!("not set: only {live}"),
            Outcome::OtherFamily => "not set: only on an IPv6 socket".to_owned(),
            Outcome::Failed(why) => format!("refused: {why}"),
        }
    }

    fn shown(&self, value: Option<&Value>) -> String {
        value.map_or("-".to_owned(), |value| shown(&OPTIONS[self.row], value))
    }

    /// For other programs.
    pub fn json(&self) -> Json {
        let value = |value: Option<&Value>| value.map(|value| json_value(self.row, value));
        let (outcome, after, why) = match &self.outcome {
            Outcome::Set(after) => ("set", value(after.as_ref()), None),
            Outcome::WouldSet(wanted) => ("would_set", value(Some(wanted)), None),
            Outcome::TooLate(_) | Outcome::OtherFamily => ("not_set", None, Some(self.after())),
            Outcome::Failed(why) => ("refused", None, Some(why.to_string())),
        };
        let before = value(self.before.as_ref());
        json!({ "setting": key(self.row), "before": before, "after": after, "outcome": outcome, "why": why })
    }
}

fn set(socket: &Socket, facts: &Facts, setting: &InForce, option: &Sockopt) -> Result<(), i32> {
    let payload = option.wire.encode(&setting.value).ok_or(libc::EINVAL)?;
    socket.set(option, facts, &payload)
}
