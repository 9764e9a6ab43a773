"""What one neighbor should be sent of one table, and the difference to what it was sent.

Level-triggered: a key whose route changed is marked, and when the marks are worked off (once per turn of the loop; no
MRAI, a host has few routes) the route as it then is decides. Announcements go out before withdrawals of other keys, so
that a covering route is there before its parts go; End-of-RIB when the initial table is out.

Applies the export policy, split horizon, the rules for IBGP (RFC 4271 section 9.2), NO_EXPORT and NO_ADVERTISE (RFC
1997), Only to Customer (RFC 9234, roles.py), what a drain of this host changes (drained.py), and leaves out what a
neighbor must not learn of the route's origin: the MED of another AS, and the EVPN route behind it. What each session
puts into attributes or leaves out (its AS, LOCAL_PREF, the Partial bit) is update_encoder.py's. A learned route is
advertised only once the kernel has it.
Never packs messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Sequence
from itertools import islice, repeat

import msgspec

from bgpd.model.attributes import Attributes
from bgpd.model.containers import WeakMemo
from bgpd.model.evpn import is_evpn_community
from bgpd.model.iana import (
    COMMUNITY_NO_ADVERTISE,
    COMMUNITY_NO_EXPORT,
    COMMUNITY_NO_EXPORT_SUBCONFED,
    Family,
    Role,
)
from bgpd.model.path import Path
from bgpd.model.route_batch import Overlay, RouteBatch
from bgpd.model.source import Source, SourceKind
from bgpd.rib.adj_rib_in import as_llgr_stale
from bgpd.rib.drained import DrainedRoutes
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.policy import DEFAULT_KEY, Policy, Route
from bgpd.rib.roles import RoleRules

PATH_COST = 32
"""Cost of a path (export policy, encoding of attributes), in keys."""
_OWN_KEPT = 64
"""Attributes of own routes of which it is known what they are sent as; nearly always all have the same."""
CHUNK = 64
"""Keys that are looked at together at first; more where they turn out to have few paths."""


class Advertisement(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """What was advertised of routes; interned by contents, so that "the same already" is a comparison by identity."""

    attributes: Attributes
    overlay: Overlay | None
    learned: bool


class Advertisements:
    """The interned advertisements of all neighbors."""

    def __init__(self) -> None:
        self._known: WeakMemo[tuple[object, ...], Advertisement] = WeakMemo()

    def of(self, attributes: Attributes, overlay: Overlay | None, learned: bool) -> Advertisement:
        """The one advertisement with these contents."""
        key = (attributes.contents, overlay, learned)
        known = self._known.get(key)
        if known is None:
            known = Advertisement(attributes, overlay, learned)
            self._known.set(key, known)
        return known


def _confined(attributes: Attributes) -> Attributes:
    """Long-lived stale routes as an internal neighbor may have them that does not know what LLGR_STALE is: the last
    choice by LOCAL_PREF, and within the AS (RFC 9494 section 4.6)."""
    communities = attributes.communities
    if COMMUNITY_NO_EXPORT not in communities:
        communities = (*communities, COMMUNITY_NO_EXPORT)
    return attributes.changed(local_pref=0, communities=communities)


class AdjRibOut:
    """The export side of one session and family.

    `table` has the routes. `takes_llgr_stale`: the neighbor has the capability of RFC 9494, so that it may have
    long-lived stale routes. `local_asn` is the AS number this session shows, `role` this host's on it. `send` takes the
    batches, in order; `told` hears of those of this host's own routes, at `report`.
    """

    def __init__(
        self,
        source: Source,
        family: Family,
        table: LocRib,
        *,
        policy: Policy,
        local_asn: int,
        is_ibgp: bool,
        takes_llgr_stale: bool = False,
        role: Role | None = None,
        advertisements: Advertisements,
        drained: DrainedRoutes,
        send: Callable[[Source, RouteBatch], None],
        told: Callable[[RouteBatch], None] = lambda batch: None,
    ) -> None:
        self.source = source
        self.family = family
        self.advertised: dict[bytes, Advertisement] = {}
        self.end_of_rib_sent = False
        self.refresh_owed = False
        self.table = table
        self._policy = policy
        self._local_asn = local_asn
        self._is_ibgp = is_ibgp
        self._takes_llgr_stale = takes_llgr_stale
        self._roles = RoleRules(role, local_asn=local_asn, neighbor_asn=source.asn)
        self._advertisements = advertisements
        self._drained = drained
        self.send = send
        self._told = told
        self._of_own: dict[Attributes, Advertisement | None] = {}
        """What this host's own routes are sent as, by their attributes."""
        self._unreported: list[RouteBatch] = []
        self._marked: dict[bytes, None] = {}
        self._unlisted: list[Iterable[bytes]] = []
        self._backlog: list[bytes] = []
        self._withdrawing: dict[bytes, bool] = {}
        """Whether it was this host's own route, or may have been."""
        self._given_up: list[bytes] = []
        """Own routes that learned ones take the place of."""
        self._resending: list[bytes] = []
        self._refresh_waits = False

    @property
    def takes_learned(self) -> bool:
        """Whether routes learned from other neighbors can ever be advertised."""
        return self._policy.takes_learned

    @property
    def is_settled(self) -> bool:
        """Whether everything was sent."""
        return not self._withdrawing and self._is_announced

    @property
    def _is_announced(self) -> bool:
        return not (self._marked or self._backlog or self._unlisted or self._resending)

    def mark(self, keys: Sequence[bytes], *, local: bool) -> bool:
        """These routes changed; whether there is something to send. `local`: their best path is or was this host's
        own."""
        if self._policy.name == "default-only":
            if DEFAULT_KEY in keys:
                self._marked[DEFAULT_KEY] = None
        elif local or self._policy.takes_learned:
            self._marked.update(dict.fromkeys(keys))
        return bool(self._marked) or not self.is_settled

    def mark_all(self) -> None:
        """Any route may be advertised differently now: a new session, or another policy.

        The tables are listed when their turn comes, this host's own routes first: a session that comes and goes again
        and again costs next to nothing.
        """
        self._of_own.clear()
        if self._policy.name == "default-only":
            self._marked[DEFAULT_KEY] = None
        self._backlog = []
        self._unlisted = list(self.table.routes.parts) if self._policy.takes_learned else []
        self._unlisted.append(self.table.local)
        if self.advertised:
            self._unlisted.append(self.advertised)

    def resend_all(self) -> None:
        """The neighbor is to be sent everything again (RFC 2918); `refresh_owed` until that is sent.

        While one such answer is on its way another one waits, however often it is asked for.
        """
        if self.refresh_owed:
            self._refresh_waits = True
            return
        self.refresh_owed = True
        self._resending = list(self.advertised)

    def slices(self, size: int) -> Iterator[list[bytes]]:
        """The keys of all routes that the neighbor may have been sent, or should be, in lists of up to `size`."""
        if self._policy.takes_learned:
            yield from self.table.routes.slices(size)
        keys = [*self.table.local, *self.advertised]
        for start in range(0, len(keys), size):
            yield keys[start : start + size]

    def differing(self, keys: Sequence[bytes]) -> list[bytes]:
        """Those of `keys` that the neighbor was sent wrongly, by what is worked out anew; none while something is still
        to be sent."""
        if not self.is_settled or self.refresh_owed:
            return []
        self._of_own.clear()
        return [key for key, wanted in self._evaluate(list(keys), set()) if self.advertised.get(key) is not wanted]

    def why_not(self, key: bytes) -> str:
        """Why the neighbor is not to have a route; "" if it is."""
        table, decision = self.table, self.table.routes.get(key)
        best = decision.best if decision is not None else None
        if best is None:
            return "there is no route" if decision is None else "no path to it can be used"
        if best.source.name == self.source.name:
            return "its own path is the best one"
        if table.is_suppressed(key, best):
            return "an aggregate stands for it (summary_only)"
        if self._drained.is_withheld(table, key, best):
            return "this host is drained (bgpd drain status)"
        if why := self._why_kept_here(best):
            return why
        route = self._route(best)
        trace = next(trace for trace, chosen in self._policy.split(route, [key]) if key in chosen)
        rejected = self._policy.verdict(route, trace)[1]
        if rejected:
            return f"export {rejected}"
        if best.source.is_local:
            return ""
        if key in table.refused:
            return "the kernel has refused its route (bgpd show fib)"
        return "the kernel has not got its route yet" if key in table.unacknowledged else ""

    def before_policy(self, key: bytes) -> Path | None:
        """The path of a route that the neighbor is to have if its export policy accepts it."""
        decision = self.table.routes.get(key)
        best = decision.best if decision is not None else None
        if best is None or best.source.name == self.source.name or self._why_kept_here(best):
            return None
        return best

    def advertised_of(self, keys: Iterable[bytes]) -> list[RouteBatch]:
        """What the neighbor was sent of these keys."""
        found: dict[Advertisement, list[bytes]] = {}
        for key in keys:
            advertisement = self.advertised.get(key)
            if advertisement is not None:
                found.setdefault(advertisement, []).append(key)
        return [self._batch(advertisement, chosen) for advertisement, chosen in found.items()]

    def _batch(self, advertisement: Advertisement, keys: list[bytes]) -> RouteBatch:
        return RouteBatch(
            family=self.family,
            announced=keys,
            attributes=advertisement.attributes,
            overlay=advertisement.overlay,
        )

    @property
    def withdrawing(self) -> list[bytes]:
        """Keys whose withdrawal is to be sent."""
        return list(self._withdrawing)

    def resume(self, withdrawing: Iterable[bytes], *, end_of_rib_sent: bool, refresh_owed: bool) -> None:
        """Go on as another process has left it, with what is in `advertised`; an answer that it had begun, anew."""
        self._withdrawing = dict.fromkeys(withdrawing, True)
        self.end_of_rib_sent = end_of_rib_sent
        if refresh_owed:
            self.resend_all()

    def end_refresh(self) -> bool:
        """All is sent: whether that ends a `resend_all`. If another one waits, it begins now."""
        if not self.refresh_owed:
            return False
        self.refresh_owed = False
        if self._refresh_waits:
            self._refresh_waits = False
            self.resend_all()
        return not self.refresh_owed

    def policy_changed(self, policy: Policy) -> None:
        """Use another export policy from now on."""
        self._policy = policy
        self.mark_all()

    def flush(self, most: int) -> int:
        """Send changes for up to `most` units of work; how many it was. Withdrawals go when all announcements are out.

        A key is one unit, and a path PATH_COST more.
        """
        announced: dict[Advertisement, list[bytes]] = {}
        seen: set[Path] = set()
        work, size = 0, CHUNK
        while work < most:
            keys, again = self._next_keys(min(size, most - work))
            if not keys:
                break
            before = len(seen)
            for key, advertisement in self._evaluate(keys, seen):
                self._note(key, advertisement, announced, again=again)
            fresh = len(seen) - before
            work += len(keys) + PATH_COST * fresh
            size = CHUNK if fresh > 1 else 2 * size
            if not (self._marked or self._backlog or self._unlisted or self._resending):
                break
        for advertisement, chosen in announced.items():
            batch = self._batch(advertisement, chosen)
            self.send(self.source, batch)
            if not advertisement.learned:
                self._unreported.append(batch)
        if self._given_up:
            self._unreported.append(RouteBatch(family=self.family, withdrawn=self._given_up))
            self._given_up = []
        if self._withdrawing and self._is_announced and work < most:
            withdrawn = list(islice(self._withdrawing, most - work))
            own = [key for key in withdrawn if self._withdrawing.pop(key)]
            self.send(self.source, RouteBatch(family=self.family, withdrawn=withdrawn))
            if own:
                self._unreported.append(RouteBatch(family=self.family, withdrawn=own))
            work += len(withdrawn)
        return work

    def report(self) -> None:
        """Have it heard what the neighbor was sent of this host's own routes; to be called once others were sent
        theirs, after each `flush`."""
        if self._unreported:
            batches, self._unreported = self._unreported, []
            for batch in batches:
                self._told(batch)

    def _next_keys(self, most: int) -> tuple[list[bytes], bool]:
        """The keys to look at next, a few changed ones first; whether they are sent again though nothing changed."""
        if 0 < len(self._marked) <= most:
            keys = list(self._marked)
            self._marked = {}
            return keys, False
        if self._marked and not self._backlog:  # many are listed once: taking them off the front of a dict costs more
            self._backlog = list(self._marked)
            self._backlog.reverse()
            self._marked = {}
        while self._unlisted and not self._backlog:
            self._backlog = list(self._unlisted.pop())
        left = self._backlog or self._resending
        keys = left[-most:]
        del left[-most:]
        return keys, left is self._resending

    def _note(
        self,
        key: bytes,
        advertisement: Advertisement | None,
        announced: dict[Advertisement, list[bytes]],
        *,
        again: bool,
    ) -> None:
        if advertisement is None:
            former = self.advertised.pop(key, None)
            if former is not None:
                self._withdrawing[key] = not former.learned
        elif again or self.advertised.get(key) is not advertisement:
            former = self.advertised.get(key)
            was_own = self._withdrawing.pop(key, False) or (former is not None and not former.learned)
            if was_own and advertisement.learned:
                self._given_up.append(key)
            self.advertised[key] = advertisement
            announced.setdefault(advertisement, []).append(key)

    def _evaluate(self, keys: list[bytes], seen: set[Path]) -> Iterable[tuple[bytes, Advertisement | None]]:
        """What each key should be sent as; where the kernel's route is still on its way, nothing new is sent, and where
        the kernel has none, nothing at all. The paths that were looked at are added to `seen`."""
        table = self.table
        by_path: dict[Path, list[bytes]] = {}
        name = self.source.name
        may_be_suppressed = bool(table.suppressed or table.suppressed_aggregates)
        for key in keys:
            decision = table.routes.part(key).get(key)
            best = decision.best if decision is not None else None
            if best is None or best.via.source.name == name or (may_be_suppressed and table.is_suppressed(key, best)):
                yield key, None
            else:
                by_path.setdefault(best, []).append(key)
        if self._drained.stage and self._drained.withholds(self.family):
            for key in self._take_withheld(by_path):
                yield key, None
        seen.update(by_path)
        for path, chosen in by_path.items():
            for key, advertisement in self._export(path, chosen):
                if advertisement is not None and advertisement.learned and key in table.refused:
                    yield key, None
                elif advertisement is None or not advertisement.learned or key not in table.unacknowledged:
                    yield key, advertisement
                elif key in self.advertised and not self.advertised[key].learned:
                    yield key, None

    def _take_withheld(self, by_path: dict[Path, list[bytes]]) -> list[bytes]:
        """Take out the keys that a drain of this host keeps from the neighbor; `by_path` groups keys by best path."""
        withheld: list[bytes] = []
        for path, keys in list(by_path.items()):
            left: list[bytes] = []
            for key in keys:
                (withheld if self._drained.is_withheld(self.table, key, path) else left).append(key)
            by_path[path] = left
            if not left:
                del by_path[path]
        return withheld

    def _export(self, path: Path, keys: list[bytes]) -> Iterable[tuple[bytes, Advertisement | None]]:
        via = path.via
        if self._policy.by_prefix or self._drained.stage or not via.source.is_local or via.next_hop or via.overlay:
            return self._examine(path, keys)
        try:
            advertisement = self._of_own[path.attributes]
        except KeyError:
            if len(self._of_own) >= _OWN_KEPT:
                self._of_own.clear()
            advertisement = self._of_own[path.attributes] = next(iter(self._examine(path, keys)))[1]
        return zip(keys, repeat(advertisement))

    def _examine(self, path: Path, keys: list[bytes]) -> Iterable[tuple[bytes, Advertisement | None]]:
        if self._why_kept_here(path):
            return [(key, None) for key in keys]
        route = self._route(path)
        found: list[tuple[bytes, Advertisement | None]] = []
        for trace, chosen in self._policy.split(route, keys):
            attributes, rejected = self._policy.verdict(route, trace)
            advertisement = None
            if not rejected:
                sent, overlay = self._as_sent(attributes, path), None
                sent = self._drained.lowered(sent, self.family, is_ibgp=self._is_ibgp)
                sent = self._roles.marked_when_sent(self.family, sent)
                if self.family is Family.L2VPN_EVPN:
                    overlay = path.overlay
                    if overlay is not None and not overlay.labels:
                        found += self._with_own_labels(sent, path, chosen)
                        continue
                advertisement = self._advertisements.of(sent, overlay, not path.source.is_local)
            found.extend((key, advertisement) for key in chosen)
        return found

    def _route(self, path: Path) -> Route:
        """As export policy sees it."""
        return Route(
            attributes=path.attributes,
            next_hop=path.next_hop,
            family=self.family,
            neighbor=self.source.name,
            local_asn=self._local_asn,
            is_local=path.source.is_local,
        )

    def _with_own_labels(
        self, attributes: Attributes, path: Path, keys: Sequence[bytes]
    ) -> Iterator[tuple[bytes, Advertisement]]:
        learned = not path.source.is_local
        for key in keys:
            yield key, self._advertisements.of(attributes, self.table.labels.overlay(path, key), learned)

    def _why_kept_here(self, path: Path) -> str:
        """Why a route may not be passed on to the neighbor, whatever the policy says; "" if it may. One of this host's
        own may be kept by OTC that a guest has told of it."""
        attributes = path.attributes
        if path.source.is_local:
            return self._roles.why_not_sent(self.family, attributes)
        if attributes.has_community(COMMUNITY_NO_ADVERTISE):
            return "it has the community no-advertise (RFC 1997)"
        if attributes.is_least_preferred and not (self._takes_llgr_stale or self._is_ibgp):
            return "it is long-lived stale, and the neighbor does not know what that is (RFC 9494 section 4.6)"
        if self._is_ibgp:
            if path.source.kind is SourceKind.IBGP:
                return "both are internal neighbors (RFC 4271 section 9.2)"
        elif any(map(attributes.has_community, (COMMUNITY_NO_EXPORT, COMMUNITY_NO_EXPORT_SUBCONFED))):
            return "it has the community no-export (RFC 1997)"
        return self._roles.why_not_sent(self.family, attributes)

    def _as_sent(self, attributes: Attributes, path: Path) -> Attributes:
        """A learned route's attributes as another neighbor may have them: MED stays within the AS (RFC 4271 5.1.4), and
        a router in a VRF is sent nothing of the EVPN route that its route stands for.
        """
        if path.source.is_local:
            return attributes
        med = attributes.med
        if not self._is_ibgp and med == path.attributes.med:
            med = None
        if med != attributes.med:
            attributes = attributes.changed(med=med)
        if path.attributes.is_least_preferred:
            attributes = as_llgr_stale(attributes)
            if not self._takes_llgr_stale:
                attributes = _confined(attributes)
        if path.source.kind is SourceKind.EVPN:
            extended, carried = attributes.extended_communities, frozenset(path.attributes.extended_communities)
            left = tuple(one for one in extended if one not in carried or not is_evpn_community(one))
            if left != extended:
                attributes = attributes.changed(extended_communities=left)
        return attributes
