"""`bgpd what-if --down NAME`: what would become of the routes of this host, asked before it is done.

Answers from the tables as they are; changes nothing.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Iterable, Iterator

from bgpd.kernel.host import Host
from bgpd.kernel.speeds import Speeds
from bgpd.model.iana import Family
from bgpd.model.path import Path
from bgpd.model.prefix import covers, format_key, host_key
from bgpd.model.views.explained import ForeseenView, UplinkLeftView, WhatIfView
from bgpd.model.views.sessions import NeighborView
from bgpd.rib.loc_rib import LocRib
from bgpd.rib.rib import Rib
from bgpd.rib.what_if import Fate, Foreseen, foresee
from bgpd.runtime.turns import in_turn

_UNICAST = (Family.IPV4_UNICAST, Family.IPV6_UNICAST)


class NothingSuch(ValueError):
    """There is neither a neighbor nor an interface of that name."""


async def what_if_down(
    name: str, *, rib: Rib, host: Host, neighbors: Iterable[NeighborView], speeds: Speeds
) -> WhatIfView:
    """A neighbor, or an interface, is down. Raises: NothingSuch."""
    views = list(neighbors)
    gone = [one for one in views if name in (one.name, one.address)]
    if gone:
        names = frozenset(one.name for one in gone)
        is_gone: Callable[[Path], bool] = lambda path: _neighbor_of(path) in names  # noqa: E731
    elif host.named(name) is not None:
        interfaces = _down_with(name, host)
        gone = [one for one in views if one.interface in interfaces]
        is_gone = _leads_by(interfaces, frozenset(one.name for one in gone), host)
    else:
        raise NothingSuch(f'there is no neighbor and no interface "{name}"')
    left = [one for one in views if one not in gone and one.state == "established" and not one.guest]
    view = WhatIfView(down=name, verdict="", neighbors_down=[one.name for one in gone], neighbors_left=_names(left))
    tables = [table for (_, family), table in sorted(rib.tables.items()) if family in _UNICAST]
    view.tables = [await _foreseen(table, is_gone) for table in tables]
    uplinks = sorted({one.interface for one in left if one.interface})
    await speeds.read(uplinks)
    view.uplinks_left = [UplinkLeftView(interface=one, speed_mbps=speeds.known(one)) for one in uplinks]
    view.verdict = _verdict(view)
    return view


def _names(views: Iterable[NeighborView]) -> list[str]:
    return sorted(one.name for one in views)


def _neighbor_of(path: Path) -> str:
    """The neighbor that said a path, or the EVPN route behind it."""
    return path.source.name.partition(" rd ")[0]


def _down_with(interface: str, host: Host) -> frozenset[str]:
    """An interface, and those that speak by it (VLANs and the like)."""
    found: set[str] = set()
    more = {interface}
    while more:
        found |= more
        more = {link.name for link in host.links.values() if host.name_of(link.parent) in more} - found
    return frozenset(found)


def _leads_by(interfaces: frozenset[str], names: frozenset[str], host: Host) -> Callable[[Path], bool]:
    networks = [place for interface in sorted(interfaces) for place in host.networks(interface)]

    def is_gone(path: Path) -> bool:
        hop = path.next_hop
        if _neighbor_of(path) in names or (hop is not None and hop.interface in interfaces):
            return True
        if hop is None or hop.interface or path.source.is_local:
            return False
        its = Family.IPV4_UNICAST if len(hop.address) == 4 else Family.IPV6_UNICAST
        return any(family is its and covers(network, host_key(hop.address)) for family, network in networks)

    return is_gone


async def _foreseen(table: LocRib, is_gone: Callable[[Path], bool]) -> ForeseenView:
    found = Foreseen(counts=Counter(), examples={})
    walk = foresee(table, is_gone, found)
    while await in_turn(lambda: next(walk, False)) is None:
        pass
    return foreseen_view(table.vrf, table.family, found)


def foreseen_view(vrf: str, family: Family, found: Foreseen) -> ForeseenView:
    """What becomes of one table, as it is shown."""
    shown = (Fate.LOST, Fate.MOVED, Fate.NEW)
    return ForeseenView(
        vrf=vrf,
        family=family,
        **{str(fate): found.counts[fate] for fate in Fate},
        default_route=str(found.default or ""),
        examples={
            str(fate): [format_key(family, key) for key in keys]
            for fate, keys in found.examples.items()
            if fate in shown
        },
    )


def _verdict(view: WhatIfView) -> str:
    if not view.neighbors_left:
        return "no neighbor would be left: this host would be cut off"
    text = fates_text(view.tables)
    left = ", ".join(view.neighbors_left)
    losing = [one for one in view.tables if one.lost]
    is_covered = losing and all(one.default_route in ("unchanged", "fewer", "moved") for one in losing)
    covered = " (the default route takes them)" if is_covered else ""
    speeds = [one.speed_mbps for one in view.uplinks_left]
    known = [one for one in speeds if one is not None]
    capacity = f" over {sum(known) / 1000:g} Gbit/s" if known and len(known) == len(speeds) else ""
    return f"{text}{covered}; left: {left}{capacity}"


def fates_text(tables: Iterable[ForeseenView]) -> str:
    """What becomes of the routes of all tables, in a few words."""
    views = list(tables)
    total = {name: sum(getattr(one, name) for one in views) for name in ("lost", "moved", "fewer", "new")}
    return "; ".join(_parts(total)) or "no route changes"


def _parts(total: dict[str, int]) -> Iterator[str]:
    words = {
        "lost": "lost",
        "moved": "moved to another way",
        "fewer": "left with fewer next hops",
        "new": "new",
    }
    for name, said in words.items():
        if total[name]:
            yield f"{total[name]} route{'s' if total[name] > 1 else ''} {said}"
