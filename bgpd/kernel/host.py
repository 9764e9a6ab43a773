"""This host's links, addresses and connected networks: the one copy, which all parts read and none keeps.

`KernelMonitor` passes on the kernel's notifications, message by message, and compares the copy with a dump afterwards.
It holds the present state, and publishes each change (model.kernel events) once. An address is known by
interface index, packed address and prefix length: two interfaces may have the same link-local address, one interface
the same address in two networks. A renamed link is gone by its old name, and there by its new one with all that it has.
Sans-IO; decides nothing.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from typing import TypeVar

import msgspec

from bgpd.kernel.loopback import Loopback, Within, loopback_of, may_be_loopback
from bgpd.model.iana import Family
from bgpd.model.kernel import Address, AddressChanged, KernelEvent, KernelRoute, Link, LinkChanged
from bgpd.model.prefix import address_length, covers, host_key, is_link_local, key_address

MAIN_TABLE = 254
_LOOPBACK_NETWORK = 127
"""The first byte of 127.0.0.0/8: all of it is the host's own."""
_RTPROT_KERNEL = 2
_Counted = TypeVar("_Counted")
_Place = tuple[bytes, int, bytes]
"""Packed address, prefix length, and the other end of a point-to-point address."""


class Host:
    """`links` by interface index. Ask by name; a name that no link bears has no addresses.

    `loopbacks` are prefixes, family and route key, that the host's loopback addresses are from; none: any.
    `reassigned(link, former)` is called when a link belongs to another VRF by `assign`: the kernel tells nothing then.
    """

    def __init__(self, publish: Callable[[KernelEvent], None]) -> None:
        self.links: dict[int, Link] = {}
        self.loopbacks: Within = ()
        self.reassigned: Callable[[Link, str], None] = lambda _link, _former: None
        self._publish = publish
        self._by_name: dict[str, Link] = {}
        self._addresses: dict[int, dict[_Place, Address]] = {}
        self._reaching: dict[int, dict[_Place, Address]] = {}
        self._bearers: dict[bytes, dict[tuple[int, _Place], Address]] = {}
        self._vrfs: dict[str, str] = {}
        self._members: dict[str, set[int]] = {}
        self._placed: dict[int, str] = {}
        self._attached: dict[str, dict[tuple[Family, int, bytes], int]] = {}
        self._networks: dict[str, dict[tuple[Family, bytes], int]] = {}
        self._touched: set[object] | None = None

    def tell(self, publish: Callable[[KernelEvent], None]) -> None:
        """Publish what changes there from now on."""
        self._publish = publish

    # What the kernel notifies.

    def link(self, link: Link, *, gone: bool = False) -> None:
        """A link is like this now, or gone."""
        self._touch(link.index)
        before = self.links.get(link.index)
        if gone:
            self._remove(link.index)
            return
        if before == link:
            return
        namesake = self._by_name.get(link.name)
        for former in (before, namesake):
            if former is not None and (former.index, former.name) != (link.index, link.name):
                self._leave_name(former)
                before = None if former is before else before
        self.links[link.index] = self._by_name[link.name] = link
        self._place(link)
        self._publish(LinkChanged(link, before=before))
        if before is None:
            for place, address in list(self._addresses.get(link.index, {}).items()):
                renamed = msgspec.structs.replace(address, interface=link.name)
                self._addresses[link.index][place] = self._bearers[place[0]][link.index, place] = renamed
                if _reaches_others(renamed):
                    self._reaching[link.index][place] = renamed
                self._publish(AddressChanged(renamed))

    def address(self, address: Address, *, gone: bool = False) -> None:
        """An address is like this now, or gone. One of an interface that is not known waits for the next reading."""
        place = (address.packed, address.prefix_length, address.peer)
        self._touch((address.index, *place))
        link = self.links.get(address.index)
        known = self._addresses.get(address.index, {})
        if gone:
            former = known.pop(place, None)
            if former is not None:
                self._forget_bearer(address.index, place)
                self._reaching.get(address.index, {}).pop(place, None)
                if link is not None:
                    self._publish(AddressChanged(former, gone=True))
            return
        if link is None:
            return
        address = msgspec.structs.replace(address, interface=link.name)
        if known.get(place) != address:
            self._addresses.setdefault(address.index, {})[place] = address
            if _reaches_others(address):
                self._reaching.setdefault(address.index, {})[place] = address
            self._bearers.setdefault(address.packed, {})[address.index, place] = address
            self._publish(AddressChanged(address))

    def route_changed(self, route: KernelRoute, *, gone: bool) -> None:
        """A route of another program or the kernel: one without a gateway attaches its prefix to its interface. IPv6
        has routes that drop by the interface lo: they attach nothing."""
        if not route.interface or route.gateway or route.drops or not route.key[0]:
            return
        attached = self._attached.setdefault(route.interface, {})
        _count(attached, (route.family, route.table, route.key), -1 if gone else 1)
        if not attached:
            del self._attached[route.interface]
        if attaches_network(route):
            networks = self._networks.setdefault(route.interface, {})
            _count(networks, (route.family, route.key), -1 if gone else 1)

    def begin_reading(self) -> None:
        """A reading of links and addresses starts: what is notified until `replace` is newer than it."""
        self._touched = set()

    def replace(self, links: Iterable[Link], addresses: Iterable[Address]) -> None:
        """Take over a reading: what it lacks is gone, what differs is published; links first.

        Links that have another name let go of the old one before any takes a new one: names may have been exchanged.
        """
        touched, self._touched = self._touched or set(), None
        read = {link.index: link for link in links if link.index not in touched}
        for index in (self.links.keys() | self._addresses.keys()) - read.keys() - touched:
            self._remove(index)
        for index, link in read.items():
            before = self.links.get(index)
            if before is not None and before.name != link.name:
                self._leave_name(before)
        for link in read.values():
            self.link(link)
        present: set[object] = set(touched)
        for address in addresses:
            place = (address.index, address.packed, address.prefix_length, address.peer)
            present.add(place)
            if place not in touched:
                self.address(address)
        for address in [one for known in self._addresses.values() for one in known.values()]:
            if (address.index, address.packed, address.prefix_length, address.peer) not in present:
                self.address(address, gone=True)

    def assign(self, interface: str, vrf: str | None) -> None:
        """The interface belongs to a VRF ("" is the main table); None: to the one that the kernel has it in."""
        former = self.vrf_of(interface)
        if vrf is None:
            self._vrfs.pop(interface, None)
        else:
            self._vrfs[interface] = vrf
        link = self._by_name.get(interface)
        if link is not None:
            self._place(link)
            if self.vrf_of(interface) != former:
                self.reassigned(link, former)

    # What is there.

    def events(self) -> Iterator[KernelEvent]:
        """All links and addresses that are there, as events."""
        yield from [LinkChanged(link) for link in self.links.values()]
        yield from [AddressChanged(one) for index in self.links for one in self._addresses.get(index, {}).values()]

    def named(self, name: str) -> Link | None:
        """The link of that name."""
        return self._by_name.get(name)

    def name_of(self, index: int) -> str:
        """Interface name of an index, "" if there is none."""
        link = self.links.get(index)
        return link.name if link else ""

    def names(self) -> list[str]:
        """The names of all interfaces."""
        return [link.name for link in self.links.values()]

    def index_of(self, name: str) -> int:
        """Interface index of a name, 0 if there is none."""
        link = self._by_name.get(name)
        return link.index if link else 0

    def is_up(self, name: str) -> bool:
        """Whether the interface is there and up, with carrier."""
        link = self._by_name.get(name)
        return link is not None and link.up

    def vrf_of(self, interface: str) -> str:
        """The VRF that an interface belongs to, "" if to none. A VRF device belongs to itself."""
        assigned = self._vrfs.get(interface)
        if assigned is not None:
            return assigned
        link = self._by_name.get(interface)
        if link is None:
            return ""
        return link.name if link.kind == "vrf" else link.vrf

    def vrf_by_interface(self) -> dict[str, str]:
        """The VRF of each interface by name, the oldest interface first."""
        return {self.links[index].name: self.vrf_of(self.links[index].name) for index in sorted(self.links)}

    def vrf_device(self, vrf: str) -> str:
        """The device of a VRF, which bears its name; "" where the kernel has none."""
        link = self._by_name.get(vrf)
        return vrf if link is not None and link.kind == "vrf" else ""

    def interfaces(self, vrf: str) -> list[Link]:
        """The links of a VRF, by index."""
        return [self.links[index] for index in sorted(self._members.get(vrf, ()))]

    def addresses(self, interface: str) -> list[Address]:
        """The usable addresses of an interface; what a next hop is best chosen from comes first.

        Preferred ones before deprecated ones, then primary (IPv6: lasting) ones before others, then by number: the same
        order after a restart.
        """
        found = self._addresses.get(self.index_of(interface), {}).values()
        return sorted((one for one in found if one.usable), key=_by_preference)

    def all_addresses(self, vrf: str = "") -> Iterator[Address]:
        """The usable addresses of the interfaces of a VRF."""
        for _link, known in self._having_addresses(vrf):
            yield from (address for address in known.values() if address.usable)

    def has_address(self, packed: bytes, *, vrf: str = "") -> bool:
        """Whether an interface of the VRF has the address, tentative or not."""
        return any(self.vrf_of(name) == vrf for name in self.bearers(packed))

    def is_own(self, packed: bytes, *, vrf: str = "") -> bool:
        """Whether packets to an address stay on this host: an interface of the VRF has it, or the network 127.0.0.0/8
        that it is in."""
        is_loopback = len(packed) == 4 and packed[0] == _LOOPBACK_NETWORK
        return self.has_address(packed, vrf=vrf) or (is_loopback and bool(self.facing(packed, vrf)))

    def bearers(self, packed: bytes) -> list[str]:
        """The interfaces that have an address, tentative or not, by index."""
        places = self._bearers.get(packed)
        if not places:
            return []
        return [self.links[index].name for index in sorted({index for index, _ in places}) if index in self.links]

    def with_address(self, packed: bytes) -> list[Address]:
        """All that interfaces have of one address, usable or not, by index and prefix length."""
        places = self._bearers.get(packed)
        if not places:
            return []
        return [places[place] for place in sorted(places) if place[0] in self.links]

    def bears(self, interface: str, packed: bytes) -> bool:
        """Whether an interface has an address, tentative or not."""
        return interface in self.bearers(packed)

    def bearer(self, packed: bytes, *, vrf: str = "") -> str:
        """The interface of a VRF that has the address; of several that with the lowest index. "" if there is none."""
        return next((name for name in self.bearers(packed) if self.vrf_of(name) == vrf), "")

    def loopback(self) -> Loopback:
        """The host's own addresses, whatever its uplinks do."""
        links = list(filter(may_be_loopback, self.links.values()))
        addresses = [one for link in links for one in self._addresses.get(link.index, {}).values()]
        return loopback_of(links, addresses, self.loopbacks)

    def facing(self, address: bytes, vrf: str = "", *, local: bytes = b"") -> str:
        """The interface of a VRF whose network an address is in; "" if it is more than one hop away or unknown.

        The longest network counts, then that it has the `local` address, then that it is up, then its index.
        """
        host = host_key(address)
        best: tuple[int, bool, bool, int] = (-1, False, False, 0)
        found = ""
        for link in self.interfaces(vrf):
            for own in self._reaching.get(link.index, {}).values():
                rank = (own.prefix_length, own.packed == local, link.up, -link.index)
                comparable = own.packed != address and len(own.packed) == len(address)
                if comparable and rank > best and covers(own.network, host):
                    best, found = rank, link.name
        return found

    def attaching(self, address: bytes, vrf: str = "") -> str:
        """The interface of a VRF that an address is attached to: by a network of its own (`facing`), or by a route of
        the main table, as to a pod. "" if there is none."""
        found = self.facing(address, vrf)
        host, longest = host_key(address), 0
        for link in () if found else self.interfaces(vrf):
            for family, table, key in self._attached.get(link.name, ()):
                is_of = address_length(family) == len(address) and table == MAIN_TABLE
                if is_of and key[0] > longest and covers(key, host):
                    found, longest = link.name, key[0]
        return found

    def attached(self, family: Family, table: int, *, vrf: str = "") -> Iterator[tuple[bytes, str]]:
        """(prefix, interface) of what is directly attached to a VRF's interfaces: by routes of the table and of main,
        and by addresses in whose network others are.
        """
        for link in self.interfaces(vrf):
            for of, of_table, key in self._attached.get(link.name, ()):
                if of is family and of_table in (table, MAIN_TABLE):
                    yield key, link.name
        size = 4 if family is Family.IPV4_UNICAST else 16
        for link in self.interfaces(vrf):
            for one in self._reaching.get(link.index, {}).values():
                if one.usable and len(one.packed) == size:
                    yield one.network, one.interface

    def networks(self, interface: str) -> set[tuple[Family, bytes]]:
        """The networks that the kernel attached to an interface in the main table; link-local ones are left out."""
        if interface not in self._by_name:
            return set()
        found = self._networks.get(interface, ())
        return {(family, key) for family, key in found if not is_link_local(key_address(family, key))}

    def _having_addresses(self, vrf: str) -> Iterator[tuple[Link, dict[_Place, Address]]]:
        for link in self.interfaces(vrf):
            known = self._addresses.get(link.index)
            if known is not None:
                yield link, known

    # How it follows.

    def _leave_name(self, link: Link) -> None:
        """A link lost its name, to a new one or to another link. Its addresses stay with its index."""
        del self.links[link.index], self._by_name[link.name]
        self._members[self._placed.pop(link.index)].discard(link.index)
        self._publish(LinkChanged(link, gone=True))

    def _place(self, link: Link) -> None:
        """Note to which VRF a link belongs now: who asks for a VRF's interfaces does not walk through all."""
        vrf, before = self.vrf_of(link.name), self._placed.get(link.index)
        if vrf == before:
            return
        if before is not None:
            self._members[before].discard(link.index)
        self._placed[link.index] = vrf
        self._members.setdefault(vrf, set()).add(link.index)

    def _remove(self, index: int) -> None:
        """A link is gone, with its addresses."""
        link = self.links.get(index)
        addresses = self._addresses.pop(index, {})
        self._reaching.pop(index, None)
        for place in addresses:
            self._forget_bearer(index, place)
        if link is not None:
            self._leave_name(link)
            for address in addresses.values():
                self._publish(AddressChanged(address, gone=True))

    def _forget_bearer(self, index: int, place: _Place) -> None:
        """An address left an interface; that may have it in another network too."""
        places = self._bearers.get(place[0], {})
        places.pop((index, place), None)
        if not places:
            self._bearers.pop(place[0], None)

    def _touch(self, place: object) -> None:
        if self._touched is not None:
            self._touched.add(place)


def attaches_network(route: KernelRoute) -> bool:
    """Whether the kernel itself attaches a network to an interface by this route, as for an address (`networks`)."""
    is_direct = bool(route.interface) and not route.gateway and not route.drops and bool(route.key[0])
    return is_direct and route.protocol == _RTPROT_KERNEL and route.table == MAIN_TABLE


def _reaches_others(address: Address) -> bool:
    """Whether other addresses are in its network: not with a host prefix, of which an interface may have thousands."""
    return bool(address.peer) or address.prefix_length < 8 * len(address.packed)


class OwnAddresses:
    """Which addresses are this host's own as a session sees it: link-local ones of its interface, others of its VRF."""

    def __init__(self, host: Host, *, interface: str, vrf: str) -> None:
        self._host = host
        self._interface = interface
        self._vrf = vrf

    def __contains__(self, packed: object) -> bool:
        """Asked with every UPDATE."""
        if not isinstance(packed, bytes):
            return False
        if is_link_local(packed):
            return self._host.bears(self._interface, packed)
        return self._host.has_address(packed, vrf=self._vrf)


def _by_preference(address: Address) -> tuple[bool, bool, bytes]:
    return address.deprecated, address.secondary, address.packed


def _count(counts: dict[_Counted, int], key: _Counted, change: int) -> None:
    """Several routes may attach a prefix to an interface: it is attached until the last is gone."""
    count = counts.get(key, 0) + change
    if count > 0:
        counts[key] = count
    else:
        counts.pop(key, None)
