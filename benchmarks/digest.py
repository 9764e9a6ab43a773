"""The first two tables of docs/performance.md: what a reader wants to know, and where others are better than bgpd."""

from __future__ import annotations

from collections.abc import Iterator

from benchmarks import peers, targets
from benchmarks.results import Summary

_CONTESTANTS = (peers.BGPD, "BIRD", "FRR", "OpenBGPD")
_QUESTIONS = (
    ("1,000,000 routes with equal attributes from one leaf, until all are in the kernel", targets.LOAD_1M, "seconds"),
    ("an Internet table of 1,000,000 from two leaves, until all are in the kernel", targets.INTERNET_ECMP, "seconds"),
    ("memory of the daemon with this table", targets.INTERNET_ECMP, "peak_mb"),
    ("one of these two leaves dies: until the kernel uses only the other", targets.INTERNET_FAILOVER, "seconds"),
    ("`ip route add` for a workload, until the leaf has heard of it", targets.SINGLE, "milliseconds"),
    ("5,000 updates a second to an Internet table: share of a core", targets.INTERNET_CHURN, "cpu_percent"),
)
_UNITS = {"seconds": "s", "milliseconds": "ms", "peak_mb": "MB", "cpu_percent": "% of a core", "lag_p99_ms": "ms"}
_UNITS |= {"resident_mb": "MB", "settled_s": "s until settled"}
_LOSS = 1.05
"""A figure is worse if it is more than so many times the other's."""


def in_short(summary: Summary) -> Iterator[str]:
    """Six questions: medians of bgpd and its peers."""
    yield f"| | {' | '.join(_CONTESTANTS)} |\n|---|{'---:|' * len(_CONTESTANTS)}\n"
    for question, case, figure in _QUESTIONS:
        values = (summary.median(case, contestant, figure) for contestant in _CONTESTANTS)
        cells = (quantity_text(value, figure) for value in values)
        yield f"| {question} | {' | '.join(cells)} |\n"


def losses(summary: Summary) -> Iterator[str]:
    """Every case in which another daemon is better by its headline, the worst first; then those by memory."""
    yield "| case | bgpd | better | times bgpd's |\n|---|---:|---:|---:|\n"
    found = sorted(_lost(summary), reverse=True)
    for factor, case, figure, contestant, own, other in found:
        name = f"{contestant} (its own table only)" if is_own_table(case, contestant) else contestant
        better = f"{name} {quantity_text(other, figure)}"
        yield f"| {case} | {quantity_text(own, figure)} | {better} | {1 / factor:.2f} |\n"
    if not found:
        yield "| none | | | |\n"


def _lost(summary: Summary) -> Iterator[tuple[float, str, str, str, float, float]]:
    """(how many times worse, case, figure, the best contestant, bgpd's figure, its figure)."""
    for file in summary.files:
        for case in summary.cases(file.name):
            is_large = file.name in ("load", "internet-load") and ("1M" in case or case == targets.DISTINCT_100K)
            figures = {summary.headline(case)} | ({"peak_mb"} if is_large else set())
            figures |= {"cpu_percent"} if file.name in ("churn", "internet-churn", "idle") else set()
            figures |= {"settled_s"} if file.name == "internet-failover" else set()
            for figure in sorted(figures):
                own = summary.median(case, peers.BGPD, figure)
                others = [
                    (value, contestant)
                    for contestant in summary.contestants(case)
                    if contestant not in (peers.BGPD, peers.PLAIN, peers.RAW)
                    and (value := summary.median(case, contestant, figure)) is not None
                ]
                if own and others and own > min(others)[0] * _LOSS:
                    other, contestant = min(others)
                    yield own / other if other else float("inf"), case, figure, contestant, own, other


def is_own_table(case: str, contestant: str) -> bool:
    """Whether a contestant's figure in a case ends in its own table, not in the kernel's."""
    return contestant in peers.OWN_TABLE or (case.startswith("evpn-load") and contestant not in (peers.BGPD, peers.RAW))


def quantity_text(value: float | None, figure: str) -> str:
    """A figure with its unit: short times in milliseconds."""
    if value is None:
        return ""
    if figure == "seconds" and value < 0.1:
        return f"{number_text(value * 1000)} ms"
    return f"{number_text(value)} {_UNITS.get(figure, '')}".strip()


def number_text(value: float) -> str:
    """Three significant digits, no exponent."""
    if value == 0:
        return "0"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.3g}"
