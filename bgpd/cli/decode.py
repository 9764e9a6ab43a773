"""`bgpd decode`: one JSON object for each BGP message given in hex, from the daemon's own decoder, without a daemon."""

from __future__ import annotations

import argparse
import io
import sys
from collections.abc import Iterator

from bgpd.cli.hooks import DecodeOptions, Hooks


def decode(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """The messages of all arguments; "-" stands for the lines of standard input, blank ones left out."""
    options = DecodeOptions(
        session=arguments.session,
        two_octet_as=arguments.two_octet_as,
        add_path=arguments.add_path,
        extended_next_hop=arguments.extended_next_hop,
    )
    for message in _messages(arguments.hex):
        print(hooks.report_message(message, options).decode(), flush=True)
    return 0


def _messages(given: list[str]) -> Iterator[str]:
    for argument in given:
        if argument == "-":
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="replace")
            yield from (line for line in sys.stdin if line.strip())
        else:
            yield argument
