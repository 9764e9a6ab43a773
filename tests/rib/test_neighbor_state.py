"""A neighbor's session in the RIB: when it has sent too much, and which sessions another configuration changes."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bgpd.config.schema import Config
from bgpd.config.schema_policies import PolicyConfig, RuleConfig
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig
from bgpd.model.iana import Family
from bgpd.model.source import Source
from bgpd.rib.adj_rib_in import AdjRibIn
from bgpd.rib.neighbor_state import MOST_NEXT_HOPS, MOST_WITHDRAWN, NeighborState, change_policies
from bgpd.rib.policy import PolicyError, build_policy
from tests.logs import capture_logs
from tests.message.decoding import negotiated
from tests.rib.build import LOCAL_ASN, V4, Recorder, attributes, configuration, hop, key, leaf, session

V6 = Family.IPV6_UNICAST


class Received(AdjRibIn):
    """`bytes` is what its attributes take."""

    bytes = 0

    @property
    def bytes_kept(self) -> int:
        return self.bytes


class State(NeighborState):
    """The session of leaf1."""

    def __init__(self, **fields: Any) -> None:
        config = session("leaf1", **fields)
        self.received = Received(
            leaf(1),
            policy=build_policy(config.import_, {}, where="x", exporting=False),
            local_asn=LOCAL_ASN,
            router_id=b"\1\1\1\1",
            allow_own_as=0,
            now=lambda: 0.0,
        )
        super().__init__(leaf(1), negotiated(families=(V4, V6)), config=config, adj_rib_in=self.received)


@pytest.mark.parametrize(
    ("most", "count", "event"),
    [
        (10, 8, None),
        (10, 9, "prefix_limit.near"),
        (10, 10, "prefix_limit.near"),
        (10, 11, "prefix_limit.exceeded"),
        (0, 1_000_000, None),
        (1, 1, "prefix_limit.near"),
        (1, 2, "prefix_limit.exceeded"),
    ],
)
def test_prefixes_are_warned_about_from_four_fifths_on_and_refused_beyond(
    most: int, count: int, event: str | None
) -> None:
    state = State(max_prefixes=most)
    with capture_logs() as logs:
        said = state.why_too_many(V4, count)
    assert [entry["event"] for entry in logs] == ([event] if event else [])
    assert bool(said) is (event == "prefix_limit.exceeded")
    if said:
        assert said == f"sent {count} ipv4-unicast prefixes, more than max_prefixes"


def test_each_family_is_told_once() -> None:
    state = State(max_prefixes=10)
    with capture_logs() as logs:
        assert state.why_too_many(V4, 9) == state.why_too_many(V4, 10) == ""
        assert state.why_too_many(V6, 9) == ""
        assert state.why_too_many(V4, 11)
        assert state.why_too_many(V4, 12) == ""
        assert state.why_too_many(V6, 11)
    assert [(entry["event"].removeprefix("prefix_limit."), entry["family"]) for entry in logs] == [
        ("near", V4),
        ("near", V6),
        ("exceeded", V4),
        ("exceeded", V6),
    ]


def test_raised_limit_counts_from_the_next_look() -> None:
    state = State(max_prefixes=10, max_attribute_bytes=100)
    state.received.bytes = 100
    assert state.why_out_of_resources() == ""
    state.use(session("leaf1", max_prefixes=20, max_attribute_bytes=50))
    assert state.why_too_many(V4, 15) == ""
    assert "max_attribute_bytes (50)" in state.why_out_of_resources()


@pytest.mark.parametrize(
    ("most", "taken", "near", "out"),
    [
        (100, 80, False, False),
        (100, 81, True, False),
        (100, 100, True, False),
        (100, 101, False, True),
        (0, 1 << 40, False, False),
    ],
)
def test_memory_of_attributes_is_warned_about_and_refused_likewise(
    most: int, taken: int, near: bool, out: bool
) -> None:
    state = State(max_attribute_bytes=most)
    state.received.bytes = taken
    with capture_logs() as logs:
        reasons = [state.why_out_of_resources(), state.why_out_of_resources()]
    assert [bool(reason) for reason in reasons] == [out, False]
    events = [entry["event"] for entry in logs]
    assert events == ["attribute_limit.near"] * near + ["resources.exceeded"] * out


def test_next_hops_beyond_the_bound_are_too_many() -> None:
    recorder = Recorder(configuration(session("leaf1")))
    source = recorder.up(leaf(1), session("leaf1"))
    for number in range(MOST_NEXT_HOPS + 1):
        next_hop = hop(f"10.{number >> 8}.{number & 255}.1")
        recorder.announce(source, attributes(65201), next_hop, f"10.64.{number >> 8}.{number & 255}/32")
    recorder.turn()
    assert recorder.resets == [("leaf1", "its routes have more than 1024 different next hops")]


# Another configuration

REJECT = PolicyConfig(rules=(RuleConfig(action="reject"),))
ACCEPT = PolicyConfig(rules=(RuleConfig(),))


def changed(old: Config, new: Config, source: Source | None = None) -> bool:
    """Whether the import side of a session, leaf1's or that of `source`, is to be revised."""
    table = Recorder(old).rib.table("", V4)
    source = source or leaf(1)
    config: Any = next(iter((*old.neighbor, *old.listen)))
    policy = build_policy(config.import_, old.policy, where="x", exporting=False)
    one = AdjRibIn(source, policy=policy, local_asn=LOCAL_ASN, router_id=b"\1\1\1\1", allow_own_as=0, now=lambda: 0.0)
    state = NeighborState(source, negotiated(families=(V4,)), config=config, adj_rib_in=one)
    state.tables[V4] = table
    found = change_policies([state], old.rib, new.rib)
    assert state.config == next(iter((*new.neighbor, *new.listen)), config)
    return found == {table: {source: one}}


@pytest.mark.parametrize(
    ("fields", "policy", "revised"),
    [
        ({}, {"p": ACCEPT}, False),
        ({"max_prefixes": 7}, {"p": ACCEPT}, False),
        ({"export": "none"}, {"p": ACCEPT}, False),
        ({"import_": "none"}, {"p": ACCEPT}, True),
        ({"allow_own_as": 1}, {"p": ACCEPT}, True),
        ({}, {"p": REJECT}, True),
        ({}, {"p": ACCEPT, "other": REJECT}, False),
    ],
)
def test_routes_are_revised_where_import_or_what_it_names_changes(
    fields: dict[str, Any], policy: dict[str, PolicyConfig], revised: bool
) -> None:
    old = configuration(session("leaf1", import_="p"), policy={"p": ACCEPT})
    new = configuration(session("leaf1", **{"import_": "p", **fields}), policy=policy)
    assert changed(old, new) is revised


def test_dynamic_neighbor_follows_the_range_that_it_is_in() -> None:
    one = ListenConfig(prefix="10.0.0.0/8", asn=65201, import_="all")
    source = msgspec.structs.replace(leaf(1), name="10.0.0.0/8-10.0.1.2")
    old = msgspec.structs.replace(configuration(), listen=(one,))
    new = msgspec.structs.replace(old, listen=(msgspec.structs.replace(one, import_="none"),))
    assert changed(old, new, source)
    gone = msgspec.structs.replace(old, listen=())
    assert not changed(old, gone, source), "the session ends, which is not the RIB's to do"


def test_policy_that_cannot_be_used_is_told() -> None:
    neighbors = (session("leaf1"), session("leaf2"))
    recorder = Recorder(configuration(*neighbors))
    for number, one in enumerate(neighbors, 1):
        recorder.up(leaf(number), one)
    bad = configuration(session("leaf1"), session("leaf2", import_="missing"))
    with pytest.raises(PolicyError, match="missing"):
        recorder.rib.reconfigure(bad.rib)


def test_export_policy_alone_is_told_anew_and_asks_for_nothing() -> None:
    old: NeighborConfig = session("leaf1", export="all")
    recorder = Recorder(configuration(old, session("leaf2")))
    source = recorder.up(leaf(1), old)
    other = recorder.up(leaf(2), session("leaf2"))
    recorder.announce(other, attributes(65201), hop("10.0.2.2"), "10.9.0.0/16")
    recorder.turn()
    recorder.acknowledge(key("10.9.0.0/16"))
    recorder.turn()
    assert key("10.9.0.0/16") in recorder.told[source]
    for _ in recorder.rib.reconfigure(configuration(session("leaf1", export="none"), session("leaf2")).rib):
        pass
    recorder.turn()
    assert recorder.told[source] == {}
    assert recorder.refresh_sent == []


@pytest.mark.parametrize(("percent", "first"), [(50, 6), (80, 9), (100, None), (0, None)])
def test_share_from_which_prefixes_are_warned_about(percent: int, first: int | None) -> None:
    state = State(max_prefixes=10, max_prefixes_warn_percent=percent)
    warned = None
    for count in range(11):
        with capture_logs() as logs:
            assert state.why_too_many(V4, count) == ""
        warned = count if logs and warned is None else warned
    assert warned == first


def test_the_last_withdrawn_routes_are_remembered_of_however_many() -> None:
    state = State()
    keys = [number.to_bytes(4, "big") for number in range(MOST_WITHDRAWN + 3)]
    state.told(("", V4), keys[:2], 1.0)
    state.told(("", V4), keys[2:], 2.0)
    assert list(state.withdrawn_at) == [("", V4, one) for one in keys[3:]]
