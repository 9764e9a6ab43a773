"""What the events of a laboratory cost, and docs/event-costs.md, which is written from a run."""

from __future__ import annotations

import datetime
import os
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path

import msgspec

import bgpd
from labs.daemons import FRR_LIBEXEC
from labs.process import run_command
from labs.traffic import FlowResult

PAGE = Path(__file__).resolve().parent.parent / "docs" / "event-costs.md"
BEGIN, END = "<!-- costs: begin -->", "<!-- costs: end -->"


class EventCost(msgspec.Struct, frozen=True, kw_only=True):
    """One event: what it might cost, and what it did."""

    what: str
    may_cost: str
    passed: bool
    detail: str
    flows: int
    hit: int
    sent: int
    lost: int
    outage_ms: float

    @classmethod
    def of(cls, what: str, results: Sequence[FlowResult], *, may_cost: str, passed: bool, detail: str) -> EventCost:
        """From what the flows lost."""
        return cls(
            what=what,
            may_cost=may_cost,
            passed=passed,
            detail=detail,
            flows=len(results),
            hit=sum(result.lost > 0 for result in results),
            sent=sum(result.sent for result in results),
            lost=sum(result.lost for result in results),
            outage_ms=max((result.outage_ms for result in results), default=0.0),
        )


def record(costs: Iterable[EventCost]) -> Path:
    """Write the table into the page, between its marks; where that is."""
    text = PAGE.read_text()
    head, _, rest = text.partition(BEGIN)
    _, _, tail = rest.partition(END)
    PAGE.write_text(f"{head}{BEGIN}\n{''.join(_lines(costs))}{END}{tail}")
    return PAGE


def _lines(costs: Iterable[EventCost]) -> Iterator[str]:
    today = datetime.datetime.now(tz=datetime.UTC).date().isoformat()
    frr = run_command([str(FRR_LIBEXEC / "bgpd"), "--version"]).split()[2]
    yield f"{today}, bgpd {bgpd.__version__}, FRR {frr}, Linux {os.uname().release}, {os.cpu_count()} cores.\n\n"
    yield "| event | packets lost | of | flows hit | longest outage | may cost | |\n|---|---:|---:|---:|---:|---|---|\n"
    for cost in costs:
        outage = f"{cost.outage_ms:.0f} ms" if cost.lost else ""
        said = "" if cost.passed else "**more**"
        hit = f"{cost.hit} of {cost.flows}" if cost.hit else ""
        yield f"| {cost.what} | {cost.lost} | {cost.sent:,} | {hit} | {outage} | {cost.may_cost} | {said} |\n"
