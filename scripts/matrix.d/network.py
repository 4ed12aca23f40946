"""Servers that fail, on loopback: one that lets no connection in, one that accepts and says nothing."""

import selectors
import socket
import time
from pathlib import Path

HOST = "127.0.0.1"
# States of the kernel's socket table, include/net/tcp_states.h.
SYN_SENT, TIME_WAIT, LISTEN = 2, 6, 10


def table(state):
    """Of the TCP sockets in this state: the port of their own, and the peer's."""
    found = set()
    for name in ("tcp", "tcp6"):
        for line in Path("/proc/net", name).read_text().splitlines()[1:]:
            _, local, remote, its_state = line.split()[:4]
            if int(its_state, 16) == state:
                found.add((int(local.rpartition(":")[2], 16), int(remote.rpartition(":")[2], 16)))
    return found


def listens(port):
    return any(local == port for local, _ in table(LISTEN))


class BlackHole:
    """A listener whose queue is full drops every further SYN, as a host does that is gone."""

    def __init__(self, port):
        self.port = port
        # By the port of their own: when one was seen first, when it was over, and when it was not yet there.
        self.attempts = {}
        self.looked = time.monotonic()
        self.listener = socket.create_server((HOST, port), backlog=0)
        self.queued = []
        while len(self.queued) < 10:
            filler = socket.socket()
            filler.settimeout(0.25)
            try:
                filler.connect((HOST, port))
            except TimeoutError:
                filler.close()
                return
            self.queued.append(filler)
        raise RuntimeError("a backlog of 0 does not fill")

    def look(self):
        now, pending = time.monotonic(), {local for local, remote in table(SYN_SENT) if remote == self.port}
        for local in pending:
            self.attempts.setdefault(local, [now, None, self.looked])
        for local, attempt in self.attempts.items():
            if local not in pending and attempt[1] is None:
                attempt[1] = now
        self.looked = now

    def seen(self):
        return sorted(self.attempts.values())


class MuteServer:
    """Accepts, reads what comes, and never answers."""

    def __init__(self, port):
        self.connections = []  # when each was accepted, when the peer ended it, and when it was not yet there
        self.looked = time.monotonic()
        self.listener = socket.create_server((HOST, port), backlog=64)
        self.selector = selectors.DefaultSelector()
        self.selector.register(self.listener, selectors.EVENT_READ)

    def look(self):
        looked, self.looked = self.looked, time.monotonic()
        for key, _ in self.selector.select(timeout=0):
            now = time.monotonic()
            if key.fileobj is self.listener:
                connection, _ = self.listener.accept()
                self.connections.append([now, None, looked])
                self.selector.register(connection, selectors.EVENT_READ, self.connections[-1])
                continue
            try:
                ended = not key.fileobj.recv(65536)
            except OSError:
                ended = True
            if ended:
                key.data[1] = now
                self.selector.unregister(key.fileobj)
                key.fileobj.close()

    def seen(self):
        return self.connections
