"""Draws the output of scripts/demo on standard input as terminals: DIRECTORY/demo-light.svg and demo-dark.svg."""

import io
import sys

from rich.console import Console
from rich.terminal_theme import TerminalTheme
from rich.text import Text

LIGHT = TerminalTheme(
    (255, 255, 255), (36, 41, 47),
    [(36, 41, 47), (207, 34, 46), (17, 99, 41), (77, 45, 0), (9, 105, 218), (130, 80, 223), (27, 124, 131), (110, 119, 129)],
)
DARK = TerminalTheme(
    (13, 17, 23), (201, 209, 217),
    [(72, 79, 88), (255, 123, 114), (63, 185, 80), (210, 153, 34), (88, 166, 255), (188, 140, 255), (57, 197, 207), (177, 186, 196)],
)

# A picture that loads nothing: no fonts from elsewhere.
FORMAT = """<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width} {height}" role="img" aria-label="scripts/demo: \
without and with tcptune">
<style>
.{unique_id}-matrix {{ white-space: pre; font: {char_height}px ui-monospace, SFMono-Regular, Menlo, Consolas, "DejaVu Sans Mono", monospace; \
line-height: {line_height}px; }}
{styles}
</style>
<defs>
<clipPath id="{unique_id}-clip-terminal"><rect x="0" y="0" width="{terminal_width}" height="{terminal_height}"/></clipPath>
{lines}
</defs>
{chrome}
<g transform="translate({terminal_x}, {terminal_y})" clip-path="url(#{unique_id}-clip-terminal)">
{backgrounds}
<g class="{unique_id}-matrix">
{matrix}
</g>
</g>
</svg>
"""

lines = sys.stdin.read().replace("\r", "").split("\n")
begins = next(i for i, line in enumerate(lines) if "1. A host" in line)
ends = next(i for i, line in enumerate(lines) if "2. An idle" in line)
summary = next(i for i, line in enumerate(lines) if "Measured on this machine" in line)
shown = ["\x1b[2m$\x1b[0m scripts/demo", "", *lines[begins:ends], *lines[summary : summary + 6]]

for name, theme in (("light", LIGHT), ("dark", DARK)):
    console = Console(record=True, width=100, file=io.StringIO(), force_terminal=True)
    for line in shown:
        console.print(Text.from_ansi(line))
    picture = console.export_svg(title="tcptune", theme=theme, code_format=FORMAT, clear=False)
    picture = picture.replace("<text ", '<text xml:space="preserve" ')
    with open(f"{sys.argv[1]}/demo-{name}.svg", "w", encoding="utf-8") as file:
        file.write(picture)
