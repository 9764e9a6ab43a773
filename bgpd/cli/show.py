"""Commands that read the running daemon: status, show, explain, monitor."""

from __future__ import annotations

import argparse
import contextlib
import ipaddress
import json
import math
import re
import sys
import time
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import Any

from bgpd.cli import render as text
from bgpd.cli.client import Client, CommandFailed, WrongUsage, of_json, segment
from bgpd.cli.decode import Hooks
from bgpd.cli.listing import form_of, writer
from bgpd.cli.near import did_you_mean, near, near_names
from bgpd.cli.past import changes_of_files, explain_past, print_changes, print_overview, print_past, rows_of_then
from bgpd.cli.progress import progress
from bgpd.cli.render import explain_lines, status_lines, why_not_lines
from bgpd.cli.tables import SHOWN
from bgpd.cli.unix_http import OutputClosed

_NAMES = {
    "advertised": "advertised routes",
    "received": "received routes",
    "bfd": "neighbors with BFD",
    "fib": "kernel routes of bgpd",
    "evpn": "EVPN routes",
    "vrfs": "VRFs",
}
RECONNECT_S = 1.0
_MAC = re.compile(r"[0-9A-Fa-f]{2}(:[0-9A-Fa-f]{2}){5}")


def status(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd status`: exit code 1 unless the host is ready."""
    if getattr(arguments, "past", None) is not None:
        return print_overview(arguments.past, arguments.directory)
    view = Client(arguments.socket).get("/v1/health", accepted=(503,))
    if arguments.json:
        print(json.dumps(view, indent=1))
    else:
        for line in status_lines(view, time.time()):
            print(text.printable(line))
    return 0 if view["ready"] else 1


def show(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd show KIND`: a table, CSV, or the API's JSON as it is."""
    if getattr(arguments, "changes", None):
        return print_changes(arguments.changes, arguments.state)
    if getattr(arguments, "past", None):
        return print_past(arguments.kind, arguments.past, arguments.directory)
    form = form_of(arguments)
    parameters = _parameters(arguments)
    client = Client(arguments.socket)
    target = f"/v1/{arguments.kind}"
    file = getattr(arguments, "file", None)
    is_of_then = getattr(arguments, "at", None) is not None
    if not is_of_then and getattr(arguments, "directory", None):
        raise WrongUsage("--directory goes with --at", "such as --at 02:51, or --at 10m")
    if form == "json" and not arguments.fields and not file and not is_of_then:
        for chunk in client.stream("GET", target, parameters):
            sys.stdout.buffer.write(chunk)
        return 0
    writing = writer(arguments.kind, form, arguments.fields, getattr(arguments, "at", None))
    count = 0
    with progress.of(lambda: f"{count:,} {arguments.kind}") if not sys.stdout.isatty() else contextlib.nullcontext():
        if is_of_then:
            parts = rows_of_then(arguments, parameters)
        else:
            parts = _events_of_file(file, parameters) if file else client.views(target, parameters)
        for views in parts:
            writing.write(views)
            count += len(views)
    if not writing.end() and form == "table":
        print(f"no {_NAMES.get(arguments.kind, arguments.kind)}{' that fit' if parameters else ''}", flush=True)
        if hint := did_you_mean(near(client, arguments.kind, parameters) if not file and not is_of_then else []):
            print(hint, file=sys.stderr)
    return 0


def _parameters(arguments: argparse.Namespace) -> dict[str, Any]:
    """What a listing is narrowed to. Raises: WrongUsage: one thing is said twice."""
    parameters: dict[str, Any] = {}
    for name in (*SHOWN[arguments.kind].filters, "limit"):
        value = getattr(arguments, name)
        if value not in (None, False, 0):
            parameters[name] = value
    if arguments.subject is not None:
        name = _subject(arguments.subject, SHOWN[arguments.kind].subject)
        if name in parameters:
            raise WrongUsage(f"{arguments.subject} and --{name} {parameters[name]} are given", "leave one out")
        parameters[name] = arguments.subject
    if parameters.get("until", math.inf) < parameters.get("since", 0.0):
        raise WrongUsage("--until is before --since: nothing happened in between", "such as --since 20m --until 10m")
    return parameters


def _events_of_file(file: str, parameters: dict[str, Any]) -> Iterator[list[dict[str, Any]]]:
    """`bgpd show events --file`: what a daemon that does not run has left."""
    import msgspec

    from bgpd.history.changes import is_about_routes, merged
    from bgpd.journal.store import JournalUnusable, Sought, at_least, read_copy

    given = dict(parameters)
    try:
        levels = at_least(given.pop("level", ""))
        sought = Sought(levels=levels, **given)
        events = read_copy(Path(file), sought)
        if is_about_routes(sought):
            events = merged(events, changes_of_files(Path(file).parent, sought), sought.limit)
    except (JournalUnusable, ValueError) as error:
        raise CommandFailed(
            f"the journal cannot be read: {error}",
            "a daemon's is journal.sqlite in its state directory, /var/lib/bgpd unless configured",
        ) from None
    yield msgspec.to_builtins(events)


def _subject(given: str, filters: Sequence[str]) -> str:
    """The filter that is meant by what stands behind a kind: by its form, or else the one that takes any name."""
    if "mac" in filters and _MAC.fullmatch(given):
        return "mac"
    by_name = [name for name in filters if name not in ("mac", "prefix")]
    if "prefix" in filters and ("/" in given or _address(given) or not by_name):
        return "prefix"
    return by_name[0]


def _address(given: str) -> str:
    """An address, also one written as a prefix of one address; "" for anything else."""
    try:
        interface = ipaddress.ip_interface(given)
    except ValueError:
        return ""
    return str(interface.ip) if interface.network.num_addresses == 1 else ""


def explain(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd explain ADDRESS`: exit code 1 where kernel and RIB differ. Of a name, all its addresses."""
    if arguments.at is not None or arguments.wire or arguments.state:
        address = _address(arguments.address)
        if not address:
            _refuse_prefix(arguments.address)
        return explain_past(arguments, hooks, address)
    views = explained(Client(arguments.socket), arguments.address, vrf=arguments.vrf)
    if arguments.json:
        print(json.dumps(views[0] if _address(arguments.address) else views, indent=1))
    else:
        for view in views:
            if view is not views[0]:
                print()
            for line in explain_lines(view, time.time()):
                print(text.printable(line))
    return 0 if all(view["agrees"] for view in views) else 1


def explained(client: Client, what: str, *, vrf: str) -> list[dict[str, Any]]:
    """The ExplainView of an address, or of each address of what has this name.

    Raises: WrongUsage: it is a prefix of many addresses. CommandFailed: nothing has this name.
    """
    address = _address(what)
    places = [(address, vrf)] if address else _places_of(client, what, vrf)
    return [client.get(f"/v1/explain/{segment(one)}", {"vrf": of or None}) for one, of in places]


def why_not(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd why-not PREFIX`: exit code 1 if something is missing."""
    parameters = {"prefix": arguments.prefix, "vrf": arguments.vrf or None, "neighbor": arguments.neighbor or None}
    view = Client(arguments.socket).get("/v1/why-not", parameters)
    if arguments.json:
        print(json.dumps(view, indent=1))
    else:
        for line in why_not_lines(view, time.time()):
            print(text.printable(line))
    return 0 if view["well"] else 1


def _places_of(client: Client, name: str, vrf: str) -> list[tuple[str, str]]:
    """Address and VRF of what a workload or service of this name has; of a network the first address.

    Raises: WrongUsage: it is a prefix of many addresses. CommandFailed: nothing has this name.
    """
    _refuse_prefix(name)
    found = [(view["prefix"], view.get("vrf", "")) for view in client.get("/v1/workloads", {"name": name})]
    for view in client.get("/v1/services", {"name": name}):
        found += [(prefix, view.get("vrf", "")) for prefix in view.get("addresses", ())]
    places = {(str(ipaddress.ip_interface(prefix).ip), of): None for prefix, of in found if vrf in ("", of)}
    if not places:
        where = f" in VRF {vrf}" if vrf else ""
        hint = did_you_mean([*near_names(client, "workloads", name), *near_names(client, "services", name)][:2])
        hint = hint or "give an address; bgpd show workloads and bgpd show services list the names"
        raise CommandFailed(f'"{name}" is no address, and no workload or service{where} has this name', hint)
    return list(places)


def _refuse_prefix(name: str) -> None:
    """Raises: WrongUsage: it is no name, but a prefix of many addresses."""
    try:
        network = ipaddress.ip_network(name, strict=False)
    except ValueError:
        return
    raise WrongUsage(
        f"{name} is {network.num_addresses} addresses",
        f"bgpd explain is about one address; bgpd show routes {network} --longer-prefixes shows all routes in it",
    )


def monitor(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd monitor`: events as they happen, until interrupted. It waits for a daemon that stops to come back."""
    client = Client(arguments.socket)
    run, since = _run_of(client), None
    while True:
        try:
            for event, line in _events(client, since):
                since = event["sequence"]
                print(line.decode() if arguments.json else _event_line(event), flush=True)
            why = "bgpd has stopped"
        except OutputClosed:
            raise BrokenPipeError from None
        except CommandFailed as failure:
            why = str(failure).partition("\n")[0]
        print(f"bgpd: {why}; waiting for it to come back", file=sys.stderr, flush=True)
        before, run = run, _wait_for_run(client)
        if run != before:
            since = 0
        print("bgpd: it answers again", file=sys.stderr, flush=True)


def _events(client: Client, since: int | None) -> Iterator[tuple[dict[str, Any], bytes]]:
    """Events after the one of this number, of this run of the daemon; from now on if None."""
    rest = b""
    output = None
    with contextlib.suppress(OSError):  # standard output is no file
        output = sys.stdout.fileno()
    for chunk in client.stream("GET", "/v1/monitor", {"since": since}, timeout_s=None, output=output):
        *lines, rest = (rest + chunk).split(b"\n")
        yield from ((of_json(line), line) for line in lines)


def _run_of(client: Client) -> tuple[int, float]:
    """What tells one run of the daemon from another. Raises: CommandFailed."""
    view = client.get("/v1/health", accepted=(503,))
    return view.get("pid", 0), view.get("started_at", 0.0)


def _wait_for_run(client: Client) -> tuple[int, float]:
    while True:
        time.sleep(RECONNECT_S)
        try:
            return _run_of(client)
        except CommandFailed:
            continue


def _event_line(event: dict[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    line = f"{at}.{int(event['at'] % 1 * 1000):03d} {event['level']:<7} {event['event']}"
    return text.printable(f"{line} {text.fields(event.get('fields', {}))}".rstrip())
