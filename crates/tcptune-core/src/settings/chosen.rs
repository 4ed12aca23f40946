//! The values that sources choose, one for a row.

use crate::options::rows::Rows;
use crate::options::table::{self, OPTIONS, Opt, Target};
use crate::options::value::Value;
use crate::settings::source::{KeepaliveDefaults, Place};

/// A value that a source gives.
#[derive(Clone, Debug)]
pub(crate) struct Chosen {
    /// Of this row.
    pub row: usize,
    /// None is `default`: that of the kernel.
    pub value: Option<Value>,
    /// Where it is said.
    pub place: Place,
}

impl Chosen {
    /// Whether its setting is one of the whole process.
    pub fn is_of_process(&self) -> bool {
        matches!(OPTIONS.get(self.row), Some(Opt { target: Target::Own(own), .. }) if !own.is_of_a_socket())
    }
}

// Rows that others depend on.
pub(crate) const KEEPALIVE: usize = table::row("KEEPALIVE");
const KEEPIDLE: usize = table::row("KEEPIDLE");
const KEEPINTVL: usize = table::row("KEEPINTVL");
const KEEPCNT: usize = table::row("KEEPCNT");
pub(crate) const USER_TIMEOUT: usize = table::row("USER_TIMEOUT");

// Settings of the process.
pub(crate) const ONLY_PROGRAMS: usize = table::row("ONLY_PROGRAMS");
pub(crate) const SKIP_PROGRAMS: usize = table::row("SKIP_PROGRAMS");
pub(crate) const BACKEND: usize = table::row("BACKEND");
pub(crate) const STRICT: usize = table::row("STRICT");
pub(crate) const STATS: usize = table::row("STATS");
pub(crate) const LOG: usize = table::row("LOG");
pub(crate) const LOG_FILE: usize = table::row("LOG_FILE");
pub(crate) const DISABLE: usize = table::row("DISABLE");

/// One value for a row, in the order of the rows: there are many rows, and few are set.
#[derive(Clone, Debug, Default)]
pub(crate) struct Values(pub Vec<Chosen>);

impl Values {
    pub const fn none() -> Self {
        Self(Vec::new())
    }

    #[inline(never)] // it is asked for at many places
    pub fn get(&self, row: usize) -> Option<&Chosen> {
        self.0.iter().find(|chosen| chosen.row == row)
    }

    pub fn int(&self, row: usize) -> Option<i64> {
        match self.get(row)?.value {
            Some(Value::Int(n)) => Some(n),
            _ => None,
        }
    }

    pub fn text(&self, row: usize) -> Option<&str> {
        match &self.get(row)?.value {
            Some(Value::Text(text)) => Some(text),
            _ => None,
        }
    }

    /// The value that is there already for the same socket option, by this name or by its twin (TOS and DSCP).
    fn rival(&self, row: usize) -> Option<usize> {
        let rivals = Rows::rivals(row);
        self.0.iter().position(|other| other.row == row || rivals.has(other.row))
    }

    /// In place of a value that an earlier source has given.
    pub fn put(&mut self, chosen: Chosen) {
        if let Some(rival) = self.rival(chosen.row) {
            self.0.remove(rival);
        }
        let at = self.0.partition_point(|other| other.row < chosen.row);
        self.0.insert(at, chosen);
    }

    /// Takes a value as it is written; the error is for the operator. `place` is asked where it stands.
    pub fn assign(
        &mut self,
        row: usize,
        opt: &Opt,
        text: &str,
        place: &dyn Fn(Option<&Value>) -> Place,
    ) -> Result<(), String> {
        let text = text.trim_ascii();
        if text.is_empty() {
            return Ok(());
        }
        let value = if is_unset(text) {
            None
        } else {
            match opt.kind.parse(text, opt.range) {
                None => return Err(not_accepted(opt)),
                value => value,
            }
        };
        match self.rival(row).and_then(|rival| self.0.get(rival)) {
            Some(Chosen { value: Some(_), .. }) if value.is_none() => {}
            Some(Chosen { value: Some(_), row: other, .. }) => return Err(clash(row, *other)),
            _ => {
                let place = place(value.as_ref());
                self.put(Chosen { row, value, place });
            }
        }
        Ok(())
    }

    /// These values with others laid over them.
    #[cold]
    pub fn under(&self, over: Self) -> Self {
        if self.0.is_empty() {
            return over;
        }
        let room = self.0.len() + over.0.len() + 1; // and an implied one
        let mut values = Self(Vec::with_capacity(room));
        values.0.extend_from_slice(&self.0);
        over.0.into_iter().for_each(|chosen| values.put(chosen));
        values
    }
}

pub(crate) fn is_unset(text: &str) -> bool {
    text.is_empty() || text.eq_ignore_ascii_case("default")
}

#[cold]
fn not_accepted(opt: &Opt) -> String {
    format!("not accepted; accepted: {}", opt.kind.accepted(opt.range))
}

#[cold]
fn clash(row: usize, other: usize) -> String {
    let name = OPTIONS.get(other).map_or("", Opt::name);
    if row == other {
        format!("{name} is set twice; this one does not count")
    } else {
        format!("{name} says the same, and counts")
    }
}

/// The rows of keepalive.
pub(crate) const KEEPALIVES: Rows =
    Rows::of(KEEPALIVE).or(Rows::of(KEEPIDLE)).or(Rows::of(KEEPINTVL)).or(Rows::of(KEEPCNT));

/// Keepalive times do nothing without `SO_KEEPALIVE` (tcp(7)), so any of them turns it on. `said` tells what is said of a
/// row; the time that says so, if nothing else does.
pub(crate) fn implied_keepalive(said: impl Fn(usize) -> Option<i64>) -> Option<usize> {
    if said(KEEPALIVE).is_some() {
        return None;
    }
    [KEEPIDLE, KEEPINTVL, KEEPCNT].into_iter().find(|row| said(*row).is_some())
}

/// `USER_TIMEOUT=auto`: the time in which keepalive would notice a dead idle peer; `said` as above.
#[cold]
pub(crate) fn auto(said: &dyn Fn(usize) -> Option<i64>, kernel: &dyn Fn() -> KeepaliveDefaults) -> Result<i64, String> {
    let idle = said(KEEPIDLE).unwrap_or_else(|| kernel().idle);
    let interval = said(KEEPINTVL).unwrap_or_else(|| kernel().interval);
    let count = said(KEEPCNT).unwrap_or_else(|| kernel().count);
    let ms = idle.saturating_add(interval.saturating_mul(count)).saturating_mul(1000).max(1);
    if i32::try_from(ms).is_ok() {
        return Ok(ms);
    }
    Err(format!("KEEPIDLE + KEEPINTVL × KEEPCNT is {ms}ms, more than the {}ms the kernel takes", i32::MAX))
}
