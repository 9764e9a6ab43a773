"""Workloads that come, go, and are advertised by other hosts: asks MacMobility who has each, and acts on the answer.

An endpoint is advertised as type 2 while MacMobility says that it is local; one that moved elsewhere is given up by the
workload table, which withdraws it and then lets the remote route take its place in the kernel in one step. A frozen
one (duplicate detection) stays as it is, advertised if it was, until no other host announces it, its workload is
deleted, an operator ends the freeze, or the recovery time expires. The state of endpoints is kept over a
restart: one that an earlier run advertised keeps its sequence, one that it gave up stays given up until all neighbors
have sent their routes. Moves and freezes are kept over a hand-over. Never decides who has an address (mac_mobility.py).
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

from bgpd.evpn.mac_mobility import Endpoint, EndpointState, MacMobility, Mobility, SavedMoves, Verdict
from bgpd.evpn.originate import Originator
from bgpd.evpn.ports import ClaimPort, PresencePort
from bgpd.evpn.vrf import Vrf
from bgpd.evpn.vrf_routes import VrfRoutes
from bgpd.model.evpn import origin_of
from bgpd.model.iana import Family
from bgpd.model.prefix import family_of, format_address, host_key
from bgpd.model.workload import ClaimInfo, Presence
from bgpd.runtime.events import log
from bgpd.runtime.turns import Clock

_Where = tuple[str, bytes]
"""VRF and host prefix (route key)."""


class Endpoints:
    """This host's endpoints. `followed` has the host prefixes of each VRF of which remote routes matter.

    `vrfs` are the configured ones, by name. Call `connect` before anything is announced.
    """

    def __init__(self, vrfs: Mapping[str, Vrf], routes: VrfRoutes, originator: Originator, clock: Clock) -> None:
        self.followed: dict[str, set[bytes]] = {}
        self._mobility = MacMobility(origin=lambda vrf: origin_of(vrfs[vrf].rd))
        self._routes = routes
        self._originator = originator
        self._clock = clock
        self._deadline: float | None = None
        self._at: dict[_Where, Endpoint] = {}
        self._here: set[_Where] = set()
        self._advertised: dict[Endpoint, None] = {}
        self._given_up: set[Endpoint] = set()
        self._unclaimed: set[Endpoint] = set()
        """Given up before, and claimed here no more: their moves still count."""

    def connect(self, *, claims: ClaimPort, presences: PresencePort) -> None:
        """The workload table, which is made with EVPN in hand."""
        self._claims = claims
        self._presences = presences

    def workloads_announced(self, vrf: str, family: Family, prefixes: Sequence[bytes], info: ClaimInfo) -> None:
        """These workloads are here, and the kernel forwards to them. Without a MAC they are no endpoints."""
        host_length = 32 if family is Family.IPV4_UNICAST else 128
        changes: dict[Endpoint, Mobility | None] = {}
        verdicts: list[tuple[Endpoint, Verdict]] = []
        for prefix in prefixes:
            where = (vrf, prefix)
            endpoint = Endpoint(vrf, info.mac, prefix[1:])
            former = self._at.get(where)
            if former is not None and (former != endpoint or not info.mac):
                self._drop(where, changes)
            if not info.mac or prefix[0] != host_length:
                continue
            self._at[where] = endpoint
            self._unclaimed.discard(endpoint)
            self._here.add(where)
            self.followed.setdefault(vrf, set()).add(prefix)
            remote = self._routes.remote(vrf, prefix)
            former_sequence = self._presences.take_former(vrf, family, prefix)
            verdict = self._mobility.appeared(
                endpoint, sticky=info.sticky, remote=remote, now=self._clock.time(), former=former_sequence
            )
            if verdict.state is EndpointState.FROZEN and former_sequence is not None:
                self._advertised[endpoint] = None
                changes[endpoint] = verdict.mobility
            verdicts.append((endpoint, verdict))
        self._act(verdicts, changes)

    def resume(self, vrf: str, prefix: bytes, info: ClaimInfo, known: Presence) -> None:
        """An earlier run gave up this workload, which is still claimed here."""
        endpoint = Endpoint(vrf, info.mac, prefix[1:])
        self._at[vrf, prefix] = endpoint
        self._unclaimed.discard(endpoint)
        self.followed.setdefault(vrf, set()).add(prefix)
        remote = self._routes.remote(vrf, prefix)
        self._mobility.resumed(endpoint, sticky=info.sticky, known=known, remote=remote, now=self._clock.time())
        self._set_timer()

    def saved_moves(self) -> list[SavedMoves]:
        """How often endpoints have moved of late, for another process."""
        return self._mobility.saved(self._clock.time())

    def moves_left(self, saved: Iterable[SavedMoves]) -> None:
        """What `saved_moves` of another process said, before its workloads are claimed here."""
        self._mobility.left(saved)

    def all_heard(self) -> None:
        """What other hosts announce is known by now: what was given up for them, and they have no more, is free."""
        self._act(list(self._mobility.all_heard(self._clock.time())), {})

    def presence(self, vrf: str, prefix: bytes) -> Presence | None:
        """What `resume` and `former` need after a restart; None for what is no endpoint of this host."""
        endpoint = self._at.get((vrf, prefix))
        verdict = self._mobility.verdict(endpoint) if endpoint is not None else None
        if endpoint is None or verdict is None:
            return None
        sequence, seen = self._mobility.presence(endpoint)
        return Presence(sequence=sequence, seen=seen, moved="" if endpoint in self._advertised else verdict.why)

    def workloads_withdrawn(self, vrf: str, prefixes: Iterable[bytes]) -> None:
        """These workloads are announced no more. One that was given up is remembered as long as another host has it."""
        changes: dict[Endpoint, Mobility | None] = {}
        for prefix in prefixes:
            where = (vrf, prefix)
            endpoint = self._at.get(where)
            if endpoint is None:
                continue
            verdict = self._mobility.verdict(endpoint)
            self._advertised.pop(endpoint, None)
            if verdict is not None and verdict.state is not EndpointState.LOCAL:
                self._here.discard(where)
                changes[endpoint] = None
            else:
                self._drop(where, changes)
        self._originator.endpoints_changed(changes)

    def workloads_gone(self, vrf: str, prefixes: Iterable[bytes]) -> None:
        """Nobody claims these any more: a freeze ends with that."""
        for prefix in prefixes:
            endpoint = self._at.get((vrf, prefix))
            verdict = self._mobility.verdict(endpoint) if endpoint is not None else None
            if endpoint is None or verdict is None:
                continue
            if verdict.state is EndpointState.FROZEN:
                self._drop((vrf, prefix), {})
            else:
                self._unclaimed.add(endpoint)

    def thaw(self, mac: bytes) -> int:
        """End the freeze of a MAC; how many endpoints of this host that concerns."""
        now = self._clock.time()
        verdicts = list(self._mobility.thaw(mac, now))
        self._act(verdicts, {})
        return len(verdicts) + self._mobility.forget(mac, now)

    def remote_changed(self, vrf: str, prefixes: Iterable[bytes]) -> None:
        """What neighbors announce for these addresses changed."""
        verdicts = []
        now = self._clock.time()
        for prefix in prefixes:
            endpoint = self._at.get((vrf, prefix))
            if endpoint is None:
                continue
            before = self._mobility.presence(endpoint)
            verdict = self._mobility.remote_changed(endpoint, self._routes.remote(vrf, prefix), now=now)
            if verdict is not None:
                verdicts.append((endpoint, verdict))
            elif self._mobility.presence(endpoint) != before:
                self._presences.presence_changed(vrf, family_of(endpoint.ip), prefix)
        self._act(verdicts, {})

    def _expired(self) -> None:
        """The recovery time of frozen endpoints expired: unfreeze them."""
        self._deadline = None
        self._act(list(self._mobility.expired(self._clock.time())), {})

    def _set_timer(self) -> None:
        deadline = self._mobility.next_deadline()
        if deadline is not None and (self._deadline is None or deadline < self._deadline):
            self._deadline = deadline
            self._clock.call_at(deadline, self._expired)

    def advertise_again(self, vrf: str) -> None:
        """Advertise all that is local in a VRF, as for the first time."""
        local = {
            endpoint: verdict.mobility
            for endpoint in self._advertised
            if endpoint.vrf == vrf and (verdict := self._mobility.verdict(endpoint)) is not None
        }
        self._originator.endpoints_changed(dict(local))

    def vrf_removed(self, vrf: str) -> None:
        """Forget the endpoints of a VRF."""
        changes: dict[Endpoint, Mobility | None] = {}
        for where in [where for where in self._at if where[0] == vrf]:
            self._drop(where, changes)
        self.followed.pop(vrf, None)

    def all(self) -> Iterable[tuple[Endpoint, Verdict]]:
        """All endpoints that are claimed here, with the verdict on each."""
        return [(one, verdict) for one, verdict in self._mobility.endpoints() if one not in self._unclaimed]

    def _drop(self, where: _Where, changes: dict[Endpoint, Mobility | None]) -> None:
        endpoint = self._at.pop(where)
        self._here.discard(where)
        self.followed.get(where[0], set()).discard(where[1])
        self._advertised.pop(endpoint, None)
        self._given_up.discard(endpoint)
        self._unclaimed.discard(endpoint)
        self._mobility.gone(endpoint)
        changes[endpoint] = None

    def _comes_back(self, endpoint: Endpoint, prefix: bytes) -> Verdict:
        """One that was given up is free: the workload table announces it again, if it still has it.

        That is as for the first time: a host that had it last, and only restarts, has it again when it is back.
        """
        self._drop((endpoint.vrf, prefix), {})
        remote = self._routes.remote(endpoint.vrf, prefix)
        sequence = 0 if remote is None else remote.mobility.sequence + 1
        return Verdict(EndpointState.LOCAL, Mobility(sequence), "given up before, and free again")

    def _act(self, verdicts: list[tuple[Endpoint, Verdict]], changes: dict[Endpoint, Mobility | None]) -> None:
        """Advertise what is local; then have given up what is not."""
        gone: dict[tuple[str, Family, str], list[bytes]] = {}
        again = []
        for endpoint, verdict in verdicts:
            family = family_of(endpoint.ip)
            prefix = host_key(endpoint.ip)
            here = (endpoint.vrf, prefix) in self._here
            if verdict.state is EndpointState.LOCAL:
                if here and endpoint in self._advertised:
                    again.append((endpoint.vrf, family, prefix))
                if not here or endpoint in self._given_up:
                    gone.setdefault((endpoint.vrf, family, ""), []).append(prefix)
                self._given_up.discard(endpoint)
                if here:
                    self._advertised[endpoint] = None
                    changes[endpoint] = verdict.mobility
                else:
                    verdict = self._comes_back(endpoint, prefix)
            elif verdict.state is not EndpointState.FROZEN or endpoint not in self._advertised:
                self._advertised.pop(endpoint, None)
                self._given_up.add(endpoint)
                changes[endpoint] = None
                gone.setdefault((endpoint.vrf, family, verdict.why), []).append(prefix)
            _log(endpoint, verdict)
        self._originator.endpoints_changed(changes)
        for (vrf, family, why), prefixes in gone.items():
            self._claims.moved(vrf, family, prefixes, why)
        for vrf, family, prefix in again:
            self._presences.presence_changed(vrf, family, prefix)
        self._set_timer()


def _log(endpoint: Endpoint, verdict: Verdict) -> None:
    if verdict.why or verdict.mobility.sequence:
        report = log.error if verdict.state is EndpointState.FROZEN else log.warning if verdict.why else log.info
        report(
            f"mobility.{verdict.state}",
            vrf=endpoint.vrf,
            mac=endpoint.mac.hex(":"),
            address=format_address(endpoint.ip),
            sequence=verdict.mobility.sequence,
            reason=verdict.why,
        )
