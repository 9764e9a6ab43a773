"""The routes of one source as paths: loop detection and import policy, run once for all routes that share their
attributes.

The routes themselves are in the Loc-RIB's one table (docs/decisions/0003); here paths are made, and found again in
interned_paths.py. A path is reused for ten seconds, so that `heard_at` is the time of announcement with that precision
(paths of the same second may share it); what is only repeated keeps its path.
Decides on RFC 4271 section 9.1.2 (AS loops), RFC 4456 section 8 (reflection loops), RFC 9234 (route leaks, roles.py),
policy and RFC 8326 (graceful shutdown); never on which path is best.
"""

from __future__ import annotations

from collections.abc import Callable, Hashable, Iterator, Mapping, Sequence

from bgpd.model.attributes import Attributes
from bgpd.model.iana import COMMUNITY_GRACEFUL_SHUTDOWN, COMMUNITY_LLGR_STALE, COMMUNITY_NO_LLGR, Family, Role
from bgpd.model.next_hop import NextHop
from bgpd.model.path import Path, Via
from bgpd.model.route_batch import Overlay
from bgpd.model.source import Source, SourceKind
from bgpd.rib.interned_paths import VIAS_KEPT, InternedPaths, is_now
from bgpd.rib.keyed_routes import Changes, Compute
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.next_hops import AllowedNextHops, LocalNextHops
from bgpd.rib.policy import Policy, Route, Trace
from bgpd.rib.roles import RoleRules
from bgpd.rib.shared_decisions import Entry
from bgpd.rib.slices import SLICE
from bgpd.runtime.events import log

HEARD_AT_COARSENESS_S = 10.0
_REFUSALS_TOLD = 32
"""Next hops of one session that the log names."""
_REFUSALS_KEPT = 4096
_PACKED_WELL_KNOWN = b"\xff\xff\x00"
"""How GRACEFUL_SHUTDOWN, LLGR_STALE and NO_LLGR begin."""
_LOCAL_PREF_HEADER = b"\x40\x05\x04"
ALL_BLOCKS = (b"",)
"""Signs that stand in every block: no path is usual."""
_LEAST_PREFERRED = 0
"""LOCAL_PREF of what a neighbor, external or internal, announces with GRACEFUL_SHUTDOWN (RFC 8326 section 4.2),
whatever the import policy sets: only one that takes the community away keeps its own."""


class AdjRibIn:
    """The import side of one source: an established session, or a local origin (whose policy is "all").

    `local_asn` and `router_id` are how this host appears to it; `router_asn` is the host's AS (0: the same): no path
    may come from either. `role` is this host's on the session. `now` is the wall clock in seconds. `allowed` are the
    next hops that it may name (None: any). `verdicts` counts the changes of what its routes are judged by.
    """

    def __init__(
        self,
        source: Source,
        *,
        policy: Policy,
        local_asn: int,
        router_asn: int = 0,
        router_id: bytes,
        allow_own_as: int,
        now: Callable[[], float],
        allowed: AllowedNextHops | LocalNextHops | None = None,
        role: Role | None = None,
    ) -> None:
        self.allowed = allowed
        self.source = source
        self.policy = policy
        self.allow_own_as = allow_own_as
        self._local_asn = local_asn
        self._own_asns = tuple(dict.fromkeys((local_asn, router_asn or local_asn)))
        self._router_id = router_id
        self._is_external = source.kind is SourceKind.EBGP
        self._takes_all = source.is_local and policy.signs == ()
        self._roles = RoleRules(role, local_asn=local_asn, neighbor_asn=source.asn)
        self._own_signs = {family: self._signs(family) for family in Family}
        self.signs = self._signs_with_policy()
        self.long_lived: set[Family] = set()
        self.now = now
        self.verdicts = 0
        self._interned: dict[Family, InternedPaths] = {}
        self._refusals: dict[NextHop, str] = {}
        self._refusals_told: set[NextHop] = set()
        self._heard_again: dict[Via, Via] = {}

    def _signs(self, family: Family) -> tuple[bytes, ...]:
        """Bytes that stand in a block if anything is to be said against it or changed in it before the policy."""
        if self.source.is_local:
            return ()
        signs = [asn.to_bytes(4, "big") for asn in self._own_asns] + [self._router_id, _PACKED_WELL_KNOWN]
        signs += self._roles.signs(family)
        return (*signs, _LOCAL_PREF_HEADER) if self._is_external else tuple(signs)

    def _signs_with_policy(self) -> dict[Family, tuple[bytes, ...]]:
        """Bytes that stand in a block if its routes are not accepted as they are; some that stand in every block."""
        asked = self.policy.signs
        return {family: ALL_BLOCKS if asked is None else (*own, *asked) for family, own in self._own_signs.items()}

    def interned(self, family: Family) -> InternedPaths:
        """Its paths of a family; the table that their keys are in counts them there."""
        found = self._interned.get(family)
        if found is None:
            found = self._interned[family] = InternedPaths()
        return found

    def paths(
        self,
        family: Family,
        keys: Sequence[bytes],
        attributes: Attributes,
        next_hop: NextHop | None = None,
        overlay: Overlay | None = None,
    ) -> list[tuple[Path, Sequence[bytes]]]:
        """The path of each of `keys`, grouped by path: one group, unless the import policy looks at prefixes.

        A path is found again once keys have it: give it to them before anything else is asked.
        """
        if not self.policy.by_prefix:
            return [(self.path(family, attributes, next_hop, overlay), keys)]
        return [
            (self.path(family, attributes, next_hop, overlay, trace), chosen)
            for trace, chosen in self.traces(family, keys, attributes, next_hop)
        ]

    def traces(
        self, family: Family, keys: Sequence[bytes], attributes: Attributes, next_hop: NextHop | None
    ) -> list[tuple[Trace | None, Sequence[bytes]]]:
        """The keys by what the policy found; None where it does not look at prefixes."""
        if not self.policy.by_prefix:
            return [(None, keys)]
        found = self.policy.split(self._route(family, attributes, next_hop), keys)
        return [(trace, chosen) for trace, chosen in found if chosen]

    def path(
        self,
        family: Family,
        received: Attributes,
        next_hop: NextHop | None,
        overlay: Overlay | None = None,
        trace: Trace | None = None,
    ) -> Path:
        """The path of routes that the policy judges by `trace` (None: whatever their prefixes are)."""
        key, known = self._found(family, received, next_hop, overlay, trace)
        now = self.now()
        if known is None:
            accepted, rejected = received, ""
            if not self._takes_all:
                accepted, rejected = self._verdict(family, received, next_hop, trace)
            if next_hop is None or overlay is not None:
                return Path(Via(self.source, next_hop, now, rejected, overlay), accepted, received, key)
            via = self.interned(family).via_of_unknown(self.source, next_hop, now, rejected)
            return Path(via, accepted, received, key)
        return known if 0 <= now - known.via.heard_at < HEARD_AT_COARSENESS_S else self.heard_again(known, now)

    def known(self, family: Family, received: Attributes, next_hop: NextHop | None) -> Path | None:
        """The path that keys have which were announced like this, whenever that was."""
        return self._found(family, received, next_hop, None, None)[1]

    def _found(
        self,
        family: Family,
        received: Attributes,
        next_hop: NextHop | None,
        overlay: Overlay | None,
        trace: Trace | None,
    ) -> tuple[Hashable, Path | None]:
        """What a path is found by, and the path that keys have."""
        interned = self.interned(family)
        key = _key(received, next_hop, overlay, trace)
        known = interned.get(key)
        if known is not None and known.next_hop is not next_hop and known.next_hop != next_hop:
            key = (received.block, next_hop, overlay, trace)
            known = interned.get(key)
        return key, known

    def heard_again(self, known: Path, now: float) -> Path:
        """A path like one that keys have had for long, for those that get it now."""
        former = known.via
        via = self._heard_again.get(former)
        if via is None or not is_now(via, now) or via.epoch != former.epoch:
            if len(self._heard_again) >= VIAS_KEPT:
                self._heard_again.clear()
            via = self._heard_again[former] = former.heard_again(now)
        return Path(via, known.attributes, known.received, known.entered)

    def heard_before(
        self,
        family: Family,
        received: Attributes,
        next_hop: NextHop | None,
        overlay: Overlay | None,
        trace: Trace | None,
        heard_at: float,
    ) -> Path:
        """A path that another process had, by the policy of now: give it to keys before anything else is asked."""
        key = _key(received, next_hop, overlay, trace)
        known = self.interned(family).get(key)
        if known is not None and known.next_hop != next_hop:
            key = (received.block, next_hop, overlay, trace)
        accepted, rejected = self._verdict(family, received, next_hop, trace)
        return Path.of(self.source, accepted, next_hop, received, heard_at, rejected, overlay, key)

    def all_heard_before(
        self,
        family: Family,
        next_hop: NextHop,
        received: Sequence[Attributes],
        heard_at: Sequence[float],
        entered: Sequence[Hashable],
    ) -> list[Path]:
        """`heard_before` for many paths of one next hop, each to be found by what is in `entered`; for a policy that
        does not look at prefixes."""
        blocks = b"".join([one.block for one in received])  # a sign that lies across two of them costs only time
        if family not in self.long_lived and not any(sign in blocks for sign in self.signs[family]):
            rejected = self.why_refused(family, next_hop)
            vias = {at: Via(self.source, next_hop, at, rejected) for at in set(heard_at)}
            return list(map(Path, map(vias.__getitem__, heard_at), received, received, entered))
        verdicts = [self._verdict(family, one, next_hop, None) for one in received]
        places = list(zip(heard_at, [rejected for _, rejected in verdicts]))
        ways = {place: Via(self.source, next_hop, *place) for place in dict.fromkeys(places)}
        return [
            Path(ways[place], accepted, one, key)
            for place, (accepted, _), one, key in zip(places, verdicts, received, entered)
        ]

    def judged_by(self, path: Path, family: Family, key: bytes) -> tuple[str, Trace]:
        """The policy, and the rules of it that matched a route."""
        return self.policy.name, self.policy.split(self._route(family, path.received, path.next_hop), [key])[0][0]

    def _route(self, family: Family, attributes: Attributes, next_hop: NextHop | None) -> Route:
        return Route(
            attributes=attributes,
            next_hop=next_hop,
            family=family,
            neighbor=self.source.name,
            local_asn=self._local_asn,
            is_local=self.source.is_local,
        )

    @property
    def bytes_kept(self) -> int:
        """Bytes of memory that the source's attributes take, as received and as policy changed them, with its paths."""
        return sum([interned.bytes_kept for interned in self._interned.values()])

    @property
    def next_hops(self) -> set[NextHop]:
        """The next hops that its routes have now."""
        return set().union(*[interned.next_hops for interned in self._interned.values()])

    def has_next_hops(self, most: int) -> bool:
        """Whether its routes have more different next hops than `most`."""
        named = sum([len(interned.next_hops) for interned in self._interned.values()])
        return named > most and len(self.next_hops) > most

    def _forget_verdicts(self) -> None:
        """Make paths anew from now on."""
        self.verdicts += 1
        for interned in self._interned.values():
            interned.forget()

    def _verdict(
        self, family: Family, received: Attributes, next_hop: NextHop | None, trace: Trace | None
    ) -> tuple[Attributes, str]:
        block = received.block
        is_plain = not any(sign in block for sign in self._own_signs[family]) and family not in self.long_lived
        rejected = "" if is_plain else self._why_looped(received) or self._roles.why_leaked(family, received)
        if not rejected and self.allowed is not None:
            rejected = self.why_refused(family, next_hop)
        asks_nothing = self.policy.signs is not None and not any(sign in block for sign in self.policy.signs)
        if rejected or (is_plain and asks_nothing):
            return received, rejected
        accepted = received
        if self._is_external and _LOCAL_PREF_HEADER in block and received.local_pref is not None:
            accepted = received.changed(local_pref=None)
        if not is_plain:
            accepted = self._roles.marked_when_received(family, accepted)
        if not asks_nothing:
            route = self._route(family, accepted, next_hop)
            if trace is None:
                trace = self.policy.split(route, ())[0][0]
            accepted, rejected = self.policy.verdict(route, trace)
        if not self.source.is_local and accepted.has_community(COMMUNITY_GRACEFUL_SHUTDOWN):
            accepted = accepted.changed(local_pref=_LEAST_PREFERRED)
        if not self.source.is_local and (family in self.long_lived or received.has_community(COMMUNITY_LLGR_STALE)):
            accepted = as_llgr_stale(accepted).least_preferred()
        return accepted, rejected

    def _why_looped(self, attributes: Attributes) -> str:
        if self.source.is_local:
            return ""
        for asn in self._own_asns:
            count = attributes.count_as(asn)
            if count > self.allow_own_as:
                times = "once" if count == 1 else f"{count} times"
                return f"AS loop: own AS {asn} is in the AS path {times}, allow_own_as is {self.allow_own_as}"
        if attributes.originator_id == self._router_id:
            return "reflection loop: ORIGINATOR_ID is this host's router ID"
        if attributes.has_cluster(self._router_id):
            return "reflection loop: this host's router ID is in CLUSTER_LIST"
        return ""

    def why_refused(self, family: Family, next_hop: NextHop | None) -> str:
        """Why the neighbor may not name the next hop, or "" (RFC 4271 section 6.3). EVPN's is an endpoint."""
        if self.allowed is None or next_hop is None or family is Family.L2VPN_EVPN:
            return ""
        why = self._refusals.get(next_hop)
        if why is None:
            if len(self._refusals) >= _REFUSALS_KEPT:
                self._refusals.clear()
            why = self._refusals[next_hop] = self.allowed.why_not(next_hop)
            if why and len(self._refusals_told) < _REFUSALS_TOLD and next_hop not in self._refusals_told:
                self._refusals_told.add(next_hop)
                log.warning("next_hop.refused", neighbor=self.source.name, next_hop=str(next_hop), reason=why)
        return why

    def revised(self, path: Path, family: Family, keys: Sequence[bytes]) -> list[tuple[Path, Sequence[bytes]]]:
        """What `keys`, which have `path`, get after the policy changed; the same object where nothing differs."""
        return [
            (self._revised(path, family, trace), chosen)
            for trace, chosen in self.traces(family, keys, path.received, path.next_hop)
        ]

    def _revised(self, path: Path, family: Family, trace: Trace | None) -> Path:
        """What a path becomes: with its heard_at, and stale if it is. Routes that shared it share that, too."""
        interned = self.interned(family)
        refreshed = interned.refreshed
        is_fresh = refreshed is None or path in refreshed
        became = interned.revised.get((path, trace))
        if became is None:
            became = interned.revised[path, trace] = self._judged_again(path, family, trace, is_fresh=is_fresh)
        if is_fresh and refreshed is not None:
            refreshed.add(became)
        return became

    def _judged_again(self, path: Path, family: Family, trace: Trace | None, *, is_fresh: bool) -> Path:
        interned = self.interned(family)
        received, next_hop, overlay = path.received, path.next_hop, path.overlay
        accepted, rejected = self._verdict(family, received, next_hop, trace)
        key = _key(received, next_hop, overlay, trace)
        is_free = is_fresh and interned.get(key) is None
        if rejected == path.rejected and accepted.same_as(path.attributes):
            if is_free and key == path.entered:
                interned.find_again(path)
            return path
        via = path.via
        if rejected != path.rejected:
            via = interned.revised_vias.get((via, rejected)) or Via(
                self.source, next_hop, path.heard_at, rejected, overlay
            )
            interned.revised_vias[path.via, rejected] = via
        return Path(via, accepted, received, key if is_free else None)

    def refresh_began(self, family: Family) -> None:
        """All routes of a family from this neighbor are stale until announced again (RFC 7313 section 4)."""
        self.interned(family).refresh_began()

    def refreshed(self, family: Family) -> set[Path] | None:
        """The paths announced since `refresh_began`: all others are stale. None: no refresh is in progress."""
        return self.interned(family).refreshed

    def refresh_settled(self, family: Family) -> None:
        """Nothing stale is left."""
        self.interned(family).refreshed = None

    def policy_changed(self, policy: Policy, *, allow_own_as: int) -> None:
        """Use another policy from now on."""
        self.policy = policy
        self._takes_all = self.source.is_local and policy.signs == ()
        self.signs = self._signs_with_policy()
        self.allow_own_as = allow_own_as
        self._forget_verdicts()

    def enter_long_lived(self, family: Family) -> None:
        """The session has ended, and its neighbor's Restart Time is over: routes of this family are LLGR_STALE from
        now on (RFC 9494 section 4.2)."""
        self.long_lived.add(family)
        self._forget_verdicts()

    def allow(self, allowed: AllowedNextHops | LocalNextHops) -> bool:
        """The neighbor may name these next hops from now on; whether one that its routes have is judged otherwise."""
        former, self.allowed = self.allowed, allowed
        self.verdicts += 1
        self._refusals.clear()
        differs = former is None or any(former.why_not(one) != allowed.why_not(one) for one in self.next_hops)
        if differs:
            self._forget_verdicts()
        return differs


def _key(received: Attributes, next_hop: NextHop | None, overlay: Overlay | None, trace: Trace | None) -> Hashable:
    """What a path is found by, unless it has another next hop than the one that is found so."""
    return received.block if overlay is None and trace is None else (received.block, next_hop, overlay, trace)


def as_llgr_stale(attributes: Attributes) -> Attributes:
    """With LLGR_STALE, which no policy may take away (RFC 9494 section 4.3)."""
    if attributes.has_community(COMMUNITY_LLGR_STALE):
        return attributes
    return attributes.changed(communities=(*attributes.communities, COMMUNITY_LLGR_STALE))


def forbids_long_lived(path: Path) -> bool:
    """Whether a route asks not to be kept as a long-lived stale one."""
    return path.received.has_community(COMMUNITY_NO_LLGR)


Replaced = Callable[[Path, Sequence[bytes]], None]


def revise(
    table: LocRib, family: Family, changed: Mapping[Source, AdjRibIn], replaced: Replaced = lambda *_: None
) -> Iterator[Changes]:
    """Give all routes of the `changed` sources what their present import policy makes of them, one slice per step.

    `replaced` is called with each path that took the place of another, and its keys.
    """
    for keys in table.routes.slices(SLICE // 4 or 1):
        changes = Changes()
        for decision, chosen in _affected(table, keys, changed).items():
            for candidates, group in _split(decision.candidates, chosen, family, changed, replaced):
                table.apply(group, _always(table.decision(candidates)), changes)
        yield changes
    for adj_rib_in in changed.values():
        adj_rib_in.interned(family).revision_ended()


def _affected(table: LocRib, keys: Sequence[bytes], changed: Mapping[Source, AdjRibIn]) -> dict[Entry, list[bytes]]:
    by_decision: dict[Entry, list[bytes]] = {}
    for key in keys:
        decision = table.routes.get(key)
        if decision is not None:
            by_decision.setdefault(decision, []).append(key)
    return {
        decision: chosen
        for decision, chosen in by_decision.items()
        if any(path.source in changed for path in decision.candidates)
    }


def _split(
    candidates: tuple[Path, ...],
    keys: Sequence[bytes],
    family: Family,
    changed: Mapping[Source, AdjRibIn],
    replaced: Replaced,
) -> list[tuple[tuple[Path, ...], Sequence[bytes]]]:
    """The candidates after the change; several groups where a policy looks at prefixes."""
    groups: list[tuple[tuple[Path, ...], Sequence[bytes]]] = [((), keys)]
    for path in candidates:
        adj_rib_in = changed.get(path.source)
        if adj_rib_in is None:
            groups = [((*former, path), chosen) for former, chosen in groups]
        else:
            groups = [
                ((*former, revised), part)
                for former, chosen in groups
                for revised, part in adj_rib_in.revised(path, family, chosen)
            ]
            for former, chosen in groups:
                if former[-1] is not path:
                    replaced(former[-1], chosen)
    return groups


def _always(decision: Entry | None) -> Compute:
    return lambda _: decision
