"""What the tests of services share: services on a workload table, and a clock that the test sets."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from bgpd.model.service import Backend, CheckType, HealthCheck, Service
from bgpd.workload.service.services import Services
from bgpd.workload.standing import ClaimStatus
from tests.workload.fixtures import Rig, claim

VIP = "10.64.9.1/32"
TCP = HealthCheck(type=CheckType.TCP, port=80, rise=1, fall=1)
A, B, C = "10.64.1.5", "10.64.1.6", "10.64.1.7"


class ServiceRig(Rig):
    def __init__(self) -> None:
        super().__init__()
        self.services.release()
        self.deliver = self.states
        self.link("pod1")
        self.link("pod2")
        self.pod("a", A, "pod1")
        self.pod("b", B, "pod2")

    def begin_start(self) -> None:
        """As after a start: the first state is not known yet."""
        self.services._released = False
        self.services._backends.undecided = {}

    def pod(self, id: str, address: str, interface: str) -> None:
        self.claims.claim("mqtt", id, (claim(f"{address}/32", interface, id=id),))

    def settle(self) -> None:
        super().settle()
        while self.states:
            states: list[ClaimStatus] = list(self.states)
            self.states.clear()
            self.services.states_changed(states)
            super().settle()

    def offer(self, **fields: Any) -> Service:
        backends = (Backend(id="a", addresses=(A,), weight=2), Backend(id="b", addresses=(B,)))
        service = Service(**({"addresses": ("10.64.9.1",), "backends": backends} | fields))
        self.services.apply("mqtt", "web", service)
        self.settle()
        return service

    def result(self, backend: str, reason: str = "") -> None:
        """One result of the check of a, b or c."""
        address = {"a": A, "b": B, "c": C}[backend]
        self.services.check_result(("web", backend, address), reason, self.now)
        self.settle()

    def answer(self, reason: str = "", *, address: str = "10.64.9.1") -> None:
        """One answer to the probe of the service's address."""
        self.services.check_result(("web", "", address), reason, self.now)
        self.settle()

    def probe_route(self, problem: str = "", *, prefix: str = VIP, vrf: str = "") -> None:
        """The kernel has the route of a probe, or says why not."""
        self.probe_answers[vrf, prefix](problem)
        self.settle()

    @property
    def members(self) -> dict[str, int]:
        return {hop.interface: hop.weight for hop in self.kernel.get(("", VIP), ())}

    @property
    def is_announced(self) -> bool:
        return ("", VIP) in self.announced


class Clock:
    """A clock that a test sets, and what is to be called when."""

    def __init__(self) -> None:
        self.now = 100.0
        self.waits: list[tuple[float, Callable[[], None]]] = []

    def __call__(self) -> float:
        return self.now

    def later(self, seconds: float, callback: Callable[[], None]) -> None:
        self.waits.append((self.now + seconds, callback))

    def pass_(self, seconds: float, rig: ServiceRig) -> None:
        """Call what is due within so many seconds, each when it is."""
        end = self.now + seconds
        while due := [wait for wait in self.waits if wait[0] <= end]:
            first = min(due, key=lambda wait: wait[0])
            self.waits.remove(first)
            self.now = max(self.now, first[0])
            first[1]()
            rig.settle()
        self.now = end


def clocked(**options: Any) -> tuple[ServiceRig, Clock]:
    """A rig whose services have a clock that the test sets, and announce a link bandwidth."""
    rig, clock = ServiceRig(), Clock()
    options = {"bandwidth_per_weight": 1000.0} | options
    rig.services = Services(rig.claims, rig.checks, later=clock.later, clock=clock, kernel=rig, **options)
    rig.services.release()
    return rig, clock
