"""`bgpd drain`: takes the host out of service and back, and says how far it is."""

from __future__ import annotations

import argparse
import json
import sys
import time
from collections.abc import Iterator, Mapping
from typing import Any

from bgpd.cli.client import Client, CommandFailed
from bgpd.cli.decode import Hooks
from bgpd.cli.progress import progress
from bgpd.cli.render import age, printable

_POLL_S = 0.5
_TARGET = "/v1/drain"


def on(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd drain on`.

    Raises: CommandFailed: it was to wait, and the traffic has not gone.
    """
    names = ("for_s", "all", "force", "shutdown")
    order = {name: value for name in names if (value := getattr(arguments, name))}
    client = Client(arguments.socket)
    view = client.order("PUT", _TARGET, body=json.dumps(order).encode())
    is_waited_for = arguments.wait and view["state"] != "off"  # not with --shutdown where drain.on_shutdown is off
    end = time.monotonic() + arguments.timeout
    with progress.of(lambda: f"waits for {', '.join(view['waiting_for']) or 'the drain'}"):
        while is_waited_for and view["state"] == "draining" and time.monotonic() < end:
            time.sleep(_POLL_S)
            view = client.get(_TARGET)
    _print(view, arguments)
    if is_waited_for and view["state"] == "draining":
        hint = "the drain goes on: bgpd drain status says what it waits for, bgpd drain off ends it"
        raise CommandFailed(f"the host is not drained after {arguments.timeout:.0f} s", hint)
    if is_waited_for and view["state"] == "off":
        hint = "its time was over (--for), or somebody ended it: bgpd show events"
        raise CommandFailed("the host is not drained: the drain has ended meanwhile", hint)
    return 0


def off(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd drain off`."""
    _print(Client(arguments.socket).order("DELETE", _TARGET), arguments)
    return 0


def status(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd drain status`."""
    _print(Client(arguments.socket).get(_TARGET), arguments)
    return 0


def _print(view: Mapping[str, Any], arguments: argparse.Namespace) -> None:
    if arguments.json:
        print(json.dumps(view, indent=1))
        return
    for line in drain_lines(view, time.time()):
        print(printable(line))
    if view.get("not_saved"):
        print(f"bgpd: in force, but not saved: {view['not_saved']}; a restart now would lose it", file=sys.stderr)


_SENT = {
    "graceful-shutdown": "all routes are announced, with GRACEFUL_SHUTDOWN",
    "services-withdrawn": "services are withdrawn; all else is announced with GRACEFUL_SHUTDOWN",
    "all-withdrawn": "all routes are withdrawn",
}


def drain_lines(view: Mapping[str, Any], now: float) -> Iterator[str]:
    """A DrainView for people."""
    if view["state"] == "off":
        yield "not drained: all is announced as ever"
        return
    text = f"{view['state']} since {age(view['since'], now)}"
    if view.get("drained_at"):
        text += f", its traffic had gone {age(view['drained_at'], now)} ago"
    if view.get("until"):
        text += f", for {age(now - (view['until'] - now), now)} more"
    yield f"{text}{', because the host shuts down' if view.get('shutdown') else ''}"
    yield _SENT.get(view["stage"], view["stage"])
    for reason in view.get("waiting_for", ()):
        yield f"waits for: {reason}"
    for counter in view.get("counters", ()):
        rate = counter["packets_per_s"]
        where = f"{counter['kind']} {counter['name']} {counter['direction']}".rstrip()
        yield f"{where}: {'not read yet' if rate is None else f'{rate:g} packets/s'} ({', '.join(counter['of'][:3])})"
    for service in view.get("not_counted", ()):
        yield f"not counted: {service}"
    for service in view.get("kept", ()):
        yield f"stays announced, since no other host is seen to announce it: {service}"
