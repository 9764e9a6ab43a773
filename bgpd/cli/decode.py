"""`bgpd decode`: one JSON object for each BGP message given in hex, from the daemon's own decoder, without a daemon.

Whatever the input is, each message gets an answer; what is not hex gets one that says so.
"""

from __future__ import annotations

import argparse
import json
import re
import sys
from collections.abc import Iterator

from bgpd.cli.hooks import DecodeOptions, Hooks

_IGNORED = re.compile(r"[\s:]+|^0[xX]")


def decode(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """The messages of all arguments; "-" stands for the lines of standard input."""
    options = DecodeOptions(
        ibgp=arguments.session == "ibgp",
        two_octet_as=arguments.two_octet_as,
        add_path=arguments.add_path,
        extended_next_hop=arguments.extended_next_hop,
    )
    for line in _lines(arguments.hex):
        try:
            message = bytes.fromhex(_IGNORED.sub("", line.strip()))
        except ValueError:
            print(json.dumps(_not_hex(line)), flush=True)
            continue
        print(hooks.report_message(message, options).decode(), flush=True)
    return 0


def _lines(given: list[str]) -> Iterator[str]:
    for argument in given:
        if argument == "-":
            sys.stdin.reconfigure(errors="replace")  # type: ignore[union-attr]
            yield from (line for line in sys.stdin if line.strip())
        else:
            yield argument


def _not_hex(line: str) -> dict[str, object]:
    found = re.search(r"[^0-9a-fA-F]", _IGNORED.sub("", line.strip()))
    wrong = f"{found[0]!r} is not a hex digit" if found else "an odd number of hex digits"
    return {
        "type": "invalid",
        "reaction": "session-reset",
        "notification": None,
        "announced": {},
        "withdrawn": {},
        "next_hops": [],
        "attributes": {},
        "errors": [{"what": f"not a message in hex: {wrong}", "rfc": ""}],
    }
