//! Pools of idle connections: ended, and made again without a word.

use std::process::Command;
use std::thread;
use std::time::Duration;

use super::nginx::Nginx;
use super::{Answer, serve};
use crate::harness::{Program, python};

/// Two requests on one pool, with a pause that is longer than the timeout.
fn assert_both_are_answered(name: &str, program: Program) {
    let ended = program.tuned(&[("RECV_TIMEOUT", "0.5"), ("LOG", "debug")]).run();
    assert_eq!(ended.stdout.trim(), "half half", "{name}: {ended:#?}");
}

#[test]
fn node_makes_a_new_connection() {
    let script = "
const http = require('http'), agent = new http.Agent({ keepAlive: true });
const ask = then => http.get({ port: process.argv[1], agent }, r => {
    let text = '';
    r.on('data', d => text += d).on('end', () => then(text));
}).on('error', e => console.log(e.code));
ask(first => setTimeout(() => ask(second => { console.log(first, second); agent.destroy(); }), 1300));
";
    let port = serve(Answer::Whole).to_string();
    assert_both_are_answered("node", Program::new("node").args(["-e", script, &port]));
}

#[test]
fn requests_and_aiohttp_make_a_new_connection() {
    let requests = "
import requests, sys, time
s, url = requests.Session(), 'http://127.0.0.1:%s/' % sys.argv[1]
first = s.get(url).text
time.sleep(1.3)
print(first, s.get(url).text)
";
    let aiohttp = "
import aiohttp, asyncio, sys
async def main():
    async with aiohttp.ClientSession() as s:
        async def ask():
            async with s.get('http://127.0.0.1:%s/' % sys.argv[1]) as r: return await r.text()
        first = await ask()
        await asyncio.sleep(1.3)
        print(first, await ask())
asyncio.run(main())
";
    for (module, script) in [("requests", requests), ("aiohttp", aiohttp)] {
        // Debian's modules are those of its own interpreter.
        let has = |python: &str| {
            let import = Command::new(python).args(["-c", &format!("import {module}")]).output();
            import.is_ok_and(|output| output.status.success())
        };
        let own = python().to_str().expect("UTF-8");
        let Some(python) = [own, "/usr/bin/python3"].into_iter().find(|python| has(python)) else {
            println!("skipped: {module} is not installed");
            continue;
        };
        let port = serve(Answer::Whole).to_string();
        assert_both_are_answered(module, Program::new(python).args(["-c", script, &port]));
    }
}

#[test]
fn nginx_makes_a_new_connection() {
    let settings = [("RECV_TIMEOUT", "0.5"), ("LOG", "debug")];
    let Some(nginx) = Nginx::start("nginx_makes_a_new_connection", serve(Answer::Whole), &settings) else { return };
    let first = nginx.ask();
    thread::sleep(Duration::from_millis(1300));
    let second = nginx.ask();
    let ended = nginx.end();
    assert_eq!((first.stdout.as_str(), second.stdout.as_str()), ("200", "200"), "{ended:#?}");
    assert!(ended.log.contains("the connection is ended"), "the pool's was: {ended:#?}");
}
