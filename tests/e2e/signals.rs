//! Signals and cancellation during a timed connect, beyond the first look of `blocking`.

use std::net::TcpListener;
use std::time::Duration;

use crate::harness::hole::BlackHole;
use crate::harness::{Ended, LATE, Program, Running, assert_on_time, debug_library, library, probe};

type Settings<'a> = &'a [(&'a str, &'a str)];

/// A connect of `tests/probes/signals.c`, with a live port for handlers that connect, too.
struct Peers {
    hole: BlackHole,
    live: TcpListener,
}

impl Peers {
    fn new() -> Self {
        Self { hole: BlackHole::v4(), live: TcpListener::bind("127.0.0.1:0").expect("a live server") }
    }

    fn args(&self, mode: &str) -> [String; 4] {
        let live = self.live.local_addr().expect("its address").port().to_string();
        [mode.to_owned(), self.hole.ip(), self.hole.port(), live]
    }

    fn start(&self, mode: &str, settings: Option<Settings<'_>>) -> Running {
        Program::probe("signals").args(self.args(mode)).with(settings).start()
    }

    /// All modes at a time.
    fn run<'a>(&self, modes: &[&'a str], settings: Option<Settings<'_>>) -> Vec<(&'a str, Ended)> {
        let running: Vec<_> = modes.iter().map(|mode| (*mode, self.start(mode, settings))).collect();
        running.into_iter().map(|(mode, running)| (mode, running.wait())).collect()
    }
}

fn assert_result(mode: &str, ended: &Ended, error: i32, due: u64) {
    ended.succeeded();
    assert_eq!((ended.number("result"), ended.number("errno")), (-1, error.into()), "{mode}: {ended:#?}");
    assert_on_time(ended.milliseconds("took"), Duration::from_millis(due), LATE);
    assert_kept(mode, ended);
}

fn assert_kept(mode: &str, ended: &Ended) {
    assert_eq!((ended.number("flags_kept"), ended.number("mask_kept")), (1, 1), "{mode}: {ended:#?}");
}

#[test]
fn a_storm_does_not_move_the_deadline() {
    let peers = Peers::new();
    for mode in ["storm-restart", "storm-both-restart"] {
        let ended = peers.start(mode, Some(&[("CONNECT_TIMEOUT", "1")])).wait();
        assert_result(mode, &ended, libc::ETIMEDOUT, 1000);
        assert!(ended.number("sent") > 300, "8000 on an idle machine: {ended:#?}");
        // Where restarting handlers wait for their turn, it comes each 10 ms.
        let least = if mode.contains("both") { 1 } else { 50 };
        assert!(ended.number("handled") > least, "{mode}: {ended:#?}");
    }
}

#[test]
fn stop_and_continue_is_no_interruption() {
    let peers = Peers::new();
    let modes = ["stop", "stop-restart", "stop-interrupt", "stop-both-restart"];
    for (mode, ended) in peers.run(&modes, Some(&[("CONNECT_TIMEOUT", "1")])) {
        assert_result(mode, &ended, libc::ETIMEDOUT, 1000);
    }
    // The deadline passes while the program is stopped, from 200 to 600 ms.
    for (mode, ended) in peers.run(&modes, Some(&[("CONNECT_TIMEOUT", "0.4")])) {
        assert_result(mode, &ended, libc::ETIMEDOUT, 600);
    }
    let plain = Program::probe("signals").args(peers.args("stop-interrupt")).limit(Duration::from_secs(1)).run();
    assert!(plain.killed, "without tcptune it goes on: {plain:#?}");
}

#[test]
fn alarm_as_the_programs_own_timeout() {
    let peers = Peers::new();
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "15")] as &[_])] {
        for (mode, ended) in peers.run(&["alarm-interrupt", "alarm-both-interrupt"], settings) {
            assert_result(mode, &ended, libc::EINTR, 1000);
            assert_eq!(ended.number("handled"), 1);
        }
    }
    let restarts = peers.start("alarm-restart", Some(&[("CONNECT_TIMEOUT", "1.3")])).wait();
    assert_result("alarm-restart", &restarts, libc::ETIMEDOUT, 1300);
    assert_eq!(restarts.number("handled"), 1);
}

/// connect(2) says that the attempt goes on, and to wait for it: python does so by itself (PEP 475).
#[test]
fn an_attempt_that_goes_on_behind_a_signal_keeps_its_deadline() {
    let hole = BlackHole::v4();
    let script = format!(
        "
import ctypes, os, select, signal, socket, struct, time
libc = ctypes.CDLL(None, use_errno=True)
handled = 0
def handler(*_):
    global handled
    handled = 1
signal.signal(signal.SIGALRM, handler)
s, address = socket.socket(), ('127.0.0.1', {})
raw = struct.pack('=H2s4s8x', socket.AF_INET, address[1].to_bytes(2, 'big'), socket.inet_aton(address[0]))
def connect(): return 0 if libc.connect(s.fileno(), raw, 16) == 0 else ctypes.get_errno()
def python():
    signal.setitimer(signal.ITIMER_REAL, 0.3)
    return s.connect_ex(address)
def again():
    signal.setitimer(signal.ITIMER_REAL, 0.5, 0.5)
    while (error := connect()) == 4: pass
    return error
def limited():
    global handled
    s.setsockopt(socket.SOL_SOCKET, socket.SO_SNDTIMEO, struct.pack('ll', 0, 300000))
    handled = connect() == 115
    p = select.poll()
    p.register(s, select.POLLOUT)
    p.poll(20000)
    return s.getsockopt(socket.SOL_SOCKET, socket.SO_ERROR)
start = time.monotonic()
error = globals()[os.environ['WAY']]()
print('took=%d' % ((time.monotonic() - start) * 1000))
print('handled=%d\\nerrno=%d\\nafter=%d' % (handled, error, s.getsockopt(socket.IPPROTO_TCP, 18)))
",
        hole.port()
    );
    let running: Vec<_> = ["python", "again", "limited"]
        .map(|way| Program::python(&script).env("WAY", way).limit(Duration::from_secs(30)))
        .into_iter()
        .map(|program| program.tuned(&[("CONNECT_TIMEOUT", "2")]).start())
        .collect();
    for running in running {
        let ended = running.wait();
        assert_eq!((ended.number("handled"), ended.number("errno")), (1, libc::ETIMEDOUT.into()), "{ended:#?}");
        assert_on_time(ended.milliseconds("took"), Duration::from_secs(2), LATE);
        assert_eq!(ended.number("after"), 0, "{ended:#?}");
    }
}

#[test]
fn a_handler_that_jumps_out() {
    // glibc's siglongjmp runs the clean-up routine of the frames it leaves, so the flags are put back.
    let peers = Peers::new();
    let modes = [
        "jump-restart",
        "jump-interrupt",
        "jump-both-restart",
        "jump-both-interrupt",
        "jump-altstack-restart",
        "jump-altstack-inframe-interrupt",
    ];
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "15")] as &[_])] {
        for (mode, ended) in peers.run(&modes, settings) {
            ended.succeeded();
            assert!(!ended.stdout.contains("result="), "{mode}: it left connect: {ended:#?}");
            assert!(ended.elapsed < LATE, "{mode}: at once: {ended:#?}");
            assert_kept(mode, &ended);
            assert_eq!((ended.number("handled"), ended.number("again")), (1, 0), "{mode}: {ended:#?}");
        }
    }
}

#[test]
fn seteuid_in_another_thread_is_no_interruption() {
    let peers = Peers::new();
    let modes = ["seteuid-restart", "seteuid-interrupt", "seteuid-both-restart"];
    for (mode, ended) in peers.run(&modes, Some(&[("CONNECT_TIMEOUT", "1")])) {
        assert_result(mode, &ended, libc::ETIMEDOUT, 1000);
    }
    let plain = Program::probe("signals").args(peers.args("seteuid-interrupt")).limit(Duration::from_secs(1)).run();
    assert!(plain.killed, "without tcptune it goes on: {plain:#?}");
}

#[test]
fn a_handler_that_connects() {
    let peers = Peers::new();
    for (mode, ended) in peers.run(&["nested-restart", "nested-both-restart"], Some(&[("CONNECT_TIMEOUT", "1")])) {
        assert_result(mode, &ended, libc::ETIMEDOUT, 1000);
        assert_eq!((ended.number("handled"), ended.number("nested_wrong")), (1, 0), "{mode}: {ended:#?}");
    }
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "1")] as &[_])] {
        for (mode, ended) in peers.run(&["nested-interrupt", "nested-both-interrupt"], settings) {
            assert_result(mode, &ended, libc::EINTR, 200);
            assert_eq!((ended.number("handled"), ended.number("nested_wrong")), (1, 0), "{mode}: {ended:#?}");
        }
    }
}

#[test]
fn a_signal_at_the_very_beginning() {
    // Of the wait: strace lets it come upon its first system call. A poll(2) of 0 ms fails with EINTR, too.
    let peers = Peers::new();
    let inject = |mode| {
        let ended = Program::new("strace")
            .args(["-f", "-qq", "-o", "/dev/null"])
            .args(["-e", "trace=poll,ppoll", "-e", "inject=poll,ppoll:signal=SIGUSR1:when=1"])
            .args(["-E", "TCPTUNE_CONNECT_TIMEOUT=0.5", "-E", &format!("LD_PRELOAD={}", library().display())])
            .args([probe("signals")])
            .args(peers.args(mode))
            .run();
        assert!(ended.number("handled") > 0, "{mode}: {ended:#?}");
        ended
    };
    assert_result("quiet-interrupt", &inject("quiet-interrupt"), libc::EINTR, 0);
    for mode in ["quiet-restart", "quiet-both-restart"] {
        assert_result(mode, &inject(mode), libc::ETIMEDOUT, 500);
    }
}

#[test]
fn every_kind_of_cancellation_leaves_the_flags() {
    let peers = Peers::new();
    let modes = ["cancel-async", "cancel-both-restart", "cancel-both-interrupt", "cancel-async-both-restart"];
    for settings in [None, Some(&[("CONNECT_TIMEOUT", "15")] as &[_])] {
        for (mode, ended) in peers.run(&modes, settings) {
            ended.succeeded();
            assert_eq!((ended.number("cancelled"), ended.number("cleaned")), (1, 1), "{mode}: {ended:#?}");
            assert_kept(mode, &ended);
            assert!(ended.milliseconds("took") < LATE, "{mode}: at once: {ended:#?}");
        }
    }
}

#[test]
fn a_cancelled_thread_is_unwound_through_the_library() {
    let hole = BlackHole::v4();
    let program = || Program::probe("unwind").args([hole.ip(), hole.port()]);
    let settings = &[("CONNECT_TIMEOUT", "15")];
    for program in [program(), program().tuned(settings), program().tuned_by(debug_library(), settings)] {
        let ended = program.run();
        ended.succeeded();
        assert_eq!((ended.number("inner"), ended.number("outer")), (1, 2), "{ended:#?}");
        assert_eq!((ended.number("cancelled"), ended.number("flags_kept")), (1, 1), "{ended:#?}");
    }
}
