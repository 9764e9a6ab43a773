"""Draws the results of a case as one SVG of horizontal bars: medians, with the spread of the runs as whiskers."""

from __future__ import annotations

import statistics
from collections.abc import Mapping
from pathlib import Path

from benchmarks import growth
from benchmarks.results import ResultFile, Summary, path_of

_COLORS = {"bgpd": "#0b6e4f", "BIRD": "#c9a227", "FRR": "#b5446e", "GoBGP": "#4f6d9a", "ExaBGP": "#8a6fb0"}
_COLORS |= {"bgpd (plain)": "#7fb8a4", "OpenBGPD": "#d98032"}
_OTHER_COLOR = "#777777"
_LABELS = {
    "seconds": "seconds, log scale (less is better)",
    "milliseconds": "milliseconds, log scale (less is better)",
    "lag_p99_ms": "lag at the kernel, p99, milliseconds, log scale (less is better)",
    "resident_mb": "resident memory, MiB, log scale (less is better)",
}


def draw(summary: Summary, file: ResultFile) -> Path | None:
    """Writes NAME.svg beside the results of `file`, from `summary`; None if nothing was measured."""
    import matplotlib

    matplotlib.use("svg")
    matplotlib.rcParams["svg.hashsalt"] = "bgpd"
    from matplotlib import pyplot

    path = path_of(file.name, quick=file.quick).with_suffix(".svg")
    if file.name == "growth":
        growth.draw(summary, path, pyplot)
        return path
    headlines = {summary.headline(case) for case in summary.cases(file.name)}
    # One axis for all: where some variants are in milliseconds, those in seconds are shown so too.
    scale = {"seconds": 1000.0} if "milliseconds" in headlines else {}
    unit = "milliseconds" if "milliseconds" in headlines else min(headlines, default="")
    bars = [
        (case, contestant, _scaled(summary, case, contestant, scale))
        for case in summary.cases(file.name)
        for contestant in summary.contestants(case)
    ]
    bars = [bar for bar in bars if bar[2]]
    if not bars:
        return None
    figure, axes = pyplot.subplots(figsize=(9, 0.6 + 0.24 * len(bars) + 0.35 * len(summary.cases(file.name))))
    place, previous = 0.0, bars[0][0]
    ticks: list[tuple[float, str]] = []
    for case, contestant, values in bars:
        place += 1.0 if case == previous else 1.8
        if case != previous or not ticks:
            axes.text(0.0, place - 0.75, case, transform=axes.get_yaxis_transform(), fontsize=8, weight="bold")
        previous = case
        middle = statistics.median(values)
        whiskers = [[middle - min(values)], [max(values) - middle]]
        color = _COLORS.get(contestant, _OTHER_COLOR)
        axes.barh(place, middle, xerr=whiskers, color=color, height=0.8, ecolor="#333333", capsize=2)
        axes.text(middle, place, f"  {middle:.3g}", va="center", fontsize=7)
        ticks.append((place, contestant))
    axes.set_yticks([tick for tick, _ in ticks], [label for _, label in ticks], fontsize=7)
    axes.invert_yaxis()
    axes.set_xscale("log")
    axes.set_xlabel(_LABELS.get(unit, unit), fontsize=8)
    axes.set_title(file.title, fontsize=10)
    axes.spines[["top", "right"]].set_visible(False)
    figure.tight_layout()
    figure.savefig(path, metadata={"Date": None})
    pyplot.close(figure)
    return path


def _scaled(summary: Summary, case: str, contestant: str, scale: Mapping[str, float]) -> list[float]:
    headline = summary.headline(case)
    return [value * scale.get(headline, 1.0) for value in summary.values(case, contestant, headline)]
