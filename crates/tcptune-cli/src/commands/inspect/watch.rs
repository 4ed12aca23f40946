//! Looks once, or again and again.

use std::process::ExitCode;
use std::time::Duration;

use clap::{Arg, ArgMatches};
use tcptune_core::options::value::{Kind, Unit, Value};

use crate::live::process::Target;
use crate::live::select::Selection;
use crate::screens::error::{Error, say};
use crate::screens::output::Output;
use crate::settings::flags::Text;

/// How often `--watch` looks, without a time.
const EVERY: Duration = Duration::from_secs(2);

/// The flag of it.
pub fn watch() -> Arg {
    Arg::new("watch")
        .long("watch")
        .value_name("SECONDS")
        .num_args(0..=1)
        .value_parser(Text(""))
        .help("Look again and again, every 2 seconds or as often as said, until the process ends")
}

/// A time as settings have it: `2`, `500ms`, `1m`.
pub fn duration(text: &str) -> Result<Duration, String> {
    const KIND: Kind = Kind::Duration { bare: Unit::Second, stored: Unit::Millisecond, word: None };
    const RANGE: (i64, i64) = (100, 86_400_000);
    match KIND.parse(text, RANGE) {
        Some(Value::Int(ms)) => Ok(Duration::from_millis(ms.cast_unsigned())),
        _ => Err("accepted: 100ms to 24h (ms s m h; a bare number is s)".to_owned()),
    }
}

/// How often it is looked.
#[derive(Clone, Copy, Debug)]
pub struct Pace(Option<Duration>);

impl Pace {
    /// As the flags say. Of `--watch 1234` it may be the process that is the number.
    pub fn new(matches: &ArgMatches, selection: &mut Selection) -> Result<Self, Error> {
        let mut every = matches.contains_id("watch").then_some(EVERY);
        match matches.get_one::<String>("watch") {
            Some(word) if selection.words.is_empty() && !selection.all => selection.words.push(word.clone()),
            Some(word) if selection.words.as_slice() == [word.clone()] => {}
            Some(time) => {
                let wrong = |why| Error::usage(format!("--watch {time}: not accepted; {why}"));
                every = Some(duration(time).map_err(wrong)?);
            }
            None => {}
        }
        if selection.words.is_empty() && !selection.all {
            return Err(Error::usage("a process is missing").hint("give its number or its name"));
        }
        Ok(Self(every))
    }

    /// Whether there is more than one look.
    pub fn is_repeated(self) -> bool {
        self.0.is_some()
    }

    /// Looks; each look says whether all was as it should be.
    pub fn run(
        self,
        selection: &Selection,
        out: &Output,
        look: impl Fn(&[Target], &Output) -> Result<bool, Error>,
    ) -> Result<ExitCode, Error> {
        let mut selected = selection.find()?;
        for error in &selected.errors {
            say(&error.to_string());
        }
        let whole = selected.errors.is_empty();
        loop {
            if self.is_repeated() && !out.is_json() {
                out.begin_screen()?;
            }
            let seen = look(&selected.targets, out)?;
            if selected.denied > 0 {
                say(&format!("{} other processes cannot be looked into; run tcptune as root", selected.denied));
            }
            let Some(every) = self.0 else {
                return Ok(if seen && whole { ExitCode::SUCCESS } else { ExitCode::FAILURE });
            };
            let ended = match selected.targets.as_slice() {
                [target] if selection.is_one() => {
                    target.ends_within(every).then(|| format!("process {} has ended", target.pid()))
                }
                _ => {
                    std::thread::sleep(every);
                    match selection.find() {
                        Ok(found) if selection.all || !found.targets.is_empty() => {
                            selected = found;
                            None
                        }
                        _ => Some("these processes have ended".to_owned()),
                    }
                }
            };
            if let Some(ended) = ended {
                say(&ended);
                return Ok(ExitCode::SUCCESS);
            }
        }
    }
}
