"""How time and memory grow with the size: points of a series, whether they are linear, and a chart of all series."""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from benchmarks import peers
from benchmarks.cases.growth import LEAF_TABLE, ROUTES_OF_EACH, SERIES, case_name
from benchmarks.digest import number_text
from benchmarks.measurement import count_text
from benchmarks.results import Summary

Point = tuple[int, float]
"""A size, and the median of a figure."""

FIGURES = {"seconds": "s", "peak_mb": "MB"}
_STEP = 2.0
"""A part of a series is a step if one more costs so many times what one cost on average before it."""
_MATTERS = 0.1
"""A step is at least so much of the whole growth."""
_WHAT = {
    "routes": "IPv4 /32 with equal attributes from one leaf",
    "leaves": f"an Internet table of {count_text(LEAF_TABLE)} from each",
    "VRFs": f"{ROUTES_OF_EACH} EVPN routes (type 5) of each, a kernel table for each",
    "dynamic neighbors": f"{ROUTES_OF_EACH} routes of each; they connect at once",
}


def points(summary: Summary, series: str, contestant: str, figure: str) -> list[Point]:
    """What was measured of a series, by size."""
    medians = ((count, summary.median(case_name(series, count), contestant, figure)) for count in SERIES[series])
    return [(count, value) for count, value in medians if value is not None]


def verdict(found: Sequence[Point]) -> str:
    """ "linear, no step", or between which sizes there is one, and how steep it is; "" of less than three points."""
    if len(found) < 3:
        return ""
    (first, lowest), (_, highest) = found[0], found[-1]
    for (low, before), (high, after) in itertools.pairwise(found[1:]):
        average, here = (before - lowest) / (low - first), (after - before) / (high - low)
        if after - before > (highest - lowest) * _MATTERS and here > max(average, 0.0) * _STEP:
            times = f"{here / average:.1f} times the cost of one" if average > 0 else "nothing before"
            return f"step between {count_text(low)} and {count_text(high)}: {times}"
    return "linear, no step"


def markdown(summary: Summary) -> Iterator[str]:
    """A table for each series, with its verdicts."""
    for series, what in _WHAT.items():
        columns = [
            (contestant, figure, found)
            for contestant in (peers.BGPD, "BIRD")
            for figure in FIGURES
            if (found := dict(points(summary, series, contestant, figure)))
        ]
        if not columns:
            continue
        heads = [f"{contestant}, {FIGURES[figure]}" for contestant, figure, _ in columns]
        yield f"\n**{series}** ({what})\n\n| {series} | {' | '.join(heads)} |\n|---:|{'---:|' * len(heads)}\n"
        for count in SERIES[series]:
            if any(count in found for _, _, found in columns):
                cells = (number_text(found[count]) if count in found else "" for _, _, found in columns)
                yield f"| {count_text(count)} | {' | '.join(cells)} |\n"
        said = (verdict(sorted(found.items())) for _, _, found in columns)
        yield f"| | {' | '.join(said)} |\n"


def draw(summary: Summary, path: Path, pyplot: Any) -> None:
    """One chart of two rows: time and memory, by series: medians, from zero."""
    figure, axes = pyplot.subplots(len(FIGURES), len(SERIES), figsize=(12, 5.5))
    for column, series in enumerate(SERIES):
        for row, (name, unit) in enumerate(FIGURES.items()):
            chart = axes[row][column]
            for contestant, color in ((peers.BGPD, "#0b6e4f"), ("BIRD", "#c9a227")):
                if found := points(summary, series, contestant, name):
                    chart.plot(*zip(*found), marker="o", markersize=3, color=color, label=contestant)
            chart.set_xlim(left=0)
            chart.set_ylim(0, chart.get_ylim()[1] * 1.05)
            chart.xaxis.get_major_locator().set_params(integer=True)
            chart.xaxis.set_major_formatter(lambda value, _: count_text(int(value)))
            chart.set_ylabel({"s": "seconds", "MB": "peak memory, MiB"}[unit], fontsize=7)
            chart.set_xlabel(series, fontsize=7)
            chart.tick_params(labelsize=6)
            chart.grid(visible=True, alpha=0.3)
            if chart.lines:
                chart.legend(fontsize=6)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
