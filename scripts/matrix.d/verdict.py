"""What the runs of a row say: the cells of its line in the page, and whether each is as it should be."""

from settings import BACKLOG, CONNECT_TIMEOUT, LOOK, SILENCE

WANTED = [33, 4, 2]  # KEEPALIVE of measure.py, in seconds
EARLY, LATE = 0.4, 1.7  # of a timeout, in seconds: below that something else has ended it, the machine may be busy


class Judged:
    """The cells of one row; what is as it should be, and what is not as the table says."""

    def __init__(self, row, version):
        self.row, self.why, self.good, self.faults = row, row.get("why", {}), {}, []
        self.cells = [row["name"], version]

    def cell(self, what, text, good):
        """A cell; where it is not as it should be the table must know why, and where it is, must not pretend to."""
        why = self.why.get(what)
        self.good[what] = good
        if good == bool(why):
            self.faults.append(f"{what}: {text}" if not good else f"{what} is as it should be, and the table says why not")
        self.cells.append(f"{text}: {why}" if why and not good else text)


def judge(row, version, runs):
    """From the version and the runs, by (peer, tuned), to cells and faults."""
    judged = Judged(row, version or "–")
    broken = [run["error"] for run in runs.values() if "error" in run]
    if version is None or broken:
        judged.faults += broken or ["a package is missing"]
        return judged
    (server if row["kind"] == "server" else client)(judged, runs)
    return judged


def options(judged, alone, tuned):
    judged.cells.append(tuned["way"])
    judged.cells.append(keepalive(alone))
    good = tuned["keepalive"] == WANTED
    judged.cell("keepalive", "as set" if good else keepalive(tuned), good)


def keepalive(run):
    if not run["options"]:
        return "not seen"
    return "{} s + {} s × {}".format(*run["keepalive"]) if run["keepalive"] else "off"


def client(judged, runs):
    options(judged, runs["mute", False], runs["mute", True])
    for what, peer, limit in (("connect", "hole", CONNECT_TIMEOUT), ("silence", "mute", SILENCE)):
        alone, tuned = runs[peer, False], runs[peer, True]
        judged.cell(what, f"{waited(alone)} → {waited(tuned)}", bounded(alone, tuned, limit))


def bounded(alone, tuned, limit):
    """Whether the first attempt ended when tcptune should end it; a program's own shorter limit may come first."""
    without, within = duration(alone), duration(tuned)
    own = without is not None and without < limit + EARLY and within is not None and abs(within - without) < LATE
    if own or within is None:
        return own
    # A busy machine sees late that an attempt has begun: it may have lasted longer than what was seen of it.
    most = first(tuned)[1] - first(tuned)[2]
    return (without is None or without > limit + EARLY) and limit - EARLY < most and within < limit + LATE


def first(run):
    """The first attempt that it waits for: some connect and close at once, to see whether they can."""
    return next((it for it in run["attempts"] if it[1] is None or it[1] - it[0] > 0.5), run["attempts"][0])


def duration(run):
    begin, end, _ = first(run)
    return None if end is None else end - begin


def waited(run):
    """How long the first attempt was waited for, and what came then."""
    if duration(run) is None:
        return f"> {LOOK} s"
    text = f"{duration(run):.1f} s"
    again = sum(begin >= first(run)[1] - 0.05 for begin, *_ in run["attempts"])
    if again and run["ended"] is not None:
        text += f", {again + 1} tries, {run['ended']:.1f} s"
    elif again:
        text += ", tries again"
    if run.get("answer"):
        text += f" (answers {run['answer']})"
    return text


def server(judged, runs):
    alone, tuned = runs["serve", False], runs["serve", True]
    options(judged, alone, tuned)
    judged.cell("backlog", f"{alone['backlog']} → {tuned['backlog']}", tuned["backlog"] == BACKLOG)
    judged.cell("restart", f"{restart(alone)} → {restart(tuned)}", tuned["restarts"])
    good = tuned["idle"] is not None and tuned["idle"] < SILENCE + LATE
    judged.cell("idle", f"{idle(alone)} → {idle(tuned)}", good)


def restart(run):
    return ("starts" if run["restarts"] else "fails") + ("" if run["time_wait"] else " (no TIME_WAIT)")


def idle(run):
    return f"> {LOOK} s" if run["idle"] is None else f"{run['idle']:.1f} s"
