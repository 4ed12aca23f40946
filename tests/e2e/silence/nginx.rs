//! nginx in front of a server.

use std::fs;
use std::net::{TcpListener, TcpStream};
use std::process::Command;

use tempfile::TempDir;

use crate::harness::{Ended, Program, Running, eventually};

pub struct Nginx {
    running: Running,
    pub port: u16,
    _directory: TempDir,
}

impl Nginx {
    /// Passes what it is asked on to a port; `None` where there is no nginx.
    pub fn start(test: &str, upstream: u16, settings: &[(&str, &str)]) -> Option<Self> {
        let there = |nginx: &&str| Command::new(nginx).arg("-v").output().is_ok();
        let Some(nginx) = ["nginx", "/usr/sbin/nginx"].into_iter().find(there) else {
            println!("skipped: {test}: no nginx here");
            return None;
        };
        let directory = TempDir::new().expect("a directory");
        let port = TcpListener::bind("127.0.0.1:0").and_then(|l| l.local_addr()).expect("a free port").port();
        let configuration = format!(
            "daemon off; master_process off; pid nginx.pid; error_log stderr;
            events {{ worker_connections 64; }}
            http {{ access_log off; client_body_temp_path body; proxy_temp_path proxy; fastcgi_temp_path fastcgi;
                uwsgi_temp_path uwsgi; scgi_temp_path scgi;
                upstream pool {{ server 127.0.0.1:{upstream} max_fails=0; keepalive 4; }}
                server {{ listen 127.0.0.1:{port}; location / {{ proxy_pass http://pool; proxy_http_version 1.1;
                    proxy_set_header Connection ''; }} }} }}"
        );
        fs::write(directory.path().join("nginx.conf"), configuration).expect("written");
        let args = ["-p", directory.path().to_str().expect("UTF-8"), "-c", "nginx.conf"];
        let running = Program::new(nginx).args(args).tuned(settings).start();
        eventually("nginx listens", || TcpStream::connect(("127.0.0.1", port)).is_ok());
        Some(Self { running, port, _directory: directory })
    }

    /// The status of an answer, by curl.
    pub fn ask(&self) -> Ended {
        let url = format!("http://127.0.0.1:{}/", self.port);
        Program::new("curl").args(["-s", "-m", "10", "--noproxy", "*", "-o/dev/null", "-w%{http_code}", &url]).run()
    }

    pub fn end(self) -> Ended {
        self.running.kill()
    }
}
