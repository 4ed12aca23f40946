"""Opens sockets of every kind with options of its own, and prints for each what its own getsockopt says.

The rows of the option table come as arguments, NAME:LEVEL:OPTNAME, and again for IPv6."""
import json
import socket
import sys

TCP = socket.IPPROTO_TCP


def rows(text):
    return [(name, int(level), int(optname)) for name, level, optname in (row.split(":") for row in text.split(","))]


V4, V6 = rows(sys.argv[1]), rows(sys.argv[2])


def told(sock):
    values = {}
    for name, level, optname in V6 if sock.family == socket.AF_INET6 else V4:
        try:
            values[name] = sock.getsockopt(level, optname, 16).hex()
        except OSError:
            values[name] = None
    return values


def tune(sock, n):
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
    sock.setsockopt(TCP, socket.TCP_KEEPIDLE, 100 + n)
    sock.setsockopt(TCP, socket.TCP_KEEPINTVL, 20 + n)
    sock.setsockopt(TCP, socket.TCP_KEEPCNT, 3 + n)
    sock.setsockopt(TCP, socket.TCP_NODELAY, 1)
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_SNDBUF, 40000 + 1000 * n)
    sock.setsockopt(TCP, socket.TCP_CONGESTION, b"reno")
    sock.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\5\0\0\0")
    if sock.proto != 262:
        sock.setsockopt(TCP, socket.TCP_USER_TIMEOUT, 30000 + n)
        sock.setsockopt(TCP, socket.TCP_SYNCNT, 2 + n)


sockets = []
for n, (family, address, proto) in enumerate(
    [(socket.AF_INET, "127.0.0.1", 0), (socket.AF_INET6, "::1", 0), (socket.AF_INET, "127.0.0.1", 262)]
):
    try:
        listener = socket.socket(family, socket.SOCK_STREAM, proto)
    except OSError:
        continue  # a kernel without MPTCP
    listener.bind((address, 0))
    listener.listen()
    client = socket.socket(family, socket.SOCK_STREAM, proto)
    tune(client, n)
    client.connect(listener.getsockname())
    accepted, _ = listener.accept()
    sockets += [listener, client, accepted]
if sys.argv[3:] == ["others"]:
    others = [socket.socket(socket.AF_INET, socket.SOCK_DGRAM), *socket.socketpair(), socket.socket(), open("/dev/null")]

print(json.dumps([{"fd": sock.fileno(), "hex": told(sock)} for sock in sockets]), flush=True)
for line in sys.stdin:
    print(json.dumps([{"fd": sock.fileno(), "hex": told(sock)} for sock in sockets]), flush=True)
