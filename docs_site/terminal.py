"""python -m docs_site.terminal FILE COMMAND...: runs a command and draws what it printed as a picture of a terminal."""

from __future__ import annotations

import html
import shlex
import subprocess
import sys
from pathlib import Path

WIDTH, LINE, MARGIN, SIZE = 8.43, 19, 14, 14
"""Of a character and a line, in pixels of the picture; its margin, and the size of the type."""


def main(arguments: list[str]) -> int:
    """The command's exit code; nothing is drawn if it failed."""
    file, *command = arguments
    done = subprocess.run(command, capture_output=True, text=True, check=False)
    if done.returncode:
        sys.stderr.write(done.stdout + done.stderr)
        return done.returncode
    typed = ["bgpd", *command[command.index("bgpd") + 1 :]] if "bgpd" in command else command
    Path(file).write_text(drawn([f"# {shlex.join(typed)}", *done.stdout.splitlines()]))
    return 0


def drawn(lines: list[str]) -> str:
    """An SVG of the lines."""
    width = max(len(line) for line in lines) * WIDTH + 2 * MARGIN
    height = len(lines) * LINE + 2 * MARGIN
    rows = "\n".join(
        f'<text x="{MARGIN}" y="{MARGIN + number * LINE + SIZE}" fill="{_colour(line)}">{html.escape(line)}</text>'
        for number, line in enumerate(lines)
        if line
    )
    return (
        f'<svg xmlns="http://www.w3.org/2000/svg" viewBox="0 0 {width:.0f} {height}" role="img" '
        f'font-family="monospace" font-size="{SIZE}" xml:space="preserve">\n'
        f'<rect width="100%" height="100%" rx="6" fill="#1d2430"/>\n{rows}\n</svg>\n'
    )


def _colour(line: str) -> str:
    """Light for a command and a step, duller for what stands below it."""
    return "#ffffff" if line.startswith("#") else "#b7e4a8" if line.startswith("* ") else "#c9d1dd"


if __name__ == "__main__":
    raise SystemExit(main(sys.argv[1:]))
