"""A backend that comes into service gets its weight in steps, in the kernel and in what is announced."""

from __future__ import annotations

import msgspec

from bgpd.model.service import Backend, LastResort
from tests.workload.service.rig import TCP, VIP, A, B, Clock, ServiceRig, clocked

SLOW_S = 40.0


def started(**fields: object) -> tuple[ServiceRig, Clock]:
    """A service with a that has its whole weight, and b that has not worked yet."""
    rig, clock = clocked()
    backends = (Backend(id="a", addresses=(A,)), Backend(id="b", addresses=(B,)))
    rig.offer(**{"check": TCP, "slow_start_s": SLOW_S, "backends": backends} | fields)
    rig.result("a")
    clock.pass_(100, rig)
    assert (set(rig.members), clock.waits) == ({"pod1"}, [])
    return rig, clock


def bandwidth(rig: ServiceRig) -> float:
    return rig.announced["", VIP].bandwidth


def weight_now(rig: ServiceRig) -> float:
    view = rig.services.view("web")
    assert view is not None
    return view.backends[1].weight_now


def test_weights_grow_with_each_quarter_of_the_time() -> None:
    rig, clock = started()
    rig.result("b")
    for shares, strength in (({"pod1": 8, "pod2": 1}, 1.125), ({"pod1": 8, "pod2": 2}, 1.25)):
        assert (rig.members, bandwidth(rig)) == (shares, 1000 * strength)
        clock.pass_(10, rig)
    assert (rig.members, weight_now(rig)) == ({"pod1": 8, "pod2": 4}, 0.5)
    clock.pass_(10, rig)
    assert rig.members == {"pod1": 8, "pod2": 6}
    clock.pass_(10, rig)
    assert (rig.members, bandwidth(rig), weight_now(rig)) == ({"pod1": 1, "pod2": 1}, 2000, 1.0)
    assert clock.waits == [], "nothing is left to do"


def test_failure_in_the_midst_is_at_once_and_the_start_begins_anew() -> None:
    rig, clock = started()
    rig.result("b")
    clock.pass_(20, rig)
    rig.result("b", "down")
    assert rig.members == {"pod1": 1}
    clock.pass_(10, rig)
    rig.result("b")
    assert rig.members == {"pod1": 8, "pod2": 1}
    clock.pass_(9, rig)
    assert rig.members == {"pod1": 8, "pod2": 1}
    clock.pass_(1, rig)
    assert rig.members == {"pod1": 8, "pod2": 2}


def test_failure_in_the_very_moment_of_a_step() -> None:
    rig, clock = started()
    rig.result("b")
    clock.now += 10
    rig.result("b", "down")
    rig.result("b")
    clock.pass_(0, rig)
    assert rig.members == {"pod1": 8, "pod2": 1}
    clock.pass_(40, rig)
    assert rig.members == {"pod1": 1, "pod2": 1}


def test_backends_that_start_together_share_equally_and_the_host_is_weak() -> None:
    rig, clock = clocked()
    rig.offer(check=TCP, slow_start_s=SLOW_S)
    rig.result("a")
    rig.result("b")
    assert rig.members == {"pod1": 2, "pod2": 1}
    clock.pass_(1, rig)
    assert bandwidth(rig) == 3000 / 8
    clock.pass_(40, rig)
    assert bandwidth(rig) == 3000


def test_after_a_start_of_the_daemon_those_that_work_have_their_whole_weight() -> None:
    rig, _ = clocked()
    rig.begin_start()
    rig.offer(check=TCP, slow_start_s=SLOW_S)
    rig.result("a")
    rig.result("b")
    rig.services.release()
    rig.settle()
    assert bandwidth(rig) == 3000


def test_drained_backend_that_is_used_again_starts_slowly() -> None:
    rig, _ = started()
    rig.result("b")
    for drain, members in ((True, {"pod1": 1}), (False, {"pod1": 8, "pod2": 1})):
        backends = (Backend(id="a", addresses=(A,)), Backend(id="b", addresses=(B,), drain=drain))
        rig.offer(check=TCP, slow_start_s=SLOW_S, backends=backends)
        assert rig.members == members


def test_change_of_the_service_goes_on_with_the_start() -> None:
    rig, clock = started()
    service = rig.offer(check=TCP, slow_start_s=SLOW_S)
    rig.result("b")
    clock.pass_(20, rig)
    assert rig.members == {"pod1": 16, "pod2": 4}
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, min_healthy=1, resilient=True))
    rig.settle()
    assert rig.members == {"pod1": 16, "pod2": 4}
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, slow_start_s=0.0))
    rig.settle()
    assert rig.members == {"pod1": 2, "pod2": 1}


def test_heavy_backends_stay_within_what_the_kernel_takes() -> None:
    rig, _ = started(backends=(Backend(id="a", addresses=(A,), weight=256), Backend(id="b", addresses=(B,), weight=4)))
    rig.result("b")
    assert rig.members == {"pod1": 256, "pod2": 1}


def test_what_was_kept_as_a_last_resort_served_all_the_time() -> None:
    rig, clock = started(last_resort=LastResort.KEEP)
    rig.result("b")
    clock.pass_(100, rig)
    rig.result("a", "down")
    rig.result("b", "down")
    assert rig.members == {"pod1": 1, "pod2": 1}
    rig.result("a")
    assert bandwidth(rig) == 1000
    clock.pass_(2, rig)
    assert (rig.members, bandwidth(rig)) == ({"pod1": 1}, 1000)


def test_service_that_goes_in_the_midst_of_a_start_is_gone() -> None:
    rig, clock = started()
    rig.result("b")
    rig.services.apply("mqtt", "web", None)
    rig.settle()
    clock.pass_(100, rig)
    assert (rig.members, rig.services.names()) == ({}, [])
