"""docs/programs.md, from the judged rows."""

import platform
import subprocess
import time
from pathlib import Path

from settings import BACKLOG, CLIENT, CONNECT_TIMEOUT, LOOK, SERVER, SILENCE

CLIENTS = ("Program", "Version", "Way", "Its own keepalive", "Keepalive", "Dead host", "Silent server")
HEADS = {
    "client": CLIENTS,
    "proxy": CLIENTS,
    "server": ("Program", "Version", "Way", "Its own keepalive", "Keepalive", "Backlog", "Restart", "Idle client"),
}
TITLES = {"client": "Clients", "proxy": "Proxies: programs that connect for a client", "server": "Servers"}
PAGE = """\
# Programs, and what holds in them

Written by `scripts/matrix`, nothing by hand: {programs} programs, each as it was last run with this tcptune, by {date}, on
{system}, Linux {kernel}, with {tcptune}. `scripts/matrix NAME` runs one of them again; a program is added by one entry
(scripts/matrix.d in the repository).

{summary}

A cell `a → b` is without tcptune → with it.

- **Way**: by which way `tcptune run` reaches the program ([reach.md](reach.md)), as `tcptune check` says.
- **Its own keepalive**: what its connection has without tcptune (idle time + interval × probes), read from the kernel.
- **Keepalive**: *as set* is 33 s + 4 s × 2, read from the same kernel with the settings below.
- **Dead host**: how long it waits for a host that drops every SYN, with `CONNECT_TIMEOUT` of {connect} s. The time is that of
  the first attempt; *tries* are those that the program makes itself, each with the limit anew, and the time after which it
  has given up. Without tcptune each is looked at for {look} s.
- **Silent server**: how long it waits for a server that accepts and says nothing, with `RECV_TIMEOUT` of {silence} s.
- **Backlog**: what `listen` asks for, with `BACKLOG` of {backlog}.
- **Restart**: whether it can listen again on its port, which has a connection in TIME_WAIT, with `REUSEADDR`.
- **Idle client**: when it is rid of a client that says nothing, with `CLIENT_TIMEOUT` of {silence} s.

The settings, all of them at the same time:

- clients and proxies: {clients};
- servers: {servers}.
"""


def page(judged, tcptune):
    version = subprocess.run([tcptune, "--version"], capture_output=True, text=True, check=True).stdout.strip()
    head = PAGE.format(
        programs=len(judged), date=time.strftime("%Y-%m-%d", time.gmtime()), system=system(), kernel=platform.release(),
        tcptune=version, summary=summary(judged), connect=CONNECT_TIMEOUT, look=LOOK, silence=SILENCE, backlog=BACKLOG,
        clients=listed(CLIENT), servers=listed(SERVER))
    return f"{head}\n{tables(judged)}"


def system():
    lines = Path("/etc/os-release").read_text().splitlines()
    return dict(line.split("=", 1) for line in lines if "=" in line)["PRETTY_NAME"].strip('"')


def listed(settings):
    return ", ".join(f"`{name}={value}`" for name, value in settings.items())


def summary(judged):
    """Of those that were asked, how many do as they should; and what is not as the table says."""
    clients = [it for it in judged if it.row["kind"] != "server"]
    servers = [it for it in judged if it.row["kind"] == "server"]

    def count(rows, what):
        asked = [it for it in rows if what in it.good]
        return f"{sum(it.good[what] for it in asked)} of {len(asked)}"

    text = (f"Keepalive is as set in {count(judged, 'keepalive')}. A dead host is given up in time by "
            f"{count(clients, 'connect')},\na silent server by {count(clients, 'silence')}. A server has the backlog in "
            f"{count(servers, 'backlog')}, starts again on its port in {count(servers, 'restart')},\nand is rid of an idle "
            f"client in {count(servers, 'idle')}. Where not, the cell says why.")
    missing = [it.row["name"] for it in judged if not it.good]
    return text + (f" Not run: {', '.join(missing)}." if missing else "")


def tables(judged):
    kinds = [(kind, [it for it in judged if it.row["kind"] == kind]) for kind in HEADS]
    return "\n".join(f"## {TITLES[kind]}\n\n{table(kind, rows)}" for kind, rows in kinds if rows)


def table(kind, judged):
    head = HEADS[kind]
    lines = [head, ["---"] * len(head), *((it.cells + ["–"] * len(head))[: len(head)] for it in judged)]
    return "".join(f"| {' | '.join(cell.replace('|', chr(92) + '|') for cell in line)} |\n" for line in lines)
