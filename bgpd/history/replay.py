"""Works out from the history what the table of a VRF had for one address, and how that came about.

The records pass the same code as the routes once did (decoder, import policy, decision), but only the few prefixes that
cover the address. What is not known (damaged files, a process that ended without a word) is said in `problem`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from typing import Any

import msgspec

from bgpd.config.schema import RibConfig
from bgpd.config.schema_sessions import ListenConfig, NeighborConfig, SessionConfig
from bgpd.config.sections import section_of
from bgpd.history.course import ANEW, Course
from bgpd.history.messages import Decoders, Message
from bgpd.history.prefixes import Prefixes, imported
from bgpd.history.records import (
    Allowed,
    AnyRecord,
    BaseBegan,
    BaseEnded,
    Configured,
    Discarded,
    Ended,
    Heard,
    Imported,
    ImportSource,
    ImportsRemoved,
    ImportsWithdrawn,
    Local,
    LongLived,
    Lost,
    OwnAddress,
    Reachable,
    RefreshBegan,
    RefreshEnded,
    Removed,
    Session,
    SessionClosed,
    Started,
    State,
    Tenants,
    Told,
)
from bgpd.history.told import Audience
from bgpd.history.wanted import Wanted
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.prefix import parse_address
from bgpd.model.source import Source, SourceKind
from bgpd.rib.adj_rib_in import AdjRibIn, forbids_long_lived
from bgpd.rib.guest_policy import import_policy
from bgpd.rib.stale import Kept

_NOT_IMPORTED = "no EVPN route of it is imported any more"
_SOON_S = 5.0
"""So long after its UPDATE a route that goes into very many VRFs may come into the last of them."""


class Standing(msgspec.Struct):
    """A neighbor's session: whether it is there, since when it is so, and why it ended."""

    established: bool
    since: float
    reason: str = ""


class _Known:
    """A session that is, or of which routes are left. `stale`: keys that a refresh has not named again so far."""

    def __init__(self, session: Session, adj_rib_in: AdjRibIn) -> None:
        self.session = session
        self.source = adj_rib_in.source
        self.adj_rib_in = adj_rib_in
        self.is_over = session.is_over
        self.stale: set[bytes] = set()


class Replay(Course):
    """What `prefixes` had at the time of the last record that was taken.

    `standings` are the neighbors by name, `audience` is what they were sent of this host's own routes, `tenants` the
    VRFs: name, route distinguisher, and the route targets that it takes in. `decoders` are those of all tables that
    take the same records.
    """

    def __init__(self, vrf: str, family: Family, wanted: Wanted, decoders: Decoders | None = None) -> None:
        super().__init__()
        self.tenants: list[tuple[str, bytes, list[bytes]]] = []
        self.standings: dict[str, Standing] = {}
        self.prefixes = Prefixes(vrf, family, wanted, now=lambda: self.at)
        self.audience = Audience((vrf, family), wanted)
        self._vrf, self._family = vrf, family
        self._known: dict[int, _Known] = {}
        self._import_sources: dict[int, Source] = {}
        self._decoders = decoders or Decoders(wanted)
        self._overlays: set[int] = set()
        self._evpn_messages: dict[tuple[str, bytes], Message] = {}
        self._left: list[_Known] = []
        self._addresses: set[tuple[str, str, bytes]] = set()
        self._has_config = False
        self._config: RibConfig

    def take(self, record: AnyRecord) -> None:
        """Take the next record. It says nothing while no configuration is known, since a file is damaged."""
        super().take(record)
        if self._has_config or isinstance(record, Started | BaseBegan | Configured):
            found = _TAKE.get(type(record))
            if found is not None:
                found(self, record)

    # Processes and bases

    def _configure(self, config: bytes) -> None:
        self._config = msgspec.msgpack.decode(config, type=RibConfig)
        self._has_config = True

    def _started(self, record: Started) -> None:
        self._configure(record.config)
        self._forget_numbers()
        self._import_sources.clear()
        if record.is_adopting:
            self.prefixes.leave()
            self.audience.leave()
            self._left, self._known = [*self._left, *self._known.values()], {}
            self._goes_on()
            return
        self.prefixes.without_any(lambda _: True, ANEW)
        self._forget()
        for name, standing in self.standings.items():
            if standing.established:
                self.standings[name] = Standing(False, record.at, ANEW)
        self._whole(record.at)

    def _forget_numbers(self) -> None:
        self._decoders.forget()
        self._overlays.clear()

    def _forget(self) -> None:
        self._forget_numbers()
        self._known.clear()
        self._left.clear()
        self.prefixes.forget()
        self.audience.forget()

    def _lost(self, record: Lost) -> None:
        self.damaged(record.reason)

    def _base_began(self, record: BaseBegan) -> None:
        self._configure(record.config)
        self._addresses = set(record.addresses)
        self._is_in_base = True
        self._drop_left()
        self.audience.base_began()
        if self.problem:
            self._forget()
            self.standings.clear()
        for vrf, next_hop, why in record.next_hops:
            if vrf == self._vrf:
                self.prefixes.reachable(next_hop, why)

    def _drop_left(self) -> None:
        """The process that went on has taken up what it could."""
        for known in self._left:
            name = known.source.name
            self.prefixes.without(known.source, "the next process did not go on with its session")
            if not known.is_over:
                self.standings[name] = Standing(False, self.at, "the next process did not go on with it")
        self._left.clear()
        self.prefixes.drop_unconfirmed()

    def _base_ended(self, record: BaseEnded) -> None:
        if self._is_in_base:
            self._is_in_base = False
            self._whole(record.at)
            self.audience.base_ended(record.at)

    def _configured(self, record: Configured) -> None:
        self._configure(record.config)
        changed = {}
        for known in self._known.values():
            settings = section_of(self._config, known.source)
            if settings is not None:
                policy = import_policy(settings, self._config, where="history")
                known.adj_rib_in.policy_changed(policy, allow_own_as=settings.allow_own_as)
                changed[known.source] = known.adj_rib_in
        self.prefixes.revise(changed, "another configuration was taken over")

    # Sessions

    def _session(self, record: Session) -> None:
        kind: type[NeighborConfig | ListenConfig] = ListenConfig if record.is_listen else NeighborConfig
        config = msgspec.msgpack.decode(record.config, type=kind)
        self.audience.session(record.number, record.name)
        if config.vrf in ("", self._vrf):
            self._decoders.session(record, config, self._is_own(record, config.vrf))
        if self._vrf and not config.vrf:
            self._overlays.add(record.number)
        if not record.is_over:
            former = self.standings.get(record.name)
            if former is None or not former.established or not record.is_known:
                self.standings[record.name] = Standing(True, record.since)
        if config.vrf != self._vrf or record.number in self._known or (record.is_known and self._renumber(record)):
            return
        source = Source(
            name=record.name,
            kind=SourceKind(record.kind),
            asn=record.asn,
            router_id=record.router_id,
            address=record.address,
            interface=record.interface,
        )
        adj_rib_in = self._adj_rib_in(source, record, config)
        self._known[record.number] = _Known(record, adj_rib_in)
        if self._family in record.long_lived:
            adj_rib_in.enter_long_lived(self._family)
        self.prefixes.table.interned[source] = adj_rib_in.interned(self._family)

    def _renumber(self, record: Session) -> bool:
        """The process that goes on with a session has another number for it; whether its routes are known."""
        for known in self._left:
            if known.session.name == record.name and known.is_over == record.is_over:
                self._left.remove(known)
                self._known[record.number] = known
                return True
        return False

    def _adj_rib_in(self, source: Source, record: Session, config: SessionConfig) -> AdjRibIn:
        router = self._config.router
        return AdjRibIn(
            source,
            policy=import_policy(config, self._config, where="history"),
            local_asn=record.negotiated.local_asn,
            router_asn=router.asn,
            router_id=parse_address(router.router_id),
            allow_own_as=config.allow_own_as,
            now=lambda: self.at,
            allowed=record.allowed,
            role=record.negotiated.role,
        )

    def _is_own(self, session: Session, of_session: str) -> Callable[[bytes], bool]:
        """Whether an address is this host's own, as a session of a VRF sees it."""
        return lambda address: any(
            packed == address and (interface == session.interface or vrf == of_session)
            for vrf, interface, packed in self._addresses
        )

    def _session_closed(self, record: SessionClosed) -> None:
        self.standings[record.name] = Standing(False, record.at, record.reason)
        self.audience.session_closed(record.number)
        known = self._known.get(record.number)
        if known is not None:
            known.is_over = True
            ends_at = record.kept.get(str(self._family))
            if ends_at is not None:
                self.prefixes.table.stale[known.source] = Kept(record.at, ends_at, ends_at)

    def _removed(self, record: Removed) -> None:
        known = self._known.get(record.number)
        if known is not None and record.family == self._family:
            standing = self.standings.get(known.source.name)
            reason = f": {standing.reason}" if standing is not None and standing.reason else ""
            self.prefixes.without(known.source, f"its session ended{reason}")
            self.prefixes.table.stale.pop(known.source, None)
            del self._known[record.number]

    def _long_lived(self, record: LongLived) -> None:
        known = self._known.get(record.number)
        if known is not None and record.family == self._family:
            source = known.source
            self.prefixes.without_any(
                lambda path: path.source is source and forbids_long_lived(path), "it must not be kept for long"
            )
            known.adj_rib_in.enter_long_lived(self._family)
            self.prefixes.revise({source: known.adj_rib_in}, "it is kept for long")

    def _allowed(self, record: Allowed) -> None:
        known = self._known.get(record.number)
        if known is not None and known.adj_rib_in.allow(record.allowed):
            self.prefixes.revise({known.source: known.adj_rib_in}, "the networks of the interface changed")

    # Routes

    def _heard(self, record: Heard) -> None:
        known = self._known.get(record.number)
        if known is not None:
            for message, batch in self._decoders.read(record):
                if batch.family is self._family:
                    self.prefixes.enter(known.adj_rib_in, batch, message)
                    known.stale.difference_update(batch.announced)
        elif record.number in self._overlays:
            self._heard_by_evpn(record)

    def _heard_by_evpn(self, record: Heard) -> None:
        """What becomes of these is told by Imported; here only which message it was."""
        for message, keys in self._decoders.prefixes(record):
            for key in keys:
                self._evpn_messages[message.neighbor, key] = message

    def _message_of_import(self, source: Source, key: bytes) -> Message | None:
        """The last one about this key, if it came just now: a route may be imported for other reasons."""
        found = self._evpn_messages.pop((source.name.partition(" rd ")[0], key), None)
        return found if found is not None and self.at - found.at < _SOON_S else None

    def _import_source(self, record: ImportSource) -> None:
        if record.number not in self._import_sources:
            self._import_sources[record.number] = Source(
                name=record.name,
                kind=SourceKind.EVPN,
                asn=record.asn,
                router_id=record.router_id,
                address=record.address,
                interface=record.interface,
                origin=record.origin,
            )

    def _imported(self, record: Imported) -> None:
        if record.vrf != self._vrf or record.family != self._family:
            return
        for saved, keys in zip(record.paths, record.keys):
            source = self._import_sources.get(saved.number)
            chosen = self.prefixes.wanted.among(keys)
            if source is not None and chosen:
                path = imported(source, saved)
                for key in chosen:
                    self.prefixes.announce(key, path, message=self._message_of_import(source, key))

    def _imports_withdrawn(self, record: ImportsWithdrawn) -> None:
        source = self._import_sources.get(record.number)
        if source is not None and record.vrf == self._vrf and record.family == self._family:
            for key in self.prefixes.wanted.among(record.keys):
                message = self._message_of_import(source, key)
                self.prefixes.withdraw(key, source.name, message=message, what="" if message else _NOT_IMPORTED)

    def _imports_removed(self, record: ImportsRemoved) -> None:
        source = self._import_sources.get(record.number)
        if source is not None and record.vrf == self._vrf and record.family == self._family:
            self.prefixes.without(source, _NOT_IMPORTED)

    def _tenants(self, record: Tenants) -> None:
        self.tenants = record.vrfs

    def _told(self, record: Told) -> None:
        self.audience.told(record)

    def _refresh_began(self, record: RefreshBegan) -> None:
        known = self._known.get(record.number)
        if known is not None and record.family == self._family:
            name = known.source.name
            known.stale = {key for key in self.prefixes.table.routes if self.prefixes.path(key, name) is not None}

    def _refresh_ended(self, record: RefreshEnded) -> None:
        known = self._known.get(record.number)
        if known is not None and record.family == self._family:
            keys, known.stale = known.stale, set()
            self.prefixes.without(known.source, "it was not sent again by a refresh", keys)

    def _discarded(self, record: Discarded) -> None:
        known = self._known.get(record.number)
        if known is not None and record.family == self._family:
            self.prefixes.without(known.source, "it is beyond max_prefixes", record.keys)

    def _own(self, record: Local) -> None:
        if record.vrf != self._vrf or record.family != self._family:
            return
        if record.is_gone:
            for key in self.prefixes.wanted.among(record.keys):
                self.prefixes.withdraw(key, record.name, what="this host has it no longer, or withholds it")
            return
        attributes = Attributes.read(record.block, record.rank, record.is_simple)
        origin = record.name, record.kind
        self.prefixes.say_own(origin, record.keys, attributes, record.next_hop, self._config, overlay=record.overlay)

    def _state(self, record: State) -> None:
        if record.vrf == self._vrf and record.family == self._family:
            for numbers, keys in record.entries:
                self.prefixes.put_right(keys, [record.paths[number] for number in numbers], self._of, self._config)

    def _of(self, number: int) -> AdjRibIn | Source | None:
        known = self._known.get(number)
        return self._import_sources.get(number) if known is None else known.adj_rib_in

    def _reachable(self, record: Reachable) -> None:
        if record.vrf == self._vrf:
            self.prefixes.reachable(record.next_hop, record.why)

    def _own_address(self, record: OwnAddress) -> None:
        one = record.vrf, record.interface, record.address
        (self._addresses.discard if record.is_gone else self._addresses.add)(one)


_TAKE: dict[type, Callable[[Replay, Any], None]] = {
    Started: Replay._started,
    Ended: Replay._ended,
    Lost: Replay._lost,
    BaseBegan: Replay._base_began,
    BaseEnded: Replay._base_ended,
    Session: Replay._session,
    SessionClosed: Replay._session_closed,
    Removed: Replay._removed,
    LongLived: Replay._long_lived,
    Allowed: Replay._allowed,
    Heard: Replay._heard,
    RefreshBegan: Replay._refresh_began,
    RefreshEnded: Replay._refresh_ended,
    Discarded: Replay._discarded,
    Local: Replay._own,
    Reachable: Replay._reachable,
    OwnAddress: Replay._own_address,
    Configured: Replay._configured,
    State: Replay._state,
    ImportSource: Replay._import_source,
    Imported: Replay._imported,
    ImportsWithdrawn: Replay._imports_withdrawn,
    ImportsRemoved: Replay._imports_removed,
    Told: Replay._told,
    Tenants: Replay._tenants,
}
"""What others say is not about routes."""


def replay(records: Iterator[list[AnyRecord] | str], into: Sequence[Course]) -> None:
    """Have records taken."""
    for block in records:
        if isinstance(block, str):
            for one in into:
                one.damaged(block)
            continue
        for record in block:
            for one in into:
                one.take(record)
