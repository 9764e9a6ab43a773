"""Services: which backends serve, and when the address is announced."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import msgspec

from bgpd.model.prefix import parse_address, parse_prefix
from bgpd.model.service import Backend, CheckType, HealthCheck, Service, ServiceMode, WeightFrom
from bgpd.model.workload import ClaimInfo
from bgpd.workload.service.backlog import CLAIMED as SLICE
from bgpd.workload.service.backlog import JUDGED
from bgpd.workload.service.services import Services
from tests.workload.fixtures import claim
from tests.workload.service.rig import TCP, VIP, A, B, ServiceRig, clocked


def test_healthy_backends_serve_by_weight_and_the_address_escapes_aggregates() -> None:
    rig = ServiceRig()
    rig.offer(check=TCP)
    assert not rig.is_announced
    rig.result("a")
    rig.result("b")
    assert rig.members == {"pod1": 2, "pod2": 1}
    assert rig.kernel["", VIP][0].address == parse_address(A)
    assert rig.announced["", VIP] == ClaimInfo(exception=True, is_service=True)


def test_failed_backend_leaves_the_group_in_one_change_and_nothing_is_withdrawn() -> None:
    rig = ServiceRig()
    rig.offer(check=TCP, resilient=True)
    rig.result("a")
    rig.result("b")
    rig.told.clear()
    rig.result("b", "Connection refused")
    assert [told[0] for told in rig.told] == ["service"]
    assert rig.members == {"pod1": 2}
    assert rig.told[0][4] is True


def test_fewer_than_min_healthy_is_withdrawn_but_still_served() -> None:
    rig = ServiceRig()
    rig.offer(check=TCP, min_healthy=2)
    rig.result("a")
    assert (rig.is_announced, rig.members) == (False, {"pod1": 2})
    rig.result("b")
    assert rig.is_announced
    rig.result("a", "HTTP status 503")
    assert (rig.is_announced, rig.members) == (False, {"pod2": 1})
    state, reason = rig.state("service", "web")
    assert state == "pending"
    assert reason == "1 of at least 2 backends are healthy: a: HTTP status 503"


def test_last_backend_gone_withdraws_before_the_route_goes() -> None:
    rig = ServiceRig()
    rig.offer(check=TCP)
    rig.result("a")
    rig.told.clear()
    rig.result("a", "Connection refused")
    assert [told[0] for told in rig.told] == ["withdraw", "route"]
    assert rig.members == {}


def test_drained_service_is_withdrawn_and_serves_what_still_arrives() -> None:
    rig = ServiceRig()
    service = rig.offer()
    assert rig.is_announced
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, drain=True))
    rig.settle()
    assert (rig.is_announced, rig.members) == (False, {"pod1": 2, "pod2": 1})
    assert rig.state("service", "web") == ("pending", "the service is drained")


def test_drained_backend_gets_no_new_flows() -> None:
    rig = ServiceRig()
    rig.offer(backends=(Backend(id="a", addresses=(A,), drain=True), Backend(id="b", addresses=(B,))))
    assert (rig.is_announced, rig.members) == (True, {"pod2": 1})


def test_announce_only_keeps_no_route() -> None:
    rig = ServiceRig()
    rig.offer(mode=ServiceMode.ANNOUNCE_ONLY)
    assert (rig.is_announced, rig.members) == (True, {})


def test_pushed_health_is_taken_as_it_is_and_unknown_is_not_healthy() -> None:
    rig = ServiceRig()
    check = HealthCheck(type=CheckType.PUSH)
    backends = (Backend(id="a", addresses=(A,), healthy=True), Backend(id="b", addresses=(B,)))
    rig.offer(check=check, backends=backends)
    assert rig.members == {"pod1": 1}
    assert rig.checks.running == {}


def test_backend_that_is_no_workload_of_this_host_does_not_count() -> None:
    rig = ServiceRig()
    rig.offer(backends=(Backend(id="x", addresses=("10.64.1.99",)),))
    assert not rig.is_announced
    assert "no announced workload on an interface of this host has 10.64.1.99" in rig.state("service", "web")[1]
    rig.pod("x", "10.64.1.99", "pod1")
    rig.settle()
    assert rig.is_announced


def test_backend_whose_workload_goes_leaves_and_its_check_stops() -> None:
    rig = ServiceRig()
    rig.offer(check=TCP)
    rig.result("a")
    rig.result("b")
    rig.claims.claim("mqtt", "b")
    rig.settle()
    assert rig.members == {"pod1": 2}
    assert set(rig.checks.running) == {("web", "a", A)}
    rig.link("pod1", up=False)
    rig.settle()
    assert not rig.is_announced
    assert rig.checks.running == {}


def test_changed_service_keeps_the_health_of_unchanged_checks() -> None:
    rig = ServiceRig()
    service = rig.offer(check=TCP)
    rig.result("a")
    rig.told.clear()
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, min_healthy=1, resilient=True))
    rig.settle()
    assert rig.is_announced
    assert rig.members == {"pod1": 2}
    other = HealthCheck(type=CheckType.TCP, port=81)
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, check=other))
    rig.settle()
    assert not rig.is_announced
    assert [one.healthy for one in rig.services._services["web"].health.values()] == [None, None]


def test_removed_service_stops_its_checks_and_takes_its_route_along() -> None:
    rig = ServiceRig()
    rig.offer(check=TCP)
    rig.result("a")
    rig.services.apply("mqtt", "web", None)
    rig.settle()
    assert (rig.is_announced, rig.members, rig.checks.running, rig.services.names()) == (False, {}, {}, [])
    rig.services.check_result(("web", "a", A), "", 1.0)


def test_check_in_a_vrf_is_bound_to_the_workloads_interface() -> None:
    rig = ServiceRig()
    rig.claims.claim("mqtt", "v", (claim("10.64.1.7/32", "pod1", id="v", vrf="blue"),))
    rig.offer(check=TCP, vrf="blue", backends=(Backend(id="v", addresses=("10.64.1.7",)),))
    assert rig.checks.running == {("web", "v", "10.64.1.7"): "pod1"}


def test_view_tells_each_backend() -> None:
    rig = ServiceRig()
    rig.offer(check=TCP)
    rig.result("a")
    rig.result("b", "Connection refused")
    view = rig.services.view("web")
    assert view is not None
    assert [(b.id, b.state, b.reason) for b in view.backends] == [
        ("a", "healthy", ""),
        ("b", "unhealthy", "Connection refused"),
    ]
    assert (view.announced, view.healthy, view.source) == (True, 1, "mqtt")
    assert rig.services.view("none") is None


def test_backend_with_too_few_good_answers_is_not_known_to_be_healthy() -> None:
    rig = ServiceRig()
    rig.offer(check=msgspec.structs.replace(TCP, rise=3))
    rig.result("a")
    rig.result("a")
    view = rig.services.view("web")
    assert view is not None
    assert (view.backends[0].state, view.healthy, view.announced) == ("unknown", 0, False)
    assert view.backends[0].reason == "2 of 3 good answers in a row that it needs"


def test_after_a_start_nothing_is_told_to_the_kernel_until_all_is_known() -> None:
    """A group of the backends whose checks came first would cost the flows of the others."""
    rig = ServiceRig()
    rig.services = Services(rig.claims, rig.checks)
    rig.offer(check=TCP)
    rig.result("a")
    assert (rig.is_announced, rig.members) == (False, {})
    view = rig.services.view("web")
    assert view is not None
    assert "are waited for" in view.reason
    rig.result("b")
    rig.told.clear()
    rig.services.release()
    rig.settle()
    assert (rig.is_announced, rig.members) == (True, {"pod1": 2, "pod2": 1})
    assert [told[0] for told in rig.told if told[0] == "service"] == ["service"]


def test_results_that_come_together_are_one_change_of_their_service() -> None:
    rig = ServiceRig()
    changed: list[str] = []
    planned: list[Callable[[], None]] = []
    rig.services = Services(rig.claims, rig.checks, schedule=planned.append)
    rig.services.listeners.append(changed.append)
    rig.services.release()
    rig.settle()
    rig.offer(check=TCP)
    changed.clear()
    for backend, address in (("a", A), ("b", B)):
        rig.services.check_result(("web", backend, address), "", rig.now)
    assert (len(planned), changed) == (1, [])
    planned.pop()()
    rig.settle()
    assert (changed, rig.members) == (["web"], {"pod1": 2, "pod2": 1})
    rig.services.check_result(("web", "a", A), "down", rig.now)
    rig.services.apply("mqtt", "web", None)
    planned.pop()()
    rig.settle()
    assert rig.members == {}, "a service that went meanwhile stays gone"


def bandwidths(rig: ServiceRig) -> list[float]:
    """Those that were announced, in order."""
    found = [told[3] for told in rig.told if told[0] == "announce" and told[2] == [VIP]]
    return [info.bandwidth for info in found if isinstance(info, ClaimInfo)]


def test_link_bandwidth_is_the_sum_of_the_healthy_backends_weights() -> None:
    rig, clock = clocked()
    rig.offer(check=TCP)
    rig.result("a")
    assert rig.announced["", VIP] == ClaimInfo(exception=True, is_service=True, bandwidth=2000.0)
    clock.pass_(5, rig)
    rig.told.clear()
    rig.result("b")
    assert [told[0] for told in rig.told] == ["service", "announce"]
    assert rig.announced["", VIP].bandwidth == 3000.0
    view = rig.services.view("web")
    assert view is not None
    assert (view.weight_from, view.bandwidth) == ("backends", {"10.64.9.1": 3000.0})


def test_link_bandwidth_that_changes_often_is_announced_once_in_a_while() -> None:
    rig, clock = clocked()
    rig.offer(check=TCP)
    rig.result("a")
    for _ in range(10):
        rig.result("b")
        rig.result("b", "down")
    rig.result("b")
    assert bandwidths(rig) == [2000.0]
    assert rig.members == {"pod1": 2, "pod2": 1}, "the kernel spreads by what is so now"
    clock.pass_(1, rig)
    assert bandwidths(rig) == [2000.0, 3000.0]
    rig.result("a", "down")
    clock.pass_(0.5, rig)
    rig.result("a")
    clock.pass_(5, rig)
    assert (bandwidths(rig), clock.waits) == ([2000.0, 3000.0], []), "what has changed back is no change"


def test_withdrawal_never_waits_and_the_next_announcement_says_what_is_so() -> None:
    rig, clock = clocked()
    rig.offer(check=TCP)
    rig.result("a")
    rig.result("a", "down")
    assert not rig.is_announced
    rig.result("b")
    assert bandwidths(rig) == [2000.0, 1000.0]
    rig.services.apply("mqtt", "web", None)
    clock.pass_(5, rig)
    assert rig.services.names() == []


def test_weight_from_none_and_a_unit_of_none_announce_no_link_bandwidth() -> None:
    rig, _ = clocked()
    rig.offer(weight_from=WeightFrom.NONE)
    assert rig.announced["", VIP].bandwidth == 0
    rig.offer()
    assert rig.announced["", VIP].bandwidth == 3000.0
    rig.services.reconfigure(bandwidth_per_weight=0.0, damping_half_life_s=60.0)
    rig.settle()
    assert rig.announced["", VIP].bandwidth == 0
    (status,) = rig.claims.statuses("service", "web")
    since, rig.now = status.since, 2000.0
    rig.services.reconfigure(bandwidth_per_weight=5.0, damping_half_life_s=60.0)
    rig.settle()
    assert rig.announced["", VIP].bandwidth == 15.0
    assert status.since == since, "it is announced since then, as before"


def test_families_have_their_own_link_bandwidth() -> None:
    rig, _ = clocked()
    rig.claims.claim("mqtt", "six", (claim("2001:db8::5/128", "pod1", id="six"),))
    backends = (Backend(id="a", addresses=(A, "2001:db8::5"), weight=2), Backend(id="b", addresses=(B,)))
    rig.offer(addresses=("10.64.9.1", "2001:db8::100"), backends=backends)
    assert rig.announced["", VIP].bandwidth == 3000.0
    assert rig.announced["", "2001:db8::100/128"].bandwidth == 2000.0


def test_backends_with_one_address_are_one_member_and_both_count() -> None:
    rig, _ = clocked()
    backends = tuple(Backend(id=id, addresses=(A,), weight=weight) for id, weight in (("a", 1), ("b", 1), ("c", 2)))
    rig.offer(backends=backends, min_healthy=3)
    assert (rig.members, rig.announced["", VIP].bandwidth) == ({"pod1": 4}, 4000.0)


def test_backend_with_two_addresses_is_one_backend() -> None:
    rig = ServiceRig()
    rig.offer(backends=(Backend(id="a", addresses=(A, B)),), min_healthy=2)
    assert not rig.is_announced
    reason = rig.state("service", "web")[1]
    assert reason == "1 of at least 2 backends are healthy (the service has 1, fewer than min_healthy)"


def test_route_that_the_kernel_refused_stays_refused_whatever_the_link_bandwidth() -> None:
    rig, _ = clocked()
    rig.settle()
    rig.acknowledge = False
    rig.offer(mode=ServiceMode.PREFER_LOCAL)
    family, key = parse_prefix(VIP)
    rig.table.route_refused("", family, [key], "File too large")
    rig.settle()
    rig.services.reconfigure(bandwidth_per_weight=5.0, damping_half_life_s=60.0)
    rig.settle()
    assert rig.state("service", "web") == ("failed", "File too large")


def test_many_services_are_claimed_for_some_at_a_time() -> None:
    """A pod of a thousand services that goes does not hold the loop."""
    rig, planned = ServiceRig(), list[Callable[[], None]]()
    rig.services = Services(rig.claims, rig.checks, schedule=planned.append)
    rig.services.release()
    backends = (Backend(id="a", addresses=(A,)),)
    for number in range(2 * SLICE + 1):
        rig.services.apply("mqtt", f"s{number}", Service(addresses=(f"10.64.{number}.1",), backends=backends))
    rig.settle()
    assert announced_in_steps(rig, planned) == [SLICE + 2, 2 * SLICE + 2, 2 * SLICE + 3], "two of them are the pods"
    rig.claims.claim("mqtt", "a")
    rig.settle()
    assert announced_in_steps(rig, planned) == [SLICE + 2, 2, 1]


def announced_in_steps(rig: ServiceRig, planned: list[Callable[[], None]]) -> list[int]:
    """How many addresses are announced, now and after each step that is planned."""
    counts = [len(rig.announced)]
    while planned:
        (callback,) = planned
        planned.clear()
        callback()
        rig.settle()
        counts.append(len(rig.announced))
    return counts


def drained(rig: ServiceRig, *names: str, **fields: Any) -> None:
    """The service again, with these backends drained."""
    backends = tuple(Backend(id=id, addresses=(address,), drain=id in names) for id, address in (("a", A), ("b", B)))
    rig.offer(backends=backends, **fields)


def settling(schedule: bool = True) -> tuple[ServiceRig, list[Callable[[], None]]]:
    """A service on a and b, and what is to be called when the withdrawal is known."""
    rig = ServiceRig()
    waits: list[Callable[[], None]] = []
    rig.services = Services(rig.claims, rig.checks, later=lambda seconds, callback: waits.append(callback))
    rig.services.release()
    drained(rig)
    rig.told.clear()
    return rig, waits


def test_draining_all_backends_withdraws_and_serves_on_until_the_fabric_knows() -> None:
    rig, waits = settling()
    drained(rig, "a", "b")
    assert [told[0] for told in rig.told] == ["withdraw"]
    assert (rig.is_announced, rig.members, len(waits)) == (False, {"pod1": 1, "pod2": 1}, 1)
    assert rig.state("service", "web")[1] == "0 of at least 1 backends are healthy: a: drained; b: drained"
    waits.pop()()
    rig.settle()
    assert (rig.members, waits) == ({}, [])


def test_backend_that_comes_back_meanwhile_ends_the_wait() -> None:
    rig, waits = settling()
    drained(rig, "a", "b")
    drained(rig, "b")
    assert (rig.is_announced, rig.members) == (True, {"pod1": 1})
    drained(rig, "a", "b")
    assert rig.members == {"pod1": 1}, "b did not serve when a was drained"
    waits[0]()
    rig.settle()
    assert rig.members == {"pod1": 1}, "the wait is the second one's"
    waits[1]()
    rig.settle()
    assert rig.members == {}


def test_drained_backend_that_is_gone_serves_no_more() -> None:
    rig, _ = settling()
    drained(rig, "a", "b")
    rig.claims.claim("mqtt", "a")
    rig.settle()
    assert rig.members == {"pod2": 1}


def test_service_that_is_deleted_while_it_settles_is_gone() -> None:
    rig, waits = settling()
    drained(rig, "a", "b")
    rig.services.apply("mqtt", "web", None)
    rig.settle()
    assert rig.members == {}
    waits[0]()
    assert rig.services.names() == []


def test_healthy_one_of_two_services_with_one_address_is_announced_and_keeps_it() -> None:
    rig = ServiceRig()
    rig.claims.started()
    rig.offer(check=TCP)
    other = Service(addresses=("10.64.9.1",), backends=(Backend(id="b", addresses=(B,)),), check=TCP)
    rig.services.apply("api", "other", other)
    rig.settle()
    assert not rig.is_announced
    rig.services.check_result(("other", "b", B), "", rig.now)
    rig.settle()
    assert (rig.is_announced, rig.members) == (True, {"pod2": 1})
    state, reason = rig.state("service", "web")
    assert state == "conflict"
    assert reason.endswith(f"; {VIP} is announced for service other")
    rig.result("a")
    assert rig.members == {"pod2": 1}, "an address does not move to and fro"
    assert rig.state("service", "web") == ("conflict", f"{VIP} is held by service other, which came first")
    rig.services.check_result(("other", "b", B), "down", rig.now)
    rig.settle()
    assert (rig.is_announced, rig.members) == (True, {"pod1": 2})


def test_start_of_many_services_is_claimed_for_in_steps_and_then_over() -> None:
    rig, planned = ServiceRig(), list[Callable[[], None]]()
    rig.services = Services(rig.claims, rig.checks, schedule=planned.append)
    backends = (Backend(id="a", addresses=(A,)),)
    for number in range(2 * SLICE + 1):
        rig.services.apply("mqtt", f"s{number}", Service(addresses=(f"10.64.{number}.1",), backends=backends))
    rig.settle()
    done: list[int] = []
    rig.services.release(lambda: done.append(len(rig.claims.claimed("service"))))
    rig.settle()
    assert (announced_in_steps(rig, planned), done) == ([SLICE + 2, 2 * SLICE + 2, 2 * SLICE + 3], [2 * SLICE + 1])


def test_service_that_goes_while_a_start_is_claimed_for_is_not_waited_for() -> None:
    rig, planned, done = ServiceRig(), list[Callable[[], None]](), list[None]()
    rig.services = Services(rig.claims, rig.checks, schedule=planned.append)
    backends = (Backend(id="a", addresses=(A,)),)
    for number in range(SLICE + 1):
        rig.services.apply("mqtt", f"s{number}", Service(addresses=(f"10.64.{number}.1",), backends=backends))
    rig.services.release(lambda: done.append(None))
    rig.services.apply("mqtt", f"s{SLICE}", None)
    assert not done
    announced_in_steps(rig, planned)
    assert (done, len(rig.claims.claimed("service"))) == ([None], SLICE)


def test_workloads_of_very_many_backends_are_judged_in_steps_before_anything_is_claimed() -> None:
    """A service never stands as one half of what happened at once."""
    rig, planned = ServiceRig(), list[Callable[[], None]]()
    rig.services = Services(rig.claims, rig.checks, schedule=planned.append)
    rig.services.release()
    backends = (Backend(id="a", addresses=(A,)), Backend(id="b", addresses=(B,)))
    for number in range(JUDGED):
        address = f"10.65.{number >> 8}.{number & 255}"
        rig.services.apply("mqtt", f"s{number}", Service(addresses=(address,), backends=backends, min_healthy=2))
    rig.settle()
    while planned:
        planned.pop(0)()
        rig.settle()
    assert len(rig.announced) == JUDGED + 2
    rig.claims.claim("mqtt", "a")
    rig.claims.claim("mqtt", "b")
    rig.settle()
    assert len(rig.announced) == JUDGED, "a step judged what is left of the first ones only"
    announced_in_steps(rig, planned)
    assert not rig.announced


def test_checks_that_are_not_decided_are_each_looked_at_once() -> None:
    """There may be ten thousand, and it is asked after the result of each."""
    rig = ServiceRig()
    rig.begin_start()
    rig.offer(check=TCP)
    rig.result("a")
    assert rig.services.undecided()
    rig.result("b")
    assert not rig.services.undecided()
    assert not rig.services._backends.undecided
    rig.offer(check=HealthCheck(type=CheckType.TCP, port=81))
    assert rig.services.undecided()
    rig.services.apply("mqtt", "web", None)
    assert not rig.services.undecided()
