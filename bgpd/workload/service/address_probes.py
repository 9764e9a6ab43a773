"""Whether this host's own service addresses answer: each is asked before it is announced, and from then on.

A probe asks an address by way of the local backends (`fib.probe_routes`), whatever route others take to it: the kernel
has that route before the first question. It is asked while it has usable backends, so also after it was withdrawn.
`services` decides what follows. An address that is announced when it gets a probe, or another one, stays announced
until that has said otherwise. Does no I/O and never asks the time.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import partial
from typing import Protocol

import msgspec

from bgpd.model.next_hop import NextHops
from bgpd.model.prefix import parse_prefix
from bgpd.model.service import CheckType, HealthCheck, ProbedAddress, ProbeView, Service, ServiceMode
from bgpd.runtime.events import log
from bgpd.workload.service.checker import Checks, Health
from bgpd.workload.service.probes import ANY_WAY, Way
from bgpd.workload.service.saved_health import SavedHealth
from bgpd.workload.service.targets import CheckId

NO_BACKEND = "not asked: no usable backend"
_HOPS = 1
"""A probe reaches what is on this host: a router would have to forward it to another one."""
_HOPS_OF_OWN = 2
"""An address that an interface of this host has is not sent out at all; IPVS takes one hop for itself."""


class ProbeKernel(Protocol):
    """Who keeps the kernel routes of probes (`fib.tables.KernelTables`)."""

    def set_probe_route(self, asked: ProbedAddress, members: NextHops | None, answered: Callable[[str], None]) -> None:
        """The probes by which a service asks an address go to these members; `answered` is called with "" when it is
        so, or with why not.
        """

    def write_probe_route_again(self, asked: ProbedAddress) -> None:
        """It may have gone."""

    def probe_way(self, asked: ProbedAddress) -> tuple[str, str, bool]:
        """The interface that probes are bound to ("" for none), where they come from, and whether an interface of this
        host has the address.
        """


class NoKernel:
    """For services that are never probed."""

    def set_probe_route(self, asked: ProbedAddress, members: NextHops | None, answered: Callable[[str], None]) -> None:
        answered("")

    def write_probe_route_again(self, asked: ProbedAddress) -> None:
        """There is none."""

    def probe_way(self, asked: ProbedAddress) -> tuple[str, str, bool]:
        return "", "", False


class _Probed(msgspec.Struct, eq=False):
    """One address that is asked. `members` None: it has no usable backends, and is not asked.

    `is_running`: its checks run, by this `way`; before that the kernel's route is waited for. `is_trusted`: it was
    announced before.
    """

    asked: ProbedAddress
    text: str
    probe: HealthCheck
    health: Health
    members: NextHops | None = None
    problem: str = ""
    is_running: bool = False
    way: Way = ANY_WAY
    is_trusted: bool = False

    @property
    def name(self) -> str:
        """The service's."""
        return self.asked.service

    @property
    def id(self) -> CheckId:
        return self.name, "", self.text

    @property
    def goes_by_source(self) -> bool:
        """A program has sockets of its own: it goes the way of all the host's programs."""
        return self.probe.type is not CheckType.EXEC


class AddressProbes:
    """The probes of all services. `changed(name)`: an address of the service answers now, or no longer does."""

    def __init__(
        self,
        kernel: ProbeKernel,
        checks: Checks,
        *,
        saved: SavedHealth,
        changed: Callable[[str], None],
    ) -> None:
        self._kernel = kernel
        self._checks = checks
        self._saved = saved
        self._changed = changed
        self._probed: dict[CheckId, _Probed] = {}

    def use_kernel(self, kernel: ProbeKernel) -> None:
        """In place of the one that it was made with."""
        self._kernel = kernel

    def keep(
        self, name: str, service: Service, text: str, members: NextHops, *, is_announced: Callable[[], bool]
    ) -> None:
        """Ask an address of a service as it says now; `members` are its usable backends."""
        probed = self._probed.get((name, "", text))
        if service.probe is None:
            self._end(probed)
            return
        if probed is not None and (probed.asked.vrf != service.vrf or probed.probe != service.probe):
            self._end(probed)
            probed = None
        if probed is None:
            probed = self._begin(name, service, service.probe, text, is_announced=is_announced())
        wanted = (members if service.mode is ServiceMode.PREFER_LOCAL else ()) if members else None
        if wanted == probed.members:
            return
        probed.members = wanted
        if wanted is None:
            self._pause(probed)
        elif probed.goes_by_source:
            answered = partial(self._answered, probed)
            self._kernel.set_probe_route(probed.asked, wanted, answered)
        else:
            self._answered(probed, "")

    def _begin(self, name: str, service: Service, probe: HealthCheck, text: str, *, is_announced: bool) -> _Probed:
        probed = _Probed(
            asked=ProbedAddress(name, service.vrf, *parse_prefix(text)),
            text=text,
            probe=probe,
            health=self._saved.take((name, "", text), probe),
            is_trusted=is_announced,
        )
        self._probed[probed.id] = probed
        return probed

    def _pause(self, probed: _Probed) -> None:
        """No usable backend is left: what was found out of those that there were says nothing of others."""
        self._stop(probed)
        probed.health = Health(rise=probed.probe.rise, fall=probed.probe.fall)
        probed.is_trusted, probed.problem = False, ""
        self._kernel.set_probe_route(probed.asked, None, lambda _problem: None)

    def _stop(self, probed: _Probed) -> None:
        if probed.is_running:
            probed.is_running = False
            self._checks.stop(probed.id)

    def _end(self, probed: _Probed | None) -> None:
        if probed is not None:
            self._pause(probed)
            del self._probed[probed.id]

    def forget(self, name: str, kept: tuple[str, ...] = ()) -> None:
        """A service has only these addresses any more."""
        for probed in [one for one in self._probed.values() if one.name == name and one.text not in kept]:
            self._end(probed)

    def _answered(self, probed: _Probed, problem: str) -> None:
        """The kernel has the route of a probe, or says why not."""
        if self._probed.get(probed.id) is not probed or probed.members is None:
            return
        before, probed.problem = probed.problem, problem
        if not problem:
            self._ask(probed)
        elif problem != before:
            log.warning("service.probe_route_refused", service=probed.name, address=probed.text, reason=problem)
            self._stop(probed)
            self._changed(probed.name)

    def _ask(self, probed: _Probed) -> None:
        """Ask by the way that there is now: an interface may have got the address, or lost it, since it was chosen."""
        way = self._way(probed)
        if not probed.is_running or way != probed.way:
            probed.is_running, probed.way = True, way
            self._checks.start(probed.id, probed.probe, probed.text, way)

    def _way(self, probed: _Probed) -> Way:
        device, source, is_own = self._kernel.probe_way(probed.asked)
        if not probed.goes_by_source:
            return Way(device=device)
        return Way(device=device, source=source, hops=_HOPS_OF_OWN if is_own else _HOPS)

    def result(self, id: CheckId, reason: str, now: float) -> None:
        """One answer to a probe: "" or why it failed. `now` is the wall clock in seconds."""
        probed = self._probed.get(id)
        if probed is None or not probed.is_running:
            return
        if reason and probed.goes_by_source:
            self._kernel.write_probe_route_again(probed.asked)
        elif reason:
            self._ask(probed)
        if not probed.health.result(reason, now):
            return
        if probed.health.healthy:
            log.info("service.address_answers", service=probed.name, address=probed.text)
        else:
            log.warning("service.address_fails", service=probed.name, address=probed.text, reason=reason)
        self._changed(probed.name)

    def fault(self, name: str, text: str) -> str:
        """Why an address must not be announced, "" if it may."""
        probed = self._probed.get((name, "", text))
        if probed is None or probed.health.healthy or (probed.health.healthy is None and probed.is_trusted):
            return ""
        return f"the probe of {text}: {probed.problem or probed.health.reason}"

    def yields(self, name: str, text: str) -> bool:
        """Whether the local route of an address may give way: its probes find the local backends all the same."""
        probed = self._probed.get((name, "", text))
        return probed is None or probed.goes_by_source

    def undecided(self) -> bool:
        """Whether an address that is asked has not answered yet."""
        return any(one.members is not None and not one.health.is_decided for one in self._probed.values())

    def counts(self) -> dict[str, int]:
        """How many addresses are in each state, whether any is or not."""
        counts = dict.fromkeys(("healthy", "unhealthy", "unknown"), 0)
        for probed in self._probed.values():
            counts[_state(probed.health)] += 1
        return counts

    def healths(self) -> Iterator[tuple[CheckId, HealthCheck, Health]]:
        """What is known of each address."""
        for id, probed in self._probed.items():
            yield id, probed.probe, probed.health

    def healths_of(self, name: str, service: Service) -> list[tuple[CheckId, HealthCheck, Health]]:
        """What is known of the addresses of one service."""
        found = (self._probed.get((name, "", text)) for text in service.addresses)
        return [(one.id, one.probe, one.health) for one in found if one is not None]

    def views(self, name: str, service: Service) -> list[ProbeView]:
        """The probes of a service, in the order of its addresses."""
        found = (self._probed.get((name, "", text)) for text in service.addresses)
        return [_view(probed) for probed in found if probed is not None]


def _state(health: Health) -> str:
    return "unknown" if health.healthy is None else "healthy" if health.healthy else "unhealthy"


def _view(probed: _Probed) -> ProbeView:
    health = probed.health
    reason = NO_BACKEND if probed.members is None else probed.problem or health.reason
    return ProbeView(
        address=probed.text,
        type=probed.probe.type,
        state=_state(health),
        reason=reason,
        since=health.since,
    )
