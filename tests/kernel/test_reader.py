"""Dumps of bgpd's own routes, from the real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Callable, Iterator
from types import SimpleNamespace

import pytest

from bgpd.kernel import reader as reader_module
from bgpd.kernel.reader import KernelReader
from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import BLACKHOLE, RouteForm, encode_adds
from bgpd.kernel.writer import KernelWriter, Outcome
from bgpd.model.iana import Family
from bgpd.runtime.rates import Share
from labs.namespace import Namespace

pytestmark = pytest.mark.netns

V4 = Family.IPV4_UNICAST
FORM = RouteForm(254, 217, 20)
KEYS = [bytes((32, 10, 0, high, low)) for high in range(10) for low in range(256)]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace that the test is inside of."""
    with Namespace("host", prefix="reader") as made:
        made.ip("link", "set", "lo", "up")
        with made.entered():
            yield made


async def test_dump_beside_other_work_pauses_after_each_datagram(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The loop would else wait for the interpreter for as long as a large table is read."""
    pauses: list[float] = []
    took = itertools.count(0.0, 0.001)
    monkeypatch.setattr(reader_module, "time", SimpleNamespace(sleep=pauses.append, thread_time=lambda: next(took)))
    writer, reader = KernelWriter("test"), KernelReader()
    writer.start()
    reader.start()
    answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
    writer.submit(encode_adds(V4, KEYS, BLACKHOLE, FORM), answer.set_result)
    await answer
    counts = []
    for share in (None, Share(100)):
        found: list[bytes] = []

        def begin(found: list[bytes] = found) -> Callable[[RouteRun], None]:
            return lambda run: found.extend(run.keys)

        await reader.routes(V4, FORM, begin, share=share)
        assert sorted(found) == KEYS
        counts.append(len(pauses))
    assert counts[0] == 0
    assert counts[1] > 2
    assert set(map(round, [1e6 * one for one in pauses])) == {3000}, "three times what was taken"
    await writer.stop()
    reader.stop()
