"""Load: from the leaves' first byte until the kernel's table holds every route by every leaf."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from benchmarks import peers
from benchmarks.measurement import Figures, Job, Options, bench, count_text
from benchmarks.raw import run_raw
from benchmarks.routes import RouteSet

_NAMES = {"v4-32": "IPv4 /32", "v4-mix": "IPv4 mixed lengths", "v6-64": "IPv6 /64"}


def jobs(options: Options) -> Iterator[Job]:
    """Kinds by sizes by leaves, then many attribute sets."""
    for routes, leaves in _variants(options):
        plural = "leaf" if leaves == 1 else "leaves"
        case = f"load {count_text(routes.count)} {_NAMES[routes.kind]}, {leaves} {plural}{_sets(routes)}"
        for contestant in options.wanted(raw=routes.attribute_sets == 1):
            yield Job(case=case, contestant=contestant, run=partial(run, contestant, routes, leaves))


def run(contestant: str, routes: RouteSet, leaves: int) -> Figures:
    """One load."""
    if contestant == peers.RAW:
        return run_raw(routes, leaves=leaves)
    with bench(contestant, leaves=leaves) as ready:
        return ready.load(routes)


def _variants(options: Options) -> Iterator[tuple[RouteSet, int]]:
    for count in options.sizes_or((10_000, 100_000, 1_000_000), (10_000, 100_000)):
        for kind in _NAMES:
            for leaves in (1, 2):
                yield RouteSet(kind=kind, count=count), leaves
    for count in options.sizes_or((100_000, 1_000_000), (100_000,)):
        yield RouteSet(count=count, attribute_sets=min(10_000, count)), 1
    yield RouteSet(count=10_000 if options.quick else 100_000, attribute_sets=0), 1


def _sets(routes: RouteSet) -> str:
    if routes.attribute_sets == 1:
        return ""
    return f", {count_text(routes.attribute_sets) if routes.attribute_sets else 'as many'} attribute sets"
