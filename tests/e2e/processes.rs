//! fork, vfork, exec, daemons, and handlers that call the library from wherever the program is.

use std::collections::BTreeSet;
use std::net::TcpListener;
use std::thread;

use crate::harness::hole::BlackHole;
use crate::harness::{Ended, LATE, Program, debug_library, library};

/// A port of loopback that accepts connections as long as the tests run.
fn live_port() -> String {
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let port = live.local_addr().expect("its address").port().to_string();
    thread::spawn(move || live.incoming().for_each(drop));
    port
}

fn processes(mode: &str) -> Program {
    Program::probe("processes").args([mode, &live_port()])
}

#[test]
fn a_fork_storm_from_a_threaded_program() {
    let hole = BlackHole::v4();
    let plain = processes("forks");
    let settings = [("CONNECT_TIMEOUT", "0.1"), ("KEEPIDLE", "60"), ("NODELAY", "on")];
    let tuned = |library| processes("forks").args([hole.port()]).tuned_by(library, &settings);
    for program in [plain, tuned(library()), tuned(debug_library())] {
        let ended = program.run();
        ended.succeeded();
        assert_eq!((ended.number("bad_children"), ended.number("wrong")), (0, 0), "{ended:#?}");
    }
}

#[test]
fn what_a_vfork_child_closes_stays_the_parents() {
    let plain = processes("vfork").run();
    let program = processes("vfork").tuned(&[("KEEPIDLE", "60"), ("PRECEDENCE", "program")]).run();
    let env = processes("vfork").tuned(&[("KEEPIDLE", "60")]).run();
    for (ended, idle) in [(&plain, 7), (&env, 60), (&program, 7)] {
        ended.succeeded();
        assert_eq!((ended.number("child"), ended.number("closed"), ended.number("replaced")), (1, 0, 0), "{ended:#?}");
        for name in ["closed_keepidle", "replaced_keepidle"] {
            assert_eq!(ended.number(name), idle, "{name}: {ended:#?}");
        }
    }
}

#[test]
fn a_spawned_program_is_tuned_too() {
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "1")] as &[_])] {
        let ended = processes("spawn").with(settings).run();
        ended.succeeded();
        assert_eq!((ended.number("spawned"), ended.number("child")), (1, 1), "{ended:#?}");
        let started = ended.log.lines().filter_map(|line| line.split_once(" in force")).collect::<BTreeSet<_>>();
        assert_eq!(started.len(), if settings.is_some() { 2 } else { 0 }, "{ended:#?}");
    }
}

/// With every line of the log to standard error, as far as that is one.
fn talkative(mode: &str) -> Ended {
    let settings = [("LOG", "debug"), ("LOG_FILE", ""), ("CONNECT_TIMEOUT", "1"), ("KEEPIDLE", "60")];
    let ended = processes(mode).tuned(&settings).start().wait_unproven();
    ended.succeeded();
    assert!(ended.stderr.contains("info: in force"), "{mode}: the library was at work: {ended:#?}");
    ended
}

#[test]
fn a_daemons_sockets_get_no_line_of_the_log() {
    for ended in [processes("daemon").run(), talkative("daemon")] {
        ended.succeeded();
        assert_eq!((ended.value("numbers"), ended.number("bad"), ended.number("read")), ("012", 0, 1), "{ended:#?}");
    }
}

#[test]
fn a_standard_error_that_is_none_neither_gets_a_line_nor_holds_anything_up() {
    for mode in ["socket", "full", "gone", "terminal"] {
        for ended in [processes(mode).run(), talkative(mode)] {
            ended.succeeded();
            assert_eq!(ended.number("child"), 1, "{mode}: {ended:#?}");
            assert!(ended.elapsed < LATE, "{mode}: {ended:#?}");
            if mode == "socket" {
                assert_eq!(ended.number("read"), 0, "{mode}: {ended:#?}");
            }
        }
    }
}

/// termios(3), TOSTOP: a write to the terminal stops a job in the background.
#[test]
fn a_line_of_the_log_stops_no_job_in_the_background() {
    let script = "
import os, pty, sys, termios
ends = os.pipe()
leader, terminal = pty.fork()
if leader == 0:
    modes = termios.tcgetattr(0)
    modes[3] |= termios.TOSTOP
    termios.tcsetattr(0, termios.TCSANOW, modes)
    job = os.fork()
    if job == 0:
        os.setpgid(0, 0)
        own = {'LD_PRELOAD': sys.argv[1], 'TCPTUNE_KEEPIDLE': '60', 'TCPTUNE_LOG': 'info'}
        os.execve(sys.executable, ['job', '-c', 'import socket; socket.socket()'], own)
    _, status = os.waitpid(job, os.WUNTRACED)
    os.write(ends[1], b'%d' % os.WIFSTOPPED(status))
    os.kill(job, 9) if os.WIFSTOPPED(status) else None
    os._exit(0)
os.close(ends[1])
print('stopped=%s' % os.read(ends[0], 9).decode())
text = b''
try:
    while True: text += os.read(terminal, 999)
except OSError: pass # it has no writer any more
print('said=%d' % (b'in force' in text))
";
    let ended = Program::python(script).args([library()]).run();
    ended.succeeded();
    assert_eq!((ended.number("stopped"), ended.number("said")), (0, 1), "{ended:#?}");
}

#[test]
fn handlers_connect_while_the_program_is_inside_malloc() {
    let port = live_port();
    let settings = [("CONNECT_TIMEOUT", "1"), ("KEEPIDLE", "60"), ("REUSEADDR", "on"), ("LOG", "debug")];
    let start = |library| {
        let program = Program::probe("malloc_and_signals").args(["1000", &port]);
        program.tuned_by(library, &settings).start()
    };
    // At a time.
    for running in [start(library()), start(debug_library())] {
        let ended = running.wait();
        ended.succeeded();
        assert_eq!(ended.number("wrong"), 0, "{ended:#?}");
        assert!(ended.number("handled") > 500, "{ended:#?}");
    }
}
