"""Which addresses cannot be reached, from where, and for how long: looked at whenever packets may go another way."""

from __future__ import annotations

from collections.abc import Iterator

import msgspec

from bgpd.simulation import tenant_paths
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.reach import Packets
from bgpd.simulation.wire import EVPN, codes_of

_FEW = 2_000
"""Addresses times nodes that are looked at after each change at once; of more, after all changes of ..."""
_PAUSE_S = 0.01


class Loss(msgspec.Struct, kw_only=True):
    """An address that could not be reached, by some of the ways at least. `sources`: from which nodes; `why`: the first
    way that failed; `until`: None while it goes on. Times are the loop's."""

    address: str
    since: float
    why: str
    sources: dict[str, None]
    until: float | None = None


class Losses:
    """Of one fabric. `changed_at`: when packets went another way last."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._going_on: dict[str, Loss] = {}
        self._ended: list[Loss] = []
        self._is_planned = False
        self.changed_at = fabric.loop.now
        fabric.noted = self._changed

    def _changed(self) -> None:
        self.changed_at = self._fabric.loop.now
        if self._is_planned:
            return
        self._is_planned = True
        fabric = self._fabric
        many = len(list(self._live())) * (len(fabric.hosts) + len(fabric.routers)) > _FEW
        if many:
            fabric.loop.call_later(_PAUSE_S, self._look)
        else:
            fabric.loop.call_soon(self._look)

    def _live(self) -> Iterator[tuple[str, str]]:
        """Addresses of workloads that are there, and prefixes of routers, each with its node."""
        for name, host in self._fabric.hosts.items():
            if host.stack.is_there:
                yield from ((prefix, name) for prefix in (*host.claims, *host.managed))
        for name, router in self._fabric.routers.items():
            if router.is_running or router.fib:
                yield from ((prefix, name) for prefix in router.own if codes_of(prefix) != EVPN)

    def _sources(self) -> Iterator[str]:
        """Hosts that are on, and routers that others than hosts are behind."""
        yield from (name for name, host in self._fabric.hosts.items() if host.stack.is_there)
        yield from (name for name, router in self._fabric.routers.items() if router.stack.is_there and router.own)

    def _look(self) -> None:
        self._is_planned = False
        now = self._fabric.loop.now
        owners: dict[str, set[str]] = {}
        for address, name in self._live():
            owners.setdefault(address, set()).add(name)
        sources = list(self._sources())
        seen = set()
        for address, at in owners.items():
            packets = Packets(self._fabric, address)
            wrong = {one: found[0] for one in sources if one not in at and (found := packets.wrong_from(one))}
            self._found(address, wrong, now)
            seen.add(address)
        for name, wrong in self._of_tenants():
            self._found(name, wrong, now)
            seen.add(name)
        for address in [one for one in self._going_on if one not in seen]:
            self._end(address, now)

    def _of_tenants(self) -> Iterator[tuple[str, dict[str, str]]]:
        """Each address of a tenant, and what is wrong from which hosts."""
        fabric = self._fabric
        for (vrf, address), at in tenant_paths.live(fabric).items():
            wrong = {}
            for source, its in tenant_paths.sources(fabric, vrf, at):
                found = tenant_paths.wrong_from(fabric, source, its, address)
                if found:
                    wrong[source] = found[0]
            yield f"{address} of {vrf}", wrong

    def _found(self, address: str, wrong: dict[str, str], now: float) -> None:
        if wrong:
            why = next(iter(wrong.values()))
            loss = self._going_on.setdefault(address, Loss(address=address, since=now, why=why, sources={}))
            loss.sources.update(dict.fromkeys(wrong))
        elif address in self._going_on:
            self._end(address, now)

    def _end(self, address: str, now: float) -> None:
        loss = self._going_on.pop(address)
        loss.until = now
        self._ended.append(loss)

    def take(self) -> list[Loss]:
        """What was lost since this was asked last, and what is lost still, which is told again next time."""
        found, self._ended = self._ended, []
        return [*found, *(msgspec.structs.replace(one, sources=dict(one.sources)) for one in self._going_on.values())]
