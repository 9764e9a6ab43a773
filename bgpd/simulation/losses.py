"""Which addresses cannot be reached, from where, and for how long: looked at whenever packets may go another way."""

from __future__ import annotations

import itertools
from collections.abc import Iterable, Iterator

import msgspec

from bgpd.simulation import tenant_paths
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.reach import Packets
from bgpd.simulation.wire import EVPN, codes_of

_FEW = 2_000
"""Addresses times nodes that are looked at after each change at once; of more, after all changes of ..."""
_PAUSE_S = 0.01


class Loss(msgspec.Struct, kw_only=True):
    """An address that could not be reached from a node, by some of the ways at least. `why`: the first way that failed;
    `until`: None while it goes on. `is_known`: it was so at rest. `owners`: who had the address. `is_moot`: it has not
    been reached again, but the address or the node is gone. Times are the loop's."""

    address: str
    source: str
    since: float
    why: str
    until: float | None = None
    is_known: bool = False
    owners: frozenset[str] = frozenset()
    is_moot: bool = False


class Losses:
    """Of one fabric. `changed_at`: when packets went another way last."""

    def __init__(self, fabric: Fabric) -> None:
        self._fabric = fabric
        self._going_on: dict[tuple[str, str], Loss] = {}
        """By address and source."""
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
                of_guests = (guest.has for guest in host.guests.values() if guest.router.stack.is_there)
                here = (*host.claims, *host.managed, *host.addresses, *itertools.chain.from_iterable(of_guests))
                yield from ((prefix, name) for prefix in here)
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
        wrong: dict[tuple[str, str], str] = {}
        for address, at in owners.items():
            packets = Packets(self._fabric, address)
            wrong |= {
                (address, one): found[0] for one in sources if one not in at and (found := packets.wrong_from(one))
            }
        wrong |= self._of_tenants()
        of_tenants = tenant_paths.live(self._fabric)
        live: dict[str, Iterable[str]] = {**owners}
        live |= {f"{address} of {vrf}": at for (vrf, address), at in of_tenants.items()}
        for pair, why in wrong.items():
            if pair not in self._going_on:
                those = frozenset(live[pair[0]])
                self._going_on[pair] = Loss(address=pair[0], source=pair[1], since=now, why=why, owners=those)
        for pair in [one for one in self._going_on if one not in wrong]:
            is_there = pair[0] in live and pair[1] in sources
            if is_there or not self._going_on[pair].is_known:  # else nothing is known that is new
                loss = self._going_on.pop(pair)
                loss.until, loss.is_moot = now, not is_there
                self._ended.append(loss)

    def _of_tenants(self) -> dict[tuple[str, str], str]:
        """Likewise addresses of tenants."""
        fabric = self._fabric
        wrong = {}
        for (vrf, address), at in tenant_paths.live(fabric).items():
            for source, its in tenant_paths.sources(fabric, vrf, at):
                found = tenant_paths.wrong_from(fabric, source, its, address)
                if found:
                    wrong[f"{address} of {vrf}", source] = found[0]
        return wrong

    def live(self) -> set[str]:
        """All addresses that somebody has now."""
        of_tenants = (f"{address} of {vrf}" for vrf, address in tenant_paths.live(self._fabric))
        return {*(address for address, _name in self._live()), *of_tenants}

    def take(self, *, is_at_rest: bool) -> list[Loss]:
        """What was lost since this was asked last, and what is lost still. That is told again next time, but if all is
        at rest: then it is told once more when it has ended."""
        found, self._ended = self._ended, []
        found += [msgspec.structs.replace(one) for one in self._going_on.values() if not one.is_known]
        for one in self._going_on.values():
            one.is_known |= is_at_rest
        return found
