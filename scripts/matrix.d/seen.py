"""What was seen of each row, kept between runs."""

import functools
import hashlib
import json


@functools.cache
def binaries(tcptune):
    return tcptune.read_bytes() + tcptune.with_name("libtcptune.so").read_bytes()


def key(row, tcptune):
    """Another entry, or another tcptune, is another run."""
    return hashlib.sha256(json.dumps(row).encode() + binaries(tcptune)).hexdigest()


def file(cache, row):
    directory = cache.directory / "seen"
    directory.mkdir(exist_ok=True)
    return directory / row["name"].replace("/", "-")


def store(cache, row, its_key, runs):
    kept = [[peer, tuned, what] for (peer, tuned), what in runs.items()]
    file(cache, row).write_text(json.dumps({"key": its_key, "runs": kept}))


def load(cache, row, its_key):
    """The runs of a row, if they are there and all went well."""
    try:
        kept = json.loads(file(cache, row).read_text())
    except (OSError, ValueError):
        return None
    runs = {(peer, tuned): what for peer, tuned, what in kept["runs"]}
    return runs if kept["key"] == its_key and runs and not any("error" in what for what in runs.values()) else None
