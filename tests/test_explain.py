"""The verdict of `bgpd explain`: one true sentence in each case, and whether kernel and RIB agree."""

from __future__ import annotations

import pytest

from bgpd.explain import _verdict, _what_may_be_missing
from bgpd.model.views.explained import ExplainView
from bgpd.model.views.routes import CandidateView, FibRouteView, KernelRouteView, NextHopView, RouteView, WorkloadView
from bgpd.model.views.sessions import NeighborView
from tests.rib.build import Recorder, attributes, configuration, hop, leaf, session

HOP1 = NextHopView(address="10.0.1.2", interface="eth0")
HOP2 = NextHopView(address="10.0.2.2", interface="eth1")
DEAD = NextHopView(address="10.0.2.2", interface="eth1", live=False, why="eth1 is down")
BEST = CandidateView(source="leaf1", kind="ebgp", role="best", heard_at=1.0)
ALSO = CandidateView(source="leaf2", kind="ebgp", role="multipath", heard_at=1.0)


def kernel(*hops: NextHopView, prefix: str = "10.9.0.0/16", **fields: object) -> KernelRouteView:
    values: dict[str, object] = {"table": 254, "protocol": "bgpd", "metric": 20, "ours": True, **fields}
    return KernelRouteView(prefix=prefix, next_hops=list(hops), **values)  # type: ignore[arg-type]


def route(*candidates: CandidateView, prefix: str = "10.9.0.0/16", fib: str = "installed") -> RouteView:
    return RouteView(family="ipv4-unicast", prefix=prefix, fib=fib, candidates=list(candidates))


def fib(state: str = "installed", error: str = "") -> FibRouteView:
    return FibRouteView(family="ipv4-unicast", prefix="10.9.0.0/16", table=254, state=state, error=error)


def workload(**fields: object) -> WorkloadView:
    values: dict[str, object] = {"state": "announced", "announced": True, "interface": "pod1", **fields}
    return WorkloadView(id="pod-a", source="static", prefix="10.9.0.5/32", since=1.0, **values)  # type: ignore[arg-type]


FOREIGN = kernel(HOP1, ours=False, protocol="250")
WAITS = workload(state="waiting", announced=False, reason="no interface pod1")


@pytest.mark.parametrize(
    ("parts", "said", "agrees"),
    [
        (
            {"kernel": kernel(HOP1, HOP2), "route": route(BEST, ALSO), "fib": fib()},
            "forwarded by 10.9.0.0/16 to 10.0.1.2%eth0, 10.0.2.2%eth1, as said by leaf1, leaf2",
            True,
        ),
        (
            {"kernel": kernel(HOP1, DEAD), "route": route(BEST, ALSO), "fib": fib()},
            "not used: 10.0.2.2%eth1 (eth1 is down)",
            False,
        ),
        ({"kernel": kernel(HOP1), "route": route(BEST), "fib": fib("pending")}, "forwarded by", False),
        ({"kernel": kernel(), "route": route(BEST), "fib": fib()}, "to nowhere", False),
        ({"kernel": kernel(HOP1), "route": None}, "but the RIB has no route of it", False),
        (
            {"kernel": kernel(HOP1, prefix="0.0.0.0/0"), "route": route(BEST)},
            "the kernel forwards by 0.0.0.0/0, but the RIB's best is 10.9.0.0/16",
            False,
        ),
        ({"kernel": kernel(table=255, ours=False)}, "is an address of this host", True),
        (
            {"kernel": kernel(prefix="10.9.0.5/32"), "workload": workload()},
            "workload pod-a on pod1 of this host, announced to the neighbors",
            True,
        ),
        (
            {"kernel": kernel(prefix="10.9.0.5/32"), "workload": WAITS},
            "not announced (waiting: no interface pod1)",
            True,
        ),
        ({"workload": WAITS}, "workload pod-a has it, but waiting: no interface pod1", True),
        ({"kernel": FOREIGN}, "protocol 250, which is not bgpd's", True),
        (
            {"kernel": kernel(ours=False, protocol="static", error="an unreachable route: packets are refused")},
            "10.9.0.0/16 of protocol static, which is not bgpd's, is an unreachable route: packets are refused",
            True,
        ),
        (
            {
                "kernel": FOREIGN,
                "route": route(BEST, fib="blocked"),
                "fib": fib("blocked", error="another program's route"),
            },
            "stands before bgpd's route to the same prefix (another program's route)",
            True,
        ),
        (
            {"kernel": FOREIGN, "route": route(BEST, fib="blocked")},
            "stands before bgpd's route to the same prefix",
            True,
        ),
        ({"kernel": FOREIGN, "route": route(BEST)}, "stands before bgpd's route to the same prefix", False),
        (
            {"kernel": FOREIGN, "route": route(BEST, prefix="10.0.0.0/8")},
            "more specific than bgpd's 10.0.0.0/8",
            True,
        ),
        (
            {
                "kernel": kernel(HOP1, ours=False, protocol="250", prefix="0.0.0.0/0"),
                "route": route(BEST),
            },
            "though bgpd has 10.9.0.0/16",
            False,
        ),
        ({}, "no route: neither the kernel nor any neighbor knows a way to it", True),
        (
            {
                "route": route(
                    CandidateView(source="leaf1", kind="ebgp", role="rejected", reason="AS loop", heard_at=1.0)
                )
            },
            "no usable route: 10.9.0.0/16 was heard, but AS loop",
            True,
        ),
        ({"route": route()}, "no candidate is left", True),
        (
            {"route": route(BEST), "fib": fib("failed", "Network is unreachable")},
            "the RIB wants 10.9.0.0/16, but the kernel has no route: Network is unreachable",
            False,
        ),
        ({"route": route(BEST), "fib": fib("pending")}, "it is still on its way into the kernel", False),
        (
            {"kernel": kernel(error="the route drops what it matches"), "route": route(BEST)},
            "10.9.0.0/16 is a blackhole of bgpd's (an aggregate without this address): dropped",
            True,
        ),
        (
            {"kernel": kernel(error="the route drops what it matches"), "route": route(BEST), "workload": WAITS},
            "workload pod-a has it, but waiting: no interface pod1; 10.9.0.0/16 is a blackhole of bgpd's: dropped",
            True,
        ),
    ],
)
def test_verdict(parts: dict[str, object], said: str, agrees: bool) -> None:
    view = ExplainView(address="10.9.0.5", verdict="", agrees=True, **parts)  # type: ignore[arg-type]
    verdict, agreement = _verdict(view)
    assert said in verdict
    assert agreement is agrees


def test_what_nobody_announces_may_be_of_whom_was_not_heard_or_not_heard_out() -> None:
    config = session("leaf1", max_prefixes=1, max_prefixes_action="discard")
    recorder = Recorder(configuration(config, session("leaf2")))
    leaf1 = recorder.up(leaf(1), config)
    recorder.announce(leaf1, attributes(65201), hop("10.0.1.2"), "10.8.0.0/16", "10.9.0.0/16")

    def neighbor(name: str, state: str, **fields: str) -> NeighborView:
        return NeighborView(
            name=name, address="", interface="", asn=65201, local_asn=65203, state=state, since=0.0, **fields
        )

    up, refused = neighbor("leaf1", "established"), neighbor("leaf2", "active", last_error="Connection refused")
    guest = neighbor("guest", "idle", guest="metallb")
    assert _what_may_be_missing([up, refused, guest], recorder.rib) == (
        "; leaf2 is not established (active: Connection refused); routes of leaf1 beyond max_prefixes were discarded"
    )
    assert _what_may_be_missing([guest], recorder.rib) == ""
