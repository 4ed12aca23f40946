//! Libraries that a program loads with `RTLD_DEEPBIND`: their calls go to libc unless libc's symbols lead to the hooks.

use std::fs;
use std::io::{Read, Write};
use std::net::{TcpListener, TcpStream};
use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use tempfile::TempDir;

use crate::harness::hole::BlackHole;
use crate::harness::{Program, assert_on_time, eventually, library, shared};

/// The plugin, with `RUNPATH` `$ORIGIN/inner`, and a library there.
fn plugin(directory: &TempDir) -> PathBuf {
    let inner = directory.path().join("inner");
    fs::create_dir_all(&inner).expect("made");
    let build = |source: &Path, file: &Path, options: &[&str]| {
        let mut cc = Command::new("cc");
        cc.args(["-std=gnu11", "-O1", "-Wall", "-Wextra", "-Werror", "-shared", "-fPIC", "-o"]).arg(file).arg(source);
        assert!(cc.args(options).status().expect("cc runs").success(), "{} compiles", source.display());
    };
    let empty = directory.path().join("inner.c");
    fs::write(&empty, "int inner;\n").expect("written");
    build(&empty, &inner.join("libinner.so"), &[]);
    let file = directory.path().join("plugin.so");
    let source = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/probes/plugin.c");
    build(&source, &file, &["-ldl", "-Wl,--enable-new-dtags,-rpath,$ORIGIN/inner"]);
    file
}

fn host(plugin: &Path, args: &[&str]) -> Program {
    Program::probe("host").args([plugin.as_os_str()]).args(args)
}

#[test]
fn plugins_are_tuned_and_otherwise_as_they_were() {
    let directory = TempDir::new().expect("temporary directory");
    let plugin = plugin(&directory);
    let hole = BlackHole::v4();
    let (ip, port) = (hole.ip(), hole.port());
    let plain = host(&plugin, &[]).run();
    plain.succeeded();
    for settings in [None, Some(&[("KEEPIDLE", "77"), ("CONNECT_TIMEOUT", "1")][..])] {
        let args: &[&str] = if settings.is_some() { &[&ip, &port] } else { &[] };
        let ended = host(&plugin, args).with(settings).run();
        ended.succeeded();
        let idle = if settings.is_some() { 77 } else { plain.number("lazy") };
        for name in ["at_load", "lazy", "by_dlsym", "again"] {
            assert_eq!(ended.number(name), idle, "{name}: {ended:#?}");
        }
        for name in ["errno", "finds_its_own", "missing"] {
            assert_eq!(ended.number(name), plain.number(name), "{name}: {ended:#?}");
        }
        if settings.is_some() {
            assert_eq!(ended.number("error"), i64::from(libc::ETIMEDOUT));
            assert_on_time(ended.milliseconds("took"), Duration::from_secs(1), Duration::from_secs(3));
        }
    }
    assert_ne!(plain.number("lazy"), 77);
    assert_eq!(plain.number("finds_its_own"), 1, "{plain:#?}");
}

#[test]
fn what_the_debug_log_says_of_plugins() {
    let directory = TempDir::new().expect("temporary directory");
    let plugin = plugin(&directory);
    let said = |args| host(&plugin, args).tuned(&[("KEEPIDLE", "77"), ("LOG", "debug")]).run().log;
    assert_eq!(said(&[]).matches("plugins loaded with RTLD_DEEPBIND are reached").count(), 1);
    let without = said(&["without"]);
    assert!(without.contains("KEEPIDLE=77s") && !without.contains("RTLD_DEEPBIND"), "{without}");
}

/// Nothing is written to without the flag, nor without settings.
#[test]
fn libc_is_left_alone_where_no_plugin_needs_it() {
    let directory = TempDir::new().expect("temporary directory");
    let plugin = plugin(&directory);
    let protections = |args: &[&str], settings: bool| {
        let mut strace = Program::new("strace").args(["-f", "-e", "trace=mprotect"]);
        let environment = format!("LD_PRELOAD={}", library().display());
        strace = strace.args(["-E", &environment]);
        if settings {
            strace = strace.args(["-E", "TCPTUNE_KEEPIDLE=77"]);
        }
        let host = crate::harness::probe("host");
        let ended = strace.args([host.as_os_str(), plugin.as_os_str()]).args(args).run();
        ended.succeeded();
        ended.stderr.matches("mprotect(").count()
    };
    assert_eq!(protections(&["without"], true), protections(&["without"], false));
    assert!(protections(&[], true) > protections(&[], false), "two for each library whose symbols are written to");
}

/// A sandbox may keep a process from making memory writable.
#[test]
fn where_libc_cannot_be_written_to_plugins_are_left_alone() {
    let directory = TempDir::new().expect("temporary directory");
    let plugin = plugin(&directory);
    let plain = host(&plugin, &["refused"]).run();
    plain.succeeded();
    let ended = host(&plugin, &["refused"]).tuned(&[("KEEPIDLE", "77")]).run();
    ended.succeeded();
    assert_eq!((ended.number("own"), ended.number("idle")), (77, plain.number("idle")), "{ended:#?}");
    let warnings: Vec<_> = ended.log.lines().filter(|line| line.contains(": warn: ")).collect();
    assert!(warnings.len() == 1 && warnings[0].contains("mprotect is refused with EPERM"), "{warnings:#?}");
}

/// A library behind ours that looks for the next function late would find our hook in libc, which calls that library.
#[test]
fn a_library_behind_ours_does_not_call_itself() {
    let directory = TempDir::new().expect("temporary directory");
    let plugin = plugin(&directory);
    let mut preload = library().into_os_string();
    preload.push(":");
    preload.push(shared("late"));
    let ended = host(&plugin, &[]).tuned(&[("KEEPIDLE", "77")]).env("LD_PRELOAD", preload).run();
    ended.succeeded();
}

#[test]
fn twenty_threads_load_plugins() {
    let directory = TempDir::new().expect("temporary directory");
    let ended =
        host(&plugin(&directory), &["threads"]).tuned(&[("KEEPIDLE", "77")]).limit(Duration::from_secs(60)).run();
    ended.succeeded();
    assert_eq!(ended.number("wrong"), 0, "{ended:#?}");
}

const EXTENSIONS: &str = concat!(env!("CARGO_MANIFEST_DIR"), "/tests/probes/extensions.php");

/// Debian's PHP loads its extensions so.
#[test]
fn php_extensions_are_tuned() {
    let hole = BlackHole::v4();
    let php = || Program::new("php").args([EXTENSIONS]).args([hole.ip(), hole.port()]).limit(Duration::from_secs(60));
    let ended = php().tuned(&[("KEEPIDLE", "77"), ("CONNECT_TIMEOUT", "1")]).run();
    ended.succeeded();
    assert_eq!(ended.number("idle"), 77, "{ended:#?}");
    for extension in ["curl", "pgsql", "sockets"] {
        assert_on_time(ended.milliseconds(extension), Duration::from_millis(990), Duration::from_secs(4));
    }
}

/// The same inside Apache, which loads PHP as a plugin of its own.
#[test]
fn php_inside_apache_is_tuned() {
    let directory = TempDir::new().expect("temporary directory");
    let path = directory.path().display();
    let modules = "/usr/lib/apache2/modules";
    let php = fs::read_dir(modules).expect("Apache's modules").map(|entry| entry.expect("an entry").path());
    let php = php.into_iter().find(|path| path.to_string_lossy().contains("/libphp")).expect("libapache2-mod-php");
    let port = TcpListener::bind("127.0.0.1:0").and_then(|listener| listener.local_addr()).expect("a port").port();
    let configuration = format!(
        "ServerRoot {path}\nServerName localhost\nListen 127.0.0.1:{port}\nPidFile {path}/pid\nErrorLog {path}/error\n\
         LoadModule mpm_prefork_module {modules}/mod_mpm_prefork.so\nLoadModule authz_core_module {modules}/mod_authz_core.so\n\
         LoadModule php_module {}\nDocumentRoot {path}\n<FilesMatch php$>\nSetHandler application/x-httpd-php\n</FilesMatch>\n",
        php.display()
    );
    fs::write(directory.path().join("conf"), configuration).expect("written");
    let page = "<?php echo 'idle=', socket_get_option(socket_create(AF_INET, SOCK_STREAM, SOL_TCP), SOL_TCP, 4), '.';";
    fs::write(directory.path().join("idle.php"), page).expect("written");
    for settings in [None, Some(&[("KEEPIDLE", "77")][..])] {
        let file = directory.path().join("conf");
        let apache =
            Program::new("/usr/sbin/apache2").args(["-X", "-f", &file.to_string_lossy()]).with(settings).start();
        let mut answer = String::new();
        eventually("Apache answers", || {
            let Ok(mut stream) = TcpStream::connect(("127.0.0.1", port)) else { return false };
            answer.clear();
            stream.write_all(b"GET /idle.php HTTP/1.0\r\n\r\n").is_ok() && stream.read_to_string(&mut answer).is_ok()
        });
        let ended = apache.kill();
        assert_eq!(answer.contains("idle=77."), settings.is_some(), "{answer}\n{ended:#?}");
        assert!(answer.contains("idle="), "{answer}");
    }
}
