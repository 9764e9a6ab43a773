"""What one neighbor should be told of one table, and the difference to what it was told.

Level-triggered: a key whose route changed is marked, and when the marks are worked off (once per turn of the loop; no
MRAI, a host has few routes) the route as it then is decides. Announcements go out before withdrawals of other keys, so
that a covering route is there before its parts go; End-of-RIB when the initial table is out.

Applies the export policy, split horizon, the rules for IBGP (RFC 4271 section 9.2), NO_EXPORT and NO_ADVERTISE (RFC
1997), and makes the attributes as they are sent: own AS prepended to external neighbors, next hop self (None). A
learned route is told only once the kernel has it. Never packs messages.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from weakref import WeakValueDictionary

import msgspec

from bgpd.model.attributes import Attributes, UnknownAttribute
from bgpd.model.evpn import is_evpn_community
from bgpd.model.iana import (
    COMMUNITY_NO_ADVERTISE,
    COMMUNITY_NO_EXPORT,
    COMMUNITY_NO_EXPORT_SUBCONFED,
    AttributeFlag,
    Family,
)
from bgpd.model.path import Overlay, Path, RouteBatch, Source, SourceKind
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.policy import DEFAULT_KEY, Policy, Route


class Advertisement(msgspec.Struct, frozen=True, eq=False, weakref=True):
    """What was told of routes; interned by contents, so that "told the same already" is a comparison by identity."""

    attributes: Attributes
    overlay: Overlay | None
    learned: bool


class Advertisements:
    """The interned advertisements of all neighbors."""

    def __init__(self) -> None:
        self._known: WeakValueDictionary[object, Advertisement] = WeakValueDictionary()

    def of(self, attributes: Attributes, overlay: Overlay | None, learned: bool) -> Advertisement:
        """The one advertisement with these contents."""
        key = (msgspec.structs.astuple(attributes), overlay, learned)
        known = self._known.get(key)
        if known is None:
            known = self._known[key] = Advertisement(attributes, overlay, learned)
        return known


class AdjRibOut:
    """The export side of one session and family.

    `local_asn` is the AS number this session shows. `send` takes the batches, in order.
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
        advertisements: Advertisements,
        send: Callable[[Source, RouteBatch], None],
    ) -> None:
        self.source = source
        self.family = family
        self.advertised: dict[bytes, Advertisement] = {}
        self.end_of_rib_sent = False
        self.refresh_owed = False
        self._table = table
        self._policy = policy
        self._local_asn = local_asn
        self._is_ibgp = is_ibgp
        self._advertisements = advertisements
        self._send = send
        self._marked: dict[bytes, None] = {}
        self._backlog: list[bytes] = []
        self._withdrawing: dict[bytes, None] = {}
        self._resending: set[bytes] = set()

    @property
    def takes_learned(self) -> bool:
        """Whether routes learned from other neighbors can ever be told."""
        return self._policy.takes_learned

    @property
    def is_settled(self) -> bool:
        """Whether everything was told."""
        return not self._marked and not self._backlog and not self._withdrawing

    def mark(self, keys: Sequence[bytes], *, local: bool) -> None:
        """These routes changed. `local`: their best path is or was this host's own."""
        if self._policy.name == "default-only":
            if DEFAULT_KEY in keys:
                self._marked[DEFAULT_KEY] = None
        elif local or self._policy.takes_learned:
            self._marked.update(dict.fromkeys(keys))

    def mark_all(self) -> None:
        """Any route may be told differently now: a new session, or another policy."""
        self._marked.update(dict.fromkeys(self._table.local))
        self._marked.update(dict.fromkeys(self.advertised))
        if self._policy.name == "default-only":
            self._marked[DEFAULT_KEY] = None
        elif self._policy.takes_learned:
            self._backlog = list(self._table.routes)

    def resend_all(self) -> None:
        """The neighbor asked to be told everything again (RFC 2918); `refresh_owed` until that is sent."""
        self.refresh_owed = True
        self._resending.update(self.advertised)
        self._marked.update(dict.fromkeys(self.advertised))

    def policy_changed(self, policy: Policy) -> None:
        """Use another export policy from now on."""
        self._policy = policy
        self.mark_all()

    def flush(self, most: int) -> int:
        """Tell up to `most` marked keys; how many it was. Withdrawals go only when all announcements are out."""
        keys = self._next_keys(most)
        announced: dict[Advertisement, list[bytes]] = {}
        for key, advertisement in self._evaluate(keys):
            self._note(key, advertisement, announced)
        for advertisement, chosen in announced.items():
            self._send(
                self.source,
                RouteBatch(
                    family=self.family,
                    announced=chosen,
                    attributes=advertisement.attributes,
                    overlay=advertisement.overlay,
                ),
            )
        if self._withdrawing and not self._marked and not self._backlog:
            withdrawn = list(self._withdrawing)
            self._withdrawing = {}
            self._send(self.source, RouteBatch(family=self.family, withdrawn=withdrawn))
        return len(keys)

    def _next_keys(self, most: int) -> list[bytes]:
        if len(self._marked) <= most:
            keys = list(self._marked)
            self._marked = {}
            more = self._backlog[-(most - len(keys)) :] if len(keys) < most else []
            if more:
                del self._backlog[-len(more) :]
                keys += more
            return keys
        keys = list(islice(self._marked, most))
        for key in keys:
            del self._marked[key]
        return keys

    def _note(
        self, key: bytes, advertisement: Advertisement | None, announced: dict[Advertisement, list[bytes]]
    ) -> None:
        if advertisement is None:
            if self.advertised.pop(key, None) is not None:
                self._withdrawing[key] = None
        elif self.advertised.get(key) is not advertisement or key in self._resending:
            self.advertised[key] = advertisement
            self._withdrawing.pop(key, None)
            announced.setdefault(advertisement, []).append(key)
        self._resending.discard(key)

    def _evaluate(self, keys: list[bytes]) -> Iterable[tuple[bytes, Advertisement | None]]:
        """What each key should be told as; where the kernel's route is still on its way, nothing new is told, and where
        the kernel has none, nothing at all."""
        table = self._table
        by_path: dict[Path, list[bytes]] = {}
        for key in keys:
            decision = table.routes.get(key)
            best = decision.best if decision is not None else None
            if best is None or best.source.name == self.source.name or self._is_suppressed(key, best):
                yield key, None
            else:
                by_path.setdefault(best, []).append(key)
        for path, chosen in by_path.items():
            for key, advertisement in self._export(path, chosen):
                if advertisement is not None and advertisement.learned and key in table.refused:
                    yield key, None
                elif advertisement is None or not advertisement.learned or key not in table.unacknowledged:
                    yield key, advertisement
                elif key in self.advertised and not self.advertised[key].learned:
                    yield key, None

    def _is_suppressed(self, key: bytes, best: Path) -> bool:
        return best.source.kind is SourceKind.WORKLOAD and key in self._table.suppressed

    def _export(self, path: Path, keys: list[bytes]) -> Iterable[tuple[bytes, Advertisement | None]]:
        if self._may_not_leave(path):
            return [(key, None) for key in keys]
        route = Route(
            attributes=path.attributes,
            next_hop=path.next_hop,
            family=self.family,
            neighbor=self.source.name,
            local_asn=self._local_asn,
            is_local=path.source.is_local,
        )
        told: list[tuple[bytes, Advertisement | None]] = []
        for trace, chosen in self._policy.split(route, keys):
            attributes, rejected = self._policy.verdict(route, trace)
            advertisement = None
            if not rejected:
                sent = self._as_sent(attributes, path)
                overlay = path.overlay if self.family is Family.L2VPN_EVPN else None
                advertisement = self._advertisements.of(sent, overlay, not path.source.is_local)
            told.extend((key, advertisement) for key in chosen)
        return told

    def _may_not_leave(self, path: Path) -> bool:
        if path.source.is_local:
            return False
        communities = path.attributes.communities
        if COMMUNITY_NO_ADVERTISE in communities:
            return True
        if self._is_ibgp:
            return path.source.kind is SourceKind.IBGP
        return COMMUNITY_NO_EXPORT in communities or COMMUNITY_NO_EXPORT_SUBCONFED in communities

    def _as_sent(self, attributes: Attributes, path: Path) -> Attributes:
        """A learned route's attributes as another neighbor may have them: MED stays within the AS (RFC 4271 5.1.4), and
        a router in a VRF is told nothing of the EVPN route that its route stands for.
        """
        if path.source.is_local:
            return attributes
        med = attributes.med
        if not self._is_ibgp and med == path.attributes.med:
            med = None
        unknown = tuple(_passed_on(attributes.unknown))
        extended = attributes.extended_communities
        if path.source.kind is SourceKind.EVPN:
            carried = path.attributes.extended_communities
            extended = tuple(one for one in extended if one not in carried or not is_evpn_community(one))
        if (med, unknown, extended) == (attributes.med, attributes.unknown, attributes.extended_communities):
            return attributes
        return msgspec.structs.replace(attributes, med=med, unknown=unknown, extended_communities=extended)


def _passed_on(unknown: Iterable[UnknownAttribute]) -> Iterable[UnknownAttribute]:
    """Unrecognized attributes: transitive ones go on, with the Partial bit (RFC 4271 section 5)."""
    for attribute in unknown:
        if attribute.flags & AttributeFlag.TRANSITIVE:
            yield msgspec.structs.replace(attribute, flags=attribute.flags | AttributeFlag.PARTIAL)
