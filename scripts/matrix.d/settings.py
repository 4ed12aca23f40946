"""What the tuned runs are given, and how long each run is looked at."""

# Each a value that no program uses itself. The two timeouts differ, so that it is seen which of them was felt.
KEEPALIVE = {"KEEPIDLE": "33s", "KEEPINTVL": "4s", "KEEPCNT": "2"}
CONNECT_TIMEOUT, SILENCE, BACKLOG = 2, 3, 77
CLIENT = KEEPALIVE | {"CONNECT_TIMEOUT": f"{CONNECT_TIMEOUT}s", "RECV_TIMEOUT": f"{SILENCE}s"}
SERVER = KEEPALIVE | {
    "BACKLOG": str(BACKLOG), "REUSEADDR": "on", "CLIENT_TIMEOUT": f"{SILENCE}s", "RECV_TIMEOUT": f"{SILENCE}s",
}
# In seconds: until a program does something, and then.
START, LOOK = 120, 8
# Where a client connects to and a server listens (unless its row has another port), and where a proxy listens.
PORT, LISTEN = 7001, 7002
