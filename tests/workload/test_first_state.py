"""When the first state after a start is reached."""

from __future__ import annotations

from collections.abc import Callable

from tests.workload.fixtures import V4, Rig, claim, key

POD = "10.64.1.5/32"


class Services:
    """Checks that have not said anything yet, as long as `waits`."""

    def __init__(self) -> None:
        self.waits = True
        self.released = 0

    def undecided(self) -> bool:
        return self.waits

    def release(self, done: Callable[[], None]) -> None:
        self.released += 1
        done()


def starting(*sources: str) -> tuple[Rig, Services]:
    rig, services = Rig(sources=sources, acknowledge=False), Services()
    rig.first_state._services = services
    rig.link("pod1")
    return rig, services


def test_checks_are_waited_for_after_all_sources_and_before_the_order_counts() -> None:
    rig, services = starting("mqtt")
    rig.first_state.heard("mqtt")
    rig.settle()
    assert (services.released, rig.first_state.is_order_known, rig.synchronised) == (0, False, 0)
    services.waits = False
    rig.first_state.look()
    assert (services.released, rig.first_state.is_order_known, rig.synchronised) == (1, True, 1)
    rig.first_state.look()
    assert (services.released, rig.synchronised) == (1, 1), "once"


def test_kernel_is_waited_for() -> None:
    rig, services = starting("mqtt")
    services.waits = False
    rig.claims.claim("mqtt", "a", (claim(POD),))
    rig.first_state.heard("mqtt")
    rig.settle()
    assert rig.synchronised == 0
    rig.table.route_acknowledged("", V4, [key(POD)])
    rig.settle()
    assert rig.synchronised == 1


def test_claim_that_a_released_service_makes_is_waited_for_too() -> None:
    rig, services = starting("mqtt")
    services.waits = False

    def release(done: Callable[[], None]) -> None:
        rig.claims.claim("service", "web", (claim(POD, id="web", source="service"),))
        done()

    services.release = release  # type: ignore[method-assign]
    rig.first_state.heard("mqtt")
    rig.settle()
    assert (rig.first_state.is_order_known, rig.synchronised) == (True, 0)
    rig.table.route_acknowledged("", V4, [key(POD)])
    rig.settle()
    assert rig.synchronised == 1


def test_after_the_time_nothing_is_waited_for() -> None:
    rig, services = starting("mqtt", "api")
    rig.claims.claim("mqtt", "a", (claim(POD),))
    rig.first_state.heard("api")
    rig.settle()
    assert rig.first_state.time_out() == ["mqtt"]
    assert (services.released, rig.first_state.is_order_known, rig.synchronised) == (1, True, 1)
    assert rig.first_state.time_out() == []
    assert rig.synchronised == 1


def test_replayed_claims_say_that_a_workload_came_only_once_all_have_spoken() -> None:
    rig, services = starting("static")
    services.waits = False
    rig.claims.started()
    rig.claims.claim("static", "a", (claim(POD, source="static"),))
    rig.table.moved("", V4, [key(POD)], "another host has it")
    rig.claims.claim("kernel", "k", (claim(POD, id="k", source="kernel", managed=False),))
    assert rig.claims.at((("", V4), key(POD))).moved  # type: ignore[union-attr]
    rig.first_state.heard("static")
    rig.settle()
    rig.claims.claim("kernel", "l", (claim(POD, id="l", source="kernel", managed=False),))
    assert not rig.claims.at((("", V4), key(POD))).moved  # type: ignore[union-attr]
