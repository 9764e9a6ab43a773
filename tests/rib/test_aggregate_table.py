"""Aggregates: against a naive reference under random histories, and case by case."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterator
from typing import Any

import msgspec
import pytest
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, precondition, rule
from netaddr import cidr_merge

from bgpd.config.schema import Config
from bgpd.config.schema_policies import AggregateConfig
from bgpd.model.attributes import Aggregator
from bgpd.model.iana import Family, Origin
from bgpd.model.next_hop import BLACKHOLE
from bgpd.model.prefix import format_key, parse_address
from bgpd.model.source import Source
from bgpd.rib import aggregates as aggregation
from bgpd.rib import dissemination as exports
from tests.logs import capture_logs
from tests.rib.build import LOCAL, LOCAL_ASN, V4, Recorder, attributes, configuration, drain, hop, key, leaf, session

POOL = "10.64.1.0/28"
OURS = Aggregator(asn=LOCAL_ASN, router_id=b"\x0a\xff\x01\x01")
HOP1 = hop("10.0.1.2")


def _config(*aggregates: AggregateConfig) -> Config:
    base = configuration(session("leaf1"), session("leaf2"))
    return Config(router=base.router, neighbor=base.neighbor, aggregate=aggregates)


def _aggregate(prefix: str, **fields: object) -> AggregateConfig:
    return AggregateConfig(prefix=prefix, **fields)  # type: ignore[arg-type]


def _started(*aggregates: AggregateConfig) -> tuple[Recorder, Source]:
    recorder = Recorder(_config(*aggregates))
    return recorder, recorder.up(leaf(1), session("leaf1"))


def _originate(recorder: Recorder, *prefixes: str, exception: bool = False, **fields: object) -> None:
    keys = [key(prefix) for prefix in prefixes]
    recorder.rib.announce_local(LOCAL, V4, keys, attributes(**fields), exception=exception)
    recorder.turn()


def _withdraw(recorder: Recorder, *prefixes: str) -> None:
    recorder.rib.withdraw_local(LOCAL, V4, [key(prefix) for prefix in prefixes])
    recorder.turn()


def _told(recorder: Recorder, source: Source) -> set[str]:
    return {format_key(V4, one) for one in recorder.told.get(source, {})}


def test_first_contributor_creates_the_aggregate_and_the_last_removes_it() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26"))
    assert _told(recorder, leaf1) == set()
    _originate(recorder, "10.64.1.5/32", "10.64.1.6/32")
    assert _told(recorder, leaf1) == {"10.64.1.0/26", "10.64.1.5/32", "10.64.1.6/32"}
    _withdraw(recorder, "10.64.1.5/32")
    assert "10.64.1.0/26" in _told(recorder, leaf1)
    _withdraw(recorder, "10.64.1.6/32")
    assert _told(recorder, leaf1) == set()


def test_learned_routes_and_the_prefix_itself_do_not_contribute() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26", blackhole=True))
    recorder.announce(leaf1, attributes(65201), HOP1, "10.64.1.7/32")
    _originate(recorder, "10.64.1.0/26")
    assert _told(recorder, leaf1) == {"10.64.1.0/26"}
    assert key("10.64.1.0/26") not in recorder.fib
    assert recorder.told[leaf1][key("10.64.1.0/26")].aggregator is None


def test_workload_route_of_the_very_prefix_is_preferred_to_the_aggregate() -> None:
    recorder, _ = _started(_aggregate("10.64.1.0/26", blackhole=True))
    _originate(recorder, "10.64.1.0/26", "10.64.1.7/32")
    assert key("10.64.1.0/26") not in recorder.fib
    _withdraw(recorder, "10.64.1.0/26")
    assert recorder.fib[key("10.64.1.0/26")] is BLACKHOLE


def test_attributes_name_this_host_and_the_worst_origin() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26"))
    _originate(recorder, "10.64.1.5/32")
    aggregate = recorder.told[leaf1][key("10.64.1.0/26")]
    assert (aggregate.aggregator, aggregate.origin, aggregate.atomic_aggregate) == (OURS, Origin.IGP, False)
    _originate(recorder, "10.64.1.6/32", origin=Origin.INCOMPLETE)
    assert recorder.told[leaf1][key("10.64.1.0/26")].origin is Origin.INCOMPLETE
    _withdraw(recorder, "10.64.1.6/32")
    assert recorder.told[leaf1][key("10.64.1.0/26")].origin is Origin.IGP


def test_atomic_aggregate_tells_that_a_contributors_path_was_left_out() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26"))
    recorder.rib.announce_local(LOCAL, V4, [key("10.64.1.5/32")], attributes(65500))
    recorder.turn()
    assert recorder.told[leaf1][key("10.64.1.0/26")].atomic_aggregate


def test_summary_only_suppresses_all_but_exceptions_and_says_so() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26", summary_only=True))
    _originate(recorder, "10.64.1.5/32")
    _originate(recorder, "10.64.1.9/32", exception=True)
    assert _told(recorder, leaf1) == {"10.64.1.0/26", "10.64.1.9/32"}
    _originate(recorder, "10.64.1.9/32", exception=False)
    assert _told(recorder, leaf1) == {"10.64.1.0/26"}
    _originate(recorder, "10.64.1.5/32", "10.64.1.9/32", exception=True)
    assert _told(recorder, leaf1) == {"10.64.1.5/32", "10.64.1.9/32"}
    five, nine = key("10.64.1.5/32"), key("10.64.1.9/32")
    assert recorder.suppressions[:2] == [([five], "10.64.1.0/26"), ([nine], "10.64.1.0/26")]
    assert sorted(one for keys, by in recorder.suppressions[2:] for one in keys if by == "") == [five, nine]


def test_aggregates_inside_a_summary_are_not_announced_and_keep_their_blackhole() -> None:
    outer, inner = _aggregate("10.64.1.0/24", summary_only=True), _aggregate("10.64.1.0/26", blackhole=True)
    pool = _aggregate("10.64.1.128/26", auto="exact")
    recorder, leaf1 = _started(outer, inner, pool)
    _originate(recorder, "10.64.1.5/32", "10.64.1.130/32", "10.64.1.131/32")
    assert _told(recorder, leaf1) == {"10.64.1.0/24"}
    assert recorder.fib == {key("10.64.1.0/26"): BLACKHOLE}
    assert [view.announced for view in recorder.rib.aggregation.views()] == [["10.64.1.0/24"], [], []]
    assert {by for _, by in recorder.suppressions} == {"10.64.1.0/24"}
    _originate(recorder, "10.64.1.0/26", exception=True)
    assert _told(recorder, leaf1) == {"10.64.1.0/24", "10.64.1.0/26"}


def test_an_aggregate_is_announced_when_the_summary_around_it_goes_and_hidden_when_one_comes() -> None:
    outer, inner = _aggregate("10.64.1.0/24", summary_only=True), _aggregate("10.64.1.0/26")
    recorder, leaf1 = _started(inner)
    _originate(recorder, "10.64.1.5/32")
    assert _told(recorder, leaf1) == {"10.64.1.0/26", "10.64.1.5/32"}
    for aggregates, told in (
        ((inner, outer), {"10.64.1.0/24"}),
        ((inner, _aggregate("10.64.1.0/24")), {"10.64.1.0/24", "10.64.1.0/26", "10.64.1.5/32"}),
        ((inner, outer), {"10.64.1.0/24"}),
        ((inner,), {"10.64.1.0/26", "10.64.1.5/32"}),
    ):
        drain(recorder.rib.reconfigure(_config(*aggregates)))
        recorder.turn()
        assert _told(recorder, leaf1) == told


def test_what_is_announced_over_a_prefix() -> None:
    aggregates = _aggregate("10.64.0.0/16", summary_only=True), _aggregate("10.64.1.0/24"), _aggregate("10.65.0.0/24")
    recorder, _ = _started(*aggregates, _aggregate("10.67.0.0/24", auto="exact"))
    _originate(recorder, "10.64.1.5/32", "10.67.0.4/32", "10.67.0.5/32")
    over = recorder.rib.aggregation.announced_over
    assert over("", V4, key("10.64.1.5/32")) == key("10.64.0.0/16")
    assert over("", V4, key("10.64.1.0/24")) == key("10.64.0.0/16")
    assert over("", V4, key("10.67.0.4/32")) == key("10.67.0.4/31")
    for alone in ("10.67.0.4/31", "10.64.0.0/16", "10.65.0.1/32", "0.0.0.0/0"):
        assert over("", V4, key(alone)) is None
    assert over("blue", V4, key("10.64.1.5/32")) is None


def test_exceptions_alone_bring_no_aggregate() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26"), _aggregate("10.64.2.0/26", auto="exact"))
    _originate(recorder, "10.64.1.5/32", "10.64.2.4/32", "10.64.2.5/32", exception=True)
    assert _told(recorder, leaf1) == {"10.64.1.5/32", "10.64.2.4/32", "10.64.2.5/32"}


def test_blackhole_lies_under_the_block_but_never_under_one_address() -> None:
    recorder, _ = _started(
        _aggregate("10.64.1.0/26", blackhole=True), _aggregate("10.64.2.0/26", blackhole=True, auto="exact")
    )
    _originate(recorder, "10.64.1.5/32", "10.64.2.4/32", "10.64.2.5/32", "10.64.2.9/32")
    assert recorder.fib == {key("10.64.1.0/26"): BLACKHOLE, key("10.64.2.4/31"): BLACKHOLE}
    assert recorder.fib[key("10.64.1.0/26")] is BLACKHOLE
    _withdraw(recorder, "10.64.1.5/32", "10.64.2.4/32")
    assert recorder.fib == {}


def test_exact_cover_replaces_its_parts_in_announcements_before_withdrawals() -> None:
    recorder, leaf1 = _started(_aggregate(POOL, auto="exact"))
    _originate(recorder, "10.64.1.0/32", "10.64.1.1/32", "10.64.1.2/32")
    assert _told(recorder, leaf1) == {"10.64.1.0/31", "10.64.1.2/32"}
    recorder.sent.clear()
    _originate(recorder, "10.64.1.3/32")
    announced, withdrawn = [(batch.announced, batch.withdrawn) for _, batch in recorder.sent]
    assert announced == ([key("10.64.1.0/30")], ())
    assert set(withdrawn[1]) == {key("10.64.1.0/31"), key("10.64.1.2/32")}


def test_changed_aggregates_apply_at_run_time() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26", summary_only=True))
    _originate(recorder, "10.64.1.4/32", "10.64.1.5/32")
    drain(recorder.rib.reconfigure(_config(_aggregate("10.64.1.0/27", auto="exact"))))
    recorder.turn()
    assert _told(recorder, leaf1) == {"10.64.1.4/31"}
    drain(recorder.rib.reconfigure(_config()))
    recorder.turn()
    assert _told(recorder, leaf1) == {"10.64.1.4/32", "10.64.1.5/32"}


def test_ipv6_and_vrf_have_aggregates_of_their_own() -> None:
    recorder = Recorder(_config(_aggregate("2001:db8::/64"), _aggregate("10.64.1.0/26", vrf="blue")))
    v6 = Family.IPV6_UNICAST
    recorder.rib.announce_local(LOCAL, v6, [key("2001:db8::5/128")], attributes())
    recorder.rib.announce_local(LOCAL, V4, [key("10.64.1.5/32")], attributes())
    assert recorder.rib.decision("", v6, key("2001:db8::/64")) is not None
    assert recorder.rib.decision("", V4, key("10.64.1.0/26")) is None
    recorder.rib.announce_local(LOCAL, V4, [key("10.64.1.5/32")], attributes(), vrf="blue")
    assert recorder.rib.decision("blue", V4, key("10.64.1.0/26")) is not None
    assert recorder.rib.decision("", V4, key("10.64.1.0/26")) is None


def test_neighbor_that_announces_our_block_or_part_of_it_raises_an_alarm_until_it_stops() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26"), _aggregate("10.66.0.0/15"), _aggregate(POOL, auto="exact"))
    with capture_logs() as logs:
        recorder.announce(leaf1, attributes(65201), HOP1, "10.64.1.0/26", "10.64.1.9/32", "10.64.1.64/26", "10.0.0.0/8")
        recorder.announce(leaf1, attributes(65201), HOP1, "10.64.1.9/32", "10.67.0.0/16")
    assert [(entry["prefix"], entry["aggregate"]) for entry in logs] == [
        ("10.64.1.0/26", "10.64.1.0/26"),
        ("10.64.1.9/32", "10.64.1.0/26"),
        ("10.67.0.0/16", "10.66.0.0/15"),
    ]
    first, second, pool = recorder.rib.aggregation.views()
    assert first.alarms == ["10.64.1.0/26 from leaf1", "10.64.1.9/32 from leaf1"]
    assert second.alarms == ["10.67.0.0/16 from leaf1"]
    assert pool.alarms == []
    recorder.withdraw(leaf1, "10.64.1.0/26", "10.64.1.9/32")
    drain(recorder.rib.received.neighbor_down(leaf1))
    assert [view.alarms for view in recorder.rib.aggregation.views()] == [[], [], []]


def test_echo_of_our_own_announcement_is_no_alarm_but_another_host_of_our_as_is() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26"))
    other = Aggregator(asn=LOCAL_ASN, router_id=b"\x0a\xff\x01\x02")
    recorder.announce(leaf1, attributes(65201, LOCAL_ASN), HOP1, "10.64.1.1/32")
    recorder.announce(leaf1, attributes(65201, LOCAL_ASN, aggregator=OURS), HOP1, "10.64.1.2/32")
    recorder.announce(leaf1, attributes(65201, LOCAL_ASN, aggregator=other), HOP1, "10.64.1.3/32")
    assert recorder.rib.aggregation.views()[0].alarms == ["10.64.1.3/32 from leaf1"]


def test_alarm_is_found_for_a_block_that_is_configured_later() -> None:
    recorder, leaf1 = _started()
    recorder.announce(leaf1, attributes(65201), HOP1, "10.64.1.9/32")
    drain(recorder.rib.reconfigure(_config(_aggregate("10.64.1.0/26"))))
    assert recorder.rib.aggregation.views()[0].alarms == ["10.64.1.9/32 from leaf1"]


def test_what_comes_and_goes_while_new_aggregates_are_worked_out_counts(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "_SLICE", 1)
    recorder, leaf1 = _started()
    _originate(recorder, "10.64.1.0/32", "10.64.1.8/32", "10.64.1.9/32")
    walk = recorder.rib.reconfigure(_config(_aggregate(POOL, auto="exact")))
    next(walk)
    _withdraw(recorder, "10.64.1.0/32", "10.64.1.9/32")
    _originate(recorder, "10.64.1.4/32", "10.64.1.5/32")
    assert _told(recorder, leaf1) == {"10.64.1.4/32", "10.64.1.5/32", "10.64.1.8/32"}
    drain(walk)
    recorder.turn()
    assert _told(recorder, leaf1) == {"10.64.1.4/31", "10.64.1.8/32"}


def test_present_aggregates_are_kept_up_while_others_are_worked_out(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "_SLICE", 1)
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26"))
    _originate(recorder, "10.64.1.0/32", "10.64.1.1/32")
    walk = recorder.rib.reconfigure(_config())
    next(walk)
    _withdraw(recorder, "10.64.1.0/32", "10.64.1.1/32")
    assert _told(recorder, leaf1) == set()
    _originate(recorder, "10.64.1.2/32")
    assert _told(recorder, leaf1) == {"10.64.1.0/26", "10.64.1.2/32"}
    drain(walk)
    recorder.turn()
    assert _told(recorder, leaf1) == {"10.64.1.2/32"}


def test_aggregates_that_were_changed_again_meanwhile_are_never_used(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whichever of two reloads is worked out last, the later one counts."""
    monkeypatch.setattr(aggregation, "_SLICE", 1)
    for first_goes_on in (True, False):
        recorder, leaf1 = _started(_aggregate("10.64.1.0/24"))
        _originate(recorder, "10.64.1.0/32", "10.64.1.1/32")
        first = recorder.rib.reconfigure(_config(_aggregate("10.64.1.0/25", blackhole=True)))
        next(first)
        second = recorder.rib.reconfigure(_config(_aggregate("10.64.1.0/26")))
        for walk in (first, second) if first_goes_on else (second, first):
            drain(walk)
            recorder.turn()
            assert "10.64.1.0/25" not in _told(recorder, leaf1)
        assert _told(recorder, leaf1) == {"10.64.1.0/26", "10.64.1.0/32", "10.64.1.1/32"}
        assert [view.prefix for view in recorder.rib.aggregation.views()] == ["10.64.1.0/26"]
        assert recorder.fib == {}


def test_reload_that_leaves_aggregates_alone_does_not_break_off_the_one_before(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(aggregation, "_SLICE", 1)
    recorder, leaf1 = _started()
    _originate(recorder, "10.64.1.0/32", "10.64.1.1/32")
    wanted = _config(_aggregate("10.64.1.0/26"))
    first = recorder.rib.reconfigure(wanted)
    next(first)
    drain(recorder.rib.reconfigure(wanted))
    drain(first)
    recorder.turn()
    assert "10.64.1.0/26" in _told(recorder, leaf1)


@pytest.mark.parametrize("fields", [{"asn": 65299}, {"router_id": "10.255.1.9"}])
def test_aggregates_name_the_router_as_it_is_after_a_reload(fields: dict[str, Any]) -> None:
    wanted = _config(_aggregate("10.64.1.0/26"))
    recorder, leaf1 = _started(*wanted.aggregate)
    _originate(recorder, "10.64.1.5/32")
    router = msgspec.structs.replace(wanted.router, **fields)
    drain(recorder.rib.reconfigure(msgspec.structs.replace(wanted, router=router)))
    recorder.turn()
    named = recorder.told[leaf1][key("10.64.1.0/26")].aggregator
    assert named == Aggregator(asn=router.asn, router_id=parse_address(router.router_id))


def test_alarm_needs_the_whole_bytes_and_the_bits_of_the_block() -> None:
    recorder, leaf1 = _started(_aggregate("10.64.1.0/26"), _aggregate("10.66.0.0/15"))
    outside = ("10.64.1.64/32", "10.64.0.255/32", "10.64.1.0/25", "10.65.255.255/32", "10.68.0.0/32", "10.64.0.0/14")
    recorder.announce(leaf1, attributes(65201), HOP1, *outside)
    assert [view.alarms for view in recorder.rib.aggregation.views()] == [[], []]
    recorder.announce(leaf1, attributes(65201), HOP1, "10.64.1.63/32", "10.67.255.255/32")
    assert [view.alarms for view in recorder.rib.aggregation.views()] == [
        ["10.64.1.63/32 from leaf1"],
        ["10.67.255.255/32 from leaf1"],
    ]


def test_view_shows_contributors_and_what_is_announced() -> None:
    recorder, _ = _started(_aggregate("10.64.1.0/26"), _aggregate("10.64.2.0/26", auto="exact"))
    _originate(recorder, "10.64.1.5/32", "10.64.2.4/32", "10.64.2.5/32", "10.64.2.7/32")
    block, pool = recorder.rib.aggregation.views()
    assert (block.prefix, block.contributors, block.announced) == ("10.64.1.0/26", 1, ["10.64.1.0/26"])
    assert (pool.contributors, pool.announced, pool.auto) == (3, ["10.64.2.4/31"], "exact")


# Against a reference

ADDRESSES = [f"10.64.1.{number}/32" for number in range(10)] + ["10.64.1.0/29", "10.64.1.8/30", "10.64.1.4/31"]
AGGREGATES = [
    _aggregate("10.64.1.0/28"),
    _aggregate("10.64.1.0/29", summary_only=True),
    _aggregate("10.64.1.0/28", auto="exact"),
    _aggregate("10.64.1.8/29", auto="exact", blackhole=True),
    _aggregate("10.64.1.8/29", blackhole=True),
    _aggregate("10.64.1.0/27", summary_only=True),
    _aggregate("10.64.1.8/30"),
]
CHOICES = [(), (0,), (1,), (2,), (3,), (4,), (0, 1), (1, 3), (0, 3), (1, 4)]
CHOICES += [(0, 5), (1, 5), (2, 5), (0, 1, 3, 5), (4, 6), (2, 6), (2, 6, 5), (3, 6), (1, 2), (1, 2, 5)]


def _inside(inner: str, outer: str) -> bool:
    return ipaddress.ip_network(inner).subnet_of(ipaddress.ip_network(outer))  # type: ignore[arg-type]


def expected(workloads: dict[str, bool], aggregates: tuple[AggregateConfig, ...]) -> set[str]:
    """What a neighbor must be told: `workloads` are the prefixes, and whether they are exceptions."""
    contributors = {prefix for prefix, exception in workloads.items() if not exception}
    told = set(workloads)
    hidden: set[str] = set()
    made: set[str] = set()
    for aggregate in aggregates:
        mine = {one for one in contributors if _inside(one, aggregate.prefix)}
        if aggregate.auto:
            cover = {str(one) for one in cidr_merge(sorted(mine))}
            hidden |= mine - cover
            made |= cover - mine
        else:
            mine.discard(aggregate.prefix)
            if mine:
                made.add(aggregate.prefix)
                hidden |= mine if aggregate.summary_only else set()
    outer = [aggregate.prefix for aggregate in aggregates if aggregate.summary_only]
    made = {one for one in made if not any(one != other and _inside(one, other) for other in outer)}
    return (told - hidden) | made


class AggregateMachine(RuleBasedStateMachine):
    def __init__(self) -> None:
        super().__init__()
        self.aggregates: tuple[AggregateConfig, ...] = ()
        self.recorder, self.leaf1 = _started()
        self.workloads: dict[str, bool] = {}
        self.stable: set[str] = set()
        self.walks: list[Iterator[None]] = []
        self.recorder.after_send = self.no_packet_is_lost

    def no_packet_is_lost(self) -> None:
        """Whoever was reachable at the last turn and still is a workload is reachable after each single message."""
        told = {format_key(V4, one) for one in self.recorder.told.get(self.leaf1, {})}
        for prefix in self.stable & self.workloads.keys():
            assert any(_inside(prefix, one) for one in told), (prefix, told)

    @rule(
        prefixes=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=5, unique=True),
        exception=st.sampled_from((False, False, False, True)),
    )
    def come(self, prefixes: list[str], exception: bool) -> None:
        keys = [key(prefix) for prefix in prefixes]
        self.recorder.rib.announce_local(LOCAL, V4, keys, attributes(), exception=exception)
        self.workloads.update(dict.fromkeys(prefixes, exception))

    @rule(prefixes=st.lists(st.sampled_from(ADDRESSES), min_size=1, max_size=3))
    def go(self, prefixes: list[str]) -> None:
        self.recorder.rib.withdraw_local(LOCAL, V4, [key(prefix) for prefix in prefixes])
        for prefix in prefixes:
            self.workloads.pop(prefix, None)

    @rule(choice=st.sampled_from(CHOICES))
    def reconfigure(self, choice: tuple[int, ...]) -> None:
        self.aggregates = tuple(AGGREGATES[index] for index in choice)
        self.walks.append(self.recorder.rib.reconfigure(_config(*self.aggregates)))

    @precondition(lambda self: self.walks)
    @rule()
    def step(self) -> None:
        if next(self.walks[0], 0) == 0:
            self.walks.pop(0)

    @rule()
    def turn(self) -> None:
        self.recorder.turn()
        self.stable = set(self.workloads)

    @rule()
    def settle(self) -> None:
        while self.walks:
            self.step()
        self.turn()
        assert _told(self.recorder, self.leaf1) == expected(self.workloads, self.aggregates)
        table = self.recorder.rib.table("", V4)
        assert not table.exceptions - {key(prefix) for prefix in self.workloads}
        black = {format_key(V4, one) for one in self.recorder.fib}
        assert black <= {"10.64.1.8/29", "10.64.1.8/30", "10.64.1.8/31", "10.64.1.10/31"} - self.workloads.keys()

    def teardown(self) -> None:
        self.settle()


class TestAggregatesAgainstReference(AggregateMachine.TestCase):
    settings = settings(max_examples=120, stateful_step_count=30, deadline=None)

    @pytest.fixture(autouse=True)
    def _short_slices(self, monkeypatch: pytest.MonkeyPatch) -> None:
        monkeypatch.setattr(aggregation, "_SLICE", 2)
        monkeypatch.setattr(exports, "FLUSH_KEYS", 3)
