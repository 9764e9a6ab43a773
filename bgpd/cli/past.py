"""`bgpd explain ADDRESS --at TIME` and `bgpd show routes PREFIX --at TIME`: how it was, from the daemon's history of
routes or from the files that it left; and what became of a prefix, from such files.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgpd.cli import render as text
from bgpd.cli.client import TIMEOUT_S, Client, CommandFailed, WrongUsage, of_json, segment
from bgpd.cli.decode import DecodeOptions, Hooks
from bgpd.cli.progress import progress
from bgpd.cli.render import route_lines, section, sent_line, withheld_line

if TYPE_CHECKING:
    from bgpd.history.tables import AskedRoutes
    from bgpd.journal.store import Sought
    from bgpd.model.views.explained import PastRoutesView
    from bgpd.model.views.host import EventView

MOST_THEN = 1000
"""Routes of an earlier time in one answer."""


def explain_past(arguments: argparse.Namespace, hooks: Hooks, address: str) -> int:
    """`bgpd explain ADDRESS --at TIME`, or `--wire` (now)."""
    if not address:
        raise WrongUsage(f'"{arguments.address}" is no address', "--at and --wire are about an address")
    at = time.time() if arguments.at is None else arguments.at
    if arguments.state:
        view = _of_files(arguments, address, at)
    else:
        parameters = {"at": f"{at:.6f}", "vrf": arguments.vrf or None}
        client = Client(arguments.socket)
        with progress.of("the history of routes is read"):
            parts = client.stream("GET", f"/v1/explain/{segment(address)}", parameters, timeout_s=TIMEOUT_S)
            view = of_json(b"".join(parts))
    if arguments.json:
        print(json.dumps(view, indent=1))
        return 0
    for line in past_lines(view):
        print(text.printable(line))
    if arguments.wire:
        for line in _wire(view, hooks):
            print(text.printable(line))
    return 0


def _of_files(arguments: argparse.Namespace, address: str, at: float) -> dict[str, Any]:
    import msgspec

    from bgpd.history.answers import past
    from bgpd.history.reading import NotKnown
    from bgpd.log import quiet
    from bgpd.message.exabgp_codec import load

    load()
    packed = ipaddress.ip_address(address).packed
    try:
        with quiet(), reading() as part:  # events of that time are none of now
            view = past(
                Path(arguments.state),
                packed,
                arguments.vrf,
                at=at,
                events=not arguments.no_events,
                progress=part,
            )
    except NotKnown as error:
        raise CommandFailed(str(error)) from None
    found: dict[str, Any] = msgspec.to_builtins(view)
    return found


def routes_of_then(arguments: argparse.Namespace, parameters: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """`bgpd show routes PREFIX --at TIME`: the views, and on standard error what is to be known about them.

    Raises: WrongUsage: of no prefix, or narrowed by what the history does not have. CommandFailed.
    """
    given = dict(parameters)
    if "prefix" not in given:
        raise WrongUsage(
            "--at is about a prefix or an address", "bgpd show routes 10.64.0.0/16 --longer-prefixes --at 02:51"
        )
    if other := given.keys() - {"prefix", "longer_prefixes", "vrf", "family", "limit"}:
        raise WrongUsage(f"--at and --{min(other)} do not go together", "the history has routes by their prefixes")
    query = {**given, "at": arguments.at, "limit": min(given.get("limit") or MOST_THEN, MOST_THEN)}
    if arguments.directory:
        view = _routes_of_files(arguments.directory, query)
    else:
        query["at"] = f"{arguments.at:.6f}"
        with progress.of("the history of routes is read"):
            parts = Client(arguments.socket).stream("GET", "/v1/past/routes", query, timeout_s=TIMEOUT_S)
            view = of_json(b"".join(parts))
    print(f"as it was at {moment(arguments.at)}; the history begins at {moment(view['known_from'])}", file=sys.stderr)
    if view["remark"]:
        print(view["remark"], file=sys.stderr)
    if view["total"] > len(view["routes"]):
        print(f"the first {len(view['routes'])} of {view['total']}", file=sys.stderr)
    yield view["routes"]


def _routes_of_files(state: str, query: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    from bgpd.history.tables import AskedRoutes
    from bgpd.model.views.queries import PastQuery

    vrf = query.get("vrf")
    asked = AskedRoutes(query=msgspec.convert(query, PastQuery), vrfs=() if vrf is None else (vrf,))
    found: dict[str, Any] = msgspec.to_builtins(_routes(Path(state), asked))
    return found


def print_routes(asked: str, state: str) -> int:
    """The routes of an earlier time, as JSON, for the daemon."""
    import msgspec

    from bgpd.history.tables import AskedRoutes

    print(msgspec.json.encode(_routes(Path(state), msgspec.json.decode(asked, type=AskedRoutes))).decode())
    return 0


def _routes(state: Path, asked: AskedRoutes) -> PastRoutesView:
    """Raises: CommandFailed: they are not known."""
    from bgpd.history.reading import NotKnown
    from bgpd.history.tables import routes
    from bgpd.log import quiet
    from bgpd.message.exabgp_codec import load

    load()
    try:
        with quiet(), reading() as part:
            return routes(state, asked, part)
    except NotKnown as error:
        raise CommandFailed(str(error)) from None


def print_changes(asked: str, state: str) -> int:
    """What became of a prefix, as a line of JSON for each event, for the daemon."""
    import msgspec

    from bgpd.history.changes import Asked

    question = msgspec.json.decode(asked, type=Asked)
    for event in _changes(Path(state), question):
        print(msgspec.json.encode(event).decode())
    return 0


def changes_of_files(state: Path, sought: Sought) -> list[EventView]:
    """What became of a prefix, from the files that a daemon has left; nothing where there are none."""
    from bgpd.history.changes import Asked, not_known
    from bgpd.history.segments import DIRECTORY

    if not (state / DIRECTORY).is_dir():
        return []
    try:
        return _changes(state, Asked(sought=sought, vrfs=() if sought.vrf is None else (sought.vrf,)))
    except CommandFailed as error:
        return [not_known(str(error))]


def _changes(state: Path, asked: Any) -> list[EventView]:
    """Raises: CommandFailed: it is not known."""
    from bgpd.history.changes import changes
    from bgpd.history.reading import NotKnown
    from bgpd.log import quiet
    from bgpd.message.exabgp_codec import load

    load()
    try:
        with quiet(), reading() as part:
            return changes(state, asked, part)
    except NotKnown as error:
        raise CommandFailed(str(error)) from None


@contextlib.contextmanager
def reading() -> Iterator[Callable[[float], None]]:
    """Says how far it is for who waits; what it gives takes which part is read."""
    part = [0.0]
    with progress.of(lambda: f"the history of routes is read, {100 * part[-1]:.0f} %"):
        yield part.append


def _wire(view: dict[str, Any], hooks: Hooks) -> Iterator[str]:
    """The UPDATEs in hexadecimal, and what the decoder makes of them."""
    yield ""
    for one in view.get("messages", ()):
        if not one.get("data"):
            yield f"{one['source']}: the UPDATE is not in the history"
            continue
        yield f"{one['source']}, {moment(one['at'])}, UPDATE {one['digest']}: {one['data']}"
        report = json.loads(hooks.report_message(one["data"], DecodeOptions()))
        yield from (f"  {line}" for line in json.dumps(report, indent=1).splitlines())


def past_lines(view: dict[str, Any]) -> Iterator[str]:
    """How it was: a PastView."""
    where = f" in VRF {view['vrf']}" if view.get("vrf") else ""
    yield f"{view['address']}{where} at {moment(view['at'])}: {view['verdict']}"
    yield f"the history of routes begins at {moment(view['known_from'])}"
    yield ""
    yield from section("rib", route_lines(view.get("route"), view["at"]))
    yield from section("neighbor", [_past_neighbor(one, view["at"]) for one in view.get("neighbors", ())])
    yield from section("changes", [_past_change(one) for one in view.get("changes", ())])
    yield from section("sent", [*map(sent_line, view.get("announced", ()))])
    yield from section("withheld", [withheld_line(one, view["at"]) for one in view.get("withheld", ())])
    yield from section("events", [_past_event(one) for one in view.get("events", ())])


def _past_neighbor(one: dict[str, Any], at: float) -> str:
    reason = f": {one['reason']}" if one.get("reason") else ""
    return f"{one['name']} {'established' if one['established'] else 'down'} for {text.age(one['since'], at)}{reason}"


def _past_change(one: dict[str, Any]) -> str:
    before, after = one.get("before", ""), one.get("after", "")
    became = f"{before} -> {after}" if before and after else after or f"gone ({before})"
    said = f" {one['source']}: {became}" if one["source"] else ""
    why = one.get("why") or (f"UPDATE {one['message']}" if one.get("message") else "")
    rest = [why, f"best: {one['best']}" if one.get("best") else ""]
    return "; ".join(filter(None, [f"{moment(one['at'])} {one['prefix']}{said}", *rest]))


def _past_event(one: dict[str, Any]) -> str:
    return f"{moment(one['at'])} {one['event']} {text.fields(one.get('fields', {}))}".rstrip()


def moment(at: float) -> str:
    """A time of day with its date."""
    return f"{time.strftime('%Y-%m-%d %H:%M:%S', time.localtime(at))}.{int(at % 1 * 1000):03d}"
