"""Compares what the kernel holds with what bgpd believes it holds, and names the keys that must be written again.

Only names suspects: the FIB writes each anew from the RIB's present wish, so that a key that changed during the dump
costs one idle write and never a wrong route. Works on columns, so that a million routes that are right cost a few C
calls. Sans-IO.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from bgpd.fib.dump import RouteRun
from bgpd.fib.route_messages import RouteForm


class Comparison:
    """One pass over a dump of one family. `suspects` are keys that differ; `strays` routes of ours with another
    metric.
    """

    def __init__(self, installed: Mapping[bytes, int], form: RouteForm) -> None:
        self.suspects: list[bytes] = []
        self.strays: list[tuple[bytes, int]] = []
        self.present = 0
        self._installed = installed
        self._form = form

    def add(self, run: RouteRun) -> None:
        """Take in one run of the dump."""
        if run.protocol != self._form.protocol or run.table != self._form.table:
            return
        keys, targets = run.keys, list(run.targets)
        if run.metrics.count(self._form.metric) != len(run.metrics):
            ours = [metric == self._form.metric for metric in run.metrics]
            self.strays += [(key, metric) for key, metric, own in zip(keys, run.metrics, ours) if not own]
            targets = [target for target, own in zip(targets, ours) if own]
            keys = [key for key, own in zip(keys, ours) if own]
        believed = list(map(self._installed.get, keys))
        if believed == targets:
            self.present += len(keys)
            return
        for key, target, belief in zip(keys, targets, believed):
            if belief is not None:
                self.present += 1
            if belief != target:
                self.suspects.append(key)

    def all_present(self, flushed: int) -> bool:
        """Whether the dump held as many of the believed routes as there are, but for `flushed` known to be gone."""
        return self.present >= len(self._installed) - flushed


def missing(believed: Iterable[bytes], runs: Iterable[RouteRun]) -> list[bytes]:
    """Keys that are believed to be in the kernel and stand in none of the runs."""
    seen: set[bytes] = set()
    for run in runs:
        seen.update(run.keys)
    return [key for key in believed if key not in seen]


def adopt(runs: Iterable[RouteRun], form: RouteForm) -> tuple[dict[bytes, int], Counter[int], list[tuple[bytes, int]]]:
    """(key -> target, routes per target, strays with another metric) of the routes that an earlier run left."""
    counts: Counter[int] = Counter()
    installed: dict[bytes, int] = {}
    strays: list[tuple[bytes, int]] = []
    for run in runs:
        if run.protocol != form.protocol or run.table != form.table:
            continue
        if run.metrics.count(form.metric) == len(run.metrics):
            installed.update(zip(run.keys, run.targets))
            counts.update(run.targets)
            continue
        for key, target, metric in zip(run.keys, run.targets, run.metrics):
            if metric == form.metric:
                installed[key] = target
                counts[target] += 1
            else:
                strays.append((key, metric))
    return installed, counts, strays
