"""The table of a VRF and family as far as the wanted prefixes go, and what became of them: what a replay works on."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterable, Mapping, Sequence

import msgspec

from bgpd.config.schema import RibConfig
from bgpd.history.messages import Message
from bgpd.history.records import SavedPath
from bgpd.history.wanted import Wanted
from bgpd.model.attributes import Attributes
from bgpd.model.iana import Family
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path
from bgpd.model.prefix import parse_address
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.rib.adj_rib_in import AdjRibIn, revise
from bgpd.rib.keyed_routes import Changes
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.next_hops import NextHopTable
from bgpd.rib.policy import BuiltInPolicy
from bgpd.rib.route_labels import labels_of


class Change(msgspec.Struct, frozen=True, kw_only=True):
    """What one source says of a prefix became something else: None is "nothing". `message`: the UPDATE that said so,
    where it was one; `what` happened else. `best` are the best paths before and after; where only these changed,
    `source` is "" and nobody said anything."""

    at: float
    key: bytes
    source: str
    before: Path | None
    after: Path | None
    best: tuple[Path | None, Path | None]
    message: Message | None = None
    what: str = ""


class _Before(msgspec.Struct, frozen=True):
    """What a key had: the path of each source, and the best one."""

    paths: dict[str, Path]
    best: Path | None


class TooMany(Exception):
    """More is asked for than can be held."""


MOST_KEYS = 20_000
MOST_CHANGES = 10_000
"""That are remembered: the last ones."""


class Prefixes:
    """`changes` is what became of the `wanted` keys, `messages` the UPDATE that each path came in. `now()`: the time of
    day of what happens. `unconfirmed`: keys and sources of paths that a process has left to the next one, which has
    not said them so far."""

    def __init__(self, vrf: str, family: Family, wanted: Wanted, *, now: Callable[[], float]) -> None:
        self.vrf, self.family, self.wanted = vrf, family, wanted
        self.changes: deque[Change] = deque(maxlen=MOST_CHANGES)
        self.messages: dict[tuple[str, bytes], Message] = {}
        self.unconfirmed: set[tuple[bytes, str]] = set()
        self._now = now
        self.forget()

    def forget(self) -> None:
        """Begin with an empty table."""
        self._local: dict[str, AdjRibIn] = {}
        self._why: dict[NextHop, str] = {}
        self._next_hops = NextHopTable(resolve=self._resolve)
        self.table = LocRib(self._next_hops, self.vrf, self.family)
        self.messages.clear()
        self.unconfirmed.clear()

    def _resolve(self, next_hop: NextHop) -> str:
        return self._why.get(next_hop, "")

    # What neighbors say

    def enter(self, adj_rib_in: AdjRibIn, batch: RouteBatch, message: Message) -> None:
        """Routes of an UPDATE."""
        name = adj_rib_in.source.name
        for key in self.wanted.among(batch.withdrawn):
            self.withdraw(key, name, message=message)
        keys = self.wanted.among(batch.announced)
        if keys and batch.attributes is not None:
            for path, chosen in adj_rib_in.paths(self.family, keys, batch.attributes, batch.next_hop, batch.overlay):
                for key in chosen:
                    self.announce(key, path, message=message)
            if batch.labels is not None or self.table.labels:
                self.table.labels.announced(adj_rib_in.source, keys, labels_of(batch, keys))

    def announce(self, key: bytes, path: Path, *, message: Message | None = None) -> None:
        """A key has this path of its source now."""
        before = self._before(key)
        if before.best is None and not before.paths and len(self.table.routes) >= MOST_KEYS:
            raise TooMany
        self.table.announce([key], path, Changes())
        self._note(key, before, message=message)
        if message is not None:
            self.messages[path.source.name, key] = message
        self.unconfirmed.discard((key, path.source.name))

    def withdraw(self, key: bytes, name: str, *, message: Message | None = None, what: str = "") -> None:
        """A key has no path of this source any more."""
        before = self._before(key)
        if name in before.paths:
            self.table.withdraw([key], name, Changes())
            self._note(key, before, message=message, what=what)
            self.messages.pop((name, key), None)

    def without(self, source: Source, what: str, keys: Iterable[bytes] | None = None) -> None:
        """Keys (None: all) have no path of this Source any more; those of a later one of its name stay."""
        for key in list(self.table.routes) if keys is None else self.wanted.among(keys):
            path = self.path(key, source.name)
            if path is not None and path.source is source:
                self.withdraw(key, source.name, what=what)

    def without_any(self, unwanted: Callable[[Path], bool], what: str) -> None:
        """Keys have none of these paths any more."""
        for key in list(self.table.routes):
            for path in self._candidates(key):
                if unwanted(path):
                    self.withdraw(key, path.source.name, what=what)

    def leave(self) -> None:
        """The process ends; the next one says again what this host, or EVPN, has said."""
        self.unconfirmed = {
            (key, path.source.name)
            for key in self.table.routes
            for path in self._candidates(key)
            if path.source.is_local or path.source.kind is SourceKind.EVPN
        }

    def drop_unconfirmed(self) -> None:
        """The next process has said all."""
        for key, name in list(self.unconfirmed):
            self.withdraw(key, name, what="bgpd went on in another process, which has not got it")
        self.unconfirmed.clear()

    def revise(self, changed: Mapping[Source, AdjRibIn], what: str) -> None:
        """The policies of these have changed."""
        before = {key: self._before(key) for key in self.table.routes}
        for _ in revise(self.table, self.family, changed):
            pass
        for key, former in before.items():
            self._note(key, former, what=what)

    # What this host says

    def say_own(
        self,
        origin: tuple[str, str],
        keys: Iterable[bytes],
        attributes: Attributes,
        next_hop: NextHop | None,
        by: RibConfig,
        *,
        overlay: Overlay | None = None,
    ) -> None:
        """This host's own routes of a source (name and kind) have these attributes now."""
        adj_rib_in = self._origin(origin, by)
        for key in self.wanted.among(keys):
            for path, _ in adj_rib_in.paths(self.family, [key], attributes, next_hop, overlay):
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
        self,
        keys: Iterable[bytes],
        paths: Sequence[SavedPath],
        of: Callable[[int], AdjRibIn | Source | None],
        by: RibConfig,
    ) -> None:
        """Keys have these paths and no others; those that they are known to have stay as they are. `of` says whose a
        number is: a session's, or that of a source of routes from EVPN."""
        chosen = self.wanted.among(keys)
        if not chosen:
            return
        said: dict[str, tuple[AdjRibIn | Source, SavedPath]] = {}
        for saved in paths:
            whose = self._origin(saved.local, by) if saved.local is not None else of(saved.number)
            if whose is not None:
                said[whose.name if isinstance(whose, Source) else whose.source.name] = (whose, saved)
        for key in chosen:
            for path in self._candidates(key):
                if path.source.name not in said:
                    self.table.withdraw([key], path.source.name, Changes())
            for whose, saved in said.values():
                self._put(key, whose, saved)

    def _put(self, key: bytes, whose: AdjRibIn | Source, saved: SavedPath) -> None:
        source = whose if isinstance(whose, Source) else whose.source
        self.unconfirmed.discard((key, source.name))
        attributes = Attributes.read(saved.block, saved.rank, saved.is_simple)
        known, hop = self.path(key, source.name), saved.next_hop
        is_known = known is not None and known.source is source and known.next_hop == hop
        if isinstance(whose, Source):
            path = imported(whose, saved)
            if known is None or not is_known or not _are_alike(known, path):
                self.table.announce([key], path, Changes())
            return
        is_known = is_known and (known is None or self.table.labels.overlay(known, key) == saved.overlay)
        if known is not None and is_known and known.received.same_as(attributes):
            return
        adj_rib_in = whose
        if known is None and len(self.table.routes) >= MOST_KEYS:
            raise TooMany
        for trace, chosen in adj_rib_in.traces(self.family, [key], attributes, hop):
            path = adj_rib_in.heard_before(self.family, attributes, hop, saved.overlay, trace, saved.heard_at)
            self.table.announce(chosen, path, Changes())

    # Next hops

    def reachable(self, next_hop: NextHop, why: str) -> None:
        """Whether a next hop can be reached, and why not."""
        self._why[next_hop] = why
        if self._next_hops.changed(next_hop, why):
            before = {key: self._before(key) for key in self.table.routes}
            for _ in self.table.redecide(next_hop):
                pass
            what = f"next hop {next_hop}: {why or 'can be reached'}"
            for key, former in before.items():
                self._note(key, former, what=what)

    # What there is

    def path(self, key: bytes, name: str) -> Path | None:
        """What a source says of a key."""
        entry = self.table.routes.get(key)
        return None if entry is None else entry.path_of(name)

    def _candidates(self, key: bytes) -> tuple[Path, ...]:
        entry = self.table.routes.get(key)
        return () if entry is None else entry.candidates

    def _before(self, key: bytes) -> _Before:
        entry = self.table.routes.get(key)
        if entry is None:
            return _Before({}, None)
        return _Before({path.source.name: path for path in entry.candidates}, entry.best)

    def _note(self, key: bytes, before: _Before, *, message: Message | None = None, what: str = "") -> None:
        after = self._before(key)
        best = before.best, after.best
        changed = [
            (name, before.paths.get(name), after.paths.get(name))
            for name in {**before.paths, **after.paths}
            if not _are_alike(before.paths.get(name), after.paths.get(name))
        ]
        if not changed and not _are_alike(*best):
            changed = [("", None, None)]
        for name, former, path in changed:
            self.changes.append(
                Change(
                    at=self._now(),
                    key=key,
                    source=name,
                    before=former,
                    after=path,
                    best=best,
                    message=message,
                    what=what,
                )
            )


def _are_alike(one: Path | None, other: Path | None) -> bool:
    """Whether they say the same, whoever made them."""
    if one is other:
        return True
    if one is None or other is None:
        return False
    return (
        (one.source.name, one.next_hop, one.rejected, one.overlay, one.attributes.rank)
        == (other.source.name, other.next_hop, other.rejected, other.overlay, other.attributes.rank)
        and one.attributes.same_as(other.attributes)
        and one.received.same_as(other.received)
    )


def imported(source: Source, saved: SavedPath) -> Path:
    """The path of a VRF's route from EVPN."""
    attributes = Attributes.read(saved.block, saved.rank, saved.is_simple)
    received = attributes if saved.before is None else Attributes.read(*saved.before)
    return Path.of(source, attributes, saved.next_hop, received, saved.heard_at, saved.rejected, saved.overlay)
