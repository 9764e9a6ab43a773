"""Addresses that this host must always reach, whatever routes it learns: neighbors, the broker, the resolvers.

Only gathers them; the guard decides which learned routes they rule out (fib/guard.py). The broker's name and the file
of resolvers are checked at intervals, since they may change while the daemon runs.
"""

from __future__ import annotations

import asyncio
import ipaddress
import socket
from collections.abc import Awaitable, Callable, Iterable
from pathlib import Path
from urllib.parse import urlsplit

from bgpd.config.patterns import is_pattern
from bgpd.config.schema import GuardConfig
from bgpd.config.schema_sessions import NeighborConfig
from bgpd.config.schema_workloads import MqttWorkloadConfig
from bgpd.fib.guard import Dependencies
from bgpd.model.prefix import is_link_local, parse_address
from bgpd.model.source import Source
from bgpd.runtime.events import log

LOOK_S = 2.0
"""Interval between checks of the files."""
RESOLVE_LOOKS = 15
"""The broker's name is resolved at every RESOLVE_LOOKS-th check (30 s), and when one of the files changed."""
RESOLV_CONF = "/etc/resolv.conf"
BEHIND_STUB = "/run/systemd/resolve/resolv.conf"
"""The resolvers that systemd-resolved asks, where resolv.conf names only its stub on the loopback."""
HOSTS = "/etc/hosts"
"""What the broker's name may resolve by."""

Resolve = Callable[[str], Awaitable[Iterable[bytes]]]


class HostNeeds:
    """What the host needs of each VRF's table ("" is the main one), by a configuration."""

    def __init__(self, config: GuardConfig) -> None:
        self._configured = {neighbor.name for neighbor in config.neighbor}
        self._neighbors: dict[str, list[NeighborConfig]] = {}
        for neighbor in config.neighbor:
            self._neighbors.setdefault(neighbor.vrf, []).append(neighbor)
        self._guests_of_vrfs = {guest.name for guest in config.workload.bgp if guest.vrf}
        self._uplinks = {vrf.name: vrf.uplinks for vrf in config.vrf}
        self._interfaces = () if config.workload.kernel is None else tuple(config.workload.kernel.interfaces)
        self._static: dict[str, list[str]] = {}
        for workload in config.workload.static:
            self._static.setdefault(workload.vrf, []).append(workload.interface)

    def of(self, vrf: str, *, sources: Iterable[Source], servers: UsedServers) -> Dependencies:
        """What it needs of one table. `sources` are the established sessions of all VRFs.

        They and `servers` count for the main table only, guests in a VRF for none. Dynamic neighbors count as such, but
        make no uplink of their interface.
        """
        neighbors = self._neighbors.get(vrf, ())
        leaves = {parse_address(one.address): f"neighbor {one.name}" for one in neighbors if one.address}
        addresses: dict[bytes, str] = {}
        if not vrf:
            addresses.update(servers.addresses)
            dynamic = [source for source in sources if source.name not in self._configured]
            here = [source for source in dynamic if source.guest not in self._guests_of_vrfs]
            addresses.update({source.address: f"neighbor {source.name}" for source in here})
        return Dependencies(
            addresses={**addresses, **leaves},
            leaves=leaves.keys(),
            brokers=frozenset() if vrf else servers.brokers,
            uplinks=frozenset(self._uplinks.get(vrf, ())).union(
                one.interface for one in neighbors if one.interface and not is_pattern(one)
            ),
            workloads=(*self._interfaces, *self._static.get(vrf, ())),
        )


class UsedServers:
    """`addresses` has the broker's and the resolvers' addresses (packed), and what each is; `changed()` is called when
    it is another one. What cannot be read or resolved now stays as it was.
    """

    def __init__(
        self,
        mqtt: MqttWorkloadConfig | None,
        *,
        changed: Callable[[], None],
        resolve: Resolve | None = None,
        root: Path = Path("/"),
    ) -> None:
        self.addresses: dict[bytes, str] = {}
        self._broker = (urlsplit(mqtt.broker).hostname or "") if mqtt is not None else ""
        self._changed = changed
        self._resolve = resolve or _resolve
        self._files = tuple(root / file.lstrip("/") for file in (RESOLV_CONF, BEHIND_STUB, HOSTS))
        self._seen: tuple[object, ...] | None = None
        self._resolvers: dict[bytes, str] = {}
        self._brokers: dict[bytes, str] = {}
        self._looks = 0

    @property
    def brokers(self) -> frozenset[bytes]:
        """Those of the addresses that are the broker's."""
        return frozenset(self._brokers)

    async def run(self) -> None:
        """Look again and again, until cancelled."""
        while True:
            await self.look()
            await asyncio.sleep(LOOK_S)

    async def look(self) -> None:
        """Look once."""
        seen = tuple(map(_state_of, self._files))
        if seen != self._seen:
            self._seen = seen
            self._resolvers = self._read_resolvers() or self._resolvers
            self._looks = 0
            self._report()
        if self._broker and self._looks % RESOLVE_LOOKS == 0:
            try:
                found = await self._resolve(self._broker)
            except (OSError, ValueError) as error:
                log.debug("broker.not_resolved", broker=self._broker, error=str(error))
                self._looks = -1
            else:
                what = f"the MQTT broker {self._broker}"
                self._brokers = {packed: what for packed in found if not _is_loopback(packed)}
                self._report()
        self._looks += 1

    def _read_resolvers(self) -> dict[bytes, str]:
        found = _nameservers(self._files[0])
        if any(map(_is_loopback, found)):
            found += _nameservers(self._files[1])
        return {packed: "a resolver of resolv.conf" for packed in found if not _is_loopback(packed)}

    def _report(self) -> None:
        addresses = {**self._resolvers, **self._brokers}
        if addresses != self.addresses:
            self.addresses = addresses
            self._changed()


def _state_of(file: Path) -> object:
    try:
        stat = file.stat()
    except OSError:
        return None
    return stat.st_ino, stat.st_dev, stat.st_size, stat.st_mtime_ns


def _nameservers(file: Path) -> list[bytes]:
    """The addresses of a resolv.conf; of link-local ones none, since no learned route can lead to them elsewhere."""
    try:
        lines = file.read_text(errors="replace").splitlines()
    except OSError:
        return []
    found = []
    for fields in map(str.split, lines):
        if len(fields) > 1 and fields[0] == "nameserver":
            try:
                found.append(parse_address(fields[1]))
            except ValueError:
                continue
    return [packed for packed in found if not is_link_local(packed)]


async def _resolve(host: str) -> Iterable[bytes]:
    loop = asyncio.get_running_loop()
    answers = await loop.getaddrinfo(host, None, type=socket.SOCK_STREAM)
    return {parse_address(str(answer[4][0]).partition("%")[0]) for answer in answers}


def _is_loopback(packed: bytes) -> bool:
    return ipaddress.ip_address(packed).is_loopback
