"""The kernel side of VRFs: which interfaces belong to which table, and that nothing leaks out of it.

Where the kernel has VRF devices, each VRF is one, with its interfaces in it; the kernel's l3mdev rule does the rest.
Elsewhere policy rules send the traffic of its interfaces to the table, into which their connected networks are copied.
Either way the table has an unreachable default. Level-triggered: at start, on a change, and when another program
removed something, the present state is read and what is missing is created. State of an earlier run is adopted; what
belongs to no interface is deleted at the sweep, since workloads are reported later than uplinks. Never touches another
program's rules or devices; a VRF device that existed before is used and left. The VRF's `Fib` writes its learned
routes.
"""

from __future__ import annotations

import asyncio
import errno
import functools
from collections.abc import Callable, Container, Iterable, Sequence

import msgspec

from bgpd.fib.dataplane import Dataplane
from bgpd.fib.table import Fib
from bgpd.fib.vrf_devices import VrfDevices, VrfRefused, is_made_by_bgpd
from bgpd.fib.vrf_rules import (
    PolicyRules,
    connected_networks,
    device_rules,
    interface_rules,
    link_local_rule,
    rule_order,
    why_not_usable,
)
from bgpd.kernel.link_messages import encode_add_rule, encode_delete_rule
from bgpd.kernel.netlink import KernelError, read_sequence
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import LAST_RESORT_METRIC, RouteForm, encode_last_resort
from bgpd.kernel.vrf_requests import VrfDevice
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import (
    KernelEvent,
    KernelResynchronised,
    KernelRoute,
    LinkChanged,
    RouteChanged,
    RoutingRule,
)
from bgpd.model.next_hop import NextHop
from bgpd.runtime.background import start_in_background
from bgpd.runtime.events import log

_RETRY_S = 5.0
_REMOVAL_PAUSE_S = 0.5
_REMOVAL_TRIES = 3


class VrfSpec(msgspec.Struct, frozen=True):
    """Name, kernel table and uplinks of a VRF, as configured."""

    name: str
    table: int
    uplinks: tuple[str, ...]


class _Vrf(msgspec.Struct, eq=False):
    """A VRF that is kept. `entered`: interfaces that this run put into its device; `left`: that were in it before;
    `ruled`: those that have their policy rules; `ended`: families whose unreachable default stands."""

    spec: VrfSpec
    fib: Fib
    workloads: frozenset[str] = frozenset()
    by_device: bool = False
    entered: set[str] = msgspec.field(default_factory=set)
    left: set[str] = msgspec.field(default_factory=set)
    ruled: frozenset[str] = frozenset()
    ended: set[Family] = msgspec.field(default_factory=set)
    problem: str = ""

    @property
    def interfaces(self) -> frozenset[str]:
        return self.workloads.union(self.spec.uplinks)


class _Request(msgspec.Struct, frozen=True):
    """What the kernel is asked for. `encode` takes a sequence number; `expected`: the error that says that it is so
    already; `undo`: what this process has noted of it is not so.
    """

    encode: Callable[..., bytes]
    expected: int
    undo: Callable[[], object]


class KernelVrfs:
    """All VRFs of the process. `use_devices` False: by policy rules even where the kernel has VRF devices.

    `applied(name)` is called when the kernel has a VRF as it was asked for last: `has` may answer otherwise now.
    """

    def __init__(
        self, dataplane: Dataplane, *, use_devices: bool = True, applied: Callable[[str], None] | None = None
    ) -> None:
        self._dataplane = dataplane
        self._applied = applied
        self._protocol = dataplane.objects.protocol
        self._devices = VrfDevices(dataplane.host, dataplane.vrf_requests, are_possible=use_devices)
        self._vrfs: dict[str, _Vrf] = {}
        self._dirty: dict[str, None] = {}
        self._lock = asyncio.Lock()
        self._worker: asyncio.Task[None] | None = None
        self._retry: asyncio.TimerHandle | None = None
        self._swept = False
        self._rules: PolicyRules | None = None
        self._rules_version = 0

    def start(self) -> None:
        """Follow the kernel. Call in the event loop, after the monitor has started."""
        monitor = self._dataplane.monitor
        monitor.subscribe(self._kernel_changed)
        monitor.own_route_changed.append(self._end_changed)
        monitor.rules_changed.append(self._rules_changed)

    async def stop(self) -> None:
        """Stop; devices, rules and routes stay, so that a restart loses no packet."""
        if self._retry is not None:
            self._retry.cancel()
        if self._worker is not None:
            await asyncio.gather(self._worker, return_exceptions=True)
        self._vrfs.clear()
        self._devices.stop()

    async def add(self, spec: VrfSpec, fib: Fib) -> None:
        """Have a VRF in the kernel; `fib` is its table, started. What the kernel would not tell is asked again later.

        Call `check` before. Raises: VrfRefused: as `check`.
        """
        async with self._lock:
            vrf = self._vrfs[spec.name] = _Vrf(spec, fib)
            self._dataplane.assign(dict.fromkeys(spec.uplinks, spec.name))
            try:
                await self._apply(vrf)
            except VrfRefused:
                self._forget(vrf)
                raise
            except OSError as error:
                self._failed(vrf, error)

    async def change(self, spec: VrfSpec) -> None:
        """Other uplinks for a VRF; what fails is tried again. Its table cannot change: remove it and add it anew."""
        vrf = self._vrfs[spec.name]
        before, vrf.spec = vrf.interfaces, spec
        self._interfaces_changed(vrf, before)
        async with self._lock:
            await self._try_apply(vrf)

    def set_interfaces(self, name: str, interfaces: Iterable[str]) -> None:
        """The interfaces of a VRF's workloads are these; they need not exist yet."""
        vrf = self._vrfs[name]
        before, vrf.workloads = vrf.interfaces, frozenset(interfaces)
        if vrf.interfaces != before:
            self._interfaces_changed(vrf, before)
            self._schedule(name)

    async def remove(self, name: str) -> bool:
        """Take a VRF out of the kernel, with its routes; the caller stops its Fib after that. Whether it is gone: what
        the kernel would not tell is asked again, but not for long. `left` finds what is left then.
        """
        vrf = self._vrfs.pop(name)
        self._dirty.pop(name, None)
        is_gone = False
        async with self._lock:
            for left in reversed(range(_REMOVAL_TRIES)):
                try:
                    await self._take_out(vrf)
                    is_gone = True
                    log.info("vrf.removed", vrf=name, table=vrf.spec.table)
                    break
                except OSError as error:
                    if not left:
                        log.error("vrf.not_removed", vrf=name, table=vrf.spec.table, error=str(error))
                    await asyncio.sleep(_REMOVAL_PAUSE_S if left else 0)
            self._forget(vrf)
        return is_gone

    async def left(self, kept: Container[int]) -> dict[int, str]:
        """Tables that this or an earlier run used and that are not among these; each with its VRF device, "" without
        one."""
        common = link_local_rule(self._protocol)
        rules = (await self._read_rules()).all
        found = {rule.table: "" for rule in rules if rule.protocol == self._protocol and rule != common}
        for family in UNICAST:
            found.update(dict.fromkeys(await self._tables_with_routes(family), ""))
        found.update({device.table: device.name for device in await self._devices.made_by_bgpd()})
        return {table: name for table, name in found.items() if table not in kept and table not in (0, 253, 255)}

    async def _tables_with_routes(self, family: Family, table: int = 0) -> set[int]:
        """Tables that have routes by bgpd's protocol; of all, or of one."""
        tables: set[int] = set()

        def begin() -> Callable[[RouteRun], None]:
            return lambda run: tables.add(run.table)

        await self._dataplane.reader.routes(family, RouteForm(table, self._protocol, 0), begin)
        return tables

    async def remove_left(self, table: int, device: str, fib: Fib) -> None:
        """Take out what an earlier run left in a table; `fib` is started for it, and stopped by the caller."""
        vrf = _Vrf(VrfSpec(device, table, ()), fib, by_device=bool(device))
        if device:
            vrf.entered.update(link.name for link in self._dataplane.host.links.values() if link.vrf == device)
        async with self._lock:
            await self._take_out(vrf)
        log.info("vrf.stale_removed", device=device, table=table)

    async def _take_out(self, vrf: _Vrf) -> None:
        vrf.problem = ""
        for family in UNICAST:
            vrf.fib.writer.keep(family, {})
        await vrf.fib.withdraw_all()
        common, rules = link_local_rule(self._protocol), await self._read_rules()
        found = rules.of(vrf.spec.table, self._protocol)
        requests = [self._delete_rule(rules, rule) for rule in found if rule != common]
        if all(other.by_device for other in self._vrfs.values()):
            requests.append(self._delete_rule(rules, common))
        requests += [self._no_end(vrf, family) for family in UNICAST]
        if await self._change(vrf, requests):
            await self._remove_device(vrf)
        for family in UNICAST if not vrf.problem else ():
            if await self._tables_with_routes(family, vrf.spec.table):  # two of one prefix: only one is on record
                vrf.problem = f"routes of {family} stay in table {vrf.spec.table}"
        if vrf.problem:
            raise OSError(errno.EBUSY, vrf.problem)

    def sweep(self) -> None:
        """All workloads are known: delete what an earlier run left for other interfaces."""
        self._swept = True
        self._all_dirty()

    async def settled(self) -> None:
        """Wait until what was asked for is done."""
        while self._worker is not None and not self._worker.done():
            await asyncio.wait((self._worker,))

    def has(self, name: str, interface: str) -> bool:
        """Whether the kernel has an interface in a VRF: packets from it are looked up in the VRF's table."""
        vrf = self._vrfs.get(name)
        if vrf is None or not vrf.by_device:
            return vrf is not None and interface in vrf.ruled
        link = self._dataplane.host.named(interface)
        return link is not None and link.vrf == name

    def mode(self, name: str) -> str:
        """ "device" or "rules": how the kernel keeps a VRF."""
        return "device" if self._vrfs[name].by_device else "rules"

    def problem(self, name: str) -> str:
        """What the kernel refused lately for a VRF, in its words; "" if nothing. It is tried again."""
        return self._vrfs[name].problem

    # What the kernel has.

    async def check(self, spec: VrfSpec, fib: Fib) -> None:
        """Whether the kernel can have a VRF. Raises: VrfRefused: no, and why. OSError: the kernel would not tell."""
        rules = await self._read_rules()
        device = await self._devices.named(spec.name)
        is_ours = bool(fib.counters.installed or rules.of(spec.table, self._protocol) or is_made_by_bgpd(device))
        routes = self._dataplane.monitor.routes.of_table(spec.table)
        why = why_not_usable(spec.table, self._protocol, routes, is_ours=is_ours)
        if device is not None and device.kind != "vrf":
            why = f"an interface named {spec.name} exists and is no VRF device: choose another name"
        elif device is not None and device.table != spec.table:
            why = f"the VRF device {spec.name} has table {device.table}, not {spec.table}: make them equal"
        other = await self._devices.of_table(spec.table)
        if other is not None and other.name != spec.name and not self._is_left(other):
            why = f"table {spec.table} belongs to the VRF device {other.name}: choose another"
        if why:
            raise VrfRefused(f"VRF {spec.name}: {why}")

    async def _read_rules(self) -> PolicyRules:
        """All policy rules; read again only after another program changed some: each VRF has several."""
        if self._rules is None:
            version = self._rules_version
            found = PolicyRules(await self._dataplane.reader.rules())
            if version != self._rules_version:
                return found
            self._rules = found
        return self._rules

    # What is made of it.

    async def _apply(self, vrf: _Vrf) -> None:
        """Make what is missing. Raises: VrfRefused: it cannot be a VRF at all."""
        vrf.problem = ""
        requests = [self._end(vrf, family) for family in UNICAST if family not in vrf.ended]
        if self._devices.are_possible:
            await self._change(vrf, requests)
            requests = []
        vrf.by_device = self._devices.are_possible and await self._apply_device(vrf)
        rules = await self._read_rules()
        wanted = device_rules()
        if not vrf.by_device:
            wanted = interface_rules(vrf.interfaces, vrf.spec.table, self._protocol)
            wanted.add(link_local_rule(self._protocol))
        for rule in sorted(wanted - rules.all.keys(), key=rule_order):
            requests.append(self._add_rule(rules, rule))
        for rule in rules.of(vrf.spec.table, self._protocol):
            is_left = vrf.by_device or self._swept or (rule.iif or rule.oif) in vrf.left
            if rule not in wanted and is_left:
                requests.append(self._delete_rule(rules, rule))
        await self._change(vrf, requests)
        vrf.left -= vrf.interfaces
        vrf.ruled = frozenset() if vrf.by_device else frozenset(rule.iif for rule in wanted)
        self._keep_connected(vrf)
        if vrf.problem:
            self._retry_later()
        elif self._applied is not None:
            self._applied(vrf.spec.name)

    async def _apply_device(self, vrf: _Vrf) -> bool:
        """The VRF device and the interfaces in it; False where the kernel has no such devices."""
        spec = vrf.spec
        device = await self._devices.named(spec.name)
        if device is None:
            left = await self._devices.of_table(spec.table)
            if left is not None and self._is_left(left):
                await self._empty(vrf, left)
            device, refused = await self._devices.make(spec.name, spec.table)
            if device is None:
                return False
            self._note(vrf, refused)
        self._note(vrf, await self._devices.set_up(device))
        links = self._dataplane.host.links
        for link in [link for link in links.values() if link.index != device.index]:
            inside = link.vrf == spec.name
            ours = link.name in vrf.entered | vrf.left or (self._swept and is_made_by_bgpd(device))
            if link.name in vrf.interfaces and not inside:
                self._note(vrf, await self._devices.move(link, device.index))
                vrf.entered.add(link.name)
            elif link.name not in vrf.interfaces and inside and ours:
                self._note(vrf, await self._devices.move(link, 0))
                vrf.entered.discard(link.name)
        return True

    async def _remove_device(self, vrf: _Vrf) -> None:
        device = await self._devices.named(vrf.spec.name) if vrf.by_device else None
        if device is not None:
            await self._empty(vrf, device, only=vrf.interfaces | vrf.entered)

    def _is_left(self, device: VrfDevice) -> bool:
        """Whether bgpd made a device, and has no VRF of its name: an earlier run had its VRF under another one."""
        return is_made_by_bgpd(device) and device.name not in self._vrfs

    async def _empty(self, vrf: _Vrf, device: VrfDevice, *, only: Container[str] | None = None) -> None:
        """Take the interfaces out of a device, or only these, and delete it if bgpd made it."""
        for link in list(self._dataplane.host.links.values()):
            if link.vrf == device.name and (only is None or link.name in only):
                self._note(vrf, await self._devices.move(link, 0))
        self._note(vrf, await self._devices.delete(device))

    def _keep_connected(self, vrf: _Vrf) -> None:
        """In a VRF's device the kernel has the connected networks in the table; elsewhere they are copied there."""
        networks = connected_networks(self._dataplane.host, () if vrf.by_device else vrf.interfaces)
        for family, routes in networks.items():
            vrf.fib.writer.keep(family, {key: (NextHop(b"", name),) for key, name in routes.items()})

    def _end(self, vrf: _Vrf, family: Family) -> _Request:
        """An unreachable default for the table. It counts as there from now on: it may go before the answer comes."""
        vrf.ended.add(family)
        encode = functools.partial(encode_last_resort, family, vrf.spec.table, self._protocol)
        return _Request(encode, errno.EEXIST, functools.partial(vrf.ended.discard, family))

    def _no_end(self, vrf: _Vrf, family: Family) -> _Request:
        encode = functools.partial(encode_last_resort, family, vrf.spec.table, self._protocol, gone=True)
        return _Request(encode, errno.ESRCH, lambda: None)

    def _add_rule(self, rules: PolicyRules, rule: RoutingRule) -> _Request:
        rules.add(rule)
        return _Request(functools.partial(encode_add_rule, rule), errno.EEXIST, functools.partial(rules.remove, rule))

    def _delete_rule(self, rules: PolicyRules, rule: RoutingRule) -> _Request:
        rules.remove(rule)
        return _Request(functools.partial(encode_delete_rule, rule), errno.ENOENT, functools.partial(rules.add, rule))

    async def _change(self, vrf: _Vrf, requests: Sequence[_Request]) -> bool:
        """Have the kernel do all of these, in one batch; what it refuses is the VRF's problem. Whether it answered."""
        if not requests:
            return True
        batch = b"".join(request.encode(sequence=number) for number, request in enumerate(requests))
        outcome = await self._dataplane.change(batch)
        if outcome.lost:
            vrf.problem = outcome.lost
            for request in requests:
                request.undo()
            self._forget_rules()  # each may have been done all the same
        for error in outcome.errors:
            request = requests[read_sequence(error.request)]
            if error.code != request.expected:
                request.undo()
            self._note(vrf, error, request.expected)
        return not outcome.lost

    def _note(self, vrf: _Vrf, error: KernelError | None, *expected: int) -> None:
        """A refusal with another than the expected codes is the VRF's problem until it works."""
        if error is not None and error.code not in expected:
            vrf.problem = str(error)
            log.warning("vrf.kernel_refused", vrf=vrf.spec.name, table=vrf.spec.table, error=str(error))

    # What changes.

    def _interfaces_changed(self, vrf: _Vrf, before: frozenset[str]) -> None:
        vrf.left |= before - vrf.interfaces
        self.release(vrf.left)
        self._dataplane.assign(dict.fromkeys(vrf.interfaces, vrf.spec.name))

    def _forget(self, vrf: _Vrf) -> None:
        self._vrfs.pop(vrf.spec.name, None)
        self.release(vrf.interfaces)

    def release(self, interfaces: Iterable[str]) -> None:
        """A VRF has these no longer: they are where the kernel has them, but for those that another VRF has by now."""
        taken = {name for vrf in self._vrfs.values() for name in vrf.interfaces}
        self._dataplane.assign(dict.fromkeys(set(interfaces) - taken))

    def _kernel_changed(self, event: KernelEvent) -> None:
        match event:
            case LinkChanged(link=link):
                if event.gone or event.is_another:
                    self._devices.forget_tables(link.index)
                for concerned in filter(None, (self._vrf_of(link.name), self._vrfs.get(link.name))):
                    self._schedule(concerned.spec.name)
            case RouteChanged(route=route, gone=gone):
                self._end_changed(route, gone)
                vrf = self._vrf_of(route.interface)
                if vrf is not None:
                    self._keep_connected(vrf)
            case KernelResynchronised():
                self._devices.forget_tables()
                for vrf in self._vrfs.values():
                    vrf.ended.clear()
                self._rules_changed()

    def _vrf_of(self, interface: str) -> _Vrf | None:
        """The VRF that is to have an interface."""
        vrf = self._vrfs.get(self._dataplane.host.vrf_of(interface))
        return vrf if vrf is not None and interface in vrf.interfaces else None

    def _end_changed(self, route: KernelRoute, gone: bool) -> None:
        """Of an unreachable default at the end of a VRF's table, bgpd's or another program's: it stands no more."""
        if not gone or route.metric != LAST_RESORT_METRIC:
            return
        for vrf in self._vrfs.values():
            if vrf.spec.table == route.table:
                vrf.ended.discard(route.family)
                self._schedule(vrf.spec.name)

    def _rules_changed(self) -> None:
        """Another program changed a policy rule, or may have."""
        self._forget_rules()
        self._all_dirty()

    def _forget_rules(self) -> None:
        self._rules = None
        self._rules_version += 1

    def _all_dirty(self) -> None:
        for name in self._vrfs:
            self._schedule(name)

    def _retry_later(self) -> None:
        if self._retry is not None:
            self._retry.cancel()
        self._retry = asyncio.get_running_loop().call_later(_RETRY_S, self._all_dirty)

    def _schedule(self, name: str) -> None:
        self._dirty[name] = None
        if self._worker is None or self._worker.done():
            self._worker = start_in_background(self._work(), "keeping VRFs in the kernel")

    async def _work(self) -> None:
        while self._dirty:
            name = next(iter(self._dirty))
            del self._dirty[name]
            await asyncio.sleep(0)
            async with self._lock:
                vrf = self._vrfs.get(name)
                if vrf is not None:
                    await self._try_apply(vrf)

    async def _try_apply(self, vrf: _Vrf) -> None:
        try:
            await self._apply(vrf)
        except (VrfRefused, OSError) as error:
            self._failed(vrf, error)

    def _failed(self, vrf: _Vrf, error: Exception) -> None:
        vrf.problem = str(error)
        log.warning("vrf.not_applied", vrf=vrf.spec.name, error=str(error))
        self._retry_later()
