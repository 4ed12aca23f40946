//! Programs in the kernel: attaching, finding and detaching them.

use std::io;
use std::os::fd::{AsFd, BorrowedFd, OwnedFd};

use super::about::{About, State};
use super::layout::{Map, STATE, attempt, socket, state};
use super::tuning::Tuning;
use super::{KINDS, Kind, bpf, programs};

/// The step that others may forbid.
pub const ATTACHING: &str = "attaching a program";

/// What could not be done.
#[derive(Debug)]
pub enum Failed {
    /// A step that the kernel refuses.
    Refused { step: &'static str, error: io::Error },
    /// A program that the verifier does not take, and its last words.
    Verifier { program: &'static str, error: io::Error, says: String },
    /// More rules than a program can hold.
    TooMany,
}

fn refused(step: &'static str) -> impl Fn(io::Error) -> Failed {
    move |error| Failed::Refused { step, error }
}

/// The programs of ours on a cgroup, and their maps.
#[derive(Default)]
pub struct Attached {
    programs: Vec<(Kind, OwnedFd)>,
    maps: Vec<(Map, OwnedFd)>,
}

impl Attached {
    /// Finds what is attached to the cgroup; empty if nothing of ours is.
    pub fn find(cgroup: BorrowedFd<'_>) -> Result<Self, Failed> {
        let mut found = Self::default();
        for kind in KINDS {
            let ids = bpf::attached(kind, cgroup).map_err(refused("looking for programs of the cgroup"))?;
            for id in ids {
                // One that is detached meanwhile is none.
                let program = match bpf::program(id) {
                    Err(error) if error.raw_os_error() == Some(libc::ENOENT) => continue,
                    other => other.map_err(refused("opening a program of the cgroup"))?,
                };
                let (name, maps) =
                    bpf::program_info(program.as_fd()).map_err(refused("asking for a program's maps"))?;
                if name == kind.name {
                    found.programs.push((kind, program));
                    found.add_maps(&maps)?;
                }
            }
        }
        Ok(found)
    }

    fn add_maps(&mut self, ids: &[u32]) -> Result<(), Failed> {
        for id in ids {
            let map = bpf::map(*id).map_err(refused("opening a map"))?;
            let name = bpf::map_name(map.as_fd()).map_err(refused("asking for a map's name"))?;
            let known = Map::ALL.into_iter().find(|map| map.name() == name);
            if let Some(known) = known.filter(|known| self.map(*known).is_none()) {
                self.maps.push((known, map));
            }
        }
        Ok(())
    }

    fn map(&self, wanted: Map) -> Option<BorrowedFd<'_>> {
        self.maps.iter().find(|(map, _)| *map == wanted).map(|(_, map)| map.as_fd())
    }

    /// Whether there are none.
    pub fn is_empty(&self) -> bool {
        self.programs.is_empty()
    }

    fn read(&self, map: Map) -> Option<Vec<u8>> {
        bpf::read(self.map(map)?).ok()
    }

    /// What was said of it when it was attached; none of what another version of tcptune has attached.
    pub fn about(&self) -> Option<About> {
        serde_json::from_slice(&self.read(Map::About)?).ok()
    }

    /// What has changed since then.
    pub fn state(&self) -> Option<State> {
        self.read(Map::State).map(State::new)
    }

    /// Whether every program that belongs to it is there: a command that was killed may have left some.
    pub fn is_whole(&self) -> bool {
        let has = |kind: &Kind| self.programs.iter().filter(|(of, _)| of == kind).count();
        self.about().is_some_and(|about| KINDS.iter().all(|kind| has(kind) == usize::from(about.has(kind.name))))
    }

    /// How many attempts have their connect timeout in place of the user timeout.
    pub fn pending(&self) -> usize {
        let attempts = self.read(Map::Attempts).unwrap_or_default();
        let is_lent = |attempt: &&[u8; attempt::BYTES / attempt::ALL as usize]| {
            let word =
                |at: i16| attempt.get(usize::from(at.unsigned_abs())..)?.first_chunk().copied().map(u32::from_ne_bytes);
            word(attempt::IS_LENT) == Some(1)
                && (word(attempt::COOKIE), word(attempt::COOKIE + 4)) != (Some(0), Some(0))
        };
        attempts.as_chunks().0.iter().filter(is_lent).count()
    }

    /// From now on its programs begin nothing new, and only end what they have begun.
    pub fn stop(&self) -> Result<(), Failed> {
        let (Some(map), Some(mut value)) = (self.map(Map::State), self.read(Map::State)) else { return Ok(()) };
        put(&mut value, state::STOPPED, 1);
        bpf::write(map, &value).map_err(refused("stopping the programs"))
    }

    /// Takes them off the cgroup.
    pub fn detach(self, cgroup: BorrowedFd<'_>) -> Result<(), Failed> {
        for (kind, program) in &self.programs {
            match bpf::detach(*kind, cgroup, program.as_fd()) {
                Err(error) if error.raw_os_error() != Some(libc::ENOENT) => {
                    return Err(refused("detaching a program")(error));
                }
                _ => {} // or somebody else was faster
            }
        }
        Ok(())
    }
}

fn put(value: &mut [u8], offset: i32, number: u64) {
    let at = usize::try_from(offset).unwrap_or_default();
    value.iter_mut().skip(at).zip(number.to_ne_bytes()).for_each(|(to, from)| *to = from);
}

/// Attaches programs to a cgroup, in the place of those that are there. `until`: the end of a trial, on the clock of the
/// programs.
pub fn attach(
    cgroup: BorrowedFd<'_>,
    tuning: &Tuning<'_>,
    about: &str,
    until: Option<u64>,
    before: &Attached,
) -> Result<(), Failed> {
    let programs = programs(tuning).map_err(|_| Failed::TooMany)?;
    let maps = make_maps(tuning, about, until, before)?;
    let fd = |wanted: Map| maps.iter().find(|(map, _)| *map == wanted).map_or(-1, |(_, fd)| raw(fd.as_fd()));
    let mut loaded = Vec::new();
    for (kind, code) in &programs {
        let program = bpf::load(*kind, &code.encode(fd)).map_err(|(error, says)| Failed::Verifier {
            program: kind.name,
            error,
            says,
        })?;
        for (_, map) in &maps {
            bpf::bind_map(program.as_fd(), map.as_fd()).map_err(refused("binding a map to a program"))?;
        }
        loaded.push((*kind, program));
    }
    for kind in KINDS {
        let new = loaded.iter().find(|(of, _)| *of == kind).map(|(_, program)| program.as_fd());
        let mut old = before.programs.iter().filter(|(of, _)| *of == kind).map(|(_, program)| program.as_fd());
        if let Some(new) = new {
            bpf::attach(kind, cgroup, new, old.next()).map_err(refused(ATTACHING))?;
        }
        for left in old {
            bpf::detach(kind, cgroup, left).map_err(refused("detaching a program of before"))?;
        }
    }
    Ok(())
}

fn raw(fd: BorrowedFd<'_>) -> i32 {
    std::os::fd::AsRawFd::as_raw_fd(&fd)
}

fn make_maps(
    tuning: &Tuning<'_>,
    about: &str,
    until: Option<u64>,
    before: &Attached,
) -> Result<Vec<(Map, OwnedFd)>, Failed> {
    let mut state = vec![0; STATE];
    put(&mut state, state::UNTIL, until.unwrap_or_default());
    let profiles = tuning.profiles();
    let mut maps = Vec::new();
    for (map, value) in [(Map::About, about.as_bytes()), (Map::State, &state), (Map::Profiles, &profiles)] {
        let made = bpf::array(map.name(), value.len()).map_err(refused("making a map"))?;
        bpf::write(made.as_fd(), value).map_err(refused("filling a map"))?;
        maps.push((map, made));
    }
    // The new programs take over the attempts that the old ones have begun, unless those are of another version.
    let attempts =
        before.map(Map::Attempts).filter(|map| bpf::value_size(*map).is_ok_and(|size| size == attempt::BYTES));
    let sockets = before.map(Map::Sockets);
    for (map, before) in [(Map::Sockets, sockets), (Map::Attempts, attempts)] {
        let made = match before {
            Some(before) => before.try_clone_to_owned(),
            None if map == Map::Sockets => bpf::storage(map.name(), socket::WORDS),
            None => bpf::array(map.name(), attempt::BYTES),
        };
        maps.push((map, made.map_err(refused("making a map"))?));
    }
    Ok(maps)
}
