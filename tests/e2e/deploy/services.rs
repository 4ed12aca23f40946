//! Programs that make the environment of others anew: the files under examples/services, each with the program itself.

use std::fs::{self, Permissions};
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::{Duration, Instant};

use tempfile::TempDir;

use super::examples;
use crate::harness::mounts::{mount, with_own_mounts, write};
use crate::harness::namespace::Namespace;
use crate::harness::{Program, library, probe};

/// What the profiles say of an idle connection.
const SERVER: &str = "idle=300\n";
const FAST_FAIL: &str = "idle=5\n";

/// A file under examples/services, with the library of this build in place of the installed one.
fn example(name: &str) -> String {
    let text = fs::read_to_string(examples().join("services").join(name)).expect("an example");
    text.replace("/usr/$LIB/libtcptune.so", library().to_str().expect("UTF-8"))
}

/// A directory with a program `legacy-server`, and a PATH that begins with it.
fn legacy() -> (TempDir, String) {
    let directory = TempDir::new().expect("temporary directory");
    fs::set_permissions(directory.path(), Permissions::from_mode(0o755)).expect("its owner");
    std::os::unix::fs::symlink(probe("secure"), directory.path().join("legacy-server")).expect("linked");
    let path = format!("{}:{}", directory.path().display(), std::env::var("PATH").unwrap_or_default());
    (directory, path)
}

/// Waits for what has to become true; services take their time to start on a busy machine.
fn in_time(what: &str, mut holds: impl FnMut() -> bool) {
    let deadline = Instant::now() + Duration::from_secs(60);
    while !holds() {
        assert!(Instant::now() < deadline, "{what}");
        std::thread::sleep(Duration::from_millis(20));
    }
}

/// What a file says as soon as it has this text.
fn said(file: &Path, text: &str) -> String {
    in_time(&format!("{} has {text:?}", file.display()), || contains(file, text));
    fs::read_to_string(file).expect("it is there")
}

fn contains(file: &Path, text: &str) -> bool {
    fs::read_to_string(file).is_ok_and(|said| said.contains(text))
}

#[test]
fn cron_takes_variables_from_the_top_of_a_crontab() {
    let (text, program) = (example("crontab"), probe("secure"));
    with_own_mounts("cron_takes_variables_from_the_top_of_a_crontab", move || {
        // A job for the start of the machine: cron takes its own start for it, where no file says that it was one before.
        for directory in ["/run", "/etc/cron.d", "/var/spool/cron"] {
            mount("tmpfs", Path::new(directory), "tmpfs", 0, "size=1m,mode=755");
        }
        let out = PathBuf::from("/run/said");
        let job = format!("@reboot {} >{}", program.display(), out.display());
        let text = text.replace("0 3 * * * backup", &job);
        assert!(text.contains(&job), "{text}");
        fs::create_dir("/var/spool/cron/crontabs").expect("made");
        write(Path::new("/var/spool/cron/crontabs/root"), text.as_bytes(), 0o600);
        write(Path::new("/run/empty"), b"", 0o644);
        mount("/run/empty", Path::new("/etc/crontab"), "", libc::MS_BIND, "");
        let cron = Program::new("cron").args(["-f"]).limit(Duration::from_secs(90)).start();
        let said = said(&out, "idle=");
        assert!(said.contains(FAST_FAIL), "{said}");
        cron.kill();
    });
}

#[test]
fn supervisord_gives_its_programs_variables() {
    let (directory, path) = legacy();
    let out = directory.path().join("out");
    let config = directory.path().join("supervisord.conf");
    let own = "[supervisord]\nnodaemon=true\nlogfile=/dev/null\nlogfile_maxbytes=0\npidfile=";
    let text = format!(
        "{own}{0}/pid\n{1}\nstdout_logfile={2}\nstartsecs=0\nautorestart=false\n",
        directory.path().display(),
        example("supervisord.conf").trim_end(),
        out.display()
    );
    fs::write(&config, text).expect("written");
    let supervisord = Program::new("supervisord").args(["-c", config.to_str().expect("UTF-8")]).env("PATH", path);
    let supervisord = supervisord.start();
    let said = said(&out, "idle=");
    assert!(said.contains(SERVER), "{said}");
    supervisord.kill();
}

#[test]
fn s6_reads_variables_from_a_directory() {
    let (directory, path) = legacy();
    let env = directory.path().join("env");
    fs::create_dir(&env).expect("made");
    for name in ["LD_PRELOAD", "TCPTUNE_PROFILE"] {
        fs::write(env.join(name), example(&format!("s6/env/{name}"))).expect("written");
    }
    let mut run = Command::new(examples().join("services/s6/run"));
    let output = run.current_dir(directory.path()).env_clear().env("PATH", path).output().expect("it runs");
    assert!(String::from_utf8_lossy(&output.stdout).contains(SERVER), "{output:?}");
}

/// A running nginx, the number of whose master is in this file; ended when dropped.
struct Master(PathBuf);

impl Master {
    fn pid(&self) -> Option<i32> {
        fs::read_to_string(&self.0).ok()?.trim().parse().ok()
    }

    fn signal(&self, signal: i32) {
        // SAFETY: touches no memory; the process is one that this test has started.
        self.pid().map(|pid| unsafe { libc::kill(pid, signal) });
    }

    fn is_tuned(&self) -> bool {
        self.pid().is_some_and(|pid| contains(Path::new(&format!("/proc/{pid}/maps")), "libtcptune.so"))
    }
}

impl Drop for Master {
    fn drop(&mut self) {
        self.signal(libc::SIGTERM);
        in_time("nginx has ended", || !self.0.exists());
    }
}

#[test]
fn an_nginx_that_starts_itself_anew_keeps_the_variables_that_it_is_told() {
    let test = "an_nginx_that_starts_itself_anew_keeps_the_variables_that_it_is_told";
    for (env, kept) in [(String::new(), false), (example("nginx-env.conf"), true)] {
        let Some(namespace) = Namespace::or_skip(test) else { return };
        let directory = TempDir::new().expect("temporary directory");
        let at = |name: &str| directory.path().join(name);
        let rest = format!(
            "pid {0}/pid;\nerror_log {0}/error notice;\nevents {{}}\nhttp {{ access_log off; server {{ listen 127.0.0.1:8080; }} }}\n",
            directory.path().display()
        );
        fs::write(at("conf"), format!("{env}\n{rest}")).expect("written");
        // By its path: so it starts itself anew.
        let mut nginx = Command::new("/usr/sbin/nginx");
        nginx.args(["-p", directory.path().to_str().expect("UTF-8"), "-c"]).arg(at("conf"));
        nginx.env_clear().env("PATH", std::env::var_os("PATH").unwrap_or_default());
        nginx.env("LD_PRELOAD", library()).env("TCPTUNE_PROFILE", "server").stderr(Stdio::null());
        namespace.enter_on_exec(&mut nginx);
        assert!(nginx.status().expect("nginx runs").success());
        let master = Master(at("pid"));
        in_time("it runs, and is tuned", || master.is_tuned());
        // A signal before it waits for them would be noticed with the next one only.
        said(&at("error"), "start worker process ");
        let before = master.pid();
        master.signal(libc::SIGUSR2);
        let old = Master(at("pid.oldbin"));
        in_time("a new one runs", || old.pid() == before && master.pid().is_some_and(|pid| Some(pid) != before));
        std::thread::sleep(Duration::from_millis(200)); // until it has loaded what it loads
        assert_eq!(master.is_tuned(), kept, "{env}");
    }
}
