"""Commands that read the running daemon: show, explain, monitor."""

from __future__ import annotations

import argparse
import json
import sys
import time
from typing import Any

from bgpd.cli import render as text
from bgpd.cli.client import Client, segment
from bgpd.cli.decode import Hooks
from bgpd.cli.render import explain_lines, write_table
from bgpd.cli.tables import SHOWN, table

_NAMES = {"fib": "kernel routes of bgpd", "evpn": "EVPN routes", "vrfs": "VRFs"}


def show(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd show KIND`: a table, or the API's JSON as it is."""
    parameters: dict[str, Any] = {}
    for name in (*SHOWN[arguments.kind].filters, "limit"):
        value = getattr(arguments, name)
        if value not in (None, False, 0):
            parameters[name] = value
    client = Client(arguments.socket)
    target = f"/v1/{arguments.kind}"
    if arguments.json:
        for chunk in client.stream("GET", target, parameters):
            sys.stdout.buffer.write(chunk)
        return 0
    columns, rows = table(arguments.kind, client.get(target, parameters), time.time())
    empty = f"no {_NAMES.get(arguments.kind, arguments.kind)}{' that fit' if parameters else ''}"
    write_table(columns, rows, sys.stdout, empty=empty)
    return 0


def explain(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd explain ADDRESS`: exit code 1 where kernel and RIB differ."""
    parameters = {"vrf": arguments.vrf or None}
    view = Client(arguments.socket).get(f"/v1/explain/{segment(arguments.address)}", parameters)
    if arguments.json:
        print(json.dumps(view, indent=1))
    else:
        for line in explain_lines(view, time.time()):
            print(text.printable(line))
    return 0 if view["agrees"] else 1


def monitor(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """`bgpd monitor`: events as they happen, until interrupted or the daemon stops."""
    rest = b""
    for chunk in Client(arguments.socket).stream("GET", "/v1/monitor", timeout_s=None):
        *lines, rest = (rest + chunk).split(b"\n")
        for line in lines:
            print(line.decode() if arguments.json else _event_line(json.loads(line)), flush=True)
    return 0


def _event_line(event: dict[str, Any]) -> str:
    at = time.strftime("%H:%M:%S", time.localtime(event["at"]))
    line = f"{at}.{int(event['at'] % 1 * 1000):03d} {event['level']:<7} {event['event']}"
    return text.printable(f"{line} {text.fields(event.get('fields', {}))}".rstrip())
