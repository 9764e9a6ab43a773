"""Workloads that come, go, and are announced by other hosts: keeps MacMobility told, and acts on its verdicts.

An endpoint is announced as type 2 while MacMobility says that it is held; one that moved elsewhere is given up by the
workload table, which withdraws it and then lets the remote route take its place in the kernel in one step. A frozen
one (duplicate detection) stays as it is: told if it was told. What it knows of an endpoint outlives a restart: one that
an earlier run announced comes back with its sequence, one that it gave up stays given up until all others were heard.
Never decides who has an address (mac_mobility.py). Time is passed in.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence

import structlog

from bgpd.evpn.mac_mobility import Endpoint, MacMobility, Mobility, Remote, Standing, Verdict
from bgpd.model.iana import Family
from bgpd.model.prefix import format_address
from bgpd.model.workload import ClaimInfo, Presence

log = structlog.get_logger()

_Where = tuple[str, bytes]
"""VRF and host prefix (route key)."""


class MobilityWatch:
    """The endpoints of this host. `origin(vrf)` is what its routes of a VRF are known by (model/evpn.py).

    `remote(vrf, prefix)`: the best remote type 2 route of a host prefix. `announce(changes)`: endpoints to be told with
    this mobility, None not any more. `given_up(vrf, family, prefixes, why)`: another host has these; "": no other any
    more. `former(vrf, family, prefix)`: the sequence that an earlier run announced a workload with, to be taken once.
    `presence_changed(vrf, family, prefix)`: what `presence` says of a workload is another, without it coming or going.
    """

    def __init__(
        self,
        *,
        origin: Callable[[str], bytes],
        remote: Callable[[str, bytes], Remote | None],
        announce: Callable[[dict[Endpoint, Mobility | None]], None],
        given_up: Callable[[str, Family, list[bytes], str], None],
        former: Callable[[str, Family, bytes], int | None],
        presence_changed: Callable[[str, Family, bytes], None],
    ) -> None:
        self.followed: dict[str, set[bytes]] = {}
        self._mobility = MacMobility(origin=origin)
        self._remote = remote
        self._announce = announce
        self._given_up = given_up
        self._former = former
        self._presence_changed = presence_changed
        self._at: dict[_Where, Endpoint] = {}
        self._here: set[_Where] = set()
        self._told: set[Endpoint] = set()

    def workloads_announced(
        self, vrf: str, family: Family, prefixes: Sequence[bytes], info: ClaimInfo, *, now: float
    ) -> None:
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
            self._here.add(where)
            self.followed.setdefault(vrf, set()).add(prefix)
            remote = self._remote(vrf, prefix)
            verdict = self._mobility.appeared(
                endpoint, sticky=info.sticky, remote=remote, now=now, former=self._former(vrf, family, prefix)
            )
            verdicts.append((endpoint, verdict))
        self._act(verdicts, changes)

    def resume(self, vrf: str, prefix: bytes, info: ClaimInfo, known: Presence) -> None:
        """An earlier run gave up this workload, which is still claimed here."""
        endpoint = Endpoint(vrf, info.mac, prefix[1:])
        self._at[vrf, prefix] = endpoint
        self.followed.setdefault(vrf, set()).add(prefix)
        self._mobility.resumed(endpoint, sticky=info.sticky, known=known, remote=self._remote(vrf, prefix))

    def all_heard(self, now: float) -> None:
        """What other hosts announce is known by now: what was given up for them, and they have no more, is free."""
        self._act(list(self._mobility.all_heard(now)), {})

    def presence(self, vrf: str, prefix: bytes) -> Presence | None:
        """What `resume` and `former` need after a restart; None for what is no endpoint of this host."""
        endpoint = self._at.get((vrf, prefix))
        verdict = self._mobility.verdict(endpoint) if endpoint is not None else None
        if endpoint is None or verdict is None:
            return None
        sequence, seen = self._mobility.presence(endpoint)
        return Presence(sequence=sequence, seen=seen, moved="" if endpoint in self._told else verdict.why)

    def workloads_withdrawn(self, vrf: str, prefixes: Iterable[bytes]) -> None:
        """These workloads are announced no more. One that was given up is remembered as long as another host has it."""
        changes: dict[Endpoint, Mobility | None] = {}
        for prefix in prefixes:
            where = (vrf, prefix)
            endpoint = self._at.get(where)
            if endpoint is None:
                continue
            verdict = self._mobility.verdict(endpoint)
            self._told.discard(endpoint)
            if verdict is not None and verdict.standing is not Standing.HELD:
                self._here.discard(where)
                changes[endpoint] = None
            else:
                self._drop(where, changes)
        self._announce(changes)

    def remote_changed(self, vrf: str, prefixes: Iterable[bytes], *, now: float) -> None:
        """What neighbors announce for these addresses changed."""
        verdicts = []
        for prefix in prefixes:
            endpoint = self._at.get((vrf, prefix))
            if endpoint is None:
                continue
            before = self._mobility.presence(endpoint)
            verdict = self._mobility.remote_changed(endpoint, self._remote(vrf, prefix), now=now)
            if verdict is not None:
                verdicts.append((endpoint, verdict))
            elif self._mobility.presence(endpoint) != before:
                self._presence_changed(vrf, _family_of(endpoint), prefix)
        self._act(verdicts, {})

    def next_deadline(self) -> float | None:
        """When `expired` has something to do."""
        return self._mobility.next_deadline()

    def expired(self, now: float) -> None:
        """Frozen endpoints whose recovery time has come are tried anew."""
        self._act(list(self._mobility.expired(now)), {})

    def tell_again(self, vrf: str) -> None:
        """Announce all that is held in a VRF, as for the first time."""
        held = {
            endpoint: verdict.mobility
            for endpoint in self._told
            if endpoint.vrf == vrf and (verdict := self._mobility.verdict(endpoint)) is not None
        }
        self._announce(dict(held))

    def vrf_removed(self, vrf: str) -> None:
        """Forget the endpoints of a VRF."""
        changes: dict[Endpoint, Mobility | None] = {}
        for where in [where for where in self._at if where[0] == vrf]:
            self._drop(where, changes)
        self.followed.pop(vrf, None)

    def endpoints(self) -> Iterable[tuple[Endpoint, Verdict]]:
        """All endpoints with their standing."""
        return self._mobility.endpoints()

    def _drop(self, where: _Where, changes: dict[Endpoint, Mobility | None]) -> None:
        endpoint = self._at.pop(where)
        self._here.discard(where)
        self.followed.get(where[0], set()).discard(where[1])
        self._told.discard(endpoint)
        self._mobility.gone(endpoint)
        changes[endpoint] = None

    def _act(self, verdicts: list[tuple[Endpoint, Verdict]], changes: dict[Endpoint, Mobility | None]) -> None:
        """Announce what is held; then have given up what is not."""
        gone: dict[tuple[str, Family, str], list[bytes]] = {}
        again = []
        for endpoint, verdict in verdicts:
            family = _family_of(endpoint)
            prefix = bytes((8 * len(endpoint.ip),)) + endpoint.ip
            here = (endpoint.vrf, prefix) in self._here
            if verdict.standing is Standing.HELD:
                if here:
                    if endpoint in self._told:
                        again.append((endpoint.vrf, family, prefix))
                    self._told.add(endpoint)
                    changes[endpoint] = verdict.mobility
                else:
                    self._drop((endpoint.vrf, prefix), {})
                    gone.setdefault((endpoint.vrf, family, ""), []).append(prefix)
            elif verdict.standing is not Standing.FROZEN or endpoint not in self._told:
                self._told.discard(endpoint)
                changes[endpoint] = None
                gone.setdefault((endpoint.vrf, family, verdict.why), []).append(prefix)
            self._tell(endpoint, verdict)
        self._announce(changes)
        for (vrf, family, why), prefixes in gone.items():
            self._given_up(vrf, family, prefixes, why)
        for vrf, family, prefix in again:
            self._presence_changed(vrf, family, prefix)

    def _tell(self, endpoint: Endpoint, verdict: Verdict) -> None:
        if verdict.why or verdict.mobility.sequence:
            tell = log.error if verdict.standing is Standing.FROZEN else log.warning if verdict.why else log.info
            tell(
                f"mobility.{verdict.standing}",
                vrf=endpoint.vrf,
                mac=endpoint.mac.hex(":"),
                address=format_address(endpoint.ip),
                sequence=verdict.mobility.sequence,
                reason=verdict.why,
            )


def _family_of(endpoint: Endpoint) -> Family:
    return Family.IPV4_UNICAST if len(endpoint.ip) == 4 else Family.IPV6_UNICAST
