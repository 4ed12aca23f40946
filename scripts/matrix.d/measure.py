"""One run of one program, without or with tcptune, as PID 1 of its own network and process namespaces.

Reads what to do as JSON from its argument, and prints what it saw as one line of JSON. All that it has started ends
with its namespace.
"""

import contextlib
import json
import os
import shlex
import socket
import subprocess
import sys
import time
from pathlib import Path

import network
from rows import filled
from settings import CLIENT, LISTEN, LOOK, PORT, SERVER, START


class Program:
    def __init__(self, job):
        self.job, self.row, self.log = job, job["row"], open(job["log"], "ab")
        self.port, self.directory = self.row.get("port", PORT), Path(job["work"])
        self.environment = {
            "PATH": "/usr/local/bin:/usr/bin:/bin:/usr/local/sbin:/usr/sbin:/sbin",
            "HOME": job["work"], "TMPDIR": job["work"], "LANG": "C.UTF-8", "TERM": "xterm", "USER": "root",
            "NODE_PATH": job["places"]["npm"],
        } | {name: self.filled(value) for name, value in self.row.get("env", {}).items()}
        for name, text in self.row.get("files", {}).items():
            self.directory.joinpath(name).write_text(self.filled(text))
        self.arguments = shlex.split(self.filled(self.row["run"]))
        if "prepare" in self.row:
            prepare = ["sh", "-ec", self.filled(self.row["prepare"])]
            subprocess.run(prepare, check=True, timeout=START, **self.surroundings(subprocess.DEVNULL))

    def filled(self, text):
        here = {"host": network.HOST, "port": self.port, "listen": LISTEN, "work": self.directory}
        return filled(text, self.job["places"] | here)

    def surroundings(self, stdin):
        return {"cwd": self.directory, "env": self.environment, "stdin": stdin, "stdout": self.log, "stderr": self.log}

    def start(self):
        command = self.arguments
        if self.job["tuned"]:
            settings = SERVER if self.row["kind"] == "server" else CLIENT
            self.environment |= {f"TCPTUNE_{name}": value for name, value in settings.items()}
            command = [self.job["tcptune"], "run", "--", *command]
        if self.row.get("tty"):
            command = ["script", "-qefc", shlex.join(command), "/dev/null"]
        stdin = subprocess.PIPE
        if "stdin" in self.row:
            text = self.directory / ".stdin"
            text.write_text(self.filled(self.row["stdin"]))
            stdin = text.open()
        # A pipe that nobody writes to: a user who does nothing.
        priority(0)
        self.process = subprocess.Popen(command, start_new_session=True, **self.surroundings(stdin))
        priority(-10)

    def way(self):
        """By which way `tcptune run` reaches it, as `tcptune check` says, and why not by preload."""
        said = json.loads(self.command("check", "--json", "--", *self.arguments))
        return said.get("way", "none"), "; ".join(said.get("reasons", []))

    def sockets(self, port):
        """All TCP sockets of this namespace that have to do with the port, as the kernel has them."""
        processes = json.loads(self.command("inspect", "--all", "--options", "all", "--port", str(port), "--json"))
        return [it for process in processes if process["pid"] != os.getpid() for it in process["sockets"] or []]

    def command(self, *arguments):
        plain = {name: value for name, value in self.environment.items() if not name.startswith("TCPTUNE_")}
        ended = subprocess.run([self.job["tcptune"], *arguments], env=plain, capture_output=True, text=True, timeout=START)
        return ended.stdout or "[]"

    def wait_for_listener(self, port):
        deadline = time.monotonic() + START
        while not network.listens(port):
            if time.monotonic() > deadline or self.process.poll() is not None and self.row["kind"] == "proxy":
                raise RuntimeError(f"does not listen on port {port}")
            time.sleep(0.05)


def priority(nice):
    """Of this process alone, which has to see at once what happens on a busy machine; only root may."""
    with contextlib.suppress(PermissionError):
        os.setpriority(os.PRIO_PROCESS, 0, nice)


def keepalive(options):
    if not options or not options["keepalive"]:
        return None
    return [options[name] for name in ("keepidle", "keepintvl", "keepcnt")]


class Request:
    """A client of a proxy, whose request makes it connect."""

    def __init__(self, text):
        self.socket = socket.create_connection((network.HOST, LISTEN), timeout=5)
        self.socket.sendall(text.encode())
        self.socket.setblocking(False)
        self.answer, self.answered = None, None

    def look(self):
        if self.answered is None:
            try:
                data = self.socket.recv(4096)
            except BlockingIOError:
                return
            except OSError:
                data = b""
            self.answered = time.monotonic()
            # Of HTTP the status.
            self.answer = data.decode("latin-1").split()[1] if data.startswith(b"HTTP/") else None


def watch(program, peer, mute):
    """Runs a client or a proxy against a peer that fails, and looks at it."""
    program.start()
    request = None
    if program.row["kind"] == "proxy":
        program.wait_for_listener(LISTEN)
        request = Request(program.filled(program.row["request"]))
    deadline, options, first, ended = time.monotonic() + START, None, None, None
    while time.monotonic() < deadline and ended is None:
        time.sleep(0.02)
        ended = program.process.poll()
        peer.look()
        now = time.monotonic()
        if request:
            request.look()
            ended = ended if request.answered is None else True
        if first is None and peer.seen():
            first = peer.seen()[0][0]
            # What tcptune has ended may be tried again: a little more, to see it.
            deadline = first + LOOK + (4 if program.job["tuned"] else 0)
        # While it is there: a program may set its own options after connect.
        if mute and options is None and any(end is None and now > begin + 1 for begin, end, _ in peer.seen()):
            seen = program.sockets(program.port)
            options = next((it["options"] for it in seen if (it["peer"] or "").endswith(f":{program.port}")), None)
    if first is None:
        raise RuntimeError(f"has not connected; exit status {program.process.poll()}")
    over = time.monotonic()
    peer.look()

    def since(then):
        return None if then is None else round(then - first, 2)

    attempts = [
        [since(begin), since(end if end or ended is None else over), since(not_yet)] for begin, end, not_yet in peer.seen()
    ]
    seen = {"attempts": attempts, "ended": None if ended is None else since(over), "status": program.process.poll()}
    if mute:
        seen |= {"options": options is not None, "keepalive": keepalive(options)}
    return seen | ({"answer": request.answer} if request else {})


def serve(program):
    """Runs a server: what its listener and an accepted connection have, whether an idle client is ended, whether the
    server can be started again on its port."""
    program.start()
    program.wait_for_listener(program.port)
    time.sleep(0.5)
    listener = next(it for it in program.sockets(program.port) if it["state"] == "LISTEN")
    seen = {"backlog": listener["send_queue"]}

    client = connected(program)
    begin = time.monotonic()
    time.sleep(1)
    accepted = [it for it in program.sockets(program.port) if it["state"] == "ESTABLISHED" and it["fds"]]
    seen |= {"options": bool(accepted), "keepalive": keepalive(accepted[0]["options"]) if accepted else None}
    seen["idle"] = until_end(client, begin + LOOK, begin)
    client.close()

    client = connected(program)
    until_end(client, time.monotonic() + 0.7, 0)  # what it says first is read, so that nothing is left unread
    # All of this namespace but this process: the server goes without closing anything itself.
    os.kill(-1, 9)
    program.process.wait()
    time.sleep(0.1)
    client.close()
    time.sleep(0.3)
    seen["time_wait"] = any(local == program.port for local, _ in network.table(network.TIME_WAIT))
    program.start()
    deadline = time.monotonic() + START / 4
    while not network.listens(program.port) and time.monotonic() < deadline and program.process.poll() is None:
        time.sleep(0.05)
    time.sleep(0.3)
    seen["restarts"] = network.listens(program.port)
    return seen


def connected(program):
    client = socket.create_connection((network.HOST, program.port), timeout=LOOK)
    client.sendall(program.row.get("request", "").encode())
    return client


def until_end(client, deadline, begin):
    """When the server has ended the connection, which reads whatever comes; None if it has not."""
    while (left := deadline - time.monotonic()) > 0:
        client.settimeout(left)
        try:
            if not client.recv(65536):
                return round(time.monotonic() - begin, 2)
        except TimeoutError:
            return None
        except OSError:
            return round(time.monotonic() - begin, 2)
    return None


def main():
    job = json.loads(sys.argv[1])
    subprocess.run(["ip", "link", "set", "lo", "up"], check=True)
    # Of its own: what programs of the same kind, which run at the same time, would take from each other.
    for directory in ("/run", "/dev/shm"):
        subprocess.run(["mount", "-t", "tmpfs", "tmpfs", directory], check=True)
    try:
        program = Program(job)
        seen = {}
        if job["tuned"]:
            seen["way"], seen["reason"] = program.way()
        if job["row"]["kind"] == "server":
            seen |= serve(program)
        elif job["peer"] == "hole":
            seen |= watch(program, network.BlackHole(program.port), mute=False)
        else:
            seen |= watch(program, network.MuteServer(program.port), mute=True)
    except (OSError, RuntimeError, subprocess.SubprocessError, StopIteration) as error:
        seen = {"error": f"{type(error).__name__}: {error}"}
    print(json.dumps(seen))


if __name__ == "__main__":
    main()
