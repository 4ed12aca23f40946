//! What stands on the screen: at 80 and 120 columns, and without a terminal.

use std::fs::File;
use std::io::Read;
use std::os::fd::FromRawFd;
use std::process::{Command, Stdio};
use std::ptr;

use crate::harness::*;
use crate::namespace::Namespace;

/// Its addresses, and all that a system could have other defaults for, are fixed.
const SERVER: &str = "
import socket, sys
open('/proc/self/comm', 'w').write('server')
def made(family, tuned):
    s = socket.socket(family)
    for option in (socket.SO_SNDBUF, socket.SO_RCVBUF): s.setsockopt(socket.SOL_SOCKET, option, 50000)
    s.setsockopt(6, socket.TCP_CONGESTION, b'reno'); s.setsockopt(6, socket.TCP_SYNCNT, 4)
    s.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
    if tuned:
        s.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for option, value in ((socket.TCP_KEEPIDLE, 600), (socket.TCP_KEEPINTVL, 10), (socket.TCP_KEEPCNT, 5),
                              (socket.TCP_USER_TIMEOUT, 30000), (socket.TCP_NODELAY, 1)):
            s.setsockopt(6, option, value)
    return s
kept = []
for family, address in ((socket.AF_INET, '127.123.123.123'), (socket.AF_INET6, '::1')):
    listener = made(family, False); listener.bind((address, 56379)); listener.listen()
    client = made(family, True); client.bind((address, 40000)); client.connect((address, 56379))
    kept += [listener, client, listener.accept()[0]]
kept.append(made(socket.AF_INET, False))
print('ready', flush=True); sys.stdin.read()";

/// What a command writes to a terminal that is so wide.
fn on_terminal(columns: u16, command: &mut Command) -> String {
    let (mut master, mut slave) = (-1, -1);
    let size = libc::winsize { ws_row: 50, ws_col: columns, ws_xpixel: 0, ws_ypixel: 0 };
    // SAFETY: live numbers and a live size; names and modes are not asked for.
    let r = unsafe { libc::openpty(&raw mut master, &raw mut slave, ptr::null_mut(), ptr::null(), &raw const size) };
    assert_eq!(r, 0, "a pseudoterminal");
    // SAFETY: the descriptors are new.
    let (mut master, slave) = unsafe { (File::from_raw_fd(master), File::from_raw_fd(slave)) };
    let mut child = command.env("TERM", "xterm").stdout(slave).stderr(Stdio::inherit()).spawn().expect("it starts");
    command.stdout(Stdio::null()); // the command keeps a descriptor of the terminal open
    let mut text = Vec::new();
    // The end of a terminal is EIO.
    let _ = master.read_to_end(&mut text);
    child.wait().expect("it ends");
    String::from_utf8(text).expect("UTF-8").replace("\r\n", "\n")
}

/// Without what differs from run to run.
fn redacted(text: &str, pid: u32) -> String {
    let seconds_later = |text: String, left| text.replace(&format!("keepalive {left}s"), "keepalive 600s");
    (590..600).fold(text.replace(&format!("PID {pid}"), "PID"), seconds_later)
}

fn plain(text: &str) -> String {
    anstream::adapter::strip_str(text).to_string()
}

#[test]
fn tables() {
    let Some(namespace) = Namespace::or_skip("tables") else { return };
    let mut command = python(SERVER);
    namespace.enter_on_exec(&mut command);
    let mut server = Running::start(&mut command);
    server.line();
    let pid = server.pid();
    let command = |args: &[&str]| {
        let mut command = Command::new(TCPTUNE);
        command.arg(args[0]).arg(pid.to_string()).args(&args[1..]).env_remove("NO_COLOR").env_remove("CLICOLOR");
        command
    };
    let at = |columns: u16, args: &[&str]| {
        let text = on_terminal(columns, &mut command(args));
        assert!(text.contains("\x1b["), "coloured: {text:?}");
        let text = redacted(&plain(&text), pid);
        let widest = text.lines().map(|line| line.chars().count()).max();
        assert!(widest <= Some(columns.into()), "{widest:?} columns:\n{text}");
        text
    };
    let piped = |args: &[&str]| redacted(&Ended::of(&mut command(args)).stdout, pid);
    insta::assert_snapshot!("inspect_80", at(80, &["inspect"]));
    insta::assert_snapshot!("inspect_120", at(120, &["inspect"]));
    insta::assert_snapshot!("inspect_piped", piped(&["inspect"]));
    let settings = ["--keepidle", "300", "--user-timeout", "auto", "--syncnt", "2", "--mark", "7", "--nodelay", "on"];
    let dry = [&["apply", "--dry-run", "--fd", "3,4"][..], &settings].concat();
    insta::assert_snapshot!("apply_dry_80", at(80, &dry));
    insta::assert_snapshot!(
        "apply_120",
        at(120, &[&["apply", "--fd", "3,4,9", "--congestion", "nosuch"][..], &settings].concat())
    );
    insta::assert_snapshot!("apply_piped", piped(&["apply", "--dst", "::1", "--nodelay", "on"]));
    let coloured = on_terminal(200, &mut command(&["apply", "--fd", "4", "--nodelay", "off", "--syncnt", "3"]));
    insta::assert_snapshot!("apply_coloured", coloured.escape_debug().to_string().replace("\\n", "\n"));
    let never = on_terminal(200, &mut command(&["inspect", "--color", "never"]));
    assert!(!never.contains('\x1b'), "{never:?}");
    let mut no_color = command(&["inspect"]);
    assert!(!on_terminal(200, no_color.env("NO_COLOR", "1")).contains('\x1b'));
    assert!(!piped(&["inspect"]).contains('\x1b'));
}
