"""Batches to the real kernel, in a network namespace of the test's own."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Iterator

import pytest

from bgpd.kernel import writer as writer_module
from bgpd.kernel.netlink import HEADER
from bgpd.kernel.nexthop_messages import encode_delete
from bgpd.kernel.route_messages import BLACKHOLE, RouteForm, encode_adds, encode_deletes, read_key
from bgpd.kernel.writer import KernelWriter, Outcome
from bgpd.model.iana import Family
from labs.namespace import Namespace

pytestmark = pytest.mark.netns

V4 = Family.IPV4_UNICAST
FORM = RouteForm(254, 197, 20)
KEYS = [bytes((32, 10, 0, high, low)) for high in range(16) for low in range(256)]


@pytest.fixture
def namespace() -> Iterator[Namespace]:
    """A namespace that the test is inside of."""
    with Namespace("host", prefix="writer") as made:
        made.ip("link", "set", "lo", "up")
        with made.entered():
            yield made


async def test_each_batch_hears_its_own_errors_however_many_go_together(namespace: Namespace) -> None:
    writer = KernelWriter("test")
    writer.start()
    answers: list[Outcome] = []
    adds = encode_adds(V4, KEYS[:100], BLACKHOLE, FORM)
    refused = encode_adds(V4, KEYS[100:103], 777, FORM)
    absent = encode_deletes(V4, KEYS[200:], FORM)
    for batch in (adds, refused, adds, absent, encode_delete([777]), adds) * 3:
        writer.submit(batch, answers.append)
    await writer.stop()
    assert writer.outstanding == 0
    again = [100, 3, 100, len(KEYS) - 200, 1, 100]
    assert [len(outcome.errors) for outcome in answers] == [0, *again[1:], *again, *again], "what is there is not added"
    assert not any(outcome.lost for outcome in answers)
    assert {read_key(error.request)[1] for error in answers[1].errors} == set(KEYS[100:103])


async def test_a_batch_whose_end_the_kernel_does_not_reach_is_lost_and_the_next_is_not(namespace: Namespace) -> None:
    writer = KernelWriter("test")
    writer.start()
    for batch, lost in ((HEADER.pack(1 << 20, 1, 1, 0, 0), True), (encode_adds(V4, KEYS, BLACKHOLE, FORM), False)):
        answer: asyncio.Future[Outcome] = asyncio.get_running_loop().create_future()
        writer.submit(batch, answer.set_result)
        outcome = await asyncio.wait_for(answer, 5)
        assert bool(outcome.lost) is lost
        assert outcome.errors == []
    await writer.stop()


async def test_what_is_sent_now_is_done_at_once_unless_something_waits(
    namespace: Namespace,
) -> None:
    writer = KernelWriter("test")
    writer.start()
    answers: list[int] = []
    writer.submit_now(encode_adds(V4, KEYS[:1], BLACKHOLE, FORM), lambda outcome: answers.append(1))
    assert "10.0.0.0" in namespace.ip("route", "show", "proto", "197")
    assert answers == []
    writer.submit_now(encode_deletes(V4, KEYS[:1], FORM), lambda outcome: answers.append(2))
    writer.submit(encode_deletes(V4, KEYS[:1], FORM), lambda outcome: answers.append(3 + len(outcome.errors)))
    await writer.stop()
    assert answers == [1, 2, 4]


async def test_answers_of_many_batches_are_delivered_in_several_turns_and_in_order(
    namespace: Namespace, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What follows from each takes long: the loop has other things to do between them."""
    monkeypatch.setattr(writer_module, "_DELIVER_S", 0.0)
    writer = KernelWriter("test")
    writer.start()
    turns: list[int] = []
    heard: list[int] = []

    def turn() -> None:
        turns.append(len(heard))
        if len(heard) < 12:
            asyncio.get_running_loop().call_soon(turn)

    turn()
    adds = encode_adds(V4, KEYS[:500], BLACKHOLE, FORM)
    for number in range(12):
        writer.submit(adds, lambda _outcome, number=number: heard.append(number))
    while len(heard) < 12:  # noqa: ASYNC110
        await asyncio.sleep(0.001)
    await writer.stop()
    assert heard == list(range(12))
    assert max(after - before for before, after in itertools.pairwise(turns)) == 1
