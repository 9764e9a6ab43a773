"""The rtproto number that marks routes: what iproute2 calls it, and whether another program claims bgpd's.

The number must be bgpd's alone: FRR's zebra takes routes of the numbers of its own daemons for its own (197, which was
bgpd's default, is its OpenFabric's) and deletes them when it ends. What an earlier version left under the former
default keeps that number until nothing of it is left.
"""

from __future__ import annotations

import pathlib
from collections.abc import Callable, Iterable

from bgpd.config.schema import FibConfig
from bgpd.fib.nexthop_ids import IDS_PER_PROTOCOL
from bgpd.kernel.nexthop_messages import NexthopObject
from bgpd.kernel.reader import has_routes, read_nexthops
from bgpd.runtime.events import log

FORMER_DEFAULT = 197
"""The default of `fib.protocol` before 217."""

OWN_NAME = "bgpd"
_FILES = ("/etc/iproute2/rt_protos", "/usr/share/iproute2/rt_protos")
_FRR_NUMBERS = range(186, 199)
_ZEBRA_SOCKETS = ("run/frr/zserv.api", "run/frr/*/zserv.api", "run/quagga/zserv.api")
_FOLDERS = ("/etc/iproute2/rt_protos.d", "/usr/share/iproute2/rt_protos.d")


def names_of(number: int, *, root: str = "/") -> list[str]:
    """Names that the files of iproute2 and of other programs give a number, each once; unreadable files have none."""
    base = pathlib.Path(root)
    files: Iterable[pathlib.Path] = [
        *(base / path.lstrip("/") for path in _FILES),
        *(path for folder in _FOLDERS for path in sorted((base / folder.lstrip("/")).glob("*.conf"))),
    ]
    found: dict[str, None] = {}
    for path in files:
        try:
            lines = path.read_text(errors="replace").splitlines()
        except OSError:
            continue
        for line in lines:
            fields = line.split("#")[0].split()
            if len(fields) == 2 and fields[0] == str(number):
                found[fields[1]] = None
    return list(found)


def protocol_in_force(configured: int, objects: Iterable[NexthopObject], has_routes: Callable[[int], bool]) -> int:
    """The rtproto of a run: the former default while the kernel holds what a run with it left, else as configured.

    A nexthop object is bgpd's if it bears the number and its id is in the number's range. Where there are objects of
    the present default too, a run has used it already. Without any (workloads only), `has_routes` says whether routes
    of a number are there.
    """
    if configured != FibConfig().protocol:
        return configured
    left = {found.protocol for found in objects if found.id // IDS_PER_PROTOCOL == found.protocol}
    if configured in left:
        return configured
    return FORMER_DEFAULT if FORMER_DEFAULT in left or has_routes(FORMER_DEFAULT) else configured


def read_protocol_in_force(configured: int) -> int:
    """`protocol_in_force` with what the kernel holds now. For before the event loop runs.

    While zebra runs, routes of the former default may be FRR's, and only nexthop objects count.
    """
    try:
        found = protocol_in_force(
            configured, read_nexthops(), lambda number: not claimants_of(number) and has_routes(number)
        )
    except OSError:
        return configured  # this kernel has no nexthop objects, or nothing may be read: the start says so
    if found != configured:
        log.info("fib.former_protocol_is_kept", protocol=found, default=configured, until="restart of the host")
    return found


def claimants_of(number: int, *, root: str = "/") -> list[str]:
    """Names of other programs that use a number here: one of FRR's numbers is in use while its zebra runs."""
    others = [name for name in names_of(number, root=root) if name != OWN_NAME]
    base = pathlib.Path(root)
    is_unused = number in _FRR_NUMBERS and not any(True for path in _ZEBRA_SOCKETS for _found in base.glob(path))
    return [] if is_unused else others


def protocol_name(number: int, own: int) -> str:
    """How to show an rtproto: bgpd's own by its name, others by theirs or their number."""
    if number == own:
        return OWN_NAME
    return next(iter(names_of(number)), str(number))


def check_protocol(protocol: int) -> None:
    """Say so if another program's number is bgpd's: it may take bgpd's routes for its own."""
    others = claimants_of(protocol)
    if others:
        log.warning(
            "fib.protocol_is_shared",
            protocol=protocol,
            also=others,
            advice="if that program runs on this host (FRR's zebra), it deletes bgpd's routes when it ends: set"
            " fib.protocol to a number without a name in /etc/iproute2/rt_protos.d, such as 218",
        )
