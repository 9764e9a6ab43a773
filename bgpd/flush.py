"""`bgpd flush`: takes out of the kernel all that bgpd put there, for a host that is to do without it.

The daemon itself never does so: its routes stay whenever it ends. Refused while a daemon has the routes. Foreign
routes, and nexthop objects that they use, stay.
"""

from __future__ import annotations

import asyncio
from collections.abc import Callable, Iterable, Sequence
from collections.abc import Set as AbstractSet
from pathlib import Path

import msgspec

from bgpd.config.schema import Config, LogConfig
from bgpd.fib.dataplane import CannotWrite, Dataplane
from bgpd.fib.guard import Dependencies
from bgpd.fib.protocol import read_protocol_in_force
from bgpd.fib.tables import KernelTables
from bgpd.kernel.monitor import KernelMonitor
from bgpd.log import set_up_logging
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.prefix import VrfFamily
from bgpd.runtime.lock import AnotherRuns, LockUnusable, NamespaceLock
from bgpd.runtime.loop import new_event_loop
from bgpd.runtime.turns import Walks

_PAUSE_S = 0.02
_PATIENCE_S = 30.0
"""Until nexthop objects that no route has any more are gone; they are deleted some at a time."""


class _Empty:
    """A RIB without routes, an EVPN without next hops, workloads without addresses: nothing is desired."""

    routes: tuple[bytes, ...] = ()

    def desired(self, vrf: str, family: Family, key: bytes) -> NextHops | None:
        return None

    def desired_all(self, vrf: str, family: Family, keys: Sequence[bytes]) -> list[NextHops | None]:
        return [None] * len(keys)

    def fallback(self, vrf: str, lost: AbstractSet[NextHop]) -> Callable[[NextHops], NextHops | None]:
        return lambda _used: None

    def table(self, vrf: str, family: Family) -> _Empty:
        return self

    def asked_next_hops(self, vrf: str) -> tuple[NextHop, ...]:
        return ()

    def commit_gathered(self) -> None:
        pass

    def fib_refused(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        pass

    def resolve(self, next_hop: NextHop) -> NextHops:
        return ()

    def route_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        pass

    def route_refused(self, vrf: str, family: Family, keys: Sequence[bytes], why: str) -> None:
        pass

    def look_again(self, table: VrfFamily, keys: Iterable[bytes]) -> None:
        pass

    def kernel_acknowledged(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        pass

    def reachability_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        pass

    def kernel_is_behind(self, busy: AbstractSet[str]) -> None:
        pass

    def kernel_caught_up(self) -> None:
        pass


def flush(config: Config) -> str:
    """Takes out what a daemon with this configuration put into the kernel; says what that was.

    Raises: FlushFailed: it was not done, or not wholly; with the reason.
    """
    set_up_logging(LogConfig(level="error"))
    loop, _ = new_event_loop()
    try:
        asyncio.set_event_loop(loop)
        return loop.run_until_complete(_flush(config, read_protocol_in_force(config.fib.protocol)))
    except (AnotherRuns, LockUnusable, CannotWrite, OSError) as error:
        raise FlushFailed(str(error)) from error
    finally:
        loop.close()


class FlushFailed(Exception):
    """Something is left in the kernel; the text says why."""


async def _flush(config: Config, protocol: int) -> str:
    lock = NamespaceLock(protocol, otherwise=Path(config.api.socket).parent)
    await lock.acquire(patience_s=0)
    monitor = KernelMonitor(own_protocol=protocol, interval_s=config.fib.reconcile_interval_s)
    dataplane = Dataplane(monitor, protocol=protocol)
    failures: list[BaseException] = []
    nothing = _Empty()
    tables = KernelTables(
        msgspec.structs.replace(config.fib, protocol=protocol),
        dataplane=dataplane,
        listener=nothing,
        walks=Walks(failed=failures.append),
        needs=lambda vrf: Dependencies(),
        interfaces=lambda vrf: (),
    )
    tables.connect(nothing, nothing, nothing)
    try:
        await monitor.start()
        devices = {vrf.name for vrf in config.vrf if monitor.host.named(vrf.name) is not None}
        await tables.start(config.vrf)
        routes = tables.installed
        vrfs = [name for name, fib in tables.fibs.items() if name and (name in devices or fib.counters.installed)]
        await tables.vrfs.remove(())
        for fib in tables.fibs.values():
            await fib.withdraw_all()
        tables.sweep()
        await tables.vrfs.left_removed()
        await _settled(tables, dataplane)
        left = tables.installed
        await tables.stop()
        await monitor.stop()
    finally:
        await tables.vrfs.stop_trying()
        lock.release()
    if failures or left:
        raise FlushFailed(f"{left} routes are left: {failures or 'the kernel refused to delete them'}")
    return "; ".join((f"removed {routes} routes", *(f"VRF {name}" for name in vrfs)))


async def _settled(tables: KernelTables, dataplane: Dataplane) -> None:
    """All is written, and the nexthop objects are gone, but for those that foreign routes use."""
    loop = asyncio.get_running_loop()
    end = loop.time() + _PATIENCE_S
    while loop.time() < end:
        are_left = dataplane.upkeep.delete_unused()
        if dataplane.idle and not tables.pending and not are_left:
            return
        await asyncio.sleep(_PAUSE_S)
