"""Two cores joined in memory: simultaneous opens always end in one session, whatever the order of events."""

from __future__ import annotations

import heapq
import itertools
import random

import pytest
from hypothesis import given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st

from bgpd.message.exabgp_codec import KEEPALIVE
from bgpd.message.open import negotiate
from bgpd.speaker.collision import keeps_ours
from bgpd.speaker.connection import State
from bgpd.speaker.session import AttemptFailed, Close, Dial, Send, Session, SessionDown, SessionSettings, SessionUp
from tests.speaker.messages import open_bytes, open_of, settings
from tests.speaker.test_session import Driver, notification_of


class World:
    """Two sessions that dial each other over connections with random delays. Side 0 and side 1."""

    def __init__(self, left_id: str, right_id: str, seed: int, *, graceful: bool = False) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.order = itertools.count()
        self.events: list[tuple[float, int, object]] = []
        opens = (open_of(65001, left_id, graceful=graceful), open_of(65002, right_id, graceful=graceful))
        self.sessions = [
            Session(
                SessionSettings(local=opens[side], expected_asn="external", connect_retry_s=5),
                random=self.random.random,
            )
            for side in (0, 1)
        ]
        self.other_end: dict[tuple[int, int], tuple[int, int]] = {}
        self.delay: dict[tuple[int, int], float] = {}
        self.downs = [0, 0]
        self.winner: list[int | None] = [None, None]

    def at(self, delay: float, action: object) -> None:
        heapq.heappush(self.events, (self.now + delay, next(self.order), action))

    def drain(self, side: int) -> None:
        while (output := self.sessions[side].next_output(self.now)) is not None:
            match output:
                case Dial(number):
                    self.at(self.random.uniform(0, 0.05), lambda s=side, n=number: self.dialed(s, n))
                case Send(number, data):
                    self.carry(side, number, lambda s, n, d=data: self.sessions[s].received(n, d))
                case Close(number):
                    self.carry(side, number, lambda s, n: self.sessions[s].closed(n, self.now, "closed"))
                case SessionUp(number):
                    self.winner[side] = number
                case SessionDown():
                    self.downs[side] += 1
                    self.winner[side] = None

    def dialed(self, side: int, number: int) -> None:
        peer = self.sessions[1 - side].accepted(self.now)
        if peer is None:
            self.sessions[side].dial_failed(number, self.now, "refused")
            return
        self.other_end[side, number] = (1 - side, peer)
        self.other_end[1 - side, peer] = (side, number)
        self.delay[side, number] = self.delay[1 - side, peer] = self.random.uniform(0.0001, 0.02)
        self.sessions[side].connected(number, self.now)

    def carry(self, side: int, number: int, action: object) -> None:
        end = self.other_end.get((side, number))
        if end is not None:
            self.at(self.delay[side, number], lambda: action(*end))  # type: ignore[operator]

    def run(self, seconds: float) -> None:
        end = self.now + seconds
        while True:
            for side in (0, 1):
                self.drain(side)
            deadlines = [d for s in self.sessions if (d := s.deadline()) is not None]
            times = [*deadlines, *(event[0] for event in self.events[:1])]
            if not times or min(times) > end:
                self.now = end
                return
            self.now = max(self.now, min(times))
            if self.events and self.events[0][0] <= self.now:
                heapq.heappop(self.events)[2]()  # type: ignore[operator]
            for session in self.sessions:
                session.tick(self.now)


@hypothesis_settings(max_examples=150, deadline=None)
@given(seed=st.integers(0, 1_000_000), left_higher=st.booleans(), graceful=st.booleans())
def test_simultaneous_opens_end_in_one_session(seed: int, left_higher: bool, graceful: bool) -> None:
    ids = ("10.0.0.9", "10.0.0.1") if left_higher else ("10.0.0.1", "10.0.0.9")
    world = World(*ids, seed, graceful=graceful)
    for side in (0, 1):
        world.at(world.random.uniform(0, 0.03), lambda s=side: world.sessions[s].start(world.now))
    world.run(30)
    assert [session.state for session in world.sessions] == [State.ESTABLISHED] * 2
    left, right = world.winner
    assert left is not None
    assert world.other_end[0, left] == (1, right)
    assert world.downs[0] <= 1
    before = world.downs[:]
    world.run(60)
    assert world.downs == before, "the session stays up"


def test_higher_router_id_keeps_the_connection_that_it_made() -> None:
    def negotiated(local: str, peer: str, peer_asn: int = 65002) -> object:
        return negotiate(open_of(65001, local), open_of(peer_asn, peer), expected_asn="external")

    assert keeps_ours(negotiated("10.0.0.9", "10.0.0.1"))  # type: ignore[arg-type]
    assert not keeps_ours(negotiated("10.0.0.1", "10.0.0.9"))  # type: ignore[arg-type]
    assert not keeps_ours(negotiated("10.0.0.1", "10.0.0.1"))  # type: ignore[arg-type]
    assert keeps_ours(negotiated("10.0.0.1", "10.0.0.1", 64999))  # type: ignore[arg-type]


@pytest.mark.parametrize(("peer_id", "ours_lives"), [("10.0.0.1", True), ("10.0.0.200", False)])
@pytest.mark.parametrize("ours_opened_first", [True, False])
def test_collision_closes_the_same_one_whichever_open_comes_first(
    peer_id: str, ours_lives: bool, ours_opened_first: bool
) -> None:
    driver = Driver()
    ours = driver.dialed()
    theirs = driver.accepted()
    lives, dies = (ours, theirs) if ours_lives else (theirs, ours)
    outputs = driver.receive(ours if ours_opened_first else theirs, open_bytes(router_id=peer_id))
    assert notification_of(outputs) == (6, 7, b"")
    assert Close(dies) in outputs
    opened = ours_opened_first == ours_lives
    driver.receive(lives, (b"" if opened else open_bytes(router_id=peer_id)) + KEEPALIVE)
    assert driver.session.state is State.ESTABLISHED


def test_new_connection_loses_against_the_established_session() -> None:
    driver = Driver()
    driver.established()
    driver.now += 100
    number = driver.accepted()
    outputs = driver.receive(number, open_bytes(router_id="10.0.0.200"))
    assert notification_of(outputs) == (6, 7, b"")
    assert driver.session.state is State.ESTABLISHED


def test_new_connection_of_a_gracefully_restarting_peer_replaces_the_old_session() -> None:
    driver = Driver()
    old = driver.established(graceful=True)
    driver.now += 5
    number = driver.accepted()
    outputs = driver.receive(number, open_bytes(graceful=True) + KEEPALIVE)
    assert Close(old) in outputs
    assert [type(o) for o in outputs if isinstance(o, SessionDown | SessionUp)] == [SessionDown, SessionUp]
    assert [o.reason for o in outputs if isinstance(o, SessionDown)] == ["the neighbor restarted"]
    assert notification_of(outputs) is None, "nobody hears it"


def test_another_connection_of_the_peer_does_not_end_the_session_on_its_first_one() -> None:
    driver = Driver(settings(dials=False))
    driver.session.start(driver.now)
    first = driver.accepted()
    driver.receive(first, open_bytes() + KEEPALIVE)
    second, _ = driver.accepted(), driver.accepted()
    outputs = driver.outputs()
    ends = [output for output in outputs if isinstance(output, AttemptFailed | Close | SessionDown)]
    assert ends == [Close(second)]
    assert notification_of(outputs) == (6, 7, b"")
    assert driver.session.state is State.ESTABLISHED
    assert driver.session.state is State.ESTABLISHED
