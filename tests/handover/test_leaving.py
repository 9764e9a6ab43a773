"""A process that cannot leave what it has goes on, and says why."""

from __future__ import annotations

import asyncio
from types import SimpleNamespace
from typing import cast

import pytest

from bgpd.daemon import Daemon
from bgpd.handover.store import DescriptorStore, HandOverFailed, StoreUnusable
from bgpd.rib.prepared import PreparedRib


@pytest.mark.parametrize(
    "error",
    [StoreUnusable("nobody keeps them"), OSError(28, "no room"), UnicodeEncodeError("utf-8", "\udcff", 0, 1, "no")],
)
async def test_what_cannot_be_left_is_no_end_of_the_process(error: Exception) -> None:
    holds: list[bool] = []
    ended: list[str] = []

    async def settle(patience_s: float) -> None: ...

    async def prepare_to_leave() -> PreparedRib:
        return cast(PreparedRib, SimpleNamespace(end=lambda: ended.append("prepared")))

    def leave_behind(*given: object) -> None:
        raise error

    started = asyncio.Event()
    started.set()
    speaker = SimpleNamespace(hold=holds.append)
    routing = SimpleNamespace(ending=False, speaker=speaker, settle=settle, prepare_to_leave=prepare_to_leave)
    daemon = SimpleNamespace(
        _started=started,
        _stop=asyncio.Event(),
        _routing=routing,
        _exports=SimpleNamespace(settle=settle),
        _configuration=SimpleNamespace(changing=asyncio.Lock()),
        _leave_behind=leave_behind,
    )
    with pytest.raises(HandOverFailed):
        await Daemon.hand_over(cast(Daemon, daemon), cast(DescriptorStore, None), lambda: None)
    assert holds == [True, False]
    assert ended == ["prepared"]


async def test_a_second_order_does_not_prepare_where_the_first_has_ended_the_process() -> None:
    started, stop, changing = asyncio.Event(), asyncio.Event(), asyncio.Lock()
    started.set()
    configuration, routing = SimpleNamespace(changing=changing), SimpleNamespace(ending=False)
    daemon = SimpleNamespace(_started=started, _stop=stop, _configuration=configuration, _routing=routing)
    async with changing:
        second = asyncio.ensure_future(
            Daemon.hand_over(cast(Daemon, daemon), cast(DescriptorStore, None), lambda: None)
        )
        await asyncio.sleep(0)
        stop.set()
    with pytest.raises(HandOverFailed, match="stopping"):
        await second
