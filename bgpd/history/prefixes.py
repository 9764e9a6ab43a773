"""The table of a VRF and family as far as a few prefixes go, and what became of them: what a replay works on."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from bgpd.config.schema import RibConfig
from bgpd.history.messages import Message
from bgpd.history.records import SavedPath
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.path import NextHop, Path, RouteBatch, Source, SourceKind
from bgpd.model.prefix import parse_address
from bgpd.rib.adj_rib_in import AdjRibIn, revise
from bgpd.rib.loc_rib import Changes, LocRib
from bgpd.rib.next_hops import NextHopTable
from bgpd.rib.policy import BuiltInPolicy


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one source says of a prefix became something else: None is "nothing". `message`: the UPDATE that said so,
    where it was one; `what` happened else."""

    at: float
    key: bytes
    source: str
    before: Path | None
    after: Path | None
    message: Message | None = None
    what: str = ""


class Prefixes:
    """`changes` is what became of the `keys`, `messages` the UPDATE that each path came in. `now()`: the time of day of
    what happens."""

    def __init__(self, vrf: str, family: Family, keys: Iterable[bytes], *, now: Callable[[], float]) -> None:
        self.vrf, self.family, self.keys = vrf, family, frozenset(keys)
        self.changes: list[Change] = []
        self.messages: dict[tuple[str, bytes], Message] = {}
        self._now = now
        self.forget()

    def forget(self) -> None:
        """Begin with an empty table."""
        self._local: dict[str, AdjRibIn] = {}
        self._why: dict[NextHop, str] = {}
        self._next_hops = NextHopTable(resolve=self._resolve)
        self.table = LocRib(self._next_hops, self.vrf, self.family)
        self.messages.clear()

    def _resolve(self, next_hop: NextHop) -> str:
        return self._why.get(next_hop, "")

    # What neighbors say

    def enter(self, adj_rib_in: AdjRibIn, batch: RouteBatch, message: Message) -> None:
        """Routes of an UPDATE."""
        name = adj_rib_in.source.name
        for key in self.keys.intersection(batch.withdrawn):
            self.withdraw(key, name, message=message)
        keys = [key for key in batch.announced if key in self.keys]
        if keys and batch.attributes is not None:
            for path, chosen in adj_rib_in.paths(self.family, keys, batch.attributes, batch.next_hop, batch.overlay):
                for key in chosen:
                    self.announce(key, path, message=message)
                    self.messages[name, key] = message

    def announce(self, key: bytes, path: Path, *, message: Message | None = None) -> None:
        """A key has this path of its source now."""
        name = path.source.name
        before = self.path(key, name)
        self.table.announce([key], path, Changes())
        self._note(key, name, before, message=message)

    def withdraw(self, key: bytes, name: str, *, message: Message | None = None, what: str = "") -> None:
        """A key has no path of this source any more."""
        before = self.path(key, name)
        if before is not None:
            self.table.withdraw([key], name, Changes())
            self._note(key, name, before, message=message, what=what)

    def without(self, source: Source, keys: Iterable[bytes], what: str) -> None:
        """Keys have no path of this session any more; those of a later one of that neighbor stay."""
        for key in self.keys.intersection(keys):
            path = self.path(key, source.name)
            if path is not None and path.source is source:
                self.withdraw(key, source.name, what=what)

    def without_any(self, unwanted: Callable[[Path], bool], what: str) -> None:
        """Keys have none of these paths any more."""
        for (key, name), path in self._paths().items():
            if unwanted(path):
                self.withdraw(key, name, what=what)

    def revise(self, changed: Mapping[Source, AdjRibIn], what: str) -> None:
        """The policies of these have changed."""
        before = self._paths()
        for _ in revise(self.table, self.family, changed):
            pass
        for (key, name), path in before.items():
            self._note(key, name, path, what=what)

    # What this host says

    def say_own(
        self,
        origin: tuple[str, str],
        keys: Iterable[bytes],
        attributes: Attributes,
        next_hop: NextHop | None,
        by: RibConfig,
    ) -> None:
        """This host's own routes of a source (name and kind) have these attributes now."""
        adj_rib_in = self._origin(origin, by)
        for key in self.keys.intersection(keys):
            for path, _ in adj_rib_in.paths(self.family, [key], attributes, next_hop):
                self.announce(key, path)

    def _origin(self, origin: tuple[str, str], config: RibConfig) -> AdjRibIn:
        name, kind = origin
        found = self._local.get(name)
        if found is None:
            found = self._local[name] = AdjRibIn(
                Source(name=name, kind=SourceKind(kind)),
                policy=BuiltInPolicy("all"),
                local_asn=config.router.asn,
                router_id=parse_address(config.router.router_id),
                allow_own_as=0,
                now=self._now,
            )
            self.table.interned[found.source] = found.interned(self.family)
        return found

    # What a base says

    def put_right(
        self, keys: Iterable[bytes], paths: Sequence[SavedPath], of: Callable[[int], AdjRibIn | None], by: RibConfig
    ) -> None:
        """Keys have these paths and no others; those that they are known to have stay as they are."""
        said: dict[str, tuple[AdjRibIn, SavedPath]] = {}
        for saved in paths:
            adj_rib_in = self._origin(saved.local, by) if saved.local is not None else of(saved.number)
            if adj_rib_in is not None:
                said[adj_rib_in.source.name] = (adj_rib_in, saved)
        for key in self.keys.intersection(keys):
            for path in self._candidates(key):
                if path.source.name not in said:
                    self.table.withdraw([key], path.source.name, Changes())
            for adj_rib_in, saved in said.values():
                self._put(key, adj_rib_in, saved)

    def _put(self, key: bytes, adj_rib_in: AdjRibIn, saved: SavedPath) -> None:
        attributes = Attributes.read(saved.block, saved.rank, saved.is_simple)
        known, hop = self.path(key, adj_rib_in.source.name), saved.next_hop
        is_known = known is not None and known.source is adj_rib_in.source and known.next_hop == hop
        if known is not None and is_known and known.received.same_as(attributes):
            return
        for trace, chosen in adj_rib_in.traces(self.family, [key], attributes, hop):
            path = adj_rib_in.heard_before(self.family, attributes, hop, None, trace, saved.heard_at)
            self.table.announce(chosen, path, Changes())

    # Next hops

    def reachable(self, next_hop: NextHop, why: str) -> None:
        """Whether a next hop can be reached, and why not."""
        self._why[next_hop] = why
        if self._next_hops.changed(next_hop, why):
            for _ in self.table.redecide(next_hop):
                pass

    # What there is

    def path(self, key: bytes, name: str) -> Path | None:
        """What a source says of a key."""
        entry = self.table.routes.get(key)
        return None if entry is None else entry.path_of(name)

    def _candidates(self, key: bytes) -> tuple[Path, ...]:
        entry = self.table.routes.get(key)
        return () if entry is None else entry.candidates

    def _paths(self) -> dict[tuple[bytes, str], Path]:
        return {(key, path.source.name): path for key in self.keys for path in self._candidates(key)}

    def _note(
        self, key: bytes, name: str, before: Path | None, *, message: Message | None = None, what: str = ""
    ) -> None:
        after = self.path(key, name)
        if after is before:
            return
        self.changes.append(
            Change(at=self._now(), key=key, source=name, before=before, after=after, message=message, what=what)
        )
        if after is None:
            self.messages.pop((name, key), None)
