"""The table of programs: the files *.toml beside this one, an entry for each program."""

import fnmatch
import tomllib
from pathlib import Path

HERE = Path(__file__).resolve().parent
# What an entry may say; README.md has what each means.
FIELDS = {"run", "apt", "pip", "npm", "build", "version", "prepare", "files", "stdin", "tty", "port", "request", "why", "env"}
KINDS = ("client", "proxy", "server")
WHY = {"connect", "silence", "keepalive", "backlog", "restart", "idle"}


def load():
    """All entries, in the order of the page: their name, kind, and what they say."""
    rows = []
    for kind in KINDS:
        with open(HERE / f"{kind}.toml", "rb") as file:
            for name, entry in tomllib.load(file).items():
                wrong = entry.keys() - FIELDS
                if wrong or "run" not in entry or entry.get("why", {}).keys() - WHY:
                    raise SystemExit(f"matrix: {kind}.toml, {name}: {', '.join(sorted(wrong)) or 'run is missing, or why has another word'}")
                rows.append({"name": name, "kind": kind, **entry})
    if len({row["name"] for row in rows}) < len(rows):
        raise SystemExit("matrix: a name is there twice")
    return rows


def chosen(names):
    """The entries of these names or patterns; all, if there are none."""
    rows = load()
    for name in names:
        if not any(fnmatch.fnmatchcase(row["name"], name) for row in rows):
            raise SystemExit(f"matrix: no program is called {name} (--list)")
    return [row for row in rows if not names or any(fnmatch.fnmatchcase(row["name"], name) for name in names)]


def words(row, field):
    return row.get(field, "").split()


def filled(text, places):
    """A text of a row, with what its names in braces stand for. Other braces stay: they are the program's."""
    for name, value in places.items():
        text = text.replace(f"{{{name}}}", str(value))
    return text
