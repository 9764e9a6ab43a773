"""Which of two hosts has a MAC/IP: sequence numbers, sticky MACs, duplicate detection (RFC 7432 sections 7.7 and 15).

Decides for this host's own endpoints only: the sequence number of each, when it is given up because it moved to another
host, and when it is frozen because two hosts keep taking it from each other. A sticky MAC wins over any sequence; of
two sticky ones the lower origin wins, on every host. An endpoint that no other host announces is never given up. The
decision process (rib/decision.py) orders remote routes in the same way. Sans-IO, clockless: `now` is monotonic seconds.
"""

from __future__ import annotations

import enum
from collections import deque
from collections.abc import Callable, Iterable, Iterator

import msgspec

from bgpd.model.workload import Presence

MOVES_LIMIT = 5
"""N of RFC 7432 section 15.1: as many moves within the period are a duplicate."""
MOVES_PERIOD_S = 180.0
"""M of RFC 7432 section 15.1."""
RECOVERY_S = 540.0
"""A frozen endpoint is unfrozen after this time: three detection periods."""

MAX_SEQUENCE = 2**32 - 1
"""The field has 4 bytes, and the RFC defines no wrapping: two hosts at the maximum have equal sequences."""

_MOBILITY_TYPE = b"\x06\x00"
_STICKY = 0x01


class Endpoint(msgspec.Struct, frozen=True):
    """A MAC with one of its addresses in a VRF: 6 bytes, and 4 or 16 (b"" for the MAC alone)."""

    vrf: str
    mac: bytes
    ip: bytes


class Mobility(msgspec.Struct, frozen=True, order=True):
    """The MAC mobility extended community (RFC 7432 section 7.7); without one the sequence is 0."""

    sequence: int = 0
    sticky: bool = False

    @property
    def precedence(self) -> tuple[bool, int]:
        """Sort key, lower wins: sticky first, then higher sequence."""
        return not self.sticky, 0 if self.sticky else -self.sequence


class Remote(msgspec.Struct, frozen=True):
    """The best remote route of an endpoint; `origin` (model/evpn.py) is the tie-break of equal sequences."""

    mobility: Mobility
    origin: bytes


class EndpointState(enum.StrEnum):
    """What an endpoint of this host is now."""

    LOCAL = "held"
    """On this host: advertised once the kernel forwards to it."""
    MOVED = "moved"
    CONFLICT = "conflict"
    FROZEN = "frozen"


class Verdict(msgspec.Struct, frozen=True):
    """The state of an endpoint, the mobility to announce it with if local, and why it is so."""

    state: EndpointState
    mobility: Mobility = Mobility()
    why: str = ""

    @property
    def announced(self) -> bool:
        """Whether this host announces the endpoint."""
        return self.state is EndpointState.LOCAL


class SavedMoves(msgspec.Struct, array_like=True, frozen=True):
    """How often an endpoint has moved of late, as one process leaves it to the next. Times are of the monotonic clock;
    `frozen`: why it is until `frozen_until`, "" if it is not."""

    vrf: str
    mac: bytes
    ip: bytes
    moves: list[float]
    frozen_until: float
    frozen: str


class _Own(msgspec.Struct):
    """State of one of this host's endpoints. `seen`: the highest sequence that another host announced.

    `awaits`: an earlier run gave it up, and whether another host still has it is not known yet.
    """

    vrf: str
    sticky: bool
    verdict: Verdict
    moves: deque[float]
    frozen_until: float = 0.0
    remote: Remote | None = None
    seen: int = -1
    awaits: bool = False

    def thaw(self) -> None:
        """Reset the count of moves."""
        self.moves.clear()
        self.frozen_until = 0.0

    def heard(self, remote: Remote | None) -> None:
        self.remote = remote
        if remote is not None:
            self.seen = max(self.seen, remote.mobility.sequence)


def _still_counts(left: SavedMoves, now: float) -> bool:
    if left.frozen:
        return now < left.frozen_until
    return bool(left.moves) and now - left.moves[-1] <= MOVES_PERIOD_S


def decode_mobility(extended_communities: tuple[bytes, ...]) -> Mobility:
    """The MAC mobility among 8-byte extended communities; sequence 0, not sticky where there is none."""
    for community in extended_communities:
        if community[:2] == _MOBILITY_TYPE:
            return Mobility(int.from_bytes(community[4:8]), bool(community[2] & _STICKY))
    return Mobility()


def encode_mobility(mobility: Mobility) -> tuple[bytes, ...]:
    """The extended community that carries `mobility`; none for sequence 0 without the sticky flag."""
    if mobility == Mobility():
        return ()
    return (_MOBILITY_TYPE + bytes((_STICKY if mobility.sticky else 0, 0)) + mobility.sequence.to_bytes(4, "big"),)


class MacMobility:
    """Keeps the state of this host's endpoints; `origin(vrf)` is what this host's routes of a VRF are known by."""

    def __init__(self, *, origin: Callable[[str], bytes]) -> None:
        self._origin = origin
        self._own: dict[Endpoint, _Own] = {}
        self._frozen: dict[Endpoint, _Own] = {}
        self._left: dict[Endpoint, SavedMoves] = {}

    # From one process to the next.

    def saved(self, now: float) -> list[SavedMoves]:
        """The moves that still count, and the freezes; also of endpoints that have not appeared here since another
        process left."""
        found = [one for one in self._left.values() if _still_counts(one, now)]
        for one, own in self._own.items():
            is_frozen = own.verdict.state is EndpointState.FROZEN
            if is_frozen or (own.moves and now - own.moves[-1] <= MOVES_PERIOD_S):
                why = own.verdict.why if is_frozen else ""
                found.append(SavedMoves(one.vrf, one.mac, one.ip, list(own.moves), own.frozen_until, why))
        return found

    def left(self, saved: Iterable[SavedMoves]) -> None:
        """What another process has left of endpoints that are about to appear, or to be resumed, here."""
        self._left = {Endpoint(one.vrf, one.mac, one.ip): one for one in saved}

    def _go_on(self, endpoint: Endpoint, own: _Own, now: float) -> None:
        """Count on from what another process has left. What is frozen stays so; whether other hosts still have it is
        not known before `all_heard`."""
        left = self._left.pop(endpoint, None)
        if left is None:
            return
        if not left.frozen:
            own.moves.extend(left.moves)
        elif now < left.frozen_until:
            own.moves.extend(left.moves)
            own.frozen_until, own.awaits = left.frozen_until, True
            own.verdict = Verdict(EndpointState.FROZEN, own.verdict.mobility, left.frozen)
        self._note_frozen(endpoint, own)

    # What happens.

    def appeared(
        self, endpoint: Endpoint, *, sticky: bool, remote: Remote | None, now: float, former: int | None = None
    ) -> Verdict:
        """A workload with this endpoint came to this host: it is taken over from `remote`.

        One that is held already is judged as when `remote` changes. So is one that was never away: an earlier run
        announced it, with the sequence `former`.
        """
        own = self._own.get(endpoint)
        is_new = own is None and former is None
        if own is None:
            verdict = Verdict(EndpointState.LOCAL, Mobility(former or 0, sticky))
            own = self._own[endpoint] = _Own(endpoint.vrf, sticky, verdict, deque())
            self._go_on(endpoint, own, now)
        is_frozen = own.verdict.state is EndpointState.FROZEN and now < own.frozen_until
        own.sticky, own.awaits = sticky, own.awaits and is_frozen
        own.heard(remote)
        if is_frozen and (remote is not None or own.awaits):
            return own.verdict
        if is_new or own.verdict.state is not EndpointState.LOCAL or remote is None:
            own.verdict = self._take(own, now)
        else:
            own.verdict = self._challenged(own, now)
        self._note_frozen(endpoint, own)
        return own.verdict

    def thaw(self, mac: bytes, now: float) -> Iterator[tuple[Endpoint, Verdict]]:
        """End the freeze of a MAC; returns the new verdicts of its endpoints."""
        for endpoint, own in list(self._frozen.items()):
            if endpoint.mac == mac:
                yield endpoint, self._thaw(endpoint, own, now)

    def forget(self, mac: bytes, now: float) -> int:
        """What another process has left of a MAC whose endpoints have not appeared here does not count any more; how
        many of them were frozen."""
        going = [one for endpoint, one in self._left.items() if endpoint.mac == mac]
        for one in going:
            del self._left[Endpoint(one.vrf, one.mac, one.ip)]
        return sum(bool(one.frozen) and _still_counts(one, now) for one in going)

    def _thaw(self, endpoint: Endpoint, own: _Own, now: float) -> Verdict:
        own.thaw()
        own.verdict = self._take(own, now)
        self._note_frozen(endpoint, own)
        return own.verdict

    def _note_frozen(self, endpoint: Endpoint, own: _Own) -> None:
        if own.verdict.state is EndpointState.FROZEN:
            self._frozen[endpoint] = own
        else:
            self._frozen.pop(endpoint, None)

    def resumed(self, endpoint: Endpoint, *, sticky: bool, known: Presence, remote: Remote | None, now: float) -> None:
        """An earlier run gave this endpoint up: moved until `all_heard` finds that no other host has it."""
        verdict = Verdict(EndpointState.MOVED, Mobility(known.sequence, sticky), known.moved)
        own = self._own[endpoint] = _Own(endpoint.vrf, sticky, verdict, deque(), seen=known.seen, awaits=True)
        own.heard(remote)
        self._go_on(endpoint, own, now)

    def all_heard(self, now: float) -> Iterator[tuple[Endpoint, Verdict]]:
        """What other hosts announce is known: those that an earlier run gave up, and nobody has, are taken back."""
        for endpoint, own in list(self._own.items()):
            if own.awaits:
                own.awaits = False
                if own.remote is None:
                    own.verdict = self._take(own, now)
                    self._note_frozen(endpoint, own)
                    yield endpoint, own.verdict

    def presence(self, endpoint: Endpoint) -> tuple[int, int]:
        """Sequence of one of this host's endpoints, and the highest that another host announced, or -1."""
        own = self._own[endpoint]
        return own.verdict.mobility.sequence, own.seen

    def gone(self, endpoint: Endpoint) -> None:
        """The workload left this host."""
        self._own.pop(endpoint, None)
        self._frozen.pop(endpoint, None)

    def remote_changed(self, endpoint: Endpoint, remote: Remote | None, *, now: float) -> Verdict | None:
        """The best remote route of an endpoint is now this; answers the verdict if it changed (None: as before)."""
        own = self._own.get(endpoint)
        if own is None:
            return None
        before = own.verdict
        own.heard(remote)
        if before.state is EndpointState.LOCAL:
            own.verdict = self._challenged(own, now)
        elif (remote is None or before.state is EndpointState.CONFLICT) and not own.awaits:
            own.verdict = self._take(own, now)
        self._note_frozen(endpoint, own)
        return own.verdict if own.verdict != before else None

    def verdict(self, endpoint: Endpoint) -> Verdict | None:
        """The present verdict on one of this host's endpoints."""
        own = self._own.get(endpoint)
        return own.verdict if own else None

    def next_deadline(self) -> float | None:
        """When `expired` has something to do."""
        return min((own.frozen_until for own in self._frozen.values()), default=None)

    def expired(self, now: float) -> Iterator[tuple[Endpoint, Verdict]]:
        """Frozen endpoints whose recovery time has come, with their new verdict."""
        for endpoint, own in list(self._frozen.items()):
            if now >= own.frozen_until:
                yield endpoint, self._thaw(endpoint, own, now)

    def endpoints(self) -> Iterator[tuple[Endpoint, Verdict]]:
        """All of this host's endpoints with the verdict on each."""
        for endpoint, own in self._own.items():
            yield endpoint, own.verdict

    def _take(self, own: _Own, now: float) -> Verdict:
        """Advertise the endpoint with a sequence above that of other hosts (RFC 7432 section 15)."""
        remote, former = own.remote, own.verdict.mobility
        if remote is None:
            sequence = former.sequence if own.verdict.announced else max(former.sequence, _after(own.seen))
            return Verdict(EndpointState.LOCAL, Mobility(sequence, own.sticky))
        if remote.mobility.sticky:
            return self._against_sticky(own, remote)
        if not own.sticky and self._count_move(own, now):
            return own.verdict
        sequence = _after(max(former.sequence, remote.mobility.sequence))
        return Verdict(EndpointState.LOCAL, Mobility(sequence, own.sticky), _sticky_here(remote) if own.sticky else "")

    def _challenged(self, own: _Own, now: float) -> Verdict:
        """Another host announces what this one has."""
        remote, mine = own.remote, Mobility(own.verdict.mobility.sequence, own.sticky)
        if remote is None:
            return Verdict(EndpointState.LOCAL, mine)
        if remote.mobility.sticky:
            return self._against_sticky(own, remote)
        if own.sticky:
            return Verdict(EndpointState.LOCAL, mine, _sticky_here(remote))
        theirs = remote.mobility.sequence
        if theirs < mine.sequence:
            return Verdict(EndpointState.LOCAL, mine)
        why = f"another host announces it with sequence {theirs} too; the lower address wins"
        if theirs == mine.sequence and self._origin(own.vrf) <= remote.origin:
            return Verdict(EndpointState.LOCAL, mine, why)
        if self._count_move(own, now):
            return own.verdict
        if theirs > mine.sequence:
            why = f"announced elsewhere with sequence {theirs}"
        return Verdict(EndpointState.MOVED, mine, why)

    def _against_sticky(self, own: _Own, remote: Remote) -> Verdict:
        """Another host announces as sticky what this one has (RFC 7432 section 15.2): that never moves."""
        mine = Mobility(own.verdict.mobility.sequence, own.sticky)
        if not own.sticky:
            return Verdict(EndpointState.CONFLICT, mine, "announced as sticky by another host, which never moves")
        why = "sticky here and on another host; the lower address wins"
        wins = self._origin(own.vrf) <= remote.origin
        return Verdict(EndpointState.LOCAL if wins else EndpointState.CONFLICT, mine, why)

    def _count_move(self, own: _Own, now: float) -> bool:
        """Count a move; whether it makes the endpoint a duplicate, which freezes it (RFC 7432 section 15.1)."""
        own.moves.append(now)
        while own.moves and now - own.moves[0] > MOVES_PERIOD_S:
            own.moves.popleft()
        if len(own.moves) < MOVES_LIMIT:
            return False
        own.frozen_until = now + RECOVERY_S
        why = f"{len(own.moves)} moves in {MOVES_PERIOD_S:.0f} s: duplicate, frozen for {RECOVERY_S:.0f} s"
        own.verdict = Verdict(EndpointState.FROZEN, own.verdict.mobility, why)
        return True


def _sticky_here(remote: Remote) -> str:
    return f"sticky here, yet announced elsewhere (sequence {remote.mobility.sequence})"


def _after(sequence: int) -> int:
    return min(sequence + 1, MAX_SEQUENCE)
