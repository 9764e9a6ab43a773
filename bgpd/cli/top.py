"""`bgpd top`: the host on one live screen, by keyboard, also over ssh, in `screen`, and without colour.

It asks the daemon every second, waits for one that stops to come back, and decides nothing.
"""

from __future__ import annotations

import argparse
import asyncio
import json
import os
import sys
import time
from collections.abc import Callable, Iterable, Sequence
from typing import ClassVar, Protocol

from rich.text import Text
from textual.app import App, ComposeResult
from textual.binding import Binding, BindingType
from textual.containers import VerticalScroll
from textual.events import Resize
from textual.screen import Screen
from textual.widgets import Input, Static

from bgpd.cli import top_lines
from bgpd.cli.client import Client, CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.render import View, explain_lines, printable
from bgpd.cli.show import explained
from bgpd.cli.top_lines import Line, Seen, Style

LOOK_S = 1.0
"""Between two questions to the daemon, counted from an answer on."""
KEPT_EVENTS = 200
_STYLES = {
    Style.PLAIN: "",
    Style.TITLE: "bold",
    Style.GOOD: "bold green",
    Style.BAD: "bold red",
    Style.WARNING: "yellow",
    Style.FAINT: "dim",
}
_KEYS = "q end  / explain  n neighbors  e events  ? keys"
_ASKS = "address, or name of a workload or service; escape: back"
_HELP = """\
bgpd top: this host on one screen, every second anew.

/        explain an address, or the name of a workload or service
n        all neighbors              e        the latest events
p        hold the screen still, and go on
escape   back                       q        end
up, down, page up, page down, home, end: move in a long text

marks    + well    ! not well    ~ kept while the neighbor restarts

What stands here comes from GET /v1/overview; bgpd status, bgpd show and
bgpd explain tell each part in full."""


class Daemon(Protocol):
    """What the screen asks; each call may block, and raises CommandFailed."""

    def overview(self) -> View:
        """An OverviewView."""
        ...

    def events(self) -> list[View]:
        """The latest EventViews, oldest first."""
        ...

    def explain(self, what: str) -> Sequence[View]:
        """The ExplainViews of an address or a name."""
        ...


class SocketDaemon:
    """A daemon by its socket."""

    def __init__(self, path: str) -> None:
        self._client = Client(path)

    def overview(self) -> View:
        return self._client.get("/v1/overview")  # type: ignore[no-any-return]

    def events(self) -> list[View]:
        return self._client.get("/v1/events", {"limit": KEPT_EVENTS})  # type: ignore[no-any-return]

    def explain(self, what: str) -> Sequence[View]:
        return explained(self._client, what, vrf="")


def top(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd top`. Raises: CommandFailed: there is no terminal, or no daemon."""
    daemon = SocketDaemon(arguments.socket)
    if arguments.json:
        print(json.dumps(daemon.overview(), indent=1))
        return 0
    if not _has_terminal():
        raise CommandFailed("bgpd top needs a terminal", "bgpd status and bgpd show write text")
    if os.environ.get("TERM", "dumb") == "dumb":
        raise CommandFailed("this terminal cannot move its cursor (TERM)", "bgpd status and bgpd show write text")
    daemon.overview()
    return int(Top(daemon).run(mouse=False) or 0)


def _has_terminal() -> bool:
    return sys.stdin.isatty() and sys.stdout.isatty()


class Pane(Screen[None]):
    """A long text to move in. It is made anew by `lines` with each look."""

    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("escape,q,n,e,question_mark,backspace", "app.pop_screen", show=False),
    ]

    def __init__(self, lines: Callable[[int], Iterable[Line]]) -> None:
        super().__init__()
        self._lines = lines

    def compose(self) -> ComposeResult:
        with VerticalScroll():
            yield Static(id="text")
        yield Static("escape back   up, down, page up, page down, home, end", id="keys")

    def on_mount(self) -> None:
        """It has the keyboard."""
        self.query_one(VerticalScroll).focus()
        self.draw()

    def on_resize(self, event: Resize) -> None:
        """Its lines are made for the width."""
        self.draw()

    def draw(self) -> None:
        """Writes the text as it is now, if there is a place for it yet."""
        for place in self.query("#text").results(Static):
            place.update(_text(self._lines(self.app.size.width)))


class Top(App[int]):
    """The live screen of one daemon."""

    AUTO_FOCUS = None
    ENABLE_COMMAND_PALETTE = False
    CSS = """
    Screen { background: ansi_default; color: ansi_default; }
    #screen { width: 100%; height: 1fr; }
    #keys { dock: bottom; height: 1; text-style: reverse; }
    #search { dock: bottom; border: none; height: 1; padding: 0; }
    VerticalScroll { height: 1fr; scrollbar-size-vertical: 0; }
    """
    BINDINGS: ClassVar[list[BindingType]] = [
        Binding("q,ctrl+c", "quit", show=False),
        Binding("slash", "ask", show=False, priority=True),
        Binding("n", "neighbors", show=False),
        Binding("e", "events", show=False),
        Binding("p", "pause", show=False),
        Binding("question_mark,h", "keys", show=False),
        Binding("escape", "leave", show=False),
    ]

    def __init__(self, daemon: Daemon, *, clock: Callable[[], float] = time.time, look_s: float = LOOK_S) -> None:
        super().__init__(ansi_color=True)
        self._daemon = daemon
        self._clock = clock
        self._look_s = look_s
        self._seen = Seen()
        self._is_paused = False

    def compose(self) -> ComposeResult:
        yield Static(id="screen")
        yield Input(id="search")

    def on_mount(self) -> None:
        """Follow the daemon."""
        self.run_worker(self._follow(), exclusive=True)

    async def _follow(self) -> None:
        while True:
            if not self._is_paused:
                await self._look()
            await asyncio.sleep(self._look_s)

    async def _look(self) -> None:
        try:
            overview, events = await asyncio.to_thread(lambda: (self._daemon.overview(), self._daemon.events()))
        except CommandFailed as error:
            self._seen.fail(str(error).partition("\n")[0], self._clock())
        else:
            self._seen.take(overview, events, self._clock())
        self._draw()

    def on_resize(self, event: Resize) -> None:
        """What fits depends on the size."""
        self._draw()

    def _draw(self) -> None:
        screens = self.screen_stack
        if not screens or not screens[0].query("#screen"):
            return  # it begins, or ends
        for pane in screens[1:]:
            if isinstance(pane, Pane):
                pane.draw()
        width, height = self.size
        lines = top_lines.screen(self._seen, width=width, height=height - 1, now=self._clock())
        screens[0].query_one("#screen", Static).update(_text(lines))
        search = screens[0].query_one("#search", Input)
        held = "HELD STILL (p)  " if self._is_paused else ""
        search.placeholder = _ASKS if search.has_focus else f"{held}{_KEYS}"

    def check_action(self, action: str, parameters: tuple[object, ...]) -> bool | None:
        return action != "ask" or not (isinstance(self.screen, Pane) or isinstance(self.focused, Input))

    def action_ask(self) -> None:
        """Ask what becomes of a destination."""
        search = self.query_one("#search", Input)
        search.placeholder = _ASKS
        self.screen.set_focus(search)  # at once, and so by a binding with priority: the next key belongs to it

    def action_leave(self) -> None:
        """Back from the question to the screen."""
        self.query_one("#search", Input).value = ""
        self.screen.set_focus(None)
        self._draw()

    async def on_input_submitted(self, event: Input.Submitted) -> None:
        """Answer the question."""
        what = event.value.strip()
        self.action_leave()
        if what:
            lines = await self._explained(what)
            await self.push_screen(Pane(lambda width: lines))

    async def _explained(self, what: str) -> list[Line]:
        """The story of an address, its first line set off."""
        try:
            views = await asyncio.to_thread(self._daemon.explain, what)
        except CommandFailed as failure:
            return [Line(printable(part), Style.BAD) for part in str(failure).split("\n")]
        lines: list[Line] = []
        for view in views:
            lines += [Line("")] if lines else []
            verdict, *rest = explain_lines(view, self._clock())
            lines.append(Line(printable(verdict), Style.TITLE if view["agrees"] else Style.BAD))
            lines += [Line(printable(part)) for part in rest]
        return lines

    def action_neighbors(self) -> None:
        """Show all neighbors."""

        def lines(width: int) -> Iterable[Line]:
            view = self._seen.overview
            if view is None:
                return [Line("nothing is known yet")]
            return top_lines.neighbor_lines(view, self._clock(), width=width)

        self.push_screen(Pane(lines))

    def action_events(self) -> None:
        """Show the last events, newest first."""
        self.push_screen(Pane(lambda width: [*top_lines.event_lines(self._seen.events)][::-1] or [Line("no events")]))

    def action_keys(self) -> None:
        """Show what each key does."""
        self.push_screen(Pane(lambda width: map(Line, _HELP.split("\n"))))

    def action_pause(self) -> None:
        """Hold the screen still, or go on."""
        self._is_paused = not self._is_paused
        self._draw()


def _text(lines: Iterable[Line]) -> Text:
    text = Text(no_wrap=False)
    for index, line in enumerate(lines):
        text.append("\n" if index else "")
        text.append(printable(line.text), style=_STYLES[line.style])
    return text
