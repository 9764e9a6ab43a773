"""A driver that does not answer holds a thread, and nobody else."""

from __future__ import annotations

import asyncio
import threading

import pytest

from bgpd.kernel import speeds
from bgpd.kernel.speeds import Speeds
from tests.waiting import until


async def test_speeds_are_read_when_they_are_wanted_and_not_again_at_once() -> None:
    asked: list[str] = []

    def read(name: str) -> int | None:
        asked.append(name)
        return {"eth0": 25_000}.get(name)

    found = Speeds(read)
    assert found.known("eth0") is None
    await found.read(["eth0", "eth1"])
    assert (found.known("eth0"), found.known("eth1")) == (25_000, None)
    await found.read(["eth0", "eth1"])
    assert asked == ["eth0", "eth1"]


async def test_a_driver_that_hangs_holds_neither_the_loop_nor_an_answer(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "PATIENCE_S", 0.01)
    monkeypatch.setattr(speeds, "FRESH_S", 0.0)
    goes_on = threading.Event()
    threads: list[str] = []

    def read(name: str) -> int | None:
        threads.append(threading.current_thread().name)
        goes_on.wait(30)
        return 10_000

    found = Speeds(read)
    for _ in range(3):
        await found.read(["eth0"])
        assert found.known("eth0") is None
    assert threads == ["speeds"]
    goes_on.set()
    await until(lambda: found.known("eth0") == 10_000)


async def test_speed_that_comes_after_the_loop_has_ended_is_nobody_s() -> None:
    goes_on, done = threading.Event(), threading.Event()

    def read(name: str) -> int | None:
        goes_on.wait(30)
        done.set()
        return None

    await asyncio.to_thread(lambda: asyncio.run(_ask(Speeds(read))))
    goes_on.set()
    await until(done.is_set)


async def _ask(found: Speeds) -> None:
    found.known("eth0")
    await asyncio.sleep(0)


async def test_without_room_for_a_thread_speeds_stay_what_they_were(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(speeds, "FRESH_S", 0.0)
    found = Speeds(lambda name: 10_000)
    await found.read(["eth0"])
    defects: list[dict[str, object]] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, context: defects.append(context))

    def start(thread: threading.Thread) -> None:
        raise RuntimeError("can't start new thread")

    with monkeypatch.context() as patched:
        patched.setattr(threading.Thread, "start", start)
        await found.read(["eth0", "eth1"])
        assert (found.known("eth0"), found.known("eth1")) == (10_000, None)
        await asyncio.sleep(0)
    assert not defects
    await found.read(["eth1"])
    assert found.known("eth1") == 10_000
