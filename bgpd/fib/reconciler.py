"""Compares what the kernel holds with what bgpd believes it holds, and names the keys that must be written again.

Only names suspects: the FIB writes each anew from the RIB's present wish, so that a key that changed during the dump
costs one idle write and never a wrong route. Works on columns, so that a million routes that are right cost a few C
calls. Each class takes in one dump, run by run, in a worker thread. Sans-IO.
"""

from __future__ import annotations

from collections import Counter, defaultdict, deque
from collections.abc import Sequence
from itertools import compress, repeat

from bgpd.fib.dump import RouteRun
from bgpd.fib.route_messages import LAST_RESORT_METRIC, RouteForm
from bgpd.model.sharded import ShardedDict

Stray = tuple[bytes, int]
"""Key and metric of a route of ours with another metric than ours."""


class Comparison:
    """`suspects` are keys that the kernel holds otherwise than believed."""

    def __init__(self, installed: ShardedDict[int], form: RouteForm) -> None:
        self.suspects: list[bytes] = []
        self.strays: list[Stray] = []
        self._present = dict.fromkeys(map(id, installed.parts), 0)
        self._installed = installed
        self._form = form

    def add(self, run: RouteRun) -> None:
        """Take in one run of the dump."""
        run = _own_part(run, self._form, self.strays)
        believed = self._installed.get_all(run.keys)
        known: Sequence[bytes] = run.keys
        if believed != list(run.targets):
            known = [key for key, belief in zip(run.keys, believed) if belief is not None]
            self.suspects += [key for key, target, belief in zip(run.keys, run.targets, believed) if belief != target]
        for part, chosen in self._installed.split(known):
            self._present[id(part)] += len(chosen)

    def incomplete(self, flushed: int) -> list[dict[bytes, int]]:
        """Parts of which the kernel holds less than believed; none if `flushed` (known to be gone) are all."""
        lacking = [(part, len(part) - self._present[id(part)]) for part in self._installed.parts]
        found = [(part, lack) for part, lack in lacking if lack > 0]
        return [part for part, _lack in found] if sum(lack for _part, lack in found) > flushed else []


class Search:
    """`missing`: what is believed to be in the kernel and was in no run, of the parts that hold less than believed."""

    def __init__(self, installed: ShardedDict[int], form: RouteForm, parts: list[dict[bytes, int]]) -> None:
        self._installed = installed
        self._form = form
        self._unseen = {id(part): part.copy() for part in parts}

    def add(self, run: RouteRun) -> None:
        """Take in one run of the dump."""
        run = _own_part(run, self._form, [])
        for part, chosen in self._installed.split(run.keys):
            unseen = self._unseen.get(id(part))
            if unseen:
                deque(map(unseen.pop, chosen, repeat(None)), maxlen=0)

    def missing(self) -> list[bytes]:
        """Keys to be written again."""
        return [key for part in self._unseen.values() for key in part]


class Adoption:
    """What an earlier run left: the routes, `counts` of them per target, `direct` ones by interface index, strays."""

    def __init__(self, form: RouteForm) -> None:
        self.installed: ShardedDict[int] = ShardedDict()
        self.counts: Counter[int] = Counter()
        self.direct: defaultdict[int, set[bytes]] = defaultdict(set)
        self.strays: list[Stray] = []
        self._form = form

    def add(self, run: RouteRun) -> None:
        """Take in one run of the dump."""
        run = _own_part(run, self._form, self.strays)
        for target, count in Counter(run.targets).items():
            keys = run.keys
            if count != len(keys):
                keys = [key for key, found in zip(keys, run.targets) if found == target]
            self.installed.set_all(keys, target)
            self.counts[target] += count
            if target < 0:
                self.direct[-target].update(keys)


def _own_part(run: RouteRun, form: RouteForm, strays: list[Stray]) -> RouteRun:
    """The routes of a run that have our metric; the others of ours are appended to `strays`."""
    if run.protocol != form.protocol or run.table != form.table:
        return RouteRun(run.family, run.table, run.protocol, run.route_type, (), (), ())
    if run.metrics.count(form.metric) == len(run.metrics):
        return run
    ours = [metric == form.metric for metric in run.metrics]
    strays += [
        (key, metric)
        for key, metric, own in zip(run.keys, run.metrics, ours)
        if not own and metric != LAST_RESORT_METRIC
    ]
    keys, targets = list(compress(run.keys, ours)), list(compress(run.targets, ours))
    return RouteRun(run.family, run.table, run.protocol, run.route_type, keys, targets, (form.metric,) * len(keys))
