"""`bgpd explain ADDRESS --at TIME` and `bgpd show KIND --at TIME`: how it was, from the daemon's history of
routes or from the files that it left; and what became of a prefix, from such files.
"""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import sys
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any

from bgpd.cli import render as text
from bgpd.cli.client import TIMEOUT_S, Client, CommandFailed, WrongUsage, of_json, segment
from bgpd.cli.decode import DecodeOptions, Hooks
from bgpd.cli.progress import progress
from bgpd.cli.render import route_lines, section, sent_line, withheld_line, workload_lines

if TYPE_CHECKING:
    from bgpd.history.listings import AskedTable
    from bgpd.history.tables import AskedRoutes
    from bgpd.journal.store import Sought
    from bgpd.model.views.explained import PastRoutesView, PastTableView
    from bgpd.model.views.host import EventView

MOST_THEN = 1000
"""Rows of an earlier time in one answer."""


def explain_past(arguments: argparse.Namespace, hooks: Hooks, address: str) -> int:
    """`bgpd explain ADDRESS --at TIME`, or `--wire` (now); of a name, what it had then.

    Raises: CommandFailed: it is not known, or nothing had this name.
    """
    at = time.time() if arguments.at is None else arguments.at
    places = [(address, arguments.vrf)] if address else _places_then(arguments, at)
    views = [_explained(arguments, one, vrf, at) for one, vrf in places]
    if arguments.json:
        print(json.dumps(views[0] if address else views, indent=1))
        return 0
    for view in views:
        if view is not views[0]:
            print()
        for line in (*past_lines(view), *(_wire(view, hooks) if arguments.wire else ())):
            print(text.printable(line))
    return 0


def _places_then(arguments: argparse.Namespace, at: float) -> list[tuple[str, str]]:
    """Address and VRF of what a workload or service of this name had. Raises: CommandFailed: nothing had it."""
    rows = _past_table("workloads", arguments, {"name": arguments.address}, at, arguments.state)["rows"]
    found = {(one["prefix"].partition("/")[0], one["vrf"]): None for one in rows if arguments.vrf in ("", one["vrf"])}
    if not found:
        hint = f"bgpd show workloads --at {moment(at).partition('.')[0].replace(' ', 'T')} lists the names"
        raise CommandFailed(
            f'"{arguments.address}" is no address, and no workload or service had this name at {moment(at)}', hint
        )
    return list(found)


def _explained(arguments: argparse.Namespace, address: str, vrf: str, at: float) -> dict[str, Any]:
    if arguments.state:
        return _of_files(arguments, address, vrf, at)
    return _asked(arguments, f"/v1/explain/{segment(address)}", {"at": f"{at:.6f}", "vrf": vrf or None})


def _asked(arguments: argparse.Namespace, target: str, parameters: dict[str, Any]) -> dict[str, Any]:
    with progress.of("the history of routes is read"):
        parts = Client(arguments.socket).stream("GET", target, parameters, timeout_s=TIMEOUT_S)
        found: dict[str, Any] = of_json(b"".join(parts))
    return found


def _past_table(
    kind: str, arguments: argparse.Namespace, query: dict[str, Any], at: float, directory: str | None
) -> dict[str, Any]:
    """The view of a table at a time, of the daemon or of the files in a directory. Raises: CommandFailed."""
    if directory:
        return _of_directory(kind, directory, {**query, "at": at})
    return _asked(arguments, f"/v1/past/{kind}", {**query, "at": f"{at:.6f}"})


def _of_files(arguments: argparse.Namespace, address: str, vrf: str, at: float) -> dict[str, Any]:
    import msgspec

    from bgpd.history.answers import past

    packed = ipaddress.ip_address(address).packed
    with _known(), reading() as part:
        view = past(
            Path(arguments.state),
            packed,
            vrf,
            at=at,
            events=not arguments.no_events,
            progress=part,
        )
    found: dict[str, Any] = msgspec.to_builtins(view)
    return found


_KNOWN_OF_ROUTES = frozenset(("prefix", "longer_prefixes", "vrf", "family", "limit"))


def rows_of_then(arguments: argparse.Namespace, parameters: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """`bgpd show KIND --at TIME`: the views, and on standard error what is to be known about them.

    Raises: WrongUsage: of routes without a prefix, or narrowed by what the history does not have. CommandFailed.
    """
    given, kind = dict(parameters), arguments.kind
    if kind == "routes" and "prefix" not in given:
        raise WrongUsage(
            "--at is about a prefix or an address", "bgpd show routes 10.64.0.0/16 --longer-prefixes --at 02:51"
        )
    other = given.keys() - _KNOWN_OF_ROUTES if kind == "routes" else given.keys() & {"unresolved"}
    if other:
        what = "the history has routes by their prefixes" if kind == "routes" else "how they resolved is not kept"
        raise WrongUsage(f"--at and --{min(other)} do not go together", what)
    query = {**given, "limit": min(given.get("limit") or MOST_THEN, MOST_THEN)}
    view = _past_table(kind, arguments, query, arguments.at, arguments.directory)
    rows: list[dict[str, Any]] = view["routes" if kind == "routes" else "rows"]
    print(f"as it was at {moment(arguments.at)}; the history begins at {moment(view['known_from'])}", file=sys.stderr)
    if view["remark"]:
        print(view["remark"], file=sys.stderr)
    if view["total"] > len(rows):
        print(f"the first {len(rows)} of {view['total']}", file=sys.stderr)
    yield rows


def _of_directory(kind: str, state: str, query: dict[str, Any]) -> dict[str, Any]:
    import msgspec

    from bgpd.history.listings import AskedTable
    from bgpd.history.tables import AskedRoutes
    from bgpd.model.views.queries import PastQuery, PastTableQuery

    vrf = query.get("vrf")
    view: PastRoutesView | PastTableView
    if kind == "routes":
        view = _routes(
            Path(state), AskedRoutes(query=msgspec.convert(query, PastQuery), vrfs=() if vrf is None else (vrf,))
        )
    else:
        view = _table(Path(state), AskedTable(kind=kind, query=msgspec.convert(query, PastTableQuery)))
    found: dict[str, Any] = msgspec.to_builtins(view)
    return found


def print_past(kind: str, asked: str, state: str) -> int:
    """The rows of an earlier time, as JSON, for the daemon."""
    import msgspec

    from bgpd.history.listings import AskedTable
    from bgpd.history.tables import AskedRoutes
    from bgpd.model.utf8 import as_json

    view: PastRoutesView | PastTableView
    if kind == "routes":
        view = _routes(Path(state), msgspec.json.decode(asked, type=AskedRoutes))
    else:
        view = _table(Path(state), msgspec.json.decode(asked, type=AskedTable))
    print(as_json(view).decode())
    return 0


def print_overview(at: float, state: str) -> int:
    """The host at an earlier time, as JSON, for the daemon."""
    from bgpd.history.overviews import overview
    from bgpd.model.utf8 import as_json

    with _known(), reading() as part:
        print(as_json(overview(Path(state), at, part)).decode())
    return 0


def _routes(state: Path, asked: AskedRoutes) -> PastRoutesView:
    """Raises: CommandFailed: they are not known."""
    from bgpd.history.tables import routes

    with _known(), reading() as part:
        return routes(state, asked, part)


def _table(state: Path, asked: AskedTable) -> PastTableView:
    """Raises: CommandFailed: it is not known."""
    from bgpd.history.listings import table

    with _known(), reading() as part:
        return table(state, asked, part)


@contextlib.contextmanager
def _known() -> Iterator[None]:
    """Raises: CommandFailed: the history does not say it."""
    from bgpd.history.reading import NotKnown
    from bgpd.log import quiet
    from bgpd.message.exabgp_codec import load

    load()
    try:
        with quiet():  # events of that time are none of now
            yield
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

    with _known(), reading() as part:
        return changes(state, asked, part)


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
        report = json.loads(hooks.report_message(one["data"], _decode_options(one.get("options", ()))))
        yield from (f"  {line}" for line in json.dumps(report, indent=1).splitlines())


def _decode_options(given: Sequence[str]) -> DecodeOptions:
    return DecodeOptions(
        session="ibgp" if "--session=ibgp" in given else "ebgp",
        two_octet_as="--two-octet-as" in given,
        add_path="--add-path" in given,
        extended_next_hop="--extended-next-hop" in given,
    )


def past_lines(view: dict[str, Any]) -> Iterator[str]:
    """How it was: a PastView."""
    where = f" in VRF {view['vrf']}" if view.get("vrf") else ""
    yield f"{view['address']}{where} at {moment(view['at'])}: {view['verdict']}"
    yield f"the history of routes begins at {moment(view['known_from'])}"
    yield ""
    for claim in view.get("claims", ()):
        yield from section("workload", workload_lines(claim, view["at"]))
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
