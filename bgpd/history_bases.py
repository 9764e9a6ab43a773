"""Says all that the tables have to the history, whenever that needs it: what changes later is written against it."""

from __future__ import annotations

import asyncio
import functools
import time
from collections.abc import Iterator

from bgpd.history.base import base
from bgpd.routing import Routing
from bgpd.runtime.turns import in_turn

_LOOK_S = 1.0
_BEHIND_S = 0.05
"""How long a base waits for sessions that have sent much."""
_REST = 5.0
"""So many times as long as a step took a base rests, where it has time: a million routes take seconds of a core."""


async def say_bases(routing: Routing) -> None:
    """Runs until cancelled, or until the history gives up; a defect costs only the history."""
    history = routing.history
    while history.is_on:
        await asyncio.sleep(_LOOK_S)
        if not history.wants_base or history.is_writing:
            continue
        walk = base(history, routing.rib, routing.host, functools.partial(_is_behind, routing), routing.own_records)
        try:
            while (stepped := await in_turn(functools.partial(_step, walk))) is not None:
                waits, took_s = stepped
                if waits:
                    await asyncio.sleep(_BEHIND_S)
                elif not history.is_high_time:
                    await asyncio.sleep(took_s * _REST)
        except Exception as error:
            history.give_up(error)


def _step(walk: Iterator[bool]) -> tuple[bool, float] | None:
    """Whether the next step had better wait, and the processor time of this one; None at the end."""
    began = time.thread_time()
    waits = next(walk, None)
    return None if waits is None else (waits, time.thread_time() - began)


def _is_behind(routing: Routing) -> bool:
    """Whether something recorded has not come into the tables yet: what was read, or what a refresh has ended."""
    is_behind = any(one.exchange is not None and one.exchange.is_behind for one in routing.speaker.neighbors)
    return is_behind or routing.rib.received.is_sweeping or routing.evpn.is_importing
