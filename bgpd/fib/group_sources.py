"""The preferred source (RTA_PREFSRC) of routes that are in the kernel, held against that of their nexthop group.

All routes by a group name the same source (nexthop_objects.py); the kernel keeps it with each route. Sans-IO.
"""

from __future__ import annotations

from collections.abc import Mapping
from itertools import repeat

import msgspec

from bgpd.kernel.route_decoder import RouteRun
from bgpd.kernel.route_messages import UNKNOWN

MIXED = b"?"
"""Source of a group of an earlier run whose routes have several; equal to no desired one."""


def by_known_sources(run: RouteRun, known: Mapping[int, bytes]) -> RouteRun:
    """A run of bgpd's own routes, with those as UNKNOWN that name another source than is `known` of their group."""
    if not run.sources and not known:
        return run
    pairs = set(zip(run.targets, run.sources or repeat(b"")))
    wrong = {
        (target, source) for target, source in pairs if target > 0 and known.get(target, b"") not in (source, MIXED)
    }
    if not wrong:
        return run
    named = zip(run.targets, run.sources or repeat(b""))
    return msgspec.structs.replace(run, targets=[UNKNOWN if pair in wrong else pair[0] for pair in named])
