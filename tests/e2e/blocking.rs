//! Connect timeout of programs whose sockets block.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::hole::{BlackHole, refusing_port};
use crate::harness::{Ended, LATE, Program, assert_on_time, eventually};

fn seconds(text: &str) -> Duration {
    Duration::from_secs_f64(text.parse().expect("seconds"))
}

fn connect(hole: &BlackHole, more: &[&str], settings: Option<&[(&str, &str)]>) -> Ended {
    let (ip, port) = (hole.ip(), hole.port());
    Program::probe("connect").args([&*ip, &*port]).args(more).with(settings).run()
}

#[test]
fn without_a_timeout_the_black_hole_swallows() {
    let hole = BlackHole::v4();
    let plain = Program::probe("connect").args([hole.ip(), hole.port()]).limit(Duration::from_secs(4)).run();
    assert!(plain.killed, "{plain:#?}");
    let unset = Program::probe("connect")
        .args([hole.ip(), hole.port()])
        .limit(Duration::from_secs(4))
        .tuned(&[("NODELAY", "1")])
        .run();
    assert!(unset.killed, "{unset:#?}");
}

#[test]
fn ends_in_time_and_leaves_the_descriptor_as_it_was() {
    for hole in [BlackHole::v4(), BlackHole::v6()] {
        let live = TcpListener::bind((hole.ip(), 0)).expect("a live server");
        let live_port = live.local_addr().expect("its address").port().to_string();
        for timeout in ["0.3", "1", "2.5"] {
            let ended = connect(&hole, &[&live_port], Some(&[("CONNECT_TIMEOUT", timeout)]));
            assert_on_time(ended.milliseconds("took"), seconds(timeout), LATE);
            assert_eq!((ended.number("result"), ended.number("errno")), (-1, libc::ETIMEDOUT.into()), "{ended:#?}");
            assert_eq!(ended.number("flags_before"), ended.number("flags_after"));
            assert_eq!(ended.number("so_error"), 0);
            assert_eq!(ended.number("again"), 0, "the same descriptor connects to a live server");
            assert_eq!(ended.number("flags_before"), ended.number("flags_again"));
            assert_eq!(ended.number("again_after"), libc::EISCONN.into(), "and is connected as by the kernel");
        }
    }
}

#[test]
fn no_attempt_is_left_behind() {
    let hole = BlackHole::v4();
    let live = TcpListener::bind((hole.ip(), 0)).expect("a live server");
    let port = live.local_addr().expect("its address").port().to_string();
    let running =
        Program::probe("connect").args([hole.ip(), hole.port(), port]).tuned(&[("CONNECT_TIMEOUT", "1")]).start();
    eventually("the attempt goes on", || hole.attempts() == 1);
    running.printed("again=0"); // the probe keeps the descriptor for some seconds more
    assert_eq!(hole.attempts(), 0);
}

#[test]
fn a_refused_connection_keeps_its_errno() {
    let port = refusing_port().to_string();
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "15")] as &[_])] {
        let ended = Program::probe("connect").args(["127.0.0.1", &port]).with(settings).run();
        assert_eq!(ended.number("errno"), libc::ECONNREFUSED.into(), "{ended:#?}");
        assert!(ended.milliseconds("took") < LATE);
        assert_eq!(ended.number("flags_before"), ended.number("flags_after"));
        assert_eq!(ended.number("so_error"), 0);
    }
}

#[test]
fn a_live_server_is_connected_to_and_errno_untouched() {
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    let port = live.local_addr().expect("its address").port().to_string();
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "2")] as &[_])] {
        let ended = Program::probe("connect").args(["127.0.0.1", &port]).with(settings).run();
        assert_eq!((ended.number("result"), ended.number("errno")), (0, 4711), "{ended:#?}");
        assert_eq!(ended.number("flags_before"), ended.number("flags_after"));
    }
}

#[test]
fn python_and_its_own_timeouts() {
    let hole = BlackHole::v4();
    let script = format!(
        "
import socket, time
def attempt(name, connect):
    start = time.monotonic()
    try: connect()
    except OSError as e: print(f'{{name}}_error={{type(e).__name__}} {{e.errno}}')
    print(f'{{name}}_took={{(time.monotonic() - start) * 1000:.0f}}', flush=True)
hole = ('{}', {})
attempt('own', lambda: socket.create_connection(hole, timeout=0.5))
s = socket.socket()
attempt('blocking', lambda: s.connect(hole))
print(f'blocking={{s.getblocking()}}')
",
        hole.ip(),
        hole.port()
    );
    let plain = Program::python(&script).limit(Duration::from_secs(8)).run();
    assert!(plain.killed && plain.stdout.contains("own_took") && !plain.stdout.contains("blocking_took"), "{plain:#?}");

    let tuned = Program::python(&script).tuned(&[("CONNECT_TIMEOUT", "1.2")]).run();
    assert_eq!(plain.value("own_error"), tuned.value("own_error"));
    assert_on_time(tuned.milliseconds("own_took"), Duration::from_millis(500), LATE);
    assert_eq!(tuned.value("blocking_error"), format!("TimeoutError {}", libc::ETIMEDOUT));
    assert_on_time(tuned.milliseconds("blocking_took"), Duration::from_millis(1200), LATE);
    assert_eq!(tuned.value("blocking"), "True");
}

#[test]
fn bash_and_nc_end_in_time() {
    let hole = BlackHole::v4();
    let bash = || Program::new("bash").args(["-c", &format!("echo > /dev/tcp/{}/{}", hole.ip(), hole.port())]);
    let nc = || Program::new("nc").args([hole.ip(), hole.port()]);
    for (program, message) in [(&bash as &dyn Fn() -> Program, "timed out"), (&nc, "")] {
        assert!(program().limit(Duration::from_secs(3)).run().killed, "hangs without tcptune");
        let tuned = program().tuned(&[("CONNECT_TIMEOUT", "1.5")]).run();
        assert_on_time(tuned.elapsed, Duration::from_millis(1500), LATE);
        assert_eq!(tuned.code(), Some(1));
        assert!(tuned.stderr.contains(message), "{tuned:#?}");
    }
}

#[test]
fn the_programs_own_send_timeout_still_ends_connect() {
    // socket(7): SO_SNDTIMEO ends a blocking connect with EINPROGRESS.
    let hole = BlackHole::v4();
    let script = format!(
        "
import errno, socket, struct, time
s = socket.socket()
s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 400000))
start = time.monotonic()
print('errno=%d' % s.connect_ex(('{}', {})))
print('took=%d' % ((time.monotonic() - start) * 1000))
",
        hole.ip(),
        hole.port()
    );
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "2")] as &[_])] {
        let ended = Program::python(&script).with(settings).run();
        assert_eq!(ended.number("errno"), libc::EINPROGRESS.into(), "{ended:#?}");
        assert_on_time(ended.milliseconds("took"), Duration::from_millis(400), LATE);
    }
    let shorter = Program::python(&script).tuned(&[("CONNECT_TIMEOUT", "0.2")]).run();
    assert_eq!(shorter.number("errno"), libc::ETIMEDOUT.into());
    assert_on_time(shorter.milliseconds("took"), Duration::from_millis(200), LATE);
}

fn signals(mode: &str, settings: Option<&[(&str, &str)]>) -> Ended {
    let hole = BlackHole::v4();
    Program::probe("signals")
        .args([mode, &hole.ip(), &hole.port()])
        .limit(Duration::from_secs(if settings.is_some() { 20 } else { 4 }))
        .with(settings)
        .run()
}

#[test]
fn signals_do_what_they_do_to_a_blocking_connect() {
    let settings: &[_] = &[("CONNECT_TIMEOUT", "1")];
    for (mode, error, due, handled) in [
        ("restart", libc::ETIMEDOUT, 1000, 1),
        ("ignore", libc::ETIMEDOUT, 1000, 0),
        ("interrupt", libc::EINTR, 200, 1),
        ("both-restart", libc::ETIMEDOUT, 1000, 1),
        ("both-interrupt", libc::EINTR, 200, 1),
    ] {
        let tuned = signals(mode, Some(settings));
        assert_eq!(tuned.number("errno"), error.into(), "{mode}: {tuned:#?}");
        assert_on_time(tuned.milliseconds("took"), Duration::from_millis(due), LATE);
        assert_eq!((tuned.number("handled"), tuned.number("flags_kept")), (handled, 1), "{mode}");
        assert_eq!(tuned.number("mask_kept"), 1, "{mode}");
    }
    for mode in ["restart", "both-restart"] {
        assert!(signals(mode, None).killed, "{mode}: without tcptune it goes on");
    }
    for mode in ["interrupt", "both-interrupt"] {
        assert_eq!(signals(mode, None).number("errno"), libc::EINTR.into(), "{mode}");
    }
}

#[test]
fn a_cancelled_thread_runs_its_handlers_and_leaves_the_flags() {
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "15")] as &[_])] {
        let ended = signals("cancel", settings);
        ended.succeeded();
        assert_eq!((ended.number("cancelled"), ended.number("cleaned")), (1, 1), "{ended:#?}");
        assert_eq!(ended.number("flags_kept"), 1, "{ended:#?}");
        assert!(ended.milliseconds("took") < LATE, "at once, not at the deadline");
    }
}
