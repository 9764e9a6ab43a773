"""Keys are asked for again in slices, each key once, and not while there is no room for the answers."""

from __future__ import annotations

import asyncio

from bgpd.fib.rechecks import SLICE, Rechecks
from bgpd.model.iana import Family

V4 = Family.IPV4_UNICAST


async def test_all_keys_are_asked_for_once_in_slices_and_in_order() -> None:
    asked: list[list[bytes]] = []
    rechecks = Rechecks(lambda _family, keys, distrust: asked.append(keys), has_room=lambda: True)
    batches = [[number.to_bytes(3, "big") for number in range(size)] for size in (SLICE + 5, 0, 7)]
    rechecks.add(V4, iter(batches))
    await asyncio.sleep(0.05)
    assert not rechecks
    assert [key for keys in asked for key in keys] == [key for batch in batches for key in batch]
    assert max(map(len, asked)) == SLICE


async def test_waits_for_room_and_resumes() -> None:
    asked: list[tuple[list[bytes], bool]] = []
    room = [False]
    rechecks = Rechecks(lambda _family, keys, distrust: asked.append((keys, distrust)), has_room=lambda: room[0])
    rechecks.add(V4, [[b"\x08\x0a"]], distrust=True)
    await asyncio.sleep(0.01)
    assert not asked
    room[0] = True
    rechecks.resume()
    await asyncio.sleep(0.01)
    assert asked[0] == ([b"\x08\x0a"], True)
    assert not rechecks
