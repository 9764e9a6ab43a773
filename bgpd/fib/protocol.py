"""The rtproto number that marks routes: what iproute2 calls it, and whether another program claims bgpd's.

The number must be bgpd's alone: FRR's zebra takes routes of the numbers of its own daemons for its own (197 is its
OpenFabric's) and deletes them when it ends. Only reads files; decides nothing.
"""

from __future__ import annotations

import pathlib
from collections.abc import Iterable

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
