"""The simulated TCP does what bgpd relies on: bytes in order whatever is lost, resets, timeouts, backpressure."""

from __future__ import annotations

import asyncio
import errno
import gc
import random
import socket
from collections.abc import Awaitable, Callable

import pytest

from bgpd.runtime.memory import MANY, connection_came
from bgpd.simulation.loop import Process, VirtualLoop, simulated_time
from bgpd.simulation.network import BGP_PORT, RTO_S, WINDOW, End, Link, Port, Stack

Work = Callable[["Pair"], Awaitable[None]]


class Pair:
    """Two nodes, a link, and what arrives at the second."""

    def __init__(self, loop: VirtualLoop) -> None:
        self.loop = loop
        self.stacks = Stack("one", loop), Stack("two", loop)
        ports = [Port(stack, 2, "eth0", bytes((10, 0, 0, at))) for at, stack in enumerate(self.stacks)]
        for port in ports:
            port.stack.ports.append(port)
        self.link = Link(ports[0], ports[1], chance=random.Random(1), delay_s=0.01)
        self.accepted: list[End] = []
        self.data = b""
        self.errors: list[OSError | None] = []
        self.stacks[1].listening[socket.AF_INET, BGP_PORT, 0] = self._accept

    def _accept(self, end: End) -> None:
        self.accepted.append(end)
        end.on_data = self._take

    def _take(self, data: bytes) -> None:
        self.data += data

    async def dial(self) -> End:
        end = await self.stacks[0].dial(bytes((10, 0, 0, 1)), BGP_PORT, None)
        end.on_lost = self.errors.append
        return end


def simulated(work: Work) -> None:
    with simulated_time(random.Random(1)) as loop:
        loop.run_until_complete(work(Pair(loop)))


def test_bytes_arrive_in_order_over_a_lossy_link() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.dial()
        pair.link.loss = 0.4
        for number in range(100):
            end.send(bytes((number,)))
            await asyncio.sleep(0.05)
        await asyncio.sleep(60)
        assert pair.data == bytes(range(100))

    simulated(work)


def test_what_is_sent_while_acknowledgements_are_lost_arrives_once() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.dial()
        end.port.is_deaf = True
        for number in range(3):
            end.send(bytes((number,)))
            await asyncio.sleep(0.05)
        assert pair.data == bytes(range(3)), "TCP does not wait for acknowledgements as long as there is room"
        assert end.queued == 3
        end.port.is_deaf = False
        end.send(bytes((3,)))
        await asyncio.sleep(60)
        assert (pair.data, end.queued) == (bytes(range(4)), 0)

    simulated(work)


def test_an_end_that_hears_no_acknowledgement_gives_up_after_its_user_timeout() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.dial()
        end.user_timeout_s = 18.0
        pair.link.ports[0].is_deaf = True
        end.send(b"x")
        await asyncio.sleep(17)
        assert (pair.data, pair.errors) == (b"x", [])
        await asyncio.sleep(8)
        assert [error.errno for error in pair.errors if error is not None] == [errno.ETIMEDOUT]

    simulated(work)


def test_a_node_that_was_started_anew_answers_with_a_reset() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.dial()
        pair.stacks[1].crash()
        end.send(b"x")
        await asyncio.sleep(1)
        assert [error.errno for error in pair.errors if error is not None] == [errno.ECONNRESET]

    simulated(work)


def test_what_is_not_read_is_not_acknowledged() -> None:
    async def work(pair: Pair) -> None:
        end = await pair.dial()
        pair.accepted[0].pause(True)
        for _ in range(4):
            end.send(bytes(WINDOW))
            await asyncio.sleep(1)
        assert end.queued > WINDOW
        pair.accepted[0].pause(False)
        await asyncio.sleep(10)
        assert end.queued == 0
        assert len(pair.data) == 4 * WINDOW

    simulated(work)


def test_nobody_listens_and_no_carrier_are_errors_and_silence_is_none() -> None:
    async def work(pair: Pair) -> None:
        pair.stacks[1].listening.clear()
        with pytest.raises(OSError, match="refused"):
            await pair.dial()
        pair.link.ports[1].is_deaf = True
        with pytest.raises(TimeoutError):
            async with asyncio.timeout(30):
                await pair.dial()
        pair.link.is_up = False
        with pytest.raises(OSError, match="no way"):
            await pair.dial()

    simulated(work)


def test_a_killed_process_does_nothing_more() -> None:
    async def work(pair: Pair) -> None:
        process, said = Process("p", pair.loop), []

        async def talk() -> None:
            while True:
                said.append(asyncio.get_running_loop() is process)
                await asyncio.sleep(RTO_S)

        done = process.start(talk())
        await asyncio.sleep(1)
        process.kill()
        await done
        assert len(said) == 5
        await asyncio.sleep(10)
        assert said == [True] * 5

    simulated(work)


def test_nothing_collects_what_a_killed_process_has_left_until_the_end() -> None:
    """The daemon makes a pass for many connections where no passes are made by themselves (`runtime/memory.py`)."""
    before = gc.get_threshold()
    with simulated_time(random.Random(1)):
        passes = gc.get_stats()[2]["collections"]
        for _ in range(MANY):
            connection_came()
        assert gc.get_stats()[2]["collections"] == passes
    assert gc.get_threshold() == before
