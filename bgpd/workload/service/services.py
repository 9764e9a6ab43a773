"""Service addresses: which local backends serve them now, and whether this host announces them.

A service is announced while at least `min_healthy` of its backends are usable: a workload of this host has the
address and is announced, its checks are good, it is not drained. With `prefer-local` the kernel spreads what arrives
over them by weight. A drained service, or one with too few backends, is withdrawn but keeps serving what still
arrives; so does one whose backends are all drained, until its neighbors have heard of it (`SETTLE_S`).

After a start nothing is claimed before all checks have said something: the kernel spreads flows as the last run left
it meanwhile, and goes on so where nothing changed.

Makes claims (source "service") and asks for checks; does no I/O and never asks the time.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from functools import partial
from itertools import islice
from typing import Protocol

import msgspec

from bgpd.model.iana import Family
from bgpd.model.path import NextHop, NextHops
from bgpd.model.prefix import key_address, parse_prefix
from bgpd.model.service import Backend, BackendView, CheckType, HealthCheck, Service, ServiceMode, ServiceView
from bgpd.model.workload import Claim
from bgpd.workload.claims import Claims
from bgpd.workload.service.checker import Health
from bgpd.workload.sources import Restart, SourceKind
from bgpd.workload.standing import ClaimStatus

SERVICE = "service"
KIND = SourceKind(
    name=SERVICE,
    what="services, for which MQTT and the API name backends",
    precedence=1,
    restart=Restart.DERIVED,
    is_service=True,
)
STARTING = "the daemon has started: its workloads and health checks are waited for"
SETTLE_S = 5.0
"""How long backends that are all drained serve what still arrives, since the withdrawal is on its way."""
DRAINED = "drained"
MAX_REASONS = 5
"""Most unhealthy backends that the reason names."""

_Place = tuple[str, Family, bytes]
CheckId = tuple[str, str, str]


class Checks(Protocol):
    """Who runs checks (`checker.Checker`); results come back by `Services.check_result`."""

    def start(self, id: CheckId, check: HealthCheck, address: str, device: str) -> None: ...

    def stop(self, id: CheckId) -> None: ...


class _Target(msgspec.Struct, eq=False):
    """One address of one backend as it was judged last: `interface` leads to it, `reason` is why it may not be used."""

    id: CheckId
    backend: Backend
    family: Family
    key: bytes
    interface: str = ""
    reason: str = ""


class _Active(msgspec.Struct, eq=False):
    """A service in force, the health of its checked addresses, and the interface that each check is bound to.

    `serving` has the members that each address had last; `settling` the addresses whose backends were all drained,
    until the neighbors have heard of it.
    """

    source: str
    service: Service
    targets: dict[CheckId, _Target] = {}
    health: dict[CheckId, Health] = {}
    devices: dict[CheckId, str] = {}
    serving: dict[str, NextHops] = {}
    settling: dict[str, object] = {}


class Services:
    """The services of this host. Each of `listeners` is called with a service's name when its view may have changed.

    `schedule(callback)`: call back soon; results of checks that come until then are one change of their service.
    `later(seconds, callback)`: call back then.
    """

    def __init__(
        self,
        claims: Claims,
        checks: Checks,
        *,
        schedule: Callable[[Callable[[], None]], None] = lambda callback: callback(),
        later: Callable[[float, Callable[[], None]], object] = lambda seconds, callback: None,
    ) -> None:
        self._later = later
        self.listeners: list[Callable[[str], None]] = []
        self._claims = claims
        self._checks = checks
        self._services: dict[str, _Active] = {}
        self._targets_at: dict[_Place, dict[CheckId, None]] = defaultdict(dict)
        self._released = False
        self._schedule = schedule
        self._due: dict[str, None] = {}

    def _changed(self, name: str) -> None:
        for listener in self.listeners:
            listener(name)

    def owner(self, name: str) -> str:
        """The source that a service is from; "" if there is none of this name."""
        active = self._services.get(name)
        return active.source if active else ""

    def apply(self, source: str, name: str, service: Service | None) -> None:
        """A checked service from now on, or (None) none of this name any more."""
        active = self._services.get(name)
        if active is not None:
            for target in active.targets.values():
                place = (active.service.vrf, target.family, target.key)
                self._targets_at[place].pop(target.id, None)
                if not self._targets_at[place]:
                    del self._targets_at[place]
        if service is None:
            if active is not None:
                for id in active.devices:
                    self._checks.stop(id)
                del self._services[name]
            self._claims.claim(SERVICE, name)
            self._changed(name)
            return
        if active is None:
            active = self._services[name] = _Active(source=source, service=service)
        else:
            self._forget_checks(name, active, service)
            active.source, active.service = source, service
        active.targets = {target.id: target for target in _targets(name, service)}
        for target in active.targets.values():
            self._targets_at[service.vrf, target.family, target.key][target.id] = None
            self._judge(active, target)
        self._claim_all(name, active)

    def _forget_checks(self, name: str, active: _Active, new: Service) -> None:
        """Stop the checks that `new` does differently; all others keep their health."""
        wanted = {(name, b.id, address) for b in new.backends for address in b.addresses}
        for id in list(active.health):
            if id not in wanted or active.service.check != new.check:
                del active.health[id]
                if active.devices.pop(id, None) is not None:
                    self._checks.stop(id)

    def check_result(self, id: CheckId, reason: str, now: float) -> None:
        """One result of a check: "" or why it failed. `now` is the wall clock in seconds."""
        active = self._services.get(id[0])
        health = active.health.get(id) if active else None
        if active is None or health is None:
            return
        changed = health.result(reason, now)
        self._judge(active, active.targets[id])
        if changed:
            is_planned = bool(self._due)
            self._due[id[0]] = None
            if not is_planned:
                self._schedule(self._claim_due)

    def _claim_due(self) -> None:
        due, self._due = self._due, {}
        for name in due:
            if name in self._services:
                self._claim_all(name, self._services[name])

    def states_changed(self, changed: Iterable[ClaimStatus]) -> None:
        """States of workloads changed: backends may have come or gone."""
        names = set()
        for status in changed:
            claim = status.claim
            if claim.source != SERVICE:
                for id in self._targets_at.get((claim.vrf, claim.family, claim.key), ()):
                    active = self._services[id[0]]
                    self._judge(active, active.targets[id])
                    names.add(id[0])
        for name in sorted(names):
            self._claim_all(name, self._services[name])

    def _judge(self, active: _Active, target: _Target) -> None:
        """Look at one address again; of a thousand, the others stay as they were judged."""
        target.interface = self._claims.interface_of(active.service.vrf, target.family, target.key)
        self._keep_check(active, target)
        target.reason = self._unusable(active, target)

    def release(self) -> None:
        """What there is to know after a start is known: claim from now on. Idempotent."""
        if not self._released:
            self._released = True
            for name, active in self._services.items():
                self._claim_all(name, active)

    def _claim_all(self, name: str, active: _Active) -> None:
        self._changed(name)
        if not self._released:
            return
        targets = active.targets.values()
        usable = [
            (
                target.family,
                NextHop(
                    address=key_address(target.family, target.key),
                    interface=target.interface,
                    weight=target.backend.weight,
                ),
            )
            for target in targets
            if not target.reason
        ]
        reasons = (f"{target.backend.id}: {target.reason}" for target in targets if target.reason)
        first = list(islice(reasons, MAX_REASONS + 1))
        unhealthy = "; ".join([*first[:MAX_REASONS], *(["..."] if len(first) > MAX_REASONS else [])])
        claims = []
        for text in active.service.addresses:
            family, _ = parse_prefix(text)
            members = tuple(sorted({hop for of, hop in usable if of is family}))
            served = self._served(name, active, text, members)
            claims.append(self._claim(name, active, text, served=served, healthy=len(members), unhealthy=unhealthy))
        self._claims.claim(SERVICE, name, claims)

    def _served(self, name: str, active: _Active, text: str, members: NextHops) -> NextHops:
        """What the kernel spreads an address over: `members`; if all were drained just now, those that served it.

        The fabric sends here until it has heard otherwise.
        """
        if members:
            active.serving[text] = members
            active.settling.pop(text, None)
            return members
        drained = {
            (key_address(target.family, target.key), target.interface)
            for target in active.targets.values()
            if target.reason == DRAINED
        }
        kept = tuple(hop for hop in active.serving.get(text, ()) if (hop.address, hop.interface) in drained)
        if kept and text not in active.settling:
            wait = active.settling[text] = object()
            self._later(SETTLE_S, partial(self._settled, name, active, text, wait))
        return kept

    def _settled(self, name: str, active: _Active, text: str, wait: object) -> None:
        """The neighbors have received the withdrawal."""
        if self._services.get(name) is active and active.settling.get(text) is wait:
            del active.settling[text], active.serving[text]
            self._claim_all(name, active)

    @staticmethod
    def _unusable(active: _Active, target: _Target) -> str:
        """Why a backend's address may not be used, "" if it may."""
        check = active.service.check
        if not target.interface:
            return f"no announced workload on an interface of this host has {target.id[2]}"
        if target.backend.drain:
            return DRAINED
        if check is None:
            return ""
        if check.type is CheckType.PUSH:
            return "" if target.backend.healthy else "not reported healthy"
        health = active.health[target.id]
        return "" if health.healthy else health.reason

    def _keep_check(self, active: _Active, target: _Target) -> None:
        """Check an address while a workload has it; in a VRF by way of the workload's interface."""
        check, id = active.service.check, target.id
        if check is None or check.type is CheckType.PUSH:
            return
        if not target.interface:
            if active.devices.pop(id, None) is not None:
                self._checks.stop(id)
                del active.health[id]
            return
        device = target.interface if active.service.vrf else ""
        if active.devices.get(id) != device:
            active.health[id] = Health(rise=check.rise, fall=check.fall)
            active.devices[id] = device
            self._checks.start(id, check, id[2], device)

    def undecided(self) -> bool:
        """Whether a check has no result yet."""
        return any(h.healthy is None for active in self._services.values() for h in active.health.values())

    @staticmethod
    def _claim(name: str, active: _Active, text: str, *, served: NextHops, healthy: int, unhealthy: str) -> Claim:
        service = active.service
        family, key = parse_prefix(text)
        withheld = ""
        if service.drain:
            withheld = "the service is drained"
        elif healthy < service.min_healthy:
            withheld = f"{healthy} of at least {service.min_healthy} backends are healthy"
            withheld += f": {unhealthy}" if unhealthy else ""
        serve = service.mode is ServiceMode.PREFER_LOCAL and bool(served)
        return Claim(
            source=SERVICE,
            id=name,
            family=family,
            key=key,
            vrf=service.vrf,
            manage_route=serve,
            members=served if serve else (),
            resilient=service.resilient,
            kind="service",
            exception=True,
            withheld=withheld,
        )

    def names(self) -> list[str]:
        return sorted(self._services)

    def view(self, name: str) -> ServiceView | None:
        """A service as `bgpd show services` shows it; None if there is none of this name."""
        active = self._services.get(name)
        if active is None:
            return None
        service = active.service
        statuses = self._claims.statuses(SERVICE, name)
        backends = [_backend_view(name, active, backend) for backend in service.backends]
        return ServiceView(
            name=name,
            source=active.source,
            addresses=list(service.addresses),
            vrf=service.vrf,
            mode=service.mode,
            min_healthy=service.min_healthy,
            healthy=sum(backend.state == "healthy" for backend in backends),
            announced=bool(statuses) and all(one.announced for one in statuses),
            reason="; ".join(dict.fromkeys(one.reason for one in statuses if one.reason)) if statuses else STARTING,
            backends=backends,
        )


def _backend_view(name: str, active: _Active, backend: Backend) -> BackendView:
    targets = [active.targets[name, backend.id, address] for address in backend.addresses]
    health = [active.health[target.id] for target in targets if target.id in active.health]
    reason = next((target.reason for target in targets if target.reason), "")
    unknown = any(one.healthy is None for one in health)
    return BackendView(
        id=backend.id,
        addresses=list(backend.addresses),
        interface=next((target.interface for target in targets if target.interface), ""),
        weight=backend.weight,
        state="drained" if backend.drain else "healthy" if not reason else "unknown" if unknown else "unhealthy",
        reason=reason,
        since=max((one.since for one in health), default=0.0),
    )


def _targets(name: str, service: Service) -> Iterator[_Target]:
    for backend in service.backends:
        for address in backend.addresses:
            family, key = parse_prefix(address)
            yield _Target(id=(name, backend.id, address), backend=backend, family=family, key=key)
