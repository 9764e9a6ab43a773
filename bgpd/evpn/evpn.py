"""EVPN for the daemon: one object that is told what happens, and that tells RIB, FIB and workloads what follows.

Joins the parts of this package; decides only in which order they hear. The EVPN table, the VRFs' tables, policy and
decisions are the RIB's; kernel tables are the FIB's. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Collection, Iterator, Mapping, Sequence
from itertools import islice

from bgpd.config.schema import EvpnConfig, VrfConfig
from bgpd.evpn.endpoints import MobilityWatch
from bgpd.evpn.importer import Importer, VrfTables
from bgpd.evpn.mac_mobility import Remote, decode_mobility
from bgpd.evpn.originate import EVPN_SOURCE, Originator
from bgpd.evpn.ports import EvpnPorts
from bgpd.evpn.resolve import Uplink, vrf_of
from bgpd.evpn.route_targets import Memberships, OwnMemberships
from bgpd.evpn.uplinks import Uplinks
from bgpd.evpn.vrf import Vrf, VrfEvents
from bgpd.kernel.host import Host
from bgpd.model.attributes import Attributes
from bgpd.model.evpn import origin_of
from bgpd.model.iana import Family
from bgpd.model.kernel import KernelEvent
from bgpd.model.path import NextHop, NextHops, Path, RouteBatch, Source, SourceKind
from bgpd.model.workload import ClaimInfo, Presence
from bgpd.runtime.shared_state import changes_shared_state

_SLICE = 1024
"""EVPN routes of one step of an import of all."""
_UNICAST = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)


class Evpn:
    """All VRFs of this host, by name in `vrfs`."""

    def __init__(self, config: EvpnConfig, ports: EvpnPorts, host: Host) -> None:
        self.vrfs: dict[str, Vrf] = {}
        self._config = config
        self._ports = ports
        self.rib = ports.rib
        self._retired: dict[str, Vrf] = {}
        self._events = VrfEvents(
            host_route=self._host_route,
            expansion_changed=ports.expansion_changed,
            next_hop_changed=ports.next_hop_changed,
        )
        self._uplinks = Uplinks(host)
        self._uplink_names: frozenset[str] = frozenset()
        self._deadline: float | None = None
        self._converged = False
        self._imports = 0
        self._memberships = Memberships()
        self._own_memberships = OwnMemberships()
        self.originator = Originator(ports.rib)
        self.mobility = MobilityWatch(
            origin=lambda vrf: origin_of(self.vrfs[vrf].rd),
            remote=self._remote,
            announce=self.originator.endpoints_changed,
            given_up=ports.moved,
            former=ports.former,
            presence_changed=ports.presence_changed,
        )
        self.importer = Importer(
            VrfTables(
                announce=self.rib.import_routes,
                withdraw=self.rib.withdraw_imported,
                remove=self.rib.remove_imported,
                current=self._current,
                remote_changed=self._remote_changed,
                gateway_changed=lambda vrf: self._refresh_uplinks(),
            )
        )

    def start(self) -> None:
        """Put the configured VRFs to use; events may come from now on."""
        self._use(self._config)

    # Configuration

    def reconfigure(self, config: EvpnConfig) -> None:
        """Use other VRFs; those that stay as they are notice nothing."""
        if config.vrf != self._config.vrf or config.router != self._config.router:
            self._use(config)
        self._config = config

    def _use(self, config: EvpnConfig) -> None:
        wanted = {one.name: one for one in config.vrf}
        for name in [name for name in self.vrfs if name not in wanted]:
            self._remove(name)
        for name, settings in wanted.items():
            known = self.vrfs.get(name)
            if known is None:
                self._add(settings, config)
            elif known.config != settings or config.router != self._config.router:
                known.configure(settings, config.router)
                self.originator.vrf_removed(name)
                self._tell_all_of(known)
        self.importer.use(self.vrfs.values())
        self._uplink_names = frozenset(uplink for one in config.vrf for uplink in one.uplinks)
        self._refresh_uplinks()
        self._tell_memberships(config)
        self._imports += 1
        self._ports.run(self._import_anew())

    def _tell_memberships(self, config: EvpnConfig) -> None:
        """Ask for the route targets that are imported (RFC 4684), before routes with them are due."""
        targets = {target for vrf in self.vrfs.values() for target in vrf.import_targets}
        fresh, gone = self._own_memberships.change(config.router.asn, targets)
        if fresh:
            self.rib.announce_local(EVPN_SOURCE, Family.ROUTE_TARGET, fresh, Attributes(), overlay=None)
        if gone:
            self.rib.withdraw_local(EVPN_SOURCE, Family.ROUTE_TARGET, gone)

    def _add(self, settings: VrfConfig, config: EvpnConfig) -> None:
        vrf = self._retired.pop(settings.name, None)
        if vrf is None:
            vrf = Vrf(settings, config.router, self._events)
        else:
            vrf.configure(settings, config.router)
        self.vrfs[vrf.name] = vrf
        self.importer.follow(vrf.name, self.mobility.followed.setdefault(vrf.name, set()))
        self._tell_all_of(vrf)

    def _tell_all_of(self, vrf: Vrf) -> None:
        self.originator.vrf_added(vrf)
        for family in _UNICAST:
            self.local_changed(vrf.name, family, list(self.rib.table(vrf.name, family).local))
        if vrf.config.originate == "all":
            self._ports.run(self._tell_learned(vrf.name))
        self.mobility.tell_again(vrf.name)

    def _tell_learned(self, vrf: str) -> Iterator[None]:
        """Tell what neighbors in a VRF have announced already, in slices."""
        for family in _UNICAST:
            keys = iter(list(self.rib.table(vrf, family).routes))
            while chosen := list(islice(keys, _SLICE)):
                self.fib_acknowledged(vrf, family, chosen)
                yield

    def _remove(self, name: str) -> None:
        vrf = self._retired[name] = self.vrfs.pop(name)
        self.mobility.vrf_removed(name)
        self.originator.vrf_removed(name)
        vrf.uplinks_changed({})
        self._ports.run(self.importer.remove_vrf(name))

    # Received routes

    def evpn_received(self, source: Source, keys: Sequence[bytes], path: Path | None) -> None:
        """EVPN routes of a neighbor after import policy; path None: withdrawn, rejected or lost (Rib.evpn_received)."""
        self.importer.received(source, keys, path)

    def _import_anew(self) -> Iterator[None]:
        """Import for VRFs that came or changed; what other hosts have of theirs is known after that."""
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

    def _current(self, neighbor: str, key: bytes) -> Path | None:
        decision = self.rib.table("", Family.L2VPN_EVPN).routes.get(key)
        for path in decision.candidates if decision is not None else ():
            if path.source.name == neighbor and not path.rejected:
                return path
        return None

    def neighbor_up(self, source: Source, families: Collection[Family] = ()) -> None:
        """A session is established with these families; to be told before the RIB."""
        if Family.ROUTE_TARGET in families:
            self._memberships.neighbor_up(source)
        self._uplinks.neighbor_up(source)
        self._refresh_uplinks()

    def neighbor_down(self, source: Source) -> None:
        """It ended: its leaf is a gateway no more, at once; its routes go in slices."""
        self._memberships.neighbor_down(source)
        self._uplinks.neighbor_down(source)
        self._refresh_uplinks()
        self._ports.run(self.importer.forget(source))

    def memberships_received(self, source: Source, batch: RouteBatch) -> bool:
        """A neighbor asks for route targets (a batch of family "route-target", beside telling the RIB).

        Returns whether it is to be told its EVPN routes again.
        """
        return self._memberships.received(source, batch)

    # Resolution

    def resolve(self, vrf: str, next_hop: NextHop) -> str:
        """Why a next hop of an EVPN route in this VRF does not resolve, or ""; for others ask the VRF's FIB."""
        where = self.vrfs.get(vrf)
        return where.resolve(next_hop) if where is not None else f"there is no VRF {vrf}"

    def expand(self, next_hop: NextHop) -> NextHops:
        """What the FIB forwards by in place of a next hop: itself, unless it is one that EVPN resolves."""
        name = vrf_of(next_hop)
        if not name:
            return (next_hop,)
        vrf = self.vrfs.get(name)
        return vrf.expand(next_hop) if vrf is not None else ()

    def routes_changed(self, vrf: str, family: Family, changes: Mapping[bytes, NextHops | None]) -> None:
        """The RIB gave these keys of a VRF other next hops (`fib_changed`); to be told before the FIB."""
        where = self.vrfs.get(vrf)
        if where is not None:
            where.host_routes_changed(family, changes.keys())
            if where.config.originate == "all":
                told = self.originator.told_prefixes(vrf, family, changes.keys())
                self.local_changed(vrf, family, [key for key in told if self._announced(vrf, family, key) is None])

    def _host_route(self, vrf: str, address: bytes) -> NextHops | None:
        decision = self.rib.table(vrf, _family_of(address)).routes.get(_host_prefix(address))
        if decision is None:
            return None
        if decision.is_local:
            return ()
        hosts = self.importer.host_sources
        chosen = [path for path in decision.multipath if path.source in hosts]
        chosen = chosen or [path for path in decision.candidates if path.source in hosts and not path.rejected]
        return tuple(dict.fromkeys(path.next_hop for path in chosen if path.next_hop is not None)) or None

    def kernel_changed(self, event: KernelEvent) -> None:
        """The host changed."""
        if self._uplinks.rest_on(event, self._uplink_names):
            self._refresh_uplinks()

    @changes_shared_state
    def _refresh_uplinks(self) -> None:
        """Work out the uplinks anew: what resolves by them, what is told of them, and which gateway whom is told."""
        is_import_due = False
        resend: dict[str, None] = {}
        for vrf in self.vrfs.values():
            gateways = self.importer.gateways(vrf.name)
            uplinks = self._uplinks.of(vrf.config, former=vrf.uplinks, announced_gateways=gateways)
            before = _told_gateways(vrf.uplinks)
            is_import_due |= vrf.uplinks_changed(uplinks)
            self.originator.uplinks_changed(vrf.name, uplinks.values(), self._uplinks.mac)
            resend.update(dict.fromkeys(name for name, _ in before.symmetric_difference(_told_gateways(vrf.uplinks))))
        for neighbor in resend:
            self._ports.resend(neighbor)
        if is_import_due:
            self._ports.run(self._import_all())

    # This host's routes

    def local_changed(self, vrf: str, family: Family, keys: Collection[bytes]) -> None:
        """This host's own routes of these keys of a VRF came, changed, went, or are stood for by an aggregate."""
        if vrf in self.vrfs and keys:
            self.originator.prefixes_changed(vrf, family, {key: self._announced(vrf, family, key) for key in keys})

    def fib_acknowledged(self, vrf: str, family: Family, keys: Collection[bytes]) -> None:
        """The kernel has the present routes of these keys: those of neighbors in the VRF may be told, if they shall."""
        where = self.vrfs.get(vrf)
        if where is not None and where.config.originate == "all":
            paths = {key: path for key in keys if (path := self._announced(vrf, family, key)) is not None}
            self.originator.prefixes_changed(vrf, family, paths)

    def _announced(self, vrf: str, family: Family, key: bytes) -> Path | None:
        """The path that a prefix is told EVPN for: of this host, or of a neighbor in the VRF; None: it is not told."""
        table = self.rib.table(vrf, family)
        decision = table.routes.get(key)
        if decision is None or not decision.multipath:
            return None
        best = decision.multipath[0]
        if decision.is_local:
            return None if key in table.suppressed else best
        is_passed_on = self.vrfs[vrf].config.originate == "all" and best.source.kind is not SourceKind.EVPN
        return best if is_passed_on else None

    def workloads_announced(self, vrf: str, family: Family, keys: Sequence[bytes], info: ClaimInfo) -> None:
        """The workload table announces these; to be told after the RIB."""
        if vrf in self.vrfs:
            self.mobility.workloads_announced(vrf, family, keys, info, now=self._ports.now())
            self._arm()

    def workloads_withdrawn(self, vrf: str, family: Family, keys: Sequence[bytes]) -> None:
        """The workload table announces these no more."""
        if vrf in self.vrfs:
            self.mobility.workloads_withdrawn(vrf, keys)

    def workload_resumed(self, vrf: str, family: Family, key: bytes, info: ClaimInfo, known: Presence) -> None:
        """The workload table keeps this one as moved, as an earlier run, or before its VRF went, said."""
        if vrf in self.vrfs:
            self.mobility.resume(vrf, key, info, known)
            self._look_for_free_endpoints()

    def converged(self) -> None:
        """All that neighbors have to announce at the start was heard."""
        self._converged = True
        self._look_for_free_endpoints()

    def _look_for_free_endpoints(self) -> None:
        if self._converged and not self._imports:
            self.mobility.all_heard(self._ports.now())

    def for_neighbor(self, source: Source, batch: RouteBatch) -> list[RouteBatch]:
        """What is sent to a neighbor in place of a batch of the RIB's: with the gateway IP that it reaches us by."""
        return self.originator.for_neighbor(self._memberships.filtered(batch, source.name), source.name)

    # Mobility

    def _remote(self, vrf: str, prefix: bytes) -> Remote | None:
        """The best remote type 2 route of a host prefix: the highest sequence, then the lowest origin."""
        decision = self.rib.table(vrf, _family_of(prefix[1:])).routes.get(prefix)
        found = [
            (decode_mobility(path.attributes.extended_communities), path.source.origin)
            for path in (decision.candidates if decision is not None else ())
            if path.source in self.importer.host_sources
        ]
        if not found:
            return None
        mobility, origin = min(found, key=lambda one: (-one[0].sequence, one[1]))
        return Remote(mobility, origin)

    @changes_shared_state
    def _remote_changed(self, vrf: str, family: Family, prefixes: list[bytes]) -> None:
        self.mobility.remote_changed(vrf, prefixes, now=self._ports.now())
        self._arm()

    def _arm(self) -> None:
        """See to it that frozen endpoints are looked at when their time has come."""
        deadline = self.mobility.next_deadline()
        if deadline is not None and (self._deadline is None or deadline < self._deadline):
            self._deadline = deadline
            self._ports.call_at(deadline, self._expired)

    def _expired(self) -> None:
        self._deadline = None
        self.mobility.expired(self._ports.now())
        self._arm()


def _told_gateways(uplinks: Sequence[Uplink]) -> set[tuple[str, bytes]]:
    """By neighbor, this host's addresses that it is told as gateway IPs."""
    return {
        (uplink.neighbor, address)
        for uplink in uplinks
        if uplink.up and uplink.neighbor
        for address in (uplink.address_for(4), uplink.address_for(16))
        if address
    }


def _family_of(address: bytes) -> Family:
    return Family.IPV4_UNICAST if len(address) == 4 else Family.IPV6_UNICAST


def _host_prefix(address: bytes) -> bytes:
    return bytes((8 * len(address),)) + address
