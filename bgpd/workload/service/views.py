"""Services as they are shown: their views, and in words why they are announced or not. Only reads."""

from __future__ import annotations

from collections.abc import Collection, Iterable
from itertools import islice

from bgpd.model.service import Backend, BackendView, ProbeView, Service, ServiceView
from bgpd.workload.service.active import Active
from bgpd.workload.service.last_resort import Availability, Standing
from bgpd.workload.service.targets import Fault, Target, backends_of
from bgpd.workload.service.weights import WHOLE, eighths_of
from bgpd.workload.standing import ClaimStatus

STARTING = "the daemon has started: its workloads and health checks are waited for"
MAX_REASONS = 5
"""Most unhealthy backends that the reason names."""


def service(
    name: str, active: Active, statuses: Collection[ClaimStatus], probes: list[ProbeView], *, now: float
) -> ServiceView:
    """A service; `statuses` are those of its claims, `now` is the clock of slow starts."""
    said = active.service
    backends = [_backend(name, active, backend, now) for backend in said.backends]
    return ServiceView(
        name=name,
        source=active.source,
        addresses=list(said.addresses),
        vrf=said.vrf,
        mode=said.mode,
        min_healthy=said.min_healthy,
        healthy=sum(backend.state == "healthy" for backend in backends),
        weight_from=said.weight_from,
        bandwidth={text: bandwidth for text, (bandwidth, _) in active.bandwidths.items()},
        last_resort=said.last_resort,
        kept=[text for text in said.addresses if active.is_last_resort(text)],
        slow_start_s=said.slow_start_s,
        damped_since=min((one.since for one in active.flapping.values() if one.since is not None), default=None),
        damped_until=max((one.until for one in active.flapping.values() if one.until is not None), default=None),
        announced=bool(statuses) and all(one.announced for one in statuses),
        reason="; ".join(dict.fromkeys(one.reason for one in statuses if one.reason)) if statuses else STARTING,
        backends=backends,
        probes=probes,
    )


def too_few(service: Service, healthy: int, faults: str) -> str:
    """Why an address with so many healthy backends is not announced."""
    why = f"{healthy} of at least {service.min_healthy} backends are healthy"
    if len(service.backends) < service.min_healthy:
        why += f" (the service has {len(service.backends)}, fewer than min_healthy)"
    return f"{why}: {faults}" if faults else why


def note(availability: Availability, service: Service, serving: Collection[Target], targets: Collection[Target]) -> str:
    """What is unusual about an address that is announced."""
    match availability.standing:
        case Standing.LAST_RESORT:
            if all(target.fault is Fault.UNKNOWN for target in serving):
                return f"all backends are checked anew, and serve as before: {reasons(targets)}"
            count = len(backends_of(serving))
            return f"last resort: all backends failed at once, {count} kept as they were: {reasons(targets)}"
        case Standing.DOUBT:
            healthy = f"{len(backends_of(serving))} of at least {service.min_healthy} backends are healthy"
            return f"{healthy}; announced until it is known whether all fail: {reasons(targets)}"
    return ""


def unanswered(fault: str, note: str) -> str:
    """What is unusual about an address that is announced though it does not answer."""
    said = f"last resort: announced as before though it does not answer; {fault}"
    return f"{said}; {note}" if note else said


def reasons(targets: Iterable[Target]) -> str:
    """Why addresses of backends may not be used; of the first few."""
    found = (f"{target.backend.id}: {target.reason}" for target in targets if target.fault is not Fault.NONE)
    first = list(islice(found, MAX_REASONS + 1))
    return "; ".join([*first[:MAX_REASONS], *(["..."] if len(first) > MAX_REASONS else [])])


def _backend(name: str, active: Active, backend: Backend, now: float) -> BackendView:
    targets = [active.targets[name, backend.id, address] for address in backend.addresses]
    health = [active.health[target.id] for target in targets if target.id in active.health]
    reason = next((target.reason for target in targets if target.reason), "")
    unknown = any(one.healthy is None for one in health)
    works = all(target.fault is Fault.NONE for target in targets)
    return BackendView(
        id=backend.id,
        addresses=list(backend.addresses),
        interface=next((target.interface for target in targets if target.interface), ""),
        weight=backend.weight,
        weight_now=_weight_now(active, targets, now),
        state="drained" if backend.drain else "healthy" if works else "unknown" if unknown else "unhealthy",
        reason=reason,
        since=max((one.since for one in health), default=0.0),
    )


def _weight_now(active: Active, targets: Iterable[Target], now: float) -> float:
    """The weight with which a backend serves: that of the address that has come farthest."""
    serving = [target for target in targets if target.fault is Fault.NONE or active.is_kept(target)]
    eighths = (eighths_of(target, slow_start_s=active.service.slow_start_s, now=now) for target in serving)
    return max((part * target.backend.weight / WHOLE for part, target in zip(eighths, serving)), default=0.0)
