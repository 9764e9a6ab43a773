"""The routes of a VRF as an MRT table (RFC 6396 TABLE_DUMP_V2): `GET /v1/mrt`, `bgpd mrt dump`.

All paths of each prefix, as their neighbors announced them, before policy; those of this host itself have peer 0. Reads
the RIB a few hundred prefixes at a time; what changes meanwhile is in it as it is then.
"""

from __future__ import annotations

import socket
import time
from collections.abc import Iterator

from bgpd.config.schema import RouterConfig
from bgpd.message.evpn_nlri import EvpnNlri
from bgpd.message.mrt import MrtPeer, RibEntry, peer_index_table, rib_record
from bgpd.message.mrt_attributes import rib_attributes
from bgpd.model.iana import UNICAST, Family
from bgpd.model.path import Path
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.rib import Rib

_FAMILIES = (*UNICAST, Family.L2VPN_EVPN)
_STEP = 256
_BLOCKS_KEPT = 4096


def table_dump(rib: Rib, vrf: str, *, router: RouterConfig) -> Iterator[bytes]:
    """The records, some at a time."""
    collector = MrtPeer(socket.inet_aton(router.router_id), bytes(4), int(router.asn))
    states = [state for state in rib.received.states_to_save() if state.config.vrf == vrf and not state.source.guest]
    sources = {state.source.name: state.source for state in states}
    numbers = {name: number for number, name in enumerate(sources, 1)}
    peers = [MrtPeer(source.router_id, source.address or bytes(4), source.asn) for source in sources.values()]
    now = time.time()
    yield peer_index_table(now, collector=collector.router_id, view=vrf, peers=[collector, *peers])
    writer = _Writer(now, numbers)
    for family in _FAMILIES:
        table = rib.tables.get((vrf, family))
        if table is not None:
            yield from writer.of_table(table, family)


class _Writer:
    """Numbers the records."""

    def __init__(self, at: float, peers: dict[str, int]) -> None:
        self._at = at
        self._peers = peers
        self._codec = EvpnNlri()
        self._sequence = 0
        self._blocks: dict[tuple[bytes, bytes, Family], bytes] = {}

    def of_table(self, table: LocRib, family: Family) -> Iterator[bytes]:
        for keys in table.routes.slices(_STEP):
            records: list[bytes] = []
            for key in keys:
                decision = table.routes.get(key)
                if decision is not None:
                    records += self._records(table, family, key, decision.candidates)
            yield b"".join(records)

    def _records(self, table: LocRib, family: Family, key: bytes, paths: tuple[Path, ...]) -> Iterator[bytes]:
        """One record; of EVPN one for each path, whose labels are part of the NLRI."""
        entries = [(self._entry(path, family), path) for path in paths if self._peer(path) is not None]
        if family is Family.L2VPN_EVPN:
            for entry, path in entries:
                yield self._record(family, self._codec.encode(key, table.labels.overlay(path, key)), [entry])
        elif entries:
            yield self._record(family, key, [entry for entry, _ in entries])

    def _record(self, family: Family, nlri: bytes, entries: list[RibEntry]) -> bytes:
        record = rib_record(self._at, self._sequence, family, nlri, entries)
        self._sequence += 1
        return record

    def _peer(self, path: Path) -> int | None:
        """None: of a session that came up since the table was begun, with a neighbor that it does not name."""
        return 0 if not path.source.address else self._peers.get(path.source.name)

    def _entry(self, path: Path, family: Family) -> RibEntry:
        hop = path.next_hop.address if path.next_hop is not None else b""
        hop = hop or bytes(16 if family is Family.IPV6_UNICAST else 4)
        known = path.received.block, hop, family
        packed = self._blocks.get(known)
        if packed is None:
            packed = rib_attributes(*known)
            if len(self._blocks) >= _BLOCKS_KEPT:
                self._blocks.clear()
            self._blocks[known] = packed
        return RibEntry(self._peer(path) or 0, int(path.heard_at), packed)
