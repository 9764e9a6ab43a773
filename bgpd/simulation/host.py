"""A simulated host: a modelled kernel, and bgpd as it is, over and over again as it is restarted."""

from __future__ import annotations

import asyncio
import ipaddress
import random
from collections.abc import Callable, Collection, Mapping
from fnmatch import fnmatchcase
from pathlib import Path
from typing import Any, cast

import msgspec

from bgpd.config.schema import Config
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.config.schema_workloads import StaticWorkloadConfig
from bgpd.inheritance import Inheritance, Left
from bgpd.model.prefix import format_address, format_key
from bgpd.model.views.orders import DrainRequest
from bgpd.reconfigure import reconfigure
from bgpd.simulation import aggregates
from bgpd.simulation.aggregates import Announced
from bgpd.simulation.bfd_process import BfdProcess
from bgpd.simulation.broker import Client
from bgpd.simulation.daemon import Bgpd
from bgpd.simulation.guests import Guest
from bgpd.simulation.kept import Kept
from bgpd.simulation.kernel import Kernel
from bgpd.simulation.loop import Process, VirtualLoop
from bgpd.simulation.network import Stack
from bgpd.simulation.offers import Offers
from bgpd.simulation.orchestrator import Orchestrator
from bgpd.speaker.left_sessions import read_with_sockets
from bgpd.workload.feed.api import ApiSource

_START_AGAIN_S = 1.0
_VETH = "veth0"


def _is_inside(prefix: str, block: ipaddress.IPv4Network | ipaddress.IPv6Network) -> bool:
    network = ipaddress.ip_network(prefix)
    return network.version == block.version and network.subnet_of(block)  # type: ignore[arg-type]


def _name(address: str) -> str:
    return f"vm-{address.partition('/')[0]}"


class SimulatedHost:
    """`claims` are the addresses that other programs lead to an interface of it, by which; `static` and `put`, of the
    configuration and of the API, are those that bgpd leads there. `machines`: workloads of tenants, by VRF and address:
    whether they are sticky; `offers`: services. `vlans`: which VLAN each interface of a link to a router is in, 0
    untagged, as a topology says. `daemon` is None while none runs."""

    def __init__(
        self,
        name: str,
        loop: VirtualLoop,
        *,
        config: Config,
        directory: Path,
        chance: random.Random,
        most_late_s: float,
    ) -> None:
        self.name = name
        self.loop = loop
        self.kernel = Kernel(loop, chance, most_late_s=most_late_s)
        self.stack = Stack(name, loop)
        self.stack.kernel = self.kernel
        self.directory = directory
        self.claims: dict[str, str] = {}
        self.static: dict[str, None] = {}
        self.put: dict[str, None] = {}
        self.machines: dict[tuple[str, str], bool] = {}
        self.vlans: dict[int, int] = {}
        self.offers = Offers(self)
        self._orchestrator: Orchestrator | None = None
        self.daemon: Bgpd | None = None
        self._left: Left | None = None
        self.boot_id = f"{name}-1"
        self.wall_step_s = 0.0
        self.is_drained = False
        self.are_workloads_down = False
        self.errors: list[str] = []
        self.config = config
        self.routers: dict[str, str] = {one.name: one.name for one in config.neighbor}
        """Which router each neighbor of the configuration is."""
        self.all_neighbors = self.neighbors
        self.all_inside = tuple(one for one in config.neighbor if one.vrf)
        """The neighbors in VRFs, ..."""
        self.left_out: frozenset[str] = frozenset()
        """... and those of them that are not in the configuration now, by name."""
        self.all_vrfs = config.vrf
        self.contenders: dict[str, None] = {}
        self.guests: dict[str, Guest] = {}
        self.kept: dict[str, Kept] = {}
        """Of leaves that were about to be away for long, what it had of each."""
        has_bfd = any(one.bfd is not None for one in config.neighbor)
        self.bfd = BfdProcess(self.stack, chance) if has_bfd else None
        self._boots = 1
        self._starts = 0

    def follow(self, orchestrator: Orchestrator) -> None:
        """It is told by an orchestrator what it has."""
        self._orchestrator = orchestrator

    @property
    def fed(self) -> set[str]:
        """What the orchestrator wants it to have."""
        return self._orchestrator.of(self.name) if self._orchestrator is not None else set()

    @property
    def published(self) -> set[str]:
        """The addresses of services that the orchestrator wants of it, which may be announced or not."""
        return self._orchestrator.services_of(self.name) if self._orchestrator is not None else set()

    def mqtt_client(self, process: Process) -> Callable[..., Any] | None:
        """What makes the clients of a process at the broker (WaysOut)."""
        if self._orchestrator is None:
            return None
        broker = self._orchestrator.broker

        def make(*_where: object, identifier: str, queue_type: type[Any], **_options: object) -> Client:
            return Client(broker, process, identifier=identifier, queue_type=queue_type)

        return make

    def wall(self) -> float:
        """The wall clock."""
        return 1.8e9 + self.loop.now + self.wall_step_s

    # The daemon

    def start(self) -> None:
        """Start a daemon, if none runs; it goes on with what another one has left."""
        if self.daemon is not None or not self.stack.is_there:
            return
        self._starts += 1
        process = Process(f"{self.name}/{self._starts}", self.loop)
        if self.bfd is not None:
            bfd = self.bfd
            process.unix_connect = lambda _path, protocol: bfd.connect(process, protocol)
        process.call(self._begin, process)

    def _begin(self, process: Process) -> None:
        left, self._left = Inheritance(), self._left
        if self._left is not None:
            sections = {name: bytes(section) for name, section in self._left.sections.items()}
            left.keep(sections)
            sockets = {name: self.stack.descriptors[number] for name, number in self._left.descriptors.items()}
            for sock in sockets.values():
                sock.pass_to(process)
            left.sessions = read_with_sockets(sections["speaker"], cast("Any", sockets))
        self.stack.descriptors.clear()
        self._left = None
        self.daemon = Bgpd(self, process, left)
        process.start(self._running(self.daemon))

    async def hand_over(self, *, after_s: float) -> None:
        """Have another process go on with the sessions, some time later."""
        daemon = self.daemon
        if daemon is None or not daemon.is_started:
            return
        left: list[Left | None] = []

        async def leave() -> None:
            left.append(await daemon.hand_over())
            if left[0] is not None:  # from here on the loop does not turn until the process has ended
                self._leave(daemon, left[0])

        await daemon.process.start(leave())
        if left and left[0] is not None:  # none at all: the process was ended meanwhile
            self.loop.call_later(after_s, self.start)

    def _leave(self, daemon: Bgpd, left: Left) -> None:
        self._left = left
        sockets = [self.stack.descriptors[number] for number in left.descriptors.values()]
        for sock in sockets:
            sock.leave()
        self._end(daemon)
        self.stack.processes_ended(but=sockets)

    def _end(self, daemon: Bgpd) -> None:
        self._take_errors(daemon)
        self.offers.changed()
        daemon.process.kill()
        self.daemon = None
        self.kernel.is_followed = False

    async def _running(self, daemon: Bgpd) -> None:
        try:
            await daemon.run()
        except (asyncio.CancelledError, GeneratorExit):  # the latter: it was killed
            raise
        except OSError:  # as daemon.py: it cannot start, and the service manager tries again
            self.loop.call_soon(self.kill)
            self.loop.call_later(_START_AGAIN_S, self.start)
        except BaseException as error:
            self.errors.append(f"{daemon.process.name} failed: {error!r}")

    async def stop(self, *, is_graceful: bool) -> None:
        """Have the daemon end in order, as a service manager does."""
        daemon = self.daemon
        if daemon is None:
            return
        if daemon.is_started:
            await daemon.process.start(daemon.stop(is_graceful=is_graceful))
        self.kill()

    def kill(self) -> None:
        """The daemon ends at once, and its sockets are closed by the kernel."""
        if self.daemon is not None:
            self._end(self.daemon)
            self.stack.processes_ended()
            self.kept.clear()

    def crash(self) -> None:
        """Power is lost."""
        if self.daemon is not None:
            self._end(self.daemon)
        self._left = None
        self.kept.clear()
        self.stack.descriptors.clear()
        self.stack.is_there = False
        self.stack.crash()
        if self.bfd is not None:
            self.bfd.stop(is_orderly=False)
        self.claims.clear()
        for guest in self.guests.values():
            guest.router.crash()
        self.kernel.noted()

    def boot(self) -> None:
        """Power is back; the kernel knows nothing of before, and no workload runs yet."""
        self._boots += 1
        self.boot_id = f"{self.name}-{self._boots}"
        self.kernel.forget_all()
        if self.bfd is not None:
            self.bfd.start()
        (self.directory / "boot").unlink(missing_ok=True)
        self.stack.is_there = True
        if self.are_workloads_down:
            self.set_workloads_link(up=True)
        for guest in self.guests.values():
            guest.start()

    def _take_errors(self, daemon: Bgpd) -> None:
        self.errors += [f"{daemon.process.name}: {one}" for one in daemon.defects]
        repairs = dict(daemon.consistency.repairs)
        if repairs:
            self.errors.append(f"{daemon.process.name}: parts did not agree: {repairs}")
        daemon.defects, daemon.consistency.repairs = [], type(daemon.consistency.repairs)()

    def new_errors(self) -> list[str]:
        """What went wrong inside since this was asked last."""
        if self.daemon is not None:
            self._take_errors(self.daemon)
        found, self.errors = self.errors, []
        return found

    # Orders

    def claim(self, address: str, interface: str = _VETH) -> None:
        """A workload comes, if its interface is up."""
        if address not in self.claims and not self.are_workloads_down:
            self.claims[address] = interface
            self.kernel.add_workload_route(address, interface)

    def release(self, address: str) -> None:
        """It goes."""
        if address in self.claims:
            interface = self.claims.pop(address)
            for route in self.kernel.foreign_routes(address):
                if route.interface == interface:
                    self.kernel.remove_route(route)

    def set_workloads_link(self, *, up: bool) -> None:
        """The interface to all workloads goes down, and with it what led there; or it is up again."""
        link = next(one for one in self.kernel.links.values() if one.name == _VETH)
        self.are_workloads_down = not up
        self.kernel.set_link(link.index, link.name, up=up)
        if not up:
            self.claims.clear()

    async def reload(self, config: Config) -> None:
        """Take over another configuration."""
        self.config = config
        daemon = self.daemon
        while daemon is not None and not daemon.is_started and daemon.process.is_alive:  # noqa: ASYNC110 (nobody tells)
            await asyncio.sleep(0.01)
        if daemon is not None and daemon.process.is_alive:
            daemon.readiness.neighbors = config.neighbor
            await daemon.process.start(reconfigure(daemon.routing, config))

    async def put_workload(self, address: str, interface: str = _VETH) -> None:
        """An orchestrator puts a workload by the API."""
        source = self._api()
        if source is None or self.daemon is None:
            return
        body = msgspec.json.encode({"id": _name(address), "addresses": [address], "interface": interface})
        self.put[address] = None
        await self.daemon.process.start(source.put_workload(_name(address), body, who="test", timeout_s=1))

    async def delete_workload(self, address: str) -> None:
        """It deletes it."""
        source = self._api()
        if source is None or self.daemon is None or address not in self.put:
            return
        del self.put[address]
        await self.daemon.process.start(source.delete_workload(_name(address), who="test"))

    async def put_machine(self, vrf: str, address: str, *, interface: str, mac: str, is_sticky: bool) -> None:
        """An orchestrator starts a workload of a tenant."""
        source = self._api()
        if source is None or self.daemon is None or vrf not in {one.name for one in self.config.vrf}:
            return
        id = f"{vrf}-{_name(address)}"
        body = {"id": id, "addresses": [address], "interface": interface, "vrf": vrf, "mac": mac, "sticky": is_sticky}
        self.machines[vrf, address] = is_sticky
        work = source.put_workload(id, msgspec.json.encode(body), who="test", timeout_s=1)
        await self.daemon.process.start(work)

    async def delete_machine(self, vrf: str, address: str) -> None:
        """It ends it."""
        source = self._api()
        if source is not None and self.daemon is not None and self.machines.pop((vrf, address), None) is not None:
            await self.daemon.process.start(source.delete_workload(f"{vrf}-{_name(address)}", who="test"))

    async def put_service(self, name: str, body: bytes) -> bool:
        """An orchestrator offers a service; whether there was somebody to tell."""
        source = self._api()
        if source is None or self.daemon is None:
            return False
        await self.daemon.process.start(source.put_service(name, body, who="test", timeout_s=1))
        return True

    async def delete_service(self, name: str) -> bool:
        """It offers it no more; whether there was somebody to tell."""
        source = self._api()
        if source is None or self.daemon is None:
            return False
        await self.daemon.process.start(source.delete_service(name, who="test"))
        return True

    async def set_vrf(self, name: str, *, is_there: bool) -> None:
        """Have a VRF in the configuration as it was at first, or not, by a reload; its aggregates and neighbors go with
        it."""
        kept = {one.name for one in self.config.vrf} - {name} | ({name} if is_there else set())
        vrfs = tuple(one for one in self.all_vrfs if one.name in kept)
        if vrfs != self.config.vrf:
            neighbor = (*self.neighbors.values(), *self._inside(kept))
            await self.reload(
                msgspec.structs.replace(aggregates.without(self.config, name), vrf=vrfs, neighbor=neighbor)
            )

    def _inside(self, vrfs: Collection[str]) -> list[NeighborConfig]:
        return [one for one in self.all_inside if one.vrf in vrfs and one.name not in self.left_out]

    async def leave_out(self, names: frozenset[str]) -> None:
        """Have all neighbors in VRFs in the configuration but these, by a reload."""
        self.left_out = names
        inside = self._inside([one.name for one in self.config.vrf])
        if inside != [one for one in self.config.neighbor if one.vrf]:
            neighbor = (*self.neighbors.values(), *inside)
            await self.reload(msgspec.structs.replace(self.config, neighbor=neighbor))

    def _api(self) -> ApiSource | None:
        self.offers.changed()
        is_started = self.daemon is not None and self.daemon.is_started
        return self.daemon.routing.workloads.find(ApiSource) if self.daemon is not None and is_started else None

    @property
    def neighbors(self) -> dict[str, NeighborConfig]:
        """Those that are configured in the main table, by the names of the routers."""
        return {self.routers.get(one.name, one.name): one for one in self.config.neighbor if not one.vrf}

    async def set_neighbor(self, name: str, *, is_there: bool) -> None:
        """Have a neighbor in the configuration as it was at first, or not."""
        others = {one: config for one, config in self.neighbors.items() if one != name}
        await self.set_neighbors({**others, name: self.all_neighbors[name]} if is_there else others)

    async def change_neighbor(self, name: str, **fields: object) -> None:
        """Change some of its keys."""
        await self.set_neighbors({**self.neighbors, name: msgspec.structs.replace(self.neighbors[name], **fields)})

    async def set_neighbors(self, neighbors: Mapping[str, NeighborConfig]) -> None:
        """Have just these, by a reload."""
        if neighbors != self.neighbors:
            inside = [one for one in self.config.neighbor if one.vrf]
            await self.reload(msgspec.structs.replace(self.config, neighbor=(*neighbors.values(), *inside)))

    async def set_static(self, addresses: list[str]) -> None:
        """Have bgpd lead these to `veth0`, by a reload."""
        self.static = dict.fromkeys(addresses)
        static = tuple(StaticWorkloadConfig(prefix=one, interface=_VETH) for one in addresses)
        workload = msgspec.structs.replace(self.config.workload, static=static)
        await self.reload(msgspec.structs.replace(self.config, workload=workload))

    async def order_drain(self, *, on: bool) -> None:
        """`bgpd drain`, or its end."""
        daemon = self.daemon
        if daemon is None or not daemon.is_started:
            return
        self.is_drained = on
        self.offers.is_lowered = False
        order = daemon.drain.on(DrainRequest(all=True, force=True), who="test") if on else daemon.drain.off(who="test")
        await daemon.process.start(order)

    @property
    def addresses(self) -> frozenset[str]:
        """Of its own interfaces, what it announces ([workload.addresses])."""
        config = self.config.workload.addresses
        if config is None:
            return frozenset()
        guests = [guest.port.other for guest in self.guests.values()]
        uplinks = {port.index for port in self.stack.ports if port not in guests}
        found = set()
        for one in self.kernel.addresses:
            address, name = ipaddress.ip_address(one.packed), self.kernel.links[one.index].name
            matches = (fnmatchcase(name, pattern) for pattern in config.interfaces)
            is_named = name in config.interfaces or (one.index not in uplinks and any(matches))
            is_usable = not (address.is_link_local or address.is_loopback or address.is_multicast)
            if is_named and is_usable and (config.ipv4 if address.version == 4 else config.ipv6):
                found.add(f"{address}/{address.max_prefixlen}")
        blocks = [ipaddress.ip_network(text.partition(" ")[0]) for text in config.prefixes]
        return frozenset(one for one in found if not blocks or any(_is_inside(one, block) for block in blocks))

    @property
    def local(self) -> set[str]:
        """What its kernel delivers to itself: no learned route to it is used."""
        return {f"{format_address(one.packed)}/{8 * len(one.packed)}" for one in self.kernel.addresses}

    @property
    def managed(self) -> set[str]:
        """What bgpd itself leads to workloads whose interface is up."""
        return {*self.static, *self.put, *self.fed} if not self.are_workloads_down else set()

    @property
    def said_by_guests(self) -> set[str]:
        """What guests announce to it, and may."""
        return {prefix for guest in self.guests.values() for prefix in guest.says}

    @property
    def contested(self) -> set[str]:
        """Of these, where another program leads elsewhere: what wins, and is announced, is not said here."""
        return {one for one in self.managed if any(way.gateway for way in self.kernel.foreign_routes(one))}

    def sent_away(self) -> set[str]:
        """Prefixes that another program's route leads away from the fabric."""
        return {format_key(one.family, one.key) for one in self.kernel.foreign if one.gateway}

    @property
    def reached(self) -> set[str]:
        """Of `claims`, those to whose interface the kernel sends: no route elsewhere has a lower metric."""
        return {one for one in self.claims if not (way := self.kernel.best_foreign_route(one)) or not way.gateway}

    @property
    def originated(self) -> Announced:
        """What follows from its workloads and its aggregates."""
        said = {*self.reached, *self.managed, *self.said_by_guests, *self.addresses}
        return aggregates.announced(self.config, said)

    @property
    def announced(self) -> frozenset[str]:
        """What its neighbors should have of it."""
        return self.originated.prefixes if self.daemon is not None and not self.is_drained else frozenset()
