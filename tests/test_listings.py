"""What the API serves of the parts: which narrowing is refused, what is listed, and which counts stand beside it."""

from __future__ import annotations

from types import SimpleNamespace
from typing import Any

import pytest

from bgpd.advertised import Advertised
from bgpd.api.backend import Rejected
from bgpd.config.load import parse_config
from bgpd.journal.journal import Journal
from bgpd.journal.store import Sought
from bgpd.listings import DaemonBackend
from bgpd.log import EventRing
from bgpd.model.iana import Family
from bgpd.model.views.queries import ViewQuery
from bgpd.model.views.sessions import NeighborView
from bgpd.runtime.turns import Walks
from tests.rib.build import V4, Recorder, attributes, configuration, hop, key, leaf, session

V6 = Family.IPV6_UNICAST
CONFIG = parse_config(
    """
[router]
asn = 65203
router_id = "10.255.1.1"
[[neighbor]]
name = "leaf1"
address = "10.0.1.2"
asn = 65201
import = "all"
[[vrf]]
name = "blue"
table = 1001
vni = 5001
""",
    "x.toml",
)[0]


PROBLEMS = {"blue": "table 1001 belongs to the VRF device tenant: choose another"}


def neighbor_view(number: int) -> NeighborView:
    asns = {"asn": 65201, "local_asn": 65203}
    return NeighborView(
        name=f"leaf{number}", address=f"10.0.{number}.2", interface="", state="established", since=0.0, **asns
    )


class Rig:
    """A backend over a real RIB with routes of leaf1 and leaf2, and stand-ins for the other parts."""

    def __init__(self) -> None:
        recorder = Recorder(configuration(session("leaf1"), session("leaf2")))
        sources = [recorder.up(leaf(number), session(f"leaf{number}")) for number in (1, 2)]
        recorder.announce(sources[0], attributes(65201), hop("10.0.1.2"), "10.9.0.0/16", "10.9.1.0/24", "10.8.0.0/16")
        recorder.announce(sources[1], attributes(65201), hop("10.0.2.2"), "10.9.0.0/16")
        recorder.turn()
        self.rib = recorder.rib
        self.views = [neighbor_view(number) for number in (1, 2, 3)]
        self.services: dict[str, Any] = {}
        claims = SimpleNamespace(views=lambda: iter(()))
        services = SimpleNamespace(names=lambda: list(self.services), view=lambda name: self.services[name])
        routing: Any = SimpleNamespace(
            rib=self.rib,
            sources={source.name: source for source in sources},
            speaker=SimpleNamespace(neighbor_views=lambda: self.views),
            tables=SimpleNamespace(fibs={}, vrfs=SimpleNamespace(problem=PROBLEMS.get)),
            workloads=SimpleNamespace(services=services, claims=claims, find=lambda _: None),
            evpn=SimpleNamespace(),
        )

        async def unused() -> Any: ...

        self.backend = DaemonBackend(
            routing,
            walks=Walks(failed=lambda error: None),
            events=EventRing(),
            journal=Journal(None, max_bytes=0, events=EventRing()),
            config=lambda: CONFIG,
            health=lambda: SimpleNamespace(),  # type: ignore[arg-type, return-value]
            drain=SimpleNamespace(reason=str),  # type: ignore[arg-type]
            past=SimpleNamespace(),  # type: ignore[arg-type]
            metrics=str,
            reload=unused,
            confirm=unused,
            would_be=lambda config: (config, []),
            rules=dict,
            started=unused,
            upgrade=unused,
        )

    def listed(self, listing: str, **query: Any) -> list[Any]:
        return [view for view in self.backend.listings[listing](ViewQuery(**query)) if view is not None]

    def prefixes(self, **query: Any) -> list[str]:
        return [view.prefix for view in self.listed("routes", **query)]


@pytest.fixture
def rig() -> Rig:
    return Rig()


@pytest.mark.parametrize(
    "listing", ["neighbors", "routes", "fib", "workloads", "aggregates", "services", "evpn", "vrfs"]
)
def test_what_is_not_there_is_refused_and_not_answered_with_nothing(rig: Rig, listing: str) -> None:
    with pytest.raises(Rejected, match='there is no VRF "green"') as refused:
        rig.listed(listing, vrf="green")
    assert refused.value.status == 404
    with pytest.raises(Rejected, match='there is no neighbor "leaf9"') as refused:
        rig.listed(listing, neighbor="leaf9")
    assert refused.value.status == 404


@pytest.mark.parametrize("neighbor", ["leaf1", "10.0.1.2", "workload", "aggregate", "evpn"])
def test_neighbors_are_known_by_name_and_address_and_own_sources_by_name(rig: Rig, neighbor: str) -> None:
    rig.listed("routes", neighbor=neighbor)


@pytest.mark.parametrize(
    ("query", "found"),
    [
        ({}, ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]),
        ({"vrf": ""}, ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]),
        ({"vrf": "blue"}, []),
        ({"family": "ipv4-unicast"}, ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]),
        ({"family": "ipv6-unicast"}, []),
        ({"neighbor": "leaf2"}, ["10.9.0.0/16"]),
        ({"prefix": "10.9.0.0/16"}, ["10.9.0.0/16"]),
        ({"prefix": "10.9.0.0/16", "longer_prefixes": True}, ["10.9.0.0/16", "10.9.1.0/24"]),
        ({"prefix": "10.0.0.0/8"}, []),
        ({"prefix": "10.0.0.0/8", "longer_prefixes": True}, ["10.8.0.0/16", "10.9.0.0/16", "10.9.1.0/24"]),
        ({"prefix": "::/0", "longer_prefixes": True}, []),
        ({"prefix": "10.9.0.0/16", "family": "ipv6-unicast"}, []),
    ],
)
def test_routes_are_narrowed_as_asked(rig: Rig, query: dict[str, Any], found: list[str]) -> None:
    assert sorted(rig.prefixes(**query)) == found


def test_neighbors_are_shown_with_the_counts_of_their_routes(rig: Rig) -> None:
    first, second, absent = rig.backend.neighbors()
    assert first.families["ipv4-unicast"].received == 3
    assert second.families["ipv4-unicast"].received == 1
    assert absent.families == {}


def test_routes_that_have_no_next_hop_of_this_host_are_announced_to_nobody(rig: Rig) -> None:
    rig.views[0].without_next_hop = ["ipv4-unicast"]
    first, second, _ = rig.backend.neighbors()
    assert first.families["ipv4-unicast"].announced == 0
    assert second.families["ipv4-unicast"].received == 1


def test_service_that_goes_while_it_is_listed_is_left_out(rig: Rig) -> None:
    rig.services = {"web": SimpleNamespace(name="web", announced=False), "gone": None}
    assert [view.name for view in rig.listed("services")] == ["web"]


@pytest.mark.parametrize("listing", ["received", "advertised"])
def test_session_that_ends_while_its_routes_are_listed_is_left_out(
    rig: Rig, listing: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(Advertised, "_sent_view", lambda *asked: None)
    views = rig.backend.listings[listing](ViewQuery(prefix="10.9.0.0/16"))
    next(views)
    for state in rig.rib.received.states():
        list(rig.rib.received.neighbor_down(state.source))
    assert not any(views)


async def test_explanation_of_a_vrf_that_is_not_there_is_refused(rig: Rig) -> None:
    with pytest.raises(Rejected, match='there is no VRF "green"'):
        await rig.backend.explain(b"\x0a\0\0\1", "green")


async def test_events_of_a_vrf_that_is_not_there_and_was_not_are_refused(rig: Rig) -> None:
    with pytest.raises(Rejected, match='there is no VRF "green"'):
        await rig.backend.past_events(Sought(vrf="green"))
    assert await rig.backend.past_events(Sought(vrf="blue")) == []


async def test_a_vrf_that_the_kernel_does_not_have_is_told_with_the_reason(rig: Rig) -> None:
    why = r'VRF "blue" has no kernel table: table 1001 belongs to the VRF device tenant: choose another'
    with pytest.raises(Rejected, match=why):
        await rig.backend.explain(b"\x0a\0\0\1", "blue")
    with pytest.raises(Rejected, match=why):
        await rig.backend.why_not((V4, key("10.9.0.0/16")), "blue", "")


def test_objects_are_those_of_the_local_api_where_it_is_configured(rig: Rig) -> None:
    assert rig.backend.objects == {}


def test_route_without_a_kernel_table_says_nothing_of_the_kernel(rig: Rig) -> None:
    (view,) = rig.listed("routes", prefix="10.8.0.0/16")
    assert (view.fib, view.family) == ("", V4.value)
    assert rig.rib.decision("", V4, key("10.8.0.0/16")) is not None
