"""Brings what the programs need: packages of Debian, PyPI and npm, and what a row builds itself."""

import json
import os
import re
import shutil
import subprocess
import sys
from contextlib import contextmanager
from pathlib import Path

from rows import HERE, filled, words

POLICY = Path("/usr/sbin/policy-rc.d")


class Cache:
    """Where all of it is kept from run to run, outside the repository."""

    def __init__(self):
        home = Path(os.environ.get("XDG_CACHE_HOME") or Path.home() / ".cache")
        self.directory = home / "tcptune-matrix"
        self.logs = self.directory / "logs"
        self.logs.mkdir(parents=True, exist_ok=True)
        self.log = self.logs / "install"
        self.venv, self.npm = self.directory / "venv", self.directory / "npm"
        # What a row may name in braces.
        self.places = {"cache": str(self.directory), "venv": f"{self.venv}/bin", "npm": f"{self.npm}/node_modules",
                       "programs": f"{HERE}/programs"}

    def filled(self, text):
        return filled(text, self.places)

    def run(self, *command):
        with self.log.open("ab") as log:
            ended = subprocess.run(command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=self.environment())
        return ended.returncode == 0

    @staticmethod
    def environment():
        return os.environ | {"DEBIAN_FRONTEND": "noninteractive"}


def output(*command):
    ended = subprocess.run(command, capture_output=True, text=True)
    return ended.stdout if ended.returncode == 0 or ended.stdout else ""


@contextmanager
def no_service_starts():
    """Packages ask this file before they start a service; what stood there before is put back."""
    before = POLICY.with_name("policy-rc.d.before-matrix")
    if POLICY.exists():
        POLICY.replace(before)
    POLICY.write_text("#!/bin/sh\nexit 101\n")
    POLICY.chmod(0o755)
    try:
        yield
    finally:
        if before.exists():
            before.replace(POLICY)
        else:
            POLICY.unlink()


def debian():
    lines = output("dpkg-query", "-W", "-f", "${db:Status-Status} ${Package} ${Version}\n").splitlines()
    return {name: version for status, name, version in map(str.split, filter(None, lines)) if status == "installed"} \
        if lines else {}


def pypi(cache):
    said = output(str(cache.venv / "bin/pip"), "list", "--format", "json") if cache.venv.exists() else ""
    return {it["name"].lower(): it["version"] for it in json.loads(said or "[]")}


def npm(cache):
    said = output("npm", "ls", "--prefix", str(cache.npm), "--json") if cache.npm.exists() else ""
    return {name: it.get("version") for name, it in json.loads(said or "{}").get("dependencies", {}).items()}


def bring(what, wanted, there, install):
    """Installs what is missing: at once, and where that fails each by itself, so that one that is gone spoils none."""
    missing = sorted(wanted - there().keys())
    if missing:
        print(f"matrix: installing from {what}: {' '.join(missing)}", file=sys.stderr)
        if not install(missing):
            for package in missing:
                install([package])
    return there()


def install(rows, cache):
    """For each row the version of its program; None where a package of it cannot be had."""
    wanted = {kind: {package for row in rows for package in words(row, kind)} for kind in ("apt", "pip", "npm")}
    apt = wanted["apt"] | {"iproute2", "util-linux", "bsdutils"}
    if wanted["pip"]:
        apt |= {"python3-venv"}
    if wanted["npm"] and not shutil.which("npm"):
        apt |= {"npm"}
    there = {"apt": debian(), "pip": {}, "npm": {}}
    if apt - there["apt"].keys():
        with no_service_starts():
            get = ("apt-get", "-o", "DPkg::Lock::Timeout=600")
            cache.run(*get, "update")
            there["apt"] = bring(
                "Debian", apt, debian, lambda names: cache.run(*get, "install", "-y", "--no-install-recommends", *names))
    if wanted["pip"]:
        if not cache.venv.exists():
            cache.run("/usr/bin/python3", "-m", "venv", str(cache.venv))
        pip = str(cache.venv / "bin/pip")
        there["pip"] = bring("PyPI", wanted["pip"], lambda: pypi(cache), lambda names: cache.run(pip, "install", *names))
    if wanted["npm"]:
        cache.npm.mkdir(exist_ok=True)
        there["npm"] = bring("npm", wanted["npm"], lambda: npm(cache),
                             lambda names: cache.run("npm", "install", "--prefix", str(cache.npm), *names))
    built = {command: cache.run("sh", "-ec", cache.filled(command)) for command in {row["build"] for row in rows if "build" in row}}
    return {row["name"]: version(row, there, cache) if built.get(row.get("build"), True) else None for row in rows}


def version(row, there, cache):
    """Of the first package that is the program's own; a command says it for what has none."""
    packages = [(kind, package) for kind in ("pip", "npm", "apt") for package in words(row, kind)]
    if not all(package in there[kind] for kind, package in packages):
        return None
    if "version" in row:
        said = output("sh", "-c", cache.filled(row["version"]))
        return re.search(r"\d+(\.\d+)+", said)[0]
    kind, package = packages[0]
    return re.sub(r"^\d+:|[-+~].*", "", there[kind][package])  # Debian's epoch and revision say nothing of the program
