"""One run of bgpd on a simulated host: the parts of the daemon are made and run as daemon.py does, without its API,
files, signals and journal."""

from __future__ import annotations

import asyncio
from typing import TYPE_CHECKING, Any, cast

from bgpd.consistency import Consistency
from bgpd.consistency_checks import checks
from bgpd.drain import Drain
from bgpd.fib.dataplane import Dataplane
from bgpd.history.recorder import History
from bgpd.inheritance import Inheritance, Left
from bgpd.journal.journal import Journal
from bgpd.leaving import SETTLE_S, left_behind
from bgpd.log import EventRing
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.model.iana import Family
from bgpd.readiness import Readiness
from bgpd.routing import Routing
from bgpd.runtime.descriptors import Shortage
from bgpd.runtime.loop import TimedSelector
from bgpd.runtime.turns import Walks
from bgpd.simulation.kernel_ports import Reader
from bgpd.simulation.loop import Process
from bgpd.simulation.sockets import new_socket
from bgpd.trial import Trial
from bgpd.workload.ways_out import WaysOut

if TYPE_CHECKING:
    from bgpd.simulation.host import SimulatedHost

SELECTOR = TimedSelector()
"""Readiness shows its holds; nothing is measured here."""


class Bgpd:
    """One run of the daemon."""

    def __init__(self, host: SimulatedHost, process: Process, left: Inheritance) -> None:
        self.process = process
        self._left = left
        self.defects: list[str] = []
        self.is_started = False
        kernel, config, loop = host.kernel, host.config, host.loop
        kernel.open(process)
        self.walks = Walks(failed=lambda error: self.defects.append(f"walk: {error!r}"))
        self.dataplane = Dataplane(
            cast("Any", kernel.monitor),
            protocol=config.fib.protocol,
            bulk=kernel.bulk,
            urgent=kernel.urgent,
            reader=cast("Any", Reader(kernel)),
            vrf_requests=kernel.vrfs,
        )
        self.routing = Routing(
            config,
            dataplane=self.dataplane,
            walks=self.walks,
            nlri_decoders={Family.L2VPN_EVPN: EvpnNlri()},
            hostname=host.name,
            changed=lambda: self.readiness.plan_review(),
            memory_freed=lambda: None,
            shortage=Shortage(),
            history=History(None, max_bytes=0, config=config.rib),
            now=host.wall,
            new_socket=new_socket(host.stack, process),
            ways_out=WaysOut(probe=host.offers.ask, mqtt_client=host.mqtt_client(process)),
        )
        self.consistency = Consistency(lambda: checks(self.routing))
        self.readiness = Readiness(
            self.routing,
            self.consistency,
            journal=Journal(None, max_bytes=0, events=EventRing()),
            trial=Trial(config.state.directory, file="bgpd.toml"),
            selector=SELECTOR,
            shortage=Shortage(),
            hostname=host.name,
            clock=loop.time,
        )
        self.readiness.neighbors = config.neighbor
        self.readiness.left = left
        self.drain = Drain(
            self.routing,
            config=lambda: host.config,
            changed=lambda: self.readiness.plan_review(),
            now=host.wall,
            clock=loop.time,
            read=lambda counters, _links: dict.fromkeys(counters, 0),
            boot_id=lambda: host.boot_id,
        )
        self.readiness.why_drained = self.drain.reason
        self._tasks: list[asyncio.Task[None]] = []

    async def run(self) -> None:
        """Start, then all that runs until it is stopped or killed."""
        routing = self.routing
        self.drain.restore(self._left.drain)
        await routing.start(self._left)
        is_adopting = self._left.daemon is not None
        if not is_adopting:
            await routing.complete(self._left)
        async with asyncio.TaskGroup() as tasks:
            self._tasks = [tasks.create_task(routing.speaker.run())]
            if is_adopting:
                await asyncio.sleep(0)
                await routing.complete(self._left)
            self._tasks += [
                tasks.create_task(routing.run()),
                tasks.create_task(routing.workloads.run()),
                tasks.create_task(self.readiness.run()),
                tasks.create_task(self.drain.run()),
                tasks.create_task(self.consistency.run(self.walks, repaired=self.readiness.plan_review)),
            ]
            self.is_started = True

    async def hand_over(self) -> Left | None:
        """What is left to the next process; None if it cannot be: then this one goes on."""
        routing = self.routing
        prepared = await routing.prepare_to_leave()
        began = asyncio.get_running_loop().time()
        routing.speaker.hold(True)
        try:
            await routing.settle(SETTLE_S)
            return left_behind(routing, self.drain, prepared, configuration=b"", unread_since=began)
        except OSError:
            routing.speaker.hold(False)
            return None
        finally:
            prepared.end()

    async def stop(self, *, is_graceful: bool) -> None:
        """As after SIGTERM (`is_graceful`) or SIGINT."""
        routing = self.routing
        routing.ending = True
        await routing.workloads.stop()
        await routing.speaker.shutdown("bgpd is stopped", gracefully=is_graceful)
        await routing.stop()
        for task in self._tasks:
            task.cancel()
