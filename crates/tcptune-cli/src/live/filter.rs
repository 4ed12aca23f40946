//! Which sockets of a process are meant.

use clap::{Arg, ArgAction, ArgMatches};
use ipnet::IpNet;
use tcptune_core::settings::grammar::{self, Entry};

use super::process::Descriptor;
use super::socket::Facts;
use super::state::State;
use crate::screens::candidates;
use crate::screens::error::Error;
use crate::settings::flags::Text;

/// An empty list means all.
#[derive(Debug, Default)]
pub struct Filter {
    /// One of the socket's descriptors is among these.
    fds: Vec<i32>,
    /// The peer is in one of these networks.
    dst: Vec<IpNet>,
    /// The peer's or the own port is in one of these ranges.
    ports: Vec<(u16, u16)>,
    /// The socket is in one of these states.
    states: Vec<State>,
}

/// The flags of it.
pub fn args() -> [Arg; 4] {
    [
        Arg::new("dst")
            .long("dst")
            .value_name("NETWORKS")
            .value_parser(Text(""))
            .help("Only sockets whose peer is in one of these networks"),
        Arg::new("port")
            .long("port")
            .value_name("PORTS")
            .value_parser(Text(""))
            .help("Only sockets whose own or peer's port is one of these"),
        Arg::new("state")
            .long("state")
            .value_name("STATES")
            .action(ArgAction::Append)
            .value_delimiter(',')
            .add(candidates::words(State::known))
            .value_parser(|text: &str| State::find(text).ok_or_else(|| format!("accepted: {}", State::names())))
            .help("Only sockets in one of these states, such as syn_sent,established"),
        Arg::new("fd")
            .long("fd")
            .value_name("N")
            .action(ArgAction::Append)
            .value_delimiter(',')
            .value_parser(|text: &str| {
                text.parse().ok().filter(|fd: &i32| *fd >= 0).ok_or("accepted: numbers, such as 3,7")
            })
            .help("Only these descriptors of the process"),
    ]
}

impl Filter {
    /// As the flags say.
    pub fn new(matches: &ArgMatches) -> Result<Self, Error> {
        let mut filter = Self {
            fds: matches.get_many("fd").into_iter().flatten().copied().collect(),
            states: matches.get_many("state").into_iter().flatten().copied().collect(),
            ..Self::default()
        };
        for flag in ["dst", "port"] {
            let Some(list) = matches.get_one::<String>(flag) else { continue };
            // As a rule has it: the same networks and ports are taken, with the same messages.
            let words = list.split(',').map(str::trim).collect::<Vec<_>>().join(",");
            match grammar::entries(&format!("{flag}={words} : off")).next() {
                Some(Ok(Entry::Rule(rule))) => {
                    filter.dst.extend(rule.conditions.dst);
                    filter.ports.extend(rule.conditions.ports);
                }
                Some(Err(wrong)) => return Err(Error::usage(format!("--{flag} {list}: {}", wrong.problem))),
                _ => {
                    let message = format!("--{flag} {list}: expected a value, or several with commas between");
                    return Err(Error::usage(message));
                }
            }
        }
        Ok(filter)
    }

    /// Whether one of these descriptors is meant.
    pub fn takes_descriptor(&self, descriptor: &Descriptor) -> bool {
        self.fds.is_empty() || descriptor.fds.iter().any(|fd| self.fds.contains(fd))
    }

    /// Whether such a socket is meant.
    pub fn takes(&self, facts: &Facts) -> bool {
        let peer = facts.peer.map(|peer| peer.ip());
        let ports = [facts.peer, facts.local].into_iter().flatten().map(|address| address.port());
        let in_a_range = |port: u16| self.ports.iter().any(|(first, last)| (*first..=*last).contains(&port));
        (self.dst.is_empty() || peer.is_some_and(|peer| self.dst.iter().any(|net| net.contains(&peer))))
            && (self.ports.is_empty() || ports.filter(|port| *port != 0).any(in_a_range))
            && (self.states.is_empty() || self.states.contains(&facts.state))
    }

    /// Whether all sockets are meant.
    pub fn is_empty(&self) -> bool {
        self.fds.is_empty() && self.dst.is_empty() && self.ports.is_empty() && self.states.is_empty()
    }
}
