//! The constructor: everything that happens before main.

use std::ffi::{CStr, CString, OsStr, c_char};
use std::os::unix::ffi::OsStrExt;

use tcptune_core::options::table::PREFIX;
use tcptune_core::settings::config::{self, Trust};
use tcptune_core::settings::diagnostic::Diagnostic;
use tcptune_core::settings::draft::Draft;
use tcptune_core::settings::named::{self, Found};
use tcptune_core::settings::profile::{Limits, Profile};
use tcptune_core::settings::settled::{Settings, Summary};
use tcptune_core::settings::source::{KeepaliveDefaults, Process, Source};
use tcptune_core::sockets::address;
use tcptune_core::sockets::attempt::Attempts;
use tcptune_core::sockets::block::State;
use tcptune_core::sockets::descriptor::{Choices, Descriptors};
use tcptune_core::sockets::silence::Silence;
use tcptune_core::sockets::silence::interrupted::Interrupted;
use tcptune_core::sockets::stats::Stats;
use tcptune_core::system::{self, clock, files};

use crate::entry::realigned;
use crate::note::BLOCK;
use crate::tuning::{TUNING, Tuning};
use crate::{arena, hooks, logging, lookup};

/// Exit status of `STRICT`: `EX_CONFIG` of sysexits.h.
const EX_CONFIG: i32 = 78;

#[used]
#[unsafe(link_section = ".init_array")]
static CONSTRUCTOR: extern "C" fn() = start;

unsafe extern "C" {
    static environ: *const *const c_char;
}

#[used]
#[unsafe(link_section = ".fini_array")]
static DESTRUCTOR: extern "C" fn() = at_exit;

/// exit(3) is called with the program's stack.
#[cfg_attr(target_arch = "x86", unsafe(naked))]
extern "C" fn at_exit() {
    realigned!(end);
}

/// When the process ends by exit(3).
extern "C" fn end() {
    let Some(tuning) = TUNING.get().filter(|tuning| tuning.settings.stats) else { return };
    // A process without TCP sockets has nothing to say.
    if let Some(stats) = tuning.stats.filter(|stats| !stats.is_empty()) {
        logging::always(format_args!("stats: {stats}"));
    }
}

extern "C" fn start() {
    hooks::resolve();
    // SAFETY: getauxval only reads the auxiliary vector.
    let secure = unsafe { libc::getauxval(libc::AT_SECURE) } != 0;
    let (mut room, mut list) = ([("", ""); 16], Vec::new());
    let variables = if secure { &[] } else { tcptune_variables(&mut room, &mut list) };
    let system = config::read_system();
    if !variables.is_empty() || !matches!(system, Ok(None)) {
        configure(variables, system, secure);
    }
    arena::seal();
}

fn configure(variables: &[(&str, &str)], system: Result<Option<String>, String>, secure: bool) {
    let mut draft = Draft::new(variables);
    draft.file(Source::System, system);
    if let Some(path) = draft.config() {
        let text = config::read(path, Trust::User);
        draft.file(Source::Config, text);
    }
    if let Some(name) = draft.profile() {
        let profile = profile(name);
        draft.found(profile);
    }
    let (settings, wrong) = draft.settle(process, keepalive_defaults);
    let file = settings.log_file.as_deref().and_then(leaked);
    let journal = environment(b"JOURNAL_STREAM=").next().filter(|_| !secure);
    logging::start(settings.log, file, journal.and_then(|stream| std::str::from_utf8(stream).ok()));
    // The program may never end, or overwrite its environment: whoever asks reads it from here.
    let settings: &'static Settings = Box::leak(Box::new(settings));
    BLOCK.tell(state(settings), settings);
    if !wrong.is_empty() {
        BLOCK.tell_wrong(&wrong);
    }
    if settings.backend.is_not_the_library() {
        log::info!("in force: nothing, TCPTUNE_BACKEND says that sockets are tuned another way");
        return;
    }
    if !settings.in_scope {
        log::info!("in force: nothing, ONLY_PROGRAMS or SKIP_PROGRAMS leaves this program alone");
        return;
    }
    if !wrong.is_empty() {
        complain(&wrong, settings.strict);
    }
    if let Some(function) = hooks::missing() {
        log::warn!("this libc has no {function}: every socket is left alone");
        return;
    }
    if log::log_enabled!(log::Level::Info) {
        tell(settings);
    }
    if !settings.leaves_all_alone() {
        publish(settings);
    }
}

/// The profile of a name. Where the operator's own are is said by variables: in secure execution there is no name either.
#[cold]
fn profile(name: &str) -> Result<Found, Diagnostic> {
    let path = |variable| environment(variable).next().map(OsStr::from_bytes);
    let directories = named::directories(path(b"XDG_CONFIG_HOME="), path(b"HOME="));
    named::find(name, directories)?.ok_or_else(|| named::unknown(name, named::names()))
}

#[cold]
fn leaked(path: &str) -> Option<&'static CStr> {
    Some(Box::leak(CString::new(path).ok()?.into_boxed_c_str()))
}

#[cold]
fn complain(wrong: &[Diagnostic], strict: bool) {
    for diagnostic in wrong {
        let outcome = if strict { "the program is not started" } else { "ignored" };
        log::warn!("{diagnostic}; {outcome}");
    }
    if strict {
        system::process::exit(EX_CONFIG);
    }
}

#[cold]
fn tell(settings: &Settings) {
    log::info!("in force: {}", Summary(settings));
}

fn state(settings: &Settings) -> State {
    if settings.backend.is_not_the_library() {
        State::Elsewhere
    } else if !settings.in_scope {
        State::OutOfScope
    } else if settings.disabled {
        State::Disabled
    } else if settings.leaves_all_alone() {
        State::NoneOfSockets
    } else if hooks::missing().is_some() {
        State::NoFunction
    } else {
        State::Tuning
    }
}

fn publish(settings: &'static Settings) {
    // What is logged of a connect that times out is counted with it.
    let counts = settings.stats || settings.log >= log::LevelFilter::Info;
    let stats: Option<&'static Stats> = counts.then(|| &*Box::leak(Box::default()));
    let syn = log::log_enabled!(log::Level::Debug)
        .then(|| (sysctl("tcp_syn_retries").unwrap_or(6), sysctl("tcp_syn_linear_timeouts").unwrap_or(0)));
    let everywhere = settings.only_profile();
    let waits = settings.profiles.iter().any(|profile| profile.connect_timeout().is_some());
    let silence = Silence::new(settings.profiles.iter().map(Profile::limits));
    let times_out = settings.profiles.iter().any(|profile| profile.limits() != Limits::default());
    if (waits || counts || times_out)
        && let Some(clock) = lookup::vdso_clock()
    {
        clock::use_vdso(clock);
    }
    let process = system::process::id();
    let totals = BLOCK.tell_counts(process, stats);
    let _ = TUNING.set(Box::new(Tuning {
        settings,
        everywhere,
        mptcp: settings.profile(settings.rules.fallback()).is_some_and(Profile::mptcp),
        real: hooks::real(waits),
        real_socket: hooks::calls::socket::real(),
        descriptors: Descriptors::default(),
        choices: if everywhere.is_some() { Choices::default() } else { Choices::new() },
        attempts: if waits { Attempts::new(process) } else { Attempts::default() },
        silence,
        interrupted: Interrupted::default(),
        times_out,
        process,
        totals,
        stats,
        syn,
    }));
    // A connection that inetd(8) has accepted: the program may do nothing with it but read and write.
    if let Some(tuning) = TUNING.get()
        && address::peer(libc::STDIN_FILENO).is_some()
    {
        tuning.seen(libc::STDIN_FILENO);
    }
}

/// What rules and lists of programs need to know. A script is known by its own name and by that of its interpreter.
fn process() -> Process {
    // SAFETY: getauxval only reads the auxiliary vector, which holds a C string here, or null.
    let started = unsafe {
        let name = libc::getauxval(libc::AT_EXECFN) as *const c_char;
        if name.is_null() { c"" } else { CStr::from_ptr(name) }
    };
    let mut rooms = [[0; 4096]; 3]; // PATH_MAX
    let [executable, directory, arguments] = &mut rooms;
    let link = |path, room| String::from_utf8_lossy(files::link(path, room).unwrap_or_default()).into_owned();
    let file = files::File::open(c"/proc/self/cmdline", libc::O_RDONLY, 0);
    let length = file.and_then(|file| file.read(arguments)).unwrap_or(0);
    let arguments = String::from_utf8_lossy(arguments.get(..length).unwrap_or_default());
    Process::new(
        &link(c"/proc/self/exe", executable),
        &started.to_string_lossy(),
        arguments.split('\0'),
        &link(c"/proc/self/cwd", directory),
        system::process::effective_user(),
    )
}

/// The entries of the environment that begin with this, without it.
fn environment(prefix: &'static [u8]) -> impl Iterator<Item = &'static [u8]> {
    // SAFETY: before main nobody changes the environment; it is a null-terminated array of C strings, or null.
    let mut next = unsafe { environ };
    let entries = std::iter::from_fn(move || {
        // SAFETY: as above; `next` is not moved past the null.
        unsafe {
            let entry = if next.is_null() { next.cast() } else { *next };
            if entry.is_null() {
                return None;
            }
            next = next.add(1);
            Some(entry)
        }
    });
    entries.filter_map(|entry| {
        // SAFETY: a C string, read up to the first byte that differs; its null is one.
        let begins = prefix.iter().enumerate().all(|(i, byte)| unsafe { *entry.add(i).cast::<u8>() } == *byte);
        // SAFETY: what follows is a C string as well.
        begins.then(|| unsafe { CStr::from_ptr(entry.add(prefix.len())) }.to_bytes())
    })
}

/// A variable's name without the prefix, and its value.
type Variable = (&'static str, &'static str);

/// Variables of ours: in the room, or in the list if they are more.
fn tcptune_variables<'a>(room: &'a mut [Variable; 16], list: &'a mut Vec<Variable>) -> &'a [Variable] {
    let mut count = 0;
    for entry in environment(PREFIX.as_bytes()) {
        let entry = std::str::from_utf8(entry).unwrap_or_else(|_| lossy(entry));
        let Some((name, value)) = entry.bytes().position(|byte| byte == b'=').and_then(|at| entry.split_at_checked(at))
        else {
            continue;
        };
        let variable = (name, value.get(1..).unwrap_or_default());
        match room.get_mut(count) {
            Some(free) => *free = variable,
            None => one_more(room, list, variable),
        }
        count += 1;
    }
    if list.is_empty() { room.get(..count).unwrap_or_default() } else { list }
}

#[cold]
fn one_more(room: &[Variable], list: &mut Vec<Variable>, variable: Variable) {
    if list.is_empty() {
        list.extend_from_slice(room);
    }
    list.push(variable);
}

/// Text that is not UTF-8 becomes a value that no setting accepts.
#[cold]
fn lossy(bytes: &[u8]) -> &'static str {
    String::from_utf8_lossy(bytes).into_owned().leak()
}

/// A number below `/proc/sys/net/ipv4`.
fn sysctl<T: std::str::FromStr>(name: &str) -> Option<T> {
    let path = CString::new(format!("/proc/sys/net/ipv4/{name}")).ok()?;
    files::short(&path, &mut [0; 32])?.parse().ok()
}

fn keepalive_defaults() -> KeepaliveDefaults {
    KeepaliveDefaults {
        idle: sysctl("tcp_keepalive_time").unwrap_or(7200),
        interval: sysctl("tcp_keepalive_intvl").unwrap_or(75),
        count: sysctl("tcp_keepalive_probes").unwrap_or(9),
    }
}
