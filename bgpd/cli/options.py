"""Options that several commands have, and the forms of their values."""

from __future__ import annotations

import argparse
import os

from bgpd.cli.client import DEFAULT_SOCKET


def socket_option(parser: argparse.ArgumentParser) -> None:
    """--socket."""
    default = os.environ.get("BGPD_SOCKET") or DEFAULT_SOCKET
    what = f"the daemon's socket; default: BGPD_SOCKET, or else {DEFAULT_SOCKET}"
    parser.add_argument("--socket", metavar="PATH", default=default, help=what)


def json_option(parser: argparse.ArgumentParser) -> None:
    """--socket and --json."""
    socket_option(parser)
    only_json_option(parser)


def only_json_option(parser: argparse.ArgumentParser) -> None:
    """--json, of what asks no daemon."""
    parser.add_argument("--json", action="store_true", help="print JSON")


def set_option(parser: argparse.ArgumentParser) -> None:
    """--set."""
    what = "what ${NAME} stands for in FILE: loopback4, loopback6, hostname or env:NAME; may be given several times"
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help=what)


def count(text: str) -> int:
    """At least 1. Raises: ArgumentTypeError."""
    return number(text, 1, 1_000_000_000)


def wait_s(text: str) -> int:
    """0 to 600 seconds. Raises: ArgumentTypeError."""
    return number(text, 0, 600)


def number(text: str, least: int, most: int) -> int:
    """A whole number between two bounds. Raises: ArgumentTypeError."""
    if not text.isdecimal() or len(text) > 12 or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number from {least} to {most}')
    return int(text)
