"""What there is in the simulation beside addresses: its checks find faults that are planted in bgpd."""

from __future__ import annotations

import msgspec
import pytest

from bgpd.evpn.mac_mobility import Mobility, encode_mobility
from bgpd.fib.reconcile import Comparison
from bgpd.message.update_encoder import UpdateEncoder
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.rib.adj_rib_out import AdjRibOut
from bgpd.simulation.bfd_seeds import DETECTION_S
from bgpd.simulation.offers import BOTH, KEPT, PLAIN, PROBED
from bgpd.simulation.own_addresses import EVERYWHERE
from bgpd.simulation.policies import EXPORTED, IMPORTED, IMPORTS
from bgpd.simulation.router import Style
from bgpd.simulation.run import run
from bgpd.simulation.scenario import Event, Kind, Scenario
from bgpd.simulation.seeds import usual_scenario_of
from bgpd.speaker.connection import Connection
from bgpd.speaker.saved import SavedConnection
from tests.simulation.__main__ import quietly


@pytest.fixture(autouse=True)
def quiet() -> None:
    quietly()


BARE = msgspec.structs.replace(
    usual_scenario_of(0),
    shape=msgspec.structs.replace(usual_scenario_of(0).shape, hosts=2, is_unnumbered=False),
    claims=(),
    rounds=(),
)


def of(shape: dict[str, object], *events: Event, **fields: object) -> Scenario:
    """Two hosts with one round of events."""
    return msgspec.structs.replace(
        BARE, shape=msgspec.structs.replace(BARE.shape, **shape), rounds=(events,) if events else (), **fields
    )


MACHINES = (("host0", "blue", "10.64.0.1/32"), ("host1", "blue", "10.64.1.1/32"))
VRFS = of({"tenants": 2}, machines=MACHINES)
RULES = of({"tenants": 2, "has_vrf_devices": False}, machines=MACHINES)
DUAL_STACK = (*MACHINES, ("host0", "blue", "fd65::1:1/128"), ("host1", "red", "fd65::2:3/128"))
VRFS_V6 = of({"tenants": 2, "tenants_have_v6": True}, machines=DUAL_STACK)
VRFS_UNNUMBERED = of(
    {"tenants": 2, "tenants_have_v6": True, "is_unnumbered": True, "resolve": "peer"},
    Event(at_s=0, kind=Kind.MACHINE_MOVES, host="host1", tenant="blue", address="fd65::1:1/128", value=1),
    machines=DUAL_STACK,
)
RULES_UNSURE = of(
    {"tenants": 2, "has_vrf_devices": False},
    *(
        Event(at_s=at_s, kind=kind, host=host, tenant=tenant, value=0.5)
        for at_s, kind in ((0, Kind.LOSE_ANSWERS), (1, Kind.RELOAD_VRF))
        for host in ("host0", "host1")
        for tenant in ("blue", "red")
    ),
    machines=MACHINES,
)
"""VRFs leave the configuration while the kernel's answers are lost, and are in it again when all is healed."""
KEPT_AT_RELOAD, KEPT_AT_START = (
    [of({"tenants": 2, "has_vrf_devices": has_devices}, *events, machines=MACHINES) for has_devices in (False, True)]
    for events in (
        (
            Event(at_s=0, kind=Kind.UNREADABLE, host="host0", value=1),
            Event(at_s=1, kind=Kind.LOSE_EVENTS, host="host0"),
            Event(at_s=2, kind=Kind.RELOAD_VRF, host="host0", tenant="blue"),
        ),
        (
            Event(at_s=0, kind=Kind.KILL, host="host0"),
            Event(at_s=1, kind=Kind.RELOAD_VRF, host="host0", tenant="blue"),
            Event(at_s=2, kind=Kind.START, host="host0"),
            Event(at_s=5, kind=Kind.UNREADABLE, host="host0", value=1),
            Event(at_s=40, kind=Kind.MEND, host="host0", leaf="leaf0"),
        ),
    )
)
"""A VRF leaves the configuration while the kernel cannot be read: by a reload, or while bgpd does not run."""
SPEAKING, SPEAKING_ON, SPEAKING_BY_RULES = (
    of(
        {"tenants": 2, "styles": (Style(), Style()), "has_vrf_devices": has_devices, "vrf_sessions": told},
        Event(at_s=0, kind=Kind.VRF_LEAF_SAYS, host="host0", leaf="leaf0", tenant="blue", address="10.68.0.1/32"),
        Event(at_s=1, kind=Kind.VRF_LEAF_RESETS, host="host0", leaf="leaf1", tenant="blue"),
        Event(at_s=2, kind=Kind.RELOAD_VRF_NEIGHBOR, host="host1", leaf="leaf0", tenant="red"),
        machines=MACHINES,
    )
    for has_devices, told in ((True, "local"), (True, "all"), (False, "all"))
)
"""Leaves speak to hosts inside VRFs, too; hosts tell others of it by EVPN, or not."""
MOVED = of(
    {"tenants": 2},
    Event(at_s=0, kind=Kind.MACHINE_MOVES, host="host1", tenant="blue", address="10.64.0.1/32", value=5),
    machines=MACHINES,
)
TWICE = of(
    {"tenants": 1},
    Event(at_s=0, kind=Kind.MACHINE_STARTS, host="host1", tenant="blue", address="10.64.0.1/32"),
    machines=MACHINES,
)
MAINTAINED = of(
    {},
    Event(at_s=0, kind=Kind.DRAIN, host="host0"),
    Event(at_s=10, kind=Kind.RESTART, host="host0"),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
)
TAKEN_BACK = of(
    {},
    Event(at_s=0, kind=Kind.DRAIN, host="host0"),
    Event(at_s=10, kind=Kind.UNDRAIN, host="host0"),
    Event(at_s=12, kind=Kind.RESTART, host="host0"),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
)
TAKEN_OVER = of(
    {"tenants": 1},
    Event(at_s=3, kind=Kind.MACHINE_STARTS, host="host1", tenant="blue", address="10.64.0.1/32"),
    Event(at_s=6, kind=Kind.KILL, host="host0"),
    Event(at_s=7, kind=Kind.MACHINE_ENDS, host="host1", tenant="blue", address="10.64.0.1/32"),
    Event(at_s=8, kind=Kind.START, host="host0"),
    machines=MACHINES,
)
TORN = of(
    {"styles": (Style(), Style(), Style())},
    *(Event(at_s=20.0 * number, kind=Kind.HAND_OVER, host="host0", value=0.1) for number in range(3)),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
    is_gentle=True,
)
LOST = of(
    {},
    Event(at_s=0, kind=Kind.ROUTE_GONE, host="host1", address="10.64.0.1/32", value=1),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
)
TURNED = of(
    {"styles": (Style(), Style())},
    Event(at_s=0, kind=Kind.ROUTE_TURNED, host="host1", address="10.64.0.1/32"),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
)
FLICKERING = of(
    {},
    Event(at_s=0, kind=Kind.FLICKER, host="host0", address="10.64.0.3/32", value=0.6),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
)
CONTENDED = of(
    {},
    Event(at_s=0, kind=Kind.CONTEND, host="host0", value=0),
    Event(at_s=3, kind=Kind.CONTEND, host="host0", value=1),
    Event(at_s=6, kind=Kind.RESTART, host="host0"),
)
DOWN = of(
    {"is_unnumbered": True},
    Event(at_s=0, kind=Kind.PUT, host="host0", address="10.64.0.2/32"),
    Event(at_s=2, kind=Kind.WORKLOADS_DOWN, host="host0"),
    claims=(("host0", "10.64.0.1/32"), ("host0", "fd64::1:2/128"), ("host1", "10.64.1.1/32")),
)
UP_AGAIN = of(
    {},
    Event(at_s=0, kind=Kind.PUT, host="host0", address="10.64.0.2/32"),
    Event(at_s=2, kind=Kind.WORKLOADS_DOWN, host="host0"),
    Event(at_s=10, kind=Kind.WORKLOADS_UP, host="host0"),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
)
ENDED = of(
    {"tenants": 1},
    Event(at_s=0, kind=Kind.MACHINE_ENDS, host="host0", tenant="blue", address="10.64.0.1/32"),
    machines=MACHINES,
)
OFFERED = (("host0", "10.65.0.1/32", 1), ("host1", "10.65.0.1/32", 1))
ADDRESSED = of(
    {"has_own_addresses": True, "styles": (Style(), Style()), "is_unnumbered": True},
    Event(at_s=0, kind=Kind.ADDRESS_COMES, host="host0", address=EVERYWHERE),
    Event(at_s=1, kind=Kind.ADDRESS_COMES, host="host1", address=EVERYWHERE),
    Event(at_s=2, kind=Kind.ADDRESS_COMES, host="host1", address="fd63::2:1/128"),
    Event(at_s=3, kind=Kind.ADDRESS_GOES, host="host0", address="10.63.0.1/32"),
    Event(at_s=4, kind=Kind.RELOAD_ADDRESSES, host="host1", value=2),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
)
"""Addresses of hosts themselves come and go, and one has such an address that it does not announce."""
PROBED_TWICE = (("host0", PROBED, 2), ("host1", PROBED, 2))
SILENT = of(
    {"has_probes": True}, Event(at_s=0, kind=Kind.SERVICE_MUTE, host="host0", address=PROBED), services=PROBED_TWICE
)
HEARD_AGAIN = of(
    {"has_probes": True},
    Event(at_s=0, kind=Kind.WORKLOADS_DOWN, host="host0"),
    Event(at_s=1, kind=Kind.SERVICE_MUTE, host="host1", address=PROBED),
    Event(at_s=9, kind=Kind.WORKLOADS_UP, host="host0"),
    Event(at_s=15, kind=Kind.SERVICE_ANSWERS, host="host1", address=PROBED),
    services=PROBED_TWICE,
)
"""The address of a service does not answer, where its backends work; the interface to them goes down meanwhile."""
STUCK = of(
    {"tenants": 1},
    Event(at_s=0, kind=Kind.MACHINE_STARTS_STICKY, host="host0", tenant="blue", address="10.64.0.2/32"),
    machines=MACHINES,
)
LONG_HOLD = of({}, Event(at_s=0, kind=Kind.RELOAD_HOLD_TIME, host="host0", leaf="leaf0", value=60))
SICK = of({}, Event(at_s=0, kind=Kind.BACKEND_SICK, host="host0"), services=OFFERED)
LAST_DRAINED = of(
    {},
    Event(at_s=0, kind=Kind.DRAIN_SERVICES, host="host0"),
    services=OFFERED[:1],
)
DRAINED_TWICE = of(
    {},
    Event(at_s=0, kind=Kind.DRAIN_SERVICES, host="host0"),
    Event(at_s=15, kind=Kind.SERVICE_ENDS, host="host1", address=PLAIN),
    Event(at_s=20, kind=Kind.DRAIN_SERVICES, host="host0"),
    services=OFFERED,
)
BEGUN_WHILE_DRAINED = of(
    {},
    Event(at_s=0, kind=Kind.DRAIN_SERVICES, host="host0"),
    Event(at_s=15, kind=Kind.SERVICE_STARTS, host="host0", address=PLAIN, value=1),
)
LAST_SAID_BY_A_DEAD_LEAF = of(
    {"styles": (Style(), Style())},
    Event(at_s=0, kind=Kind.LOSSY, host="host0", leaf="leaf0", value=1.0),
    Event(at_s=0.5, kind=Kind.SERVICE_ENDS, host="host0", address=PLAIN),
    Event(at_s=1, kind=Kind.LEAF_DIES, host="host0", leaf="leaf0"),
    Event(at_s=1.1, kind=Kind.DRAIN_SERVICES, host="host1"),
    services=OFFERED,
)
FED = (("host0", "10.66.0.1/32"), ("host0", "10.66.0.2/32"))
HALF = of({"has_feed": True}, Event(at_s=0, kind=Kind.FEED_SAYS_HALF), fed=FED, is_gentle=True)
OLD = of(
    {"has_feed": True},
    Event(at_s=0, kind=Kind.FEED_PUTS, host="host0", address="10.66.0.3/32"),
    Event(at_s=2, kind=Kind.FEED_SAYS_OLD, value=0),
    fed=FED,
)
MISSED = of(
    {"has_feed": True},
    Event(at_s=0, kind=Kind.BROKER_FORGETS, value=3),
    Event(at_s=1, kind=Kind.FEED_DELETES, host="host0", address="10.66.0.1/32"),
    fed=FED,
)
DEAD = of(
    {"bfd": "loose"},
    Event(at_s=0, kind=Kind.LEAF_DIES, leaf="leaf0", host="host0"),
    claims=(("host0", "10.64.0.1/32"), ("host1", "10.64.1.1/32")),
    is_gentle=True,
    bound_s=DETECTION_S + 1.0,
)
BFD_ANEW = of({"bfd": "strict"}, Event(at_s=0, kind=Kind.BFD_RESTARTS, host="host0", value=5), is_gentle=True)
BFD_SHUT = of(
    {"bfd": "strict"},
    Event(at_s=0, kind=Kind.BFD_SHUT, host="host0", leaf="leaf0"),
    Event(at_s=5, kind=Kind.BFD_OPENED, host="host0", leaf="leaf0"),
    Event(at_s=20, kind=Kind.BFD_SHUT, host="host0", leaf="leaf0"),
    is_gentle=True,
)
CLAIMS = (("host0", "10.64.0.1/32"), ("host0", "10.64.0.2/32"), ("host1", "10.64.1.1/32"))
TWO_LEAVES: dict[str, object] = {"styles": (Style(), Style())}
LONG: dict[str, object] = {"styles": (Style(long_lived_s=600),) * 2, "long_lived_s": 600}
ASKED = of(
    {"styles": (Style(marks_refresh=True),) * 2, "is_unnumbered": True},
    Event(at_s=0, kind=Kind.LEAF_ASKS, host="host0", leaf="leaf0"),
    claims=(*CLAIMS, ("host0", "fd64::1:2/128")),
    is_gentle=True,
)
AWAY = of(LONG, Event(at_s=0, kind=Kind.LEAF_LEAVES, leaf="leaf0"), claims=CLAIMS, is_gentle=True)
BACK = of(
    LONG,
    Event(at_s=0, kind=Kind.LEAF_LEAVES, leaf="leaf0"),
    Event(at_s=20, kind=Kind.HAND_OVER, host="host0", value=0.1),
    Event(at_s=30, kind=Kind.LEAF_RETURNS, leaf="leaf0"),
    claims=CLAIMS,
    is_gentle=True,
)
GONE_FOR_LONG = of(
    {"styles": (Style(long_lived_s=600),), "long_lived_s": 600},
    Event(at_s=0, kind=Kind.KILL, host="host0"),
    Event(at_s=25, kind=Kind.START, host="host0"),
    claims=CLAIMS,
    is_gentle=True,
)
PREFERRED = of(
    {**TWO_LEAVES, "has_policies": True},
    Event(at_s=0, kind=Kind.RELOAD_IMPORT_POLICY, host="host1", leaf="leaf0", value=IMPORTED.index("prefer")),
    claims=CLAIMS,
    is_gentle=True,
)
OTHER_RULES = of(
    {**TWO_LEAVES, "has_policies": True},
    Event(at_s=0, kind=Kind.RELOAD_IMPORT_POLICY, host="host1", leaf="leaf0", value=IMPORTED.index("changing")),
    Event(at_s=5, kind=Kind.RELOAD_RULES, host="host1", value=list(IMPORTS).index("without-first")),
    claims=CLAIMS,
)
MARKED = of(
    {**TWO_LEAVES, "has_policies": True},
    Event(at_s=0, kind=Kind.RELOAD_EXPORT_POLICY, host="host0", leaf="leaf0", value=EXPORTED.index("mark")),
    Event(at_s=5, kind=Kind.RELOAD_EXPORT_POLICY, host="host0", leaf="leaf1", value=EXPORTED.index("prepend")),
    claims=CLAIMS,
    is_gentle=True,
)
NOT_TOLD = of(
    {**TWO_LEAVES, "has_policies": True},
    Event(at_s=0, kind=Kind.RELOAD_EXPORT_POLICY, host="host0", leaf="leaf0", value=EXPORTED.index("without-second")),
    Event(at_s=5, kind=Kind.LEAF_ASKS, host="host0", leaf="leaf0"),
    claims=CLAIMS,
)
MARKED_IN_TENANTS = of(
    {**TWO_LEAVES, "has_policies": True, "tenants": 1},
    Event(at_s=0, kind=Kind.RELOAD_EXPORT_POLICY, host="host0", leaf="leaf0", value=EXPORTED.index("mark")),
    Event(at_s=5, kind=Kind.RELOAD_EXPORT_POLICY, host="host0", leaf="leaf1", value=EXPORTED.index("prepend")),
    Event(at_s=10, kind=Kind.RELOAD_IMPORT_POLICY, host="host1", leaf="leaf0", value=IMPORTED.index("without-marked")),
    machines=MACHINES,
)
SUMMARY = of(
    TWO_LEAVES,
    Event(at_s=0, kind=Kind.RELOAD_AGGREGATES, host="host0", value=3),
    Event(at_s=5, kind=Kind.RELEASE, host="host0", address="10.64.0.1/32"),
    claims=CLAIMS,
)
CONTAINERS = (("host0", "blue", "10.64.0.3/32"), *MACHINES)
SUMMARY_IN_TENANT = of(
    {**TWO_LEAVES, "tenants": 2},
    Event(at_s=0, kind=Kind.RELOAD_AGGREGATES, host="host0", tenant="blue", value=3),
    Event(at_s=5, kind=Kind.MACHINE_STARTS, host="host1", tenant="blue", address="10.64.0.3/32"),
    machines=CONTAINERS,
)
COVER_IN_TENANT = of(
    {**TWO_LEAVES, "tenants": 1, "tenants_have_v6": True},
    Event(at_s=0, kind=Kind.RELOAD_AGGREGATES, host="host0", tenant="blue", value=4),
    Event(at_s=5, kind=Kind.MACHINE_ENDS, host="host0", tenant="blue", address="10.64.0.3/32"),
    machines=(*CONTAINERS, ("host0", "blue", "10.64.0.2/32"), ("host0", "blue", "fd65::1:3/128")),
)
COVER = of(
    TWO_LEAVES,
    Event(at_s=0, kind=Kind.RELOAD_AGGREGATES, host="host0", value=4),
    Event(at_s=5, kind=Kind.CLAIM, host="host0", address="10.64.0.3/32"),
    claims=CLAIMS,
)
EMPTIED = of(
    TWO_LEAVES,
    Event(at_s=0, kind=Kind.RELOAD_AGGREGATES, host="host0", value=1),
    Event(at_s=5, kind=Kind.RELEASE, host="host0", address="10.64.0.1/32"),
    claims=CLAIMS[:1],
)
TOO_FEW = of({}, Event(at_s=0, kind=Kind.BACKEND_SICK, host="host0"), services=(("host0", BOTH, 2), ("host1", BOTH, 2)))
ALL_SICK = of({}, Event(at_s=0, kind=Kind.BACKENDS_SICK, host="host0", address=KEPT), services=(("host0", KEPT, 2),))
SLOW = of(
    TWO_LEAVES,
    Event(at_s=0, kind=Kind.SLOW, host="host0", leaf="leaf0", value=0.4),
    Event(at_s=1, kind=Kind.STALL, host="host0", value=2.0),
    claims=CLAIMS,
    is_gentle=True,
)
MOVED_LIVE = of(
    TWO_LEAVES, Event(at_s=0, kind=Kind.MOVE_LIVE, host="host1", address="10.64.0.1/32", value=2.0), claims=CLAIMS
)
WITHOUT_FAULT = (
    *(
        VRFS,
        VRFS_V6,
        VRFS_UNNUMBERED,
        RULES,
        SPEAKING,
        SPEAKING_ON,
        SPEAKING_BY_RULES,
        MOVED,
        TWICE,
        ENDED,
        ADDRESSED,
        SILENT,
        HEARD_AGAIN,
        STUCK,
        LONG_HOLD,
        SICK,
        LAST_DRAINED,
        DRAINED_TWICE,
        BEGUN_WHILE_DRAINED,
        LAST_SAID_BY_A_DEAD_LEAF,
        HALF,
        OLD,
        MISSED,
        DEAD,
        BFD_ANEW,
        BFD_SHUT,
    ),
    *(
        ASKED,
        AWAY,
        BACK,
        GONE_FOR_LONG,
        PREFERRED,
        OTHER_RULES,
        MARKED,
        MARKED_IN_TENANTS,
        NOT_TOLD,
        SUMMARY,
        COVER,
        EMPTIED,
    ),
    *(TOO_FEW, ALL_SICK, SLOW, MOVED_LIVE, SUMMARY_IN_TENANT, COVER_IN_TENANT, MAINTAINED, TAKEN_BACK, DOWN, UP_AGAIN),
    *(TAKEN_OVER, TORN, LOST, TURNED, FLICKERING, CONTENDED),
    *(msgspec.structs.replace(RULES_UNSURE, seed=seed) for seed in range(4)),
    *(*KEPT_AT_RELOAD, *KEPT_AT_START),
)


@pytest.mark.parametrize("scenario", WITHOUT_FAULT)
def test_nothing_is_found_without_a_fault(scenario: Scenario) -> None:
    assert run(scenario).found == ()


@pytest.mark.parametrize(
    ("what", "scenario", "says"),
    [
        ("bgpd.evpn.originate.Originator._withdraw", ENDED, "and should have"),
        ("bgpd.evpn.evpn.Evpn.fib_acknowledged", SPEAKING_ON, "and should have"),
        ("bgpd.speaker.listening.Listening._add", SPEAKING_ON, "session with host"),
        ("bgpd.evpn.originate.Originator.uplinks_changed", VRFS, "and should have"),
        ("bgpd.evpn.endpoints.Endpoints.remote_changed", TWICE, "is announced by"),
        ("bgpd.workload.addresses_source.AddressesSource.host_changed", ADDRESSED, "which owns"),
        ("bgpd.workload.addresses_source.AddressesSource.reconfigure", ADDRESSED, "which owns"),
        ("bgpd.fib.vrfs.KernelVrfs.set_interfaces", VRFS, "is looked up in table 254"),
        ("bgpd.workload.service.address_probes.AddressProbes.result", SILENT, "to 10.65.0.4/32 of"),
        ("bgpd.fib.vrfs.KernelVrfs._keep_connected", RULES, "172.20."),
        ("bgpd.workload.service.services.Services.check_result", SICK, "to 10.65.0.1/32 of"),
        ("bgpd.workload.feed.generations.Generations._apply", MISSED, "which owns"),
        ("bgpd.speaker.neighbor.Neighbor.path_failed", DEAD, "after 4.2 s"),
        ("bgpd.rib.adj_rib_in.AdjRibIn.enter_long_lived", AWAY, "and should have it by"),
        ("bgpd.rib.received.forbids_long_lived", AWAY, "a stale route"),
        ("bgpd.rib.aggregates.Aggregation._suppress", SUMMARY, "which owns"),
        ("bgpd.rib.aggregates.Aggregation.contributors_changed", EMPTIED, "which owns []"),
        ("bgpd.rib.aggregates.Aggregation._suppress", SUMMARY_IN_TENANT, "in blue ["),
        ("bgpd.rib.aggregates.Aggregation.contributors_changed", COVER_IN_TENANT, "in blue ["),
        ("bgpd.workload.service.last_resort._are_all", ALL_SICK, "no route to 10.65.0.3/32 of"),
        ("bgpd.evpn.endpoints.Endpoints.all_heard", TAKEN_OVER, "and should have"),
        ("bgpd.workload.damping.Damping._due", FLICKERING, "which owns"),
        ("bgpd.workload.claim_order.ClaimOrder.remember", CONTENDED, "and should lead to veth0"),
    ],
)
def test_planted_faults_are_found(what: str, scenario: Scenario, says: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(what, lambda *_arguments, **_options: None)
    assert says in "\n".join(run(scenario).found)


@pytest.mark.parametrize(
    ("what", "scenario", "says"),
    [
        ("bgpd.rib.aggregates.Aggregation._take_over", SUMMARY, "which owns ['10.64.0.0/24']"),
        ("bgpd.rib.received.ReceivedRoutes._revise", PREFERRED, "and should have it by"),
        ("bgpd.rib.received.ReceivedRoutes._revise", OTHER_RULES, "and should have it by"),
        ("bgpd.rib.received.ReceivedRoutes._revise", MARKED_IN_TENANTS, "of blue leads to"),
        ("bgpd.fib.reconcile.Search.missing", LOST, "by nothing"),
    ],
)
def test_reloads_that_are_not_carried_out_are_found(
    what: str, scenario: Scenario, says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(what, lambda *_arguments: iter(()))
    assert says in "\n".join(run(scenario).found)


def test_a_refresh_that_says_nothing_between_its_marks_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def owe(export: AdjRibOut) -> None:
        export.refresh_owed = True

    monkeypatch.setattr("bgpd.rib.adj_rib_out.AdjRibOut.resend_all", owe)
    assert "leaf0 has no route" in "\n".join(run(ASKED).found)


@pytest.mark.parametrize("scenario", [VRFS, VRFS_UNNUMBERED, SPEAKING])
def test_a_next_hop_that_is_not_the_host_s_is_found(scenario: Scenario, monkeypatch: pytest.MonkeyPatch) -> None:
    right = UpdateEncoder._next_hop

    def beside(encoder: UpdateEncoder, family: Family, next_hop: NextHop | None) -> bytes:
        packed = right(encoder, family, next_hop)
        return packed[:-1] + bytes((packed[-1] ^ 64,))

    monkeypatch.setattr(UpdateEncoder, "_next_hop", beside)
    assert "was told next hops" in "\n".join(run(scenario).found)


def test_sessions_that_end_again_and_again_are_found(monkeypatch: pytest.MonkeyPatch) -> None:
    """Whether one is there at the moment of the look or not."""
    monkeypatch.setattr("bgpd.message.open.min", max, raising=False)  # of both hold times
    assert "has ended while all was at rest" in "\n".join(run(LONG_HOLD).found)


def test_a_machine_that_is_not_announced_as_sticky_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    def freely(mobility: Mobility) -> tuple[bytes, ...]:
        return encode_mobility(msgspec.structs.replace(mobility, sticky=False))

    monkeypatch.setattr("bgpd.evpn.originate.encode_mobility", freely)
    assert "and it is sticky" in "\n".join(run(STUCK).found)


def test_a_drain_that_takes_the_last_announcer_away_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.rib.drained.DrainedRoutes.is_last", lambda *_arguments: False)
    assert "10.65.0.1/32" in "\n".join(run(LAST_DRAINED).found)


def test_a_drain_that_is_forgotten_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.drain.replace_file", lambda *_arguments: None)
    assert "which owns []" in "\n".join(run(MAINTAINED).found)


@pytest.mark.parametrize("scenario", [DOWN, UP_AGAIN])
def test_an_interface_of_workloads_that_is_not_followed_is_found(
    scenario: Scenario, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("bgpd.workload.table.WorkloadTable.link_changed", lambda *_arguments: None)
    assert "host0" in "\n".join(run(scenario).found)


def test_what_is_kept_of_a_former_session_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.rib.loc_rib.LocRib.forget", lambda *_arguments: None)
    assert "are left in the table" in "\n".join(run(AWAY).found + run(TAKEN_BACK).found)


def test_the_beginning_of_a_message_that_is_lost_in_a_hand_over_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    saved = Connection.saved

    def without_unread(connection: Connection, unsent: bytes) -> SavedConnection:
        return msgspec.structs.replace(saved(connection, unsent), unread=b"")

    monkeypatch.setattr(Connection, "saved", without_unread)
    assert "has lost its session" in "\n".join(run(TORN).found)


def test_a_route_that_leads_elsewhere_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Comparison, "suspects", property(lambda _self: [], lambda _self, _keys: None), raising=False)
    assert "10.64.0.1/32 by" in "\n".join(run(TURNED).found)


def test_an_incomplete_generation_that_deletes_is_found(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("bgpd.workload.feed.generations.Generations.complete", property(lambda _self: True))
    assert "10.66.0." in "\n".join(run(HALF).found)
