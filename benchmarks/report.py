"""Shows results: `rich` tables on the terminal, and the parts of docs/performance.md that follow from them."""

from __future__ import annotations

from collections.abc import Iterator

from rich.console import Console
from rich.table import Table

from benchmarks import growth
from benchmarks.digest import in_short, is_own_table, losses, number_text
from benchmarks.results import Summary
from benchmarks.targets import Verdict, verdicts
from benchmarks.topology import REPOSITORY

PAGE = REPOSITORY / "docs" / "performance.md"
_UNITS = {"seconds": "s", "milliseconds": "ms", "lag_p99_ms": "ms", "resident_mb": "MiB"}
WORST = ("loop_stall_ms", "loop_cpu_ms", "loop_cpu_p9999_ms", "bfd_flaps")
"""Figures of which the worst run counts."""
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
    for column in ("target", "reached", "in the same run", ""):
        table.add_column(column)
    for verdict in verdicts(summary):
        said = "[green]ok[/]" if verdict.ok else "[red]missed[/]"
        table.add_row(verdict.target, _reached(verdict), verdict.beside, said)
    if table.row_count:
        console.print(table)


def write_page(summary: Summary) -> None:
    """Puts what follows from the results into docs/performance.md, between its marks."""
    text = PAGE.read_text()
    parts = {"in short": in_short(summary), "losses": losses(summary), "figures": _markdown(summary)}
    for name, lines in parts.items():
        begin, end = marks(name)
        head, _, rest = text.partition(begin)
        _, _, tail = rest.partition(end)
        text = f"{head}{begin}\n{''.join(lines)}{end}{tail}"
    PAGE.write_text(text)


def marks(name: str) -> tuple[str, str]:
    """Where a part of the page begins and ends."""
    return f"<!-- {name}: begin -->", f"<!-- {name}: end -->"


def _markdown(summary: Summary) -> Iterator[str]:
    rows = list(verdicts(summary))
    if rows:
        yield "\n### Targets\n\n| target | reached | in the same run | |\n|---|---|---|---|\n"
        for verdict in rows:
            said = "ok" if verdict.ok else "**missed**"
            yield f"| {verdict.target} | {_reached(verdict)} | {verdict.beside} | {said} |\n"
    for file in summary.files:
        machine = file.machine
        yield f"\n### {file.name}\n\n{file.title}\n\n"
        yield (
            f"{file.taken_on}, {_runs(summary, file.name)}, {machine['cores']} cores ({machine['cpu']}), "
            f"Linux {machine['kernel']}, Python {machine['python']}; "
            + ", ".join(f"{name} {version}" for name, version in file.versions.items())
            + ".\n\n"
        )
        yield f"![{file.name}](../benchmarks/results/{file.name}.svg)\n"
        if file.name == "growth":
            yield from growth.markdown(summary)
            continue
        for case in summary.cases(file.name):
            yield f"\n**{case}**\n\n| {' | '.join(_COLUMNS)} |\n|---|---:|---:|---:|---:|---|\n"
            for row in _rows(summary, case):
                yield f"| {' | '.join(row)} |\n"


def _runs(summary: Summary, name: str) -> str:
    """How many runs the variants of a case had."""
    counts = {count for case in summary.cases(name) for count in summary.counts(case)}
    few, many = min(counts), max(counts)
    return f"{few} run{'s' * (few > 1)} each" if few == many else f"{few} to {many} runs each"


def _rows(summary: Summary, case: str) -> Iterator[tuple[str, ...]]:
    """A line for each contestant."""
    headline = summary.headline(case)
    base = summary.median(case, "bgpd", headline)
    for contestant in summary.contestants(case):
        middle = summary.median(case, contestant, headline)
        failed = summary.failures(case, contestant)
        name = f"{contestant} (own table)" if is_own_table(case, contestant) else contestant
        if middle is None:
            yield (name, "failed", "", "", "", failed[0].splitlines()[0] if failed else "")
            continue
        values = summary.values(case, contestant, headline)
        rate = summary.median(case, contestant, "routes_per_s")
        yield (
            name,
            f"{number_text(middle)} {_UNITS.get(headline, '')}",
            f"{number_text(min(values))} - {number_text(max(values))}",
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
        value = max(values) if figure in WORST else summary.median(case, contestant, figure)
        parts.append(f"{figure} {number_text(value or 0.0)}")
    return ", ".join(parts)


def _reached(verdict: Verdict) -> str:
    return f"{number_text(verdict.reached)} {verdict.unit}"
