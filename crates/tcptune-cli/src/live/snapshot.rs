//! All TCP sockets of a process at one time.

use serde_json::{Map, Value as Json, json};
use tcptune_core::options::table::OPTIONS;
use tcptune_core::options::value::{Kind, OFF, Value};

use super::process::{Descriptor, Target};
use super::socket::{Facts, Reading};
use super::timers::{Timer, Timers};
use crate::screens::error::Error;

/// One of them.
pub struct Entry {
    /// Its descriptors.
    pub descriptor: Descriptor,
    /// Its options.
    pub reading: Reading,
    /// What it waits for.
    pub timer: Option<Timer>,
}

/// All of them.
pub struct Snapshot {
    /// In the order of their descriptors.
    pub entries: Vec<Entry>,
    /// Whether the process ended meanwhile.
    pub ended: bool,
}

impl Snapshot {
    /// Looks at one descriptor after another.
    pub fn take(target: &Target, timers: Option<&Timers>) -> Result<Self, Error> {
        let mut entries = Vec::new();
        for descriptor in target.descriptors()? {
            let Some(socket) = target.duplicate(&descriptor)? else { continue };
            let Some(facts) = socket.facts() else { continue };
            let reading = socket.read(facts);
            drop(socket); // before anything is waited for
            let timer = timers.and_then(|timers| timers.of(&reading.facts));
            entries.push(Entry { descriptor, reading, timer });
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
        let Self { descriptor, reading, timer } = self;
        let facts = &reading.facts;
        let options = reading.options.iter().map(|(row, value)| (key(*row), json_value(*row, value)));
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
            "options": options.collect::<Map<_, _>>(),
            "timer": timer.map(|timer| json!({ "kind": timer.kind, "left_ms": timer.left.as_millis() })),
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
