"""How the command line writes values, tables and the story of `bgpd explain` for people.

Tables are aligned text. The story goes from the top: the verdict, the kernel, its next hops,
the RIB's candidates, who said so. Made of the views' JSON; the time is passed in.
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Iterator, Mapping, Sequence
from typing import Any, TextIO

View = Mapping[str, Any]
"""An object of an answer, as JSON has it."""
_TO_BE_QUOTED = re.compile(r'[\s="\\]')
_UNITS = ((86400, "d"), (3600, "h"), (60, "m"), (1, "s"))


def age(since: float | None, now: float) -> str:
    """How long ago, in its two largest units: "3h12m"; "" for never."""
    if not since:
        return ""
    left = max(0, int(now - since))
    parts: list[str] = []
    for seconds, unit in _UNITS:
        count, left = divmod(left, seconds)
        if count or parts or unit == "s":
            parts.append(f"{count}{unit}")
    return "".join(parts[:2])


def next_hop(view: View) -> str:
    """A NextHopView: "10.0.1.2 dev eth0", "fe80::1 dev eth1 weight 2 (dead: link is down)"."""
    parts = [view["address"]] if view.get("address") else []
    if view.get("interface"):
        parts.append(f"dev {view['interface']}")
    if view.get("weight", 1) != 1:
        parts.append(f"weight {view['weight']}")
    if view.get("bfd"):
        parts.append(f"BFD {view['bfd']}")
    if view.get("neighbor"):
        parts.append(f"neighbor table: {view['neighbor']}")
    if not view.get("live", True):
        parts.append(f"(dead: {view.get('why') or 'unknown'})")
    return " ".join(parts)


def fields(values: View) -> str:
    """Fields of an event: "neighbor=leaf1 hold_time_s=9". A text that could be taken for several is quoted as in JSON:
    it may be from the network."""
    return " ".join(f"{name}={_field(value)}" for name, value in values.items())


def _field(value: Any) -> str:
    is_plain = not isinstance(value, str) or (value and not _TO_BE_QUOTED.search(value))
    return str(value) if is_plain else json.dumps(value, ensure_ascii=False)


def place(view: View) -> str:
    """Where a neighbor is: its address, with the interface that scopes it."""
    address, interface = view.get("address", ""), view.get("interface", "")
    return f"{address}%{interface}" if address and interface else address or interface


def last_error(neighbor: View, now: float) -> str:
    """Why the last attempt or session with a neighbor ended, and how long ago; "" if none has."""
    error, at = neighbor.get("last_error", ""), neighbor.get("last_error_at")
    return f"{error} ({age(at, now)} ago)" if error and at else str(error)


def stale(view: View, now: float) -> str:
    """Since when a neighbor's routes are kept while it restarts, and for how long still; "" if they are not stale."""
    since = view.get("stale_since")
    if since is None:
        return ""
    left = max(0, int((view.get("stale_until") or now) - now))
    return f"stale for {age(since, now)}, kept for {left} s more"


def total(families: Mapping[str, Mapping[str, int]], field: str) -> str:
    """The sum of one count over all families."""
    return str(sum(counts.get(field, 0) for counts in families.values()))


def words(values: Iterable[object]) -> str:
    """Values with commas between."""
    return ", ".join(map(str, values))


def printable(line: str) -> str:
    """The line without control characters: names and reasons come from neighbors, and must not steer a terminal."""
    if line.isprintable():
        return line
    return "".join(character if character.isprintable() else "\N{REPLACEMENT CHARACTER}" for character in line)


_ROWS_TO_MEASURE = 100
_SHORT = 16
"""Cells of the last column that have so few characters keep their room beside the others: a state, a name."""
_BOLD, _RED, _GREEN, _YELLOW = "1", "31", "32", "33"
_STYLES = {
    "established": _GREEN,
    "installed": _GREEN,
    "announced": _GREEN,
    "error": _RED,
    "failed": _RED,
    "conflict": _RED,
    "blocked": _YELLOW,
    "pending": _YELLOW,
    "warning": _YELLOW,
    "idle": _RED,
    "active": _YELLOW,
    "connect": _YELLOW,
}
"""Of cells that hold exactly this word (ECMA-48 SGR)."""


class Table:
    """A table for people, written as its rows come: each width is that of the widest cell so far.

    Columns in which nothing stands are left out. On a terminal it is in colour, and no line is longer than the terminal
    is wide: what does not fit beside the first columns stands below them, the last column on lines of its own. Nothing
    is cut.
    """

    def __init__(self, columns: Sequence[str], out: TextIO) -> None:
        self.is_empty = True
        self._columns = columns
        self._out = out
        is_terminal = out.isatty()
        self._colored = is_terminal and not os.environ.get("NO_COLOR")
        self._room = _columns() if is_terminal else 0
        self._waiting: list[tuple[str, ...]] = []
        self._widths = [0] * len(columns)
        self._short = [0] * len(columns)
        self._shown: list[int] = []

    def write(self, rows: Iterable[Sequence[str]]) -> None:
        """Further rows. The first are kept until there are enough of them to know the widths from."""
        self._waiting += [tuple(map(printable, row)) for row in rows]
        if not self.is_empty or len(self._waiting) >= _ROWS_TO_MEASURE:
            self._flush()

    def end(self) -> None:
        """There are no more rows."""
        self._flush()

    def _flush(self) -> None:
        rows, self._waiting = self._waiting, []
        if not rows:
            return
        self.is_empty = False
        for row in rows:
            for index, cell in enumerate(row):
                self._widths[index] = max(self._widths[index], len(cell))
                if self._short[index] < len(cell) <= _SHORT:
                    self._short[index] = len(cell)
        shown = [index for index, width in enumerate(self._widths) if width]
        if not shown:
            return
        beside, below = self._places(shown)
        if shown != self._shown:
            if self._shown:
                self._out.write("\n")
            self._shown = shown
            titles = [self._columns[index].ljust(self._width(index)) for index in beside]
            if below and self._fits(beside, self._columns[shown[-1]]):
                titles.append(self._columns[shown[-1]])
            self._out.write(_styled("  ".join(titles).rstrip(), _BOLD if self._colored else "") + "\n")
        for row in rows:
            self._write_row(row, beside, below)

    def _width(self, index: int) -> int:
        return max(self._widths[index], len(self._columns[index]))

    def _places(self, shown: Sequence[int]) -> tuple[list[int], list[int]]:
        """The columns that stand beside each other, and those that stand below: the last one first, though room is left
        for its short cells, then the widest, but not what a row is about.
        """
        beside, room = list(shown), self._room
        if not room or self._used(beside) <= room or len(beside) == 1:
            return beside, []
        last = beside.pop()
        room -= 2 + self._short[last]
        subject = next((index for index in shown if self._columns[index]), 0)
        while len(beside) > 1 and self._used(beside) > room:
            beside.remove(max([index for index in beside if index > subject] or beside, key=self._width))
        return beside, [index for index in shown if index not in beside]

    def _used(self, beside: Sequence[int]) -> int:
        return sum(map(self._width, beside)) + 2 * (len(beside) - 1)

    def _fits(self, beside: Sequence[int], cell: str) -> bool:
        return self._used(beside) + 2 + len(cell) <= self._room

    def _write_row(self, row: Sequence[str], beside: Sequence[int], below: Sequence[int]) -> None:
        cells = [
            _styled(row[index], _STYLES.get(row[index], "") if self._colored else "")
            + " " * (self._width(index) - len(row[index]))
            for index in beside
        ]
        last = self._shown[-1]
        if last in below and self._fits(beside, row[last]):
            cells.append(row[last])
            below = [index for index in below if index != last]
        self._out.write("  ".join(cells).rstrip() + "\n")
        parts = [self._labelled(index, row[index]) for index in below if row[index] and index != last]
        texts = ["  ".join(parts), self._labelled(last, row[last]) if last in below else ""]
        if not any(texts):
            return
        import textwrap

        for text in filter(str.strip, texts):
            for part in textwrap.wrap(text, max(self._room - 4, 20), break_long_words=False, break_on_hyphens=False):
                self._out.write(f"    {part}\n")

    def _labelled(self, index: int, cell: str) -> str:
        title = self._columns[index]
        return f"{title}: {cell}" if title else cell


def _columns() -> int:
    """Of the terminal. What measures it is imported only where there is one: it takes a tenth of a start."""
    import shutil

    return shutil.get_terminal_size().columns


def write_table(columns: Sequence[str], rows: Sequence[Sequence[str]], out: TextIO, *, empty: str) -> None:
    """Writes a whole table; `empty` where there are no rows."""
    table = Table(columns, out)
    table.write(rows)
    table.end()
    if table.is_empty:
        out.write(f"{empty}\n")


def _styled(text: str, style: str) -> str:
    return f"\x1b[{style}m{text}\x1b[0m" if style else text


def status_lines(view: View, now: float) -> Iterator[str]:
    """`bgpd status`, made of a HealthView."""
    up = age(view["started_at"], now)
    form = f" ({view['form']})" if view.get("form") else ""
    yield f"bgpd {view['version']}{form} on {view['hostname']}, process {view['pid']}, up {up}"
    yield "ready" if view["ready"] else "NOT READY"
    yield from (f"  {reason}" for reason in view["reasons"])
    yield from (f"  waits for: {text}" for text in view.get("waiting_for", ()))
    yield from (f"warning: {warning}" for warning in view.get("warnings", ()))
    yield f"neighbors: {view['neighbors_established']} of {view['neighbors']} established"
    yield f"routes: {view['routes']}; kernel routes: {view['fib_pending']} pending, {view['fib_failed']} failed"
    if history_from := view.get("history_from"):
        yield f"history of routes: of the last {age(history_from, now)}"
    if handover := view.get("last_handover"):
        yield from handover_lines(handover, now)
    if configuration := view.get("configuration"):
        yield from _configuration(configuration, now)


def _configuration(view: View, now: float) -> Iterator[str]:
    """A ConfigurationView, where there is anything to be said."""
    first, *fragments = view["files"]
    chosen = [(name, view[name]) for name in ("asn", "router_id") if view.get(name)]
    if fragments or view["variables"] or chosen:
        yield f"configuration: {first}, read {age(view['at'], now)} ago"
    yield from (f"  with {file}" for file in fragments)
    yield from (f"  ${{{name}}} is {value}" for name, value in view["variables"].items())
    for name, one in chosen:
        of = f" {one['of']}" if one["origin"] != "machine-id" else ""
        yield f"  {name} is {one['value']}, made from the {one['origin']}{of}"


def handover_lines(view: View, now: float) -> Iterator[str]:
    """A HandoverView."""
    if view["problem"]:
        yield f"hand-over: no session went on: {view['problem']}"
        return
    sessions = f"{view['adopted']} session{'' if view['adopted'] == 1 else 's'}"
    unread = f", unread for {view['unread_s']:.1f} s" if view.get("unread_s") else ""
    yield f"hand-over: {sessions} went on, from version {view['version']}, {age(view['at'], now)} ago{unread}"
    yield from (f"  {name} began anew: {why}" for name, why in view["refused"].items())


_MARGIN = 10
_MARKS = {"best": ">", "multipath": "=", "rejected": "x", "lost": " "}


def explain_lines(view: View, now: float) -> Iterator[str]:
    """The lines of the story."""
    where = f"{view['address']}{' in VRF ' + view['vrf'] if view.get('vrf') else ''}"
    yield f"{where}: BROKEN: {view['broken']}" if view.get("broken") else f"{where}: reachable"
    yield view["verdict"]
    yield "kernel and RIB agree" if view["agrees"] else "KERNEL AND RIB DIFFER"
    yield ""
    yield from _kernel(view.get("kernel"))
    if fib := view.get("fib"):
        yield from section(
            "fib", [f"{fib['prefix']} {fib['state']}" + (f": {fib['error']}" if fib.get("error") else "")]
        )
    if workload := view.get("workload"):
        yield from section("workload", workload_lines(workload, now))
    if guest := view.get("guest"):
        yield from section("guest", route_lines(guest, now))
    yield from section("sent", [*map(sent_line, view.get("announced", ()))])
    yield from section("withheld", [withheld_line(one, now) for one in view.get("withheld", ())])
    yield from section("rib", route_lines(view.get("route"), now))
    yield from section("overlay", list(view.get("overlay", ())))
    yield from section("neighbor", [_neighbor(neighbor, now) for neighbor in view.get("neighbors", ())])


def sent_line(one: View) -> str:
    """A route as a neighbor was sent it (ExchangedRouteView)."""
    words = [f"next hop {one['next_hop']}" if one.get("next_hop") else "", f"AS path {one['as_path']}"]
    words += [f"MED {one['med']}" if one.get("med") is not None else ""]
    words += [f"local preference {one['local_pref']}" if one.get("local_pref") is not None else ""]
    for name in ("communities", "large_communities", "extended_communities"):
        words += [f"{name.replace('_', ' ')} {' '.join(one[name])}" if one.get(name) else ""]
    words += [f"gateway {one['gateway_ip']}" if one.get("gateway_ip") else ""]
    return f"{one['prefix']} to {one['neighbor']} ({one['family']}): {', '.join(filter(None, words))}"


def withheld_line(one: View, now: float) -> str:
    """A neighbor that has not got a route of this host (WithheldView)."""
    since = f" for {age(one['since'], now)}" if one.get("since") else ""
    reason = one["reason"].removeprefix(f"{one['neighbor']}: ")
    return f"from {one['neighbor']}{since}: {reason}".rstrip(": ")


def why_not_lines(view: View, now: float) -> Iterator[str]:
    """What is missing, and what there is."""
    yield f"{view['prefix']}{' in VRF ' + view['vrf'] if view.get('vrf') else ''}: {view['verdict']}"
    yield ""
    for workload in view.get("workloads", ()):
        yield from section("workload", workload_lines(workload, now))
    if view.get("route") or not view.get("workloads"):
        yield from section("rib", route_lines(view.get("route"), now))
    if fib := view.get("fib"):
        yield from section(
            "fib", [f"{fib['prefix']} {fib['state']}" + (f": {fib['error']}" if fib.get("error") else "")]
        )
    told = [
        f"{one['neighbor']}: {'announced' if one['announced'] else one['reason']}" for one in view.get("withheld", ())
    ]
    yield from section("to", told)
    yield from section("near", list(view.get("near", ())))


def section(title: str, lines: list[str]) -> Iterator[str]:
    """Lines with their title before the first."""
    for index, line in enumerate(lines):
        yield f"{title if index == 0 else '':<{_MARGIN}}{line}"


def _kernel(kernel: View | None) -> Iterator[str]:
    if kernel is None:
        yield from section("kernel", ["not asked"])
        return
    if kernel.get("error"):
        yield from section("kernel", [kernel["error"]])
        return
    owner = f"protocol {kernel['protocol']}{' (bgpd)' if kernel['ours'] else ''}"
    group = f", nexthop group {kernel['group']}" if kernel.get("group") else ""
    lines = [f"{kernel['prefix']} table {kernel['table']} {owner} metric {kernel['metric']}{group}"]
    hops = kernel.get("next_hops", ())
    lines += [f"  {'*' if hop.get('live', True) else '!'} {next_hop(hop)}" for hop in hops]
    yield from section("kernel", lines)


def workload_lines(workload: View, now: float) -> list[str]:
    """A WorkloadView: what is claimed, by whom, and what became of it."""
    interface = f" on {workload['interface']}" if workload.get("interface") else ""
    reason = f": {workload['reason']}" if workload.get("reason") else ""
    since = age(workload["since"], now)
    who = f"{workload['prefix']} {workload['id']} ({workload['source']}){interface}"
    return [f"{who} {workload['state']} for {since}{reason}"]


def route_lines(route: View | None, now: float) -> list[str]:
    """A RouteView with its candidates."""
    if route is None:
        return ["no route covers it"]
    lines = [f"{route['prefix']} {route['family']}"]
    for candidate in route.get("candidates", ()):
        via = f" via {candidate['next_hop']}" if candidate.get("next_hop") else ""
        path = f", AS path {candidate['as_path']}" if candidate.get("as_path") else ""
        path += f", OTC {candidate['only_to_customer']}" if candidate.get("only_to_customer") is not None else ""
        heard = f", said so {age(candidate['heard_at'], now)} ago" if candidate.get("heard_at") else ""
        role = candidate["role"]
        kept = f", {stale(candidate, now)}" if stale(candidate, now) else ""
        lines.append(f"  {_MARKS.get(role, ' ')} {candidate['source']}{via}{path}{heard}{kept}")
        why = candidate.get("reason") or ("" if role == "best" else "no reason given")
        lines.append(f"      {role}{': ' + why if why else ''}")
        if candidate.get("rule"):
            lines.append(f"      {candidate['rule']}")
    return lines


def _neighbor(neighbor: View, now: float) -> str:
    since = age(neighbor["since"], now)
    error = f", last error: {found}" if (found := last_error(neighbor, now)) else ""
    bfd = f", BFD {neighbor['bfd']}" if neighbor.get("bfd") else ""
    role = f", this host is its {neighbor['role']}" if neighbor.get("role") else ""
    return (
        f"{neighbor['name']} {place(neighbor)} AS {neighbor['asn']} {neighbor['state']} for {since}{bfd}{role}{error}"
    )
