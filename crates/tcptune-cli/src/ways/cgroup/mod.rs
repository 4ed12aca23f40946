//! The way by the kernel itself: BPF programs of a cgroup set options on each socket of the programs in it, whatever they
//! are written in, and whether they run already.
//!
//! The programs are made of the settings here, instruction by instruction: [`tuning`] says what is set, [`sock_ops`],
//! [`setsockopt`] and [`bind`] are the programs, [`attachment`] brings them into the kernel.

pub mod about;
mod assembler;
pub mod attachment;
mod bind;
mod bpf;
mod comparisons;
mod denied;
mod layout;
#[cfg(test)]
#[allow(clippy::cast_possible_truncation, reason = "registers are cut as the machine does")]
mod machine;
pub mod order;
pub mod own;
pub mod place;
mod setsockopt;
mod sock_ops;
mod steps;
mod tuning;

use assembler::{Assembler, TooLong};
use bpf::Kind;
use layout::Program;
use tuning::Tuning;

/// Where programs of ours may be attached.
const KINDS: [Kind; 4] = [sock_ops::KIND, setsockopt::KIND, bind::KINDS[0], bind::KINDS[1]];

/// Which programs these settings need.
fn kinds(tuning: &Tuning<'_>) -> impl Iterator<Item = Kind> {
    let is_bound = tuning.slots.iter().any(tuning::Slot::is_of_bind);
    let is_set = tuning.has_timeouts || tuning.slots.iter().any(|slot| !slot.is_of_bind());
    let is_needed = move |kind: &Kind| match *kind {
        sock_ops::KIND => true,
        setsockopt::KIND => is_set,
        _ => is_bound,
    };
    KINDS.into_iter().filter(is_needed)
}

/// The programs that these settings need.
fn programs(tuning: &Tuning<'_>) -> Result<Vec<(Kind, Program)>, TooLong> {
    let make = |kind: Kind| {
        let mut asm = Assembler::new();
        match kind {
            sock_ops::KIND => sock_ops::program(&mut asm, tuning),
            setsockopt::KIND => setsockopt::program(&mut asm, tuning),
            _ => bind::program(&mut asm, tuning),
        }
        Ok((kind, asm.finish()?))
    };
    kinds(tuning).map(make).collect()
}

#[cfg(test)]
mod tests {
    use tcptune_core::settings::draft::Draft;
    use tcptune_core::settings::source::{KeepaliveDefaults, Process};

    use super::tuning::{MACHINE, OfUser};
    use super::*;

    /// Of all users.
    pub fn settings(variables: &[(&str, &str)]) -> [OfUser; 1] {
        let kernel = || KeepaliveDefaults { idle: 7200, interval: 75, count: 9 };
        let (settings, wrong) = Draft::new(variables).settle(Process::default, kernel);
        assert_eq!(wrong, []);
        [(None, settings)]
    }

    fn listing(variables: &[(&str, &str)], is_trial: bool) -> String {
        let settings = settings(variables);
        let tuning = Tuning::new(&settings, MACHINE, 1, is_trial);
        let programs = programs(&tuning).expect("not too long");
        let texts: Vec<_> = programs.iter().map(|(kind, code)| format!("{}\n{code}", kind.name)).collect();
        for line in texts.iter().flat_map(|text| text.lines()) {
            // `BPF_ST` to the context, which programs keep in r6.
            let stored = line.split_once(" *)(r6 +").and_then(|(_, rest)| rest.split_once(") = "));
            let is_register = stored.is_none_or(|(_, value)| value.starts_with(['w', 'r']));
            assert!(is_register, "before Linux 6.4 the verifier does not take: {line}");
        }
        texts.concat()
    }

    #[test]
    fn the_programs_of_options_and_a_timeout() {
        insta::assert_snapshot!(listing(&[("KEEPIDLE", "60"), ("DSCP", "ef"), ("CONNECT_TIMEOUT", "400ms")], false));
    }

    #[test]
    fn the_programs_of_rules_and_a_port() {
        let rules = "dst=10.0.0.0/8,fd00::/8 port=5432-5439 : keepidle=30 connect_timeout=3s ; role=server port=80 : off ; \
                     src=127.0.0.1 : precedence=program";
        insta::assert_snapshot!(listing(&[("RULES", rules), ("KEEPIDLE", "60"), ("REUSEADDR", "on")], false));
    }

    #[test]
    fn the_programs_of_a_trial() {
        insta::assert_snapshot!(listing(&[("KEEPALIVE", "on"), ("CONNECT_TIMEOUT", "3s")], true));
    }

    #[test]
    fn the_programs_of_rules_of_both_families_and_ports() {
        let rules = "dst=10.1.0.0/16,10.2.0.0/16,10.3.0.0/16 : keepidle=1 ; dst=fd00:1::/32,fd00:1:2::/48,fd00:1:3::/48 : off ; \
                     port=80 : keepidle=2 ; port=443 src=::1 : keepidle=3 ; port=8000-8009 : keepidle=4";
        let settings = settings(&[("RULES", rules)]);
        let tuning = Tuning::new(&settings, MACHINE, 1, false);
        let mut asm = Assembler::new();
        comparisons::choose(&mut asm, &tuning, comparisons::client, &sock_ops::CLIENT, "connect", true);
        asm.exit();
        insta::assert_snapshot!(asm.finish().expect("short"));
    }

    #[test]
    fn only_what_is_needed_is_made() {
        let kinds = |variables: &[(&str, &str)]| {
            let settings = settings(variables);
            let names: Vec<_> = kinds(&Tuning::new(&settings, MACHINE, 1, false)).map(|kind| kind.name).collect();
            names.join(" ")
        };
        assert_eq!(kinds(&[("KEEPIDLE", "60")]), "tcptune_sockops tcptune_setopt");
        assert_eq!(kinds(&[("REUSEADDR", "on")]), "tcptune_sockops tcptune_bind4 tcptune_bind6");
        assert_eq!(kinds(&[("CONNECT_TIMEOUT", "1")]), "tcptune_sockops tcptune_setopt");
    }
}
