"""Metrics in Prometheus' text format, read from the parts at the moment they are asked for.

Nothing is counted here: each metric is a callable that reads a number which its part keeps anyway, so that the hot path
knows nothing of metrics. Format: prometheus.io "Exposition formats", version 0.0.4.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import msgspec

Labels = tuple[tuple[str, str], ...]
Samples = Iterable[tuple[Labels, float]]

CONTENT_TYPE = "text/plain; version=0.0.4; charset=utf-8"


class Histogram(msgspec.Struct, frozen=True):
    """A distribution: upper bounds, the count of each bucket (one more than bounds, not cumulative), and the sum."""

    bounds: Sequence[float]
    counts: Sequence[int]
    total: float


class Registry:
    """Named metrics. Names start with "bgpd_" and end with their unit; those of counters end with "_total"."""

    def __init__(self) -> None:
        self._metrics: dict[str, tuple[str, str, Callable[[], Samples | Histogram | float]]] = {}

    def gauge(self, name: str, help: str, read: Callable[[], Samples | float]) -> None:
        """A number that goes up and down, or one per set of labels."""
        self._metrics[name] = ("gauge", help, read)

    def counter(self, name: str, help: str, read: Callable[[], Samples | float]) -> None:
        """A number that only rises, or one per set of labels."""
        self._metrics[name] = ("counter", help, read)

    def histogram(self, name: str, help: str, read: Callable[[], Histogram]) -> None:
        """A distribution without labels."""
        self._metrics[name] = ("histogram", help, read)

    def render(self) -> str:
        """All metrics as text, each with its HELP and TYPE."""
        lines: list[str] = []
        for name, (kind, help, read) in self._metrics.items():
            lines += (f"# HELP {name} {_escape(help)}", f"# TYPE {name} {kind}")
            value = read()
            if isinstance(value, Histogram):
                lines += _histogram_lines(name, value)
            elif isinstance(value, int | float):
                lines.append(f"{name} {_number(value)}")
            else:
                lines += (f"{name}{_label_text(labels)} {_number(sample)}" for labels, sample in value)
        return "\n".join(lines) + "\n"


def labels(**pairs: str) -> Labels:
    """Labels of a sample."""
    return tuple(pairs.items())


def _histogram_lines(name: str, value: Histogram) -> Iterable[str]:
    seen = 0
    for bound, count in zip((*map(_number, value.bounds), "+Inf"), value.counts, strict=True):
        seen += count
        yield f'{name}_bucket{{le="{bound}"}} {seen}'
    yield f"{name}_sum {_number(value.total)}"
    yield f"{name}_count {seen}"


def _label_text(labels: Labels) -> str:
    if not labels:
        return ""
    return "{" + ",".join(f'{name}="{_escape(value, quotes=True)}"' for name, value in labels) + "}"


def _escape(text: str, *, quotes: bool = False) -> str:
    text = text.replace("\\", "\\\\").replace("\n", "\\n")
    return text.replace('"', '\\"') if quotes else text


def _number(value: float) -> str:
    if value != value:
        return "NaN"
    if value in (float("inf"), float("-inf")):
        return "+Inf" if value > 0 else "-Inf"
    return str(int(value)) if value == int(value) else repr(float(value))
