"""What bgpd must reach, and whether the figures of a run reach it. Ratios are of medians of one run on one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from benchmarks import peers
from benchmarks.cases import announce, churn, failover, feed, idle
from benchmarks.results import Summary

LOAD_1M = "load 1M IPv4 /32, 1 leaf"
LOAD_1M_ECMP = "load 1M IPv4 /32, 2 leaves"


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A target, what was reached (None: not measured), and whether that is enough."""

    target: str
    reached: float | None
    unit: str
    ok: bool


def verdicts(summary: Summary) -> Iterator[Verdict]:
    """All targets for which something was measured, in the order of docs/performance.md."""
    for target, measure, unit, enough in _TARGETS:
        reached = measure(summary)
        if reached is not None:
            yield Verdict(target=target, reached=reached, unit=unit, ok=enough(reached))


def _median(case: str, figure: str, contestant: str = "bgpd") -> Callable[[Summary], float | None]:
    return lambda summary: summary.median(case, contestant, figure)


def _ratio(case: str, over: str, under: str, figure: str = "seconds") -> Callable[[Summary], float | None]:
    def measure(summary: Summary) -> float | None:
        upper, lower = summary.median(case, over, figure), summary.median(case, under, figure)
        return None if upper is None or not lower else upper / lower

    return measure


def _worst_stall(summary: Summary) -> float | None:
    return max((value for value, _ in summary.every("bgpd", "loop_stall_ms")), default=None)


def _failover_spread(summary: Summary) -> float | None:
    medians = [summary.median(f"failover {size}, {failover.RESET}", "bgpd", "seconds") for size in ("10k", "1M")]
    return None if medians[0] is None or medians[1] is None else abs(medians[1] - medians[0]) * 1000


def _evpn_rate(summary: Summary) -> float | None:
    rates = [
        rate
        for case in summary.cases("evpn-load")
        if (rate := summary.median(case, "bgpd", "routes_per_s")) is not None
    ]
    return min(rates, default=None)


def _failover_ms(size: str, how: str) -> Callable[[Summary], float | None]:
    def measure(summary: Summary) -> float | None:
        seconds = summary.median(f"failover {size}, {how}", "bgpd", "seconds")
        return None if seconds is None else seconds * 1000

    return measure


def _at_most(limit: float) -> Callable[[float], bool]:
    return lambda value: value <= limit


def _at_least(limit: float) -> Callable[[float], bool]:
    return lambda value: value >= limit


_SINGLE = f"announce single routes, {announce.BY_COMMAND}"
_TARGETS: tuple[tuple[str, Callable[[Summary], float | None], str, Callable[[float], bool]], ...] = (
    ("100k IPv4 routes, one leaf: under 1 s", _median("load 100k IPv4 /32, 1 leaf", "seconds"), "s", _at_most(1.0)),
    ("1M, one leaf: at most 1.3 x the raw kernel limit", _ratio(LOAD_1M, "bgpd", peers.RAW), "x", _at_most(1.3)),
    ("1M, one leaf: at least 2.2 x faster than BIRD", _ratio(LOAD_1M, "BIRD", "bgpd"), "x", _at_least(2.2)),
    ("1M, one leaf: at least 8 x faster than FRR", _ratio(LOAD_1M, "FRR", "bgpd"), "x", _at_least(8.0)),
    ("1M, two leaves: at least 2.8 x faster than BIRD", _ratio(LOAD_1M_ECMP, "BIRD", "bgpd"), "x", _at_least(2.8)),
    ("1M, two leaves: peak memory at most 300 MB", _median(LOAD_1M_ECMP, "peak_mb"), "MB", _at_most(300.0)),
    ("evpn-load: at least 250k routes/s", _evpn_rate, "routes/s", _at_least(250_000.0)),
    ("failover 1M, TCP reset: within 5 ms", _failover_ms("1M", failover.RESET), "ms", _at_most(5.0)),
    ("failover 1M, link down: within 5 ms", _failover_ms("1M", failover.LINK_DOWN), "ms", _at_most(5.0)),
    ("failover: 10k and 1M within 2 ms of each other", _failover_spread, "ms", _at_most(2.0)),
    (
        "failover 100k: no route rewritten",
        _median("failover 100k, messages counted", "route_writes"),
        "routes",
        _at_most(0.0),
    ),
    (
        "failover 100k: one nexthop deleted, once",
        _median("failover 100k, messages counted", "nexthop_deletes"),
        "messages",
        _at_most(1.0),
    ),
    (
        "announce 10k: at most 1.3 x BIRD's time",
        _ratio("announce 10k kernel routes", "bgpd", "BIRD"),
        "x",
        _at_most(1.3),
    ),
    ("single `ip route add`, p50: at most 5 ms", _median(_SINGLE, "milliseconds"), "ms", _at_most(5.0)),
    (
        "single `ip route add`, p50: no worse than BIRD",
        _ratio(_SINGLE, "bgpd", "BIRD", "milliseconds"),
        "x",
        _at_most(1.0),
    ),
    (
        "feed 10k by MQTT: heard within 2 s of the last",
        _median(feed.burst_case(feed.MQTT), "seconds"),
        "s",
        _at_most(2.0),
    ),
    (
        "feed 10k by API: heard within 2 s of the last",
        _median(feed.burst_case(feed.API), "seconds"),
        "s",
        _at_most(2.0),
    ),
    (
        "single MQTT claim heard, p50: at most 10 ms",
        _median(feed.single_case(feed.MQTT), "milliseconds"),
        "ms",
        _at_most(10.0),
    ),
    ("churn: lag p99 under 50 ms", _median(churn.CASE, "lag_p99_ms"), "ms", _at_most(50.0)),
    ("restart 1M: no route rewritten", _median("restart 1M", "route_writes"), "routes", _at_most(0.0)),
    ("event loop never held for over 20 ms", _worst_stall, "ms", _at_most(20.0)),
    ("idle: under 64 MB", _median(idle.CASE, "resident_mb"), "MB", _at_most(64.0)),
    ("idle: under 0.5% of a core", _median(idle.CASE, "cpu_percent"), "%", _at_most(0.5)),
)
