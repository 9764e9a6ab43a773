"""Which versions were measured."""

from __future__ import annotations

import re
import sys
from collections.abc import Iterable

import bgpd
from benchmarks import peers
from labs.daemons import FRR_LIBEXEC, OpenBgpd
from labs.process import LabError, run_command

_COMMANDS = {
    "BIRD": ["bird", "--version"],
    "FRR": [str(FRR_LIBEXEC / "bgpd"), "--version"],
    "GoBGP": ["gobgpd", "--version"],
    "OpenBGPD": [str(OpenBgpd.PROGRAM), "-V"],
    "ExaBGP": [sys.executable, "-c", "import importlib.metadata as m; print(m.version('exabgp'))"],
}


def versions(contestants: Iterable[str]) -> dict[str, str]:
    """Version by contestant, for those that have one."""
    found = {}
    for name in contestants:
        if name in (peers.BGPD, peers.PLAIN):
            found[name] = f"{bgpd.__version__} ({'compiled' if peers.form_of(name) else 'plain Python'})"
        elif name in _COMMANDS:
            found[name] = _version_of(_COMMANDS[name])
    return found


def _version_of(command: list[str]) -> str:
    try:
        # BIRD tells its version on standard error.
        said = run_command(["sh", "-c", '"$@" 2>&1', "sh", *command])
    except LabError:
        return "unknown"
    number = re.search(r"\d+(\.\d+)+", said)
    return number[0] if number else "unknown"
