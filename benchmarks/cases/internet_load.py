"""Internet load: a table like the Internet's, until the kernel (OpenBGPD, GoBGP: the own table) has every route."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import peers
from benchmarks.internet_table import InternetTable
from benchmarks.measurement import Figures, Job, Options, bench, count_text
from benchmarks.raw import run_raw

NAMES = {"internet-v4": "IPv4", "internet-v6": "IPv6"}
SLOW = {"GoBGP": 100_000}
"""Contestants that need minutes for more routes than this."""


def jobs(options: Options) -> Iterator[Job]:
    """By size: both families from one leaf and from two, IPv4 in scattered order, and IPv6 with one attribute set."""
    for count in options.sizes_or((100_000, 1_000_000), (20_000,)):
        for table, leaves in _variants(count):
            single = leaves == 1 and table.order == "grouped"
            for contestant in options.wanted(raw=single, own_table=True):
                if count <= SLOW.get(contestant, count):
                    case = case_name(table, leaves)
                    yield Job(case=case, contestant=contestant, run=partial(run, contestant, table, leaves))


def case_name(table: InternetTable, leaves: int) -> str:
    """Name of the variant."""
    further = ", one attribute set" if table.sets == 1 else ""
    further += ", one prefix in each UPDATE" if table.order == "scattered" else ""
    plural = "leaf" if leaves == 1 else "leaves"
    return f"internet-load {count_text(table.count)} {NAMES[table.kind]}, {leaves} {plural}{further}"


def run(contestant: str, table: InternetTable, leaves: int) -> Figures:
    """One load."""
    if contestant == peers.RAW:
        return run_raw(table, leaves=leaves)
    with bench(contestant, leaves=leaves) as ready:
        return ready.load(table)


def _variants(count: int) -> Iterator[tuple[InternetTable, int]]:
    for kind in NAMES:
        for leaves in (1, 2):
            yield InternetTable(kind=kind, count=count), leaves
    yield InternetTable(count=count, order="scattered"), 1
    for leaves in (1, 2):
        yield InternetTable(kind="internet-v6", count=count, sets=1), leaves
