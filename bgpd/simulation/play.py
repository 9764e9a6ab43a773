"""Plays the steps of a scenario in the fabric of a topology, and reports what each has cost."""

from __future__ import annotations

import asyncio
import math
import random
from collections.abc import Callable, Iterator
from pathlib import Path

import msgspec

from bgpd.cli.reports import LossReport, SimulationReport, StepReport
from bgpd.simulation import checks, guests
from bgpd.simulation.build import Builder, Built
from bgpd.simulation.clab import Topology
from bgpd.simulation.events import carry_out
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.interfaces import inner_interfaces, tenant_interface, workload_interface
from bgpd.simulation.loop import FIRST_S, VirtualLoop, scratch, simulated_time
from bgpd.simulation.losses import Loss, Losses
from bgpd.simulation.network import Stack
from bgpd.simulation.scenario import Event, Kind
from bgpd.simulation.steps import Step

_MOST_REST_S = 900.0
_SLACK_S = 10.0
_LOOK_S = 0.5
_FLAP_S = 0.05
"""Each pause of a link that flaps, at most."""


class Played:
    """One fabric with its measuring. `told`: is given each report as it is made."""

    def __init__(self, built: Built, *, builder: Builder, told: Callable[[StepReport], None]) -> None:
        self._fabric = built.fabric
        self._unforeseen = built.unforeseen
        self._builder = builder
        self._told = told
        self._losses = Losses(built.fabric)
        self._tasks: list[asyncio.Task[None]] = []
        self._rest_s = _rest_s(built.fabric)
        self._live: set[str] = set()
        """The addresses that there were at rest."""
        self._booting: set[str] = set()
        """Nodes that have booted since."""

    async def play(self, steps: list[Step]) -> list[StepReport]:
        """The start, and then each step."""
        reports = []
        for number, step in enumerate((None, *steps)):
            later = steps[number].after_s if number < len(steps) else None
            report = await self._one(step, until_s=later)
            reports.append(report)
            self._told(report)
        return reports

    async def _one(self, step: Step | None, *, until_s: float | None) -> StepReport:
        fabric, began, updates = self._fabric, self._fabric.loop.now, self._updates()
        if step is None:
            fabric.start()
        else:
            self._tasks.append(asyncio.create_task(do(fabric, step, self._builder)))
            self._booting |= {step.node} if step.do == "boots" else set()
        wrong: list[str] = []
        if until_s is not None:
            await asyncio.sleep(until_s)
        else:
            await self._rest(began)
            if not any(link.loss for link in fabric.links.values()):  # sessions over such a link come and go
                wrong = checks.findings(fabric, is_foreseen=not self._unforeseen and not _has_stale(fabric))
        losses = [one for one in self._losses.take(is_at_rest=until_s is None) if not self._is_no_loss(one)]
        if step is None:  # what came one after the other at the start is no loss
            losses = [one for one in losses if one.until is None]
        gone, told = set[str](), [one for one in losses if one.until is not None]
        if until_s is None:
            told, gone = losses, self._live - self._losses.live()
            self._live = self._losses.live()
            self._booting.clear()
        return StepReport(
            step=str(step) if step is not None else "start",
            at_s=round(began - FIRST_S, 3),
            settled_s=round(max(self._changed_at() - began, 0.0), 3) if until_s is None else None,
            updates=self._updates() - updates,
            losses=_reports(told, began),
            wrong=wrong,
            max_lost_s=step.max_lost_s if step is not None else None,
            missed=self._missed(losses, step.max_lost_s, is_at_rest=until_s is None) if step is not None else [],
            gone=sorted(gone),
        )

    def _is_no_loss(self, one: Loss) -> bool:
        """Of a node that has booted, what it did not reach before it was up, or was not reached at; and what was not
        reached at rest, and is gone by now."""
        is_of_booting = one.source in self._booting or (one.owners and one.owners <= self._booting)
        return (one.is_moot and one.is_known) or bool(is_of_booting and one.until is not None and not one.is_known)

    def _missed(self, losses: list[Loss], most_s: float | None, *, is_at_rest: bool) -> list[str]:
        """What was lost for longer than it may be, of each address the worst; what was so at rest before is no news."""
        worst: dict[str, tuple[float, Loss]] = {}
        for one in losses:
            until = one.until if one.until is not None else math.inf if is_at_rest else self._fabric.loop.now
            lasted_s = until - one.since
            if most_s is None or one.is_known or lasted_s <= most_s:
                continue
            if one.address not in worst or lasted_s > worst[one.address][0]:
                worst[one.address] = lasted_s, one
        found = []
        for address, (lasted_s, one) in worst.items():
            how_long = f"for {lasted_s:.3f} s" if lasted_s < math.inf else "and is so still"
            found.append(f"{address} was unreachable {how_long}, from {one.source}; it may be for {most_s:g} s")
        return found

    def _stacks(self) -> Iterator[Stack]:
        yield from (host.stack for host in self._fabric.hosts.values())
        yield from (router.stack for router in self._fabric.routers.values())
        yield from (guest.router.stack for host in self._fabric.hosts.values() for guest in host.guests.values())

    def _updates(self) -> int:
        return sum(one.updates for one in self._stacks())

    def _changed_at(self) -> float:
        """When routes or ways were others last."""
        return max(self._losses.changed_at, *(one.updated_at for one in self._stacks()))

    async def _rest(self, began: float) -> None:
        """Until nothing has changed for as long as the longest timer, and what was begun has ended."""
        fabric = self._fabric
        while fabric.loop.now - max(self._changed_at(), began) < self._rest_s:
            if fabric.loop.now - began > _MOST_REST_S:
                break
            await asyncio.sleep(_LOOK_S)
        await asyncio.gather(*self._tasks)
        self._tasks.clear()
        for _ in range(3):
            if not any(host.daemon is not None and host.daemon.walks for host in fabric.hosts.values()):
                break
            await asyncio.sleep(_LOOK_S)


def _has_stale(fabric: Fabric) -> bool:
    """Whether routes of a neighbor that is away may be kept for long (RFC 9494): which way packets go then, nobody can
    say beforehand."""
    for one, two in fabric.links:
        router, other = fabric.routers[one], fabric.routers.get(two)
        neighbors = fabric.hosts[two].neighbors if other is None else {}
        theirs = neighbors[one].graceful_restart.long_lived_s if one in neighbors else 0
        long_lived_s = other.style.long_lived_s if other is not None else theirs
        if router.style.long_lived_s and long_lived_s and two in router.peers and not fabric.is_connected(one, two):
            return True
    return False


def _rest_s(fabric: Fabric) -> float:
    """Longer than hold and restart times one after the other."""
    hold_s, restart_s = 0, 0
    for host in fabric.hosts.values():
        for one in host.config.neighbor:
            hold_s = max(hold_s, one.hold_time_s)
            restart_s = max(restart_s, one.graceful_restart.restart_time_s)
        for guest in host.config.workload.bgp if host.guests else ():
            hold_s = max(hold_s, guest.hold_time_s)
            restart_s = max(restart_s, guest.graceful_restart.stale_time_s)
    for router in fabric.routers.values():
        others = [
            (peer, fabric.routers[name].peers.get(router.name))
            for name, peer in router.peers.items()
            if name in fabric.routers
        ]
        hold_s = max(hold_s, *(min(peer.hold_s, other.hold_s) for peer, other in others if other is not None), 0)
    routers = [router.style for router in fabric.routers.values()]
    restart_s = max(restart_s, *(one.restart_time_s for one in routers if one.restarts), 0)
    return hold_s + restart_s + _SLACK_S


def _reports(losses: list[Loss], began: float) -> list[LossReport]:
    """Sources that lost an address at the same time are one, to a hundredth of a second, and so are addresses that were
    lost at the same time from the same nodes."""
    by_address: dict[object, LossReport] = {}
    for one in losses:
        since = max(one.since, began) if one.is_known else one.since
        seconds = None if one.until is None else round(one.until - since, 3)
        if seconds == 0:
            continue
        after_s = round(since - began, 3)
        report = LossReport(
            addresses=[one.address],
            sources=[],
            after_s=after_s,
            seconds=seconds,
            why=one.why,
            goes_on=one.is_known,
        )
        same = by_address.setdefault((one.address, *_rounded(report)), report)
        same.sources.append(one.source)
        _prolong(same, report)
    found: dict[object, LossReport] = {}
    for report in by_address.values():
        same = found.setdefault((*_rounded(report), tuple(report.sources)), report)
        if same is not report:
            same.addresses += report.addresses
            _prolong(same, report)
    return list(found.values())


def _rounded(report: LossReport) -> tuple[float, float | None, bool]:
    seconds = round(report.seconds, 2) if report.seconds is not None else None
    return round(report.after_s, 2), seconds, report.goes_on


def _prolong(same: LossReport, other: LossReport) -> None:
    if same.seconds is not None and other.seconds is not None:
        same.seconds = max(same.seconds, other.seconds)


_OF_GUESTS = {
    ("dies", True): Kind.GUEST_DIES,
    ("boots", True): Kind.GUEST_STARTS,
    ("restart", True): Kind.GUEST_RESTARTS_GRACEFULLY,
    ("restart", False): Kind.GUEST_RESTARTS,
}
"""What happens to a guest, by the word and whether it is graceful."""


async def do(fabric: Fabric, step: Step, builder: Builder) -> None:
    """Have a step happen. `builder`: reads other configurations."""
    one, two = step.link
    if step.do == "reload" and step.node in fabric.routers:
        builder.change_router(step.node, Path(step.file))
    elif step.do == "reload":
        await fabric.hosts[step.node].reload(builder.another(step.node, step.file))
    elif step.do in ("claim", "move"):
        await _claim(fabric, step)
    elif step.do == "release":
        await _release(fabric, step, step.node)
    elif step.do in ("publish", "unpublish") and fabric.orchestrator is not None:
        fabric.orchestrator.publish(step.node, step.topic, step.body)
        fabric.note()  # it is wanted from now on, whenever the host hears of it
    elif step.do == "backend-fails":
        fabric.hosts[step.node].offers.sick.add(step.address)
    elif step.do == "backend-works":
        fabric.hosts[step.node].offers.sick.discard(step.address)
    elif step.do != "wait":
        for event in _events(fabric, step, one, two):
            await carry_out(fabric, event)


async def _claim(fabric: Fabric, step: Step) -> None:
    others = [name for name in fabric.hosts if name != step.node] if step.do == "move" else []
    host = fabric.hosts[step.node]
    if step.vrf:  # as live migrations: it is here before it is gone there
        interface = tenant_interface(host, step.vrf)
        await host.put_machine(step.vrf, step.address, interface=interface, mac=step.mac, is_sticky=False)
    for name in others:
        await _release(fabric, step, name)
    if step.vrf or not host.stack.is_there:
        return
    interface = workload_interface(host)
    if interface:
        host.claim(step.address, interface)
    elif host.config.workload.api is not None:
        await host.put_workload(step.address, next(inner_interfaces(host)))
    elif fabric.orchestrator is not None:
        fabric.orchestrator.put(step.node, step.address)
        fabric.note()


async def _release(fabric: Fabric, step: Step, name: str) -> None:
    """From wherever the host has it, but from its configuration."""
    host = fabric.hosts[name]
    if step.vrf:
        configured = {(one.vrf, one.prefix) for one in host.config.workload.static}
        if (step.vrf, step.address) not in configured:
            await host.delete_machine(step.vrf, step.address)
        return
    host.release(step.address)
    await host.delete_workload(step.address)
    if fabric.orchestrator is not None and name in fabric.orchestrator.wanted:
        fabric.orchestrator.delete(name, step.address)


def _events(fabric: Fabric, step: Step, one: str, two: str) -> Iterator[Event]:
    def event(kind: Kind, value: float = 0.0) -> Event:
        return Event(at_s=0.0, kind=kind, host=step.node or two, leaf=step.node or one, value=value)

    of_link = msgspec.structs.replace(event(Kind.CUT), host=two, leaf=one)
    is_host = step.node in fabric.hosts
    match step.do:
        case "dies" | "boots" | "restart" if step.node in guests.of(fabric):
            yield event(_OF_GUESTS[step.do, step.graceful], step.down_s)
        case "link-down":
            yield of_link
        case "link-up":
            yield msgspec.structs.replace(of_link, kind=Kind.MEND)
        case "link-flaps":
            yield msgspec.structs.replace(of_link, kind=Kind.FLAP, value=_FLAP_S)
        case "link-lossy":
            yield msgspec.structs.replace(of_link, kind=Kind.LOSSY, value=step.loss)
        case "link-deaf":
            yield msgspec.structs.replace(of_link, kind=Kind.DEAF, value=step.link.index(step.node))
        case "dies":
            yield event(Kind.POWER_LOSS if is_host else Kind.LEAF_DIES)
        case "boots":
            yield event(Kind.BOOT if is_host else Kind.LEAF_BOOTS)
        case "restart" if is_host and step.graceful:
            yield event(Kind.RESTART, step.down_s)
        case "restart" if is_host:
            yield event(Kind.STOP)
            yield event(Kind.START)
        case "restart":
            yield event(Kind.LEAF_RESTARTS_GRACEFULLY if step.graceful else Kind.LEAF_RESTARTS, step.down_s)
        case "hand-over":
            yield event(Kind.HAND_OVER, step.down_s)
        case "kill":
            yield event(Kind.KILL)
            fabric.loop.call_later(step.down_s, fabric.hosts[step.node].start)
        case "bfd-dies":
            yield event(Kind.BFD_CRASHES, step.down_s)
        case "broker-dies":
            yield event(Kind.BROKER_DIES, step.down_s)
        case "broker-loses-all":
            yield event(Kind.BROKER_FORGETS, step.down_s)
        case "drain":
            yield event(Kind.DRAIN)
        case "undrain":
            yield event(Kind.UNDRAIN)


def simulate(
    topology: Topology,
    steps_of: Callable[[Fabric], list[Step]],
    *,
    seed: int,
    began: Callable[[Built], None],
    told: Callable[[StepReport], None],
) -> SimulationReport:
    """Run it all. `began` is given the fabric before it starts, `told` each report.

    Raises: ImportFailed: the topology, the scenario, or what they name has errors.
    """
    random.seed(seed)
    chance = random.Random(seed)
    with (
        simulated_time(chance, slow_looks=0.0) as loop,
        scratch() as directory,
    ):
        loop.most_s = float("inf")
        # all of the fabric belongs to the call, so that an error that ends it leaves nothing of it
        return _simulated(topology, steps_of, loop, Path(directory), seed=seed, began=began, told=told)


def _simulated(
    topology: Topology,
    steps_of: Callable[[Fabric], list[Step]],
    loop: VirtualLoop,
    directory: Path,
    *,
    seed: int,
    began: Callable[[Built], None],
    told: Callable[[StepReport], None],
) -> SimulationReport:
    builder = Builder(topology, loop, chance=loop.chance, directory=directory)
    built = builder.build()
    steps = steps_of(built.fabric)
    for step in steps:
        if step.do == "reload":  # what is wrong with such a file is told before anything is run
            builder.check_reload(step.node, step.file)
    began(built)
    reports = loop.run_until_complete(Played(built, builder=builder, told=told).play(steps))
    fabric = built.fabric
    return SimulationReport(
        topology=topology.name,
        seed=seed,
        hosts=len(fabric.hosts),
        routers=len(fabric.routers),
        addresses=sum(len({*host.claims, *host.managed}) + len(host.machines) for host in fabric.hosts.values()),
        not_simulated=built.remarks,
        unforeseen=built.unforeseen,
        steps=reports,
        good=not any(one.wrong or one.missed for one in reports),
    )
