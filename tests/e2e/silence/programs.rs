//! Each program in its own words.

use std::fs;
use std::io::{ErrorKind, Read};
use std::net::TcpStream;
use std::process::Command;
use std::thread;
use std::time::Duration;

use tempfile::{NamedTempFile, TempDir};

use super::nginx::Nginx;
use super::{Answer, LIMIT, SLACK, serve};
use crate::harness::{Ended, Program, python};

/// A program that asks a server for something: its name, how it is started, half of an answer in its language, and what it
/// says after a silence, before and after that.
struct Case {
    name: &'static str,
    command: Vec<String>,
    half_an_answer: Answer,
    nothing: &'static str,
    half: &'static str,
}

fn case(name: &'static str, command: &[&str], nothing: &'static str, half: &'static str) -> Case {
    let command = command.iter().map(|word| (*word).to_owned()).collect();
    Case { name, command, half_an_answer: Answer::Half, nothing, half }
}

impl Case {
    fn answered(self, half_an_answer: Answer) -> Self {
        Self { half_an_answer, ..self }
    }

    /// Whether the program, and the module that it takes, is installed.
    fn is_there(&self) -> bool {
        let (program, rest) = self.command.split_first().expect("a program");
        let module = match (program.as_str(), rest) {
            ("perl", [module, ..]) if module.starts_with("-M") => vec![module.as_str(), "-e1"],
            ("/usr/bin/python3", [.., script]) => vec!["-c", script.lines().next().unwrap_or_default()],
            _ => vec!["--version"],
        };
        let there = Command::new(program).args(module).output();
        let there = there.is_ok_and(|output| output.status.success() || program == "ldapsearch");
        if !there {
            println!("skipped: {} is not installed", self.name);
        }
        there
    }
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
    let postgres = "host=127.0.0.1 port=PORT user=x dbname=x sslmode=disable gssencmode=disable";
    let lost = "system error: 110";
    let lwp = "my $r = LWP::UserAgent->new(timeout => 60)->get('http://127.0.0.1:PORT/'); \
               print $r->status_line, ' ', $r->header('X-Died') // '', qq(\n);";
    let aiohttp = "import aiohttp
import asyncio
async def main():
    async with aiohttp.ClientSession() as s:
        async with s.get('http://127.0.0.1:PORT/') as r: print(await r.text())
asyncio.run(main())";
    let requests = "import requests\nprint(requests.get('http://127.0.0.1:PORT/', timeout=60).text)";
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
        case("redis-cli", &["redis-cli", "-p", "PORT", "ping"], "recv timeout", "recv timeout")
            .answered(Answer::Bytes(b"$100\r\nhalf")),
        case("psql", &["psql", postgres], timed_out, timed_out).answered(Answer::Bytes(b"R\0\0\0")),
        case("mariadb", &["mariadb", "-h127.0.0.1", "-PPORT", "-ux", "--skip-ssl"], lost, lost)
            .answered(Answer::First(b"\x4a\0\0\0\x0a5.5.5")),
        case(
            "ldapsearch",
            &["ldapsearch", "-x", "-H", "ldap://127.0.0.1:PORT"],
            "Can't contact LDAP server",
            "Can't contact LDAP server",
        )
        .answered(Answer::Bytes(b"\x30\x0c\x02\x01")),
        case("LWP", &["perl", "-MLWP::UserAgent", "-e", lwp], timed_out, timed_out),
        case("aiohttp", &["/usr/bin/python3", "-I", "-c", aiohttp], timed_out, "payload is not completed"),
        case("requests", &["/usr/bin/python3", "-I", "-c", requests], "TimeoutError", "timed out"),
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
    let silent = serve(Answer::None);
    let cases: Vec<_> = cases().into_iter().filter(Case::is_there).collect();
    thread::scope(|scope| {
        for part in cases.chunks(cases.len().div_ceil(8)) {
            let check = &check;
            scope.spawn(move || {
                for case in part {
                    check(case, case.nothing, &run(case, silent, settings, limit));
                    check(case, case.half, &run(case, serve(case.half_an_answer), settings, limit));
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
        assert!(ended.elapsed >= LIMIT, "{}: {ended:#?}", case.name);
    });
}

#[test]
fn without_the_setting_they_wait() {
    let settings: &[_] = &[("SEND_TIMEOUT", "1"), ("NODELAY", "on")];
    each(Some(settings), Duration::from_millis(2500), |case, _, ended| {
        assert!(ended.killed, "{}: {ended:#?}", case.name);
    });
}

/// To a server that takes nothing.
#[test]
fn uploads_say_so_as_well() {
    let data = NamedTempFile::new().expect("a file");
    data.as_file().set_len(64 << 20).expect("as large as that");
    let asyncio = "
import asyncio
async def main():
    reader, writer = await asyncio.open_connection('127.0.0.1', PORT)
    while True:
        writer.write(bytes(1 << 20))
        await writer.drain()
asyncio.run(main())";
    let node = "const s = require('net').connect(PORT, '127.0.0.1', () => { s.write(Buffer.alloc(1 << 26)) });
        s.on('error', e => console.log(e.code))";
    let perl = "use IO::Socket; $SIG{PIPE} = 'IGNORE'; my $s = IO::Socket::INET->new('127.0.0.1:PORT') or die; \
                while (1) { defined syswrite($s, 'x' x 1048576) or die \"$!\\n\" }";
    let file = format!("@{}", data.path().display());
    let curl = ["curl", "-sS", "--noproxy", "*", "-HExpect:", "--data-binary", &file, "http://127.0.0.1:PORT/"];
    let cases = [
        case("curl", &curl, "timed out", ""),
        case("perl", &["perl", "-e", perl], "Connection timed out", ""),
        case("node", &["node", "-e", node], "ETIMEDOUT", ""),
        case("asyncio", &["python3", "-I", "-c", asyncio], "TimeoutError", ""),
    ];
    let port = serve(Answer::Late(60_000));
    thread::scope(|scope| {
        for case in cases {
            scope.spawn(move || {
                let ended = run(&case, port, Some(&[("SEND_TIMEOUT", "1")]), Duration::from_secs(15));
                let output = format!("{}{}", ended.stdout, ended.stderr);
                assert!(!ended.killed && output.contains(case.nothing), "{}: {ended:#?}", case.name);
                assert!(ended.elapsed >= LIMIT, "{}: {ended:#?}", case.name);
                let plain = run(&case, port, Some(&[("RECV_TIMEOUT", "1")]), Duration::from_secs(4));
                assert!(plain.killed, "an upload that stalls is no silence: {}: {plain:#?}", case.name);
            });
        }
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
    let name = "nginx_answers_502_for_a_silent_upstream";
    let settings = [("RECV_TIMEOUT", "1"), ("LOG", "debug")];
    let Some(nginx) = Nginx::start(name, serve(Answer::None), &settings) else { return };
    // A client that says nothing: nginx waits for it as long as nginx does.
    let mut idle = TcpStream::connect(("127.0.0.1", nginx.port)).expect("connected");
    let answer = nginx.ask();
    assert_eq!(answer.stdout, "502", "{answer:#?}: {:#?}", nginx.end());
    assert!(answer.elapsed >= LIMIT && answer.elapsed < LIMIT + SLACK, "{answer:#?}");
    idle.set_nonblocking(true).expect("set");
    let read = idle.read(&mut [0]).map_err(|error| error.kind());
    assert_eq!(read, Err(ErrorKind::WouldBlock), "the client is still connected");
    nginx.end();
}

#[test]
fn nginx_cuts_half_an_answer_of_an_upstream() {
    let name = "nginx_cuts_half_an_answer_of_an_upstream";
    let Some(nginx) = Nginx::start(name, serve(Answer::Half), &[("RECV_TIMEOUT", "1")]) else { return };
    let answer = nginx.ask();
    // curl(1), 18: partial file.
    assert_eq!((answer.code(), answer.stdout.as_str()), (Some(18), "200"), "{answer:#?}: {:#?}", nginx.end());
    assert!(answer.elapsed >= LIMIT && answer.elapsed < LIMIT + SLACK, "{answer:#?}");
    let ended = nginx.end();
    assert!(ended.stderr.contains("Connection timed out"), "{ended:#?}");
}
