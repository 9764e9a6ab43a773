"""Tables for people: `rich` on a terminal, aligned plain text when piped.

`rich` is imported only where it draws.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import TextIO

from bgpd.cli.text import printable

_STYLES = {
    "established": "green",
    "installed": "green",
    "announced": "green",
    "error": "red",
    "failed": "red",
    "conflict": "red",
    "blocked": "yellow",
    "pending": "yellow",
    "warning": "yellow",
    "idle": "red",
    "active": "yellow",
    "connect": "yellow",
}
"""Of cells that hold exactly this word."""


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO, *, empty: str) -> None:
    """Writes the table; `empty` where there are no rows."""
    rows = [tuple(map(printable, row)) for row in rows]
    if not rows:
        out.write(f"{empty}\n")
    elif out.isatty():
        _write_rich(columns, rows, out)
    else:
        _write_plain(columns, rows, out)


def _write_plain(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    widths = [max(len(columns[index]), *(len(row[index]) for row in rows)) for index in range(len(columns))]
    for row in (columns, *rows):
        line = "  ".join(cell.ljust(width) for cell, width in zip(row, widths))
        out.write(line.rstrip() + "\n")


def _write_rich(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO) -> None:
    from rich import box
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    drawn = Table(box=box.SIMPLE_HEAD, pad_edge=False, padding=(0, 1, 0, 0), header_style="bold")
    for index, column in enumerate(columns):
        is_last = index == len(columns) - 1
        drawn.add_column(column, overflow="fold", no_wrap=not is_last)
    for row in rows:
        drawn.add_row(*(Text(cell, style=_STYLES.get(cell, "")) for cell in row))
    Console(file=out).print(drawn)
