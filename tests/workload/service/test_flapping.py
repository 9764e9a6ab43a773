"""A service that goes down again and again is held back for longer and longer; it always goes down at once."""

from __future__ import annotations

from typing import Any

import msgspec

from bgpd.model.service import Backend, LastResort, Service
from bgpd.workload.service.flapping import CEILING, REUSE
from tests.logs import capture_logs
from tests.workload.service.rig import TCP, VIP, A, B, Clock, ServiceRig, clocked

HALF_LIFE_S = 60.0


def serving(**options: Any) -> tuple[ServiceRig, Clock]:
    """A service on a, which works."""
    rig, clock = clocked(wall=lambda: 1_700_000_000.0, **options)
    rig.offer(check=TCP, backends=(Backend(id="a", addresses=(A,)),))
    rig.result("a")
    assert rig.is_announced
    return rig, clock


def flap(rig: ServiceRig, clock: Clock, times: int, *, every_s: float = 1.0) -> None:
    for _ in range(times):
        rig.result("a", "down")
        assert not rig.is_announced, "it goes down at once"
        clock.pass_(every_s / 2, rig)
        rig.result("a")
        clock.pass_(every_s / 2, rig)


def seconds_until_announced(rig: ServiceRig, clock: Clock) -> int:
    for seconds in range(1000):
        if rig.is_announced:
            return seconds
        clock.pass_(1, rig)
    raise AssertionError("it is never announced again")


def test_the_first_times_are_as_if_there_were_no_damping() -> None:
    rig, clock = serving()
    for _ in range(3):
        flap(rig, clock, 1)
        assert rig.is_announced


def test_hold_grows_with_each_time_and_is_bounded() -> None:
    held = []
    for times in (4, 5, 6, 8, 12, 100):
        rig, clock = serving()
        flap(rig, clock, times)
        assert not rig.is_announced
        assert rig.members == {"pod1": 1}, "what arrives is served"
        held.append(seconds_until_announced(rig, clock))
    assert held == sorted(held)
    assert 10 < held[0] < 60 < held[-1] <= HALF_LIFE_S * 2, (held, CEILING / REUSE)


def test_it_is_said_once_with_since_and_until() -> None:
    rig, clock = serving()
    with capture_logs() as log:
        flap(rig, clock, 6)
    assert [entry["event"] for entry in log].count("service.damped") == 1
    state, reason = rig.state("service", "web")
    assert state == "damped"
    assert reason.startswith("it went down 6 times lately: announced again at ")
    view = rig.services.view("web")
    assert view is not None
    assert (view.announced, view.reason, view.damped_since) == (False, reason, 1_700_000_000.0)
    assert view.damped_until is not None
    assert 1_700_000_000 + 10 < view.damped_until < 1_700_000_000 + 200
    assert rig.services.state_counts()["damped"] == 1
    clock.pass_(200, rig)
    assert rig.state("service", "web") == ("announced", "")
    view = rig.services.view("web")
    assert view is not None
    assert (view.damped_since, view.damped_until) == (None, None)


def test_failure_while_it_is_held_back_is_a_failure_and_the_hold_goes_on() -> None:
    rig, clock = serving()
    flap(rig, clock, 5)
    rig.result("a", "down")
    assert rig.state("service", "web")[0] == "pending"
    clock.pass_(500, rig)
    assert not rig.is_announced
    rig.result("a")
    assert rig.is_announced, "it has stayed down for longer than it would have been held back"


def test_what_happened_long_ago_is_forgotten() -> None:
    rig, clock = serving()
    flap(rig, clock, 20, every_s=400)
    assert rig.is_announced


def test_drains_and_changes_of_the_service_are_no_flapping() -> None:
    rig, clock = serving()
    service = rig.offer(check=TCP, backends=(Backend(id="a", addresses=(A,)),))
    for _ in range(20):
        for changed in (
            msgspec.structs.replace(service, drain=True),
            msgspec.structs.replace(service, backends=(Backend(id="a", addresses=(A,), drain=True),)),
            msgspec.structs.replace(service, min_healthy=2),
            service,
        ):
            rig.services.apply("mqtt", "web", changed)
            rig.settle()
        clock.pass_(1, rig)
    assert rig.is_announced


def test_another_check_is_no_failure_until_it_has_failed() -> None:
    rig, clock = serving()
    for port in range(1, 20):
        check = msgspec.structs.replace(TCP, port=port)
        rig.offer(check=check, backends=(Backend(id="a", addresses=(A,)),))
        assert not rig.is_announced, "nothing is known of it"
        rig.result("a")
        assert rig.is_announced
        clock.pass_(1, rig)


def test_workload_that_comes_and_goes_is_flapping_and_other_services_are_not_concerned() -> None:
    rig, _ = serving()
    other = Service(addresses=("10.64.9.2",), backends=(Backend(id="b", addresses=(B,)),))
    rig.services.apply("mqtt", "other", other)
    for _ in range(5):
        rig.claims.claim("mqtt", "a")
        rig.settle()
        rig.pod("a", A, "pod1")
        rig.settle()
        rig.result("a")
    assert not rig.is_announced
    assert ("", "10.64.9.2/32") in rig.announced


def test_deleted_service_begins_anew_and_an_address_that_it_has_no_more_is_forgotten() -> None:
    rig, clock = serving()
    service = rig.offer(check=TCP, backends=(Backend(id="a", addresses=(A,)),))
    flap(rig, clock, 10)
    moved = msgspec.structs.replace(service, addresses=("10.64.9.2",))
    rig.services.apply("mqtt", "web", moved)
    rig.settle()
    view = rig.services.view("web")
    assert view is not None
    assert (view.announced, view.damped_until, list(view.bandwidth)) == (True, None, ["10.64.9.2"])
    rig.services.apply("mqtt", "web", None)
    rig.settle()
    rig.offer(check=TCP, backends=(Backend(id="a", addresses=(A,)),))
    rig.result("a")
    assert rig.is_announced


def test_off_by_configuration_and_by_a_reload_in_the_midst() -> None:
    rig, clock = serving(damping_half_life_s=0.0)
    flap(rig, clock, 20)
    assert rig.is_announced
    rig, clock = serving()
    flap(rig, clock, 20)
    assert not rig.is_announced
    rig.services.reconfigure(bandwidth_per_weight=1000.0, damping_half_life_s=0.0)
    rig.settle()
    assert rig.is_announced


def test_last_resort_is_no_flapping() -> None:
    rig, clock = serving()
    rig.offer(check=TCP, last_resort=LastResort.KEEP, backends=(Backend(id="a", addresses=(A,)),))
    for _ in range(20):
        rig.result("a", "down")
        assert rig.is_announced
        rig.result("a")
        clock.pass_(1, rig)
    assert rig.is_announced
    assert rig.announced["", VIP].bandwidth == 1000.0
