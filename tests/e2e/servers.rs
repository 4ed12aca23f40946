//! Servers: `REUSEADDR` and `REUSEPORT` at bind and listen.

use std::net::TcpListener;

use crate::harness::Program;

/// A server that closes first, so that its port is left in TIME_WAIT, and sets no option itself.
const SERVER: &str = "
import socket, sys
s = socket.socket()
try: s.bind(('127.0.0.1', int(sys.argv[1])))
except OSError as e: print('bind=%d' % e.errno); sys.exit()
s.listen(1)
print('bind=0')
print('port=%d' % s.getsockname()[1], flush=True)
c = socket.create_connection(s.getsockname())
a, _ = s.accept()
a.close(); c.recv(1); c.close()
";

fn serve(port: &str, settings: Option<&[(&str, &str)]>) -> (i64, String) {
    let ended = Program::python(SERVER).args([port]).with(settings).run();
    ended.succeeded();
    let bind = ended.number("bind");
    let port = if bind == 0 { ended.value("port").to_owned() } else { port.to_owned() };
    (bind, port)
}

#[test]
fn a_server_restarts_at_once_on_its_port() {
    let (_, port) = serve("0", None);
    assert_eq!(serve(&port, None).0, libc::EADDRINUSE.into(), "TIME_WAIT holds the port");

    let tuned: Option<&[_]> = Some(&[("REUSEADDR", "on")]);
    let (_, port) = serve("0", tuned);
    assert_eq!(serve(&port, tuned).0, 0);
    assert_eq!(serve(&port, tuned).0, 0);
}

/// The kernel wants the option on both: the one that binds, and what is in TIME_WAIT.
#[test]
fn the_server_before_must_have_had_it() {
    let tuned: Option<&[_]> = Some(&[("REUSEADDR", "on")]);
    let (_, port) = serve("0", None);
    assert_eq!(serve(&port, tuned).0, libc::EADDRINUSE.into());
}

#[test]
fn a_port_that_is_served_stays_taken() {
    let listener = TcpListener::bind("127.0.0.1:0").expect("a server");
    let port = listener.local_addr().expect("its address").port().to_string();
    assert_eq!(serve(&port, Some(&[("REUSEADDR", "on")])).0, libc::EADDRINUSE.into());
}

#[test]
fn two_servers_share_a_port_with_reuseport() {
    let script = "
import socket
first = socket.socket(); first.bind(('127.0.0.1', 0)); first.listen(1)
second = socket.socket()
print('second=%d' % (lambda e: e or 0)(second.bind(first.getsockname())))
second.listen(1)
";
    let plain = Program::python(script).run();
    assert!(!plain.status.success() && plain.stderr.contains("Address already in use"), "{plain:#?}");
    let tuned = Program::python(script).tuned(&[("REUSEPORT", "on")]).run();
    assert_eq!(tuned.number("second"), 0);
}

#[test]
fn udp_sockets_do_not_get_what_is_for_tcp() {
    let script = "
import socket
s = socket.socket(socket.AF_INET, socket.SOCK_DGRAM)
s.bind(('127.0.0.1', 0))
print('reuseaddr=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
print('reuseport=%d' % s.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEPORT))
t = socket.socket()
t.bind(('127.0.0.1', 0))
print('tcp=%d' % t.getsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR))
";
    let tuned = Program::python(script).tuned(&[("REUSEADDR", "on"), ("REUSEPORT", "on")]).run();
    assert_eq!((tuned.number("reuseaddr"), tuned.number("reuseport"), tuned.number("tcp")), (0, 0, 1));
}
