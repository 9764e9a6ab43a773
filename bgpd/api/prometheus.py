"""Metrics in Prometheus' text format, read from the parts at the moment they are asked for.

Nothing is counted here: each metric is a callable that reads a number which its part keeps anyway, so that the hot path
knows nothing of metrics. Format: prometheus.io "Exposition formats", version 0.0.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, TypeVar

import msgspec

MAX_SAMPLES = 2_000
"""Of one metric. More are left out, and counted: each is a time series that Prometheus keeps."""
LEFT_OUT = "bgpd_metrics_samples_left_out"
CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"

Samples = Iterable[tuple[Sequence[str], float]]
"""Values of the labels, and the number."""

_Value = TypeVar("_Value")


class Histogram(msgspec.Struct, frozen=True):
    """A distribution: upper bounds, the count of each bucket (one more than bounds, not cumulative), and the sum."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Metric(msgspec.Struct, frozen=True):
    """What a metric is called, and how it is read. `kind`: "gauge", "counter" or "histogram"."""

    name: str
    kind: str
    help: str
    labels: tuple[str, ...]
    read: Callable[[], Samples | Histogram | float]


class Registry:
    """Named metrics. Names start with "bgpd_" and end with their unit; those of counters end with "_total"."""

    def __init__(self) -> None:
        self._metrics: list[Metric] = []
        self._known: list[list[Any]] = []
        self._left_out: dict[str, int] = {}
        self.gauge(
            LEFT_OUT,
            f"Samples that the metrics of this answer lack: of each no more than {MAX_SAMPLES:,} are given.",
            lambda: sum(self._left_out.values()),
        )

    @property
    def metrics(self) -> Sequence[Metric]:
        """All, in the order in which they are given."""
        return [*self._metrics[1:], self._metrics[0]]

    def gauge(self, name: str, help: str, read: Callable[[], Samples | float], *, labels: tuple[str, ...] = ()) -> None:
        """A number that goes up and down, or one for each set of values of the labels."""
        self._metrics.append(Metric(name, "gauge", help, labels, read))

    def counter(
        self, name: str, help: str, read: Callable[[], Samples | float], *, labels: tuple[str, ...] = ()
    ) -> None:
        """A number that only rises, or one for each set of values of the labels."""
        self._metrics.append(Metric(name, "counter", help, labels, read))

    def histogram(self, name: str, help: str, read: Callable[[], Histogram]) -> None:
        """A distribution without labels."""
        self._metrics.append(Metric(name, "histogram", help, (), read))

    def once(self, read: Callable[[], _Value]) -> Callable[[], _Value]:
        """What several metrics read: it is read once for each answer."""
        known: list[_Value] = []
        self._known.append(known)

        def shared() -> _Value:
            if not known:
                known.append(read())
            return known[0]

        return shared

    def render(self) -> Iterator[str]:
        """All metrics as text, one at a time, each with its HELP and TYPE."""
        self._forget()
        for metric in self.metrics:
            yield "\n".join(self._lines(metric)) + "\n"
        self._forget()

    def _forget(self) -> None:
        for known in self._known:
            known.clear()

    def _lines(self, metric: Metric) -> Iterator[str]:
        name = metric.name
        yield f"# HELP {name} {_escape(metric.help)}"
        yield f"# TYPE {name} {metric.kind}"
        value = metric.read()
        if isinstance(value, Histogram):
            yield from _histogram_lines(name, value)
        elif isinstance(value, int | float):
            yield f"{name} {_number(value)}"
        else:
            samples = iter(value)
            for values, sample in islice(samples, MAX_SAMPLES):
                yield f"{name}{_label_text(metric.labels, values)} {_number(sample)}"
            self._left_out[name] = sum(1 for _ in samples)


def _histogram_lines(name: str, value: Histogram) -> Iterable[str]:
    seen = 0
    for bound, count in zip((*map(_number, value.bounds), "+Inf"), value.counts, strict=True):
        seen += count
        yield f'{name}_bucket{{le="{bound}"}} {seen}'
    yield f"{name}_sum {_number(value.total)}"
    yield f"{name}_count {seen}"


def _label_text(names: Sequence[str], values: Sequence[str]) -> str:
    pairs = zip(names, values, strict=True)
    return "{" + ",".join(f'{name}="{_escape(value, quotes=True)}"' for name, value in pairs) + "}"


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
