"""`bgpd decode`: one JSON object for each BGP message given in hex, from the daemon's own decoder, without a daemon.

`Hooks` is what the command line needs of the parts that it may not import; `__main__` gives it.
"""

from __future__ import annotations

import argparse
import io
import json
import sys
from collections.abc import Callable, Iterator, Sequence
from typing import TYPE_CHECKING, NamedTuple

from bgpd.cli.render import printable

if TYPE_CHECKING:
    from bgpd.config.load import Loaded
    from bgpd.config.schema import Config

_SHOWN = 60
"""Characters of a message that are repeated when it is refused."""


class DecodeOptions(NamedTuple):
    """The session that messages are decoded for: `bgpd decode`'s options."""

    session: str = "ebgp"
    two_octet_as: bool = False
    add_path: bool = False
    extended_next_hop: bool = False


class Hooks(NamedTuple):
    """`take_over()` comes first: from then on neighbors hear KEEPALIVEs of the sessions that another process has left.
    `left_configuration(errors)` is what that process had, for where the files have these errors; None if there is none.
    `run_daemon(loaded, file, warnings)` runs until it is told to stop and answers the exit code; `import_daemon()`
    imports what that needs; `report_message` answers with the JSON of what the daemon's decoder makes of one message in
    hex, whatever the text; `flush(config)` takes all of bgpd's out of the kernel and says what that was, or raises
    CommandFailed."""

    take_over: Callable[[], None]
    run_daemon: Callable[[Loaded, str, Sequence[str]], int]
    import_daemon: Callable[[], None]
    report_message: Callable[[str, DecodeOptions], bytes]
    flush: Callable[[Config], str]
    left_configuration: Callable[[Sequence[str]], Loaded | None] = lambda errors: None


def decode(arguments: argparse.Namespace, hooks: Hooks) -> int:
    """The messages of all arguments; "-" stands for the lines of standard input, blank ones left out.

    Exit code 1 if an argument is no BGP message at all, with the reason on standard error; a message that is malformed
    inside is what this command is for. Of lines, only the reports tell.
    """
    options = DecodeOptions(
        session=arguments.session,
        two_octet_as=arguments.two_octet_as,
        add_path=arguments.add_path,
        extended_next_hop=arguments.extended_next_hop,
    )
    code = 0
    for message, is_argument in _messages(arguments.hex):
        report = hooks.report_message(message, options)
        print(report.decode(), flush=True)
        found = json.loads(report) if is_argument else {}
        if found.get("type") == "unknown":
            code = 1
            why = "; ".join(error["message"] for error in found.get("errors", ())) or "this is no BGP message"
            print(f"bgpd: {_short(message)}: {why}", file=sys.stderr)
    return code


def _short(message: str) -> str:
    given = printable(message.strip())
    return f'"{given}"' if len(given) <= _SHOWN else f'"{given[:_SHOWN]}..."'


def _messages(given: list[str]) -> Iterator[tuple[str, bool]]:
    """Each message, and whether it is an argument itself."""
    for argument in given:
        if argument == "-":
            if isinstance(sys.stdin, io.TextIOWrapper):
                sys.stdin.reconfigure(errors="replace")
            yield from ((line, False) for line in sys.stdin if line.strip())
        else:
            yield argument, True
