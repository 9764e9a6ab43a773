"""Probes of service addresses: when they are asked, by which way, and what follows from their answers."""

from __future__ import annotations

from typing import Any

import msgspec

from bgpd.model.next_hop import NextHop
from bgpd.model.prefix import parse_address
from bgpd.model.service import Backend, CheckType, HealthCheck, LastResort, ServiceMode
from bgpd.workload.service.probes import Way
from bgpd.workload.service.services import SETTLE_S
from tests.logs import capture_logs
from tests.workload.fixtures import claim
from tests.workload.service.rig import TCP, VIP, A, ServiceRig, clocked

PROBE = HealthCheck(type=CheckType.HTTP, port=80, rise=1, fall=2)
ID = ("web", "", "10.64.9.1")
BOTH = (NextHop(parse_address(A), "pod1", 2), NextHop(parse_address("10.64.1.6"), "pod2"))


def probed(rig: ServiceRig | None = None, **fields: Any) -> ServiceRig:
    """A service with a probe, whose kernel route is there."""
    rig = rig or ServiceRig()
    rig.offer(**{"probe": PROBE} | fields)
    rig.probe_route()
    return rig


def probes(rig: ServiceRig) -> list[tuple[str, str]]:
    view = rig.services.view("web")
    assert view is not None
    return [(one.state, one.reason) for one in view.probes]


def test_address_is_asked_by_its_backends_when_the_kernel_has_the_route_and_announced_when_it_answers() -> None:
    rig = ServiceRig()
    rig.offer(probe=PROBE)
    assert rig.probe_routes == {("", VIP): BOTH}
    assert ID not in rig.checks.running
    rig.probe_route()
    assert rig.checks.ways[ID] == Way(source="169.254.62.1", hops=1)
    assert not rig.is_announced
    assert rig.members == {"pod1": 2, "pod2": 1}
    assert rig.state("service", "web") == ("pending", "the probe of 10.64.9.1: not checked yet")
    assert probes(rig) == [("unknown", "not checked yet")]
    rig.answer()
    assert rig.is_announced
    assert probes(rig) == [("healthy", "")]
    assert rig.services.probes.counts() == {"healthy": 1, "unhealthy": 0, "unknown": 0}


def test_address_that_answers_no_more_is_withdrawn_gives_way_to_the_fabric_and_is_asked_on() -> None:
    rig = probed()
    rig.answer()
    assert rig.yielding == set()
    rig.told.clear()
    rig.answer("HTTP status 503")
    assert rig.is_announced
    rig.answer("HTTP status 503")
    assert [told[0] for told in rig.told] == ["withdraw", "service"]
    assert rig.yielding == {VIP}
    assert rig.probe_rewrites == 2
    assert ID in rig.checks.running
    assert rig.probe_routes == {("", VIP): BOTH}
    assert rig.services.state_counts()["withheld"] == 1
    rig.told.clear()
    rig.acknowledge = False
    rig.answer()
    assert rig.yielding == set()
    assert not rig.is_announced, "the kernel may still go by the fabric's route"
    rig.acknowledge = True
    rig.table.route_acknowledged("", *key_of_vip())
    rig.settle()
    assert rig.is_announced


def key_of_vip() -> tuple[Any, list[bytes]]:
    from bgpd.model.prefix import parse_prefix

    family, key = parse_prefix(VIP)
    return family, [key]


def test_address_without_backends_is_not_asked_and_what_was_known_of_the_former_ones_is_forgotten() -> None:
    rig = ServiceRig()
    rig.offer(check=TCP, probe=PROBE)
    assert rig.probe_routes == {}
    assert probes(rig) == [("unknown", "not asked: no usable backend")]
    rig.result("a")
    rig.probe_route()
    rig.answer()
    assert rig.is_announced
    rig.result("a", "Connection refused")
    assert not rig.is_announced
    assert rig.probe_routes == {}
    assert ID not in rig.checks.running
    rig.answer()
    rig.result("b")
    rig.probe_route()
    assert not rig.is_announced
    rig.answer()
    assert rig.is_announced


def probed_late(rig: ServiceRig) -> None:
    """Offer the service as it is, with a probe."""
    rig.offer(probe=PROBE)
    rig.probe_route()


def test_announced_address_that_gets_a_probe_or_another_one_stays_announced_until_that_has_failed() -> None:
    rig = ServiceRig()
    rig.offer()
    assert rig.is_announced
    rig.told.clear()
    probed_late(rig)
    assert not [told for told in rig.told if told[0] in ("withdraw", "service")]
    rig.answer("refused")
    assert rig.is_announced
    other = msgspec.structs.replace(PROBE, port=81)
    rig.offer(probe=other)
    rig.probe_route()
    rig.answer("refused")
    assert rig.is_announced
    rig.answer("refused")
    assert not rig.is_announced
    rig.offer()
    assert rig.is_announced
    assert rig.probe_routes == {}
    assert rig.checks.running == {}


def test_service_that_moves_to_another_vrf_has_to_answer_there_first() -> None:
    rig = probed()
    rig.answer()
    assert rig.is_announced
    rig.link("pod3")
    rig.claims.claim("mqtt", "c", (claim("10.64.1.7/32", "pod3", id="c", vrf="blue"),))
    rig.offer(probe=PROBE, vrf="blue", backends=(Backend(id="c", addresses=("10.64.1.7",)),))
    assert set(rig.announced) & {("", VIP), ("blue", VIP)} == set()
    rig.probe_route(vrf="blue")
    assert ("blue", VIP) not in rig.announced
    rig.answer()
    assert ("blue", VIP) in rig.announced


def test_answer_to_a_probe_that_was_changed_removed_or_never_was_counts_nothing() -> None:
    rig = ServiceRig()
    rig.answer()
    rig.offer(probe=PROBE)
    rig.answer()
    assert not rig.is_announced, "it was not asked yet"
    rig.probe_route()
    stale = rig.probe_answers["", VIP]
    rig.services.apply("mqtt", "web", None)
    rig.settle()
    assert (rig.checks.running, rig.probe_routes) == ({}, {})
    stale("")
    rig.answer()
    assert rig.checks.running == {}
    assert not rig.is_announced


def test_route_that_the_kernel_refuses_is_the_reason_and_nobody_is_asked() -> None:
    rig = probed()
    rig.answer()
    rig.probe_route("Network is down")
    assert ID not in rig.checks.running
    assert rig.is_announced, "what answered a moment ago is not withdrawn for it"
    assert probes(rig) == [("healthy", "Network is down")]
    rig.probe_route()
    assert ID in rig.checks.running

    rig = ServiceRig()
    rig.offer(probe=PROBE)
    rig.probe_route("Network is down")
    assert rig.state("service", "web") == ("pending", "the probe of 10.64.9.1: Network is down")


def test_program_goes_the_way_of_the_host_so_the_local_route_stays() -> None:
    rig = ServiceRig()
    rig.offer(probe=HealthCheck(type=CheckType.EXEC, command="ask", rise=1, fall=1))
    assert rig.probe_routes == {}
    assert rig.checks.ways[ID] == Way()
    rig.answer()
    assert rig.is_announced
    rig.answer("ask ended with code 1")
    assert not rig.is_announced
    assert rig.yielding == set()


def test_address_of_the_host_itself_may_take_one_hop_more() -> None:
    rig = ServiceRig()
    rig.link("kube-ipvs0")
    rig.address("kube-ipvs0", "10.64.9.1/32")
    rig.offer(probe=PROBE, mode=ServiceMode.ANNOUNCE_ONLY)
    assert rig.probe_routes == {("", VIP): ()}
    rig.probe_route()
    assert rig.checks.ways[ID].hops == 2
    rig.answer()
    assert rig.is_announced


def test_interface_that_gets_the_address_later_is_asked_one_hop_further() -> None:
    """kube-proxy may have the address on kube-ipvs0 only after the service is known, and IPVS takes one hop."""
    rig = probed(mode=ServiceMode.ANNOUNCE_ONLY)
    assert rig.checks.ways[ID].hops == 1
    rig.answer("no answer in 1 s")
    rig.link("kube-ipvs0")
    rig.address("kube-ipvs0", "10.64.9.1/32")
    rig.answer("no answer in 1 s")
    rig.probe_route()
    assert rig.checks.ways[ID].hops == 2
    rig.answer()
    assert rig.is_announced
    rig.checks.ways.clear()
    rig.answer("HTTP status 503")
    rig.probe_route()
    assert ID not in rig.checks.ways, "it is asked on as before"


def test_each_address_of_a_service_answers_for_itself() -> None:
    rig = ServiceRig()
    vips = tuple(f"10.64.9.{number}" for number in range(1, 17))
    rig.offer(addresses=vips, probe=PROBE)
    assert len(rig.probe_routes) == 16
    for vip in vips:
        rig.probe_route(prefix=f"{vip}/32")
    for vip in vips[:15]:
        rig.answer(address=vip)
    assert len([prefix for _, prefix in rig.announced if prefix.startswith("10.64.9.")]) == 15
    rig.offer(addresses=vips[:2], probe=PROBE)
    assert set(rig.probe_routes) == {("", f"{vip}/32") for vip in vips[:2]}
    assert set(rig.checks.running) == {("web", "", vip) for vip in vips[:2]}


def test_too_few_backends_serve_until_the_fabric_has_heard_and_then_give_way() -> None:
    rig, clock = clocked()
    rig.offer(check=TCP, min_healthy=2)
    rig.result("a")
    rig.result("b")
    assert rig.is_announced
    rig.result("b", "refused")
    assert (rig.is_announced, rig.yielding) == (False, set())
    clock.pass_(SETTLE_S, rig)
    assert rig.yielding == {VIP}
    rig.result("b")
    assert (rig.is_announced, rig.yielding) == (True, set())


def test_drained_service_keeps_its_route_whatever_it_answers() -> None:
    rig = probed()
    rig.answer()
    rig.offer(probe=PROBE, drain=True)
    rig.answer("refused")
    rig.answer("refused")
    assert (rig.is_announced, rig.yielding) == (False, set())
    assert rig.state("service", "web")[1] == "the service is drained"


def test_backends_that_are_kept_as_a_last_resort_are_asked_too() -> None:
    rig, _clock = clocked()
    rig.offer(check=TCP, last_resort=LastResort.KEEP, probe=PROBE)
    rig.result("a")
    rig.result("b")
    rig.probe_route()
    rig.answer()
    assert rig.is_announced
    rig.result("a", "refused")
    rig.result("b", "refused")
    assert rig.is_announced
    assert ID in rig.checks.running
    rig.answer("refused")
    rig.answer("refused")
    assert rig.is_announced, "the probe is a check too, and may be as broken as the others"


def test_address_that_answers_no_more_is_kept_as_a_last_resort_until_it_is_withdrawn_for_another_reason() -> None:
    rig, clock = clocked()
    service = rig.offer(check=TCP, last_resort=LastResort.KEEP, probe=PROBE)
    rig.result("a")
    rig.probe_route()
    assert not rig.is_announced, "what has never answered is not announced"
    rig.answer()
    clock.pass_(2, rig)
    with capture_logs() as log:
        rig.answer("HTTP status 404")
        rig.answer("HTTP status 404")
        clock.pass_(100, rig)
    assert (rig.is_announced, rig.yielding, rig.announced["", VIP].bandwidth) == (True, set(), 2000.0)
    state, reason = rig.state("service", "web")
    assert state == "announced"
    assert reason.startswith("last resort: announced as before though it does not answer; the probe of 10.64.9.1: HTTP")
    assert [entry["event"] for entry in log] == ["service.address_fails", "service.last_resort"]
    view = rig.services.view("web")
    assert view is not None
    assert (view.kept, rig.services.state_counts()["last-resort"]) == (["10.64.9.1"], 1)
    with capture_logs() as log:
        rig.answer()
    assert [entry["event"] for entry in log] == ["service.address_answers", "service.last_resort_ended"]
    assert rig.state("service", "web") == ("announced", "")
    rig.answer("HTTP status 404")
    rig.answer("HTTP status 404")
    assert rig.is_announced
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, last_resort=LastResort.WITHDRAW))
    rig.settle()
    assert not rig.is_announced
    rig.services.apply("mqtt", "web", service)
    rig.settle()
    assert not rig.is_announced, "it has to answer first"


def test_address_that_is_kept_though_it_does_not_answer_is_kept_over_a_hand_over() -> None:
    rig, clock = clocked()
    service = rig.offer(check=TCP, last_resort=LastResort.KEEP, probe=PROBE)
    rig.result("a")
    rig.probe_route()
    rig.answer()
    for _ in range(2):
        rig.answer("refused")
    assert rig.is_announced
    health, standing = rig.services.save(), rig.services.save_standing()
    after, later = clocked()
    later.now = clock.now
    after.begin_start()
    after.services.remember(health)
    after.services.remember_standing(standing)
    after.services.apply("mqtt", "web", service)
    after.settle()
    after.services.release()
    after.settle()
    assert after.is_announced


def test_after_a_start_probes_are_waited_for_and_after_an_upgrade_they_are_known() -> None:
    before = ServiceRig()
    before.offer(check=TCP, probe=PROBE)
    before.result("a")
    before.probe_route()
    before.answer()
    left = before.services.save()

    rig = ServiceRig()
    rig.begin_start()
    rig.offer(check=TCP, probe=PROBE)
    rig.services.states_changed(())
    assert rig.services.undecided()

    rig = ServiceRig()
    rig.begin_start()
    rig.services.remember(left)
    rig.offer(check=TCP, probe=PROBE)
    assert [state for state, _reason in probes(rig)] == ["healthy"]
    rig.result("b", "refused")
    assert not rig.services.undecided()
    rig.services.release()
    rig.settle()
    assert rig.is_announced

    rig = ServiceRig()
    rig.begin_start()
    rig.services.remember(left)
    rig.offer(check=TCP, probe=msgspec.structs.replace(PROBE, path="/other"))
    assert rig.services.undecided(), "another question was answered"

    rig.services.remember(b"\x00junk")


def test_backend_gone_and_back_within_one_judgement_is_asked_anew_by_the_same_route() -> None:
    rig = probed(backends=(Backend(id="a", addresses=(A,)),))
    rig.answer()
    rig.link("pod1", up=False)
    rig.settle()
    assert (rig.is_announced, rig.probe_routes) == (False, {})
    rig.link("pod1")
    rig.settle()
    rig.probe_route()
    assert not rig.is_announced
    rig.answer()
    assert rig.is_announced
