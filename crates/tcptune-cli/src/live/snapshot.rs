//! All TCP sockets of a process at one time.

use serde_json::{Map, Value as Json, json};
use tcptune_core::options::table::OPTIONS;
use tcptune_core::options::value::{Kind, OFF, Value};

use super::diag::Sockets;
use super::filter::Filter;
use super::process::{Descriptor, Target};
use super::socket::{Facts, Reading};
use super::state::State;
use crate::screens::error::Error;

/// One of them.
pub struct Entry {
    /// Its descriptors.
    pub descriptor: Descriptor,
    /// What it is.
    pub facts: Facts,
    /// Its options, if they were read.
    pub reading: Option<Reading>,
}

/// All of them.
pub struct Snapshot {
    /// In the order of their descriptors.
    pub entries: Vec<Entry>,
    /// Whether the process ended meanwhile.
    pub ended: bool,
}

/// Of which sockets the options are read: that takes a duplicate, which keeps a socket open for a moment.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Depth {
    Nothing,
    Connections,
    All,
}

impl Depth {
    fn takes(self, state: State) -> bool {
        match self {
            Self::Nothing => false,
            Self::Connections => state.is_of_a_connection(),
            Self::All => true,
        }
    }
}

impl Snapshot {
    /// Looks at one descriptor after another.
    pub fn take(target: &Target, sockets: &Sockets, filter: &Filter, depth: Depth) -> Result<Self, Error> {
        let mut entries = Vec::new();
        for descriptor in target.descriptors()? {
            let listed = sockets.get(descriptor.inode);
            let facts = listed.cloned().or_else(|| target.kind(&descriptor).map(Facts::unconnected));
            let Some(mut facts) = facts.filter(|facts| filter.takes(facts) && filter.takes_descriptor(&descriptor))
            else {
                continue;
            };
            let mut reading = None;
            facts.mptcp |= target.kind(&descriptor).is_some_and(|(mptcp, _)| mptcp);
            if depth.takes(facts.state) {
                let Some(socket) = target.duplicate(&descriptor)? else { continue };
                let Some(read) = socket.facts(listed) else { continue };
                reading = Some(socket.read(&read));
                facts = read;
            }
            entries.push(Entry { descriptor, facts, reading });
        }
        Ok(Self { entries, ended: target.has_ended() })
    }

    /// For other programs.
    pub fn json(&self, target: &Target) -> Json {
        let sockets: Vec<_> = self.entries.iter().map(Entry::json).collect();
        json!({ "pid": target.pid(), "name": target.name(), "ended": self.ended, "sockets": sockets })
    }
}

impl Entry {
    fn json(&self) -> Json {
        let Self { descriptor, facts, reading } = self;
        let options = reading.as_ref().map(|reading| {
            let options = reading.options.iter().map(|(row, value)| (key(*row), json_value(*row, value)));
            options.collect::<Map<_, _>>()
        });
        let info = facts.info.as_ref().filter(|_| facts.peer.is_some()).map(|info| {
            json!({
                "retransmits": info.retransmits,
                "probes": info.probes,
                "backoff": info.backoff,
                "rto_us": info.rto,
                "rtt_us": info.rtt,
                "unacked": info.unacked,
                "total_retrans": info.total_retrans,
                "last_data_sent_ms": info.last_data_sent,
                "last_data_recv_ms": info.last_data_recv,
                "last_ack_recv_ms": info.last_ack_recv,
                "pmtu": info.pmtu,
                "snd_mss": info.snd_mss,
                "snd_cwnd": info.snd_cwnd,
            })
        });
        json!({
            "fds": descriptor.fds,
            "inode": descriptor.inode,
            "protocol": protocol(facts),
            "family": if facts.v6 { "ipv6" } else { "ipv4" },
            "state": facts.state.name(),
            "local": facts.local,
            "peer": facts.peer,
            "recv_queue": facts.queues.map(|(received, _)| received),
            "send_queue": facts.queues.map(|(_, sent)| sent),
            "options": options,
            "timer": facts.timer.map(|timer| json!({ "kind": timer.kind, "left_ms": timer.left.as_millis() })),
            "info": info,
        })
    }
}

/// `mptcp` or `tcp`.
pub fn protocol(facts: &Facts) -> &'static str {
    if facts.mptcp { "mptcp" } else { "tcp" }
}

/// The name of a row in JSON.
pub fn key(row: usize) -> String {
    OPTIONS[row].name().to_ascii_lowercase()
}

/// A value in the option's own unit; 0 is often "not set", as getsockopt(2) has it.
pub fn json_value(row: usize, value: &Value) -> Json {
    match (OPTIONS[row].kind, value) {
        (Kind::Bool, Value::Int(n)) => Json::Bool(*n != 0),
        (Kind::Choice(_), _) => Json::String(OPTIONS[row].kind.show(value).to_string()),
        // Off; or all bits set, which is no limit.
        (Kind::Duration { word: Some(_), .. } | Kind::Size, Value::Int(OFF)) => Json::Null,
        (_, Value::Int(n)) => Json::from(*n),
        (_, Value::Name(name)) if name.is_empty() => Json::Null,
        _ => Json::String(OPTIONS[row].kind.show(value).to_string()),
    }
}
