"""`bgpd top` by its keys, in terminals of several sizes, with a daemon that answers, fails, and comes back."""

from __future__ import annotations

import asyncio
from collections.abc import Sequence

import msgspec
import pytest
from textual.pilot import Pilot
from textual.widgets import Input, Static

from bgpd.cli.client import CommandFailed
from bgpd.cli.top import Pane, Top
from bgpd.cli.top_lines import View
from tests.scripted_backend import NOW, ScriptedBackend

SIZES = [(80, 24), (200, 60), (40, 12)]
LOOK_S = 0.1
"""Not shorter: a key is taken when all is drawn, and would wait for a screen that is drawn again and again."""


class ScriptedDaemon:
    """Answers from a scripted backend, or with `problem`."""

    def __init__(self) -> None:
        self.problem = ""
        self.looks = 0
        self._backend = ScriptedBackend()

    def overview(self) -> View:
        self.looks += 1
        if self.problem:
            raise CommandFailed(self.problem, "a hint")
        return msgspec.to_builtins(self._backend.overview())  # type: ignore[no-any-return]

    def events(self) -> list[View]:
        return [{"at": NOW, "level": "info", "event": f"event.{number}", "fields": {}} for number in range(100)]

    def explain(self, what: str) -> Sequence[View]:
        if what == "nothing":
            raise CommandFailed('"nothing" is no address, and nothing has this name', "give an address")
        return [msgspec.to_builtins(asyncio.run(self._backend.explain(bytes((10, 64, 9, 1)), "")))]


@pytest.fixture
def daemon() -> ScriptedDaemon:
    return ScriptedDaemon()


def shown(pilot: Pilot[int], name: str = "#screen") -> str:
    if name == "#search":
        return pilot.app.screen.query_one(name, Input).placeholder
    return str(pilot.app.screen.query_one(name, Static).render())


async def until(pilot: Pilot[int], text: str, name: str = "#screen") -> str:
    """Waits until a text is shown."""
    async with asyncio.timeout(20):
        while True:
            await pilot.pause(0.01)
            if pilot.app.screen.query(name) and text in shown(pilot, name):
                return shown(pilot, name)


async def typed(pilot: Pilot[int], text: str) -> None:
    await pilot.press("slash", *("full_stop" if letter == "." else letter for letter in text), "enter")


@pytest.mark.parametrize("size", SIZES)
async def test_search_explains_and_goes_back(daemon: ScriptedDaemon, size: tuple[int, int]) -> None:
    app = Top(daemon, clock=lambda: NOW, look_s=LOOK_S)
    async with app.run_test(size=size) as pilot:
        text = await until(pilot, "leaf1")
        assert "! ready, without a session with leaf2" in text
        await typed(pilot, "10.64.9.1")
        assert "10.0.1.2 dev eth0" in await until(pilot, "10.64.9.1: reachable", "#text")
        await pilot.press("escape")
        await until(pilot, "leaf1")
        await pilot.press("q")
    assert app.return_code == 0


async def test_what_cannot_be_explained_is_told(daemon: ScriptedDaemon) -> None:
    async with Top(daemon, look_s=LOOK_S).run_test() as pilot:
        await typed(pilot, "nothing")
        assert "give an address" in await until(pilot, "is no address", "#text")


async def test_search_can_be_left_and_takes_no_key_afterwards(daemon: ScriptedDaemon) -> None:
    async with Top(daemon, look_s=LOOK_S).run_test() as pilot:
        await until(pilot, "leaf1")
        await pilot.press("slash", "q", "slash", "n")
        assert pilot.app.screen.query_one("#search", Input).value == "q/n"
        await pilot.press("escape", "n")
        assert "established" in await until(pilot, "Neighbor", "#text")


@pytest.mark.parametrize(("key", "text"), [("n", "leaf2"), ("e", "event.99"), ("question_mark", "explain an address")])
async def test_long_texts_have_keys_of_their_own(daemon: ScriptedDaemon, key: str, text: str) -> None:
    async with Top(daemon, look_s=LOOK_S).run_test(size=(60, 20)) as pilot:
        await until(pilot, "leaf1")
        await pilot.press(key)
        await until(pilot, text, "#text")
        await pilot.press("end", "pageup", "down")
        await pilot.press("q")
        assert not isinstance(app := pilot.app.screen, Pane), app


async def test_a_daemon_that_goes_is_told_and_one_that_comes_back_is_shown(daemon: ScriptedDaemon) -> None:
    async with Top(daemon, look_s=LOOK_S).run_test() as pilot:
        await until(pilot, "leaf1")
        daemon.problem = "bgpd is not running: nothing answers on /run/x"
        text = await until(pilot, "NO ANSWER")
        assert "is not running" in text
        assert "leaf1" in text, "what was known stays"
        daemon.problem = ""
        async with asyncio.timeout(20):
            while "NO ANSWER" in shown(pilot):
                await pilot.pause(0.01)


async def test_held_still_it_asks_nothing_until_told_to_go_on(daemon: ScriptedDaemon) -> None:
    async with Top(daemon, look_s=LOOK_S).run_test() as pilot:
        await until(pilot, "leaf1")
        await pilot.press("p")
        await until(pilot, "HELD STILL", "#search")
        await pilot.pause(3 * LOOK_S)  # a look that was under way ends
        looks = daemon.looks
        await pilot.pause(3 * LOOK_S)
        assert daemon.looks == looks
        await pilot.press("p")
        async with asyncio.timeout(20):
            while daemon.looks == looks:
                await pilot.pause(0.01)


async def test_a_terminal_may_change_its_size(daemon: ScriptedDaemon) -> None:
    async with Top(daemon, look_s=LOOK_S).run_test(size=(120, 40)) as pilot:
        await until(pilot, "Received")
        await pilot.resize_terminal(40, 12)
        async with asyncio.timeout(20):
            while "Received" in shown(pilot):
                await pilot.pause(0.01)
        assert all(len(line) <= 40 for line in shown(pilot).split("\n"))
