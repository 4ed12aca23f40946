"""bench-chart.py FIGURES SVG MACHINE: the charts of `scripts/bench --svg SVG`, from the figures of its tables.

FIGURES has the title of each table in a line, and after it a line for each figure: NAME COLUMN MEDIAN QUARTILE QUARTILE
BAR, with tabs between (BAR "-": none; a library that is not installed has no figures, and gets no row).
"""
import sys

import matplotlib

matplotlib.use("svg")
import matplotlib.pyplot as pyplot
from matplotlib.transforms import blended_transform_factory

# Each has a contrast of 3.7 or more to white and to a dark page (#0d1117), and they differ for the colour-blind.
TEXT, OWN, OTHER, BAR = "#757d87", "#2f81f7", "#7d8590", "#d55e00"
# TEXT becomes the colour that suits the reader's scheme, where a viewer tells; all three are readable on both pages.
STYLE = """svg { color: %s }
@media (prefers-color-scheme: light) { svg { color: #656d77 } }
@media (prefers-color-scheme: dark) { svg { color: #8b949e } }
""" % TEXT

matplotlib.rcParams.update({
    "svg.fonttype": "none", "svg.hashsalt": "bench",
    "font.sans-serif": ["DejaVu Sans", "Verdana"], "font.size": 8.5,
    "text.color": TEXT, "axes.labelcolor": TEXT, "axes.edgecolor": TEXT, "xtick.color": TEXT, "ytick.color": TEXT,
    "axes.spines.top": False, "axes.spines.right": False, "axes.spines.left": False, "ytick.major.size": 0,
    "axes.titlesize": 9.5, "axes.titleweight": "bold", "axes.titlelocation": "left",
})


def read(path):
    """{table: {name: {column: (median, quartile, quartile, bar or None)}}}"""
    tables = {}
    for line in open(path, encoding="utf-8"):
        name, *fields = line.rstrip("\n").split("\t")
        if not fields:
            table = tables.setdefault(name, {})
        else:
            column, *values, bar = fields
            table.setdefault(name, {})[column] = (*map(float, values), None if bar == "-" else float(bar))
    return tables


def row(figures, name, column, bar_unit=1.0, text="{:.3f}", limit="≤ {:.2f}"):
    """What `panel` draws in one line; None if the name has no figures. A bar is a multiple of bar_unit."""
    if column not in figures.get(name, {}):
        return None
    median, low, high, _ = figures[name][column]
    bars = [bar * bar_unit for *_, bar in figures[name].values() if bar]
    return name, median, low, high, text.format(median, time=figures[name]["median"][0]), bars, limit


def panel(axes, title, unit, start, groups, own="tcptune"):
    """A row for each variant: a dot on a line between its quartiles, and a column if the scale starts at 0. The names of
    our own begin with `own`."""
    aside = blended_transform_factory(axes.transAxes, axes.transData)
    ticks, labels, y = [], [], 0.0
    for heading, rows in groups:
        if heading:
            axes.text(-0.025, y, heading, ha="right", va="center", weight="bold", transform=aside)
            y += 1
        for name, median, low, high, text, bars, limit in filter(None, rows):
            is_own = name.startswith(own)
            colour = OWN if is_own else OTHER
            if start == 0:
                axes.barh(y, median, 0.55, color=colour, alpha=0.55)
            axes.plot([low, high], [y, y], color=colour, linewidth=2)
            axes.plot(median, y, "o", color=colour, markersize=5)
            for bar in bars:
                axes.plot([bar, bar], [y - 0.5, y + 0.5], color=BAR, linewidth=2, zorder=1.5, solid_capstyle="butt")
                axes.text(1.27, y, limit.format(bar), color=BAR, va="center", transform=aside)
            axes.text(1.03, y, text, va="center", transform=aside, weight="bold" if is_own else "normal")
            ticks.append(y)
            labels.append(name.replace(", again", " again (noise)"))
            y += 1
        y += 0.3
    axes.axvline(start, color=TEXT, linewidth=0.8)
    axes.set_yticks(ticks, labels)
    axes.set_ylim(y - 0.5, -0.7)
    axes.set_xlabel(unit)
    axes.set_title(title, x=-0.75)
    axes.margins(x=0.08)


def curve(axes, title, figures):
    """What is added under each number of rules."""
    counts = {int(name.removeprefix("rules: ")): columns["added"] for name, columns in figures.items()
              if name.removeprefix("rules: ").isdigit()}
    axes.plot(list(counts), [median for median, *_ in counts.values()], "-o", color=OWN, markersize=5, linewidth=1)
    for count, (median, low, high, bar) in counts.items():
        axes.plot([count, count], [low, high], color=OWN, linewidth=2)
        axes.annotate(f"{median:.2f}", (count, high), (0, 5), textcoords="offset points", ha="center", weight="bold")
        if bar:
            axes.plot([count / 1.6, count * 1.6], [bar, bar], color=BAR, linewidth=2, solid_capstyle="butt")
            axes.annotate(f"≤ {bar:.0f}", (count / 1.6, bar), (-4, 0), textcoords="offset points", ha="right",
                          va="center", color=BAR)
    axes.set_xscale("log")
    axes.set_xticks(list(counts), [f"{count:,}" for count in counts])
    axes.minorticks_off()
    axes.set_ylim(0, 1.15 * max(high for _, _, high, _ in counts.values()))
    axes.grid(axis="y", color=TEXT, alpha=0.25, linewidth=0.6)
    axes.set_xlabel("rules that do not match")
    axes.set_ylabel("µs added to a connect")
    axes.set_title(title, x=-0.128)


def main(path, svg, machine):
    tables = read(path)
    figure = pyplot.figure(figsize=(8.96, 12.2))  # 860 pixels
    grid = figure.add_gridspec(4, 2, height_ratios=(8, 15, 8, 5), left=0.175, right=0.872, top=0.977, bottom=0.078,
                               wspace=1.35, hspace=0.36)

    execs = tables["exec of /bin/true"]
    base = execs.get("libdontdie", {}).get("added", (0,))[0]
    panel(figure.add_subplot(grid[0, 0]), "Added to an exec of /bin/true", "µs added", 0, [("", [
        row(execs, name, "added", base, "{:.1f}", "≤ {:.1f}") for name in execs if name != "no preload"])])

    connects = [f"loopback connect + close, {kind} client, four settings" for kind in ("blocking", "nonblocking")]
    panel(figure.add_subplot(grid[0, 1]), "Connect timeout", "ratio to inline C without a timeout", 1, [
        (kind, [row(tables[title + " and a connect timeout"], name, "inline C", text="{:.3f} ({time:.1f} µs)")
                for name in ("inline C, timeout", "tcptune, timeout")])
        for kind, title in zip(("blocking connect", "nonblocking connect"), connects)])

    names = "libkeepalive", "libdontdie", "tcptune", "inline C, again"
    panel(figure.add_subplot(grid[1, 0]), "Four keepalive settings", "ratio to inline C", 1, [
        (heading, [row(tables[title], name, "inline C") for name in names])
        for heading, title in zip(("TCP socket", "blocking connect", "nonblocking connect"),
                                  ("TCP socket + close, four keepalive settings", *connects))])

    names = "libkeepalive", "libdontdie", "tcptune, no variables", "tcptune", "no preload, again"
    panel(figure.add_subplot(grid[1, 1]), "Sockets that are left alone", "ratio to no preload", 1, [
        (heading, [row(tables[heading + " + close"], name, "no preload") for name in names])
        for heading in ("UDP socket", "UNIX socket")])

    connect = "loopback connect + close under rules that do not match"
    v4, v6 = tables[connect], tables[connect + ", IPv6"]
    place = grid[2, 0].get_position(figure)
    curve(figure.add_axes((0.065, place.y0, 0.38, place.height)), "Rules", v4)
    panel(figure.add_subplot(grid[2, 1]), "1,000 rules", "µs added to a connect", 0, [("", [
        (label, *row(figures, name, "added", text="{:.2f}", limit="≤ {:.0f}")[1:]) for label, figures, name in (
            ("other network", v4, "rules: 1000"), ("IPv6 network", v6, "rules: 1000"),
            ("other port", v4, "rules: 1000, by port"), ("other own address", v4, "rules: 1000, by src"),
            ("none, again", v4, "no rules, again"))])], own="")

    for column, threads in enumerate(("1", "64")):
        turns = ((f"{pending:,} pending", tables[f"a turn of an epoll loop, {threads} threads, {pending} connects pending"])
                 for pending in (0, 100, 1000, 10000))
        panel(figure.add_subplot(grid[3, column]), f"Connects that go on, {threads} thread" + "s" * column,
              "turn of an epoll loop, ratio to no preload", 1, [("", [
                  (label, *row(figures, "tcptune, timeout", "no preload")[1:]) for label, figures in turns])], own="")

    figure.text(0.012, 0.009, "Dots are medians, lines go from quartile to quartile. Orange: the most that is allowed "
                "(exec: 1.1 and 1.2 × libdontdie).\n" + machine, linespacing=1.4)
    figure.savefig(svg, transparent=True, metadata={"Date": None, "Creator": None, "Title": "scripts/bench"})
    with open(svg, encoding="utf-8") as file:
        text = file.read()
    with open(svg, "w", encoding="utf-8") as file:
        style = '<style type="text/css">'
        file.write(text.replace(TEXT, "currentColor").replace(style, style + STYLE, 1))


main(*sys.argv[1:])
