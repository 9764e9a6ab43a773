"""Options that several commands have, and the forms of their values."""

from __future__ import annotations

import argparse
import os
import re
from collections.abc import Sequence

from bgpd.cli.client import DEFAULT_SOCKET, WrongUsage

FORMATS = ("table", "json", "csv")
"""Of a listing, for people and for programs."""
WATCH_S = 2.0
"""Between two looks of --watch unless it says more."""
_MAY_BE_EMPTY = ("--vrf", "--reason")


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


def view_options(parser: argparse.ArgumentParser) -> None:
    """--socket, --json and --watch: what looks at the daemon."""
    json_option(parser)
    what = f"look again every SECONDS until Ctrl-C; default: {WATCH_S:g}"
    parser.add_argument("--watch", metavar="SECONDS", nargs="?", type=seconds, const=WATCH_S, help=what)


def listing_options(parser: argparse.ArgumentParser) -> None:
    """The options of a view, --format and --fields: what lists things."""
    view_options(parser)
    parser.add_argument("--format", choices=FORMATS, help="default: table; csv by RFC 4180, each field of the JSON")
    what = "of JSON and CSV only these fields, with commas between"
    parser.add_argument("--fields", metavar="NAME,NAME", type=words, help=what)


def set_option(parser: argparse.ArgumentParser) -> None:
    """--set."""
    what = "what ${NAME} stands for in FILE: loopback4, loopback6, hostname or env:NAME; may be given several times"
    parser.add_argument("--set", metavar="NAME=VALUE", action="append", default=[], help=what)


def seconds(text: str, *, least: float = 0.1) -> float:
    """ "2", "0.5". Raises: ArgumentTypeError."""
    found = float(text) if re.fullmatch(r"[0-9]{1,9}\.?[0-9]{0,9}", text) else -1.0
    if not least <= found <= 86_400:
        raise argparse.ArgumentTypeError(f'"{text}" is no number of seconds from {least:g} to 86400')
    return found


def no_or_some_seconds(text: str) -> float:
    """Likewise, and "0". Raises: ArgumentTypeError."""
    return seconds(text, least=0)


def words(text: str) -> list[str]:
    """ "name,state". Raises: ArgumentTypeError."""
    found = [word.strip() for word in text.split(",")]
    if not all(found) or len(set(found)) < len(found):
        raise argparse.ArgumentTypeError(f'"{text}" is no list of names such as name,state')
    return found


def count(text: str) -> int:
    """At least 1. Raises: ArgumentTypeError."""
    return number(text, 1, 1_000_000_000)


def seed(text: str) -> int:
    """From 0 on. Raises: ArgumentTypeError."""
    return number(text, 0, 1_000_000_000)


def wait_s(text: str) -> int:
    """0 to 600 seconds. Raises: ArgumentTypeError."""
    return number(text, 0, 600)


def number(text: str, least: int, most: int) -> int:
    """A whole number between two bounds. Raises: ArgumentTypeError."""
    if not text.isdecimal() or len(text) > 12 or not least <= int(text) <= most:
        raise argparse.ArgumentTypeError(f'"{text}" is no whole number from {least} to {most}')
    return int(text)


def refuse_empty(given: Sequence[str]) -> None:
    """What asks the daemon would be narrowed by nothing, and of something else than was meant: in scripts a variable is
    empty. Raises: WrongUsage."""
    for before, one in zip(("", *given), given, strict=False):
        option, _, value = one.partition("=") if one.startswith("--") else (before, "", one)
        if not value and (not one.startswith("--") or "=" in one) and option not in _MAY_BE_EMPTY:
            what = option if option.startswith("--") else "an argument"
            raise WrongUsage(f"{what} is empty", 'only --vrf "" means something: the main table')
