"""The life of claims in the workload table."""

from __future__ import annotations

from collections import Counter
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from bgpd.model.iana import Family
from bgpd.model.kernel import Address
from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address
from bgpd.model.workload import PLAIN, Claim, ClaimInfo
from bgpd.workload.standing import Foreign
from bgpd.workload.table import FLUSH_SLICE
from tests.workload.fixtures import V4, Rig, claim, key, on

POD = "10.64.1.5/32"


def managed(rig: Rig, prefix: str = POD, interface: str = "pod1", id: str = "a", source: str = "mqtt") -> None:
    rig.claims.claim(source, id, (claim(prefix, interface, id=id, source=source),))


def announced(*interfaces: str) -> Rig:
    """POD is announced on pod1, and `told` has no more of that; there are these interfaces, too."""
    rig = Rig()
    for interface in ("pod1", *interfaces):
        rig.link(interface)
    managed(rig)
    rig.settle()
    rig.told.clear()
    return rig


def test_managed_claim_is_announced_only_after_the_kernel_acknowledged() -> None:
    rig = Rig(acknowledge=False)
    rig.link("pod1")
    managed(rig)
    rig.settle()
    assert rig.told == [("route", "", POD, on("pod1"))]
    assert rig.state("mqtt", "a") == ("pending", "waiting for the kernel to acknowledge the route")
    rig.table.route_acknowledged("", V4, [key(POD)])
    rig.settle()
    assert rig.told[1:] == [("announce", "", [POD], PLAIN)]
    assert rig.state("mqtt", "a") == ("announced", "")


def test_states_are_reported_once_and_when_asked_for() -> None:
    """A route of another program: the neighbors hear of it before those do who want to know what became of it."""
    rig = Rig()
    rig.link("pod1")
    rig.table.foreign_route_changed("", V4, key(POD), Foreign("pod1", False))
    rig.claims.claim("kernel", "a", (claim(POD, "pod1", id="a", source="kernel"),))
    rig.table.settle(rig.now)
    assert (rig.told, rig.states) == ([("announce", "", [POD], PLAIN)], [])
    rig.table.report()
    rig.table.report()
    assert [status.announced for status in rig.states] == [True]


def test_withdrawn_before_the_kernel_loses_the_route() -> None:
    rig = announced()
    rig.claims.claim("mqtt", "a")
    rig.settle()
    assert rig.told == [("withdraw", "", [POD]), ("route", "", POD, None)]
    assert rig.claims.statuses("mqtt", "a") == []
    assert list(rig.claims.views()) == []


def test_interface_that_does_not_exist_is_waited_for() -> None:
    rig = Rig()
    managed(rig)
    rig.settle()
    assert rig.told == []
    assert rig.state("mqtt", "a") == ("pending", "interface pod1 does not exist")
    rig.link("pod1", up=False)
    rig.settle()
    assert rig.state("mqtt", "a") == ("pending", "interface pod1 is down")
    rig.link("pod1")
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}


def test_interface_down_withdraws_and_up_announces_after_a_new_acknowledgement() -> None:
    rig = announced()
    rig.link("pod1", up=False)
    rig.settle()
    assert rig.told == [("withdraw", "", [POD]), ("route", "", POD, None)]
    rig.told.clear()
    rig.acknowledge = False
    rig.link("pod1")
    rig.settle()
    assert rig.told == [("route", "", POD, on("pod1"))]


def test_flap_between_two_flushes_asks_for_the_route_again() -> None:
    rig = announced()
    rig.link("pod1", up=False)
    rig.link("pod1")
    rig.settle()
    assert rig.told == [("withdraw", "", [POD]), ("route", "", POD, on("pod1")), ("announce", "", [POD], PLAIN)]


def test_interface_replaced_under_the_same_name_is_a_new_one() -> None:
    rig = Rig()
    rig.link("pod1", index=7)
    managed(rig)
    rig.settle()
    rig.told.clear()
    rig.link("pod1", index=8)
    rig.link("pod1", index=7, gone=True)
    rig.settle()
    assert ("route", "", POD, on("pod1")) in rig.told
    assert rig.announced == {("", POD): PLAIN}


def test_renamed_interface_is_gone_under_its_old_name() -> None:
    rig = Rig()
    rig.link("pod1", index=7)
    managed(rig)
    rig.settle()
    rig.link("other", index=7)
    rig.settle()
    assert rig.state("mqtt", "a") == ("pending", "interface pod1 does not exist")
    assert rig.announced == {}


def test_refused_route_is_failed_with_the_kernels_words_and_recovers() -> None:
    rig = Rig(acknowledge=False)
    rig.link("pod1")
    managed(rig)
    rig.settle()
    rig.table.route_refused("", V4, [key(POD)], "Network is unreachable")
    rig.settle()
    assert rig.state("mqtt", "a") == ("failed", "Network is unreachable")
    rig.table.route_acknowledged("", V4, [key(POD)])
    rig.settle()
    assert rig.state("mqtt", "a") == ("announced", "")


def test_route_of_another_program_on_that_interface_is_left_alone() -> None:
    rig = Rig()
    rig.link("pod1")
    rig.table.foreign_route_changed("", V4, key(POD), Foreign("pod1", True))
    managed(rig)
    rig.settle()
    assert rig.told == [("announce", "", [POD], PLAIN)]
    rig.told.clear()
    rig.table.foreign_route_changed("", V4, key(POD), None)
    rig.settle()
    assert rig.told == [("withdraw", "", [POD]), ("route", "", POD, on("pod1")), ("announce", "", [POD], PLAIN)]


def test_route_of_another_program_that_comes_later_takes_the_place_of_ours_on_that_interface() -> None:
    """The kernel table gives way to it, as to any route of others: the address is as reachable as before."""
    rig = announced()
    rig.table.foreign_route_changed("", V4, key(POD), Foreign("pod1", True))
    rig.settle()
    assert rig.told == []
    rig.table.route_refused("", V4, [key(POD)], "another program's route to the prefix is in the kernel")
    rig.settle()
    assert rig.told == [("route", "", POD, None)]
    assert rig.state("mqtt", "a") == ("announced", "")
    rig.told.clear()
    rig.table.foreign_route_changed("", V4, key(POD), None)
    rig.settle()
    assert rig.told == [("withdraw", "", [POD]), ("route", "", POD, on("pod1")), ("announce", "", [POD], PLAIN)]


def test_route_of_another_program_to_elsewhere_is_a_conflict_and_nothing_is_announced() -> None:
    rig = Rig()
    rig.link("pod1")
    rig.table.foreign_route_changed("", V4, key(POD), Foreign("eth9", True))
    managed(rig)
    rig.settle()
    assert rig.announced == {}
    assert rig.state("mqtt", "a") == ("conflict", "another program's route of it leads to eth9")
    rig.table.foreign_route_changed("", V4, key(POD), Foreign("eth9", False))
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}


def test_claim_without_an_interface_waits_for_a_route_that_covers_it() -> None:
    rig = Rig()
    bare = Claim(source="mqtt", id="a", family=V4, key=key(POD), needs_route=True)
    rig.claims.claim("mqtt", "a", (bare,))
    rig.settle()
    assert rig.state("mqtt", "a") == ("pending", "no route on an interface of this host leads to it")
    rig.table.foreign_route_changed("", V4, key("10.64.1.0/24"), Foreign("br0", True))
    rig.settle()
    assert (rig.announced, rig.kernel) == ({("", POD): PLAIN}, {})
    rig.table.foreign_route_changed("", V4, key(POD), Foreign("tap1", True))
    rig.table.foreign_route_changed("", V4, key("10.64.1.0/24"), None)
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}
    rig.table.foreign_route_changed("", V4, key(POD), None)
    rig.settle()
    assert rig.announced == {}
    rig.claims.claim("mqtt", "a")
    rig.settle()
    rig.table.foreign_route_changed("", V4, key("10.64.1.0/24"), Foreign("br0", True))
    assert list(rig.claims.views()) == []


def test_address_claimed_twice_shows_conflict_on_both_and_the_first_stays() -> None:
    rig = announced("pod2")
    managed(rig, interface="pod2", id="b", source="api")
    rig.settle()
    assert rig.told == []
    assert rig.kernel == {("", POD): on("pod1")}
    assert rig.state("mqtt", "a") == (
        "conflict",
        f"{POD} is also claimed by api workload b on pod2; this claim came first and stays",
    )
    assert rig.state("api", "b") == ("conflict", f"{POD} is held by mqtt workload a on pod1, which came first")
    rig.claims.claim("mqtt", "a")
    rig.settle()
    assert rig.state("api", "b") == ("announced", "")
    assert rig.kernel == {("", POD): on("pod2")}
    assert rig.announced == {("", POD): PLAIN}


def test_precedence_decides_who_follows_the_holder() -> None:
    rig = Rig()
    for name in ("pod1", "pod2", "pod3"):
        rig.link(name)
    managed(rig)
    rig.claims.claim("kernel", POD, (claim(POD, "pod2", id=POD, source="kernel", managed=False),))
    managed(rig, interface="pod3", id="s", source="static")
    rig.claims.claim("mqtt", "a")
    rig.settle()
    assert rig.kernel == {("", POD): on("pod3")}


def test_claims_that_agree_are_both_in_force() -> None:
    rig = Rig()
    rig.link("pod1")
    managed(rig)
    managed(rig, id="b", source="api")
    rig.settle()
    assert rig.state("mqtt", "a") == rig.state("api", "b") == ("announced", "")
    rig.told.clear()
    rig.claims.claim("mqtt", "a")
    rig.settle()
    assert rig.told == []


def test_what_is_said_of_a_route_of_the_kernel_goes_with_it_whichever_came_first() -> None:
    mac = bytes.fromhex("020000000001")
    route = claim(POD, "cali1", id=POD, source="kernel", managed=False)
    said = Claim(source="api", id="a", family=V4, key=key(POD), needs_route=True, exception=True, mac=mac)
    for first, second in ((route, said), (said, route)):
        rig = Rig()
        rig.link("cali1")
        rig.table.foreign_route_changed("", V4, key(POD), Foreign("cali1", True))
        rig.claims.claim(first.source, first.id, (first,))
        rig.settle()
        rig.claims.claim(second.source, second.id, (second,))
        rig.settle()
        assert rig.state("api", "a") == rig.state("kernel", POD) == ("announced", "")
        assert rig.announced == {("", POD): ClaimInfo(exception=True)}
        assert rig.kernel == {}
        managed(rig, "10.64.1.5/32", "pod2", id="b")
        rig.settle()
        assert rig.state("mqtt", "b")[0] == rig.state("api", "a")[0] == "conflict"
        assert rig.announced == {("", POD): ClaimInfo(exception=True)}


def test_the_same_address_in_two_vrfs_is_no_conflict() -> None:
    rig = Rig()
    rig.link("pod1")
    rig.link("pod2")
    rig.claims.claim("mqtt", "a", (claim(POD),))
    rig.claims.claim("mqtt", "b", (claim(POD, "pod2", id="b", vrf="blue"),))
    rig.settle()
    assert set(rig.announced) == {("", POD), ("blue", POD)}


def test_changed_claim_moves_the_route_in_place() -> None:
    rig = announced("pod2")
    managed(rig, interface="pod2")
    rig.settle()
    assert rig.told == [("route", "", POD, on("pod2"))]
    rig.link("pod1", gone=True)
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}


def test_repeated_claim_does_nothing() -> None:
    rig = announced()
    rig.states.clear()
    managed(rig)
    rig.settle()
    assert (rig.told, rig.states) == ([], [])


def test_moved_address_is_withdrawn_until_claimed_anew() -> None:
    rig = announced("pod2")
    rig.table.moved("", V4, [key(POD)], "leaf1 announces it with a higher sequence number")
    rig.settle()
    assert rig.state("mqtt", "a") == ("moved", "leaf1 announces it with a higher sequence number")
    assert (rig.announced, rig.kernel) == ({}, {})
    managed(rig, interface="pod2")
    rig.settle()
    assert rig.announced == {("", POD): PLAIN}


def test_suppressed_by_an_aggregate_is_shown_and_stays_told_to_the_rib() -> None:
    rig = announced()
    rig.table.suppressed("", V4, [key(POD)], "10.64.1.0/26")
    rig.settle()
    assert rig.state("mqtt", "a") == ("suppressed", "covered by 10.64.1.0/26")
    assert rig.announced
    rig.table.suppressed("", V4, [key(POD)], "")
    rig.settle()
    assert rig.state("mqtt", "a") == ("announced", "")


def test_exception_and_mac_travel_with_the_announcement() -> None:
    rig = Rig()
    rig.link("pod1")
    mac = bytes.fromhex("020000000001")
    fields: dict[str, Any] = {"source": "mqtt", "id": "a", "family": V4, "key": key(POD), "interface": "pod1"}
    rig.claims.claim("mqtt", "a", (Claim(**fields, exception=True, mac=mac, vrf="blue"),))
    rig.settle()
    assert rig.announced == {("blue", POD): ClaimInfo(exception=True, mac=mac)}
    rig.claims.claim("mqtt", "a", (Claim(**fields, mac=mac, vrf="blue"),))
    rig.settle()
    assert rig.announced == {("blue", POD): ClaimInfo(mac=mac)}


def test_service_members_go_to_the_service_route() -> None:
    rig = Rig()
    members = (NextHop(address=b"\x0a\x40\x01\x05", interface="pod1", weight=3),)
    service = Claim(
        source="service", id="s", family=V4, key=key("10.64.9.1"), manage_route=True, members=members, resilient=True
    )
    rig.claims.claim("service", "s", (service,))
    rig.settle()
    assert rig.told == [
        ("service", "", "10.64.9.1/32", members, True),
        ("announce", "", ["10.64.9.1/32"], ClaimInfo(is_service=True)),
    ]


def test_ten_thousand_claims_are_told_in_bulk_and_in_slices() -> None:
    rig = Rig()
    rig.link("pod1")
    for i in range(10_000):
        prefix = f"10.64.{i >> 8}.{i & 255}/32"
        rig.claims.claim("kernel", prefix, (claim(prefix, id=prefix, source="kernel", managed=False),))
    assert rig.scheduled == 1
    rig.settle()
    assert [len(told[2]) for told in rig.told if isinstance(told[2], list)] == [FLUSH_SLICE] * 20
    assert len(rig.announced) == 10_000


def test_synchronised_is_told_once_after_all_sources_and_the_kernel() -> None:
    rig = Rig(sources=("kernel", "mqtt"), acknowledge=False)
    rig.link("pod1")
    managed(rig)
    rig.first_state.heard("kernel")
    rig.settle()
    assert rig.synchronised == 0
    rig.first_state.heard("mqtt")
    rig.settle()
    assert rig.synchronised == 0
    rig.table.route_acknowledged("", V4, [key(POD)])
    rig.settle()
    rig.first_state.heard("mqtt")
    rig.settle()
    assert rig.synchronised == 1


def test_initial_state_that_never_comes_is_waited_for_no_longer_than_told() -> None:
    rig = Rig(sources=("mqtt",))
    rig.settle()
    assert rig.first_state.time_out() == ["mqtt"]
    assert rig.synchronised == 1


def test_views_are_sorted_and_tell_since_when() -> None:
    rig = Rig()
    managed(rig, "10.64.1.9/32", id="z")
    managed(rig, "2001:db8::1/128", id="y")
    managed(rig, "10.64.1.1/32", id="x")
    rig.settle()
    rig.now = 2000.0
    rig.link("pod1")
    rig.settle()
    views = list(rig.claims.views())
    assert [view.prefix for view in views] == ["10.64.1.1/32", "10.64.1.9/32", "2001:db8::1/128"]
    assert {(view.state, view.since, view.announced) for view in views} == {("announced", 2000.0, True)}


_ADDRESSES = ["10.0.0.1/32", "10.0.0.2/32", "2001:db8::1/128"]
_STEP = st.one_of(
    st.tuples(
        st.just("claim"),
        st.sampled_from(["static", "mqtt", "api", "kernel"]),
        st.sampled_from("ab"),
        st.lists(st.tuples(st.sampled_from(_ADDRESSES), st.sampled_from(["p", "q"])), max_size=3),
    ),
    st.tuples(st.just("link"), st.sampled_from(["p", "q"]), st.sampled_from(["up", "down", "gone"])),
    st.tuples(st.just("foreign"), st.sampled_from(_ADDRESSES), st.sampled_from(["p", "q", ""])),
    st.tuples(st.just("flush")),
)


@settings(max_examples=200, deadline=None)
@given(st.lists(_STEP, max_size=25))
def test_any_history_ends_where_its_last_facts_lead(steps: list[Any]) -> None:
    """Only what is claimed on an interface that is up is announced, and bgpd's routes are exactly those it needs.

    The counts by state are at every moment what a recount would find.
    """
    rig = Rig()
    claims: dict[tuple[str, str], dict[str, str]] = {}
    links: dict[str, str] = {}
    for step in steps:
        match step:
            case ("claim", source, id, wanted):
                addresses = dict(wanted)
                claims[source, id] = addresses
                made = [claim(a, i, id=id, source=source, managed=source != "kernel") for a, i in addresses.items()]
                rig.claims.claim(source, id, made)
            case ("link", name, "gone"):
                links.pop(name, None)
                rig.link(name, gone=True)
            case ("link", name, state):
                links[name] = state
                rig.link(name, up=state == "up")
            case ("foreign", address, interface):
                family = Family.IPV6_UNICAST if ":" in address else V4
                rig.table.foreign_route_changed(
                    "", family, key(address), Foreign(interface, False) if interface else None
                )
            case _:
                rig.settle()
        assert rig.claims.state_counts() == Counter((view.source, view.state) for view in rig.claims.views())
    rig.settle()
    assert rig.claims.state_counts() == Counter((view.source, view.state) for view in rig.claims.views())
    possible = {a for wanted in claims.values() for a, i in wanted.items() if links.get(i) == "up"}
    claimed = {a for wanted in claims.values() for a in wanted}
    assert {prefix for _, prefix in rig.announced} <= possible
    assert {prefix for _, prefix in rig.kernel} <= possible
    assert {view.prefix for view in rig.claims.views()} == claimed
    for view in rig.claims.views():
        assert (view.state == "announced") <= view.announced


def test_another_kernel_table_of_a_vrf_is_asked_for_its_routes_before_anything_is_announced_again() -> None:
    rig = Rig()
    rig.link("pod1")
    for vrf in ("blue", "red"):
        rig.claims.claim("mqtt", vrf, (claim(POD, id=vrf, vrf=vrf),))
    rig.settle()
    rig.told.clear()
    rig.table.kernel_table_changed("blue")
    rig.settle()
    assert [told[:3] for told in rig.told] == [
        ("withdraw", "blue", [POD]),
        ("route", "blue", POD),
        ("announce", "blue", [POD]),
    ]


def test_addresses_are_told_again_whatever_was_told() -> None:
    rig = announced()
    place, stray = ("", V4), key("10.64.9.9/32")
    assert rig.table.keys(place) == [key(POD)]
    assert rig.table.carried_out(place, key(POD)) == (True, True)
    assert rig.table.carried_out(place, stray) == (False, False)
    rig.told.clear()
    rig.announced["", "10.64.9.9/32"] = PLAIN
    rig.table.carry_out_again(place, [key(POD), stray])
    rig.settle()
    assert rig.told == [
        ("withdraw", "", ["10.64.9.9/32"]),
        ("route", "", POD, on("pod1")),
        ("announce", "", [POD], PLAIN),
    ]
    assert rig.table.carried_out(place, key(POD)) == (True, True)


def test_orchestrator_may_not_claim_what_the_host_itself_needs() -> None:
    rig = Rig()
    rig.link("pod1")
    rig.reserves[key(POD)] = "10.64.1.5, neighbor leaf1"
    managed(rig)
    rig.settle()
    state, reason = rig.state("mqtt", "a")
    assert state == "failed"
    assert reason.startswith("this host itself needs 10.64.1.5, neighbor leaf1; ")
    assert rig.told == []
    rig.reserves.clear()
    rig.table.look_again(("", V4), [key(POD), key("10.64.9.9/32")])
    rig.settle()
    assert rig.state("mqtt", "a") == ("announced", "")
    rig.reserves[key(POD)] = "10.64.1.5, the MQTT broker"
    rig.told.clear()
    rig.table.look_again(("", V4), [key(POD)])
    rig.settle()
    assert rig.told == [("withdraw", "", [POD]), ("route", "", POD, None)]


def test_configuration_may_claim_what_it_likes() -> None:
    rig = Rig()
    rig.link("pod1")
    rig.reserves[key(POD)] = "10.64.1.5, neighbor leaf1"
    rig.claims.claim("static", "a", [claim(POD, source="static")])
    rig.settle()
    assert rig.state("static", "a") == ("announced", "")


def test_listing_outlives_changes_of_the_table() -> None:
    rig = Rig()
    rig.link("pod1")
    for number in range(3):
        rig.claims.claim("mqtt", f"w{number}", [claim(f"10.64.1.{number}/32", id=f"w{number}")])
    rig.settle()
    listing = rig.claims.views()
    assert next(listing).prefix == "10.64.1.0/32"
    rig.claims.claim("mqtt", "w1")
    rig.settle()
    assert [view.prefix for view in listing] == ["10.64.1.2/32"]


@pytest.mark.parametrize(
    ("prefix", "address"), [("10.99.0.1/32", "10.99.0.1/32"), ("2001:db8::1/128", "2001:db8::1/64")]
)
def test_address_of_the_host_itself_needs_no_route(prefix: str, address: str) -> None:
    rig = Rig()
    rig.link("lo")
    rig.address("lo", address)
    managed(rig, prefix, "lo", source="static")
    rig.settle()
    assert (set(rig.announced), rig.kernel) == ({("", prefix)}, {})
    assert rig.state("static", "a") == ("announced", "")


def test_route_follows_and_yields_to_the_address_of_the_host_itself() -> None:
    rig = Rig()
    rig.link("lo")
    managed(rig, "10.99.0.1/32", "lo", source="static")
    rig.settle()
    assert rig.kernel == {("", "10.99.0.1/32"): on("lo")}
    rig.address("lo", "10.99.0.1/32")
    rig.settle()
    assert (set(rig.announced), rig.kernel) == ({("", "10.99.0.1/32")}, {})
    rig.address("lo", "10.99.0.1/32", gone=True)
    rig.settle()
    assert (set(rig.announced), rig.kernel) == ({("", "10.99.0.1/32")}, {("", "10.99.0.1/32"): on("lo")})


def test_route_stays_while_the_address_of_the_host_itself_is_tentative() -> None:
    """The kernel delivers nothing to one whose detection of duplicates goes on, or has found one."""
    rig = Rig()
    rig.link("br0")
    managed(rig, "2001:db8::1/128", "br0", source="static")
    rig.settle()
    tentative = Address(
        index=rig.host.index_of("br0"), packed=parse_address("2001:db8::1"), prefix_length=64, usable=False
    )
    rig.host.address(tentative)
    rig.settle()
    assert rig.kernel == {("", "2001:db8::1/128"): on("br0")}
    rig.host.address(msgspec.structs.replace(tentative, usable=True))
    rig.settle()
    assert (set(rig.announced), rig.kernel) == ({("", "2001:db8::1/128")}, {})


def test_address_on_another_interface_is_not_the_workload_s() -> None:
    rig = Rig()
    rig.link("lo")
    rig.link("pod1")
    rig.address("lo", "10.99.0.1/32")
    managed(rig, "10.99.0.1/32", "pod1")
    rig.settle()
    assert rig.kernel == {("", "10.99.0.1/32"): on("pod1")}
