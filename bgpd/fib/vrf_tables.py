"""Which VRFs have a kernel table, and from when to when: those that are configured and that the kernel takes.

A VRF that the kernel refuses (its table belongs to another program, say) is left out and reported, and tried again by
the next reload; one of which the kernel would not tell is tried again soon. The others and the main table work on.
vrfs.py makes the devices or rules by which a table is used.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from typing import Protocol

import msgspec

from bgpd.config.schema import FibConfig, VrfConfig
from bgpd.fib.batches import TableOwner
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.guard import Dependencies
from bgpd.fib.table import Fib
from bgpd.fib.vrf_devices import VrfRefused
from bgpd.fib.vrfs import KernelVrfs, VrfSpec
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.runtime.background import start_in_background
from bgpd.runtime.events import log

RETRY_S = 5.0
"""When a VRF is tried again that the kernel would not tell about."""
LEFT_RETRY_S = 10.0
"""When what is left of VRFs is tried to be removed again: all tables are read for it."""
SWEEP_DELAY_S = 10.0
"""How long a VRF that comes by reload may take to fill before what an earlier run left in its table goes."""


class VrfOwner(TableOwner, Protocol):
    """Who owns the routes of VRFs."""

    def fill(self, vrf: str) -> None:
        """The VRF has a kernel table now: give it all routes that there are."""

    def write_waiting(self, vrf: str) -> None:
        """The kernel has other interfaces in the VRF than before."""


class _Nobody:
    """The owner of a table that is no longer configured: it has no routes."""

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        return None

    def desired_all(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        return [None] * len(keys)

    def resolve(self, next_hop: NextHop) -> NextHops:
        return ()

    def acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None: ...

    def refused(self, vrf: str, family: Family, keys: Sequence[bytes], why: str) -> None: ...

    def next_hop_changed(self, vrf: str, next_hop: NextHop, why: str) -> None: ...

    def reserved_changed(self, vrf: str, family: Family, keys: Iterable[bytes]) -> None: ...

    def backlog_shrank(self) -> None: ...


class ConfiguredVrfs:
    """Has a kernel table for each configured VRF. `problems` says of each that is left out why.

    `fibs`: where the tables are put, by name. `needs(vrf)`: what the host itself needs of a table; `interfaces(vrf)`:
    those of its workloads; `probe_tables()`: the tables of probes, which are no VRF's.
    """

    def __init__(
        self,
        config: FibConfig,
        *,
        dataplane: Dataplane,
        owner: VrfOwner,
        fibs: dict[str, Fib],
        needs: Callable[[str], Dependencies],
        interfaces: Callable[[str], Iterable[str]],
        probe_tables: Callable[[], AbstractSet[int]],
    ) -> None:
        self._probe_tables = probe_tables
        self.problems: dict[str, str] = {}
        self._config = config
        self._dataplane = dataplane
        self._owner = owner
        self._fibs = fibs
        self._needs = needs
        self._interfaces = interfaces
        self._vrfs = KernelVrfs(dataplane, applied=owner.write_waiting)
        self._configs: dict[str, VrfConfig] = {}
        self._configured = {config.table}
        self._swept = False
        self._removing: asyncio.Task[None] | None = None
        self._left_tried = asyncio.Event()
        self._left_error: OSError | None = None
        self._due: set[str] = set()
        self._changing = asyncio.Lock()
        self._untold: dict[str, VrfConfig] = {}
        self._retry: asyncio.TimerHandle | None = None
        self._retrying: asyncio.Task[None] | None = None

    async def start(self, vrfs: Sequence[VrfConfig]) -> None:
        """Create the tables of these VRFs and adopt their existing kernel routes. Call after the main table's start."""
        self._vrfs.start()
        await self.add(vrfs)

    async def stop(self) -> None:
        """Stop; everything stays in the kernel. Call after the tables have stopped."""
        await self._vrfs.stop()

    async def stop_trying(self) -> None:
        """From now on no table comes or goes by itself."""
        if self._retry is not None:
            self._retry.cancel()
        for task in filter(None, (self._retrying, self._removing)):
            task.cancel()
            await asyncio.gather(task, return_exceptions=True)

    def sweep(self) -> None:
        """The first state is complete: delete what an earlier run left in the kernel for other interfaces or tables."""
        self._swept = True
        self._vrfs.sweep()
        self._begin_to_remove_left()

    async def left_removed(self) -> None:
        """Wait until what is left is deleted. Call after `sweep`.

        Raises: OSError: the kernel would not tell, or its answer was lost; it is tried again later.
        """
        await self._left_tried.wait()
        if self._left_error is not None:
            raise self._left_error

    def _begin_to_remove_left(self) -> None:
        if self._removing is None or self._removing.done():
            self._removing = start_in_background(self._remove_left(), "removing tables that are no longer configured")

    async def _remove_left(self) -> None:
        """Delete what an earlier run left of other VRFs, or of another main table, as a reload would, and what a reload
        could not; again and again until it is done."""
        while True:
            before, self._left_error = self._left_error, await self._try_to_remove_left()
            self._left_tried.set()
            if self._left_error is None:
                return
            if str(self._left_error) != str(before):
                log.warning("vrf.stale_not_removed", error=str(self._left_error))
            await asyncio.sleep(LEFT_RETRY_S)

    async def _try_to_remove_left(self) -> OSError | None:
        """All tables are read for that: not while the main one is being compared. No VRF comes meanwhile, with a table
        that is being emptied. Answers what the kernel had against it; one table does not keep another one there."""
        await self._fibs[""].upkeep.compared()
        failed: OSError | None = None
        async with self._changing:
            try:
                left = await self._vrfs.left(self._configured | self._probe_tables())
            except OSError as error:
                return error
            self._dataplane.upkeep.unread &= self._configured | left.keys()
            for table, device in left.items():
                config = msgspec.structs.replace(self._config, table=table, preferred_source="")
                fib = Fib(config, dataplane=self._dataplane, owner=_Nobody(), vrf=device)
                try:
                    await fib.start()
                    fib.sweep()
                    await self._vrfs.remove_left(table, device, fib)
                except OSError as error:
                    failed = error
                finally:
                    await fib.stop()
        return failed

    def warnings(self) -> list[str]:
        """Problems of VRFs, for the readiness report."""
        found = [f"VRF {name}: {self._vrfs.problem(name)}" for name in self._configs if self._vrfs.problem(name)]
        if self._left_error is not None:
            found.append(
                f"VRFs that are not configured may still be in the kernel; bgpd tries again: {self._left_error}"
            )
        return [*self.problems.values(), *found]

    def problem(self, vrf: str) -> str:
        """Why the kernel does not have a VRF, or not as it should be; "" if it has."""
        if vrf in self.problems:
            return self.problems[vrf].removeprefix(f"VRF {vrf}: ")
        return self._vrfs.problem(vrf) if vrf in self._configs else ""

    def interfaces_changed(self, vrf: str) -> None:
        """Workloads of a VRF came or went: soon, their interfaces belong to it, or no longer do."""
        if vrf in self._configs and vrf not in self._due:
            self._due.add(vrf)
            asyncio.get_running_loop().call_soon(self._assign_interfaces, vrf)

    def _assign_interfaces(self, vrf: str) -> None:
        self._due.discard(vrf)
        if vrf in self._configs:
            self._vrfs.set_interfaces(vrf, self._interfaces(vrf))

    def reaches(self, vrf: str, hops: NextHops) -> bool:
        """Whether the kernel has the interfaces of directly attached next hops in a VRF."""
        direct = (hop.interface for hop in hops if not hop.address and not hop.is_recursive)
        return all(self._vrfs.has(vrf, interface) for interface in direct)

    async def add(self, vrfs: Sequence[VrfConfig]) -> None:
        """Have what is new or different in these; those that are missing stay until `remove`, but for one whose table
        is another's now: the kernel has one VRF for a table.

        The uplinks of all new ones are assigned at once: the main table, which loses them, looks at its own only once.
        """
        async with self._changing:
            self._configured = {self._config.table, *(config.table for config in vrfs)}
            self._untold = {}
            await self._have(vrfs)

    async def _have(self, vrfs: Sequence[VrfConfig]) -> None:
        new: list[tuple[VrfConfig, Fib]] = []
        await self._free_tables(vrfs)
        for config in vrfs:
            before = self._configs.get(config.name)
            try:
                if before is None:
                    new.append((config, await self._start(config)))
                    continue
                if before.uplinks != config.uplinks:
                    await self._vrfs.change(_spec(config))
                self._configs[config.name] = config
                self.problems.pop(config.name, None)
            except (VrfRefused, OSError) as error:
                self._refused(config, error)
        self._dataplane.assign({uplink: config.name for config, _fib in new for uplink in config.uplinks})
        for config, fib in new:
            try:
                await self._add(config, fib)
                self.problems.pop(config.name, None)
            except (VrfRefused, OSError) as error:
                self._refused(config, error)

    async def _free_tables(self, vrfs: Sequence[VrfConfig]) -> None:
        """Take out the VRFs whose table is another one now, or is another's now: of two that change their tables, and
        of one that is renamed, the table is free before anybody asks for it."""
        tables = {config.name: config.table for config in vrfs}
        owners = {config.table: config.name for config in vrfs}
        for name, before in list(self._configs.items()):
            if tables.get(name, before.table) != before.table or owners.get(before.table, name) != name:
                await self._remove(name)

    def _refused(self, config: VrfConfig, error: Exception) -> None:
        if str(error) != self.problems.get(config.name):
            log.error("vrf.refused", vrf=config.name, error=str(error))
        self.problems[config.name] = str(error)
        if isinstance(error, OSError):
            self._untold[config.name] = config
            if self._retry is None:
                self._retry = asyncio.get_running_loop().call_later(RETRY_S, self._try_again)

    def _try_again(self) -> None:
        self._retry = None
        self._retrying = start_in_background(self._have_untold(), "trying VRFs again")

    async def _have_untold(self) -> None:
        async with self._changing:
            again, self._untold = list(self._untold.values()), {}
            await self._have(again)

    async def remove(self, vrfs: Sequence[VrfConfig]) -> None:
        """Take out all VRFs that are not among these; what the kernel keeps of one is tried again after the sweep."""
        kept = {config.name for config in vrfs}
        async with self._changing:
            self._configured = {self._config.table, *(config.table for config in vrfs)}
            for name in [name for name in self._configs if name not in kept]:
                await self._remove(name)
            refused = self.problems.keys() - kept
            for name in refused:
                del self.problems[name]
                self._untold.pop(name, None)
            if self._swept and (refused or not self._dataplane.upkeep.unread <= self._configured):
                self._begin_to_remove_left()  # of one that was refused an earlier run may have left routes

    async def _start(self, config: VrfConfig) -> Fib:
        """The table of a VRF, started; nothing is changed yet. Raises: VrfRefused: the kernel cannot have the VRF."""
        own = msgspec.structs.replace(self._config, table=config.table)
        fib = Fib(own, dataplane=self._dataplane, owner=self._owner, vrf=config.name)
        fib.events.depend_on(self._needs(config.name))
        try:
            await fib.start()
            await self._vrfs.check(_spec(config), fib)
        except BaseException:
            await fib.stop()
            raise
        return fib

    async def _add(self, config: VrfConfig, fib: Fib) -> None:
        name = config.name
        try:
            await self._vrfs.add(_spec(config), fib)
        except BaseException:
            self._vrfs.release(config.uplinks)
            await fib.stop()
            raise
        self._fibs[name] = fib
        self._configs[name] = config
        self._vrfs.set_interfaces(name, self._interfaces(name))
        self._owner.fill(name)
        if self._swept:
            asyncio.get_running_loop().call_later(SWEEP_DELAY_S, self._sweep_one, name, fib)

    def _sweep_one(self, name: str, fib: Fib) -> None:
        if self._fibs.get(name) is fib:
            fib.sweep()

    async def _remove(self, name: str) -> None:
        del self._configs[name]
        fib = self._fibs.pop(name)
        is_gone = await self._vrfs.remove(name)
        await fib.stop()
        if self._swept and not is_gone:
            self._begin_to_remove_left()


def _spec(config: VrfConfig) -> VrfSpec:
    return VrfSpec(config.name, config.table, config.uplinks)
