"""EVPN for the daemon: notifies the parts of this package, in the right order, of changed sessions, routes and VRFs.

Decides only that order. The EVPN table, the VRFs' tables, policy and decisions are the RIB's; kernel tables are the
FIB's. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from itertools import islice

from bgpd.config.schema import EvpnConfig, VrfConfig
from bgpd.evpn.endpoints import Endpoints
from bgpd.evpn.importer import Importer, ReceivedKeys
from bgpd.evpn.originate import EVPN_SOURCE, Originator
from bgpd.evpn.ports import ClaimPort, KernelPort, PresencePort, RibPort, WalkPort
from bgpd.evpn.resolve import vrf_of
from bgpd.evpn.route_targets import Memberships, OwnMemberships
from bgpd.evpn.uplinks import SavedGateway, Uplinks
from bgpd.evpn.vrf import Vrf
from bgpd.evpn.vrf_routes import VrfRoutes
from bgpd.kernel.host import Host
from bgpd.model.attributes import Attributes
from bgpd.model.iana import UNICAST, Family
from bgpd.model.kernel import KernelEvent
from bgpd.model.next_hop import NextHop, NextHops
from bgpd.model.path import Path
from bgpd.model.route_batch import RouteBatch
from bgpd.model.source import Source
from bgpd.model.workload import ClaimInfo, Presence
from bgpd.runtime.shared_state import changes_shared_state
from bgpd.runtime.turns import Clock

_SLICE = 1024
"""EVPN routes of one step of an import of all."""


class Evpn:
    """All VRFs of this host, by name in `vrfs`. Call `connect`, then `start`, before anything else."""

    def __init__(
        self, config: EvpnConfig, *, host: Host, rib: RibPort, kernel: KernelPort, walks: WalkPort, clock: Clock
    ) -> None:
        self.vrfs: dict[str, Vrf] = {}
        self.rib = rib
        self._config = config
        self._kernel = kernel
        self._walks = walks
        self._retired: dict[str, Vrf] = {}
        self._uplinks = Uplinks(host)
        self._converged = False
        self._is_adopting = False
        self._imports = 0
        self._removals: dict[Iterator[None], None] = {}
        self._memberships = Memberships()
        self._own_memberships = OwnMemberships()
        self.originator = Originator(rib)
        self.importer = Importer(rib, self, walks.run)
        self._routes = VrfRoutes(rib, self.importer)
        self.endpoints = Endpoints(self.vrfs, self._routes, self.originator, clock)

    def use_kernel(self, kernel: KernelPort) -> None:
        """In place of the one that it was made with."""
        self._kernel = kernel

    def connect(self, *, claims: ClaimPort, presences: PresencePort) -> None:
        """Workloads, which are made with this object in hand."""
        self.endpoints.connect(claims=claims, presences=presences)

    def start(self, *, is_adopting: bool = False) -> None:
        """Put the configured VRFs to use; events may come from now on. `is_adopting`: there are sessions that another
        process has left, and what they were sent is not known before `go_on`."""
        self._is_adopting = is_adopting
        self._use(self._config)

    def gateways(self) -> list[SavedGateway]:
        """The gateway IPs that neighbors were sent, for another process."""
        return [
            SavedGateway(name, neighbor, address)
            for name, vrf in self.vrfs.items()
            for neighbor, address in sorted(vrf.gateway_ips)
        ]

    def go_on(self, told: Collection[SavedGateway] | None) -> None:
        """What the adopted sessions were sent is known, with the gateway IPs `told` (None: which is not known): who has
        others now is sent all again."""
        self._is_adopting = False
        now = set(self.gateways())
        changed = now.symmetric_difference(told) if told is not None else now
        self._send_again(sorted({one.neighbor for one in changed if one.vrf in self.vrfs}))

    # Configuration

    def reconfigure(self, config: EvpnConfig) -> None:
        """Use other VRFs; those that stay as they are notice nothing."""
        self._use(config)
        self._config = config

    def _use(self, config: EvpnConfig) -> None:
        wanted = {one.name: one for one in config.vrf}
        before = {vrf.rd: (vrf.name, vrf.gateway_ips) for vrf in self.vrfs.values()}
        for name in [name for name in self.vrfs if name not in wanted]:
            self._remove(name)
        changed = []
        for name, known in self.vrfs.items():
            if known.config != wanted[name] or config.router != self._config.router:
                self.originator.vrf_removed(name)  # of all before any is advertised anew: it may have another's RD now
                known.configure(wanted[name], config.router)
                changed.append(known)
        for known in changed:
            self._advertise_all_of(known)
        changed += [self._add(settings, config) for name, settings in wanted.items() if name not in self.vrfs]
        self.importer.use(self.vrfs.values())
        self._refresh_uplinks(changed)
        self._say_gateways_again(before)
        self._advertise_memberships(config)
        self._imports += 1
        self._walks.run(self._import_anew())

    def tenants(self) -> list[tuple[str, bytes, list[bytes]]]:
        """The VRFs: name, route distinguisher, and the route targets that are taken in."""
        return [(vrf.name, vrf.rd, list(vrf.import_targets)) for vrf in self.vrfs.values()]

    def _advertise_memberships(self, config: EvpnConfig) -> None:
        """Ask for the route targets that are imported (RFC 4684), before routes with them are due."""
        targets = {target for vrf in self.vrfs.values() for target in vrf.import_targets}
        fresh, gone = self._own_memberships.change(config.router.asn, targets)
        if fresh:
            self.rib.announce_local(EVPN_SOURCE, Family.ROUTE_TARGET, fresh, Attributes.of(), overlay=None)
        if gone:
            self.rib.withdraw_local(EVPN_SOURCE, Family.ROUTE_TARGET, gone)

    def _add(self, settings: VrfConfig, config: EvpnConfig) -> Vrf:
        vrf = self._retired.pop(settings.name, None)
        if vrf is None:
            vrf = Vrf(settings, config.router, host_routes=self._routes, listener=self)
        else:
            vrf.configure(settings, config.router)
        self.vrfs[vrf.name] = vrf
        self.importer.follow(vrf.name, self.endpoints.followed.setdefault(vrf.name, set()))
        self._advertise_all_of(vrf)
        return vrf

    def _advertise_all_of(self, vrf: Vrf) -> None:
        self.originator.vrf_added(vrf)
        for family in UNICAST:
            self.local_changed(vrf.name, family, list(self.rib.table(vrf.name, family).local))
        if vrf.config.originate == "all":
            self._walks.run(self._advertise_learned(vrf.name))
        self.endpoints.advertise_again(vrf.name)

    def _advertise_learned(self, vrf: str) -> Iterator[None]:
        """Advertise what neighbors in a VRF have announced already, in slices."""
        for family in UNICAST:
            keys = iter(list(self.rib.table(vrf, family).routes))
            while chosen := list(islice(keys, _SLICE)):
                self.fib_acknowledged(vrf, family, chosen)
                yield

    def _remove(self, name: str) -> None:
        vrf = self._retired[name] = self.vrfs.pop(name)
        self.endpoints.vrf_removed(name)
        self.originator.vrf_removed(name)
        vrf.uplinks_changed({})
        self._removals[self.importer.remove_vrf(name)] = None

    # Received routes

    def evpn_received(self, source: Source, keys: Sequence[bytes], path: Path | None) -> None:
        """EVPN routes of a neighbor after import policy; path None: withdrawn, rejected, stale, or lost."""
        self.importer.received(source, keys, path)

    def few_received(self, source: Source, heard: Sequence[tuple[Path, bytes]]) -> None:
        """EVPN routes of a neighbor after import policy, which may be used, in this order; hardly two share a path."""
        self.importer.few_received(source, heard)

    def _import_anew(self) -> Iterator[None]:
        """Import for VRFs that came or changed; what other hosts have of theirs is known after that.

        A VRF may be back before it was emptied: that is done first, or it would take what is imported anew.
        """
        for removal in tuple(self._removals):
            yield from removal
            self._removals.pop(removal, None)
        yield from self._import_all()
        self._imports -= 1
        self._look_for_free_endpoints()

    def _import_all(self) -> Iterator[None]:
        """Import what is in the EVPN table, in slices."""
        table = self.rib.table("", Family.L2VPN_EVPN)
        keys = iter(list(table.routes) if self.vrfs else ())
        while chosen := list(islice(keys, _SLICE)):
            by_path: dict[Path, list[bytes]] = {}
            for key in chosen:
                decision = table.routes.get(key)
                for path in decision.candidates if decision is not None else ():
                    if not path.source.is_local:
                        by_path.setdefault(path, []).append(key)
            for path, group in by_path.items():
                self.importer.received(path.source, group, None if path.rejected else path)
            yield

    def neighbor_up(self, source: Source, families: Collection[Family] = ()) -> None:
        """A session is established with these families; to be called before the RIB hears of it.

        One without EVPN says nothing of uplinks: a router inside a VRF may be the same leaf, at its address there.
        """
        if Family.ROUTE_TARGET in families:
            self._memberships.neighbor_up(source)
        self.importer.neighbor_up(source)
        if Family.L2VPN_EVPN in families:
            self._uplinks.neighbor_up(source)
            self._refresh_uplinks(self._led_to(source))

    def neighbor_down(self, source: Source) -> None:
        """A session ended: its leaf stops being a gateway at once; its routes are removed in slices."""
        self._memberships.neighbor_down(source)
        self._uplinks.neighbor_down(source)
        self._refresh_uplinks(self._led_to(source))
        self._walks.run(self.importer.forget(source))

    def neighbor_away(self, source: Source) -> None:
        """A session ended, and its routes are kept while the neighbor restarts: its leaf forwards on."""
        self._memberships.neighbor_down(source)

    def routes_lost(self, source: Source) -> None:
        """The EVPN routes of a former session are removed, in slices; other routes of it are kept on."""
        self._walks.run(self.importer.forget(source))

    def memberships_received(self, source: Source, batch: RouteBatch) -> bool:
        """A neighbor asks for route targets; whether it must be sent its EVPN routes again."""
        return self._memberships.received(source, batch)

    # Resolution

    def why_unreachable(self, vrf: str, next_hop: NextHop) -> str:
        """Why a next hop of an EVPN route in this VRF does not resolve, or ""; for others ask the VRF's FIB."""
        where = self.vrfs.get(vrf)
        return where.why_unreachable(next_hop) if where is not None else f"there is no VRF {vrf}"

    def forget_next_hops(self, vrf: str, next_hops: Collection[NextHop]) -> None:
        """No route of a VRF has these any more: a neighbor may name ever new ones."""
        where = self.vrfs.get(vrf)
        if where is not None:
            where.forget(next_hops)

    def received_keys(self, neighbors: Collection[str]) -> ReceivedKeys:
        """For one query: which EVPN route (neighbor and key) became a VRF's route of a source."""
        return self.importer.received_keys(neighbors)

    def resolve(self, next_hop: NextHop) -> NextHops:
        """What the FIB forwards by in place of a next hop: itself, unless it is one that EVPN resolves."""
        name = vrf_of(next_hop)
        if not name:
            return (next_hop,)
        vrf = self.vrfs.get(name)
        return vrf.resolve(next_hop) if vrf is not None else ()

    def resolution_changed(self, vrf: str, next_hop: NextHop, why: str) -> None:
        """A recursive next hop leads elsewhere now (VrfListener); `why` it leads nowhere, or ""."""
        self._kernel.resolution_changed(vrf, next_hop)
        self._walks.run(self.rib.next_hop_changed(next_hop, why, vrf=vrf))

    def routes_changed(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """The RIB gave these keys of a VRF other next hops; to be called before the kernel's tables hear it."""
        where = self.vrfs.get(vrf)
        if where is not None:
            where.host_routes_changed(family, changes.keys())
            if where.config.originate == "all":
                known = self.originator.advertised(vrf, family, changes.keys())
                gone = [key for key in known if self._routes.advertised(where, family, key) is None]
                self.local_changed(vrf, family, gone)

    def kernel_changed(self, event: KernelEvent) -> None:
        """The host changed."""
        concerned = [vrf for vrf in self.vrfs.values() if self._uplinks.rest_on(event, vrf.config.uplinks)]
        if concerned:
            self._refresh_uplinks(concerned)

    def _led_to(self, neighbor: Source) -> list[Vrf]:
        """The VRFs of which an uplink may lead to the neighbor."""
        self._uplinks.look_again()
        return [vrf for vrf in self.vrfs.values() if self._uplinks.may_lead(vrf.config, vrf.uplinks, neighbor)]

    def default_gateways_changed(self, vrf: str) -> None:
        """A type 2 route of a default gateway came or went (ImportListener)."""
        where = self.vrfs.get(vrf)
        if where is not None:
            self._refresh_uplinks([where])

    @changes_shared_state
    def _refresh_uplinks(self, vrfs: Iterable[Vrf]) -> None:
        """Recompute the uplinks of these VRFs: what resolves by them, what is advertised of them, and each neighbor's
        gateway IP.
        """
        self._uplinks.look_again()
        is_import_due = False
        due: dict[str, None] = {}
        for vrf in vrfs:
            gateways = self.importer.gateways(vrf.name)
            uplinks = self._uplinks.of(vrf.config, former=vrf.uplinks, announced_gateways=gateways)
            before = vrf.gateway_ips
            is_import_due |= vrf.uplinks_changed(uplinks)
            self.originator.uplinks_changed(vrf.name, uplinks.values(), self._uplinks.mac)
            due.update(dict.fromkeys(name for name, _ in before.symmetric_difference(vrf.gateway_ips)))
        if not self._is_adopting:
            self._send_again(due)
        if is_import_due:
            self._walks.run(self._import_all())

    def _say_gateways_again(self, before: Mapping[bytes, tuple[str, set[tuple[str, bytes]]]]) -> None:
        """A route may be another VRF's now, which has the route distinguisher; with equal attributes it did not change,
        and its gateway IP did. `before`: whose each was, and the gateway IP that neighbors had."""
        due: set[str] = set()
        for vrf in self.vrfs.values():
            name, gateways = before.get(vrf.rd, (vrf.name, set()))
            if name != vrf.name:
                due.update(neighbor for neighbor, _ in gateways ^ vrf.gateway_ips)
        if not self._is_adopting:
            self._send_again(sorted(due))

    def _send_again(self, neighbors: Iterable[str]) -> None:
        for name in neighbors:
            source = self._uplinks.neighbor(name)
            if source is not None:
                self.rib.received.refresh_requested(source, Family.L2VPN_EVPN)

    # This host's routes

    def local_changed(self, vrf: str, family: Family, keys: Collection[bytes]) -> None:
        """This host's own routes of these keys of a VRF came, changed, went, or are stood for by an aggregate."""
        where = self.vrfs.get(vrf)
        if where is not None and keys:
            paths = {key: self._routes.advertised(where, family, key) for key in keys}
            self.originator.prefixes_changed(vrf, family, paths)

    def fib_acknowledged(self, vrf: str, family: Family, keys: Collection[bytes]) -> None:
        """The kernel has the present routes of these keys: those of neighbors in the VRF may be advertised now."""
        where = self.vrfs.get(vrf)
        if where is not None and where.config.originate == "all":
            found = ((key, self._routes.advertised(where, family, key)) for key in keys)
            self.originator.prefixes_changed(vrf, family, {key: path for key, path in found if path is not None})

    def workloads_announced(self, vrf: str, family: Family, keys: Sequence[bytes], info: ClaimInfo) -> None:
        """The workload table announces these; to be called after the RIB has them."""
        if vrf in self.vrfs:
            self.endpoints.workloads_announced(vrf, family, keys, info)

    def workloads_withdrawn(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The workload table no longer announces these."""
        if vrf in self.vrfs:
            self.endpoints.workloads_withdrawn(vrf, keys)

    def workloads_gone(self, vrf: str, keys: Sequence[bytes]) -> None:
        """Nobody claims these addresses any more."""
        if vrf in self.vrfs:
            self.endpoints.workloads_gone(vrf, keys)

    def workload_resumed(self, vrf: str, family: Family, key: bytes, info: ClaimInfo, known: Presence) -> None:
        """The workload table keeps this one as moved, as an earlier run, or before its VRF went, said."""
        if vrf in self.vrfs:
            self.endpoints.resume(vrf, key, info, known)
            self._look_for_free_endpoints()

    def presence(self, vrf: str, family: Family, key: bytes) -> Presence | None:
        """What `workload_resumed` needs of a workload after a restart; None for what is no endpoint of this host."""
        return self.endpoints.presence(vrf, key)

    @changes_shared_state
    def remote_hosts_changed(self, vrf: str, family: Family, prefixes: list[bytes]) -> None:
        """What neighbors advertise for these addresses of this host's endpoints changed (ImportListener)."""
        self.endpoints.remote_changed(vrf, prefixes)

    def converged(self) -> None:
        """All neighbors have sent their initial routes."""
        self._converged = True
        self._look_for_free_endpoints()

    def imports_done(self) -> None:
        """Nothing waits to be imported any more (ImportListener)."""
        self._look_for_free_endpoints()

    @property
    def is_importing(self) -> bool:
        """Whether not all that neighbors have sent is in the VRFs."""
        return bool(self._imports) or self.importer.is_busy

    def _look_for_free_endpoints(self) -> None:
        if self._converged and not self.is_importing:
            self.endpoints.all_heard()

    def prefix_of(self, key: bytes) -> tuple[str, Family, bytes] | None:
        """VRF, family and route key of the prefix that one of this host's EVPN routes is about; None: of no prefix."""
        return self.originator.prefix_of(key)

    def for_neighbor(self, source: Source, batch: RouteBatch) -> list[RouteBatch]:
        """What is sent to a neighbor in place of a batch of the RIB's: with the gateway IP that it reaches us by."""
        return self.originator.for_neighbor(self._memberships.filtered(batch, source.name), source.name)
