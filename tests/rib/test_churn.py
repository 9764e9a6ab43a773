"""Nothing is left of routes that went, with the garbage collector off: what bytes of a session come to, and back.

From the input of a session through decoder and RIB, every route with attributes of its own, sessions lost in between.
"""

from __future__ import annotations

import gc
import struct
import tracemalloc
from collections.abc import Iterator

import pytest

from bgpd.message.update_decoder import UpdateDecoder
from bgpd.model.source import Source
from tests.message.decoding import MANDATORY, attribute, decoder, update
from tests.rib.build import Recorder, configuration, drain, leaf, session

ROUTES = 400
ROUNDS = 10


@pytest.fixture(autouse=True)
def _no_gc() -> Iterator[None]:
    gc.collect()
    gc.disable()
    yield
    gc.enable()


class Leaf:
    def __init__(self, recorder: Recorder, number: int) -> None:
        self.recorder = recorder
        self.number = number
        self.source: Source = leaf(number)
        self.decoder: UpdateDecoder = decoder()

    def up(self) -> None:
        self.source, self.decoder = leaf(self.number), decoder()
        self.recorder.up(self.source, session(f"leaf{self.number}"))

    def hear(self, body: bytes) -> None:
        for batch in self.decoder.decode(body).batches:
            self.recorder.rib.received.routes_received(self.source, [batch])

    def announce(self, generation: int) -> None:
        for number in range(ROUTES):
            communities = attribute(8, struct.pack("!II", generation, number), 0xC0)
            self.hear(update(MANDATORY + communities, b"\x20" + struct.pack("!I", 0x0A000000 + number)))
        self.recorder.turn()

    def withdraw(self) -> None:
        for number in range(ROUTES):
            self.hear(update(withdrawn=b"\x20" + struct.pack("!I", 0x0A000000 + number)))
        self.recorder.turn()


def churn(recorder: Recorder, leaves: list[Leaf], generation: int) -> None:
    for one in leaves:
        one.announce(generation)
        one.announce(generation + 1)
    leaves[0].withdraw()
    leaves[0].announce(generation + 2)
    for one in leaves:
        drain(recorder.rib.received.neighbor_down(one.source))
        one.up()
        recorder.turn()
    recorder.fib_calls.clear()
    recorder.sent.clear()
    recorder.told.clear()
    recorder.end_of_rib.clear()


def test_churned_routes_and_lost_sessions_leave_no_memory_and_no_garbage() -> None:
    recorder = Recorder(configuration(session("leaf1"), session("leaf2")))
    leaves = [Leaf(recorder, 1), Leaf(recorder, 2)]
    for one in leaves:
        one.up()
    churn(recorder, leaves, 0)
    gc.collect()
    tracemalloc.start()
    try:
        churn(recorder, leaves, 10)
        before = tracemalloc.get_traced_memory()[0]
        for number in range(2, ROUNDS):
            churn(recorder, leaves, 10 * number)
        after = tracemalloc.get_traced_memory()[0]
    finally:
        tracemalloc.stop()
    assert gc.collect() == 0
    # Dicts of other sizes, as hashes differ from run to run; one small object for each route would be far more.
    assert after - before < ROUTES * ROUNDS * 20, "bytes that thousands of routes left behind"
    assert recorder.fib == {}
