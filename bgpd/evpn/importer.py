"""Which VRFs a received EVPN route goes into, and as which unicast route (RFC 7432 section 7.2, RFC 9136 section 3).

A type 5 route becomes its prefix, a type 2 route with an IP its host prefix, in every VRF that imports one of its route
targets. What one neighbor advertises with one route distinguisher is a source of its own in the VRF's tables, so that
the same prefix by two leaves is two candidates there. Never decides which candidate is best, nor whether its next hop
can be reached.

What goes into more than FEW VRFs goes there in steps, a part of the keys and of the VRFs in each: else a run of UPDATEs
would hold the loop for a second. What comes meanwhile for a prefix that waits takes the place of what waits.

Hot path: keys are cut in compiled loops (key_columns.py), paths are interned. Per route only its key is made and, for
type 2, one entry that maps the address to its MAC.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from collections.abc import Set as AbstractSet
from itertools import chain, compress, islice
from typing import Protocol
from weakref import WeakSet

from bgpd.evpn.default_gateways import DefaultGateways
from bgpd.evpn.host_owners import HostOwners
from bgpd.evpn.key_columns import HEAD, common_head, host_prefixes, ip_prefixes, split_by_head
from bgpd.evpn.ports import RibPort
from bgpd.evpn.vrf import Vrf
from bgpd.model.attributes import Attributes
from bgpd.model.communities import DEFAULT_GATEWAY, format_route_distinguisher
from bgpd.model.evpn import origin_of
from bgpd.model.iana import UNICAST, EvpnRouteType, Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path, Via
from bgpd.model.prefix import address_length
from bgpd.model.source import Source, SourceKind

_MAC_IP, _IP_PREFIX = int(EvpnRouteType.MAC_IP_ADVERTISEMENT), int(EvpnRouteType.IP_PREFIX)
_FAMILY_BY_LENGTH = {
    _MAC_IP: {23: Family.IPV4_UNICAST, 35: Family.IPV6_UNICAST},
    _IP_PREFIX: {18: Family.IPV4_UNICAST, 30: Family.IPV6_UNICAST},
}
"""By route type and length of the key; type 2 routes without an IP have none."""
_LINK_LOCAL = b"\x80\xfe\x80"
"""Start of the host prefixes of link-local addresses, which are of no use beyond their link."""
_SELECTIONS_KEPT = 4096
"""Sets of extended communities of which it is known which VRFs import them."""
_PATHS_KEPT = 1024
"""Paths whose VRF routes are found again: those of a load come with all their keys, shortly after each other."""
_NO_FAMILIES: dict[int, Family] = {}
_NOTHING: frozenset[bytes] = frozenset()
FEW = 8
"""VRFs into which a route goes at once."""
_ORIGINS = 4096
"""Of one neighbor, from which on those of which nothing is left are looked for."""
_NOWHERE: AbstractSet[str] = frozenset()
_KEYS = 256
"""Most prefixes that go into the VRFs together."""
_STEP = 2048
"""Imports of one step."""
_CALL = 8
"""What a path of a VRF costs beside its prefixes, in imports."""

ReceivedKeys = Callable[[Source, Family, bytes], tuple[str, bytes] | None]
"""Neighbor and key of the EVPN route that became a VRF's route of this source, family and key."""


class ImportListener(Protocol):
    """Who is notified of changes by imports beyond the VRF's routes."""

    def remote_hosts_changed(self, vrf: str, family: Family, prefixes: list[bytes]) -> None:
        """What neighbors advertise for these host prefixes, which are followed, changed (`Importer.follow`)."""

    def default_gateways_changed(self, vrf: str) -> None:
        """A type 2 route of a default gateway came or went."""

    def imports_done(self) -> None:
        """Nothing waits to be imported any more."""


class _Origin:
    """What one neighbor advertises with one (route type, RD, Ethernet tag): a source of VRF routes.

    `vrfs`: the VRFs that may have routes of it. `former`: the sources that it had while the neighbor had another AS or
    address, of which something may be left. `is_gone`: its session is lost, nothing of it is imported any more.
    """

    __slots__ = ("former", "head", "hosts", "is_gone", "kind", "neighbor", "source", "vrfs")

    def __init__(self, neighbor: Source, head: bytes) -> None:
        self.neighbor = neighbor.name
        self.head = head
        self.kind = head[0]
        self.source = _pseudo_source(neighbor, head)
        self.former: list[Source] = []
        self.vrfs: set[tuple[str, Family]] = set()
        self.is_gone = False
        self.hosts = HostOwners()

    def key_of(self, family: Family, prefix: bytes) -> bytes:
        """The key of the EVPN route that became this route of a VRF."""
        if self.kind == _MAC_IP:
            return self.hosts.owners.get(prefix, b"")
        return self.head + prefix.ljust(1 + address_length(family), b"\0")


class Importer:
    """Turns the EVPN routes of all neighbors into routes of VRFs. `host_sources` are those of type 2 routes.

    `run` steps a walk to its end.
    """

    def __init__(self, rib: RibPort, listener: ImportListener, run: Callable[[Iterator[None]], None]) -> None:
        self._rib = rib
        self._listener = listener
        self._run = run
        self._by_name: dict[str, Vrf] = {}
        self._waiting: dict[tuple[_Origin, Family], dict[bytes, Path | None]] = {}
        self._vrfs: dict[bytes, tuple[Vrf, ...]] = {}
        self._own: frozenset[bytes] = frozenset()
        self._selected: dict[bytes, tuple[Vrf, ...]] = {}
        self._paths: dict[Path, dict[tuple[Source, str, Family, str], Path]] = {}
        self._origins: dict[str, dict[bytes, _Origin]] = {}
        self._tidy_at: dict[str, int] = {}
        self._sessions: dict[str, Source] = {}
        self._gone: WeakSet[Source] = WeakSet()
        self.host_sources: WeakSet[Source] = WeakSet()
        self._followed: dict[str, set[bytes]] = {}
        self._gateways = DefaultGateways()

    def use(self, vrfs: Iterable[Vrf]) -> None:
        """Import into these from now on; `received` must be called again for what differs."""
        chosen = list(vrfs)
        by_target: dict[bytes, list[Vrf]] = {}
        for vrf in chosen:
            for target in vrf.import_targets:
                by_target.setdefault(target, []).append(vrf)
        self._vrfs = {target: tuple(found) for target, found in by_target.items()}
        self._by_name = {vrf.name: vrf for vrf in chosen}
        self._own = frozenset(vrf.rd for vrf in chosen)
        self._selected = {}
        self._paths.clear()

    def neighbor_up(self, neighbor: Source) -> None:
        """A session is established. What its neighbor's former one said is as if this one had, until that is withdrawn
        or said anew."""
        self._sessions[neighbor.name] = neighbor

    def received(self, neighbor: Source, keys: Sequence[bytes], path: Path | None) -> None:
        """These EVPN routes of a neighbor have this path now; None: none that may be used. A path of a session that was
        forgotten is of no effect: the RIB is about to take it from the keys."""
        if not keys or (
            path is not None and self._sessions.get(neighbor.name) is not neighbor and neighbor in self._gone
        ):
            return
        head = common_head(keys)
        for one in ((head, keys),) if head else split_by_head(keys):
            self._received(neighbor, *one, path)

    def few_received(self, neighbor: Source, heard: Sequence[tuple[Path, bytes]]) -> None:
        """As `received` for each of these routes, which may be used, in this order; hardly two share a path."""
        alike: list[tuple[Path, bytes]] = []
        head, length = b"", 0
        selected: tuple[Vrf, ...] = ()
        for path, key in heard:
            chosen = self._select(path.attributes)
            if chosen is not selected or len(key) != length or not key.startswith(head):
                self._alike_received(neighbor, alike, selected)
                head, length, selected, alike = key[:HEAD], len(key), chosen, []
            alike.append((path, key))
        self._alike_received(neighbor, alike, selected)

    def _alike_received(self, neighbor: Source, alike: list[tuple[Path, bytes]], selected: tuple[Vrf, ...]) -> None:
        """Routes of one type, family and origin, which the same VRFs import."""
        if len(alike) < 2 or len(selected) != 1 or not self._put_alike(neighbor, alike, selected[0]):
            for path, key in alike:
                self.received(neighbor, (key,), path)

    def _put_alike(self, neighbor: Source, alike: list[tuple[Path, bytes]], vrf: Vrf) -> bool:
        """Import these into one VRF at once; False: each is to be looked at, and nothing is done that hinders that."""
        keys = [key for _, key in alike]
        head = keys[0][:HEAD]
        family = _FAMILY_BY_LENGTH.get(head[0], _NO_FAMILIES).get(len(keys[0]))
        if family is None or head[1:9] in self._own or self._sessions.get(neighbor.name) is not neighbor:
            return False
        origin = self._origin(neighbor, head, make=True)
        if origin is None or (origin, family) in self._waiting or any(name != vrf.name for name, _ in origin.vrfs):
            return False
        if origin.kind == _IP_PREFIX:
            found = ip_prefixes(keys)
        else:
            found = host_prefixes(keys)
            if self._gateways or any(DEFAULT_GATEWAY in path.attributes.block for path, _ in alike):
                return False
            if family is Family.IPV6_UNICAST and any(prefix.startswith(_LINK_LOCAL) for prefix in found):
                return False
            if not self._followed.get(vrf.name, _NOTHING).isdisjoint(found):
                return False
            if origin.hosts.contested or len(origin.hosts.claim(keys, found)) < len(keys):
                return False
        if vrf.on_link(family, found):
            return False
        origin.vrfs.add((vrf.name, family))
        self._rib.import_few(vrf.name, family, list(zip(found, self._few_paths(alike, origin, vrf, family))))
        return True

    def _few_paths(self, alike: list[tuple[Path, bytes]], origin: _Origin, vrf: Vrf, family: Family) -> Iterator[Path]:
        """The paths of the VRF's routes, which hardly two share: only those that other routes have are remembered."""
        hops: dict[tuple[NextHop | None, bytes], NextHop] = {}
        vias: dict[Via, Via] = {}
        source, is_prefix = origin.source, origin.kind == _IP_PREFIX
        for path, _ in alike:
            if path.keys > 1:
                yield self._path(path, origin, vrf, family, "")
                continue
            its = path.via
            via = vias.get(its)
            if via is None:
                overlay = its.overlay
                named = its.next_hop, b"" if overlay is None else overlay.gateway_ip
                next_hop = hops.get(named)
                if next_hop is None:
                    next_hop = vrf.next_hop_of(path, neighbor=origin.neighbor, family=family, is_prefix=is_prefix)
                    hops[named] = next_hop
                via = vias[its] = Via(source, next_hop, its.heard_at, "", overlay)
            yield Path(via, path.attributes, path.received)

    def forget(self, neighbor: Source) -> Iterator[None]:
        """The routes of a lost session are all withdrawn: stepping drops what was kept for it.

        If its successor is there already, what is kept counts as the successor's, and each key must be withdrawn.
        """
        self._gone.add(neighbor)
        if self._sessions.get(neighbor.name) is not neighbor:
            return iter(())
        del self._sessions[neighbor.name]
        self._paths.clear()
        self._tidy_at.pop(neighbor.name, None)
        origins = list(self._origins.pop(neighbor.name, {}).values())
        for origin in origins:
            origin.is_gone = True
        return self._remove(origins, self._gateways.forget(neighbor.name))

    def _remove(self, origins: list[_Origin], gateways: list[str]) -> Iterator[None]:
        for name in gateways:
            self._listener.default_gateways_changed(name)
        for origin in origins:
            for vrf, family in tuple(origin.vrfs):
                yield from self._remove_from(vrf, family, origin)
                followed = self._followed.get(vrf, _NOTHING) if origin.kind == _MAC_IP else _NOTHING
                length = address_length(family) + 1
                touched = [one for one in origin.hosts.owners.keys() & followed if len(one) == length]
                if touched:
                    self._listener.remote_hosts_changed(vrf, family, touched)

    def _tidy(self, neighbor: str, *, keep: _Origin) -> None:
        """Forget the origins of which nothing is left but `keep`: a neighbor may name ever new route distinguishers."""
        origins = self._origins[neighbor]
        empty = [origin for origin in origins.values() if origin is not keep and self._is_empty(origin)]
        for origin in empty:
            del origins[origin.head]
        self._tidy_at[neighbor] = max(_ORIGINS, 2 * len(origins))
        self._run(self._remove(empty, []))

    def _is_empty(self, origin: _Origin) -> bool:
        if origin.hosts.owners or any((origin, family) in self._waiting for family in UNICAST):
            return False
        tables = [self._rib.table(vrf, family).received for vrf, family in origin.vrfs]
        return not any(table.get(source) for table in tables for source in (origin.source, *origin.former))

    def _remove_from(self, vrf: str, family: Family, origin: _Origin) -> Iterator[None]:
        for source in (origin.source, *origin.former):
            yield from self._rib.remove_imported(vrf, family, source)

    def remove_vrf(self, name: str) -> Iterator[None]:
        """A VRF was removed from the configuration: stepping removes what was imported into it."""
        self._followed.pop(name, None)
        self._gateways.vrf_removed(name)
        for origins in list(self._origins.values()):
            for origin in list(origins.values()):
                for family in UNICAST:
                    if (name, family) in origin.vrfs:
                        origin.vrfs.discard((name, family))
                        yield from self._remove_from(name, family, origin)

    def follow(self, vrf: str, prefixes: set[bytes]) -> None:
        """Report every change that neighbors make to these host prefixes; the set is looked at as it then is."""
        self._followed[vrf] = prefixes

    def received_keys(self, neighbors: Iterable[str]) -> ReceivedKeys:
        """For one query: which EVPN route of these neighbors became a VRF's route of a source."""
        origins = {
            source: origin
            for name in neighbors
            for origin in self._origins.get(name, {}).values()
            for source in (origin.source, *origin.former)
        }

        def key_of(source: Source, family: Family, prefix: bytes) -> tuple[str, bytes] | None:
            origin = origins.get(source)
            return None if origin is None else (origin.neighbor, origin.key_of(family, prefix))

        return key_of

    def gateways(self, vrf: str) -> set[bytes]:
        """Addresses that type 2 routes with the Default Gateway community announce into a VRF."""
        return self._gateways.of(vrf)

    def _received(self, neighbor: Source, head: bytes, keys: Sequence[bytes], path: Path | None) -> None:
        """These keys are of one length, and begin with `head`."""
        family = _FAMILY_BY_LENGTH.get(head[0], _NO_FAMILIES).get(len(keys[0]))
        if family is None or head[1:9] in self._own:
            return
        selected = () if path is None else self._select(path.attributes)
        origin = self._origin(neighbor, head, make=bool(selected))
        if origin is not None:
            self._apply(origin, family, keys, path, selected)

    def _select(self, attributes: Attributes) -> tuple[Vrf, ...]:
        """The VRFs that import one of the route targets."""
        packed = attributes.packed_extended_communities
        found = [vrfs for at in range(0, len(packed), 8) if (vrfs := self._vrfs.get(packed[at : at + 8])) is not None]
        if len(found) < 2:
            return found[0] if found else ()
        selected = self._selected.get(packed)
        if selected is None:
            if len(self._selected) >= _SELECTIONS_KEPT:
                self._selected.clear()
            selected = self._selected[packed] = tuple(dict.fromkeys(chain.from_iterable(found)))
        return selected

    def _origin(self, neighbor: Source, head: bytes, *, make: bool) -> _Origin | None:
        origins = self._origins.get(neighbor.name)
        origin = origins.get(head) if origins is not None else None
        if origin is None:
            if not make:
                return None
            origin = _Origin(neighbor, head)
            self._origins.setdefault(neighbor.name, {})[head] = origin
            if len(self._origins[neighbor.name]) >= self._tidy_at.get(neighbor.name, _ORIGINS):
                self._tidy(neighbor.name, keep=origin)
        elif make and (origin.source.asn, origin.source.address) != (neighbor.asn, neighbor.address):
            origin.former.append(origin.source)
            origin.source = _pseudo_source(neighbor, head)
        if make and head[0] == _MAC_IP:
            self.host_sources.add(origin.source)
        return origin

    def _apply(
        self,
        origin: _Origin,
        family: Family,
        keys: Sequence[bytes],
        path: Path | None,
        selected: tuple[Vrf, ...],
    ) -> None:
        if origin.kind == _IP_PREFIX:
            self._put(origin, family, ip_prefixes(keys), path, selected)
            return
        hosts = host_prefixes(keys)
        if family is Family.IPV6_UNICAST and any(prefix.startswith(_LINK_LOCAL) for prefix in hosts):
            kept = [not prefix.startswith(_LINK_LOCAL) for prefix in hosts]
            keys = list(compress(keys, kept))
            hosts = list(compress(hosts, kept))
        is_there = selected and path is not None
        free = origin.hosts.claim(keys, hosts) if is_there else origin.hosts.release(keys, hosts)
        if free:
            self._put(origin, family, free, path, selected)
        for name in self._gateways.received(origin.neighbor, keys, path, [vrf.name for vrf in selected]):
            self._listener.default_gateways_changed(name)
        for prefix in origin.hosts.contested_among(hosts):
            self._settle(origin, family, prefix)

    def _settle(self, origin: _Origin, family: Family, prefix: bytes) -> None:
        """Several keys of one neighbor name an address: import the one that has it."""
        usable = {}
        for key in origin.hosts.contested[prefix]:
            path = self._current(origin.neighbor, key)
            if path is not None and self._select(path.attributes):
                usable[key] = path
        chosen = origin.hosts.settle(prefix, usable)
        self._put(origin, family, [prefix], chosen, () if chosen is None else self._select(chosen.attributes))

    def _current(self, neighbor: str, key: bytes) -> Path | None:
        """The usable path that a neighbor has in the EVPN table for a key."""
        decision = self._rib.table("", Family.L2VPN_EVPN).routes.get(key)
        for path in decision.candidates if decision is not None else ():
            if path.source.name == neighbor and not path.rejected:
                return path
        return None

    def _put(
        self, origin: _Origin, family: Family, prefixes: list[bytes], path: Path | None, selected: tuple[Vrf, ...]
    ) -> None:
        """These prefixes have this path in the selected VRFs, and none in the others; soon, where those are many."""
        place = origin, family
        if place in self._waiting:
            self._waiting[place].update(dict.fromkeys(prefixes, path))
        elif len(selected) <= FEW and len(origin.vrfs) <= 2 * FEW:
            self._put_into(origin, family, prefixes, path, selected, tuple(origin.vrfs))
        else:
            self._waiting[place] = dict.fromkeys(prefixes, path)
            if len(self._waiting) == 1:
                self._run(self._put_waiting())

    def _put_into(
        self,
        origin: _Origin,
        family: Family,
        prefixes: list[bytes],
        path: Path | None,
        selected: Iterable[Vrf],
        others: Iterable[tuple[str, Family]],
    ) -> None:
        """These prefixes have this path in the selected VRFs, and none in those of the `others` that are not among
        them."""
        names: list[str] = []
        if path is not None:
            for vrf in selected:
                self._announce(origin, vrf, family, prefixes, path)
                names.append(vrf.name)
        if len(origin.vrfs) > len(names):
            chosen = set(names)
            for name, where in others:
                if where is family and name not in chosen:
                    self._rib.withdraw_imported(name, family, origin.source, prefixes)
                    names.append(name)
        for name in names if origin.kind == _MAC_IP else ():
            followed = self._followed.get(name)
            if followed and (touched := followed.intersection(prefixes)):
                self._listener.remote_hosts_changed(name, family, list(touched))

    @property
    def is_busy(self) -> bool:
        """Whether something waits to be imported."""
        return bool(self._waiting)

    def _put_waiting(self) -> Iterator[None]:
        """Import what waits, the origins in turn: what comes in between for an origin that is at work waits, too."""
        while self._waiting:
            place, waiting = next(iter(self._waiting.items()))
            paths: dict[Path | None, list[bytes]] = {}
            for prefix in list(islice(waiting, _KEYS)):
                paths.setdefault(waiting.pop(prefix), []).append(prefix)
            origin, family = place
            yield from self._put_some(origin, family, paths)
            del self._waiting[place]
            if waiting and not origin.is_gone:
                self._waiting[place] = waiting
        self._listener.imports_done()

    def _put_some(self, origin: _Origin, family: Family, paths: dict[Path | None, list[bytes]]) -> Iterator[None]:
        """Some VRFs in each step; those that come meanwhile are given all routes anew in any case (`use`)."""
        selected = {path: {vrf.name for vrf in self._select(path.attributes)} if path else _NOWHERE for path in paths}
        names = list(dict.fromkeys(chain(chain.from_iterable(selected.values()), [name for name, _ in origin.vrfs])))
        size = max(1, _STEP // (sum(map(len, paths.values())) + _CALL * len(paths)))
        for at in range(0, len(names), size):
            vrfs = [self._by_name[name] for name in names[at : at + size] if name in self._by_name]
            for path, prefixes in paths.items():
                if origin.is_gone:
                    return
                chosen = [vrf for vrf in vrfs if vrf.name in selected[path]]
                others = [(vrf.name, family) for vrf in vrfs if (vrf.name, family) in origin.vrfs]
                self._put_into(origin, family, prefixes, path, chosen, others)
            yield

    def _announce(self, origin: _Origin, vrf: Vrf, family: Family, prefixes: list[bytes], path: Path) -> None:
        origin.vrfs.add((vrf.name, family))
        self._rib.import_routes(vrf.name, family, prefixes, self._path(path, origin, vrf, family, ""))
        for prefix, why in vrf.on_link(family, prefixes):
            self._rib.import_routes(vrf.name, family, [prefix], self._path(path, origin, vrf, family, why))

    def _path(self, path: Path, origin: _Origin, vrf: Vrf, family: Family, rejected: str) -> Path:
        """The path of a VRF's route: the received one by another source, with a next hop that is yet to be resolved."""
        by_place = self._paths.get(path)
        if by_place is None:
            if len(self._paths) >= _PATHS_KEPT:
                self._paths.clear()
            by_place = self._paths[path] = {}
        place = (origin.source, vrf.name, family, rejected)
        known = by_place.get(place)
        if known is None:
            is_prefix = origin.kind == _IP_PREFIX
            next_hop = vrf.next_hop_of(path, neighbor=origin.neighbor, family=family, is_prefix=is_prefix)
            via = Via(origin.source, next_hop, path.heard_at, rejected, path.overlay)
            known = Path(via, path.attributes, path.received)
            by_place[place] = known
        return known


def _pseudo_source(neighbor: Source, head: bytes) -> Source:
    """The source of VRF routes that a neighbor advertises with one (route type, RD, Ethernet tag), `head`.

    The router ID is taken from a route distinguisher of type 1: it is that of the originating host.
    """
    kind, rd, tag = head[0], head[1:9], int.from_bytes(head[9:13])
    name = f"{neighbor.name} rd {format_route_distinguisher(rd)} type-{kind}"
    return Source(
        name=f"{name} tag {tag}" if tag else name,
        kind=SourceKind.EVPN,
        asn=neighbor.asn,
        router_id=rd[2:6] if rd[:2] == b"\0\x01" else neighbor.router_id,
        address=neighbor.address,
        interface=neighbor.interface,
        origin=origin_of(rd),
    )
