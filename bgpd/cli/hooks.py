"""What the command line needs of the parts that it may not import; `__main__` gives it."""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING, NamedTuple

if TYPE_CHECKING:
    from bgpd.config import Config


class DecodeOptions(NamedTuple):
    """The session that messages are decoded for: `bgpd decode`'s options."""

    session: str = "ebgp"
    two_octet_as: bool = False
    add_path: bool = False
    extended_next_hop: bool = False


class Hooks(NamedTuple):
    """`run_daemon(config, file)` runs until it is told to stop and answers the exit code; `report_message` answers with
    the JSON of what the daemon's decoder makes of one message in hex, whatever the text."""

    run_daemon: Callable[[Config, str], int]
    report_message: Callable[[str, DecodeOptions], bytes]
