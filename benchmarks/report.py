"""Shows results: `rich` tables on the terminal, and the same as Markdown between two marks of docs/performance.md."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from benchmarks.results import Summary
from benchmarks.targets import Verdict, verdicts
from benchmarks.topology import REPOSITORY

PAGE = REPOSITORY / "docs" / "performance.md"
BEGIN, END = "<!-- figures: begin -->", "<!-- figures: end -->"
_UNITS = {"seconds": "s", "milliseconds": "ms", "lag_p99_ms": "ms", "resident_mb": "MiB"}
_COLUMNS = ("", "median", "spread", "x bgpd", "routes/s", "more")


def show(console: Console, summary: Summary) -> None:
    """All tables, then the targets."""
    for file in summary.files:
        console.rule(f"[bold]{file.name}[/]: {file.title}")
        for case in summary.cases(file.name):
            table = Table(title=case, title_justify="left", header_style="bold")
            for number, column in enumerate(_COLUMNS):
                table.add_column(column, justify="left" if number in (0, 5) else "right")
            for row in _rows(summary, case):
                table.add_row(*row)
            console.print(table)
    table = Table(title="targets", title_justify="left", header_style="bold")
    for column in ("target", "reached", ""):
        table.add_column(column)
    for verdict in verdicts(summary):
        table.add_row(verdict.target, _reached(verdict), "[green]ok[/]" if verdict.ok else "[red]missed[/]")
    if table.row_count:
        console.print(table)


def write_page(summary: Summary) -> None:
    """Puts the figures into docs/performance.md, between its two marks."""
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{''.join(_markdown(summary))}{END}{tail}")


def _markdown(summary: Summary) -> Iterator[str]:
    rows = list(verdicts(summary))
    if rows:
        yield "\n### Targets\n\n| target | reached | |\n|---|---|---|\n"
        for verdict in rows:
            yield f"| {verdict.target} | {_reached(verdict)} | {'ok' if verdict.ok else '**missed**'} |\n"
    for file in summary.files:
        machine = file.machine
        yield f"\n### {file.name}\n\n{file.title}\n\n"
        yield (
            f"{file.taken_on}, {file.repeat} runs each, {machine['cores']} cores ({machine['cpu']}), "
            f"Linux {machine['kernel']}, Python {machine['python']}; "
            + ", ".join(f"{name} {version}" for name, version in file.versions.items())
            + ".\n\n"
        )
        yield f"![{file.name}](../benchmarks/results/{file.name}.svg)\n"
        for case in summary.cases(file.name):
            yield f"\n**{case}**\n\n| {' | '.join(_COLUMNS)} |\n|---|---:|---:|---:|---:|---|\n"
            for row in _rows(summary, case):
                yield f"| {' | '.join(row)} |\n"


def _rows(summary: Summary, case: str) -> Iterator[tuple[str, ...]]:
    """A line for each contestant."""
    headline = summary.headline(case)
    base = summary.median(case, "bgpd", headline)
    for contestant in summary.contestants(case):
        middle = summary.median(case, contestant, headline)
        failed = summary.failures(case, contestant)
        if middle is None:
            yield (contestant, "failed", "", "", "", failed[0].splitlines()[0] if failed else "")
            continue
        values = summary.values(case, contestant, headline)
        rate = summary.median(case, contestant, "routes_per_s")
        yield (
            contestant,
            f"{_number(middle)} {_UNITS.get(headline, '')}",
            f"{_number(min(values))} - {_number(max(values))}",
            f"{middle / base:.2f}" if base else "",
            f"{rate:,.0f}" if rate else "",
            _more(summary, case, contestant) + (f"; {len(failed)} runs failed" if failed else ""),
        )


def _more(summary: Summary, case: str, contestant: str) -> str:
    """The other figures: medians, but the worst of what must never happen."""
    parts = []
    for figure in summary.figures(case):
        values = summary.values(case, contestant, figure)
        if figure == "routes_per_s" or not values or figure == summary.headline(case):
            continue
        value = max(values) if figure == "loop_stall_ms" else summary.median(case, contestant, figure)
        parts.append(f"{figure} {_number(value or 0.0)}")
    return ", ".join(parts)


def _reached(verdict: Verdict) -> str:
    return f"{_number(verdict.reached or 0.0)} {verdict.unit}"


def _number(value: float) -> str:
    """Three significant digits, no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
