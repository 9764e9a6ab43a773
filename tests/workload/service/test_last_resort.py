"""A check that is broken cannot empty the site: what becomes of a service when all its backends fail at once."""

from __future__ import annotations

from typing import Any

import msgspec
import pytest

from bgpd.model.service import Backend, CheckType, HealthCheck, LastResort, Service
from bgpd.workload.service.last_resort import REMEMBERED_S, window_s
from tests.logs import capture_logs
from tests.workload.service.rig import TCP, VIP, A, B, C, Clock, ServiceRig, clocked

WINDOW_S = window_s(TCP)


def kept(**fields: Any) -> tuple[ServiceRig, Clock, Service]:
    """A service on a, b and c that work, to be kept as a last resort."""
    rig, clock = clocked()
    rig.link("pod3")
    rig.pod("c", C, "pod3")
    backends = tuple(Backend(id=id, addresses=(address,)) for id, address in (("a", A), ("b", B), ("c", C)))
    service = rig.offer(**{"check": TCP, "last_resort": LastResort.KEEP, "backends": backends} | fields)
    for id in "abc":
        rig.result(id)
    clock.pass_(100, rig)
    rig.told.clear()
    return rig, clock, service


def fail(rig: ServiceRig, *ids: str) -> None:
    for id in ids:
        rig.result(id, "Connection refused")


def reason(rig: ServiceRig) -> str:
    return rig.state("service", "web")[1]


def test_all_that_fail_at_once_are_kept_as_they_were_and_it_is_said_loudly() -> None:
    rig, clock, _ = kept()
    with capture_logs() as log:
        fail(rig, "a", "b")
        clock.pass_(WINDOW_S / 2, rig)
        fail(rig, "c")
    assert (rig.is_announced, rig.members) == (True, {"pod1": 1, "pod2": 1, "pod3": 1})
    assert "withdraw" not in [told[0] for told in rig.told]
    assert reason(rig).startswith(
        "last resort: all backends failed at once, 3 kept as they were: a: Connection refused"
    )
    assert [(entry["event"], entry["log_level"]) for entry in log] == [("service.last_resort", "warning")]
    clock.pass_(100_000, rig)
    assert rig.announced["", VIP].bandwidth == 3000.0, "with the weight that they had, for as long as it takes"
    view = rig.services.view("web")
    assert view is not None
    assert (view.announced, view.kept, view.healthy) == (True, ["10.64.9.1"], 0)
    assert [(one.state, one.weight_now) for one in view.backends] == [("unhealthy", 1.0)] * 3


def test_one_that_works_again_ends_it_and_serves_alone() -> None:
    rig, clock, _ = kept()
    fail(rig, "a", "b", "c")
    clock.pass_(60, rig)
    with capture_logs() as log:
        rig.result("b")
    assert (rig.is_announced, rig.members) == (True, {"pod2": 1})
    assert rig.state("service", "web") == ("announced", "")
    assert [entry["event"] for entry in log] == ["service.last_resort_ended"]


def test_without_it_the_service_is_withdrawn() -> None:
    rig, _, _ = kept(last_resort=LastResort.WITHDRAW)
    fail(rig, "a", "b", "c")
    assert (rig.is_announced, rig.members) == (False, {})


def test_what_fails_one_after_the_other_is_withdrawn() -> None:
    rig, clock, _ = kept()
    for id in "abc":
        fail(rig, id)
        clock.pass_(WINDOW_S + 1, rig)
    assert (rig.is_announced, rig.members) == (False, {})
    fail(rig, "a", "b", "c")
    assert not rig.is_announced, "what is withdrawn is not announced because it fails"


def test_one_that_failed_long_before_is_not_kept_with_the_others() -> None:
    rig, clock, _ = kept()
    fail(rig, "a")
    clock.pass_(1000, rig)
    fail(rig, "b", "c")
    assert (rig.is_announced, rig.members) == (True, {"pod2": 1, "pod3": 1})


def test_the_only_backend_is_all_of_them() -> None:
    rig, _, _ = kept(backends=(Backend(id="a", addresses=(A,)),))
    fail(rig, "a")
    assert (rig.is_announced, rig.members) == (True, {"pod1": 1})


@pytest.mark.parametrize("first", ["fails", "goes"])
def test_what_goes_with_its_workload_or_is_drained_is_never_kept(first: str) -> None:
    rig, _, service = kept()

    def fails() -> None:
        fail(rig, "a", "b", "c")

    def goes() -> None:
        rig.claims.claim("mqtt", "a")
        rig.settle()
        drained = tuple(msgspec.structs.replace(one, drain=one.id == "b") for one in service.backends)
        rig.services.apply("mqtt", "web", msgspec.structs.replace(service, backends=drained))
        rig.settle()

    if first == "fails":
        fails()
        goes()
    else:
        goes()
        fails()
    assert (rig.is_announced, rig.members) == (True, {"pod3": 1})
    gone = msgspec.structs.replace(service, backends=service.backends[:2])
    rig.services.apply("mqtt", "web", gone)
    rig.settle()
    assert not rig.is_announced
    rig.services.apply("mqtt", "web", service)
    rig.settle()
    assert not rig.is_announced, "what comes back and does not work is no last resort"


def test_all_fail_and_one_is_removed_before_either_is_looked_at() -> None:
    rig, _, service = kept()
    planned: list[Any] = []
    rig.services._backlog._schedule = planned.append
    fail(rig, "a", "b", "c")
    assert planned, "the results are one change, not yet made"
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, backends=service.backends[1:]))
    rig.settle()
    assert (rig.is_announced, rig.members) == (True, {"pod2": 1, "pod3": 1})
    planned.pop()()
    rig.settle()
    assert (rig.is_announced, rig.members) == (True, {"pod2": 1, "pod3": 1})
    assert "withdraw" not in [told[0] for told in rig.told]


def test_min_healthy_withdraws_only_when_it_is_known_that_not_all_fail() -> None:
    rig, clock, _ = kept(min_healthy=2)
    fail(rig, "a", "b")
    assert (rig.is_announced, rig.members) == (True, {"pod3": 1}), "it may be that all fail"
    assert reason(rig).startswith("1 of at least 2 backends are healthy; announced until it is known")
    clock.pass_(WINDOW_S + 1, rig)
    assert (rig.is_announced, rig.members) == (False, {"pod3": 1})
    assert reason(rig).startswith("1 of at least 2 backends are healthy: a: Connection refused")


def test_min_healthy_does_not_withdraw_while_all_fail_nor_while_they_come_back() -> None:
    rig, clock, _ = kept(min_healthy=2)
    for id in "abc":
        fail(rig, id)
        clock.pass_(1, rig)
    clock.pass_(100, rig)
    assert (rig.is_announced, len(rig.members)) == (True, 3)
    rig.result("a")
    assert (rig.is_announced, rig.members) == (True, {"pod1": 1})
    clock.pass_(1, rig)
    rig.result("b")
    assert (rig.is_announced, rig.members) == (True, {"pod1": 1, "pod2": 1})
    assert [told[0] for told in rig.told].count("withdraw") == 0


def test_fewer_than_min_healthy_for_good_after_a_last_resort_is_withdrawn() -> None:
    rig, clock, _ = kept(min_healthy=2)
    fail(rig, "a", "b", "c")
    rig.result("a")
    assert rig.is_announced
    clock.pass_(WINDOW_S + 1, rig)
    assert not rig.is_announced


def test_fewer_kept_than_min_healthy_are_not_announced() -> None:
    rig, _, service = kept(min_healthy=2)
    fail(rig, "a", "b", "c")
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, backends=service.backends[:1]))
    rig.settle()
    assert not rig.is_announced


def test_check_that_works_now_and_then_does_not_empty_the_site() -> None:
    rig, clock, _ = kept()
    fail(rig, "a", "b", "c")
    for _ in range(10):
        clock.pass_(WINDOW_S + 1, rig)
        rig.result("a")
        clock.pass_(WINDOW_S + 1, rig)
        fail(rig, "a")
        assert rig.is_announced
    rig.result("a")
    clock.pass_(REMEMBERED_S + 1, rig)
    fail(rig, "a")
    assert not rig.is_announced, "the others are gone for long"


def test_another_check_decides_anew_and_the_service_stays_until_it_has() -> None:
    rig, clock, service = kept()
    other = HealthCheck(type=CheckType.TCP, port=81, rise=1, fall=1)
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, check=other))
    rig.settle()
    assert (rig.is_announced, len(rig.members)) == (True, 3)
    assert reason(rig).startswith("all backends are checked anew, and serve as before: a: not checked yet")
    with capture_logs() as log:
        fail(rig, "a", "b", "c")
    assert [entry["event"] for entry in log] == ["service.last_resort"], "only now something is wrong"
    clock.pass_(100, rig)
    assert (rig.is_announced, len(rig.members)) == (True, 3)
    rig.result("a")
    assert rig.members == {"pod1": 1}


def test_service_with_healthy_backends_goes_before_a_last_resort() -> None:
    rig, _, service = kept()
    rig.claims.started()
    rig.pod("d", "10.64.1.8", "pod2")
    other = Service(addresses=service.addresses, backends=(Backend(id="d", addresses=("10.64.1.8",)),))
    rig.services.apply("api", "other", other)
    rig.settle()
    assert len(rig.members) == 3
    fail(rig, "a", "b", "c")
    assert (rig.is_announced, rig.members) == (True, {"pod2": 1})
    rig.services.apply("api", "other", None)
    rig.settle()
    assert (rig.is_announced, len(rig.members)) == (True, 3)


def test_keep_that_is_taken_back_withdraws() -> None:
    rig, _, service = kept()
    fail(rig, "a", "b", "c")
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, last_resort=LastResort.WITHDRAW))
    rig.settle()
    assert not rig.is_announced


def test_drained_service_is_withdrawn_whatever_is_kept() -> None:
    rig, _, service = kept()
    fail(rig, "a", "b", "c")
    rig.services.apply("mqtt", "web", msgspec.structs.replace(service, drain=True))
    rig.settle()
    assert (rig.is_announced, len(rig.members)) == (False, 3)
    assert reason(rig) == "the service is drained"


def test_health_that_an_orchestrator_pushes_is_a_check_too() -> None:
    rig, _, service = kept(check=HealthCheck(type=CheckType.PUSH), backends=())
    for healthy, announced in ((True, True), (False, True), (None, True)):
        backends = tuple(Backend(id=id, addresses=(address,), healthy=healthy) for id, address in (("a", A), ("b", B)))
        rig.services.apply("mqtt", "web", msgspec.structs.replace(service, backends=backends))
        rig.settle()
        assert rig.is_announced is announced, healthy


def test_what_never_worked_is_no_last_resort() -> None:
    rig, _ = clocked()
    rig.offer(check=TCP, last_resort=LastResort.KEEP)
    fail(rig, "a", "b")
    assert not rig.is_announced


def test_window_is_as_long_as_checks_of_one_moment_may_take() -> None:
    slow = HealthCheck(type=CheckType.TCP, port=80, interval_s=60, timeout_s=10, fall=3)
    assert window_s(slow) >= 3 * 60
    assert window_s(None) > 0
