"""Routing decides only what needs several parts: in which order a loss is told, who is left unread, who hears of what.

Each part is real until a test puts a list in its place, in which its calls are noted in order.
"""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest

from bgpd.config.load import parse_config
from bgpd.config.schema import Config
from bgpd.fib.dataplane import Dataplane
from bgpd.history.recorder import History
from bgpd.kernel.monitor import KernelMonitor
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelRoute, RouteChanged
from bgpd.model.next_hop import NextHop
from bgpd.model.source import Source, SourceKind
from bgpd.model.workload import ClaimInfo, Communities
from bgpd.reconfigure import reconfigure
from bgpd.rib.policy import PolicyError
from bgpd.routing import Routing
from bgpd.runtime.descriptors import Shortage
from bgpd.runtime.turns import Walks
from tests.message.decoding import negotiated

V4 = Family.IPV4_UNICAST
KEY = b"\x20\x0a\x40\x01\x05"
TEXT = """
[router]
asn = 65203
router_id = "10.255.1.1"
[[neighbor]]
name = "leaf1"
address = "10.0.1.2"
asn = 65201
import = "all"
"""
BLUE = '[[vrf]]\nname = "blue"\ntable = 1001\nvni = 5001\n'


def config(text: str = TEXT) -> Config:
    return parse_config(text, "x.toml")[0]


class Noted:
    """Stands for a part: notes its calls as "part.method", and answers `answers[method]`, else None."""

    def __init__(self, name: str, calls: list[tuple[Any, ...]], **answers: Any) -> None:
        self._name = name
        self._calls = calls
        self._answers = answers

    def __getattr__(self, method: str) -> Any:
        answer = self._answers.get(method)
        if isinstance(answer, Noted):
            return answer

        def call(*arguments: Any, **named: Any) -> Any:
            self._calls.append((f"{self._name}.{method}", *arguments))
            return answer(*arguments) if callable(answer) else answer

        return call


class Rig:
    """A Routing; `calls` is what it told the parts."""

    def __init__(self) -> None:
        self.calls: list[tuple[Any, ...]] = []
        self.changes = 0
        self.routing = Routing(
            config(),
            dataplane=Dataplane(KernelMonitor()),
            walks=Walks(failed=lambda error: None),
            nlri_decoders={},
            hostname="host1",
            changed=self._changed,
            memory_freed=lambda: None,
            shortage=Shortage(),
            history=History(None, max_bytes=0, config=config().rib),
        )

    def _changed(self) -> None:
        self.changes += 1

    def note(self, **answers: dict[str, Any]) -> None:
        """Note the calls of these parts from now on."""
        for part, given in answers.items():
            setattr(self.routing, part, Noted(part, self.calls, **given))

    def names(self) -> list[str]:
        return [name for name, *_ in self.calls]


def leaf(number: int, *, router_id: bytes = b"\x0a\0\0\1") -> Source:
    address = bytes((10, 0, number, 2))
    return Source(name=f"leaf{number}", kind=SourceKind.EBGP, asn=65201, address=address, router_id=router_id)


def walk() -> Iterator[None]:
    yield


@pytest.fixture
async def rig() -> Rig:
    return Rig()


LOST = {NextHop(bytes((10, 0, 1, 2)))}


def received(rig: Rig, *, counts: dict[str, int] | None = None, lost: set[NextHop] | None = None) -> Noted:
    counted = counts or {}
    return Noted(
        "received",
        rig.calls,
        next_hops_of_only={"": lost} if lost else {},
        count=lambda source: counted.get(source.name, 0),
        stale=Noted("stale", rig.calls, deadline=None),
        neighbor_back=[],
        session_lost=lambda source: [(source, V4)],
        is_kept=False,
        kept_of=(0, 0),
        remove=walk(),
        networks_changed=walk(),
    )


def with_neighbors(rig: Rig, *sources: Source, **fields: Any) -> None:
    rig.note(rib={"received": received(rig, **fields)}, tables={}, evpn={}, workloads={}, speaker={})
    for source in sources:
        rig.routing.session_established(source, negotiated(), config().neighbor[0])
    rig.calls.clear()
    rig.changes = 0


async def test_dead_next_hops_leave_the_kernel_before_any_route_is_looked_at(rig: Rig) -> None:
    one = leaf(1)
    with_neighbors(rig, one, lost=LOST)
    rig.routing.session_closed(one, "hold timer expired")
    names = rig.names()
    assert ("tables.next_hops_lost", "", LOST) in rig.calls
    calls = ["rib.commit_gathered", "tables.next_hops_lost", "evpn.neighbor_down", "received.remove"]
    assert [name for name in names if name in calls] == calls
    assert rig.routing.sources == {}
    assert rig.changes == 1


async def test_neighbor_whose_next_hops_others_have_too_costs_no_kernel_message(rig: Rig) -> None:
    one = leaf(1)
    with_neighbors(rig, one)
    rig.routing.session_closed(one, "hold timer expired")
    assert "tables.next_hops_lost" not in rig.names()


async def test_end_of_an_earlier_session_is_not_that_of_the_present_one(rig: Rig) -> None:
    former, present = leaf(1), leaf(1, router_id=b"\x0a\0\0\2")
    with_neighbors(rig, former, present)
    rig.routing.session_closed(former, "collision")
    assert rig.routing.sources == {"leaf1": present}
    assert ("evpn.neighbor_down", former) in rig.calls


async def test_sessions_that_close_at_the_end_take_nothing_from_the_kernel(rig: Rig) -> None:
    one = leaf(1)
    with_neighbors(rig, one, lost=LOST)
    rig.routing.ending = True
    rig.routing.session_closed(one, "shut down")
    assert rig.calls == []
    assert rig.routing.sources == {}


async def test_many_sessions_of_one_turn_are_told_to_workloads_once(rig: Rig) -> None:
    with_neighbors(rig)
    await asyncio.sleep(0)
    rig.calls.clear()
    for number in range(1, 5):
        rig.routing.session_established(leaf(number), negotiated(), config().neighbor[0])
    assert "workloads.neighbors_changed" not in rig.names()
    await asyncio.sleep(0)
    assert rig.names().count("workloads.neighbors_changed") == 1
    rig.routing.session_closed(leaf(9), "unknown")
    await asyncio.sleep(0)
    assert rig.names().count("workloads.neighbors_changed") == 2


@pytest.mark.parametrize(
    ("counts", "unread"),
    [
        ({"leaf1": 100_000, "leaf2": 10}, {"leaf1"}),
        ({"leaf1": 100_000, "leaf2": 100_000 - 4_096}, {"leaf1", "leaf2"}),
        ({"leaf1": 100_000, "leaf2": 100_000 - 4_097}, {"leaf1"}),
        ({"leaf1": 0, "leaf2": 0}, {"leaf1", "leaf2"}),
    ],
)
async def test_while_the_kernel_is_behind_who_leads_is_left_unread(
    rig: Rig, counts: dict[str, int], unread: set[str]
) -> None:
    with_neighbors(rig, leaf(1), leaf(2), counts=counts)
    for _ in range(2):
        rig.routing.kernel_is_behind({""})
    paused = [call for call in rig.calls if call[0] == "speaker.pause_reading"]
    assert paused == [("speaker.pause_reading", unread)], "once, as long as they are the same"
    rig.routing.kernel_caught_up()
    rig.routing.kernel_is_behind({"of no session"})
    assert [call[1] for call in rig.calls if call[0] == "speaker.pause_reading"] == [unread, (), unread]


async def test_while_the_kernel_is_behind_who_is_busy_is_left_unread_however_few_routes_it_has(rig: Rig) -> None:
    with_neighbors(rig, leaf(1), leaf(2), counts={"leaf1": 0, "leaf2": 100_000})
    rig.routing.kernel_is_behind({"leaf1", ""})
    rig.routing.kernel_is_behind({"leaf1", "leaf2"})
    assert [call[1] for call in rig.calls if call[0] == "speaker.pause_reading"] == [{"leaf1"}, {"leaf2"}]


async def test_withdrawn_workloads_are_told_to_neighbors_in_the_same_step(rig: Rig) -> None:
    """What bgpd is about to take from the kernel must not be announced a moment longer."""
    rig.note(rib={}, evpn={}, tables={})
    rig.routing.withdraw_workloads("blue", V4, [KEY])
    assert rig.names() == ["rib.withdraw_local", "evpn.workloads_withdrawn", "rib.flush"]
    rig.calls.clear()
    rig.routing.withdraw_workloads("", V4, [KEY])
    assert rig.names() == ["rib.withdraw_local", "rib.flush"]


@pytest.mark.parametrize(("vrf", "told"), [("", []), ("blue", ["evpn.workloads_announced"])])
async def test_workloads_of_a_vrf_are_announced_by_evpn_too(rig: Rig, vrf: str, told: list[str]) -> None:
    rig.note(rib={}, evpn={}, tables={"vrfs": Noted("vrfs", rig.calls)})
    rig.routing.announce_workloads(vrf, V4, [KEY], ClaimInfo())
    assert rig.names()[:1] == ["rib.announce_local"]
    assert [name for name in rig.names() if name.startswith("evpn")] == told


async def test_workloads_are_announced_with_what_a_guest_says(rig: Rig) -> None:
    rig.note(rib={})
    communities = Communities(standard=b"\xfe\0\0\1", large=b"\0\0\0\1" * 3)
    info = ClaimInfo(communities=communities, med=7, only_to_customer=64999)
    rig.routing.announce_workloads("", V4, [KEY], info)
    ((_, _, _, _, given),) = rig.calls
    assert (given.packed_communities, given.packed_large_communities) == (communities.standard, communities.large)
    assert (given.med, given.only_to_customer, given.as_path) == (7, 64999, ())


async def test_what_the_kernel_says_of_a_vrf_is_evpns_too(rig: Rig) -> None:
    rig.note(rib={}, evpn={})
    rig.routing.kernel_acknowledged("", V4, [KEY])
    assert rig.names() == ["rib.fib_acknowledged"]
    rig.routing.kernel_acknowledged("blue", V4, [KEY])
    assert rig.names()[1:] == ["rib.fib_acknowledged", "evpn.fib_acknowledged"]


@pytest.mark.parametrize(
    ("changes", "is_network"),
    [({}, True), ({"protocol": 3}, False), ({"table": 1001}, False), ({"gateway": b"\x0a\0\1\2"}, False)],
)
async def test_networks_that_neighbors_share_follow_the_kernel_s_routes_too(
    rig: Rig, changes: dict[str, Any], is_network: bool
) -> None:
    """That of an address goes after the word on the address: next hops in it must not be named any more."""
    with_neighbors(rig)
    route = KernelRoute(family=V4, key=b"\x18\x0a\0\1", table=254, protocol=2, interface="eth0")
    rig.routing._kernel_changed(RouteChanged(msgspec.structs.replace(route, **changes), gone=True))
    assert rig.names() == ["received.networks_changed"] * is_network


async def test_kernel_routes_are_swept_after_all_was_heard(rig: Rig) -> None:
    rig.note(evpn={}, tables={})
    rig.routing.converge()
    assert rig.routing.converged
    assert rig.names() == ["evpn.converged", "tables.sweep"]


# Another configuration


async def nothing(*_: object) -> None: ...


def reconfigurable(rig: Rig) -> None:
    vrfs = Noted("vrfs", rig.calls, add=nothing, remove=nothing)
    vrfs.problems = {}  # type: ignore[attr-defined]
    tables = Noted("tables", rig.calls)
    tables.vrfs = vrfs  # type: ignore[attr-defined]
    rig.routing.tables = tables  # type: ignore[assignment]
    rig.note(rib={"reconfigure": walk()}, evpn={}, speaker={}, workloads={"kernel": Noted("kernel", rig.calls)})


async def reconfigured(rig: Rig, text: str) -> list[str]:
    reconfigurable(rig)
    await reconfigure(rig.routing, config(text))
    return rig.names()


async def test_same_configuration_is_only_for_the_speaker_whose_password_files_may_differ(rig: Rig) -> None:
    assert await reconfigured(rig, TEXT) == ["speaker.reconfigure"]


async def test_which_address_is_the_loopback_is_known_before_routes_name_it(rig: Rig) -> None:
    names = await reconfigured(rig, TEXT.replace("[router]", '[router]\nloopbacks = ["10.255.0.0/16"]'))
    assert rig.routing.host.loopbacks == [(V4, b"\x10\x0a\xff")]
    assert "tables.set_preferred_source" in names


async def test_kernel_table_of_a_vrf_comes_before_all_that_use_it_and_goes_last(rig: Rig) -> None:
    names = await reconfigured(rig, TEXT + BLUE)
    assert names[0] == "vrfs.add"
    assert names[-1] == "vrfs.remove"
    assert {"evpn.reconfigure", "speaker.reconfigure", "workloads.reconfigure"} <= set(names)


async def test_no_session_comes_up_between_the_policies_of_the_rib_and_those_of_the_sessions(rig: Rig) -> None:
    """It would have the settings of the former configuration, which may name a policy that the new one lacks."""
    reconfigurable(rig)

    async def slow(_: object) -> None:
        for _ in range(5):
            await asyncio.sleep(0)

    def answer(_: object) -> Iterator[None]:
        asyncio.get_running_loop().call_soon(rig.calls.append, ("a session is established",))
        return walk()

    rig.routing.tables.vrfs._answers["add"] = slow  # type: ignore[attr-defined]
    rig.note(rib={"reconfigure": answer})
    await reconfigure(rig.routing, config(TEXT.replace('"all"', '"none"') + BLUE))
    await asyncio.sleep(0)
    names = rig.names()
    assert names.index("vrfs.add") < names.index("rib.reconfigure")
    assert names.index("speaker.reconfigure") < names.index("a session is established")


async def test_other_policy_is_no_news_for_kernel_tables(rig: Rig) -> None:
    names = await reconfigured(rig, TEXT + '[policy.p]\nrules = [{ action = "accept" }]\n')
    assert "rib.reconfigure" in names
    assert not {"vrfs.add", "evpn.reconfigure", "tables.needs_changed"} & set(names)


async def test_policy_that_cannot_be_used_changes_nothing(rig: Rig) -> None:
    before = config()
    reconfigurable(rig)

    def refuse(_: object) -> None:
        raise PolicyError("neighbor leaf1.import", "no such policy", "")

    rig.note(rib={"reconfigure": refuse})
    wrong = msgspec.structs.replace(before, neighbor=())
    with pytest.raises(PolicyError, match="no such policy"):
        await reconfigure(rig.routing, wrong)
    assert rig.names() == ["rib.reconfigure"]
    rig.calls.clear()
    with pytest.raises(PolicyError, match="no such policy"):
        await reconfigure(rig.routing, msgspec.structs.replace(config(TEXT + BLUE), neighbor=()))
    assert [(name, [vrf.name for vrf in vrfs]) for name, vrfs in rig.calls if name.startswith("vrfs")] == [
        ("vrfs.add", ["blue"]),
        ("vrfs.add", []),
        ("vrfs.remove", []),
    ]
    rig.calls.clear()
    assert await reconfigured(rig, TEXT) == ["speaker.reconfigure"], "the former configuration is in force"
