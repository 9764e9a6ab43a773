"""Where packets to a prefix end, by the tables that routers and kernels have now: each way that they may take."""

from __future__ import annotations

import ipaddress
from collections.abc import Iterable, Iterator

from bgpd.model.prefix import key_address, parse_prefix
from bgpd.simulation import guest_checks
from bgpd.simulation.fabric import Fabric
from bgpd.simulation.linux import BLACKHOLE, FOREIGN

_HOST = ("/32", "/128")
"""How host prefixes end."""


class Packets:
    """To one prefix, as all is now: from each node it is looked up once."""

    def __init__(self, fabric: Fabric, prefix: str) -> None:
        self._fabric = fabric
        self._prefix = prefix
        self._address = key_address(*parse_prefix(prefix))
        self._found: dict[str, tuple[str, ...]] = {}
        self._passed: set[str] = set()

    def wrong_from(self, name: str) -> list[str]:
        """Of those that a host sends: what is wrong with some of the ways, each from the host on."""
        return sorted(set(self._sent_by_host(name))) if name in self._fabric.hosts else self.wrong_at(name)

    def wrong_at(self, name: str) -> list[str]:
        """Of those that come to a host: what is wrong from there on."""
        return sorted(set(self._at(name)))

    def _sent_by_host(self, name: str) -> Iterator[str]:
        host = self._fabric.hosts[name]
        if self._is_own(name):
            return  # the kernel's local table comes first
        target = self._target(name)
        if target is None:
            yield f"{name} has no route"
        elif target == BLACKHOLE:
            yield f"{name} drops it"
        elif target < 0:
            yield from self._delivered(name)
        elif not guest_checks.is_delivered(host, host.kernel.next_hops(target), self._prefix):
            for gateway, index in sorted(host.kernel.next_hops(target)):
                port = host.stack.port_to(gateway, index)
                if port is None or port.other is None or port.link is None or not port.link.is_whole:
                    yield f"{name} sends into a broken link"
                else:
                    yield from (f"{name} {wrong}" for wrong in self._at(port.other.stack.name))

    def _at(self, name: str) -> tuple[str, ...]:
        """What is wrong with the ways from here, where another node has sent them."""
        if name in self._passed:
            return (f"{name} again, a loop",)
        if name not in self._found:
            self._passed.add(name)
            sent_on = self._received_by_host(name) if name in self._fabric.hosts else self._sent_by_router(name)
            self._found[name] = tuple(sent_on)
            self._passed.remove(name)
        return self._found[name]

    def _sent_by_router(self, name: str) -> Iterator[str]:
        router = self._fabric.routers[name]
        ways = router.ways_to(self._prefix)
        if not ways:
            yield f"{name} has no route"
        for way in ways:
            if not way and self._prefix not in router.own:
                yield f"{name} has no route but one of its own"
            elif way and not self._fabric.link_between(name, way).is_whole:
                yield f"{name} sends into the broken link to {way}"
            elif way:
                yield from (f"{name} {wrong}" for wrong in self._at(way))

    def _received_by_host(self, name: str) -> Iterator[str]:
        if self._is_own(name):
            return
        target = self._target(name)
        if target is None:
            yield f"{name} has no route"
        elif target == BLACKHOLE:
            yield f"{name} drops it"
        elif target < 0:
            yield from self._delivered(name)
        elif not guest_checks.is_delivered(
            host := self._fabric.hosts[name], host.kernel.next_hops(target), self._prefix
        ):
            yield f"{name} sends it back into the fabric"

    def _is_own(self, name: str) -> bool:
        """Whether it is an address of the host itself, announced or not."""
        is_host = self._prefix.endswith(_HOST)
        return is_host and any(one.packed == self._address for one in self._fabric.hosts[name].kernel.addresses)

    def _delivered(self, name: str) -> Iterator[str]:
        host = self._fabric.hosts[name]
        if self._prefix not in host.claims and self._prefix not in host.managed and not self._is_on_link(name):
            yield f"{name} delivers it, and does not own it"

    def _is_on_link(self, name: str) -> bool:
        """Whether it is the network of a link of the host, so that it has nothing to be delivered to."""
        network = ipaddress.ip_network(self._prefix)
        addresses = ((one.packed, one.prefix_length) for one in self._fabric.hosts[name].kernel.addresses)
        return any(ipaddress.ip_network(one, strict=False) == network for one in addresses)

    def _target(self, name: str) -> int | None:
        found = self._fabric.hosts[name].kernel.lookup(self._address)
        return None if found is None or found[1] == FOREIGN else found[1]


def lost(fabric: Fabric, prefixes: Iterable[str]) -> list[str]:
    """Packets to these that are lost now, from whichever host."""
    return [
        f"from {name} to {prefix}: {wrong}"
        for prefix in prefixes
        for packets in (Packets(fabric, prefix),)
        for name in fabric.hosts
        for wrong in packets.wrong_from(name)
    ]
