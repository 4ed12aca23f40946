//! examples/kubernetes/attach, in a container of runc: cgroups named as the kubelet names them, and an API server that knows
//! the pods.

use std::fs;
use std::io::{BufRead, BufReader};
use std::os::unix::fs::symlink;
use std::path::Path;
use std::process::{Child, Command, Stdio};
use std::thread::sleep;
use std::time::{Duration, Instant};

use serde_json::{Value as Json, json};
use tempfile::TempDir;

use crate::cluster::{built, cluster, repository, said};
use crate::group::{Group, listener};
use crate::harness::TCPTUNE;
use crate::root::Root;

/// Pods of a file, over TLS, for whoever has the token and asks for the label and the node. Says its port.
const API: &str = "
import http.server, json, ssl, sys, urllib.parse
class Api(http.server.BaseHTTPRequestHandler):
    def do_GET(self):
        path, _, query = self.path.partition('?')
        asked = dict(urllib.parse.parse_qsl(query))
        wanted = {'labelSelector': 'tcptune', 'fieldSelector': 'spec.nodeName=node-1'}
        right = path == '/api/v1/pods' and asked == wanted and self.headers['Authorization'] == 'Bearer secret'
        self.send_response(200 if right else 403)
        self.end_headers()
        self.wfile.write(open('pods.json', 'rb').read() if right else b'')
    def log_message(self, *_): pass
server = http.server.HTTPServer(('127.0.0.1', 0), Api)
context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
context.load_cert_chain('ca.crt', 'key')
server.socket = context.wrap_socket(server.socket, server_side=True)
server.timeout = 60
print(server.server_address[1], flush=True)
for _ in range(1000): server.handle_request()
";

/// Killed when dropped.
struct Started(Child);

impl Drop for Started {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// The API server, and its port.
fn api(directory: &Path) -> (Started, String) {
    let certificate = ["req", "-x509", "-nodes", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"];
    let name = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost", "-days", "2"];
    let mut openssl = Command::new("openssl");
    openssl.args(certificate).args(name).args(["-keyout", "key", "-out", "ca.crt"]).current_dir(directory);
    assert!(openssl.stderr(Stdio::null()).status().expect("openssl runs").success());
    let mut python = Command::new("python3");
    python.args(["-I", "-c", API]).current_dir(directory).stdout(Stdio::piped());
    let mut api = Started(python.spawn().expect("python3 runs"));
    let mut port = String::new();
    BufReader::new(api.0.stdout.as_mut().expect("piped")).read_line(&mut port).expect("a port");
    (api, port.trim().to_owned())
}

/// The pods that have the label, by UID and profile.
fn labelled(directory: &Path, pods: &[(&str, &str)]) {
    let pod = |(uid, profile): &(&str, &str)| json!({ "metadata": { "uid": uid, "labels": { "tcptune": profile } } });
    let list = json!({ "items": pods.iter().map(pod).collect::<Vec<_>>() });
    fs::write(directory.join("new"), list.to_string()).expect("written");
    fs::rename(directory.join("new"), directory.join("pods.json")).expect("renamed");
}

/// The image of the DaemonSet: busybox, as Alpine has it, curl, jq and the command.
fn image(images: &Path) {
    let root = Root::at(images.join("tcptune-attach"));
    root.put(Path::new("/bin/busybox"), "bin/busybox");
    for name in ["sh", "cat", "echo", "find", "grep", "head", "mktemp", "rm", "sleep", "tr"] {
        symlink("busybox", root.path().join("bin").join(name)).expect("linked");
    }
    for program in ["curl", "jq"] {
        root.put_program(&Path::new("/usr/bin").join(program), &format!("usr/bin/{program}"));
    }
    root.put_program(Path::new(TCPTUNE), "usr/bin/tcptune");
    fs::create_dir_all(root.path().join("proc")).expect("made");
}

/// The pod of the DaemonSet on node-1, as the API server and the kubelet would complete it, and the ConfigMap beside it.
fn pod(directory: &Path, port: &str) -> String {
    let all = built(&repository().join("examples/kubernetes/attach"));
    let file = directory.join("built.yaml");
    fs::write(&file, &all).expect("written");
    let mut pod: Json = serde_json::from_str(&said(&mut cluster([Path::new("pod"), &file]))).expect("JSON");
    let spec = &mut pod["spec"];
    spec["nodeName"] = "node-1".into();
    spec["volumes"]
        .as_array_mut()
        .expect("volumes")
        .push(json!({ "name": "token", "hostPath": { "path": directory } }));
    let container = &mut spec["containers"][0];
    let at = "/var/run/secrets/kubernetes.io/serviceaccount";
    let mounts = container["volumeMounts"].as_array_mut().expect("mounts");
    mounts.push(json!({ "name": "token", "mountPath": at, "readOnly": true }));
    let variables = container["env"].as_array_mut().expect("variables");
    variables.push(json!({ "name": "API", "value": format!("https://localhost:{port}") }));
    variables.push(json!({ "name": "EVERY", "value": "0.2" }));
    format!("{pod}\n---\n{all}")
}

/// The idle time of a connection that is made in a cgroup.
fn idle(group: &Group) -> u32 {
    let (_listener, port) = listener("127.0.0.1");
    let script = format!(
        "import socket; s = socket.create_connection(('127.0.0.1', {port})); \
         print(s.getsockopt(socket.IPPROTO_TCP, socket.TCP_KEEPIDLE))"
    );
    let mut python = Command::new("python3");
    python.args(["-I", "-c", &script]);
    group.enter(&mut python);
    said(&mut python).trim().parse().expect("a number")
}

#[test]
fn the_daemonset_attaches_by_label() {
    let Some(node) = Group::or_skip("the_daemonset_attaches_by_label") else { return };
    let kernels = idle(&node);
    // Both kinds of names, each with a container in it.
    let [first, second] = ["0a1b2c3d-0000-4000-8000-00000000000", "4e5f6a7b-0000-4000-8000-00000000000"]
        .map(|uid| format!("{uid}{}", std::process::id() % 10));
    let slices = node.below("kubepods.slice");
    let burstable = slices.below("kubepods-burstable.slice");
    let by_systemd = burstable.below(&format!("kubepods-burstable-pod{}.slice", first.replace('-', "_")));
    let inner = by_systemd.below("cri-containerd-0123.scope");
    let kubepods = node.below("kubepods");
    let besteffort = kubepods.below("besteffort");
    let by_kubelet = besteffort.below(&format!("pod{second}"));

    let directory = TempDir::new().expect("temporary directory");
    let at = |name: &str| directory.path().join(name);
    fs::write(at("token"), "secret").expect("written");
    labelled(directory.path(), &[(&first, "cloud-nat")]);
    let (_api, port) = api(directory.path());
    fs::write(at("pod.yaml"), pod(directory.path(), &port)).expect("written");
    image(&at("images"));
    let mut run = cluster([Path::new("run"), &at("pod.yaml"), &at("images"), &at("bundles")]);
    let out = fs::File::create(at("out")).expect("a file");
    let run = Started(run.stdout(out.try_clone().expect("a file")).stderr(out).spawn().expect("python runs"));
    let said_so_far = || fs::read_to_string(at("out")).unwrap_or_default();
    let becomes = |group: &Group, wanted: u32| {
        // A container takes seconds to start on a busy machine.
        let deadline = Instant::now() + Duration::from_secs(60);
        let mut found = idle(group);
        while found != wanted && Instant::now() < deadline {
            sleep(Duration::from_millis(100));
            found = idle(group);
        }
        assert_eq!(found, wanted, "{}", said_so_far());
    };
    becomes(&inner, 120);
    assert_eq!(idle(&by_kubelet), kernels, "no label yet");
    labelled(directory.path(), &[(&first, "fast-fail"), (&second, "server")]);
    becomes(&inner, 5);
    becomes(&by_kubelet, 300);
    labelled(directory.path(), &[(&second, "server")]);
    becomes(&inner, kernels);
    assert_eq!(idle(&by_kubelet), 300);

    let name = format!("tcptune-{}-attach", run.0.id());
    let killed = Command::new("runc").args(["kill", &name, "KILL"]).status().expect("runc runs");
    assert!(killed.success(), "{}", said_so_far());
    drop(run);
    for group in [inner, by_systemd, by_kubelet, burstable, besteffort, slices, kubepods, node] {
        drop(group);
    }
}
