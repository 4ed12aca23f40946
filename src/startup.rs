//! The constructor: everything that happens before main.

use std::ffi::{CStr, CString, c_char};

use tcptune_core::attempt::Attempts;
use tcptune_core::descriptor::Descriptors;
use tcptune_core::settings::{KeepaliveDefaults, PREFIX, Settings};

use crate::sockets::{TUNING, Tuning};
use crate::{arena, hooks, logging};

/// Exit status of `STRICT`: `EX_CONFIG` of sysexits.h.
const EX_CONFIG: i32 = 78;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = start;

unsafe extern "C" {
    static environ: *const *const c_char;
}

extern "C" fn start() {
    hooks::resolve();
    // SAFETY: getauxval only reads the auxiliary vector.
    if unsafe { libc::getauxval(libc::AT_SECURE) } == 0 {
        let variables = tcptune_variables();
        if !variables.is_empty() {
            configure(variables);
        }
    }
    arena::seal();
}

fn configure(variables: Vec<(String, String)>) {
    let (settings, wrong) = Settings::parse(variables, keepalive_defaults);
    let file = settings.log_file.as_deref().and_then(|path| CString::new(path).ok());
    let file = file.map(|path| &*Box::leak(path.into_boxed_c_str()));
    let journal = environment().find_map(|entry| entry.strip_prefix(b"JOURNAL_STREAM="));
    logging::start(settings.log, file, journal.and_then(|stream| std::str::from_utf8(stream).ok()));
    for diagnostic in &wrong {
        let outcome = if settings.strict { "the program is not started" } else { "ignored" };
        log::warn!("{diagnostic}; {outcome}");
    }
    if settings.strict && !wrong.is_empty() {
        // SAFETY: ends the process without running anything of a program that has not started.
        unsafe { libc::_exit(EX_CONFIG) };
    }
    log::info!("in force: {}", InForce(&settings));
    if settings.leaves_all_alone() {
        return;
    }
    let syn = log::log_enabled!(log::Level::Debug)
        .then(|| (sysctl("tcp_syn_retries").unwrap_or(6), sysctl("tcp_syn_linear_timeouts").unwrap_or(0)));
    let real = hooks::real(settings.connect_timeout.is_some());
    let (descriptors, attempts) = (Descriptors::default(), Attempts::default());
    let _ = TUNING.set(Tuning { settings, real, descriptors, attempts, syn });
}

/// The entries of the environment, `name=value`.
fn environment() -> impl Iterator<Item = &'static [u8]> {
    // SAFETY: before main nobody changes the environment; it is a null-terminated array of C strings, or null.
    let mut next = unsafe { environ };
    std::iter::from_fn(move || {
        // SAFETY: as above; `next` is not moved past the null.
        unsafe {
            let entry = if next.is_null() { next.cast() } else { *next };
            if entry.is_null() {
                return None;
            }
            next = next.add(1);
            Some(CStr::from_ptr(entry).to_bytes())
        }
    })
}

/// Variables of ours, without the prefix. Text that is not UTF-8 becomes a value that no setting accepts.
fn tcptune_variables() -> Vec<(String, String)> {
    environment()
        .filter_map(|entry| {
            let (name, value) =
                entry.strip_prefix(PREFIX.as_bytes())?.split_at_checked(equals(entry)? - PREFIX.len())?;
            Some((String::from_utf8_lossy(name).into_owned(), String::from_utf8_lossy(value.get(1..)?).into_owned()))
        })
        .collect()
}

fn equals(entry: &[u8]) -> Option<usize> {
    entry.iter().position(|b| *b == b'=')
}

/// A number below `/proc/sys/net/ipv4`.
fn sysctl<T: std::str::FromStr>(name: &str) -> Option<T> {
    std::fs::read_to_string(format!("/proc/sys/net/ipv4/{name}")).ok()?.trim().parse().ok()
}

fn keepalive_defaults() -> KeepaliveDefaults {
    KeepaliveDefaults {
        idle: sysctl("tcp_keepalive_time").unwrap_or(7200),
        interval: sysctl("tcp_keepalive_intvl").unwrap_or(75),
        count: sysctl("tcp_keepalive_probes").unwrap_or(9),
    }
}

/// Displays the settings in force.
struct InForce<'a>(&'a Settings);

impl std::fmt::Display for InForce<'_> {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        let settings = self.0;
        if settings.leaves_all_alone() {
            return f.write_str("nothing, every socket is left alone");
        }
        for (planned, option) in settings.plan.iter().filter_map(|p| Some((p, p.option()?))) {
            write!(f, "{}={} ", option.name, option.kind.show(planned.value))?;
        }
        if let Some(ms) = settings.connect_timeout {
            write!(f, "CONNECT_TIMEOUT={ms}ms ")?;
        }
        write!(f, "PRECEDENCE={}", tcptune_core::option::PRECEDENCE[settings.precedence as usize])
    }
}
