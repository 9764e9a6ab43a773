"""What the next process needs to know of services: last resorts and slow starts go on."""

from __future__ import annotations

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from bgpd.model.service import Backend, LastResort, Service
from bgpd.workload.service import saved_standing
from bgpd.workload.service.services import SETTLE_S
from tests.workload.service.rig import TCP, VIP, A, B, Clock, ServiceRig, clocked

BACKENDS = (Backend(id="a", addresses=(A,)), Backend(id="b", addresses=(B,)))
SERVICE = Service(
    addresses=("10.64.9.1",), backends=BACKENDS, check=TCP, last_resort=LastResort.KEEP, slow_start_s=40.0
)


def before() -> tuple[ServiceRig, Clock]:
    """A process with a service on a and b."""
    rig, clock = clocked()
    rig.services.apply("mqtt", "web", SERVICE)
    rig.settle()
    return rig, clock


def after(clock: Clock, saved: bytes | None, *results: tuple[str, str], service: Service = SERVICE) -> ServiceRig:
    """The process after it, with these first results of its checks."""
    rig, new = clocked()
    new.now = clock.now
    rig.begin_start()
    rig.services.remember_standing(saved)
    rig.services.apply("mqtt", "web", service)
    rig.settle()
    for id, reason in results:
        rig.result(id, reason)
    rig.services.release()
    rig.settle()
    return rig


def test_last_resort_goes_on() -> None:
    rig, clock = before()
    for reason in ("", "down"):
        rig.result("a", reason)
        rig.result("b", reason)
    saved = rig.services.save_standing()
    clock.now += 3
    assert after(clock, saved, ("a", "down"), ("b", "down")).members == {"pod1": 1, "pod2": 1}
    assert not after(clock, None, ("a", "down"), ("b", "down")).is_announced
    gone = msgspec.structs.replace(SERVICE, backends=())
    assert not after(clock, saved, service=gone).is_announced, "an orchestrator took them away meanwhile"
    assert after(clock, saved, ("a", "down"), ("b", "")).members == {"pod2": 1}


def test_what_worked_when_the_process_left_and_fails_all_at_once_is_a_last_resort() -> None:
    rig, clock = before()
    rig.result("a")
    rig.result("b")
    clock.now += 1000
    saved = rig.services.save_standing()
    assert after(clock, saved).is_announced, "no check has said anything yet"
    assert after(clock, saved, ("a", "down"), ("b", "down")).is_announced
    withdrawn = msgspec.structs.replace(SERVICE, last_resort=LastResort.WITHDRAW)
    assert not after(clock, saved, ("a", "down"), ("b", "down"), service=withdrawn).is_announced


def test_slow_start_goes_on_where_it_was() -> None:
    rig, clock = before()
    rig.result("a")
    clock.pass_(100, rig)
    rig.result("b")
    clock.pass_(20, rig)
    assert rig.members == {"pod1": 8, "pod2": 4}
    saved = rig.services.save_standing()
    assert after(clock, saved, ("a", ""), ("b", "")).members == {"pod1": 8, "pod2": 4}
    clock.now += 12
    assert after(clock, saved, ("a", ""), ("b", "")).members == {"pod1": 8, "pod2": 6}
    clock.now += 1000
    assert after(clock, saved, ("a", ""), ("b", "")).members == {"pod1": 1, "pod2": 1}


def test_what_is_held_back_is_held_back_until_the_same_time() -> None:
    rig, clock = clocked()
    service = msgspec.structs.replace(SERVICE, last_resort=LastResort.WITHDRAW, backends=BACKENDS[:1])
    rig.services.apply("mqtt", "web", service)
    rig.settle()
    for _ in range(6):
        rig.result("a")
        rig.result("a", "down")
    rig.result("a")
    assert not rig.is_announced
    view = rig.services.view("web")
    saved = rig.services.save_standing()
    next_rig = after(clock, saved, ("a", ""), service=service)
    next_view = next_rig.services.view("web")
    assert view is not None
    assert next_view is not None
    assert (next_rig.is_announced, next_view.reason) == (False, view.reason)
    assert (next_view.damped_since, next_view.damped_until) == (view.damped_since, view.damped_until)
    clock.now += 200
    assert after(clock, saved, ("a", ""), service=service).is_announced
    assert after(clock, None, ("a", ""), service=service).is_announced


def test_service_that_has_given_way_to_the_fabric_does_not_come_back_for_the_next_process() -> None:
    rig, clock = before()
    service = msgspec.structs.replace(SERVICE, min_healthy=2, last_resort=LastResort.WITHDRAW)
    rig.services.apply("mqtt", "web", service)
    rig.result("a")
    clock.pass_(SETTLE_S, rig)
    assert rig.yielding == {VIP}
    saved = rig.services.save_standing()
    clock.now += 1
    assert after(clock, saved, ("a", ""), service=service).yielding == {VIP}
    assert after(clock, None, ("a", ""), service=service).yielding == set()


def test_process_that_leaves_before_it_has_judged_hands_on_what_it_was_left() -> None:
    rig, clock = before()
    for reason in ("", "down"):
        rig.result("a", reason)
        rig.result("b", reason)
    between, _ = clocked()
    between.begin_start()
    between.services.remember_standing(rig.services.save_standing())
    between.services.remember(rig.services.save())
    between.services.apply("mqtt", "other", SERVICE)
    standing, health = between.services.save_standing(), between.services.save()
    last, new = clocked()
    new.now = clock.now + 2
    last.begin_start()
    last.services.remember_standing(standing)
    last.services.remember(health)
    last.services.apply("mqtt", "web", SERVICE)
    last.settle()
    assert not last.services.undecided()
    last.services.release()
    last.settle()
    assert last.members == {"pod1": 1, "pod2": 1}


def test_times_of_a_former_start_of_the_host_are_ignored() -> None:
    rig, clock = before()
    rig.result("a")
    clock.pass_(100, rig)
    rig.result("b")
    saved = rig.services.save_standing()
    clock.now = 5.0
    assert after(clock, saved, ("a", ""), ("b", "")).members == {"pod1": 1, "pod2": 1}


@pytest.mark.parametrize("saved", [b"", b"\x80", b"junk", msgspec.msgpack.encode({"web": [[["x", "up"]], []]})])
def test_unreadable_is_as_nothing(saved: bytes) -> None:
    _, clock = before()
    assert after(clock, saved, ("a", "")).members == {"pod1": 1}


@given(st.binary(max_size=200))
def test_any_bytes_are_read(saved: bytes) -> None:
    saved_standing.read(saved)
