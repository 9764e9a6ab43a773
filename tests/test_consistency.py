"""The daemon's comparison of its own parts: what differs for long is told, repaired, and keeps the host not ready."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Sequence

from bgpd.consistency import KEYS_PER_ROUND, LASTING_S, MAX_SUSPECTS, ROUND_S, SLICE, Consistency
from tests.clocks import in_simulated_time

KEYS = [index.to_bytes(4, "big") for index in range(2 * KEYS_PER_ROUND + 100)]


class Part:
    """A check of `count` routes, of which those in `wrong` differ; a repair helps unless it is `stubborn`."""

    def __init__(self, name: str = "routes", count: int = 1000) -> None:
        self.name = name
        self.keys = KEYS[:count]
        self.wrong: set[bytes] = set()
        self.stubborn = False
        self.compared = 0
        self.repairs: list[list[bytes]] = []

    def slices(self, size: int) -> Iterator[list[bytes]]:
        for start in range(0, len(self.keys), size):
            yield self.keys[start : start + size]

    def differing(self, keys: Sequence[bytes]) -> list[bytes]:
        self.compared += len(keys)
        return [key for key in keys if key in self.wrong]

    def repair(self, keys: Sequence[bytes]) -> None:
        self.repairs.append(list(keys))
        if not self.stubborn:
            self.wrong -= set(keys)


def drain(walk: Iterator[None]) -> int:
    return sum(1 for _ in walk)


def test_parts_that_agree_cost_a_round_and_nothing_else() -> None:
    part = Part()
    consistency = Consistency(lambda: [part])
    drain(consistency.round(0.0))
    assert (part.compared, consistency.has_suspects, consistency.reasons()) == (1000, False, [])


def test_difference_that_goes_away_by_itself_is_work_under_way() -> None:
    part = Part()
    consistency = Consistency(lambda: [part])
    part.wrong = {KEYS[7]}
    drain(consistency.round(0.0))
    consistency.look_again(LASTING_S / 2)
    assert consistency.has_suspects
    part.wrong = set()
    consistency.look_again(LASTING_S)
    assert (consistency.has_suspects, part.repairs, consistency.reasons()) == (False, [], [])


def test_difference_that_lasts_is_repaired_once_and_told_until_it_is_gone() -> None:
    part = Part()
    part.wrong, part.stubborn = {KEYS[7], KEYS[8]}, True
    consistency = Consistency(lambda: [part])
    drain(consistency.round(0.0))
    consistency.look_again(LASTING_S)
    consistency.look_again(LASTING_S + 1)
    assert part.repairs == [[KEYS[7], KEYS[8]]] * 2
    assert consistency.reasons() == ["2 routes were not as they should be, and are being repaired"]
    assert consistency.repairs == {"routes": 2}
    part.stubborn = False
    consistency.look_again(LASTING_S + 2)
    consistency.look_again(LASTING_S + 3)
    assert (consistency.has_suspects, consistency.reasons()) == (False, [])


class ScriptedWalks:
    """Runs a walk at once; `going` others go on."""

    def __init__(self) -> None:
        self.going = 0
        self.begun = 0

    def __len__(self) -> int:
        return self.going

    def run(self, walk: Iterator[None]) -> None:
        self.begun += 1
        drain(walk)


def test_differences_are_work_under_way_as_long_as_a_walk_goes_on() -> None:
    """A neighbor is lost while a difference is watched: nothing is repaired, or compared, until its routes are gone."""
    part, walks = Part(), ScriptedWalks()
    part.wrong = {KEYS[7]}

    async def lose_a_neighbor() -> None:
        loop = asyncio.get_running_loop()
        comparing = loop.create_task(Consistency(lambda: [part]).run(walks, repaired=int))  # type: ignore[arg-type]
        await asyncio.sleep(ROUND_S + 0.1)
        walks.going = 1
        await asyncio.sleep(10 * ROUND_S)
        assert (part.repairs, walks.begun) == ([], 1)
        part.wrong.clear()
        walks.going = 0
        await asyncio.sleep(2 * ROUND_S)
        assert (part.repairs, walks.begun) == ([], 2)
        comparing.cancel()

    in_simulated_time(lose_a_neighbor())


def test_large_tables_are_gone_through_in_several_rounds_and_from_the_start_again() -> None:
    part = Part(count=len(KEYS))
    consistency = Consistency(lambda: [part])
    steps = drain(consistency.round(0.0))
    assert (part.compared, steps) == (KEYS_PER_ROUND, KEYS_PER_ROUND // SLICE)
    drain(consistency.round(5.0))
    drain(consistency.round(10.0))
    assert part.compared == len(KEYS)
    drain(consistency.round(15.0))
    assert part.compared == len(KEYS) + KEYS_PER_ROUND


def test_part_that_is_gone_is_forgotten() -> None:
    part, other = Part("leaf1"), Part("leaf2")
    part.wrong, part.stubborn = {KEYS[0]}, True
    parts = [part, other]
    consistency = Consistency(lambda: parts)
    drain(consistency.round(0.0))
    consistency.look_again(LASTING_S)
    assert consistency.reasons()
    parts.remove(part)
    consistency.look_again(LASTING_S + 1)
    assert (consistency.has_suspects, consistency.reasons()) == (False, [])


def test_many_differences_take_no_memory_without_end() -> None:
    part = Part(count=KEYS_PER_ROUND)
    part.wrong = set(part.keys)
    consistency = Consistency(lambda: [part])
    drain(consistency.round(0.0))
    consistency.look_again(LASTING_S)
    assert len(part.repairs[0]) == MAX_SUSPECTS


def test_comparison_that_fails_costs_nothing_else() -> None:
    part, other = Part("leaf1"), Part("leaf2")
    part.differing = lambda keys: [][1]  # type: ignore[method-assign, misc]
    other.wrong = {KEYS[0]}
    consistency = Consistency(lambda: [part, other])
    drain(consistency.round(0.0))
    consistency.look_again(LASTING_S)
    assert consistency.repairs == {"leaf2": 1}
