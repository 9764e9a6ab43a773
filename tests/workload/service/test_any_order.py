"""Whatever happens to a service, in whatever order: what is announced and what the kernel has is what is so."""

from __future__ import annotations

import random

import pytest

from bgpd.model.service import Backend, CheckType, HealthCheck, LastResort, Service, ServiceMode, WeightFrom
from tests.workload.service.rig import TCP, A, B, C, Clock, ServiceRig, clocked

PODS = {"a": ("pod1", A), "b": ("pod2", B), "c": ("pod3", C)}
ADDRESSES = ("10.64.9.1", "10.64.9.2")
CHECKS = (None, TCP, TCP, HealthCheck(type=CheckType.TCP, port=81), HealthCheck(type=CheckType.PUSH))


class Walk:
    """One service, and what is done to it."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.rig, self.clock = clocked()
        self.rig.link("pod3")
        self.rig.pod("c", C, "pod3")
        self.present = set(PODS)
        self.service: Service | None = None

    def step(self) -> None:
        some = self.random.choices((self.put, self.delete, self.pod, self.result, self.wait), (3, 1, 3, 8, 5))
        some[0]()
        self.rig.settle()

    def put(self) -> None:
        choice = self.random.choice
        backends = tuple(
            Backend(
                id=id,
                addresses=(PODS[id][1],),
                weight=choice((1, 1, 3, 256)),
                drain=choice((True, *[False] * 6)),
                healthy=choice((None, True, False)),
            )
            for id in self.random.sample(sorted(PODS), self.random.randint(0, 3))
        )
        self.service = Service(
            addresses=ADDRESSES[: choice((1, 2))],
            backends=backends,
            check=choice(CHECKS),
            min_healthy=choice((1, 1, 1, 2, 3)),
            last_resort=choice(list(LastResort)),
            slow_start_s=choice((0.0, 8.0)),
            drain=choice((True, *[False] * 9)),
            weight_from=choice(list(WeightFrom)),
            mode=choice(list(ServiceMode)),
        )
        self.rig.services.apply("mqtt", "web", self.service)

    def delete(self) -> None:
        self.service = None
        self.rig.services.apply("mqtt", "web", None)

    def pod(self) -> None:
        id = self.random.choice(sorted(PODS))
        if id in self.present:
            self.rig.claims.claim("mqtt", id)
        else:
            self.rig.pod(id, PODS[id][1], PODS[id][0])
        self.present ^= {id}

    def result(self) -> None:
        if self.service is not None and self.service.backends:
            backend = self.random.choice(self.service.backends)
            reason = self.random.choice(("", "", "down"))
            self.rig.services.check_result(("web", backend.id, backend.addresses[0]), reason, self.rig.now)

    def wait(self) -> None:
        self.clock.pass_(self.random.choice((0.1, 0.5, 1, 3, 10, 70, 400)), self.rig)


def announced(rig: ServiceRig) -> set[str]:
    return {prefix.removesuffix("/32") for _, prefix in rig.announced} & set(ADDRESSES)


def healthy(service: Service, rig: ServiceRig) -> list[Backend]:
    view = rig.services.view("web")
    assert view is not None
    return [backend for backend, shown in zip(service.backends, view.backends) if shown.state == "healthy"]


def check_now(walk: Walk) -> None:
    """What must be so at any moment."""
    rig, service = walk.rig, walk.service
    found = announced(rig)
    if service is None:
        assert found == set()
        assert not {prefix for _, prefix in rig.kernel} & {f"{address}/32" for address in ADDRESSES}
        return
    view = rig.services.view("web")
    assert view is not None
    assert found <= set(service.addresses)
    enough = len(healthy(service, rig)) >= service.min_healthy
    for address in service.addresses:
        if address not in found:
            assert service.drain or not enough or view.damped_until is not None
            continue
        assert not service.drain
        assert enough or service.last_resort is LastResort.KEEP
        assert bool(rig.announced["", f"{address}/32"].bandwidth) is (service.weight_from is WeightFrom.BACKENDS)
        if service.mode is ServiceMode.PREFER_LOCAL:
            members = rig.kernel["", f"{address}/32"]
            assert {hop.interface for hop in members} <= {PODS[id][0] for id in walk.present}
            assert all(1 <= hop.weight <= 256 for hop in members)


def check_at_rest(walk: Walk, clock: Clock) -> None:
    """What must be so once nothing has happened for long."""
    rig, service = walk.rig, walk.service
    clock.pass_(5000, rig)
    assert clock.waits == []
    if service is None or service.drain:
        return
    serving = healthy(service, rig)
    if len(serving) >= service.min_healthy:
        assert announced(rig) == set(service.addresses)
        if service.weight_from is WeightFrom.BACKENDS:
            strength = sum(backend.weight for backend in serving)
            assert rig.announced["", f"{service.addresses[0]}/32"].bandwidth == 1000.0 * strength


@pytest.mark.parametrize("seed", range(30))
def test_any_order(seed: int) -> None:
    walk = Walk(seed)
    for number in range(100):
        walk.step()
        check_now(walk)
        if number % 10 == 9:
            check_at_rest(walk, walk.clock)
