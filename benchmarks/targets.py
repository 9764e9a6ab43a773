"""What bgpd must reach, and whether the figures of a run reach it. Ratios are of medians of one run on one machine."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import msgspec

from benchmarks import peers
from benchmarks.cases import (
    announce,
    bfd,
    churn,
    failover,
    feed,
    idle,
    internet_churn,
    internet_failover,
    internet_load,
)
from benchmarks.internet_table import InternetTable
from benchmarks.results import Summary

DISTINCT_100K = "load 100k IPv4 /32, 1 leaf, as many attribute sets"
LOAD_1M = "load 1M IPv4 /32, 1 leaf"
LOAD_1M_ECMP = "load 1M IPv4 /32, 2 leaves"
INTERNET, INTERNET_ECMP = (internet_load.case_name(InternetTable(count=1_000_000), leaves) for leaves in (1, 2))
_V6 = InternetTable(kind="internet-v6", count=1_000_000, sets=1)
LENGTHS_V6, LENGTHS_V6_ECMP = (internet_load.case_name(_V6, leaves) for leaves in (1, 2))
INTERNET_CHURN = internet_churn.case_name(1_000_000)
INTERNET_FAILOVER = internet_failover.case_name(1_000_000)
SINGLE = f"announce single routes, {announce.BY_COMMAND}"
_EVPN = ("evpn-load 100k, type 2, distinct labels", "evpn-load 100k, type 5, distinct labels")


class Verdict(msgspec.Struct, frozen=True, kw_only=True):
    """A target, what was reached, whether that is enough, and the peer's figure in the same run ("" if none)."""

    target: str
    reached: float
    unit: str
    ok: bool
    beside: str = ""


Measure = Callable[[Summary], float | None]
Beside = tuple[str, str, str]
"""Case, contestant and figure of a peer."""


class _Target(msgspec.Struct, frozen=True, kw_only=True):
    """At most `limit`, or at least that much with `at_least`."""

    text: str
    measure: Measure
    limit: float
    unit: str
    at_least: bool = False
    beside: Beside | None = None


def verdicts(summary: Summary) -> Iterator[Verdict]:
    """All targets for which something was measured, in the order of docs/performance.md."""
    for target in _TARGETS:
        reached = target.measure(summary)
        if reached is None:
            continue
        yield Verdict(
            target=target.text,
            reached=reached,
            unit=target.unit,
            ok=reached >= target.limit if target.at_least else reached <= target.limit,
            beside=_beside(summary, target.beside),
        )


def _beside(summary: Summary, beside: Beside | None) -> str:
    if beside is None or (value := summary.median(*beside)) is None:
        return ""
    _, contestant, figure = beside
    return f"{contestant} {value:,.3g} {_UNITS.get(figure, '')}".strip()


_UNITS = {"seconds": "s", "milliseconds": "ms", "lag_p99_ms": "ms", "peak_mb": "MB", "cpu_percent": "%"}


def _ratio(case: str, over: str, under: str, figure: str = "seconds") -> Measure:
    def measure(summary: Summary) -> float | None:
        upper, lower = summary.median(case, over, figure), summary.median(case, under, figure)
        return None if upper is None or not lower else upper / lower

    return measure


def _value(
    text: str, case: str, figure: str, limit: float, *, unit: str = "", scale: float = 1.0, than: str = ""
) -> _Target:
    """bgpd's own figure, at most `limit`; `than`: whose figure is shown beside it."""

    def measure(summary: Summary) -> float | None:
        value = summary.median(case, peers.BGPD, figure)
        return None if value is None else value * scale

    beside = (case, than, figure) if than else None
    unit = unit or _UNITS.get(figure, "")
    return _Target(text=text, measure=measure, limit=limit, unit=unit, beside=beside)


def _faster(text: str, case: str, factor: float, *, than: str = "BIRD", figure: str = "seconds") -> _Target:
    """The other's time is at least `factor` times bgpd's."""
    measure = _ratio(case, than, peers.BGPD, figure)
    return _Target(text=text, measure=measure, limit=factor, unit="x", at_least=True, beside=(case, than, figure))


def _at_most(
    text: str, case: str, factor: float, *, than: str = "BIRD", figure: str = "seconds", name: str = peers.BGPD
) -> _Target:
    """bgpd's figure is at most `factor` times the other's."""
    measure = _ratio(case, name, than, figure)
    return _Target(text=text, measure=measure, limit=factor, unit="x", beside=(case, than, figure))


def _worst(figure: str, *cases: str) -> Measure:
    """The worst of all runs of these cases, or of all cases."""

    def measure(summary: Summary) -> float | None:
        values = (value for value, case in summary.every(peers.BGPD, figure) if not cases or case in cases)
        return max(values, default=None)

    return measure


def _failover_spread(summary: Summary) -> float | None:
    medians = [summary.median(f"failover {size}, {failover.RESET}", peers.BGPD, "seconds") for size in ("10k", "1M")]
    return None if medians[0] is None or medians[1] is None else abs(medians[1] - medians[0]) * 1000


def _evpn_rate(summary: Summary) -> float | None:
    rates = [rate for case in _EVPN if (rate := summary.median(case, peers.BGPD, "routes_per_s")) is not None]
    return min(rates, default=None)


def _failover_ms(size: str, how: str) -> _Target:
    case = f"failover {size}, {how}"
    return _value(f"{case}: within 5 ms", case, "seconds", 5.0, unit="ms", scale=1000.0, than="BIRD")


_COUNTED = "failover 100k, messages counted"
_TARGETS: tuple[_Target, ...] = (
    _at_most("100k routes, each with attributes of its own: at most BIRD's time", DISTINCT_100K, 1.0),
    _at_most("the same, bgpd as plain Python: at most 2 x BIRD's time", DISTINCT_100K, 2.0, name=peers.PLAIN),
    _at_most("the same: at most 2 x BIRD's memory", DISTINCT_100K, 2.0, figure="peak_mb"),
    _faster("Internet table 1M, one leaf: at least 1.3 x faster than BIRD", INTERNET, 1.3),
    _faster("Internet table 1M, two leaves: at least 1.3 x faster than BIRD", INTERNET_ECMP, 1.3),
    _at_most("Internet table 1M, one leaf: at most 2 x BIRD's memory", INTERNET, 2.0, figure="peak_mb"),
    _at_most("Internet table 1M, two leaves: at most 2 x BIRD's memory", INTERNET_ECMP, 2.0, figure="peak_mb"),
    _faster("1M equal routes, one leaf: at least 2.2 x faster than BIRD", LOAD_1M, 2.2),
    _at_most("1M equal routes, one leaf: at most 1.3 x the raw kernel limit", LOAD_1M, 1.3, than=peers.RAW),
    _faster("1M equal routes, one leaf: at least 8 x faster than FRR", LOAD_1M, 8.0, than="FRR"),
    _faster("1M equal routes, two leaves: at least 2.8 x faster than BIRD", LOAD_1M_ECMP, 2.8),
    _faster("1M IPv6 of real lengths, one leaf: at least 2.2 x faster than BIRD", LENGTHS_V6, 2.2),
    _at_most("1M IPv6 of real lengths, one leaf: at most 1.3 x the raw kernel limit", LENGTHS_V6, 1.3, than=peers.RAW),
    _faster("1M IPv6 of real lengths, two leaves: at least 2.8 x faster than BIRD", LENGTHS_V6_ECMP, 2.8),
    _Target(
        text="EVPN 100k, type 2 and 5, distinct labels and MACs: at least 400k routes/s",
        measure=_evpn_rate,
        limit=400_000.0,
        unit="routes/s",
        at_least=True,
        beside=(_EVPN[0], "FRR", "routes_per_s"),
    ),
    _value("Internet churn, 5k updates/s: below 15% of a core", INTERNET_CHURN, "cpu_percent", 15.0, than="BIRD"),
    _value("Internet churn, 5k updates/s: lag p99 below 20 ms", INTERNET_CHURN, "lag_p99_ms", 20.0, than="BIRD"),
    _value(
        "Internet table 1M, one of two leaves lost: kernel right within 5 ms",
        INTERNET_FAILOVER,
        "seconds",
        5.0,
        unit="ms",
        scale=1000.0,
        than="BIRD",
    ),
    _at_most(
        "Internet table 1M, one of two leaves lost: settled within BIRD's time",
        INTERNET_FAILOVER,
        1.0,
        figure="settled_s",
    ),
    _at_most("single `ip route add`, p50: at most 1.05 x BIRD's time", SINGLE, 1.05, figure="milliseconds"),
    _Target(
        text="event loop held for at most 10 ms of its own CPU time, 99.99% of holds of a churn",
        measure=_worst("loop_cpu_p9999_ms", INTERNET_CHURN, churn.CASE),
        limit=10.0,
        unit="ms",
    ),
    _Target(
        text="event loop held for at most 20 ms of its own CPU time, in all cases",
        measure=_worst("loop_cpu_ms"),
        limit=20.0,
        unit="ms",
    ),
    _value("100k equal routes, one leaf: under 1 s", "load 100k IPv4 /32, 1 leaf", "seconds", 1.0, than="BIRD"),
    _value("1M equal routes, two leaves: at most 300 MB", LOAD_1M_ECMP, "peak_mb", 300.0, than="BIRD"),
    _failover_ms("1M", failover.RESET),
    _failover_ms("1M", failover.LINK_DOWN),
    _Target(
        text="failover 1M, silent death under BFD of 100 ms x 3: kernel right within 320 ms, the worst run",
        measure=_worst("seconds", failover.silent_case(1_000_000)),
        limit=0.32,
        unit="s",
        beside=(failover.silent_case(1_000_000), "BIRD", "seconds"),
    ),
    _Target(
        text="BFD of 100 ms x 3 under a load of 1M from two leaves, busy cores, restarts: no flap",
        measure=_worst("bfd_flaps", bfd.load_case(1_000_000), bfd.BUSY, bfd.restart_case(100_000)),
        limit=0.0,
        unit="flaps",
    ),
    _Target(
        text="the same: longest gap between two packets below 200 ms",
        measure=_worst("milliseconds", bfd.load_case(1_000_000), bfd.BUSY, bfd.restart_case(100_000)),
        limit=200.0,
        unit="ms",
    ),
    _value("BFD process, idle, two sessions: at most 12 MB", idle.BFD_CASE, "resident_mb", 12.0, than="FRR"),
    _value("BFD process, idle, two sessions: at most 0.3% of a core", idle.BFD_CASE, "cpu_percent", 0.3, than="FRR"),
    _Target(text="failover: 10k and 1M within 2 ms of each other", measure=_failover_spread, limit=2.0, unit="ms"),
    _value("failover 100k: no route rewritten", _COUNTED, "route_writes", 0.0, unit="routes"),
    _value("failover 100k: one nexthop deleted, once", _COUNTED, "nexthop_deletes", 1.0, unit="messages"),
    _at_most("announce 10k: at most 1.3 x BIRD's time", "announce 10k kernel routes", 1.3),
    _value("feed 10k by MQTT: heard within 2 s of the last", feed.burst_case(feed.MQTT), "seconds", 2.0),
    _value("feed 10k by API: heard within 2 s of the last", feed.burst_case(feed.API), "seconds", 2.0),
    _value("single MQTT claim heard, p50: at most 10 ms", feed.single_case(feed.MQTT), "milliseconds", 10.0),
    _value("churn, 20k next hops/s: lag p99 under 50 ms", churn.CASE, "lag_p99_ms", 50.0, than="BIRD"),
    _value("restart 1M: no route rewritten", "restart 1M", "route_writes", 0.0, unit="routes"),
    _value("idle: under 50 MB", idle.CASE, "resident_mb", 50.0, unit="MB", than="BIRD"),
    _value("idle: under 0.5% of a core", idle.CASE, "cpu_percent", 0.5, than="BIRD"),
)
