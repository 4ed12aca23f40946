//! Each program in its own words.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::{TcpListener, TcpStream};
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::TempDir;

use super::{Answer, LIMIT, SLACK, serve};
use crate::harness::{Ended, Program, eventually, python};

/// A program that asks a server for something: its name, how it is started, and what it says after a silence, before and
/// after half of an answer.
struct Case {
    name: &'static str,
    command: Vec<String>,
    nothing: &'static str,
    half: &'static str,
}

fn case(name: &'static str, command: &[&str], nothing: &'static str, half: &'static str) -> Case {
    Case { name, command: command.iter().map(|word| (*word).to_owned()).collect(), nothing, half }
}

/// `PORT` stands for the server's port.
fn cases() -> Vec<Case> {
    let url = "http://127.0.0.1:PORT/";
    let timed_out = "Connection timed out";
    let script = |name, script: &str, error| case(name, &["python3", "-I", "-c", script], error, error);
    let connected =
        "import socket; s = socket.create_connection(('127.0.0.1', PORT)); s.send(b'GET / HTTP/1.1\\r\\n\\r\\n')";
    let then = |rest: &str| format!("{connected}\n{rest}");
    let perl = "use IO::Socket; my $s = IO::Socket::INET->new('127.0.0.1:PORT') or die; print $s \"GET / HTTP/1.1\\r\\n\\r\\n\"; \
                while (1) { my $n = sysread($s, my $b, 100); defined $n or die \"$!\\n\"; $n or last; }";
    let node = "require('http').get('http://127.0.0.1:PORT/', r => { r.on('data', () => 0); r.on('error', e => console.log(e.code)) })\
                .on('error', e => console.log(e.code))";
    let fetch = "fetch('http://127.0.0.1:PORT/').then(r => r.text()).then(console.log, e => console.log(e.cause.code))";
    let php = "$f = stream_socket_client('tcp://127.0.0.1:PORT'); fwrite($f, \"GET / HTTP/1.1\\r\\n\\r\\n\"); \
               while (!feof($f)) { $b = fread($f, 100); if ($b === false || $b === '') { echo 'failed'; break; } }";
    let bash = "exec 3<>/dev/tcp/127.0.0.1/PORT; printf 'GET / HTTP/1.1\\r\\n\\r\\n' >&3; cat <&3";
    vec![
        case("curl", &["curl", "-sS", "--noproxy", "*", url], timed_out, timed_out),
        case("wget", &["wget", "-T0", "-t1", "--no-proxy", "-O-", url], timed_out, timed_out),
        case("perl", &["perl", "-e", perl], timed_out, timed_out),
        case("bash and cat", &["bash", "-c", bash], timed_out, timed_out),
        case("node http", &["node", "-e", node], "ETIMEDOUT", "ECONNRESET"),
        case("node fetch", &["node", "-e", fetch], "ETIMEDOUT", "ETIMEDOUT"),
        case("php", &["php", "-r", php], "failed", "failed"),
        case("git", &["git", "ls-remote", url], timed_out, timed_out),
        case("redis-cli", &["redis-cli", "-p", "PORT", "ping"], "Error", "Error"),
        case("psql", &["psql", "-h", "127.0.0.1", "-p", "PORT", "-U", "x", "x"], timed_out, "invalid response"),
        script("recv", &then("while s.recv(100): pass"), "TimeoutError"),
        script("makefile", &then("print(s.makefile('rb').read())"), "TimeoutError"),
        script(
            "select",
            &then("import select\nwhile select.select([s], [], [], 60)[0] and s.recv(100): pass"),
            "TimeoutError",
        ),
        script(
            "urllib",
            "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:PORT/').read()",
            "TimeoutError",
        ),
        script(
            "urllib, with a time of its own",
            "import urllib.request\nurllib.request.urlopen('http://127.0.0.1:PORT/', timeout=60).read()",
            "TimeoutError",
        ),
        script(
            "asyncio",
            "
import asyncio
async def main():
    reader, writer = await asyncio.open_connection('127.0.0.1', PORT)
    writer.write(b'GET / HTTP/1.1\\r\\n\\r\\n')
    await reader.read()
asyncio.run(main())",
            "TimeoutError",
        ),
    ]
}

fn run(case: &Case, port: u16, settings: Option<&[(&str, &str)]>, limit: Duration) -> Ended {
    let mut words = case.command.iter().map(|word| word.replace("PORT", &port.to_string()));
    let program = words.next().expect("a program");
    let program = if program == "python3" { Program::new(python()) } else { Program::new(program) };
    program.args(words).env("HOME", "/nonexistent").with(settings).limit(limit).run()
}

/// What each says of both servers, a few at a time.
fn each(settings: Option<&[(&str, &str)]>, limit: Duration, check: impl Fn(&Case, &str, &Ended) + Sync) {
    let (silent, half) = (serve(Answer::None), serve(Answer::Half));
    let cases = cases();
    thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(8)) {
            let check = &check;
            scope.spawn(move || {
                for case in part {
                    check(case, case.nothing, &run(case, silent, settings, limit));
                    check(case, case.half, &run(case, half, settings, limit));
                }
            });
        }
    });
}

#[test]
fn each_program_says_that_it_timed_out() {
    let settings: &[_] = &[("RECV_TIMEOUT", "1")];
    each(Some(settings), Duration::from_secs(15), |case, says, ended| {
        let output = format!("{}{}", ended.stdout, ended.stderr);
        assert!(!ended.killed && output.contains(says), "{}: {says}: {ended:#?}", case.name);
        let at_once = says == "invalid response" || case.name == "redis-cli";
        assert!(at_once || ended.elapsed >= LIMIT, "{}: {ended:#?}", case.name);
    });
}

#[test]
fn without_the_setting_they_wait() {
    // Those that the half answer tells something do not.
    let settings: &[_] = &[("SEND_TIMEOUT", "1"), ("NODELAY", "on")];
    each(Some(settings), Duration::from_millis(2500), |case, _, ended| {
        assert!(ended.killed || matches!(case.name, "redis-cli" | "psql"), "{}: {ended:#?}", case.name);
    });
}

#[test]
fn java_says_so_as_well() {
    let name = "java_says_so_as_well";
    if Command::new("javac").arg("-version").output().is_err() {
        println!("skipped: {name}: no javac here");
        return;
    }
    let directory = TempDir::new().expect("a directory");
    let source = directory.path().join("Ask.java");
    fs::write(
        &source,
        "
import java.net.*; import java.net.http.*; import java.nio.ByteBuffer; import java.nio.channels.SocketChannel;
public class Ask {
    public static void main(String[] arguments) throws Exception {
        var address = new InetSocketAddress(\"127.0.0.1\", Integer.parseInt(arguments[0]));
        switch (arguments[1]) {
        case \"socket\" -> {
            var socket = new Socket(address.getAddress(), address.getPort());
            socket.getOutputStream().write(\"GET / HTTP/1.1\\r\\n\\r\\n\".getBytes());
            while (socket.getInputStream().read() >= 0);
        }
        case \"channel\" -> {
            var channel = SocketChannel.open(address);
            channel.write(ByteBuffer.wrap(\"GET / HTTP/1.1\\r\\n\\r\\n\".getBytes()));
            while (channel.read(ByteBuffer.allocate(100)) >= 0);
        }
        default -> HttpClient.newHttpClient().send(HttpRequest.newBuilder(URI.create(\"http://127.0.0.1:\" + arguments[0]
            + \"/\")).build(), HttpResponse.BodyHandlers.ofString());
        }
        System.out.println(\"the whole answer\");
    }
}",
    )
    .expect("written");
    let compiled = Command::new("javac").arg(&source).status().expect("javac runs");
    assert!(compiled.success());
    for answer in [Answer::None, Answer::Half] {
        let port = serve(answer).to_string();
        thread::scope(|scope| {
            for way in ["socket", "channel", "client"] {
                let (port, directory) = (&port, &directory);
                scope.spawn(move || {
                    let program = Program::new("java").args(["-cp"]).args([directory.path()]).args(["Ask", port, way]);
                    let ended = program.tuned(&[("RECV_TIMEOUT", "1")]).run();
                    let says = ended.stderr.contains("Connection timed out") && ended.stdout.is_empty();
                    assert!(!ended.killed && says, "{way}, {answer:?}: {ended:#?}");
                });
            }
        });
    }
}

#[test]
fn nginx_answers_502_for_a_silent_upstream() {
    let nginx = ["nginx", "/usr/sbin/nginx"].into_iter().find(|nginx| Command::new(nginx).arg("-v").output().is_ok());
    let Some(nginx) = nginx else {
        println!("skipped: nginx_answers_502_for_a_silent_upstream: no nginx here");
        return;
    };
    let directory = TempDir::new().expect("a directory");
    let own = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
    let upstream = serve(Answer::None);
    fs::write(
        directory.path().join("nginx.conf"),
        format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;
            events {{ worker_connections 64; }}
            http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                server {{ listen 127.0.0.1:{own}; location / {{ proxy_pass http://127.0.0.1:{upstream}; }} }} }}"
        ),
    )
    .expect("written");
    let ask = || {
        let url = format!("http://127.0.0.1:{own}/");
        Program::new("curl").args(["-s", "-m", "10", "--noproxy", "*", "-o/dev/null", "-w%{http_code}", &url]).run()
    };
    let path = directory.path().to_str().expect("UTF-8");
    let args = ["-p", path, "-c", "nginx.conf"];
    let running = Program::new(nginx).args(args).tuned(&[("RECV_TIMEOUT", "1"), ("LOG", "debug")]).start();
    eventually("nginx listens", || TcpStream::connect(("127.0.0.1", own)).is_ok());
    // A client that says nothing: nginx waits for it as long as nginx does.
    let mut idle = TcpStream::connect(("127.0.0.1", own)).expect("connected");
    let answer = ask();
    assert_eq!(answer.stdout, "502", "{answer:#?}: {:#?}", running.kill());
    assert!(answer.elapsed >= LIMIT && answer.elapsed < LIMIT + SLACK, "{answer:#?}");
    idle.set_nonblocking(true).expect("set");
    let read = idle.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::WouldBlock), "the client is still connected");
    running.kill();
}
