"""The kernel's side of the configured VRFs: a Fib for each table, and what the kernel needs so that the table is used.

A VRF that the kernel refuses (its table belongs to another program, say) is left out and told, and tried again by the
next reload; the others and the main table work on. Decides nothing else.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Mapping, Sequence

import structlog

from bgpd.config.schema import VrfConfig
from bgpd.fib.dataplane import Dataplane
from bgpd.fib.table import Fib
from bgpd.fib.vrfs import VrfRefused, VrfSpec, VrfTables
from bgpd.model.iana import Family
from bgpd.model.path import NextHops

log = structlog.get_logger()

SWEEP_DELAY_S = 10.0
"""How long a VRF that comes by reload may take to fill before what an earlier run left in its table goes."""


class VrfFibs:
    """VRFs by name. `fibs` is the daemon's table of Fibs, which those of VRFs are put into.

    `make_fib(vrf)` makes the Fib of a VRF; `fill(name)` gives it all routes that there are by now;
    `interfaces(name)` are those of its workloads. `problems` says of each VRF that is left out why.
    """

    def __init__(
        self,
        dataplane: Dataplane,
        *,
        fibs: dict[str, Fib],
        make_fib: Callable[[VrfConfig], Fib],
        fill: Callable[[str], None],
        interfaces: Callable[[str], Iterable[str]],
    ) -> None:
        self.problems: dict[str, str] = {}
        self._tables = VrfTables(dataplane, applied=self._release)
        self._fibs = fibs
        self._make_fib = make_fib
        self._fill = fill
        self._interfaces = interfaces
        self._configs: dict[str, VrfConfig] = {}
        self._held: dict[str, dict[tuple[Family, bytes], NextHops]] = {}
        self._swept = False
        self._due: set[str] = set()

    @property
    def names(self) -> dict[int, str]:
        """The VRF of each kernel table."""
        return {config.table: name for name, config in self._configs.items()}

    async def start(self, vrfs: Sequence[VrfConfig]) -> None:
        """Have these VRFs, and adopt what an earlier run left of them. Call after the main table's Fib has started."""
        self._tables.start()
        await self.add(vrfs)

    async def add(self, vrfs: Sequence[VrfConfig]) -> None:
        """Have what is new or different in these; those that are missing stay until `remove`."""
        for config in vrfs:
            before = self._configs.get(config.name)
            if before is not None and before.table != config.table:
                await self._remove(config.name)
                before = None
            spec = VrfSpec(config.name, config.table, config.uplinks)
            try:
                if before is None:
                    await self._add(config, spec)
                elif before.uplinks != config.uplinks:
                    await self._tables.change(spec)
                self._configs[config.name] = config
                self.problems.pop(config.name, None)
            except (VrfRefused, OSError) as error:
                self.problems[config.name] = str(error)
                log.error("vrf.refused", vrf=config.name, error=str(error))

    async def remove(self, vrfs: Sequence[VrfConfig]) -> None:
        """Take out all VRFs that are not among these."""
        kept = {config.name for config in vrfs}
        for name in [name for name in self._configs if name not in kept]:
            await self._remove(name)
        for name in self.problems.keys() - kept:
            del self.problems[name]

    async def _add(self, config: VrfConfig, spec: VrfSpec) -> None:
        fib = self._make_fib(config)
        await fib.start()
        try:
            await self._tables.add(spec, fib)
        except BaseException:
            await fib.stop()
            raise
        self._fibs[config.name] = fib
        self._configs[config.name] = config
        self._tables.set_interfaces(config.name, self._interfaces(config.name))
        self._fill(config.name)
        if self._swept:
            asyncio.get_running_loop().call_later(SWEEP_DELAY_S, self._sweep_one, config.name, fib)

    def _sweep_one(self, name: str, fib: Fib) -> None:
        if self._fibs.get(name) is fib:
            fib.sweep()

    async def _remove(self, name: str) -> None:
        del self._configs[name]
        self._held.pop(name, None)
        fib = self._fibs.pop(name)
        await self._tables.remove(name)
        await fib.stop()

    def update(self, name: str, family: Family, wishes: Mapping[bytes, NextHops | None]) -> None:
        """Routes that workloads want in a VRF. One to an interface waits until the kernel has that in the VRF.

        Else the address would be announced before it can be reached, and its route go when the interface enters.
        """
        if name not in self._fibs:
            return
        held = self._held.setdefault(name, {})
        for key in wishes:
            held.pop((family, key), None)
        early = {key: hops for key, hops in wishes.items() if hops is not None and not self._reached(name, hops)}
        held.update(((family, key), hops) for key, hops in early.items())
        self._fibs[name].update(family, {key: hops for key, hops in wishes.items() if key not in early})
        self.interfaces_changed(name)

    def waits(self, name: str, family: Family, key: bytes) -> bool:
        """Whether a route waits until the kernel has its interface in the VRF."""
        return (family, key) in self._held.get(name, ())

    def _reached(self, name: str, hops: NextHops) -> bool:
        direct = (hop.interface for hop in hops if not hop.address and not hop.is_abstract)
        return all(self._tables.has(name, interface) for interface in direct)

    def _release(self, name: str) -> None:
        """The kernel has other interfaces in a VRF: what waited for them is written."""
        held = self._held.get(name, {})
        for family, key in [place for place, hops in held.items() if self._reached(name, hops)]:
            self._fibs[name].update(family, {key: held.pop((family, key))})

    def interfaces_changed(self, name: str) -> None:
        """Workloads of a VRF came or went: soon, their interfaces belong to it, or no longer do."""
        if name in self._configs and name not in self._due:
            self._due.add(name)
            asyncio.get_running_loop().call_soon(self._tell_interfaces, name)

    def _tell_interfaces(self, name: str) -> None:
        self._due.discard(name)
        if name in self._configs:
            self._tables.set_interfaces(name, self._interfaces(name))

    def sweep(self) -> None:
        """All was heard: what an earlier run left in the kernel for other interfaces goes."""
        self._swept = True
        self._tables.sweep()

    def warnings(self) -> list[str]:
        """What keeps VRFs from being whole."""
        found = [f"VRF {name}: {self._tables.problem(name)}" for name in self._configs if self._tables.problem(name)]
        return [*self.problems.values(), *found]

    async def stop(self) -> None:
        """Let go; everything stays in the kernel. Call after the Fibs have stopped."""
        await self._tables.stop()
