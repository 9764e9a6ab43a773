"""What `bgpd top` shows, as lines for a terminal of any size. Made of the views' JSON; the time is passed in.

State is told by words and marks, colour only repeats it: "+" is well, "!" is not, "~" is kept while it restarts.
"""

from __future__ import annotations

import enum
import textwrap
import time
from collections import deque
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import NamedTuple

from bgpd.cli.render import View, age, fields, last_error, printable, stale

MOST_TABLES = 4
MOST_REASONS = 3
KEPT_WINDOWS = 3
_ROOMY = 13
"""With so many lines for neighbors and events there are empty lines between the parts."""
_LEAST_EVENTS = 5
_NARROW = 66
"""In fewer columns the counts of routes give way to what is wrong."""


class Style(enum.StrEnum):
    """How a line is set off."""

    PLAIN = "plain"
    TITLE = "title"
    GOOD = "good"
    BAD = "bad"
    WARNING = "warning"
    FAINT = "faint"


class Line(NamedTuple):
    """One line of the screen."""

    text: str
    style: Style = Style.PLAIN


class Window(NamedTuple):
    """A time in which routes that are wanted were not in the kernel: from when, for how long, how many at most."""

    began: float
    lasted_s: float
    most: int


class Windows:
    """The times in which wanted routes were not in the kernel, as far as looks show them; the last few are kept."""

    def __init__(self) -> None:
        self.past: deque[Window] = deque(maxlen=KEPT_WINDOWS)
        self.present: Window | None = None

    def take(self, missing: int, now: float) -> None:
        """So many are missing at this look."""
        if missing:
            began, _, most = self.present or Window(now, 0.0, 0)
            self.present = Window(began, now - began, max(most, missing))
        elif self.present is not None:
            self.past.append(self.present._replace(lasted_s=now - self.present.began))
            self.present = None


class Seen:
    """What is known of the daemon: its last overview and events, and since when it does not answer, and why."""

    def __init__(self) -> None:
        self.overview: View | None = None
        self.events: list[View] = []
        self.windows = Windows()
        self.problem = ""
        self.problem_since = 0.0

    def take(self, overview: View, events: Sequence[View], now: float) -> None:
        """An answer."""
        self.overview, self.problem = overview, ""
        self.events = list(events)
        self.windows.take(sum(map(missing, overview["tables"])), now)

    def fail(self, problem: str, now: float) -> None:
        """No answer."""
        if not self.problem:
            self.problem_since = now
        self.problem = problem


def missing(table: View) -> int:
    """Routes of a TableOverview that are wanted and could be in the kernel, but are not."""
    return max(0, int(table["desired"]) - int(table["installed"]) - int(table["blocked"]))


def screen(seen: Seen, *, width: int, height: int, now: float) -> list[Line]:
    """The whole screen: at most `height` lines of at most `width` columns; what matters most is on top."""
    lines = [*_problem(seen, width, now)]
    view = seen.overview
    if view is None:
        return [_cut(line, width) for line in lines[:height]]
    lines += [*_head(view, width, now)]
    kernel = [*_wrapped(_kernel(view, seen.windows, now), width), *_wrapped(_work(view), width)]
    neighbors, events = [*neighbor_lines(view, now, width=width)], [*event_lines(seen.events)]
    room = height - len(lines) - len(kernel)
    gap = [Line("")] if room >= _ROOMY else []
    room -= 3 * len(gap)
    most = max(3, room - min(_LEAST_EVENTS, len(events)))
    if len(neighbors) > most:
        rest = view["neighbors_total"] - (most - 2)
        neighbors = [*neighbors[: most - 1], Line(f"  ... and {rest} more: n", Style.FAINT)]
    lines += [*gap, *neighbors, *gap, *kernel, *gap]
    left = height - len(lines)
    lines += events[-left:] if left > 0 else []
    return [_cut(line, width) for line in lines[:height]]


def _wrapped(lines: Iterable[Line], width: int) -> Iterator[Line]:
    for line in lines:
        parts = textwrap.wrap(line.text, max(width, 20), subsequent_indent="    ", drop_whitespace=True)
        yield from (Line(part, line.style) for part in parts)


def _cut(line: Line, width: int) -> Line:
    return Line(_clipped(printable(line.text), width), line.style)


def _clipped(text: str, width: int) -> str:
    return text if len(text) <= width else f"{text[: max(0, width - 3)]}..."


def _problem(seen: Seen, width: int, now: float) -> Iterator[Line]:
    if seen.problem:
        since = age(seen.problem_since, now)
        known = "; what follows is older" if seen.overview is not None else ""
        text = f"NO ANSWER for {since}: {seen.problem}{known}"
        yield from (Line(part, Style.BAD) for part in textwrap.wrap(text, width))


def _head(view: View, width: int, now: float) -> Iterator[Line]:
    health = view["health"]
    clock = time.strftime("%H:%M:%S", time.localtime(now))
    yield Line(
        f"{clock}  {health['hostname']}  bgpd {health['version']}  up {age(health['started_at'], now)}", Style.TITLE
    )
    verdict = view["verdict"]
    style = Style.GOOD if verdict == "ready" else Style.WARNING if health["ready"] else Style.BAD
    mark = "+" if verdict == "ready" else "!"
    yield from (Line(part, style) for part in textwrap.wrap(f"{mark} {verdict}", width, subsequent_indent="  "))
    told = [
        *(f"waits for: {text}" for text in health["waiting_for"]),
        *(f"warning: {one}" for one in health["warnings"]),
    ]
    for text in told[:MOST_REASONS]:
        yield Line(f"  {text}", Style.WARNING)
    if len(told) > MOST_REASONS:
        yield Line(f"  ... and {len(told) - MOST_REASONS} more: bgpd status", Style.FAINT)


def neighbor_lines(view: View, now: float, *, width: int) -> Iterator[Line]:
    """The neighbors of an OverviewView, a line for each, below a heading."""
    widest = max((len(one["name"]) for one in view["neighbors"]), default=8)
    is_narrow = width < _NARROW
    room = min(max(widest, 8), 12 if is_narrow else 20)
    counts = "" if is_narrow else f" {'Received':>9} {'Sent':>7}"
    yield Line(f"  {'Neighbor':<{room}}  {'State':<11}  {'Since':<7}{counts}".rstrip(), Style.TITLE)
    if not view["neighbors"]:
        yield Line("  none is configured", Style.FAINT)
    for one in view["neighbors"]:
        mark, style = _standing(one)
        cells = f"{mark} {_clipped(one['name'], room):<{room}}  {one['state']:<11}  {age(one['since'], now):<7}"
        if not is_narrow:
            families = one["families"].values()
            received, sent = (sum(of[name] for of in families) for name in ("received", "announced"))
            cells += f" {received:>9,} {sent:>7,}"
        yield Line(f"{cells}  {'; '.join(_notes(one, now))}".rstrip(), style)


def _standing(one: View) -> tuple[str, Style]:
    if one["stale_since"] is not None:
        return "~", Style.WARNING
    if one["state"] != "established":
        return "!", Style.BAD
    if one["bfd"] not in ("", "up") or one["expectation"] == "unmet":
        return "!", Style.WARNING
    return "+", Style.PLAIN


def _notes(one: View, now: float) -> Iterator[str]:
    if one["bfd"]:
        yield f"BFD {one['bfd']}"
    if one["expectation"] == "unmet":
        yield f"is {one['hostname'] or one['lldp_hostname']}, not {one['expected_hostname']}"
    if kept := stale(one, now):
        yield kept
    if one["state"] != "established" and (error := last_error(one, now)):
        yield error
    if one["guest"]:
        yield f"guest {one['guest']}"


def _kernel(view: View, windows: Windows, now: float) -> Iterator[Line]:
    tables = sorted(view["tables"], key=lambda one: (-(missing(one) + one["failed"]), one["vrf"]))
    for table in tables[:MOST_TABLES]:
        name = table["vrf"] or "kernel"
        parts = [f"wanted {table['desired']:,}", f"installed {table['installed']:,}"]
        states = (("waiting", "pending"), ("refused", "failed"), ("kept out", "blocked"))
        parts += [f"{word} {table[field]:,}" for word, field in states if table[field]]
        style = Style.BAD if table["failed"] else Style.WARNING if missing(table) else Style.PLAIN
        yield Line(f"{'!' if style is not Style.PLAIN else '+'} {name}: {', '.join(parts)}", style)
    if len(tables) > MOST_TABLES:
        yield Line(f"  ... and {len(tables) - MOST_TABLES} more VRFs: bgpd show vrfs", Style.FAINT)
    if windows.present is not None:
        lasted = f"{windows.present.lasted_s:.0f} s"
        yield Line(f"! routes missing from the kernel for {lasted}, at most {windows.present.most:,}", Style.BAD)
    elif windows.past:
        told = ", ".join(
            f"{time.strftime('%H:%M:%S', time.localtime(one.began))} for {one.lasted_s:.0f} s ({one.most:,})"
            for one in reversed(windows.past)
        )
        yield Line(f"  routes were missing: {told}", Style.FAINT)


def _work(view: View) -> Iterator[Line]:
    parts = [f"announced {view['announced']:,}", f"withheld {view['withheld']:,}"]
    parts += [f"{source}: {_counts(states)}" for source, states in view["workloads"].items()]
    style = Style.WARNING if view["withheld"] else Style.PLAIN
    yield Line(f"{'!' if view['withheld'] else '+'} workloads: {', '.join(parts[:2])}" + _in_brackets(parts[2:]), style)
    services = {state: count for state, count in view["services"].items() if count}
    if services:
        is_well = set(services) <= {"announced"}
        text = f"{'+' if is_well else '!'} services: {_counts(services)}"
        yield Line(text, Style.PLAIN if is_well else Style.WARNING)


def _counts(states: Mapping[str, int]) -> str:
    return ", ".join(f"{count:,} {state}" for state, count in states.items() if count)


def _in_brackets(parts: Sequence[str]) -> str:
    return f" ({'; '.join(parts)})" if parts else ""


def event_lines(events: Iterable[View]) -> Iterator[Line]:
    """EventViews, the newest last."""
    styles = {"error": Style.BAD, "warning": Style.WARNING}
    for event in events:
        at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
        text = f"{at} {event['level']:<7} {event['event']} {fields(event['fields'])}"
        yield Line(text.rstrip(), styles.get(event["level"], Style.PLAIN))
