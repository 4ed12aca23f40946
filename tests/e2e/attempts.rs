//! What remains of a nonblocking connect's timeout on its socket, whatever other threads and unusual calls do.

use std::net::TcpListener;
use std::thread;
use std::time::Duration;

use crate::harness::hole::BlackHole;
use crate::harness::namespace::Namespace;
use crate::harness::{Ended, LATE, Program, assert_on_time};

/// A port that accepts as long as the tests run, and closes nothing.
fn live_port() -> String {
    let live = TcpListener::bind("127.0.0.1:0").expect("a live server");
    // SAFETY: listen(2) again sets another backlog.
    assert_eq!(unsafe { libc::listen(std::os::fd::AsRawFd::as_raw_fd(&live), 4096) }, 0);
    let port = live.local_addr().expect("its address").port().to_string();
    thread::spawn(move || live.incoming().for_each(std::mem::forget));
    port
}

fn attempts(mode: &[&str], port: &str, timeout: &str) -> Ended {
    let args = [mode, &["127.0.0.1", port]].concat();
    let settings: &[_] = &[("CONNECT_TIMEOUT", timeout)];
    let ended = Program::probe("attempts").args(args).limit(Duration::from_secs(30)).tuned(settings).run();
    ended.succeeded();
    ended
}

#[test]
fn another_thread_uses_the_connection_before_connect_has_returned() {
    let ended = attempts(&["threads"], &live_port(), "3");
    assert_eq!((ended.number("used"), ended.number("kept"), ended.number("still")), (1000, 0, 0), "{ended:#?}");
}

#[test]
fn a_handler_of_sigio_uses_the_connection_before_connect_has_returned() {
    let ended = attempts(&["sigio"], &live_port(), "3");
    assert!(ended.number("inside") > 0, "some came before: {ended:#?}");
    assert_eq!((ended.number("used"), ended.number("kept"), ended.number("still")), (300, 0, 0), "{ended:#?}");
}

#[test]
fn one_long_write_to_a_slow_peer_is_not_ended() {
    let ended = attempts(&["slow"], "1", "3");
    assert_eq!((ended.number("during"), ended.number("as_expected")), (3000, 1), "{ended:#?}");
    assert_eq!(ended.number("after"), 0, "{ended:#?}");
    assert!(ended.milliseconds("took") > Duration::from_secs(4), "the peer read nothing: {ended:#?}");
}

#[test]
fn a_call_that_waits_for_the_attempt_goes_on_without_its_timeout() {
    for way in ["write", "recv", "connect"] {
        let ended = attempts(&["blocking", way], "1", "3");
        assert_eq!((ended.number("during"), ended.number("as_expected")), (3000, 1), "{way}: {ended:#?}");
        assert_eq!(ended.number("after"), 0, "{way}: {ended:#?}");
        assert!(ended.milliseconds("took") > Duration::from_millis(500), "at the second SYN: {ended:#?}");
    }
}

#[test]
fn what_ends_a_call_that_waits_for_the_attempt_is_as_without_the_library() {
    for (way, due) in [("interrupted", 1000), ("timeout", 200)] {
        let ended = attempts(&["blocking", way], "1", "3");
        assert_eq!(ended.number("as_expected"), 1, "{way}: {ended:#?}");
        assert_on_time(ended.milliseconds("took"), Duration::from_millis(due), LATE);
    }
}

#[test]
fn who_closes_a_number_of_its_own_leaves_the_attempt_on_ours() {
    for way in ["close", "dup2", "close_range"] {
        let ended = attempts(&["others", way], "1", "3");
        assert_eq!((ended.number("during"), ended.number("as_expected")), (3000, 1), "{way}: {ended:#?}");
        assert_eq!(ended.number("after"), 0, "{way}: {ended:#?}");
    }
}

/// Who may keep the socket where no hook has seen it shall not keep the timeout.
#[test]
fn a_number_that_is_closed_leaves_no_timeout_behind_unless_another_one_is_known() {
    let hole = BlackHole::v4();
    for (way, after) in [("dup", 3000), ("fork", 3000), ("raw", 0), ("passed", 0), ("over", 0)] {
        let ended = attempts(&["kept", way], &hole.port(), "3");
        assert_eq!((ended.number("during"), ended.number("after")), (3000, after), "{way}: {ended:#?}");
    }
}

#[test]
fn an_attempt_that_is_given_up_leaves_nothing_on_the_listener() {
    let ended = attempts(&["unspec"], &BlackHole::v4().port(), "3");
    assert_eq!((ended.number("during"), ended.number("given_up")), (3000, 1), "{ended:#?}");
    assert_eq!((ended.number("listener"), ended.number("accepted")), (0, 0), "{ended:#?}");
}

#[test]
fn no_descriptor_is_needed() {
    let ended = attempts(&["nothing"], &live_port(), "1");
    assert_eq!((ended.number("heard"), ended.number("nothing_else"), ended.number("after")), (1, 1, 0), "{ended:#?}");
}

#[test]
fn a_value_that_the_program_sets_meanwhile_is_neither_lost_nor_hidden() {
    let ended = attempts(&["own"], &live_port(), "3");
    assert!(ended.number("rounds") > 100, "{ended:#?}");
    assert_eq!((ended.number("lost"), ended.number("hidden")), (0, 0), "{ended:#?}");
}

#[test]
fn a_number_that_is_another_sockets_keeps_its_value() {
    let ended = attempts(&["number"], &live_port(), "1");
    assert_eq!((ended.number("same"), ended.number("after")), (1, 1000), "{ended:#?}");
}

#[test]
fn every_attempt_has_its_timeout_whatever_other_threads_give_up() {
    let ended = attempts(&["give_up"], &BlackHole::v4().port(), "0.05");
    assert!(ended.number("attempts") > 2000, "{ended:#?}");
    assert_eq!(ended.number("unlimited"), 0, "{ended:#?}");
}

#[test]
fn a_wait_of_something_else_puts_the_value_back_in_time() {
    let port = live_port();
    for way in ["poll", "ppoll", "select", "pselect", "epoll_wait", "epoll_pwait", "signal", "held"] {
        let ended = attempts(&["idle", way], &port, "1");
        assert_eq!((ended.number("nothing"), ended.number("after")), (1, 0), "{way}: {ended:#?}");
        let due = if ["signal", "held"].contains(&way) { 2000 } else { 1700 };
        assert_on_time(ended.milliseconds("took"), Duration::from_millis(due), LATE);
        if way == "select" {
            assert!(ended.number("left") < 20 && ended.number("set") == 0, "{ended:#?}");
        }
    }
}

/// Made blocking while the attempt goes on, with a peer that then is gone: only keepalive ends the wait, after 1 + 5 × 1 s. A
/// user timeout of 2 s that stayed would end it after 3 s, as one that is set does.
#[test]
fn a_dead_peer_is_noticed_when_keepalive_says_so() {
    let script = "
import socket, time
listener = socket.create_server(('127.0.0.1', 0))
s = socket.socket()
s.setblocking(False)
for name, value in ('TCP_KEEPIDLE', 1), ('TCP_KEEPINTVL', 1), ('TCP_KEEPCNT', 5):
    s.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
print('began=%d' % s.connect_ex(listener.getsockname()))
s.setblocking(True)
s.send(b'x') # the attempt is over
peer, start = listener.accept()[0], time.monotonic()
print('connected', flush=True)
try: s.recv(1)
except OSError as e: print('error=%d\\ntook=%d' % (e.errno, (time.monotonic() - start) * 1000))
";
    let Some(namespace) = Namespace::or_skip("a_dead_peer_is_noticed_when_keepalive_says_so") else { return };
    namespace.run("nft", &["add table inet gone"]);
    namespace.run("nft", &["add chain inet gone in { type filter hook input priority 0; }"]);
    let took = |more: &[(&str, &str)]| {
        namespace.run("nft", &["flush chain inet gone in"]);
        let settings = [&[("CONNECT_TIMEOUT", "2")], more].concat();
        let running =
            Program::python(script).inside(&namespace).tuned(&settings).limit(Duration::from_secs(40)).start();
        running.printed("connected");
        namespace.run("nft", &["add rule inet gone in drop"]);
        let ended = running.wait();
        ended.succeeded();
        assert_eq!(ended.number("began"), libc::EINPROGRESS.into(), "{ended:#?}");
        assert_eq!(ended.number("error"), libc::ETIMEDOUT.into(), "{ended:#?}");
        ended.milliseconds("took")
    };
    assert_on_time(took(&[]), Duration::from_secs(5), LATE);
    assert!(took(&[("USER_TIMEOUT", "2s")]) < Duration::from_millis(4900), "a user timeout of 2 s ends it earlier");
}
